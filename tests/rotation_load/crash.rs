//! `kill -9` amid orders, again and again: one key signs, what was given out is good, what was given up is not.

use std::{
    collections::{BTreeMap, HashSet},
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rescind::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::{
    harness::text,
    process::Dev,
    remote::{Held, Remote, kid_of},
    trials,
};

/// Of a token; and for how long it is asked for, so that none is asked for that has just expired.
const LIFE: &str = "60s";
const ALIVE: Duration = Duration::from_secs(50);
/// So many tokens of each key are asked for after a crash, the newest ones.
const ASKED: usize = 4;

/// Tokens that were given out, by key, with when.
type Given = BTreeMap<String, Vec<(String, Duration)>>;

#[derive(Default)]
struct GivenUp {
    asked: HashSet<String>,
    acknowledged: HashSet<String>,
}

struct World {
    clock: SystemClock,
    given: Mutex<Given>,
    given_up: Mutex<GivenUp>,
    orders: AtomicUsize,
}

impl World {
    fn note(&self, token: &str) {
        let mut given = self.given.lock().unwrap();
        given.entry(kid_of(token)).or_default().push((token.to_owned(), self.clock.monotonic()));
    }
    /// The newest tokens of each key, those that are alive.
    fn alive(&self) -> Vec<(String, String)> {
        let (mut given, now) = (self.given.lock().unwrap(), self.clock.monotonic());
        given.values_mut().for_each(|tokens| tokens.retain(|(_, since)| now - *since < ALIVE));
        given.retain(|_, tokens| !tokens.is_empty());
        let newest = |(kid, tokens): (&String, &Vec<(String, Duration)>)| {
            tokens.iter().rev().take(ASKED).map(|(token, _)| (kid.clone(), token.clone())).collect::<Vec<_>>()
        };
        given.iter().flat_map(newest).collect()
    }
}

/// Refreshes until the connection breaks.
async fn refresh(remote: Arc<Remote>, world: Arc<World>, mut held: Held) -> Held {
    while let Some((status, answer)) = remote.refresh(&held).await {
        assert_eq!(status, 200, "{answer}");
        held.take(&answer);
        world.note(&held.access);
    }
    held
}

/// Orders one thing after the other until the connection breaks.
async fn order(remote: Arc<Remote>, world: Arc<World>, first: usize) {
    for turn in first.. {
        let Some((status, answer)) = order_one(&remote, &world, turn).await else { return };
        assert!(status == 200 || status == 409, "{status}: {answer}");
        world.orders.fetch_add(1, Ordering::Relaxed);
    }
}

async fn order_one(remote: &Remote, world: &World, turn: usize) -> Option<(u16, Value)> {
    let state = match turn % 5 {
        0 | 2 => return remote.post("/v1/keys/rotate", &json!({"dangerous_without_waiting": true})).await,
        1 => return remote.post("/v1/keys/rollback", &json!({})).await,
        3 => "active",
        _ => "retiring",
    };
    let kids = remote.keys(state).await?;
    let Some(kid) = kids.first() else { return remote.get("/v1/keys").await };
    world.given_up.lock().unwrap().asked.insert(kid.clone());
    let (status, answer) = remote.post(&format!("/v1/keys/{kid}/compromise"), &json!({})).await?;
    assert_eq!(status, 200, "{answer}");
    world.given_up.lock().unwrap().acknowledged.insert(kid.clone());
    Some((status, answer))
}

/// All that must hold after a crash, whatever it cut off. Says how many tokens were asked for.
async fn check(remote: &Remote, world: &World) -> usize {
    assert_eq!(remote.keys("active").await.unwrap().len(), 1);
    assert!(!remote.keys("pending").await.unwrap().is_empty());
    let (published, compromised) = (remote.published().await, remote.keys("compromised").await.unwrap());
    let denied = denied(remote).await;
    {
        let given_up = world.given_up.lock().unwrap();
        for kid in &given_up.acknowledged {
            assert!(!published.contains(kid), "{kid} has come back");
            assert!(denied.contains(kid), "{kid} is not denied for ever");
        }
        for kid in &compromised {
            assert!(given_up.asked.contains(kid), "{kid} is given up, and nobody asked");
        }
    }
    let alive = world.alive();
    for (kid, token) in &alive {
        let good = !compromised.contains(kid);
        assert_eq!(published.contains(kid), good, "{kid}");
        assert_eq!(remote.active(token).await, good, "a token of {kid}");
    }
    alive.len()
}

/// The keys that the feed denies for ever.
async fn denied(remote: &Remote) -> HashSet<String> {
    let (mut denied, mut after) = (HashSet::new(), 0);
    loop {
        let (status, page) = remote.get(&format!("/v1/revocations?limit=200&after={after}")).await.unwrap();
        assert_eq!(status, 200, "{page}");
        let entries = page["revocations"].as_array().unwrap();
        let Some(last) = entries.last() else { return denied };
        after = last["position"].as_u64().unwrap();
        let keys = entries.iter().filter(|entry| entry["kind"] == "key" && entry["feed_until"].is_null());
        denied.extend(keys.map(|entry| text(entry, "id").to_owned()));
    }
}

/// An address that is the same after a restart, on a loopback of this test's own.
fn address() -> String {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let bound = TcpListener::bind((Ipv4Addr::new(127, high | 1, low, 200), 0)).unwrap();
    bound.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_amid_orders_leaves_one_signer_and_loses_no_token() {
    let (directory, kills, listen) = (tempfile::tempdir().unwrap(), trials(30, 300), address());
    let store = directory.path().join("store.redb");
    let start = || Dev::start(&store, &["--listen", &listen, "--access-life", LIFE]);
    let world = Arc::new(World {
        clock: SystemClock::default(),
        given: Mutex::default(),
        given_up: Mutex::default(),
        orders: AtomicUsize::new(0),
    });
    let (mut held, mut asked) = (Vec::new(), 0);
    for kill in 0..kills {
        let dev = start();
        let remote = Remote::of(&dev);
        asked += check(&remote, &world).await;
        while held.len() < 3 {
            held.push(remote.open().await.unwrap());
        }
        let sessions: Vec<_> =
            held.drain(..).map(|held| tokio::spawn(refresh(remote.clone(), world.clone(), held))).collect();
        let enough = world.orders.load(Ordering::Relaxed) + kill % 4;
        let orders = tokio::spawn(order(remote.clone(), world.clone(), kill));
        while world.orders.load(Ordering::Relaxed) < enough && !orders.is_finished() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        // Somewhere within the next order, each time elsewhere.
        tokio::time::sleep(Duration::from_micros(kill as u64 * 7919 % 12_000)).await;
        dev.kill();
        orders.await.unwrap();
        for session in sessions {
            held.push(session.await.unwrap());
        }
    }
    let dev = start();
    let remote = Remote::of(&dev);
    asked += check(&remote, &world).await;
    for held in &held {
        assert_eq!(remote.refresh(held).await.unwrap().0, 200, "a session was lost");
    }
    let (orders, given_up) = (world.orders.load(Ordering::Relaxed), world.given_up.lock().unwrap());
    println!(
        "{kills} kills amid {} orders, {orders} acknowledged, {} compromises of {}: {asked} tokens asked for, 0 wrongly \
         refused, 0 of a given-up key accepted, one signer each time",
        orders + kills,
        given_up.acknowledged.len(),
        given_up.asked.len()
    );
    assert!(orders >= kills && asked > kills);
}

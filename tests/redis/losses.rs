//! What a store lost that came back as another, and who remembers it: node and server together, one node for another.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rescind::{
    clock::{Clock, ManualClock, SystemClock, SystemRandom},
    keyring::{self, Keyring, SharedKey},
    model::{
        SubjectRef, Timestamp,
        audit::{Draft, Event},
        denial::{Ends, Target},
        family::{Closure, Doubt, Refusal, Standing, Verdict},
    },
    service::StoredKeys,
    store::{
        AssertionId, AssertionUse, BookChange, BookChanged, ClientStore, DenyStore, EvidenceStore, FamilyStore,
        redis::{Options, RedisStore},
    },
};
use tempfile::TempDir;
use tokio::{
    runtime::Handle,
    task::{JoinSet, spawn_blocking},
};

use crate::{
    common::{LIVES, START, client, denial, millis, open, secs, subject, verdict},
    life::{DURABLE, has_ended, node, options, rotated, serves},
    servers::{
        Server,
        cluster::Cluster,
        proxy::{Fate, Proxy},
        wait_for,
    },
};

/// A node whose clock is set by hand, and is not the server's.
pub(crate) async fn by_hand(url: &str, name: &str, journals: &Path, clock: &Arc<ManualClock>) -> Arc<RedisStore> {
    let options = Options { skew: secs(0), ..options(name, journals) };
    let store = RedisStore::open(&url.parse().unwrap(), options, clock.clone(), Arc::new(SystemRandom)).await;
    Arc::new(store.unwrap())
}

/// No token of what was opened until now can be alive.
fn no_token_lives(clock: &ManualClock) {
    clock.advance(LIVES.access + secs(100));
}

async fn has_come_back(store: &RedisStore) {
    wait_for("it has come back", || async { store.life().incarnation == 1 }).await;
    serves(store).await;
}

// ---- closings

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_live_tokens_stays_closed_if_node_and_server_crash_together() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let clock = Arc::new(ManualClock::new(START));
    let store = by_hand(&server.url(), "a", journals.path(), &clock).await;
    let families = [open(&*store, subject(1)).await, open(&*store, subject(2)).await, open(&*store, subject(2)).await];
    no_token_lives(&clock);
    server.ask::<String>(&["SAVE"]);
    let closed = store.close(families[0].id, Closure::Revoked, None, Draft::default()).await.unwrap();
    assert!(closed.was_open && closed.entry.is_none(), "there is nothing for verifiers to know");
    let others = rescind::store::Others {
        subject: subject(2),
        keep: families[2].id,
        reason: None,
        audit: Draft::default(),
        after: None,
        until: None,
        limit: 10,
    };
    assert_eq!(store.close_others(others).await.unwrap().closed, 1);
    drop(store);
    has_ended(journals.path(), "a");
    server.restart();
    let store = by_hand(&server.url(), "a", journals.path(), &clock).await;
    has_come_back(&store).await;
    for family in &families[..2] {
        assert_eq!(verdict(&*store, family, 0).await, Verdict::Refused(Refusal::Closed), "it was acknowledged");
    }
    assert_eq!(verdict(&*store, &families[2], 0).await, Verdict::Rotate);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_that_a_session_was_closed_before_remembers_it() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let (clock, proxy) = (Arc::new(ManualClock::new(START)), Proxy::to(server.port).await);
    let a = by_hand(&proxy.url(), "a", journals.path(), &clock).await;
    let node = a.clone();
    let b = by_hand(&server.url(), "b", journals.path(), &clock).await;
    let family = open(&*b, subject(1)).await;
    no_token_lives(&clock);
    server.ask::<String>(&["SAVE"]);
    // The first one goes away before it has heard that it is done; its client comes again, elsewhere.
    proxy.set(Fate::Late(millis(200)));
    let closing = tokio::spawn(async move { a.close(family.id, Closure::Revoked, None, Draft::default()).await });
    let closed = || async { b.find(family.id).await.is_ok_and(|found| found.unwrap().lineage.closed.is_some()) };
    wait_for("it is closed", closed).await;
    closing.abort();
    assert!(closing.await.is_err(), "it has not been answered");
    assert!(!b.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap().was_open);
    server.restart();
    proxy.set(Fate::Pass);
    has_come_back(&b).await;
    assert_eq!(verdict(&*b, &family, 0).await, Verdict::Refused(Refusal::Closed), "it was acknowledged");
    drop(node);
}

// ---- what moved

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_amended_is_the_amended_one_afterwards() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let a = node(&server.url(), options("a", journals.path())).await;
    let b = node(&server.url(), options("b", journals.path())).await;
    let family = open(&*a, subject(1)).await;
    rotated(&b, &family, 0).await;
    server.ask::<String>(&["SAVE"]);
    // One has rotated it before, the other since.
    let [fewer, fewest] = [b"fewer rights".to_vec(), b"fewest rights".to_vec()];
    a.amend(family.id, family.sealed.clone(), fewer.clone(), Draft::default()).await.unwrap();
    rotated(&b, &rescind::store::Family { sealed: fewer.clone(), ..family.clone() }, 1).await;
    a.amend(family.id, fewer, fewest.clone(), Draft::default()).await.unwrap();
    server.restart();
    has_come_back(&a).await;
    let found = a.find(family.id).await.unwrap().unwrap();
    assert_eq!((found.lineage.head.0, found.sealed), (2, fewest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_erased_is_not_given_back() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(DURABLE));
    let a = node(&server.url(), options("a", journals.path())).await;
    let b = node(&server.url(), options("b", journals.path())).await;
    // Both remember that it moved.
    let family = open(&*a, subject(1)).await;
    rotated(&b, &family, 0).await;
    a.deny(denial(Target::Subject(subject(1)), Ends::Sessions)).await.unwrap().unwrap();
    assert_eq!(a.erase("alice".parse().unwrap(), subject(1), 0, Draft::default()).await.unwrap().sessions, 1);
    let later = open(&*a, subject(1)).await;
    server.restart();
    for store in [&a, &b] {
        has_come_back(store).await;
        assert!(store.find(family.id).await.unwrap().is_none());
        assert_eq!(verdict(&**store, &family, 1).await, Verdict::Refused(Refusal::Unknown));
    }
    rotated(&b, &later, 0).await;
}

// ---- clients

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_that_was_used_is_used_in_a_store_that_lost_it() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let [a, b] = [
        node(&server.url(), options("a", journals.path())).await,
        node(&server.url(), options("b", journals.path())).await,
    ];
    let (id, until) = (AssertionId::of(&client("a"), "1"), SystemClock::default().now().plus(secs(100)));
    server.ask::<String>(&["SAVE"]);
    assert_eq!(a.use_assertion(id, until).await.unwrap(), AssertionUse::First);
    server.restart();
    has_come_back(&b).await;
    assert_eq!(b.use_assertion(id, until).await.unwrap(), AssertionUse::Again);
}

fn change(seen: Option<&[u8]>, sealed: &str) -> BookChange {
    BookChange {
        seen: seen.map(<[u8]>::to_vec),
        sealed: sealed.into(),
        denial: None,
        event: Event::ClientDisabled,
        cause: None,
        audit: Draft::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_book_of_clients_is_the_newest_that_any_node_knows() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let [a, b] = [
        node(&server.url(), options("a", journals.path())).await,
        node(&server.url(), options("b", journals.path())).await,
    ];
    assert_eq!(a.amend_book(change(None, "first")).await.unwrap(), BookChanged::Done(None));
    server.ask::<String>(&["SAVE"]);
    assert_eq!(a.amend_book(change(Some(b"first"), "disabled")).await.unwrap(), BookChanged::Done(None));
    for wiped in [false, true] {
        if wiped {
            server.ask::<String>(&["FLUSHALL"]);
            server.ask::<String>(&["SAVE"]);
        }
        server.restart();
        for store in [&a, &b] {
            wait_for("it has come back", || async { store.life().incarnation > u32::from(wiped) }).await;
            wait_for("it serves", || async { store.standing() != Standing::NotWhole }).await;
            wait_for("it has read it", || async { store.client_book().unwrap().as_deref() == Some(&b"disabled"[..]) })
                .await;
            // It is what the hub holds, and not only what this node remembers.
            let held: Vec<u8> = server.ask(&["GET", "rescind:{hub}:book"]);
            assert_eq!(held, b"disabled", "wiped: {wiped}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_disabled_is_so_if_node_and_server_crash_together() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let store = node(&server.url(), options("a", journals.path())).await;
    assert_eq!(store.amend_book(change(None, "first")).await.unwrap(), BookChanged::Done(None));
    server.ask::<String>(&["SAVE"]);
    assert_eq!(store.amend_book(change(Some(b"first"), "disabled")).await.unwrap(), BookChanged::Done(None));
    drop(store);
    has_ended(journals.path(), "a");
    server.restart();
    let store = node(&server.url(), options("a", journals.path())).await;
    has_come_back(&store).await;
    assert_eq!(server.ask::<Vec<u8>>(&["GET", "rescind:{hub}:book"]), b"disabled", "it was acknowledged");
}

// ---- clocks

/// This machine's clock, put forward or back.
#[derive(Default)]
struct Wrong(SystemClock, AtomicI64);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.now().millis().saturating_add_signed(self.1.load(Ordering::SeqCst)))
    }
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
    fn boottime(&self) -> Duration {
        self.0.boottime()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_cut_off_after_all_that_it_was_given_whoever_had_the_wrong_time() {
    let (journals, server) = (TempDir::new().unwrap(), Server::start(&[]));
    let clocks = [Arc::new(Wrong::default()), Arc::new(Wrong::default())];
    let url = server.url().parse().unwrap();
    let opened = |name, clock: &Arc<Wrong>| {
        let options = Options { skew: secs(1), ..options(name, journals.path()) };
        RedisStore::open(&url, options, clock.clone(), Arc::new(SystemRandom))
    };
    let (a, b) = (opened("a", &clocks[0]).await.unwrap(), opened("b", &clocks[1]).await.unwrap());
    for store in [&a, &b] {
        serves(store).await;
    }
    // It is corrected within a second, and is behind, or ahead, until then.
    for (of, by) in [(0, -700), (1, 700)].repeat(3) {
        clocks[of].1.store(by, Ordering::SeqCst);
        // Put back it stands still.
        tokio::time::sleep(millis(if by < 0 { 500 } else { 0 })).await;
        for n in 0..8 {
            let client = client(&format!("{of}-{n}"));
            let stamped = b.stamp(subject(1), client.clone(), Draft::default()).await.unwrap();
            let cut = a.deny(denial(Target::Client(client), Ends::Tokens)).await.unwrap().unwrap();
            assert!(stamped < cut.before, "it was given {:?} later", stamped.since(cut.before));
        }
        clocks[of].1.store(0, Ordering::SeqCst);
        tokio::time::sleep(millis(1500)).await;
    }
}

// ---- keys

/// A node's keys, shared through its store.
async fn keys(store: &Arc<RedisStore>, dir: PathBuf, key: &str) -> Arc<Keyring> {
    let (stored, key) = (Box::new(StoredKeys::new(store.clone(), Handle::current())), SharedKey::read(key).unwrap());
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    let open = move || Keyring::open_shared(&dir, key, stored, keyring::Settings::default(), clock, random);
    Arc::new(spawn_blocking(open).await.unwrap().unwrap())
}

async fn asked<T: Send + 'static>(keys: &Arc<Keyring>, ask: impl FnOnce(&Keyring) -> T + Send + 'static) -> T {
    let keys = keys.clone();
    spawn_blocking(move || ask(&keys)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_the_store_lost_is_there_again_before_another_node_rotates() {
    for restarts in [false, true] {
        let (site, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
        let (at, key) = (|name: &str| site.path().join(name), SharedKey::generate(&SystemRandom).to_string());
        let (clock, shared) = (SystemClock::default(), SharedKey::read(&key).unwrap());
        Keyring::share(&at("keys-a"), None, shared, keyring::Settings::default(), &clock, &SystemRandom).unwrap();
        let mut a = node(&server.url(), options("a", site.path())).await;
        let b = node(&server.url(), options("b", site.path())).await;
        let keys_a = keys(&a, at("keys-a"), &key).await;
        let keys_b = keys(&b, at("keys-b"), &key).await;
        server.ask::<String>(&["SAVE"]);
        // It is acknowledged, and nobody else has heard of it.
        let made = asked(&keys_a, |keys| keys.rotate(true)).await.unwrap();
        drop(keys_a);
        if restarts {
            drop(a);
            has_ended(site.path(), "a");
            server.restart();
            a = node(&server.url(), options("a", site.path())).await;
        } else {
            server.restart();
        }
        has_come_back(&b).await;
        let next = asked(&keys_b, |keys| keys.rotate(true)).await.unwrap();
        assert_eq!(next.retiring, made.active, "it comes after that one (restarts: {restarts})");
        serves(&a).await;
        let keys_a = keys(&a, at("keys-a"), &key).await;
        asked(&keys_a, |keys| keys.take_up().map(drop)).await.unwrap();
        assert_eq!(keys_a.list(), keys_b.list());
        assert!(keys_a.confirmed().is_ok());
    }
}

// ---- two nodes that push at once

#[tokio::test(flavor = "multi_thread")]
async fn of_two_denials_of_one_subject_the_stronger_finds_its_place_beside_the_weaker() {
    const SUBJECTS: u16 = 300;
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let proxies = [Proxy::to(server.port).await, Proxy::to(server.port).await];
    let a = node(&proxies[0].url(), options("a", journals.path())).await;
    let b = node(&proxies[1].url(), options("b", journals.path())).await;
    server.ask::<String>(&["SAVE"]);
    let subject = |n: u16| SubjectRef([&n.to_be_bytes()[..], &[7; 12], &n.to_be_bytes()].concat().try_into().unwrap());
    let deny_all = || async {
        let mut denying = JoinSet::new();
        for n in 0..SUBJECTS {
            let (b, target) = (b.clone(), Target::Subject(subject(n)));
            denying.spawn(async move { b.deny(denial(target, Ends::Sessions)).await.unwrap().unwrap() });
            if denying.len() > 100 {
                denying.join_next().await;
            }
        }
        denying.join_all().await.into_iter().map(|entry| entry.before).max().unwrap()
    };
    deny_all().await;
    let at = b.entries(0, 1).await.unwrap().head;
    a.appended(at - 1).await;
    // From here on only one of them knows.
    proxies[0].set(Fate::Cut);
    let latest = deny_all().await;
    proxies[1].set(Fate::Cut);
    server.restart();
    proxies.iter().for_each(|proxy| proxy.set(Fate::Pass));
    has_come_back(&b).await;
    let entries = b.entries(0, 10_000).await.unwrap().entries;
    let strongest = entries.iter().map(|entry| entry.before).max();
    assert_eq!(strongest, Some(latest));
}

// ---- a part of a cluster

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_cluster_that_came_back_empty_is_not_taken_for_one_that_never_held_anything() {
    let (journals, mut cluster) = (TempDir::new().unwrap(), Cluster::start(&[]));
    let forgetful = Options { heads: millis(500), ..options("a", journals.path()) };
    let store = node(&cluster.url(), forgetful).await;
    let hub = cluster.master_of("rescind:{hub}:head").unwrap();
    let master =
        |n: u8| cluster.master_of(&format!("rescind:{{{:03x}}}:meta", u16::from_be_bytes([n, n]) % 4096)).unwrap();
    let n = (1..).find(|n| master(*n) != hub).unwrap();
    let part = master(n);
    let family = open(&*store, subject(n)).await;
    let opened = store.moment().served;
    wait_for("nobody remembers that it moved", || async { store.moment().served.since(opened) > millis(600) }).await;
    open(&*store, subject(n)).await;
    cluster.servers[part + 3].kill();
    cluster.servers[part].restart();
    wait_for("it has come back", || async { store.life().incarnation > 0 }).await;
    wait_for("it serves", || async { store.standing() != Standing::NotWhole }).await;
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Unavailable(Doubt::WipeUndecided));
}

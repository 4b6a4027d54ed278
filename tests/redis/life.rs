//! A store that came back as another: what was acknowledged stands, or nobody is told anything.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use rescind::{
    clock::{Clock, SystemClock, SystemRandom},
    model::{
        SessionId, TokenId,
        audit::Draft,
        denial::{Bearer, Ends, Target},
        family::{Closure, Doubt, Refusal, Standing, Verdict},
    },
    store::{
        DenyStore, Family, FamilyStore, StoreError,
        embedded::Acceptance,
        redis::{LifeReport, Options, RedisStore, WordError},
    },
};
use tempfile::TempDir;

use crate::{
    common::{LEASE, RETENTION, app, denial, kid, millis, open, secs, showing, subject, verdict},
    servers::{Server, sentinel::Watched, wait, wait_for},
};

pub(crate) const DURABLE: &[&str] = &["appendonly yes", "appendfsync always"];

pub(crate) fn options(name: &str, journals: &Path) -> Options {
    Options {
        name: name.into(),
        lease: LEASE,
        skew: secs(5),
        journal: Some(journals.join(name)),
        ..Options::new(RETENTION)
    }
}

pub(crate) async fn node(url: &str, options: Options) -> Arc<RedisStore> {
    let url = url.parse().unwrap();
    for _ in 0..500 {
        let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
        match RedisStore::open(&url, options.clone(), clock, random).await {
            Ok(store) => return Arc::new(store),
            // Tasks of one that was dropped let go of its journal in a moment.
            Err(error) => assert!(error.to_string().contains("another process"), "{error}"),
        }
        tokio::time::sleep(millis(10)).await;
    }
    panic!("the journal is held for ever");
}

/// Waits until what goes on by itself in a node that was dropped has ended.
pub(crate) fn has_ended(journals: &Path, name: &str) {
    wait("it is gone", || File::open(journals.join(name)).unwrap().try_lock().is_ok());
}

pub(crate) fn fresh_token() -> TokenId {
    let random = rescind::clock::random_bytes(&SystemRandom);
    TokenId::new(SystemClock::default().now(), &random)
}

pub(crate) fn of_token(token: TokenId) -> Bearer {
    Bearer { token, session: None, subject: subject(1), client: app(), key: kid("k1") }
}

async fn deny(store: &RedisStore) -> TokenId {
    let token = fresh_token();
    store.deny(denial(Target::Token(token), Ends::Tokens)).await.unwrap().unwrap();
    token
}

pub(crate) async fn serves(store: &RedisStore) {
    wait_for("the node serves again", || async { store.standing() == Standing::Whole }).await;
}

async fn says(store: &RedisStore, what: &str) -> LifeReport {
    let until = Instant::now() + crate::servers::PATIENCE;
    while !store.life().why.is_some_and(|why| why.contains(what)) {
        assert!(Instant::now() < until, "`{what}` is not said: {:?}", store.life());
        tokio::time::sleep(millis(10)).await;
    }
    store.life()
}

async fn incarnation(store: &RedisStore) -> u32 {
    serves(store).await;
    store.life().incarnation
}

pub(crate) async fn rotated(store: &RedisStore, family: &Family, generation: u32) {
    assert_eq!(verdict(store, family, generation).await, Verdict::Rotate);
}

// ---- a single server

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_with_all_it_had_goes_on_as_another_life() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(DURABLE));
    let store = node(&server.url(), options("a", journals.path())).await;
    let family = open(&*store, subject(1)).await;
    rotated(&store, &family, 0).await;
    let token = deny(&store).await;
    assert_eq!(incarnation(&store).await, 0);
    server.restart();
    wait_for("it has come back", || async { store.life().incarnation == 1 }).await;
    serves(&store).await;
    assert!(store.denied(of_token(token)).await.unwrap());
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Retry, "an outage costs no client its window");
    rotated(&store, &family, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_to_the_same_store_serves_at_once() {
    let (journals, server) = (TempDir::new().unwrap(), Server::start(DURABLE));
    let lazy = |name| Options { lease: secs(3), ..options(name, journals.path()) };
    let store = node(&server.url(), lazy("a")).await;
    let family = open(&*store, subject(1)).await;
    let this = store.life().nodes;
    drop(store);
    has_ended(journals.path(), "a");
    let began = Instant::now();
    let store = node(&server.url(), lazy("a")).await;
    rotated(&store, &family, 0).await;
    assert!(began.elapsed() < secs(3), "{:?}: no lease is waited for", began.elapsed());
    let nodes = store.life().nodes;
    assert_eq!((nodes.len(), &nodes[0].id), (1, &this[0].id), "it is the same node");
    assert_eq!(store.life().incarnation, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_last_seconds_gets_them_back() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let store = node(&server.url(), options("a", journals.path())).await;
    let [closed, moved] = [open(&*store, subject(1)).await, open(&*store, subject(2)).await];
    rotated(&store, &moved, 0).await;
    server.ask::<String>(&["SAVE"]);
    // All of this is acknowledged, and lost.
    let token = deny(&store).await;
    store.close(closed.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    rotated(&store, &moved, 1).await;
    rotated(&store, &moved, 2).await;
    let opened = open(&*store, subject(3)).await;
    server.restart();
    wait_for("it has come back", || async { store.life().incarnation == 1 }).await;
    serves(&store).await;
    assert!(store.denied(of_token(token)).await.unwrap());
    assert_eq!(verdict(&*store, &closed, 0).await, Verdict::Refused(Refusal::Closed));
    assert_eq!(
        verdict(&*store, &moved, 1).await,
        Verdict::Unavailable(Doubt::LateDuplicate),
        "what is spent stays spent"
    );
    rotated(&store, &moved, 3).await;
    rotated(&store, &opened, 0).await;
    let key = |id: SessionId| format!("rescind:{{{}}}:denied:{id}", &id.to_string()[33..]);
    assert_eq!(server.ask::<u8>(&["EXISTS", &key(closed.id)]), 1, "others who ask Redis are told so too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crashed_node_had_revoked_is_pushed_when_it_comes_back() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let store = node(&server.url(), options("a", journals.path())).await;
    let family = open(&*store, subject(1)).await;
    server.ask::<String>(&["SAVE"]);
    let token = deny(&store).await;
    store.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    store.deny(denial(Target::Subject(subject(2)), Ends::Sessions)).await.unwrap();
    drop(store);
    server.restart();
    let store = node(&server.url(), options("a", journals.path())).await;
    assert_eq!(incarnation(&store).await, 1);
    assert!(store.denied(of_token(token)).await.unwrap());
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Refused(Refusal::Closed));
    let long_ago = rescind::model::Timestamp::from_seconds(1_795_374_805);
    assert!(store.cut_off(subject(2), app(), long_ago).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_store_refuses_what_was_revoked_and_knows_that_it_does_not_know_the_rest() {
    for restarts in [false, true] {
        let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
        let forgetful = |name| Options { heads: millis(500), ..options(name, journals.path()) };
        let [a, b] = [node(&server.url(), forgetful("a")).await, node(&server.url(), forgetful("b")).await];
        let (family, recent) = (open(&*a, subject(1)).await, subject(3));
        let opened = a.moment().served;
        wait_for("nobody remembers that it moved", || async { a.moment().served.since(opened) > millis(600) }).await;
        let recent = open(&*a, recent).await;
        let token = deny(&a).await;
        wait_for("the other has followed", || async { b.denied(of_token(token)).await.is_ok_and(|denied| denied) })
            .await;
        if restarts {
            server.restart();
        } else {
            server.ask::<String>(&["FLUSHALL"]);
        }
        for store in [&a, &b] {
            wait_for("it is taken for what it is", || async { store.standing() == Standing::Wiped }).await;
            assert!(store.denied(of_token(token)).await.unwrap());
            assert_eq!(verdict(&**store, &family, 0).await, Verdict::Unavailable(Doubt::WipeUndecided));
        }
        rotated(&b, &recent, 0).await;
        let new = open(&*b, subject(2)).await;
        rotated(&a, &new, 0).await;
        b.declare(Acceptance::EndSessions, Arc::new(SystemRandom), Draft::default()).await.unwrap();
        for store in [&a, &b] {
            serves(store).await;
            assert_eq!(verdict(&**store, &family, 0).await, Verdict::Refused(Refusal::Unknown));
            assert_eq!(verdict(&**store, &new, 1).await, Verdict::Refused(Refusal::CutOff), "an operator has ended it");
            assert!(store.denied(of_token(token)).await.unwrap());
        }
        let later = open(&*a, subject(2)).await;
        rotated(&b, &later, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_put_back_from_long_ago_waits_for_an_operator() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(&[]));
    let forgetful = |name| Options { heads: millis(500), ..options(name, journals.path()) };
    let store = node(&server.url(), forgetful("a")).await;
    let family = open(&*store, subject(1)).await;
    server.ask::<String>(&["SAVE"]);
    rotated(&store, &family, 0).await;
    // Remembered every five seconds.
    wait_for("time is served", || async { store.moment().served.0 > 7000 }).await;
    let token = deny(&store).await;
    server.restart();
    says(&store, "store restored").await;
    assert!(matches!(store.denied(of_token(token)).await, Err(StoreError::NotWhole)));
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Unavailable(Doubt::StoreNotWhole));
    store.declare(Acceptance::EndSessions, Arc::new(SystemRandom), Draft::default()).await.unwrap();
    serves(&store).await;
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Refused(Refusal::CutOff), "what was spent then is dead");
    assert!(store.denied(of_token(token)).await.unwrap(), "what was revoked since is revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_begun_anew_behind_the_back_of_another_is_contested_until_an_operator_decides() {
    let (journals, server) = (TempDir::new().unwrap(), Server::start(&[]));
    let a = node(&server.url(), options("a", journals.path())).await;
    let token = deny(&a).await;
    drop(a);
    has_ended(journals.path(), "a");
    server.ask::<String>(&["FLUSHALL"]);
    let b = node(&server.url(), options("b", journals.path())).await;
    let (family, other) = (open(&*b, subject(1)).await, deny(&b).await);
    let a = node(&server.url(), options("a", journals.path())).await;
    for store in [&a, &b] {
        says(store, "store restored").await;
        assert!(matches!(store.denied(of_token(token)).await, Err(StoreError::NotWhole)));
    }
    b.declare(Acceptance::EndSessions, Arc::new(SystemRandom), Draft::default()).await.unwrap();
    for store in [&a, &b] {
        serves(store).await;
        for token in [token, other] {
            assert!(store.denied(of_token(token)).await.unwrap(), "whoever denied it");
        }
        assert_eq!(verdict(&**store, &family, 0).await, Verdict::Refused(Refusal::CutOff));
    }
}

// ---- two nodes

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_waited_for_by_name_until_it_is_waived() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(DURABLE));
    let [a, b] = [
        node(&server.url(), options("a", journals.path())).await,
        node(&server.url(), options("b", journals.path())).await,
    ];
    let gone = b.life().nodes.into_iter().find(|node| node.this).unwrap();
    assert!(matches!(a.waive(&gone.id, Draft::default()).await, Err(WordError::Refused(_))), "it is alive");
    drop(b);
    has_ended(journals.path(), "b");
    let family = open(&*a, subject(1)).await;
    server.restart();
    let report = says(&a, &format!("rescind store waive {}", gone.id)).await;
    assert!(report.why.unwrap().contains("b ("), "by its name, too");
    let deny = || a.deny(denial(Target::Token(fresh_token()), Ends::Tokens));
    wait_for("it is not taken for one that comes back", || async {
        matches!(deny().await.expect_err("nobody serves"), StoreError::NotWhole)
    })
    .await;
    assert_eq!(a.standing(), Standing::NotWhole);
    a.waive(&gone.id, Draft::default()).await.unwrap();
    serves(&a).await;
    rotated(&a, &family, 0).await;
    // It comes back after all, and takes part again.
    let b = node(&server.url(), options("b", journals.path())).await;
    serves(&b).await;
    rotated(&b, &family, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_left_is_not_waited_for() {
    let (journals, mut server) = (TempDir::new().unwrap(), Server::start(DURABLE));
    let [a, b] = [
        node(&server.url(), options("a", journals.path())).await,
        node(&server.url(), options("b", journals.path())).await,
    ];
    let token = deny(&b).await;
    assert!(b.leave().await);
    assert!(b.denied(of_token(token)).await.is_err(), "it serves no more");
    drop(b);
    server.restart();
    wait_for("it has come back", || async { a.life().incarnation == 1 }).await;
    serves(&a).await;
    assert!(a.denied(of_token(token)).await.unwrap());
    assert!(!a.leave().await, "nobody could take over what it knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_stop_at_once_one_stays_registered() {
    for _ in 0..4 {
        let (journals, server) = (TempDir::new().unwrap(), Server::start(DURABLE));
        let [a, b] = [
            node(&server.url(), options("a", journals.path())).await,
            node(&server.url(), options("b", journals.path())).await,
        ];
        let left = tokio::join!(a.leave(), b.leave());
        assert!(matches!(left, (true, false) | (false, true)), "{left:?}: nobody is left who knows what they knew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_two_nodes_agree_and_stand_still_in_an_outage() {
    let (journals, server) = (TempDir::new().unwrap(), Server::start(DURABLE));
    let [a, b] = [
        node(&server.url(), options("a", journals.path())).await,
        node(&server.url(), options("b", journals.path())).await,
    ];
    let apart = || a.moment().served.since(b.moment().served).max(b.moment().served.since(a.moment().served));
    assert!(apart() < millis(1000), "{:?}", apart());
    server.stop();
    wait("leases run out", || a.standing() == Standing::NotWhole && b.standing() == Standing::NotWhole);
    let before = a.moment().served;
    std::thread::sleep(secs(2));
    assert!(a.moment().served.since(before) < millis(100));
    server.go_on();
    serves(&a).await;
    serves(&b).await;
    assert!(a.moment().served.since(before) < secs(1), "{:?}", a.moment().served.since(before));
    assert!(apart() < millis(1000), "{:?}", apart());
}

// ---- a master that is deposed and does not know

/// The Sentinels make another the master, and this one does not take their word that it is none any more.
fn depose(site: &Watched) -> usize {
    let master = site.master();
    site.servers[master].ask::<String>(&["ACL", "SETUSER", "default", "-replicaof", "-slaveof"]);
    site.sentinels[0].ask::<String>(&["SENTINEL", "FAILOVER", "main"]);
    master
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_by_a_deposed_master_is_acknowledged_by_its_heir() {
    let (journals, site) = (TempDir::new().unwrap(), Watched::start(&[]));
    let patient = |name| Options { lease: secs(1), ..options(name, journals.path()) };
    let [a, b] = [node(&site.url(), patient("a")).await, node(&site.url(), patient("b")).await];
    let (done, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut denying = tokio::task::JoinSet::new();
    for store in [&a, &b, &a, &b] {
        let (store, done, count) = (store.clone(), done.clone(), acknowledged.clone());
        denying.spawn(async move {
            let mut tokens = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let token = fresh_token();
                if store.deny(denial(Target::Token(token), Ends::Tokens)).await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                    tokens.push(token);
                } else {
                    tokio::time::sleep(millis(5)).await;
                }
            }
            tokens
        });
    }
    wait_for("some are denied", || async { acknowledged.load(Ordering::SeqCst) > 100 }).await;
    let old = depose(&site);
    let heir = site.heir(old);
    // Where they part: what is in the old one's log beyond that the heir has never seen.
    assert_eq!(site.servers[old].info("role"), "master", "it does not know");
    for store in [&a, &b] {
        wait_for("it has taken over", || async { store.life().incarnation > 0 }).await;
        serves(store).await;
    }
    let before = acknowledged.load(Ordering::SeqCst);
    wait_for("it goes on", || async { acknowledged.load(Ordering::SeqCst) > before + 100 }).await;
    done.store(true, Ordering::SeqCst);
    let tokens: Vec<_> = denying.join_all().await.into_iter().flatten().collect();
    let log = |server: &Server| server.ask::<Vec<redis::Value>>(&["XRANGE", "rescind:{hub}:log", "-", "+"]).len();
    println!(
        "{} denied, {} in the deposed master's log, {} in the heir's",
        tokens.len(),
        log(&site.servers[old]),
        log(&site.servers[heir])
    );
    for store in [&a, &b] {
        for token in &tokens {
            assert!(store.denied(of_token(*token)).await.unwrap(), "acknowledged and forgotten");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_lease_ran_out_says_nothing() {
    let (journals, server) = (TempDir::new().unwrap(), Server::start(DURABLE));
    let store = node(&server.url(), options("a", journals.path())).await;
    let family = open(&*store, subject(1)).await;
    server.stop();
    let asked = showing(&family, 0);
    let began = Instant::now();
    wait("the lease runs out", || store.standing() == Standing::NotWhole);
    assert!(began.elapsed() <= LEASE + millis(100), "{:?}", began.elapsed());
    assert!(store.tail(None, 10).await.is_err(), "no feed is signed");
    assert!(!matches!(store.present(asked).await.map(|p| p.verdict), Ok(Verdict::Rotate)));
    server.go_on();
    serves(&store).await;
    rotated(&store, &family, 0).await;
}

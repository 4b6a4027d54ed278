//! The feed, derivation and sealing keys of a running node are replaced and given up, under traffic and under attack.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/relay.rs"]
mod relay;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use harness::{APP, Harness, OTHER, POWERLESS, Setup, text};
use redb::{ReadableDatabase, TableDefinition};
use relay::{Fate, Kind, Relay};
use rescind::{
    clock::{Clock, SystemClock},
    keyring::SecretKind,
    service::{Client, Permission, SecretHash},
    store::embedded::Acceptance,
    verifier::{Refused, Rejection, Verifier},
};
use serde_json::{Value, json};

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let clock = SystemClock::default();
    let began = clock.monotonic();
    while !is_so().await {
        assert!(clock.monotonic() - began < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn order(node: &Harness, path: &str, body: Value) -> Value {
    let (status, body) = node.post(&format!("/v1/keys/secrets/{path}"), APP, &body).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn secrets(node: &Harness) -> Vec<Value> {
    let (status, body) = node.get("/v1/keys/secrets").await;
    assert_eq!(status, 200, "{body}");
    body["secrets"].as_array().unwrap().clone()
}

async fn refresh(node: &Harness, session: &Value) -> (u16, Value) {
    node.refresh(text(session, "refresh_token"), APP).await
}

/// The status and error of a refresh.
async fn outcome(node: &Harness, session: &Value) -> (u16, String) {
    let (status, body) = refresh(node, session).await;
    (status, body["error"].as_str().unwrap_or_default().to_owned())
}

fn refused() -> (u16, String) {
    (400, "invalid_grant".to_owned())
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            drop(fs::copy(entry.path(), target))
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

/// What a thief took away of a node, and the node goes on.
async fn stolen(node: Harness) -> (Harness, tempfile::TempDir) {
    let loot = tempfile::tempdir().unwrap();
    let to = loot.path().join("all");
    let node = node.restart(|_, path| copy(path.unwrap(), &to)).await;
    (node, loot)
}

fn all(loot: &tempfile::TempDir) -> PathBuf {
    loot.path().join("all")
}

/// The thief runs a node on it.
async fn run(loot: &tempfile::TempDir, setup: Setup) -> Harness {
    Harness::with(Setup { on_disk: true, ..setup }).await.restart(|_, path| copy(&all(loot), path.unwrap())).await
}

// --- rotation

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_traffic_refuses_nobody() {
    let relay = Relay::start().await;
    let node = Harness::with(Setup { issuer: Some(relay.url.clone()), on_disk: true, ..Setup::default() }).await;
    relay.to(&node.base);
    let verifier = Verifier::builder(&relay.url).audience("api").clock(node.clock.clone()).follow().unwrap();
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    let (node, verifier, over) = (Arc::new(node), Arc::new(verifier), Arc::new(AtomicBool::new(false)));
    let traffic: Vec<_> = (0..4)
        .map(|n| {
            let (node, verifier, over) = (node.clone(), verifier.clone(), over.clone());
            tokio::spawn(async move {
                let (mut session, mut exchanges) = (node.open(&format!("alice-{n}")).await, 0);
                while !over.load(Ordering::Relaxed) {
                    let (status, next) = refresh(&node, &session).await;
                    assert_eq!(status, 200, "{next}");
                    let verified = verifier.verify(text(&next, "access_token"));
                    assert!(verified.is_ok(), "{:?}", verified.err());
                    (session, exchanges) = (next, exchanges + 1);
                    let opened = node.open("bob").await;
                    assert_eq!(refresh(&node, &opened).await.0, 200);
                }
                exchanges
            })
        })
        .collect();
    let old = node.open("carol").await;
    for round in 0..3 {
        for kind in SecretKind::ALL {
            let asked = relay.asked(Kind::Metadata);
            let changed = order(&node, &format!("{kind}/rotate"), json!({})).await;
            assert_eq!((&changed["kind"], &changed["made"]["in_use"]), (&json!(kind.name()), &json!(true)));
            // The feed goes on: what is revoked now is heard of.
            let doomed = node.open("mallory").await;
            let token = text(&doomed, "access_token");
            let body = json!({"kind": "session", "id": doomed["session_id"]});
            assert_eq!(node.post("/v1/revocations", APP, &body).await.0, 201);
            until("heard", async || verifier.verify(token).err() == Some(Rejection::Revoked.into())).await;
            assert!(kind != SecretKind::Feed || relay.asked(Kind::Metadata) > asked, "round {round}");
        }
    }
    over.store(true, Ordering::Relaxed);
    for one in traffic {
        assert!(one.await.unwrap() > 0);
    }
    let (status, renewed) = refresh(&node, &old).await;
    assert_eq!(status, 200, "{renewed}");
    let listed = secrets(&node).await;
    let count = |kind: &str| listed.iter().filter(|s| s["kind"] == kind).count();
    assert_eq!((count("feed"), count("derivation"), count("sealing")), (2, 4, 4));
    assert_eq!(listed.iter().filter(|s| s["in_use"] == true).count(), 3);
    let node = Arc::into_inner(node).unwrap().restart(|_, _| {}).await;
    assert_eq!(secrets(&node).await, listed);
    assert_eq!(refresh(&node, &renewed).await.0, 200, "its key is kept for its life");
    let (_, log) = node.get("/v1/audit?limit=500").await;
    assert!(log["records"].as_array().unwrap().iter().all(|r| r["event"] != "audit_broken"));
}

#[tokio::test]
async fn who_may_do_what_and_a_dry_run_does_nothing() {
    let client = |id: &str, permissions: &[Permission]| Client {
        permissions: permissions.iter().copied().collect(),
        secrets: vec![SecretHash::of("secret")],
        ..Client::new(id.parse().unwrap())
    };
    let clients = vec![
        client("reader", &[Permission::KeysRead]),
        client("rotator", &[Permission::KeysRotate]),
        client("guard", &[Permission::KeysCompromise]),
        client("revoker", &[Permission::RevokeAll]),
    ];
    let node = Harness::with(Setup { clients, ..Setup::default() }).await;
    let before = secrets(&node).await;
    let ask = async |client: &str, path: &str, body: Value| {
        let request = node.http.post(format!("{}/v1/keys/secrets/{path}", node.base));
        harness::answer(request.basic_auth(client, Some("secret")).json(&body)).await
    };
    let dry = json!({"dry_run": true});
    for kind in SecretKind::ALL {
        let (rotate, compromise) = (format!("{kind}/rotate"), format!("{kind}/compromise"));
        for (client, path, status) in [
            ("reader", &rotate, 403),
            ("guard", &rotate, 403),
            ("rotator", &rotate, 200),
            ("rotator", &compromise, 403),
            ("guard", &compromise, 200),
        ] {
            assert_eq!(ask(client, path, dry.clone()).await.0, status, "{client} {path}");
        }
        let ending = json!({"dry_run": true, "end_sessions": true});
        assert_eq!(ask("guard", &compromise, ending.clone()).await.0, 403, "that takes revoke:all as well");
        let (status, body) = node.post(&format!("/v1/keys/secrets/{compromise}"), APP, &ending).await;
        assert_eq!(status, if kind == SecretKind::Feed { 400 } else { 200 }, "{body}");
    }
    let (status, plan) = ask("guard", "sealing/compromise", dry.clone()).await;
    assert_eq!((status, &plan["made"]), (200, &Value::Null));
    assert_eq!(plan["exposure"]["store_read"], SecretKind::Sealing.exposure().store_read);
    for client in ["guard", "revoker"] {
        assert_eq!(ask(client, "forget-unknown", dry.clone()).await.0, 403, "{client}: it takes both");
        assert_eq!(ask(client, "forget-unknown", json!({})).await.0, 403, "{client}");
    }
    for (client, status) in [("reader", 200), ("revoker", 403)] {
        let request = node.http.get(format!("{}/v1/keys/secrets", node.base)).basic_auth(client, Some("secret"));
        assert_eq!(harness::answer(request).await.0, status, "{client}");
    }
    assert_eq!(order(&node, "forget-unknown", dry).await["forgotten_until"], Value::Null);
    assert_eq!(ask("rotator", "signing/rotate", json!({})).await.0, 400);
    assert_eq!(node.post("/v1/keys/secrets/feed/rotate", POWERLESS, &json!({})).await.0, 403);
    assert_eq!(secrets(&node).await, before);
}

// --- the feed's key

#[tokio::test]
async fn a_follower_that_has_heard_believes_the_stolen_feed_key_no_more() {
    let relay = Relay::start().await;
    let setup = Setup { issuer: Some(relay.url.clone()), on_disk: true, ..Setup::default() };
    let (node, loot) = stolen(Harness::with(setup.clone()).await).await;
    relay.to(&node.base);
    let builder = || Verifier::builder(&relay.url).audience("api").clock(node.clock.clone());
    let verifier = builder().follow().unwrap();
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    let session = node.open("alice").await;
    let (token, known) = (text(&session, "access_token"), relay.asked(Kind::Metadata));
    let changed = order(&node, "feed/compromise", json!({"reason": "incident 42"})).await;
    assert_eq!(changed["gone"].as_array().unwrap().len(), 1);
    let (_, metadata) = node.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["rescind_feed_jwks"]["keys"].as_array().unwrap().len(), 1, "the old one is out at once");
    assert_eq!(metadata["rescind_feed_jwks"]["keys"][0]["kid"], changed["made"]["kid"]);
    // It finds the key that it does not know, and asks at once.
    let tails = relay.asked(Kind::Tail);
    assert_eq!(node.post("/v1/revocations", APP, &json!({"kind": "client", "id": "nobody"})).await.0, 201);
    until("asked", async || relay.asked(Kind::Metadata) > known && verifier.health().last_error.is_none()).await;
    assert!(relay.asked(Kind::Tail) <= tails + 2, "not after some more that it cannot read");
    // The thief stands between, with the old key and a log of its own, and invents a revocation.
    let thief = run(&loot, setup).await;
    let invented = json!({"kind": "session", "id": session["session_id"]});
    assert_eq!(thief.post("/v1/revocations", APP, &invented).await.0, 201);
    relay.set(Kind::Metadata, Fate::Reset);
    let tails = relay.asked(Kind::Tail);
    relay.to(&thief.base);
    assert_eq!(node.post("/v1/revocations", APP, &json!({"kind": "client", "id": "no-one"})).await.0, 201);
    until("offered", async || relay.asked(Kind::Tail) > tails + 3).await;
    assert!(verifier.verify(token).is_ok(), "what the thief says counts for nothing");
    node.clock.advance(Duration::from_secs(31));
    assert!(matches!(verifier.verify(token), Err(Refused::Unavailable(_))), "and proves no freshness");
}

#[tokio::test]
async fn a_follower_kept_from_the_metadata_believes_the_stolen_feed_key_for_a_quarter_of_an_hour() {
    let relay = Relay::start().await;
    let setup = Setup { issuer: Some(relay.url.clone()), on_disk: true, ..Setup::default() };
    let (node, loot) = stolen(Harness::with(setup.clone()).await).await;
    relay.to(&node.base);
    let verifier = Verifier::builder(&relay.url).audience("api").clock(node.clock.clone()).follow().unwrap();
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    let thief = run(&loot, setup).await;
    relay.set(Kind::Metadata, Fate::Reset);
    relay.to(&thief.base);
    order(&node, "feed/compromise", json!({})).await;
    let is_fooled = async || {
        let token = node.open("alice").await;
        verifier.verify(text(&token, "access_token")).is_ok()
    };
    for n in 0..29 {
        node.clock.advance(Duration::from_secs(29));
        let tails = relay.asked(Kind::Tail);
        assert_eq!(thief.post("/v1/revocations", APP, &json!({"kind": "client", "id": format!("x{n}")})).await.0, 201);
        until("asked", async || relay.asked(Kind::Tail) > tails).await;
    }
    until("fooled until then", is_fooled).await;
    node.clock.advance(Duration::from_secs(61));
    let tails = relay.asked(Kind::Metadata);
    assert_eq!(thief.post("/v1/revocations", APP, &json!({"kind": "client", "id": "y"})).await.0, 201);
    until("asked for its keys", async || relay.asked(Kind::Metadata) > tails + 2).await;
    assert!(!is_fooled().await, "unavailable until it has heard");
    relay.set(Kind::Metadata, Fate::Pass);
    relay.to(&node.base);
    until("heard", is_fooled).await;
}

#[tokio::test]
async fn a_cache_that_keeps_the_metadata_keeps_no_follower_from_the_new_key() {
    let relay = Relay::start().await;
    let node = Harness::with(Setup { issuer: Some(relay.url.clone()), ..Setup::default() }).await;
    relay.to(&node.base);
    relay.set(Kind::Metadata, Fate::Cache);
    let follow = || Verifier::builder(&relay.url).audience("api").clock(node.clock.clone()).follow().unwrap();
    let verifier = follow();
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    let session = node.open("alice").await;
    order(&node, "feed/compromise", json!({})).await;
    let body = json!({"kind": "session", "id": session["session_id"]});
    assert_eq!(node.post("/v1/revocations", APP, &body).await.0, 201);
    let hears = async |verifier: &Verifier| {
        let is_so = || verifier.verify(text(&session, "access_token")).err() == Some(Rejection::Revoked.into());
        until("heard", async || is_so()).await;
    };
    hears(&verifier).await;
    let late = follow();
    tokio::time::timeout(PATIENCE, late.ready()).await.unwrap();
    hears(&late).await;
}

#[tokio::test]
async fn an_issuer_that_is_slow_to_name_its_keys_is_followed_on_and_not_asked_all_the_time() {
    let relay = Relay::start().await;
    let node = Harness::with(Setup { issuer: Some(relay.url.clone()), ..Setup::default() }).await;
    relay.to(&node.base);
    let builder = Verifier::builder(&relay.url).audience("api").clock(node.clock.clone());
    let verifier = builder.max_staleness(Duration::from_secs(3)).follow().unwrap();
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    relay.set(Kind::Metadata, Fate::Stall);
    let (asked, clock) = (relay.asked(Kind::Metadata), SystemClock::default());
    let began = clock.monotonic();
    node.clock.advance(Duration::from_secs(301));
    for n in 0..5 {
        let session = node.open("alice").await;
        let body = json!({"kind": "session", "id": session["session_id"]});
        assert_eq!(node.post("/v1/revocations", APP, &body).await.0, 201);
        let is_so = || verifier.verify(text(&session, "access_token")).err() == Some(Rejection::Revoked.into());
        until(&format!("heard {n}"), async || is_so()).await;
    }
    assert_eq!(relay.asked(Kind::Metadata), asked + 1);
    assert!(clock.monotonic() - began < PATIENCE / 2, "it waits for a third of what it may be behind");
}

/// The thief answers for the feed, and not for the metadata.
#[tokio::test]
async fn a_follower_that_sees_no_new_key_asks_all_the_same() {
    let relay = Relay::start().await;
    let setup = Setup { issuer: Some(relay.url.clone()), on_disk: true, ..Setup::default() };
    let (node, loot) = stolen(Harness::with(setup.clone()).await).await;
    let thief = run(&loot, setup).await;
    relay.to(&thief.base);
    let verifier = Verifier::builder(&relay.url).audience("api").clock(node.clock.clone()).follow().unwrap();
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    order(&node, "feed/compromise", json!({})).await;
    let (_, metadata) = node.get("/.well-known/oauth-authorization-server").await;
    let said = Fate::Say(200, "Content-Type: application/json".into(), metadata.to_string().into());
    relay.set(Kind::Metadata, said);
    let asked = relay.asked(Kind::Metadata);
    let is_fooled = async || verifier.verify(text(&node.open("alice").await, "access_token")).is_ok();
    for n in 0..10 {
        node.clock.advance(Duration::from_secs(29));
        let tails = relay.asked(Kind::Tail);
        assert_eq!(thief.post("/v1/revocations", APP, &json!({"kind": "client", "id": format!("x{n}")})).await.0, 201);
        until("asked", async || relay.asked(Kind::Tail) > tails).await;
    }
    until("fooled until then", is_fooled).await;
    node.clock.advance(Duration::from_secs(15));
    assert_eq!(thief.post("/v1/revocations", APP, &json!({"kind": "client", "id": "y"})).await.0, 201);
    until("asked for the keys", async || relay.asked(Kind::Metadata) > asked).await;
    node.clock.advance(Duration::from_secs(31));
    assert!(!is_fooled().await, "what the thief signs proves no freshness any more");
}

#[tokio::test]
async fn the_audit_log_holds_across_a_new_key_and_a_start() {
    let mut node = Harness::on_disk().await;
    for path in ["feed/rotate", "feed/compromise", "sealing/compromise", "derivation/compromise"] {
        let (_, before) = node.get("/v1/audit/head").await;
        order(&node, path, json!({})).await;
        let (_, after) = node.get("/v1/audit/head").await;
        assert_eq!(before["key"]["kid"] != after["key"]["kid"], path.starts_with("feed"), "{path}");
        node = node.restart(|_, _| {}).await;
        let (_, again) = node.get("/v1/audit/head").await;
        assert_eq!(again["key"]["kid"], after["key"]["kid"]);
    }
    let (_, log) = node.get("/v1/audit?limit=500").await;
    let events: Vec<_> = log["records"].as_array().unwrap().iter().map(|r| r["event"].as_str().unwrap()).collect();
    assert!(!events.contains(&"audit_broken"), "{events:?}");
    let count = |name| events.iter().filter(|event| **event == name).count();
    assert_eq!((count("secret_key_rotated"), count("secret_key_compromised")), (1, 3));
}

// --- derivation and sealing

#[tokio::test]
async fn ended_sessions_stay_ended_also_when_the_store_has_lost_the_cut_off() {
    for kind in ["derivation", "sealing"] {
        let node = Harness::on_disk().await;
        let first = node.open("alice").await;
        let (node, loot) = stolen(node).await;
        let before = order(&node, &format!("{kind}/compromise"), json!({})).await;
        assert!(before["exposure"]["remains"].as_str().unwrap().contains("until they end"));
        let (status, old) = refresh(&node, &first).await;
        assert_eq!(status, 200, "{kind}: without end_sessions they go on: {old}");
        let changed = order(&node, &format!("{kind}/compromise"), json!({"end_sessions": true})).await;
        assert!(changed["sessions"]["position"].is_u64() && !changed["gone"].as_array().unwrap().is_empty());
        assert_eq!(outcome(&node, &old).await, refused(), "{kind}");
        let new = node.open("alice").await;
        let (status, new) = refresh(&node, &new).await;
        assert_eq!(status, 200, "{kind}: {new}");
        let node = node.restart(|_, _| {}).await;
        assert_eq!(outcome(&node, &old).await, refused(), "{kind}: after a start");
        assert_eq!(refresh(&node, &new).await.0, 200, "{kind}");
        let (status, listed) = node.get("/v1/sessions?subject=alice").await;
        assert_eq!(status, 200, "{kind}: what cannot be read is no outage: {listed}");
        // The store of before, and somebody who says that nothing of it is to end.
        let node = node
            .restart(|setup, path| {
                fs::copy(all(&loot).join("store.redb"), path.unwrap().join("store.redb")).unwrap();
                setup.acceptance = Acceptance::DangerouslyKeepSessions;
            })
            .await;
        assert_eq!(outcome(&node, &first).await, refused(), "{kind}: with the key went the session");
        let fresh = node.open("alice").await;
        assert_eq!(refresh(&node, &fresh).await.0, 200, "{kind}");
    }
}

fn book(store: &Path) -> Vec<u8> {
    let database = redb::Database::open(store).unwrap();
    let txn = database.begin_read().unwrap();
    txn.open_table(META).unwrap().get("clients").unwrap().unwrap().value().to_vec()
}

fn write_book(store: &Path, book: &[u8]) {
    let database = redb::Database::open(store).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("clients", book).unwrap();
    txn.commit().unwrap();
}

#[tokio::test]
async fn a_book_of_clients_sealed_by_a_thief_enables_nobody() {
    let node = Harness::on_disk().await;
    set(&node, "disable").await;
    let (node, loot) = stolen(node).await;
    order(&node, "sealing/compromise", json!({})).await;
    let node = node.restart(|_, _| {}).await;
    assert_eq!(asked(&node).await, 401, "the book was sealed anew, and opens");
    // With the old key the thief makes a book that is newer than ours.
    let thief = run(&loot, Setup::default()).await;
    for _ in 0..4 {
        set(&thief, "enable").await;
        set(&thief, "disable").await;
    }
    set(&thief, "enable").await;
    assert_eq!(asked(&thief).await, 200);
    let mut forged = Vec::new();
    let thief = thief.restart(|_, path| forged = book(&path.unwrap().join("store.redb"))).await;
    drop(thief);
    let node = node.restart(|_, path| write_book(&path.unwrap().join("store.redb"), &forged)).await;
    assert_eq!(asked(&node).await, 401, "ours counts");
}

// --- keys that are not here

#[tokio::test]
async fn tokens_of_keys_that_are_not_here_are_doubted_until_an_operator_says_that_they_are_over() {
    let (elsewhere, node) = (Harness::start().await, Harness::on_disk().await);
    let foreign = elsewhere.open("alice").await;
    let own = node.open("alice").await;
    assert_eq!(outcome(&node, &foreign).await.0, 503, "its key may only be missing");
    elsewhere.clock.advance(Duration::from_secs(60));
    node.clock.advance(Duration::from_secs(30));
    let said = order(&node, "forget-unknown", json!({"reason": "keys replaced"})).await;
    assert!(said["forgotten_until"].is_string());
    assert_eq!(outcome(&node, &foreign).await, refused());
    let (status, own) = refresh(&node, &own).await;
    assert_eq!(status, 200, "sessions whose key is here go on: {own}");
    let later = elsewhere.open("alice").await;
    assert_eq!(outcome(&node, &later).await.0, 503, "that was not meant");
    let node = node.restart(|_, _| {}).await;
    assert_eq!(outcome(&node, &foreign).await, refused(), "after a start");
    assert_eq!(refresh(&node, &own).await.0, 200);
    let (_, log) = node.get("/v1/audit?limit=500").await;
    let told = log["records"].as_array().unwrap().iter().find(|r| r["event"] == "unknown_keys_forgotten").unwrap();
    assert_eq!((&told["actor"], &told["cause"]), (&json!(APP), &json!("keys replaced")));
    let form = [("token", text(&foreign, "refresh_token"))];
    assert_eq!(node.form("/oauth2/revoke", APP, &form).await.0, 200, "and to revoke it is done (RFC 7009 §2.2)");
}

#[tokio::test]
async fn a_session_that_nobody_can_read_is_doubted_until_an_operator_says_that_it_is_over() {
    let node = Harness::on_disk().await;
    let session = node.open("alice").await;
    let node = node
        .restart(|_, path| {
            let keys = path.unwrap().join("keys");
            let witness = fs::read(keys.join("witness.json")).unwrap();
            fs::remove_dir_all(&keys).unwrap();
            fs::create_dir(&keys).unwrap();
            fs::write(keys.join("witness.json"), witness).unwrap();
        })
        .await;
    let path = format!("/v1/sessions/{}", text(&session, "session_id"));
    assert_eq!(node.get(&path).await.0, 503, "its keys may only be missing");
    order(&node, "forget-unknown", json!({})).await;
    assert_eq!(node.get(&path).await.0, 404);
}

// --- clocks, crashes and copies from before

#[tokio::test]
async fn a_clock_that_was_put_back_neither_ends_nor_spares_a_session() {
    const HOURS: Duration = Duration::from_secs(3 * 3600);
    for kind in ["derivation", "sealing"] {
        let node = Harness::on_disk().await;
        node.clock.jump(HOURS);
        let session = node.open("alice").await;
        node.clock.jump_back(HOURS);
        order(&node, &format!("{kind}/compromise"), json!({})).await;
        let (status, session) = refresh(&node, &session).await;
        assert_eq!(status, 200, "{kind}: it was opened before: {session}");
        assert_eq!(node.get("/v1/sessions?subject=alice").await.0, 200, "{kind}");
        order(&node, &format!("{kind}/compromise"), json!({"end_sessions": true})).await;
        let node = node.restart(|_, _| {}).await;
        assert_eq!(outcome(&node, &session).await, refused(), "{kind}: it has ended, and that is known");
        assert_eq!(node.get("/v1/sessions?subject=alice").await.0, 200, "{kind}");
    }
}

#[tokio::test]
async fn a_rotation_drops_no_key_of_a_session_whatever_the_clock_said_when_it_was_opened() {
    const DAYS: Duration = Duration::from_secs(3 * 86_400);
    for kind in ["derivation", "sealing"] {
        let node = Harness::on_disk().await;
        node.clock.jump(DAYS);
        let session = node.open("alice").await;
        node.clock.jump_back(DAYS);
        order(&node, &format!("{kind}/rotate"), json!({})).await;
        order(&node, &format!("{kind}/rotate"), json!({})).await;
        let (status, body) = refresh(&node, &session).await;
        assert_eq!(status, 200, "{kind}: {body}");
    }
}

/// Makes the client disabled or enabled.
async fn set(node: &Harness, what: &str) {
    let (status, body) = node.post(&format!("/v1/clients/{OTHER}/{what}"), APP, &json!({})).await;
    assert_eq!(status, 200, "{body}");
}

/// What it is told when it comes.
async fn asked(node: &Harness) -> u16 {
    node.form("/oauth2/revoke", OTHER, &[("token", "nothing")]).await.0
}

#[tokio::test]
async fn keys_of_before_a_rotation_let_in_nobody_who_was_disabled_since() {
    let node = Harness::on_disk().await;
    set(&node, "disable").await;
    set(&node, "enable").await;
    let (node, loot) = stolen(node).await;
    order(&node, "sealing/rotate", json!({})).await;
    set(&node, "disable").await;
    let kept = tempfile::tempdir().unwrap();
    let node = node
        .restart(|_, path| {
            copy(&path.unwrap().join("keys"), &kept.path().join("keys"));
            copy(&all(&loot).join("keys"), &path.unwrap().join("keys"));
        })
        .await;
    assert_eq!(asked(&node).await, 503, "nobody can tell who is disabled");
    assert!(node.service.ready().await.is_err_and(|why| why.contains("secrets.json")));
    let node = node.restart(|_, path| copy(&kept.path().join("keys"), &path.unwrap().join("keys"))).await;
    assert_eq!(asked(&node).await, 401, "put back as they were");
}

#[tokio::test]
async fn a_store_of_before_its_sealing_key_was_destroyed_finds_the_book_beside_the_keys() {
    let node = Harness::on_disk().await;
    set(&node, "disable").await;
    set(&node, "enable").await;
    let (node, loot) = stolen(node).await;
    set(&node, "disable").await;
    order(&node, "sealing/compromise", json!({"end_sessions": true})).await;
    let node = node
        .restart(|setup, path| {
            fs::copy(all(&loot).join("store.redb"), path.unwrap().join("store.redb")).unwrap();
            setup.acceptance = Acceptance::EndSessions;
        })
        .await;
    assert_eq!(asked(&node).await, 401, "what was disabled since stays so");
    assert_eq!(refresh(&node, &node.open("alice").await).await.0, 200);
    set(&node, "enable").await;
    assert_eq!(asked(&node).await, 200);
}

/// Lies in the way of the copy of the book beside the keys.
fn obstacle(node: &Harness) -> PathBuf {
    node.path().join("keys/.clients.sealed.tmp")
}

#[tokio::test]
async fn an_order_that_could_not_be_finished_is_finished_when_it_is_given_again() {
    let node = Harness::on_disk().await;
    let session = node.open("alice").await;
    fs::create_dir(obstacle(&node)).unwrap();
    for _ in 0..5 {
        assert_eq!(node.post("/v1/keys/secrets/sealing/compromise", APP, &json!({})).await.0, 503);
    }
    let sealing = async || secrets(&node).await.into_iter().filter(|s| s["kind"] == "sealing").collect::<Vec<_>>();
    let half = sealing().await;
    assert_eq!(half.len(), 2, "each time again is no new key: {half:?}");
    assert_eq!(half[0]["given_up"], false, "not before the book is sealed anew");
    assert_eq!(refresh(&node, &session).await.0, 200);
    fs::remove_dir(obstacle(&node)).unwrap();
    let done = order(&node, "sealing/compromise", json!({})).await;
    assert_eq!(done["made"]["id"], half[1]["id"]);
    assert_eq!(sealing().await[0]["given_up"], true);
    let again = order(&node, "sealing/compromise", json!({})).await;
    assert_ne!(again["made"]["id"], done["made"]["id"], "that one was finished: now the next has leaked");
}

#[tokio::test]
async fn a_key_that_the_book_is_sealed_under_stays_until_it_is_sealed_anew() {
    let node = Harness::on_disk().await;
    set(&node, "disable").await;
    fs::create_dir(obstacle(&node)).unwrap();
    let rotate = async || node.post("/v1/keys/secrets/sealing/rotate", APP, &json!({})).await.0;
    assert_eq!(rotate().await, 503);
    node.clock.advance(Duration::from_secs(3 * 86_400));
    let _young = node.open("alice").await;
    assert_eq!(rotate().await, 503);
    let at = obstacle(&node);
    // Somebody takes the book out of the store.
    let node = node
        .restart(|_, path| {
            fs::remove_dir(&at).unwrap();
            let database = redb::Database::open(path.unwrap().join("store.redb")).unwrap();
            let txn = database.begin_write().unwrap();
            txn.open_table(META).unwrap().remove("clients").unwrap();
            txn.commit().unwrap();
        })
        .await;
    assert_eq!(asked(&node).await, 401, "the copy beside the keys opens");
    assert_eq!(node.get("/v1/keys/secrets").await.0, 200);
    order(&node, "sealing/rotate", json!({})).await;
    let listed = secrets(&node).await;
    assert_eq!(listed.iter().filter(|s| s["kind"] == "sealing").count(), 3, "the first has gone: {listed:?}");
}

#[tokio::test]
async fn a_log_whose_head_a_key_signed_that_was_given_up_is_told_of() {
    let (node, loot) = stolen(Harness::on_disk().await).await;
    order(&node, "feed/compromise", json!({})).await;
    let node = node
        .restart(|setup, path| {
            fs::copy(all(&loot).join("store.redb"), path.unwrap().join("store.redb")).unwrap();
            setup.acceptance = Acceptance::EndSessions;
        })
        .await;
    let (_, log) = node.get("/v1/audit?limit=500").await;
    let events: Vec<_> = log["records"].as_array().unwrap().iter().map(|r| r["event"].as_str().unwrap()).collect();
    assert!(events.contains(&"audit_broken"), "a thief may have written it: {events:?}");
}

#[tokio::test]
async fn a_subject_is_handed_out_and_erased_whatever_its_sessions_were_sealed_under() {
    let node = Harness::on_disk().await;
    let session = node.open("alice").await;
    order(&node, "sealing/rotate", json!({})).await;
    node.open("alice").await;
    order(&node, "sealing/compromise", json!({})).await;
    let (status, kept) = node.get("/v1/subjects/alice").await;
    assert_eq!((status, kept["sessions"].as_array().unwrap().len()), (200, 2), "{kept}");
    order(&node, "sealing/compromise", json!({"end_sessions": true})).await;
    assert!(!node.active(text(&session, "refresh_token")).await);
    for _ in 0..3 {
        node.open("alice").await;
    }
    let (status, kept) = node.get("/v1/subjects/alice").await;
    assert_eq!((status, kept["sessions"].as_array().unwrap().len()), (200, 3), "those that can be read: {kept}");
    let (status, page) = node.get("/v1/sessions?subject=alice&limit=2").await;
    assert_eq!((status, page["sessions"].as_array().unwrap().len()), (200, 2), "{page}");
    let erase = node.http.delete(format!("{}/v1/subjects/alice", node.base)).basic_auth(APP, Some(&node.secret));
    let (status, erased) = harness::answer(erase).await;
    assert_eq!((status, &erased["sessions"]), (200, &json!(5)), "and those that cannot: {erased}");
}

/// What an order promised about the sessions that were there when it was given, and those opened after its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_under_traffic_keep_their_word_about_each_session() {
    let node = Arc::new(Harness::on_disk().await);
    let over = Arc::new(AtomicBool::new(false));
    let traffic: Vec<_> = (0..3)
        .map(|n| {
            let (node, over) = (node.clone(), over.clone());
            tokio::spawn(async move {
                let body = json!({"subject": format!("bob-{n}"), "audience": ["api"], "scope": "read"});
                while !over.load(Ordering::Relaxed) {
                    let (status, session) = node.post("/v1/sessions", APP, &body).await;
                    assert!([201, 503].contains(&status), "{session}");
                    if status == 201 {
                        let found = outcome(&node, &session).await;
                        assert!(found.0 == 200 || found == refused(), "it goes on or has ended: {found:?}");
                    }
                }
            })
        })
        .collect();
    let mut ended: Vec<Value> = Vec::new();
    for end_sessions in [false, true, false, true] {
        for kind in ["derivation", "sealing"] {
            let before = node.open("alice").await;
            let (one, other) = (kind, if kind == "sealing" { "derivation" } else { "sealing" });
            let compromise = json!({"end_sessions": end_sessions});
            let (one, other) = (format!("{one}/compromise"), format!("{other}/rotate"));
            let none = json!({});
            let (done, _) = tokio::join!(order(&node, &one, compromise), order(&node, &other, none));
            let after = node.open("alice").await;
            let (status, body) = refresh(&node, &before).await;
            match end_sessions {
                true => assert_eq!(status, 400, "{kind}: {body}"),
                false => assert_eq!(status, 200, "{kind}: {body}"),
            }
            assert_eq!(done["gone"].as_array().unwrap().is_empty(), !end_sessions, "{kind}");
            assert_eq!(refresh(&node, &after).await.0, 200, "{kind}: opened after the answer");
            ended.extend(end_sessions.then_some(before));
        }
    }
    let last = node.open("alice").await;
    over.store(true, Ordering::Relaxed);
    for one in traffic {
        one.await.unwrap();
    }
    let node = Arc::into_inner(node).unwrap().restart(|_, _| {}).await;
    for session in &ended {
        assert_eq!(outcome(&node, session).await, refused());
    }
    assert_eq!(refresh(&node, &last).await.0, 200);
}

/// The answer of the service and the documents say the same.
#[test]
fn the_documents_say_what_the_table_says() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = words(include_str!("../docs/how-to/incident.md"));
    for kind in SecretKind::ALL {
        let e = kind.exposure();
        for said in [e.alone, e.store_read, e.store_write, e.done, e.remains].into_iter().chain(e.with_end_sessions) {
            assert!(page.contains(&words(said)), "docs/how-to/incident.md does not say of the {kind} key: {said}");
        }
    }
}

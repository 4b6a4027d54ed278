//! Verifiers that follow a real node through a network that can be made to fail. Time is the test's where it decides,
//! and the machine's where only sockets wait.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/relay.rs"]
mod relay;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{APP, Harness, Setup, text};
use relay::{Fate, Kind, Relay};
use rescind::{
    clock::{Clock, ManualClock, SystemClock},
    model::{
        SubjectRef, Timestamp, TokenId,
        audit::Draft,
        denial::{Ends, Target},
    },
    store::{Denial, DenyStore},
    verifier::{Builder, MAX_SET, Misuse, Refused, Rejection, Unavailable, Verifier, Verifiers},
};
use serde_json::{Value, json};

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    node: Harness,
    relay: Relay,
}

impl World {
    async fn new() -> Self {
        Self::with(Setup::default()).await
    }
    async fn with(setup: Setup) -> Self {
        let relay = Relay::start().await;
        let node = Harness::with(Setup { issuer: Some(relay.url.clone()), ..setup }).await;
        relay.to(&node.base);
        Self { node, relay }
    }
    /// A verifier whose clocks are the node's.
    fn builder(&self) -> Builder {
        Verifier::builder(&self.relay.url).audience("api").clock(self.node.clock.clone())
    }
    async fn verifier(&self) -> Verifier {
        let verifier = self.builder().follow().unwrap();
        soon(verifier.ready()).await;
        verifier
    }
    async fn token(&self, subject: &str) -> String {
        text(&self.node.open(subject).await, "access_token").to_owned()
    }
    async fn revoke(&self, what: Value) {
        let (status, body) = self.node.post("/v1/revocations", APP, &what).await;
        assert_eq!(status, 201, "{body}");
    }
    /// Something new in the feed that is nobody's loss: whoever waits is answered.
    async fn stir(&self) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let nobody = format!("nobody-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.revoke(json!({"kind": "client", "id": nobody})).await;
    }
    async fn restart(self, change: impl FnOnce(&mut Setup, Option<&std::path::Path>)) -> Self {
        self.relay.nowhere();
        let node = self.node.restart(change).await;
        self.relay.to(&node.base);
        Self { node, relay: self.relay }
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

/// Waits, with a bound, for what must come about by itself.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let clock = SystemClock::default();
    let began = clock.monotonic();
    while !is_so() {
        assert!(clock.monotonic() - began < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn revoked(verifier: &Verifier, token: &str) -> bool {
    verifier.verify(token).err() == Some(Rejection::Revoked.into())
}

fn unavailable(verifier: &Verifier, token: &str) -> Option<Unavailable> {
    match verifier.verify(token) {
        Err(Refused::Unavailable(why)) => Some(why),
        _ => None,
    }
}

fn session_of(token: &str) -> String {
    claim(token, "sid")
}

fn claim(token: &str, name: &str) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_kind_of_revocation_reaches_a_verifier() {
    let w = World::new().await;
    let verifier = w.verifier().await;
    for (kind, id) in
        [("token", "jti"), ("session", "sid"), ("subject", "sub"), ("client", "client_id"), ("all", "jti")]
    {
        let token = w.token("alice").await;
        assert_eq!(verifier.verify(&token).unwrap().subject.as_str(), "alice");
        let mut what = json!({"kind": kind});
        if kind != "all" {
            what["id"] = claim(&token, id).into();
        }
        w.revoke(what).await;
        until(kind, || revoked(&verifier, &token)).await;
        w.node.clock.advance(Duration::from_millis(5));
        assert!(verifier.verify(&w.token("alice").await).is_ok(), "{kind}: what comes after is not hit");
    }
    // A key: its tokens are refused by the feed's word alone, whatever becomes of the key set; those of the new key are
    // good.
    w.node.clock.advance(Duration::from_secs(21 * 60));
    let old = w.token("alice").await;
    w.relay.set(Kind::Keys, Fate::Stall);
    let (status, rotated) = w.node.post("/v1/keys/rotate", APP, &json!({})).await;
    assert_eq!(status, 200, "{rotated}");
    let new = w.token("alice").await;
    w.revoke(json!({"kind": "key", "id": rotated["retiring"]})).await;
    until("key", || revoked(&verifier, &old)).await;
    assert!(verifier.verify(&new).is_ok());
}

#[tokio::test]
async fn a_role_change_ends_tokens_and_not_sessions() {
    let w = World::new().await;
    let verifier = w.verifier().await;
    let session = w.node.open("alice").await;
    w.revoke(json!({"kind": "subject", "id": "alice", "ends": "tokens"})).await;
    until("cut-off", || revoked(&verifier, text(&session, "access_token"))).await;
    let (status, refreshed) = w.node.refresh(text(&session, "refresh_token"), APP).await;
    assert_eq!(status, 200);
    assert!(verifier.verify(text(&refreshed, "access_token")).is_ok());
}

#[tokio::test]
async fn reuse_of_a_refresh_token_closes_the_doors_everywhere() {
    let w = World::new().await;
    let verifier = w.verifier().await;
    let first = w.node.open("alice").await;
    let mut newest = first.clone();
    for _ in 0..3 {
        newest = w.node.refresh(text(&newest, "refresh_token"), APP).await.1;
    }
    assert!(verifier.verify(text(&newest, "access_token")).is_ok());
    w.node.clock.advance(Duration::from_secs(31));
    assert_eq!(w.node.refresh(text(&first, "refresh_token"), APP).await.0, 400);
    until("reuse", || revoked(&verifier, text(&newest, "access_token"))).await;
}

#[tokio::test]
async fn nothing_is_accepted_before_the_first_full_sync() {
    let w = World::new().await;
    let token = w.token("alice").await;
    w.relay.set(Kind::Tail, Fate::Stall);
    let verifier = w.builder().follow().unwrap();
    until("keys", || verifier.health().keys.len() == 3).await;
    assert_eq!(unavailable(&verifier, &token), Some(Unavailable::NotSynced));
    assert_eq!(unavailable(&verifier, "rubbish"), Some(Unavailable::NotSynced), "not even a 401");
}

#[tokio::test]
async fn history_is_read_page_by_page_before_the_first_accept() {
    let w = World::new().await;
    let (revoked_first, good) = (w.token("mallory").await, w.token("alice").await);
    w.revoke(json!({"kind": "token", "id": claim(&revoked_first, "jti")})).await;
    deny_many(&w.node, 2_500).await;
    w.relay.set(Kind::Page, Fate::Stall);
    let verifier = w.builder().follow().unwrap();
    until("a page is asked for", || w.relay.asked(Kind::Page) > 0).await;
    assert_eq!(unavailable(&verifier, &good), Some(Unavailable::NotSynced));
    drop(verifier);
    w.relay.set(Kind::Page, Fate::Pass);
    let verifier = w.verifier().await;
    assert!(revoked(&verifier, &revoked_first) && verifier.verify(&good).is_ok());
    assert_eq!(verifier.health().entries, 2_501);
}

async fn deny_many(node: &Harness, many: u64) {
    deny_some(node, 0..many, None).await;
}

/// Denies made-up tokens; those of the same numbers are the same.
async fn deny_some(node: &Harness, numbers: std::ops::Range<u64>, expires: Option<Timestamp>) {
    let denials = numbers.map(|n| {
        let mut random = [9; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        let target = Target::Token(TokenId::new(node.clock.now(), &random));
        let denial =
            Denial { target, ends: Ends::Tokens, before: None, expires, reason: None, audit: Draft::default() };
        let store = node.store.clone();
        tokio::spawn(async move { store.deny(denial).await.unwrap() })
    });
    for denial in denials.collect::<Vec<_>>() {
        denial.await.unwrap();
    }
}

#[tokio::test]
async fn a_page_that_a_cache_kept_too_long_is_passed_by() {
    let w = World::new().await;
    let store = &w.node.store;
    let in_seconds = |seconds| Some(w.node.clock.now().plus(Duration::from_secs(seconds)));
    // Pages 0 and 3 hold one entry each that lives for an hour, page 2 is gone before, and all else before that.
    deny_some(&w.node, 0..1, in_seconds(3600)).await;
    deny_some(&w.node, 1..2_000, in_seconds(0)).await;
    deny_some(&w.node, 2_000..3_000, in_seconds(600)).await;
    deny_some(&w.node, 3_000..3_001, in_seconds(3600)).await;
    deny_some(&w.node, 3_001..4_001, in_seconds(0)).await;
    let sweep = async || {
        w.node.clock.advance(Duration::from_secs(400));
        for _ in 0..60 {
            let nobody = "nobody".parse().unwrap();
            store.stamp(SubjectRef([0; 16]), nobody, Draft::default()).await.unwrap();
        }
    };
    sweep().await;
    w.relay.set(Kind::Page, Fate::Cache);
    let epoch = store.tail(None, 0).await.unwrap().epoch;
    let kept = w.node.http.get(format!("{}/v1/feed/{epoch}/0", w.relay.url)).send().await.unwrap();
    assert_eq!((kept.status().as_u16(), store.page(0).await.unwrap().unwrap().to.position), (200, 2_000));
    sweep().await;
    assert_eq!(store.page(2).await.unwrap(), None, "what the cache says comes next");
    let asked = w.relay.asked(Kind::Page);
    let verifier = w.verifier().await;
    assert_eq!(verifier.health().entries, 2);
    assert_eq!(w.relay.asked(Kind::Page) - asked, 4, "0 of the cache, 2 in vain, 0 and 3 past the cache");
}

/// Whatever is wrong with the way to the feed: within `max_staleness` nothing is accepted any more, revoked or not, and
/// once the way is free again it opens by itself.
async fn goes_dark(fate: Fate) {
    let w = World::new().await;
    let verifier = w.verifier().await;
    let token = w.token("alice").await;
    assert!(verifier.verify(&token).is_ok());
    // One more answer for a cache to keep.
    until("a second tail", || w.relay.asked(Kind::Tail) >= 2).await;
    w.relay.set(Kind::Tail, fate.clone());
    w.relay.set(Kind::Page, fate.clone());
    // The answer that is already waited for still comes; it says nothing of what follows.
    w.stir().await;
    until("the fate is met", || w.relay.asked(Kind::Tail) >= 3).await;
    w.revoke(json!({"kind": "session", "id": session_of(&token)})).await;
    w.node.clock.advance(Duration::from_secs(30));
    assert_eq!(unavailable(&verifier, &token), Some(Unavailable::Stale), "{fate:?}");
    assert_eq!(unavailable(&verifier, "rubbish"), Some(Unavailable::Stale), "{fate:?}");
    w.relay.set_all(Fate::Pass);
    until("it opens again", || revoked(&verifier, &token)).await;
}

#[tokio::test]
async fn feed_refused() {
    goes_dark(Fate::Reset).await;
}
#[tokio::test]
async fn feed_stalls_half_open() {
    goes_dark(Fate::Stall).await;
}
#[tokio::test]
async fn feed_drips() {
    goes_dark(Fate::Drip).await;
}
#[tokio::test]
async fn feed_answers_from_yesterdays_cache() {
    goes_dark(Fate::Replay).await;
}
#[tokio::test]
async fn feed_answers_500() {
    goes_dark(Fate::Say(500, String::new(), b"oops".to_vec())).await;
}
#[tokio::test]
async fn feed_answers_503() {
    goes_dark(Fate::Say(503, "Retry-After: 30".into(), b"{}".to_vec())).await;
}
#[tokio::test]
async fn feed_redirects() {
    goes_dark(Fate::Say(302, "Location: http://127.0.0.1:1/".into(), Vec::new())).await;
}
#[tokio::test]
async fn feed_is_garbage() {
    goes_dark(Fate::Say(200, "Content-Type: application/jwt".into(), vec![0xff; 3000])).await;
}
#[tokio::test]
async fn feed_never_ends() {
    goes_dark(Fate::Endless).await;
}

#[tokio::test]
async fn it_is_dark_within_max_staleness_and_one_poll_on_the_machines_own_clock() {
    let w = World::new().await;
    let max = Duration::from_secs(2);
    let verifier = Verifier::builder(&w.relay.url).audience("api").clock(w.node.clock.clone());
    // Wall clock as the node's, so that tokens are current; everything else is the machine's.
    let mixed = Mixed(w.node.clock.clone(), SystemClock::default());
    let verifier = verifier.clock(mixed).max_staleness(max).follow().unwrap();
    soon(verifier.ready()).await;
    let token = w.token("alice").await;
    assert!(verifier.verify(&token).is_ok());
    w.relay.set_all(Fate::Stall);
    let clock = SystemClock::default();
    let began = clock.monotonic();
    until("dark", || unavailable(&verifier, &token).is_some()).await;
    let took = clock.monotonic() - began;
    assert!(took <= max + Duration::from_millis(700), "{took:?}: an answer under way may have been the last");
    w.relay.set_all(Fate::Pass);
    until("light", || verifier.verify(&token).is_ok()).await;
}

struct Mixed(Arc<ManualClock>, SystemClock);

impl Clock for Mixed {
    fn now(&self) -> rescind::model::Timestamp {
        self.0.now()
    }
    fn monotonic(&self) -> Duration {
        self.1.monotonic()
    }
    fn boottime(&self) -> Duration {
        self.1.boottime()
    }
}

#[tokio::test]
async fn boots_while_the_service_is_down() {
    let w = World::new().await;
    let token = w.token("alice").await;
    w.relay.nowhere();
    let verifier = w.builder().follow().unwrap();
    until("an error is told", || verifier.health().last_error.is_some()).await;
    assert_eq!(unavailable(&verifier, &token), Some(Unavailable::NotSynced));
    assert!(!verifier.health().keys_current, "it has none");
    w.relay.to(&w.node.base);
    soon(verifier.ready()).await;
    assert!(verifier.verify(&token).is_ok());
    assert_eq!(verifier.health().last_error, None);
}

#[tokio::test]
async fn a_suspended_machine_wakes_up_in_the_dark() {
    let w = World::new().await;
    let verifier = w.verifier().await;
    let token = w.token("alice").await;
    w.relay.set_all(Fate::Stall);
    // Half a minute: the token itself is good for longer than that.
    w.node.clock.suspend(Duration::from_secs(30));
    assert_eq!(unavailable(&verifier, &token), Some(Unavailable::Stale));
}

#[tokio::test]
async fn a_machine_that_wakes_up_does_not_wait_for_news() {
    let w = World::new().await;
    let verifier = w.verifier().await;
    w.node.clock.suspend(Duration::from_secs(30));
    assert_eq!(verifier.health().available, Err(Unavailable::Stale));
    // Ends the question from before the sleep, of which nobody knows when it was answered.
    w.stir().await;
    let soon = tokio::time::timeout(Duration::from_secs(5), verifier.ready());
    soon.await.expect("the next question is answered at once");
}

#[tokio::test]
async fn clocks_that_differ_or_leap_change_nothing_about_freshness_or_revocation() {
    let minute = Duration::from_secs(60);
    let hour = minute * 60;
    for (name, ahead, behind) in [
        ("ahead by a minute", minute, Duration::ZERO),
        ("behind by a minute", Duration::ZERO, minute),
        ("ahead by an hour", hour, Duration::ZERO),
        ("behind by an hour", Duration::ZERO, hour),
    ] {
        let w = World::new().await;
        let ours = Arc::new(ManualClock::new(w.node.clock.now()));
        let verifier = w.builder().clock(ours.clone()).follow().unwrap();
        soon(verifier.ready()).await;
        let (good, bad) = (w.token("alice").await, w.token("mallory").await);
        w.revoke(json!({"kind": "token", "id": claim(&bad, "jti")})).await;
        until(name, || revoked(&verifier, &bad)).await;
        ours.jump(ahead);
        ours.jump_back(behind);
        assert_eq!(unavailable(&verifier, &good), None, "{name}: no clock on the wall says how fresh we are");
        assert_eq!(verifier.verify(&good).is_ok(), ahead < hour, "{name}");
        // For as long as the token could be taken for a live one by anybody, here and after a restart.
        for step in 0..9 {
            w.node.clock.advance(minute);
            ours.advance(minute);
            w.stir().await;
            until("heard", || verifier.health().available.is_ok()).await;
            let fresh = w.builder().clock(ours.clone()).follow().unwrap();
            soon(fresh.ready()).await;
            assert!(verifier.verify(&bad).is_err() && fresh.verify(&bad).is_err(), "{name}, {step} minutes later");
            ours.jump_back(ahead);
            ours.jump(behind);
            assert!(verifier.verify(&bad).is_err(), "{name}, {step} minutes later, the clock set right");
            ours.jump(ahead);
            ours.jump_back(behind);
        }
    }
}

#[tokio::test]
async fn a_wiped_store_says_nothing_and_a_new_one_forgets_nothing() {
    let w = World::with(Setup { on_disk: true, ..Setup::default() }).await;
    let verifier = w.verifier().await;
    let token = w.token("alice").await;
    w.revoke(json!({"kind": "token", "id": claim(&token, "jti")})).await;
    until("revoked", || revoked(&verifier, &token)).await;
    let epoch = verifier.health().epoch;
    let wipe =
        |_: &mut Setup, path: Option<&std::path::Path>| std::fs::remove_file(path.unwrap().join("store.redb")).unwrap();
    let w = w.restart(wipe).await;
    w.node.clock.advance(Duration::from_secs(30));
    until("the node says that it cannot tell", || verifier.health().last_error.is_some()).await;
    assert_eq!(unavailable(&verifier, &token), Some(Unavailable::Stale));
    let accept = |setup: &mut Setup, _: Option<&std::path::Path>| {
        setup.acceptance = rescind::store::embedded::Acceptance::EndSessions;
    };
    let w = w.restart(accept).await;
    until("open again", || verifier.health().available.is_ok()).await;
    assert_ne!(verifier.health().epoch, epoch);
    assert!(revoked(&verifier, &token), "what was known stays known");
    assert!(verifier.verify(&w.token("alice").await).is_ok());
}

#[tokio::test]
async fn an_older_copy_of_the_store_is_another_log() {
    let w = World::with(Setup { on_disk: true, ..Setup::default() }).await;
    let verifier = w.verifier().await;
    let copy = w.node.path().join("copy.redb");
    let w = w
        .restart(|_, path| {
            let path = path.unwrap();
            std::fs::copy(path.join("store.redb"), path.join("copy.redb")).unwrap();
        })
        .await;
    let token = w.token("alice").await;
    w.revoke(json!({"kind": "token", "id": claim(&token, "jti")})).await;
    until("revoked", || revoked(&verifier, &token)).await;
    // With the witness gone too, nothing on the node's side shows that positions are given again. The digest does.
    let w = w
        .restart(|_, path| {
            std::fs::rename(copy, path.unwrap().join("store.redb")).unwrap();
            std::fs::remove_file(path.unwrap().join("keys/witness.json")).unwrap();
        })
        .await;
    let (status, _) = w.node.get("/v1/revocations").await;
    if status == 503 {
        return assert!(revoked(&verifier, &token) || unavailable(&verifier, &token).is_some());
    }
    let other = w.token("mallory").await;
    w.revoke(json!({"kind": "token", "id": claim(&other, "jti")})).await;
    until("the entry at the same position", || revoked(&verifier, &other)).await;
    assert!(revoked(&verifier, &token), "what was known stays known");
}

#[tokio::test]
async fn keys_change_when_the_feed_says_so_and_old_ones_go() {
    let w = World::new().await;
    let verifier = w.verifier().await;
    let before = w.token("alice").await;
    w.node.clock.advance(Duration::from_secs(3600));
    assert_eq!(w.node.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    let after = w.token("alice").await;
    until("the standby had been published", || verifier.verify(&after).is_ok()).await;
    until("four keys", || verifier.health().keys.len() == 4).await;
    assert!(w.relay.asked(Kind::Keys) <= 3, "{}", w.relay.asked(Kind::Keys));
    // The old key leaves when its last token has expired.
    w.node.clock.advance(Duration::from_secs(3600));
    until("three keys", || verifier.health().keys.len() == 3).await;
    assert_eq!(verifier.verify(&before).err(), Some(Rejection::KeyUnknown.into()));
}

/// Whatever the key endpoint says, the set that is known stays, and a token of an unknown key is "cannot tell" while the
/// feed says that there are others.
async fn keeps_its_keys(fate: Fate) {
    keeps_its_keys_in(|_| fate).await;
}

async fn keeps_its_keys_in(fate: impl FnOnce(&World) -> Fate) {
    let w = World::new().await;
    let fate = fate(&w);
    let verifier = w.verifier().await;
    w.relay.set(Kind::Keys, fate.clone());
    w.node.clock.advance(Duration::from_secs(21 * 60));
    assert_eq!(w.node.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    until("it knows that it is behind", || !verifier.health().keys_current).await;
    let token = w.token("alice").await;
    until("heard", || verifier.health().available.is_ok()).await;
    assert!(verifier.verify(&token).is_ok(), "{fate:?}: the standby was known");
    // So was the other one; the third signer is not.
    w.node.clock.advance(Duration::from_secs(21 * 60));
    for _ in 0..2 {
        let now = json!({"dangerous_without_waiting": true});
        assert_eq!(w.node.post("/v1/keys/rotate", APP, &now).await.0, 200);
    }
    until("heard", || verifier.health().available.is_ok()).await;
    let token = w.token("alice").await;
    until("cannot tell", || unavailable(&verifier, &token) == Some(Unavailable::Keys)).await;
    w.relay.set(Kind::Keys, Fate::Pass);
    until("the set is fetched", || verifier.verify(&token).is_ok()).await;
}

fn set_of(keys: &Value) -> Fate {
    Fate::Say(200, "Content-Type: application/json".into(), keys.to_string().into_bytes())
}

#[tokio::test]
async fn keys_answer_500() {
    keeps_its_keys(Fate::Say(500, String::new(), Vec::new())).await;
}
#[tokio::test]
async fn keys_are_garbage() {
    keeps_its_keys(Fate::Say(200, String::new(), b"<html>".to_vec())).await;
}
#[tokio::test]
async fn keys_are_rsa() {
    keeps_its_keys(set_of(&json!({"keys": [{"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"}]}))).await;
}
#[tokio::test]
async fn keys_are_none() {
    keeps_its_keys(set_of(&json!({"keys": []}))).await;
}
#[tokio::test]
async fn keys_are_private() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    keeps_its_keys(set_of(&json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x, "d": x}]}))).await;
}
#[tokio::test]
async fn keys_are_somebody_elses() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    keeps_its_keys(set_of(&json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]}))).await;
}
#[tokio::test]
async fn keys_are_ten_megabytes() {
    keeps_its_keys(Fate::Say(200, String::new(), vec![b' '; 10 << 20])).await;
}
#[tokio::test]
async fn keys_never_end() {
    keeps_its_keys(Fate::Endless).await;
}
#[tokio::test]
async fn keys_redirect_to_where_they_really_are() {
    let elsewhere = Relay::start().await;
    keeps_its_keys_in(|w| {
        elsewhere.to(&w.node.base);
        Fate::Say(302, format!("Location: {}/.well-known/jwks.json", elsewhere.url), Vec::new())
    })
    .await;
    assert_eq!(elsewhere.asked(Kind::Keys), 0, "it went there");
}
#[tokio::test]
async fn keys_come_with_an_error() {
    keeps_its_keys(Fate::Status(500)).await;
}
#[tokio::test]
async fn keys_come_from_an_older_cache() {
    keeps_its_keys(Fate::Replay).await;
}
#[tokio::test]
async fn keys_are_said_to_be_unchanged() {
    keeps_its_keys(Fate::Say(304, String::new(), Vec::new())).await;
}

#[tokio::test]
async fn keys_that_could_not_be_had_are_asked_for_again_without_being_told_to() {
    for fate in [Fate::Say(304, String::new(), Vec::new()), Fate::Say(500, String::new(), Vec::new()), Fate::Replay] {
        let w = World::new().await;
        let verifier = w.verifier().await;
        let asked = w.relay.asked(Kind::Keys);
        w.relay.set(Kind::Keys, fate.clone());
        w.node.clock.advance(Duration::from_secs(21 * 60));
        assert_eq!(w.node.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
        until("asked in vain", || w.relay.asked(Kind::Keys) > asked && !verifier.health().keys_current).await;
        w.relay.set(Kind::Keys, Fate::Pass);
        // No token of an unknown key comes by, and the feed has nothing new to say.
        until(&format!("{fate:?}"), || verifier.health().keys_current).await;
    }
}

#[tokio::test]
async fn keys_of_other_types_beside_ours_are_passed_over() {
    let w = World::new().await;
    let rsa = r#"{"keys":[{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"},"#;
    w.relay.set(Kind::Tail, Fate::Stall);
    w.relay.set(Kind::Keys, Fate::Change(r#"{"keys":["#.into(), rsa.into()));
    let verifier = w.builder().dangerous_allow_stale().follow().unwrap();
    let token = w.token("alice").await;
    until("it verifies by the keys that it found", || verifier.verify(&token).is_ok()).await;
}

#[tokio::test]
async fn keys_that_nobody_confirms_are_given_up_in_the_end() {
    let w = World::new().await;
    let verifier = w.builder().dangerous_allow_stale().follow().unwrap();
    let token = w.token("alice").await;
    until("it verifies", || verifier.verify(&token).is_ok()).await;
    w.relay.set_all(Fate::Reset);
    w.node.clock.suspend(Duration::from_secs(3601));
    assert_eq!(unavailable(&verifier, &token), Some(Unavailable::KeysTooOld));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_kids_fetches_once_and_holds_nobody_up() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let w = World::new().await;
    let verifier = Arc::new(w.verifier().await);
    let (token, fetches) = (w.token("alice").await, w.relay.asked(Kind::Keys));
    let (_, rest) = token.split_once('.').unwrap();
    let flood: Vec<_> = (0..20_000)
        .map(|n| {
            let header = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": format!("unknown-{n}")});
            format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()))
        })
        .collect();
    let (stop, dark) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let good = {
        let (verifier, stop, dark) = (verifier.clone(), stop.clone(), dark.clone());
        tokio::task::spawn_blocking(move || {
            let mut good = 0;
            while !stop.load(Ordering::Relaxed) {
                let outcome = verifier.verify(&token);
                assert!(outcome.is_ok() || dark.load(Ordering::SeqCst), "{outcome:?}");
                good += 1;
            }
            good
        })
    };
    for bad in &flood {
        assert_eq!(verifier.verify(bad).err(), Some(Rejection::KeyUnknown.into()));
        tokio::task::yield_now().await;
    }
    until("the one fetch", || w.relay.asked(Kind::Keys) == fetches + 1).await;
    for bad in &flood {
        assert!(verifier.verify(bad).is_err());
    }
    // The feed's word does not count against it. (An hour without news is one in the dark.)
    dark.store(true, Ordering::SeqCst);
    w.node.clock.advance(Duration::from_secs(3600));
    assert_eq!(w.node.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    until("four keys", || verifier.health().keys.len() == 4).await;
    assert_eq!(w.relay.asked(Kind::Keys), fetches + 2);
    stop.store(true, Ordering::Relaxed);
    assert!(good.await.unwrap() > 0);
}

/// A clock that, asked for the first time after being armed, first lets a revocation arrive.
struct Armed {
    inner: Arc<ManualClock>,
    armed: Arc<AtomicBool>,
    arrive: Box<dyn Fn() + Send + Sync>,
}

impl Clock for Armed {
    fn now(&self) -> rescind::model::Timestamp {
        self.inner.now()
    }
    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }
    fn boottime(&self) -> Duration {
        if self.armed.swap(false, Ordering::SeqCst) {
            (self.arrive)();
        }
        self.inner.boottime()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_during_the_verification_of_the_same_token_wins() {
    let w = World::new().await;
    let (armed, entries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (go, going) = std::sync::mpsc::channel::<()>();
    let arrive = {
        let entries = entries.clone();
        let go = std::sync::Mutex::new(go);
        move || {
            go.lock().unwrap().send(()).unwrap();
            let clock = SystemClock::default();
            let began = clock.monotonic();
            while entries.load(Ordering::SeqCst) == 0 {
                assert!(clock.monotonic() - began < PATIENCE);
                std::thread::yield_now();
            }
        }
    };
    struct Count(Arc<AtomicUsize>);
    impl rescind::verifier::Metrics for Count {
        fn feed_heard(&self, entries: usize) {
            self.0.fetch_add(entries, Ordering::SeqCst);
        }
    }
    let clock = Armed { inner: w.node.clock.clone(), armed: armed.clone(), arrive: Box::new(arrive) };
    let verifier = w.builder().clock(clock).metrics(Count(entries)).follow().unwrap();
    soon(verifier.ready()).await;
    let token = w.token("alice").await;
    let what = json!({"kind": "token", "id": claim(&token, "jti")});
    let verifying = tokio::task::spawn_blocking({
        let token = token.clone();
        move || {
            armed.store(true, Ordering::SeqCst);
            verifier.verify(&token).err()
        }
    });
    tokio::task::spawn_blocking(move || going.recv().unwrap()).await.unwrap();
    w.revoke(what).await;
    assert_eq!(soon(verifying).await.unwrap(), Some(Rejection::Revoked.into()));
}

#[tokio::test]
async fn issuers_side_by_side_share_nothing() {
    let (a, b) = (World::new().await, World::new().await);
    let verifiers = Verifiers::new([a.verifier().await, b.verifier().await]).unwrap();
    let (of_a, of_b) = (a.token("alice").await, b.token("alice").await);
    assert!(verifiers.verify(&of_a).is_ok() && verifiers.verify(&of_b).is_ok());
    let alone = a.verifier().await;
    assert_eq!(alone.verify(&of_b).err(), Some(Rejection::KeyUnknown.into()));
    a.revoke(json!({"kind": "all"})).await;
    until("revoked at one", || verifiers.verify(&of_a).is_err()).await;
    assert!(verifiers.verify(&of_b).is_ok());
    a.relay.set_all(Fate::Reset);
    a.node.clock.advance(Duration::from_secs(30));
    let refused = |token: &str| verifiers.verify(token).err();
    assert_eq!(refused(&of_a), Some(Unavailable::Stale.into()), "one that is dark darkens no other");
    assert!(verifiers.verify(&of_b).is_ok());
    assert_eq!(refused("a.e30.c"), Some(Rejection::NotCanonical.into()));
    let nobody = World::new().await.token("alice").await;
    assert_eq!(refused(&nobody), Some(Rejection::Issuer.into()));
    let twice = Verifiers::new([a.builder().follow().unwrap(), a.builder().follow().unwrap()]);
    assert_eq!(twice.err(), Some(Misuse::IssuerTwice));
}

#[tokio::test]
async fn new_keys_of_everything_are_found_by_the_metadata() {
    let w = World::with(Setup { on_disk: true, ..Setup::default() }).await;
    let verifier = w.verifier().await;
    let w = w
        .restart(|setup, path| {
            std::fs::remove_dir_all(path.unwrap().join("keys")).unwrap();
            setup.acceptance = rescind::store::embedded::Acceptance::EndSessions;
        })
        .await;
    let token = w.token("alice").await;
    until("the feed's new key is known", || verifier.verify(&token).is_ok()).await;
}

#[tokio::test]
async fn dropping_a_verifier_ends_its_task() {
    let w = World::new().await;
    let held = || Arc::strong_count(&w.node.clock);
    let before = held();
    let verifier = w.verifier().await;
    assert!(held() > before);
    drop(verifier);
    until("nobody reads its clock any more", || held() == before).await;
}

#[tokio::test]
async fn metadata_that_sends_us_elsewhere_is_not_followed() {
    let w = World::new().await;
    let own = w.relay.url.clone();
    for (name, from, to) in [
        ("speaks for another", format!("\"issuer\":\"{own}\""), "\"issuer\":\"https://issuer.test\"".to_owned()),
        ("keys elsewhere", format!("{own}/.well-known/jwks.json"), "http://127.0.0.1:1/jwks.json".to_owned()),
        ("feed elsewhere", format!("{own}/v1/feed"), "http://127.0.0.1:1/v1/feed".to_owned()),
        ("no feed", "rescind_feed_uri".to_owned(), "other".to_owned()),
        ("longer than it may be", "\"issuer\"".to_owned(), format!("{}\"issuer\"", " ".repeat(MAX_SET))),
    ] {
        w.relay.set(Kind::Metadata, Fate::Change(from, to));
        let verifier = w.builder().follow().unwrap();
        until(name, || verifier.health().last_error.is_some()).await;
        assert_eq!(verifier.health().available, Err(Unavailable::NotSynced), "{name}");
        let error = verifier.health().last_error.unwrap();
        assert!(error.starts_with(&own) && !error.contains("nonce"), "{error}");
    }
    w.relay.set(Kind::Metadata, Fate::Pass);
    w.verifier().await;
}

#[tokio::test]
async fn a_verifier_that_cannot_be_is_not_built() {
    let build = |issuer: &str| Verifier::builder(issuer).audience("api").follow().err();
    for bad in ["http://issuer.example", "issuer", "ftp://127.0.0.1", "http://127.0.0.1.example"] {
        assert_eq!(build(bad), Some(Misuse::IssuerUrl), "{bad}");
    }
    let staleness = |d: Duration| Verifier::builder("https://issuer.example").audience("api").max_staleness(d).follow();
    assert_eq!(staleness(Duration::from_millis(999)).err(), Some(Misuse::MaxStaleness));
    assert_eq!(staleness(Duration::from_secs(301)).err(), Some(Misuse::MaxStaleness));
    let outside = std::thread::spawn(|| Verifier::builder("https://issuer.example").audience("api").follow().err());
    assert_eq!(outside.join().unwrap(), Some(Misuse::NoRuntime));
}

#[tokio::test]
async fn at_its_cap_a_verifier_refuses_until_there_is_room() {
    let w = World::new().await;
    deny_many(&w.node, 20).await;
    let verifier = w.builder().max_entries(10).follow().unwrap();
    let token = w.token("alice").await;
    until("full", || unavailable(&verifier, &token) == Some(Unavailable::Full)).await;
    w.node.clock.advance(Duration::from_secs(600));
    let token = w.token("alice").await;
    until("room again", || verifier.verify(&token).is_ok()).await;
}

#[tokio::test]
async fn what_was_carried_by_hand_is_refused_and_makes_nothing_available() {
    let w = World::new().await;
    let token = w.token("alice").await;
    w.revoke(json!({"kind": "token", "id": claim(&token, "jti")})).await;
    let following = w.verifier().await;
    let answer = w.relay.recorded(Kind::Tail);
    let answer = String::from_utf8(answer).unwrap();
    let jws = answer.rsplit("\r\n").next().unwrap();
    let (_, metadata) = w.node.get("/.well-known/oauth-authorization-server").await;
    let (_, keys) = w.node.get("/.well-known/jwks.json").await;
    let set = |v: &Value| rescind::model::JwkSet::parse(v.to_string().as_bytes()).unwrap();
    let builder = || w.builder().keys(set(&keys)).dangerous_allow_stale();
    let by_hand = builder().feed_keys(set(&metadata["rescind_feed_jwks"])).build().unwrap();
    assert!(by_hand.verify(&token).is_ok(), "nobody has told it yet");
    assert_eq!(by_hand.merge(jws).unwrap(), 1);
    assert!(revoked(&by_hand, &token) && revoked(&following, &token));
    let stranger = builder().feed_keys(set(&keys)).build().unwrap();
    assert!(stranger.merge(jws).is_err(), "a key of tokens signs no feed");
}

#[tokio::test]
async fn what_was_carried_by_hand_tells_the_time_and_never_takes_it_back() {
    let w = World::new().await;
    let token = w.token("alice").await;
    w.revoke(json!({"kind": "token", "id": claim(&token, "jti")})).await;
    let carry = async || {
        let tail = format!("{}/v1/feed?nonce={}", w.node.base, "A".repeat(22));
        w.node.http.get(tail).send().await.unwrap().text().await.unwrap()
    };
    let ours = Arc::new(ManualClock::new(w.node.clock.now()));
    let early = carry().await;
    w.node.clock.advance(Duration::from_secs(600));
    let late = carry().await;
    let (_, metadata) = w.node.get("/.well-known/oauth-authorization-server").await;
    let (_, keys) = w.node.get("/.well-known/jwks.json").await;
    let set = |v: &Value| rescind::model::JwkSet::parse(v.to_string().as_bytes()).unwrap();
    let builder = w.builder().clock(ours).keys(set(&keys)).feed_keys(set(&metadata["rescind_feed_jwks"]));
    let by_hand = builder.dangerous_allow_stale().build().unwrap();
    by_hand.merge(&early).unwrap();
    assert!(revoked(&by_hand, &token));
    by_hand.merge(&late).unwrap();
    assert_eq!(by_hand.health().entries, 0, "its token has expired by the issuer's clock");
    by_hand.merge(&early).unwrap();
    assert_eq!(by_hand.verify(&token).err(), Some(Rejection::Expired.into()), "by our own clock it lives");
}

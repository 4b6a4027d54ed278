//! What makes a verifier believe something that is no longer so, or doubt something that is: stalls, leaps of the
//! issuer's clock, a service that is full, history that is not to be had.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/forge.rs"]
mod forge;
#[path = "common/harness.rs"]
mod harness;
#[path = "common/relay.rs"]
mod relay;

use std::{future::Future, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use forge::Forge;
use harness::{APP, Harness, Setup, text};
use relay::{Fate, Kind, Relay};
use rescind::{
    clock::{Clock, ManualClock, SystemClock, SystemRandom},
    feed::{Ask, Feed},
    http::Limits,
    keyring::{Keyring, Settings, schedule::Timing},
    model::{
        Algorithm, ClientId, Kid, SubjectRef, Timestamp, TokenId,
        audit::Draft,
        denial::{Bearer, Ends, Entry, Retention, Target},
        family::Lifetimes,
        feed::{Epoch, Mark, Nonce},
    },
    store::{
        Denial, DenyStore, LogPage, LogTail, Page, StoreError,
        embedded::{EmbeddedStore, Options},
    },
    verifier::{Rejection, Verifier},
};
use serde_json::{Value, json};

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

fn claim(token: &str, name: &str) -> String {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims[name].as_str().unwrap().to_owned()
}

/// A store whose reads take a while: what they give is as old as that when they end.
struct Slow {
    store: EmbeddedStore,
    clock: Arc<ManualClock>,
    takes: Duration,
}

impl DenyStore for Slow {
    async fn deny(&self, denial: Denial) -> Result<Option<Entry>, StoreError> {
        self.store.deny(denial).await
    }
    async fn deny_of(&self, subject: SubjectRef, most: u32, denial: Denial) -> Result<Option<Entry>, StoreError> {
        self.store.deny_of(subject, most, denial).await
    }
    async fn denied(&self, bearer: Bearer) -> Result<bool, StoreError> {
        self.store.denied(bearer).await
    }
    async fn denied_key(&self, kid: &Kid) -> Result<bool, StoreError> {
        self.store.denied_key(kid).await
    }
    async fn entries(&self, after: u64, limit: usize) -> Result<Page, StoreError> {
        self.store.entries(after, limit).await
    }
    async fn tail(&self, after: Option<(Epoch, Mark)>, limit: u64) -> Result<LogTail, StoreError> {
        let tail = self.store.tail(after, limit).await;
        self.clock.advance(self.takes);
        tail
    }
    async fn page(&self, page: u64) -> Result<Option<LogPage>, StoreError> {
        self.store.page(page).await
    }
    async fn appended(&self, position: u64) -> u64 {
        self.store.appended(position).await
    }
    fn expired_by(&self) -> Timestamp {
        self.store.expired_by()
    }
    async fn stamp(&self, subject: SubjectRef, client: ClientId, audit: Draft) -> Result<Timestamp, StoreError> {
        self.store.stamp(subject, client, audit).await
    }
}

/// A follower adds `waited` to the instant of its question, and takes the sum for when the log ended there.
#[tokio::test]
async fn time_that_reading_the_store_took_proves_nothing() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_795_374_805)));
    let timing = Timing::default();
    let settings = Settings { algorithm: Algorithm::EdDSA, timing };
    let keyring = Keyring::ephemeral(settings, clock.clone(), Arc::new(SystemRandom)).unwrap();
    let options = Options::new(Retention { access: secs(300), session: secs(86_400) });
    let store = EmbeddedStore::in_memory(options, clock.clone(), &SystemRandom).unwrap();
    let store = Arc::new(Slow { store, clock: clock.clone(), takes: secs(20) });
    let feed = Feed::new("https://issuer.test", store, Arc::new(keyring), clock);
    let waited = |jws: String| {
        let payload = BASE64_URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap();
        let tail: Value = serde_json::from_slice(&payload).unwrap();
        (tail["waited"].as_u64().unwrap(), serde_json::from_value::<rescind::model::feed::Tail>(tail).unwrap())
    };
    let ask = Ask { nonce: Nonce([1; 16]), at: None, keys: None, wait: Duration::ZERO };
    let (first, tail) = waited(feed.tail(ask, 9, std::future::pending()).await.unwrap().jws);
    assert_eq!(first, 0, "it did not wait");
    // It waits, by the runtime's clock; the first look took 20 s before that, the second one 20 s after.
    let ask = Ask { at: Some((tail.epoch, tail.to)), wait: Duration::from_millis(1), ..ask };
    let (second, _) = waited(feed.tail(ask, 9, std::future::pending()).await.unwrap().jws);
    assert_eq!(second, 20_000, "what was written during the second look may be missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_the_clock_is_ahead_has_ended() {
    let node = Harness::start().await;
    let ended = node.open("alice").await;
    let logged_out = node.open("bob").await;
    node.clock.jump(secs(3600));
    let session = claim(text(&ended, "access_token"), "sid");
    let (status, _) = node.post("/v1/revocations", APP, &json!({"kind": "session", "id": session})).await;
    assert_eq!(status, 201);
    let refresh = text(&logged_out, "refresh_token");
    assert_eq!(node.form("/oauth2/revoke", APP, &[("token", refresh)]).await.0, 200);
    node.clock.jump_back(secs(3600));
    assert!(!node.active(text(&ended, "access_token")).await);
    assert!(!node.active(text(&logged_out, "access_token")).await, "logged out by the refresh token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_handed_back_while_the_clock_is_ahead_is_denied() {
    let node = Harness::start().await;
    let opened = node.open("alice").await;
    let token = text(&opened, "access_token");
    node.clock.jump(secs(3600));
    assert_eq!(node.form("/oauth2/revoke", APP, &[("token", token)]).await.0, 200);
    node.clock.jump_back(secs(3600));
    assert!(!node.active(token).await, "200 said that it was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_an_hour_ahead_can_be_handed_back() {
    let node = Harness::start().await;
    node.clock.jump(secs(3600));
    let opened = node.open("alice").await;
    let token = text(&opened, "access_token");
    node.clock.jump_back(secs(3600));
    assert_eq!(node.form("/oauth2/revoke", APP, &[("token", token)]).await.0, 200);
    node.clock.advance(secs(3660));
    assert!(!node.active(token).await, "200 said that it was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_by_a_clock_that_was_set_back_does_not_come_alive() {
    let node = Harness::start().await;
    node.clock.jump(secs(120));
    // Believed by then.
    node.clock.advance(secs(20 * 60));
    let opened = node.open("alice").await;
    let token = text(&opened, "access_token");
    let what = json!({"kind": "token", "id": claim(token, "jti")});
    assert_eq!(node.post("/v1/revocations", APP, &what).await.0, 201);
    node.clock.advance(secs(366));
    // Each step takes some of what has expired along.
    node.open("bob").await;
    // Right again: by this clock the token has a minute to live.
    node.clock.jump_back(secs(120));
    soon(async {
        while node.active(token).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let (status, refreshed) = node.refresh(text(&opened, "refresh_token"), APP).await;
    assert_eq!(status, 200, "sessions go on");
    assert!(node.active(text(&refreshed, "access_token")).await, "what is minted from now on is not hit");
}

struct World {
    node: Harness,
    relay: Relay,
}

impl World {
    async fn with(setup: Setup) -> Self {
        let relay = Relay::start().await;
        let node = Harness::with(Setup { issuer: Some(relay.url.clone()), ..setup }).await;
        relay.to(&node.base);
        Self { node, relay }
    }
    async fn verifier(&self) -> Verifier {
        let builder = Verifier::builder(&self.relay.url).audience("api").clock(self.node.clock.clone());
        let verifier = builder.follow().unwrap();
        soon(verifier.ready()).await;
        verifier
    }
    async fn revoked_token(&self) -> String {
        let token = text(&self.node.open("mallory").await, "access_token").to_owned();
        let what = json!({"kind": "token", "id": claim(&token, "jti")});
        assert_eq!(self.node.post("/v1/revocations", APP, &what).await.0, 201);
        token
    }
    /// The clock is ahead for a while in which the node has something to do.
    async fn leap(&self, ahead: Duration, lasting: Duration) {
        self.node.clock.jump(ahead);
        for _ in 0..8 {
            self.node.open("somebody").await;
            self.node.clock.advance(lasting / 8);
        }
        self.node.open("somebody").await;
        self.node.clock.jump_back(ahead);
    }
}

/// Verifiers allow a minute of leeway: what is forgotten earlier than five seconds before its time comes alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_leap_of_less_than_a_minute_forgets_no_revocation() {
    let w = World::with(Setup::default()).await;
    let token = w.revoked_token().await;
    w.node.clock.advance(secs(310));
    w.leap(secs(59), Duration::ZERO).await;
    let verifier = w.verifier().await;
    assert_eq!(verifier.verify(&token).unwrap_err(), Rejection::Revoked.into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_is_doubted_for_as_long_as_tokens_live() {
    let hour = secs(3600);
    let setup = Setup::default();
    let w = World::with(Setup { lives: Lifetimes { access: hour, ..setup.lives }, ..setup }).await;
    let token = w.revoked_token().await;
    w.leap(3 * hour, secs(1200)).await;
    let verifier = w.verifier().await;
    assert_eq!(verifier.verify(&token).unwrap_err(), Rejection::Revoked.into());
}

/// Who takes all places slows followers down; he must not make them unavailable.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_service_makes_no_verifier_unavailable() {
    let limits = Limits { followers: 0, ..Limits::default() };
    let w = World::with(Setup { limits, ..Setup::default() }).await;
    let builder = Verifier::builder(&w.relay.url).audience("api").max_staleness(secs(1));
    let verifier = builder.follow().unwrap();
    soon(verifier.ready()).await;
    let clock = SystemClock::default();
    while clock.monotonic() < secs(4) {
        assert_eq!(verifier.health().available, Ok(()), "after {:?}", clock.monotonic());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A third of its `max_staleness` between them.
    assert!(w.relay.asked(Kind::Tail) <= 20, "asked {} times in 4 s", w.relay.asked(Kind::Tail));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_cannot_be_had_is_asked_for_ever_less_often() {
    let w = World::with(Setup::default()).await;
    for n in 0..1_100_u64 {
        let mut random = [9; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        let target = Target::Token(TokenId::new(w.node.clock.now(), &random));
        let store = w.node.store.clone();
        let denial =
            Denial { target, ends: Ends::Tokens, before: None, expires: None, reason: None, audit: Draft::default() };
        store.deny(denial).await.unwrap().unwrap();
    }
    w.relay.set(Kind::Page, Fate::Say(503, String::new(), Vec::new()));
    let verifier = Verifier::builder(&w.relay.url).audience("api").follow().unwrap();
    tokio::time::sleep(secs(5)).await;
    let asked = w.relay.asked(Kind::Tail);
    assert!((2..=10).contains(&asked), "each time with a thousand entries: {asked} times in 5 s");
    w.relay.set(Kind::Page, Fate::Pass);
    soon(verifier.ready()).await;
}

/// A clock by which a test gets between two steps of a verification.
struct Meanwhile(Arc<std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>>);

impl Clock for Meanwhile {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_374_805)
    }
    fn monotonic(&self) -> Duration {
        if let Some(act) = self.0.get() {
            act();
        }
        Duration::from_secs(1)
    }
}

#[test]
fn keys_that_come_while_a_token_is_judged_count() {
    let (old, new) = (Forge::new(1_795_374_805), Forge::new(1_795_374_805));
    let meanwhile = Arc::new(std::sync::OnceLock::new());
    let builder = Verifier::builder(forge::ISSUER).audience(forge::AUDIENCE).keys(old.jwks());
    let builder = builder.clock(Meanwhile(meanwhile.clone())).dangerous_allow_stale();
    let verifier = Arc::new(builder.build().unwrap());
    let (token, keys) = (new.token(), new.jwks());
    assert_eq!(verifier.verify(&token).unwrap_err(), Rejection::KeyUnknown.into());
    let other = verifier.clone();
    let _ = meanwhile.set(Box::new(move || other.set_keys(keys.clone())));
    assert!(verifier.verify(&token).is_ok(), "401 for a good token, because we had just been behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_takes_no_key_away_from_tokens_that_live() {
    let node = Harness::start().await;
    node.clock.advance(secs(3600));
    let opened = node.open("alice").await;
    assert_eq!(node.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    node.clock.jump(secs(3600));
    node.service.housekeep().await;
    node.clock.jump_back(secs(3600));
    assert!(node.active(text(&opened, "access_token")).await, "its key is gone for ever");
}

/// A cache that heeds no `Cache-Control` of a request keeps the key set of yesterday.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_keeps_an_old_key_set_keeps_nobody_from_starting() {
    let w = World::with(Setup::default()).await;
    w.relay.set(Kind::Keys, Fate::Cache);
    let before = w.verifier().await;
    w.node.clock.advance(secs(3600));
    assert_eq!(w.node.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    let _after = w.verifier().await;
    let token = text(&w.node.open("alice").await, "access_token").to_owned();
    let current = async {
        while before.verify(&token).is_err() || !before.health().keys_current {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(current).await;
}

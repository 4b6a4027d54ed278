//! The revocation feed over HTTP, read as a follower reads it: signatures, marks and nonces checked on each answer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::Response;
use rescind::{
    clock::Clock,
    model::{
        Kid, PublicKey, SessionId, TokenId,
        audit::Draft,
        denial::{Ends, LEEWAY_AND_MARGIN, Target},
        feed::{Digest, Epoch, Item, Mark, Nonce, PAGE, PAGE_TYPE, Page, TAIL_TYPE, Tail},
    },
    store::{Denial, DenyStore, FamilyStore, embedded::EmbeddedStore},
};
use serde_json::{Value, json};

#[path = "common/harness.rs"]
mod harness;

use harness::{APP, Harness, ISSUER, Setup, text};

/// Reads the feed of a node, and believes nothing that is not signed.
#[derive(Clone)]
struct Reader {
    http: reqwest::Client,
    url: String,
    kid: Kid,
    key: PublicKey,
}

impl Reader {
    async fn new(harness: &Harness) -> Self {
        let (_, metadata) = harness.get("/.well-known/oauth-authorization-server").await;
        assert_eq!(metadata["rescind_feed_uri"], format!("{ISSUER}/v1/feed"));
        let keys = metadata["rescind_feed_jwks"]["keys"].as_array().unwrap();
        let key = PublicKey::from_x(text(&keys[0], "x")).unwrap();
        let kid = text(&keys[0], "kid").parse().unwrap();
        Self { http: harness.http.clone(), url: format!("{}/v1/feed", harness.base), kid, key }
    }

    /// The payload of a compact JWS, if the feed's key has signed it as one of that type.
    fn open(&self, kind: &str, jws: &str) -> Value {
        let (signed, signature) = jws.rsplit_once('.').unwrap();
        let (header, payload) = signed.split_once('.').unwrap();
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let header: Value = serde_json::from_slice(&decode(header)).unwrap();
        assert_eq!(header, json!({"typ": kind, "alg": "EdDSA", "kid": self.kid}));
        assert!(self.key.verifies(signed.as_bytes(), &decode(signature).try_into().unwrap()));
        serde_json::from_slice(&decode(payload)).unwrap()
    }

    async fn ask(&self, at: Option<(Epoch, Mark)>, wait: u64) -> (Nonce, Response) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let nonce = Nonce(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes());
        let mut url = format!("{}?nonce={nonce}&wait={wait}", self.url);
        if let Some((epoch, mark)) = at {
            url += &format!("&epoch={epoch}&position={}&digest={}", mark.position, mark.digest);
        }
        (nonce, self.http.get(url).send().await.unwrap())
    }

    async fn tail(&self, at: Option<(Epoch, Mark)>, wait: u64) -> Tail {
        let (nonce, answer) = self.ask(at, wait).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/jwt");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let tail: Tail = serde_json::from_value(self.open(TAIL_TYPE, &answer.text().await.unwrap())).unwrap();
        assert_eq!((&*tail.issuer, tail.nonce), (ISSUER, nonce));
        tail
    }

    async fn page(&self, epoch: Epoch, number: u64) -> Option<Page> {
        let answer = self.http.get(format!("{}/{epoch}/{number}", self.url)).send().await.unwrap();
        if answer.status() == 404 {
            assert_eq!(answer.headers()["cache-control"], "no-store");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["code"], "no_such_page");
            return None;
        }
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/jwt");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=3600");
        let page: Page = serde_json::from_value(self.open(PAGE_TYPE, &answer.text().await.unwrap())).unwrap();
        assert_eq!((&*page.issuer, page.epoch), (ISSUER, epoch));
        Some(page)
    }

    /// All pages and the tail, each joined to the one before.
    async fn everything(&self) -> (Vec<Page>, Tail) {
        let tail = self.tail(None, 0).await;
        let (mut pages, mut number): (Vec<Page>, _) = (Vec::new(), tail.first_page);
        while number < tail.from.position / PAGE {
            let page = self.page(tail.epoch, number).await.unwrap();
            assert!(pages.last().is_none_or(|before| before.to == page.from));
            number = page.to.position / PAGE;
            pages.push(page);
        }
        assert!(pages.last().is_none_or(|last| last.to == tail.from));
        (pages, tail)
    }
}

fn all_entries((pages, tail): &(Vec<Page>, Tail)) -> Vec<Item> {
    pages.iter().flat_map(|p| &p.entries).chain(&tail.entries).cloned().collect()
}

/// So many tokens denied, past the HTTP face: one request after the other would take minutes.
async fn deny_many(harness: &Harness, many: u64, seed: u8) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..many {
        let mut random = [seed; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        let target = Target::Token(TokenId::new(harness.clock.now(), &random));
        let (store, expires) = (harness.store.clone(), Some(harness.clock.now()));
        let denial =
            Denial { target, ends: Ends::Tokens, before: None, expires, reason: None, audit: Draft::default() };
        tasks.spawn(async move { store.deny(denial).await.unwrap().unwrap() });
    }
    tasks.join_all().await;
}

/// Lets the store remove what has expired: any step does.
async fn sweep(store: &EmbeddedStore) {
    for _ in 0..60 {
        let client = "nobody".parse().unwrap();
        store.stamp(rescind::model::SubjectRef([0; 16]), client, Draft::default()).await.unwrap();
    }
}

/// By the news, and not by the end of the time that a follower would wait.
async fn soon<T>(told: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("told before its time was over")
}

/// Until so many followers wait, as the metrics say.
async fn followers_wait(harness: &Harness, many: usize) {
    let line = format!("rescind_feed_followers {many}");
    for _ in 0..2000 {
        let (_, metrics) = harness::answer(harness.http.get(format!("{}/metrics", harness.operations))).await;
        if metrics.as_str().unwrap().lines().any(|l| l == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain for {line}");
}

async fn revoke_session(harness: &Harness) -> SessionId {
    let session = harness.open("alice").await;
    let id = text(&session, "session_id");
    let (status, answer) = harness.post("/v1/revocations", APP, &json!({"kind": "session", "id": id})).await;
    assert_eq!(status, 201, "{answer}");
    id.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_in_the_tail_and_no_person_is() {
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    let empty = reader.tail(None, 0).await;
    assert_eq!((empty.head, empty.from, &empty.entries), (0, empty.to, &vec![]));
    assert_eq!((empty.now, empty.pause), (harness.clock.now(), None));
    let id = revoke_session(&harness).await;
    let body = json!({"kind": "subject", "id": "alice@example.com", "reason": "alice@example.com left"});
    assert_eq!(harness.post("/v1/revocations", APP, &body).await.0, 201);
    let (_, answer) = reader.ask(Some((empty.epoch, empty.to)), 10_000).await;
    let jws = answer.text().await.unwrap();
    let payload = reader.open(TAIL_TYPE, &jws);
    assert!(!payload.to_string().contains("alice"), "{payload}");
    let tail: Tail = serde_json::from_value(payload).unwrap();
    assert_eq!((tail.from, tail.to.position, tail.head, tail.first_page), (empty.to, 2, 2, 0));
    assert_eq!(tail.entries[0].target, Target::Session(id));
    assert!(matches!(tail.entries[1].target, Target::Subject(_)));
    assert!(tail.entries[1].before > harness.clock.now(), "all that was minted up to now");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_tail_join_into_all_that_is_denied() {
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    deny_many(&harness, 2500, 1).await;
    let all = reader.everything().await;
    assert_eq!((all.0.len(), all.1.entries.len(), all.1.head), (2, 500, 2500));
    let live: Vec<Item> = harness.store.entries(0, 5000).await.unwrap().entries.iter().map(Item::from).collect();
    assert!(all_entries(&all) == live, "2,500 entries are too many to print");
    for (epoch, page) in [(all.1.epoch, 2), (all.1.epoch, u64::MAX), (Epoch([1; 16]), 0)] {
        assert_eq!(reader.page(epoch, page).await, None);
    }
    for path in
        [format!("{}/00", all.1.epoch), format!("{}/+1", all.1.epoch), format!("{}/x", all.1.epoch), "x/0".into()]
    {
        let answer = reader.http.get(format!("{}/{path}", reader.url)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_leaves_and_an_entry_for_ever_keeps_only_its_page() {
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    let key = Target::Key("compromised".parse().unwrap());
    let denial = Denial {
        target: key.clone(),
        ends: Ends::Tokens,
        before: None,
        expires: None,
        reason: None,
        audit: Draft::default(),
    };
    harness.store.deny(denial).await.unwrap().unwrap();
    deny_many(&harness, 3 * PAGE, 1).await;
    assert_eq!(reader.everything().await.0.len(), 3);
    harness.clock.advance(LEEWAY_AND_MARGIN);
    let all = reader.everything().await;
    assert_eq!(all_entries(&all).len(), 1, "gone by then, swept or not");
    assert_eq!(all.1.now, harness.clock.now());
    sweep(&harness.store).await;
    let all = reader.everything().await;
    assert_eq!((all.0.len(), all.1.head, all.1.first_page), (1, 3001, 0));
    assert_eq!(all_entries(&all)[0].target, key);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_at_the_end_is_answered_by_the_next_revocation() {
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    let at = reader.tail(None, 0).await;
    let (waiting, cursor) = (reader.clone(), Some((at.epoch, at.to)));
    let waiting = tokio::spawn(async move { waiting.tail(cursor, 10_000).await });
    followers_wait(&harness, 1).await;
    harness.clock.advance(Duration::from_micros(1_999));
    let id = revoke_session(&harness).await;
    let tail = soon(waiting).await.unwrap();
    assert_eq!((tail.from, tail.head, tail.waited), (at.to, 1, 1));
    assert_eq!(tail.entries[0].target, Target::Session(id));
    followers_wait(&harness, 0).await;
    // Its time over, it is answered with nothing, and stands where it stood.
    let quiet = reader.tail(Some((tail.epoch, tail.to)), 30).await;
    assert_eq!((quiet.from, quiet.to, quiet.entries), (tail.to, tail.to, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_of_other_keys() {
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    let at = reader.tail(None, 0).await;
    let (waiting, cursor) = (reader.clone(), Some((at.epoch, at.to)));
    let waiting = tokio::spawn(async move { waiting.tail(cursor, 10_000).await });
    followers_wait(&harness, 1).await;
    harness.clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(harness.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    let tail = soon(waiting).await.unwrap();
    assert_ne!(tail.keys, at.keys);
    assert_eq!(tail.entries, []);
    let set = harness.http.get(format!("{}/.well-known/jwks.json", harness.base)).send().await.unwrap();
    let etag = set.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", tail.keys), "the hash over what is served");
    assert!(!set.text().await.unwrap().contains(reader.kid.as_str()), "no token may be signed by the feed's key");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_before_the_time_of_a_request_does() {
    let mut setup = Setup::default();
    setup.limits.request_timeout = Duration::from_millis(300);
    let harness = Harness::with(setup).await;
    let reader = Reader::new(&harness).await;
    let at = reader.tail(None, 0).await;
    let quiet = reader.tail(Some((at.epoch, at.to)), 10_000).await;
    assert_eq!((quiet.to, quiet.entries), (at.to, vec![]), "an answer, and no 503");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_another_log_is_answered_from_the_last_page_at_once() {
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    deny_many(&harness, PAGE + 7, 1).await;
    let whole = reader.tail(None, 0).await;
    let other = Mark { position: whole.head, digest: Digest([1; 32]) };
    for at in [(whole.epoch, other), (Epoch([1; 16]), whole.to)] {
        let tail = soon(reader.tail(Some(at), 10_000)).await;
        assert_eq!((tail.from.position, tail.from, tail.to), (PAGE, whole.from, whole.to));
        assert_eq!(tail.entries.len(), 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_cap_followers_are_answered_and_asked_to_come_less_often() {
    let mut setup = Setup::default();
    setup.limits.followers = 3;
    let harness = Harness::with(setup).await;
    let reader = Reader::new(&harness).await;
    let at = reader.tail(None, 0).await;
    let cursor = Some((at.epoch, at.to));
    let wait = || {
        let reader = reader.clone();
        tokio::spawn(async move { reader.tail(cursor, 10_000).await })
    };
    let (one, two, _three) = (wait(), wait(), wait());
    followers_wait(&harness, 3).await;
    let full = soon(reader.tail(cursor, 10_000)).await;
    assert_eq!((full.pause, full.to), (Some(2000), at.to));
    // One that goes away leaves its place.
    one.abort();
    followers_wait(&harness, 2).await;
    let four = wait();
    followers_wait(&harness, 3).await;
    revoke_session(&harness).await;
    for told in [two, four] {
        let told = soon(told).await.unwrap();
        assert_eq!((told.entries.len(), told.pause), (1, None));
    }
    assert_eq!(reader.tail(cursor, 10_000).await.pause, None, "who has missed something never waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_refused_by_name() {
    let harness = Harness::start().await;
    let (nonce, digest) = ("AAAAAAAAAAAAAAAAAAAAAA", "A".repeat(43));
    let good = format!("nonce={nonce}&epoch={nonce}&position=0&digest={digest}&wait=0");
    let cases = [
        ("".into(), "nonce"),
        ("nonce=".into(), "nonce"),
        ("nonce=AAAA".into(), "nonce"),
        ("nonce=AAAAAAAAAAAAAAAAAAAAAB".into(), "nonce"),
        (good.replace("epoch=A", "epoch=!"), "epoch"),
        (good.replace("position=0", "position=-1"), "position"),
        (good.replace("position=0", "position=99999999999999999999"), "position"),
        (good.replace(&digest, "A"), "digest"),
        (good.replace("wait=0", "wait=10001"), "wait"),
        (good.replace("wait=0", "wait=soon"), "wait"),
        (format!("nonce={nonce}&position=0"), "position"),
        (format!("nonce={nonce}&epoch={nonce}&digest={digest}"), "position"),
        (format!("{good}&zebra=1"), "query"),
        (format!("{good}&nonce={nonce}"), "query"),
    ];
    assert_eq!(harness.get(&format!("/v1/feed?{good}")).await.0, 200);
    for (query, field) in cases {
        let (status, problem) = harness.get(&format!("/v1/feed?{query}")).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{query}: {problem}");
        assert_eq!(problem["field"], field, "{query}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_follower() {
    let mut harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    let at = reader.tail(None, 0).await;
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let reader = reader.clone();
            tokio::spawn(async move { reader.tail(Some((at.epoch, at.to)), 10_000).await })
        })
        .collect();
    followers_wait(&harness, 50).await;
    soon(harness.stop()).await;
    for told in waiting {
        assert_eq!(told.await.unwrap().to, at.to, "answered like anyone else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing_of_the_log() {
    let harness = Harness::on_disk().await;
    let reader = Reader::new(&harness).await;
    deny_many(&harness, PAGE + 20, 1).await;
    let (pages, tail) = reader.everything().await;
    let half = reader.tail(Some((tail.epoch, tail.from)), 0).await;
    let harness = harness.restart(|_, _| {}).await;
    let again = Reader::new(&harness).await;
    assert_eq!(again.kid, reader.kid);
    let (pages_again, tail_again) = again.everything().await;
    assert_eq!(pages_again, pages);
    assert_eq!(Tail { nonce: tail.nonce, ..tail_again }, tail);
    let half_again = again.tail(Some((tail.epoch, tail.from)), 0).await;
    assert_eq!((half_again.from, half_again.to, half_again.entries), (half.from, half.to, half.entries));
    // And goes on from there.
    revoke_session(&harness).await;
    assert_eq!(again.tail(Some((tail.epoch, tail.to)), 0).await.from, tail.to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_came_back_older_says_nothing_until_somebody_decides() {
    let harness = Harness::on_disk().await;
    let epoch = Reader::new(&harness).await.tail(None, 0).await.epoch;
    let harness = harness.restart(|_, path| std::fs::remove_file(path.unwrap().join("store.redb")).unwrap()).await;
    assert_ne!(harness.store.standing(), rescind::model::family::Standing::Whole);
    let reader = Reader::new(&harness).await;
    let page = reader.http.get(format!("{}/{epoch}/0", reader.url)).send().await.unwrap();
    for answer in [reader.ask(None, 0).await.1, page] {
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "store_not_whole");
    }
    let accept = |setup: &mut Setup, _: Option<&std::path::Path>| {
        setup.acceptance = rescind::store::embedded::Acceptance::EndSessions;
    };
    let harness = harness.restart(accept).await;
    let tail = Reader::new(&harness).await.tail(None, 0).await;
    assert_ne!(tail.epoch, epoch);
    assert_eq!(tail.entries[0].target, Target::All);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_feeds_key_signs_is_no_token() {
    let harness = Harness::on_disk().await;
    let secrets = std::fs::read(harness.path().join("keys/secrets.json")).unwrap();
    let secrets: Value = serde_json::from_slice(&secrets).unwrap();
    let seed = BASE64_URL_SAFE_NO_PAD.decode(text(&secrets["feed"][0], "key")).unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(&seed.try_into().unwrap());
    let feed_kid = Reader::new(&harness).await.kid;
    let session = harness.open("alice").await;
    let good = text(&session, "access_token");
    assert!(harness.active(good).await);
    let [header, claims] = [0, 1].map(|n| good.split('.').nth(n).unwrap());
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    let mut header: Value = serde_json::from_slice(&header).unwrap();
    for kid in [header["kid"].clone(), json!(feed_kid)] {
        header["kid"] = kid;
        let input = format!("{}.{claims}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()));
        let signature = ed25519_dalek::Signer::sign(&key, input.as_bytes()).to_bytes();
        assert!(!harness.active(&format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_followers_hear_of_one_revocation() {
    const FOLLOWERS: usize = 1000;
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    let id = text(&harness.open("alice").await, "session_id").to_owned();
    let at = reader.tail(None, 0).await;
    let waiting: Vec<_> = (0..FOLLOWERS)
        .map(|_| {
            let reader = reader.clone();
            tokio::spawn(async move {
                let (_, answer) = reader.ask(Some((at.epoch, at.to)), 10_000).await;
                answer.bytes().await.unwrap()
            })
        })
        .collect();
    followers_wait(&harness, FOLLOWERS).await;
    let body = json!({"kind": "session", "id": id});
    assert_eq!(harness.post("/v1/revocations", APP, &body).await.0, 201);
    for told in waiting {
        let jws = soon(told).await.unwrap();
        let tail = reader.open(TAIL_TYPE, std::str::from_utf8(&jws).unwrap());
        assert_eq!(tail["entries"][0]["sid"], id);
    }
}

#[tokio::test]
async fn keys_that_changed_before_the_request_came_are_news() {
    let harness = Harness::start().await;
    let reader = Reader::new(&harness).await;
    let at = reader.tail(None, 0).await;
    let url = |keys: &str| {
        let place = format!("epoch={}&position={}&digest={}", at.epoch, at.to.position, at.to.digest);
        format!("{}/v1/feed?nonce={}&wait=10000&keys={keys}&{place}", harness.base, Nonce([7; 16]))
    };
    let other = "A".repeat(43);
    let told = harness.http.get(url(&other)).send();
    // Half of what it was allowed to wait.
    let told = tokio::time::timeout(Duration::from_secs(5), told).await.expect("it waits, and the keys are others");
    assert_eq!(told.unwrap().status(), 200);
}

#[tokio::test]
async fn a_digest_stands_for_all_that_came_before() {
    let mut digests = Vec::new();
    for first in [1, 2] {
        let harness = Harness::start().await;
        let expires = Some(harness.clock.now().plus(Duration::from_secs(60)));
        for id in [first, 3] {
            let target = Target::Token(TokenId::new(harness.clock.now(), &[id; 10]));
            let denial =
                Denial { target, ends: Ends::Tokens, before: None, expires, reason: None, audit: Draft::default() };
            harness.store.deny(denial).await.unwrap();
        }
        digests.push(harness.store.tail(None, PAGE).await.unwrap().to.digest);
    }
    assert_ne!(digests[0], digests[1], "the last entries are the same, the first ones are not");
}

//! Verifiers that say how far they are: whoever asks is told who lags, and nobody who follows depends on it.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/relay.rs"]
mod relay;

use std::{collections::BTreeSet, future::Future, time::Duration};

use harness::{APP, Harness, POWERLESS, PUBLIC, Setup, answer, text};
use relay::{Fate, Kind, Relay, has_credentials};
use reqwest::RequestBuilder;
use rescind::{
    clock::{Clock, SystemClock},
    http::edge::{AddressHeader, Proxies, Quota, Rates, Settings},
    model::{
        TokenId,
        audit::Draft,
        denial::{Ends, Target},
        report::Reported,
    },
    service::{Client, Permission, SecretHash},
    store::{Denial, DenyStore},
    verifier::{Builder, Misuse, Rejection, Verifier},
};
use serde_json::{Value, json};

/// A client that may report and nothing else, and another.
const ORDERS: &str = "orders";
const FLOOD: &str = "flood";
/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Those two, with a secret that only this run knows.
fn reporters() -> (String, Vec<Client>) {
    let secret = harness::random_secret();
    let client = |id: &str| Client {
        secrets: vec![SecretHash::of(&secret)],
        permissions: BTreeSet::from([Permission::VerifiersReport]),
        ..Client::new(id.parse().unwrap())
    };
    let clients = vec![client(ORDERS), client(FLOOD)];
    (secret, clients)
}

/// A node, and verifiers that reach it through a network that can be made to fail.
struct World {
    node: Harness,
    relay: Relay,
    secret: String,
}

impl World {
    async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let (secret, clients) = reporters();
        let relay = Relay::start().await;
        let node = Harness::with(Setup { issuer: Some(relay.url.clone()), clients, ..setup }).await;
        relay.to(&node.base);
        Self { node, relay, secret }
    }

    /// Its clocks are the node's.
    fn builder(&self) -> Builder {
        Verifier::builder(&self.relay.url).audience("api").clock(self.node.clock.clone())
    }

    async fn reporting(&self, name: &str) -> Verifier {
        let verifier = self.builder().report_as(name, ORDERS, &self.secret).follow().unwrap();
        soon(verifier.ready()).await;
        verifier
    }

    async fn stir(&self) -> u64 {
        let nobody = json!({"kind": "client", "id": format!("nobody-{}", self.node.clock.now().millis())});
        self.node.clock.advance(Duration::from_millis(1));
        let (status, body) = self.node.post("/v1/revocations", APP, &nobody).await;
        assert_eq!(status, 201, "{body}");
        body["position"].as_u64().unwrap()
    }

    async fn list(&self, query: &str) -> Value {
        let (status, body) = self.node.get(&format!("/v1/verifiers{query}")).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The one that there is, once it is so.
    async fn only(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let listed = self.list("").await;
            let [one] = &listed["verifiers"].as_array().unwrap()[..] else { return None };
            Some(one.clone()).filter(|one| is_so(one))
        })
        .await
    }

    async fn metric(&self, line: &str) -> f64 {
        let text = self.node.http.get(format!("{}/metrics", self.node.operations)).send().await.unwrap();
        let text = text.text().await.unwrap();
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or_else(|| panic!("no {line}"))
    }
}

/// A question to the feed, as anyone may ask it.
fn question(node: &Harness, query: &str) -> RequestBuilder {
    node.http.get(format!("{}/v1/feed?nonce={NONCE}{query}", node.base))
}

/// What is said of the report in it. The question is answered.
async fn told(question: RequestBuilder) -> Option<String> {
    let answer = question.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/jwt".parse().unwrap())
    );
    let told = answer.headers().get("verifier-report").map(|told| told.to_str().unwrap().to_owned());
    assert!(answer.text().await.unwrap().len() > 100);
    told
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

/// Waits, with a bound, for what must come about by itself.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = SystemClock::default();
    let began = clock.monotonic();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(clock.monotonic() - began < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_verifier_that_reports_is_shown_with_its_place_and_its_keys() {
    let w = World::new().await;
    let _silent_about_itself = w.builder().follow().unwrap();
    let verifier = w.reporting("orders-7").await;
    let one = w.only("it is current", |one| one["state"] == "current" && one["keys_current"] == true).await;
    assert_eq!(
        (&one["client_id"], &one["name"], &one["address"]),
        (&json!(ORDERS), &json!("orders-7"), &json!("127.0.0.1"))
    );
    assert_eq!((&one["position"], &one["behind"], &one["behind_since"]), (&json!(0), &json!(0), &Value::Null));
    assert_eq!(one["epoch_current"], true);
    assert_eq!(verifier.health().reported, Some(Reported::Taken));
    let token = text(&w.node.open("alice").await, "access_token").to_owned();
    let (_, revoked) = w.node.post("/v1/revocations", APP, &json!({"kind": "subject", "id": "alice"})).await;
    let position = revoked["position"].as_u64().unwrap();
    let applied = eventually("it has applied the revocation", async || {
        let listed = w.list(&format!("?position={position}")).await;
        Some(listed).filter(|listed| listed["applied"]["applied"] == 1)
    })
    .await;
    assert_eq!(verifier.verify(&token).err(), Some(Rejection::Revoked.into()), "what it says is so");
    let since = &applied["verifiers"][0]["confirmed_at"];
    let counts = json!({"position": position, "applied": 1, "missing": 0, "silent": 0, "confirmed_at": since});
    assert!(since.is_string() && applied["applied"] == counts, "{applied}");
    assert_eq!((&applied["epoch"], &applied["head"]), (&revoked["epoch"], &json!(position)));
    assert_eq!(applied["states"], json!({"current": 1, "behind": 0, "silent": 0}));
    assert_eq!(w.metric("rescind_verifiers{state=\"current\"}").await, 1.0);
    assert!(w.metric("rescind_verifier_reports_total{outcome=\"taken\"}").await >= 2.0);
    // Another key set: known by it once it has fetched it, and said with its next question.
    w.relay.set(Kind::Keys, Fate::Stall);
    w.node.clock.advance(Duration::from_secs(21 * 60));
    assert_eq!(w.node.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    w.only("it has older keys", |one| one["keys_current"] == false && one["behind"] == 0).await;
}

#[tokio::test]
async fn one_that_is_cut_off_is_behind_then_silent_and_in_the_end_forgotten() {
    let w = World::new().await;
    let _cut_off = w.reporting("orders-7").await;
    w.stir().await;
    let before = w.only("it has applied that", |one| one["position"] == 1).await;
    w.relay.set(Kind::Tail, Fate::Stall);
    let position = w.stir().await;
    let now = w.only("it lacks one", |one| one["behind"] == 1).await;
    assert_eq!((&now["state"], &now["position"]), (&json!("current"), &json!(1)), "not yet for five seconds");
    w.node.clock.advance(Duration::from_secs(6));
    let listed = w.list(&format!("?position={position}")).await;
    let one = &listed["verifiers"][0];
    assert_eq!((&one["state"], &one["behind_since"]), (&json!("behind"), &now["behind_since"]), "{listed}");
    assert_eq!((&one["confirmed_at"], &one["position"]), (&before["confirmed_at"], &json!(1)));
    assert_eq!(
        listed["applied"],
        json!({"position": 2, "applied": 0, "missing": 1, "silent": 0, "confirmed_at": null})
    );
    assert_eq!(w.metric("rescind_verifiers{state=\"behind\"}").await, 1.0);
    assert!((6.0..7.0).contains(&w.metric("rescind_verifiers_lag_seconds").await));
    w.node.clock.advance(Duration::from_secs(25));
    let listed = w.list(&format!("?position={position}")).await;
    assert_eq!(listed["states"], json!({"current": 0, "behind": 0, "silent": 1}));
    assert_eq!(
        listed["applied"],
        json!({"position": 2, "applied": 0, "missing": 0, "silent": 1, "confirmed_at": null})
    );
    assert_eq!(w.list("?position=1").await["applied"]["applied"], 1, "what it had applied it had");
    assert_eq!(w.metric("rescind_verifiers_lag_seconds").await, 0.0, "whoever was shut down lags behind nothing");
    w.node.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(w.list("").await["verifiers"], json!([]));
}

#[tokio::test]
async fn who_lags_by_how_much_is_told_among_many() {
    let w = World::new().await;
    let node = &w.node;
    let mut places = Vec::new();
    for _ in 0..5 {
        places.push(place(node).await);
        w.stir().await;
        node.clock.advance(Duration::from_secs(3));
    }
    // They stand at 0, 1, 2, 3, 4; what lies beyond was acknowledged 15, 12, 9, 6, 3 seconds ago.
    for (n, place) in places.iter().enumerate() {
        let question = question(node, place).header("Verifier-Name", format!("v{n}"));
        assert_eq!(told(question.basic_auth(ORDERS, Some(&w.secret))).await.as_deref(), Some("taken"));
    }
    let listed = w.list("").await;
    let states: Vec<_> = listed["verifiers"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["behind", "behind", "behind", "behind", "current"], "{listed}");
    assert_eq!(listed["states"], json!({"current": 1, "behind": 4, "silent": 0}));
    let behind: Vec<_> = listed["verifiers"].as_array().unwrap().iter().map(|one| one["behind"].clone()).collect();
    assert_eq!(behind, [5, 4, 3, 2, 1]);
    assert!((15.0..16.0).contains(&w.metric("rescind_verifiers_lag_seconds").await));
    for (position, applied) in [(0, 5), (1, 4), (4, 1), (5, 0)] {
        assert_eq!(w.list(&format!("?position={position}")).await["applied"]["applied"], applied, "{position}");
    }
}

/// The end of the log, as a follower that stands there names it.
async fn place(node: &Harness) -> String {
    let tail = node.store.tail(None, 1000).await.unwrap();
    format!("&epoch={}&position={}&digest={}", tail.epoch, tail.to.position, tail.to.digest)
}

#[tokio::test]
async fn a_place_that_the_log_does_not_know_is_none() {
    let w = World::new().await;
    w.stir().await;
    let (node, digest) = (&w.node, "A".repeat(43));
    let epoch = node.store.tail(None, 0).await.unwrap().epoch;
    for (place, same_epoch) in [
        (String::new(), false),
        (format!("&epoch={epoch}&position=1&digest={digest}"), true),
        (format!("&epoch={epoch}&position=18446744073709551615&digest={digest}"), true),
        (format!("&epoch={NONCE}&position=1&digest={digest}"), false),
    ] {
        let question = question(node, &place).header("Verifier-Name", "liar").basic_auth(ORDERS, Some(&w.secret));
        assert_eq!(told(question).await.as_deref(), Some("taken"));
        let listed = w.list("?position=0").await;
        let one = &listed["verifiers"][0];
        let shown = ["state", "position", "behind", "confirmed_at"].map(|name| one[name].clone());
        assert_eq!(shown, [json!("behind"), Value::Null, Value::Null, Value::Null], "{place}");
        assert_eq!(one["epoch_current"], same_epoch, "{place}");
        assert_eq!(listed["applied"]["applied"], 0, "not even the beginning of the log");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_report_the_question_is_answered_and_nothing_is_remembered() {
    let w = World::new().await;
    let (node, secret) = (&w.node, &*w.secret);
    let named = |name: &'static [u8]| {
        question(node, "").header("Verifier-Name", reqwest::header::HeaderValue::from_bytes(name).unwrap())
    };
    let right = |request: RequestBuilder| request.basic_auth(ORDERS, Some(secret));
    let cases = [
        ("credentials_and_no_name", right(question(node, "")), None),
        ("no_credentials", named(b"v"), Some("unauthenticated")),
        ("wrong_secret", named(b"v").basic_auth(ORDERS, Some("wrong")), Some("unauthenticated")),
        ("no_such_client", named(b"v").basic_auth("nobody", Some(secret)), Some("unauthenticated")),
        ("public_client", named(b"v").basic_auth(PUBLIC, Some("x")), Some("unauthenticated")),
        ("bearer", named(b"v").bearer_auth("abc"), Some("unauthenticated")),
        ("two_ways", right(named(b"v")).header("Client-Assertion", "a.b.c"), Some("unauthenticated")),
        ("an_assertion", named(b"v").header("Client-Assertion", "a.b.c"), Some("unauthenticated")),
        ("no_permission", named(b"v").basic_auth(POWERLESS, Some(&node.secret)), Some("forbidden")),
        ("empty", right(named(b"")), Some("malformed")),
        ("a_space_in_it", right(named(b"a b")), Some("malformed")),
        ("a_tab_in_it", right(named(b"a\tb")), Some("malformed")),
        ("an_escape_of_terminals", right(named(b"\x9b31m")), Some("malformed")),
        ("not_ascii", right(named("\u{202e}".as_bytes())), Some("malformed")),
        ("too_long", right(named(&[b'n'; 65])), Some("malformed")),
        ("two_names", right(named(b"v").header("Verifier-Name", "w")), Some("malformed")),
        ("keys_that_are_none", right(named(b"v")).header("Verifier-Keys", "abc"), Some("malformed")),
    ];
    for (case, question, outcome) in cases {
        assert_eq!(told(question).await.as_deref(), outcome, "{case}");
    }
    assert_eq!(w.list("").await["verifiers"], json!([]));
    assert_eq!(w.metric("rescind_verifier_reports_total{outcome=\"taken\"}").await, 0.0);
    assert_eq!(w.metric("rescind_verifier_reports_total{outcome=\"malformed\"}").await, 8.0);
    assert_eq!(w.metric("rescind_client_authentication_failures_total").await, 3.0);
    // The longest name there is, and every character.
    assert_eq!(told(right(named(&[b'~'; 64]))).await.as_deref(), Some("taken"));
    // A client that was disabled reports no more.
    assert_eq!(node.post(&format!("/v1/clients/{ORDERS}/disable"), APP, &json!({})).await.0, 200);
    assert_eq!(told(right(named(b"v"))).await.as_deref(), Some("unauthenticated"));
}

#[tokio::test]
async fn secrets_cannot_be_tried_at_the_feed_beyond_the_limit_and_nobody_is_cut_off_from_it() {
    let proxies = Proxies { trusted: vec!["127.0.0.0/8".parse().unwrap()], header: AddressHeader::XForwardedFor };
    let quota = Quota { count: 3, per: Duration::from_secs(60) };
    let rates = Some(Rates { failures: quota, ..Rates::default() });
    let w = World::with(Setup { edge: Settings { proxies, rates, ..Settings::default() }, ..Setup::default() }).await;
    let report = |address: &str, secret: &str| {
        let question = question(&w.node, "").header("X-Forwarded-For", address).header("Verifier-Name", "v");
        told(question.basic_auth(ORDERS, Some(secret)))
    };
    let mut heard = Vec::new();
    for _ in 0..5 {
        heard.push(report("198.51.100.1", "wrong").await.unwrap());
    }
    assert_eq!(heard, ["unauthenticated", "unauthenticated", "unauthenticated", "later", "later"]);
    // It is the same limit as everywhere, and a right secret passes it as it does everywhere.
    let guess = w.node.http.get(format!("{}/v1/keys", w.node.base)).basic_auth(APP, Some("wrong"));
    assert_eq!(answer(guess.header("X-Forwarded-For", "198.51.100.1")).await.0, 429);
    assert_eq!(report("198.51.100.1", &w.secret).await.as_deref(), Some("taken"));
    assert_eq!(w.list("").await["verifiers"][0]["address"], "198.51.100.1", "as the proxy says");
    assert_eq!(
        report("198.51.100.2", "wrong").await.as_deref(),
        Some("unauthenticated"),
        "another address is another's"
    );
}

#[tokio::test]
async fn a_client_has_its_share_and_pushes_nobody_out() {
    let w = World::new().await;
    let report = |client: &str, name: String| {
        told(question(&w.node, "").header("Verifier-Name", name).basic_auth(client, Some(&w.secret)))
    };
    assert_eq!(report(ORDERS, "orders-7".into()).await.as_deref(), Some("taken"));
    let mut taken = 0;
    for n in 0..300 {
        match report(FLOOD, format!("{n:03}")).await.as_deref() {
            Some("taken") => taken += 1,
            told => assert_eq!(told, Some("full"), "{n}"),
        }
    }
    assert_eq!(taken, 256);
    assert_eq!(report(FLOOD, "007".into()).await.as_deref(), Some("taken"), "whoever is there is heard");
    assert_eq!(report(ORDERS, "orders-8".into()).await.as_deref(), Some("taken"), "another's share is another's");
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = w.list(&format!("?limit=100{after}")).await;
        assert_eq!(page["states"]["behind"], 258);
        let part = page["verifiers"].as_array().unwrap();
        names.extend(part.iter().map(|one| format!("{} {}", text(one, "client_id"), text(one, "name"))));
        let Some(next) = page["next"].as_str() else { break };
        assert_eq!((part.len(), next), (100, &**names.last().unwrap()));
        after = format!("&after={}", next.replace(' ', "%20"));
    }
    let expected = (0..256).map(|n| format!("{FLOOD} {n:03}"));
    let expected: Vec<_> = expected.chain(["orders-7", "orders-8"].map(|name| format!("{ORDERS} {name}"))).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn looking_takes_a_permission_of_its_own_and_a_question_that_makes_sense() {
    let w = World::new().await;
    let ask = |client: &str, secret: &str, query: &str| {
        answer(w.node.http.get(format!("{}/v1/verifiers{query}", w.node.base)).basic_auth(client, Some(secret)))
    };
    for (client, secret, status, code) in [
        (ORDERS, &*w.secret, 403, "insufficient_permission"),
        (POWERLESS, &w.node.secret, 403, "insufficient_permission"),
        (ORDERS, "wrong", 401, "invalid_client"),
    ] {
        let (answered, problem) = ask(client, secret, "").await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)));
    }
    for (query, field) in [
        ("?position=1", "position"),
        ("?position=-1", "query"),
        ("?limit=0", "limit"),
        ("?limit=201", "limit"),
        ("?after=orders", "after"),
        ("?after=orders%20%1b", "after"),
        ("?state=silent", "query"),
    ] {
        let (status, problem) = ask(APP, &w.node.secret, query).await;
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{query}: {problem}");
    }
}

#[tokio::test]
async fn the_secret_goes_to_the_feed_and_nowhere_else() {
    let w = World::new().await;
    // A page of history, so that one is asked for.
    let denials = (0..1001_u64).map(|n| {
        let mut random = [7; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        let (target, ends) = (Target::Token(TokenId::new(w.node.clock.now(), &random)), Ends::Tokens);
        let denial = Denial { target, ends, before: None, expires: None, reason: None, audit: Draft::default() };
        let store = w.node.store.clone();
        tokio::spawn(async move { store.deny(denial).await.unwrap() })
    });
    for denial in denials.collect::<Vec<_>>() {
        denial.await.unwrap();
    }
    let builder = w.builder().report_as("orders-7", ORDERS, &w.secret);
    assert!(!format!("{builder:?}").contains(&w.secret));
    let verifier = builder.follow().unwrap();
    soon(verifier.ready()).await;
    for kind in [Kind::Metadata, Kind::Keys, Kind::Page] {
        let heads = w.relay.heads(kind);
        assert!(!heads.is_empty() && !heads.iter().any(|head| has_credentials(head)), "{kind:?}: {heads:?}");
    }
    assert!(!format!("{verifier:?} {:?}", verifier.health()).contains(&w.secret));
    w.only("it is current", |one| one["state"] == "current").await;
    let tails = w.relay.heads(Kind::Tail);
    assert!(tails.iter().all(|head| has_credentials(head)));
    assert!(tails.iter().all(|head| !head.lines().next().unwrap().contains("orders-7")), "nothing of it is in a URL");
}

#[tokio::test]
async fn a_verifier_that_is_refused_follows_all_the_same_and_stops_trying() {
    let w = World::new().await;
    let verifier = w.builder().report_as("orders-7", ORDERS, "wrong").follow().unwrap();
    soon(verifier.ready()).await;
    for _ in 0..20 {
        let position = w.stir().await;
        eventually("it hears", async || (verifier.health().position >= Some(position)).then_some(())).await;
    }
    assert_eq!(verifier.health().reported, Some(Reported::Unauthenticated));
    let tries = || w.relay.heads(Kind::Tail).iter().filter(|head| has_credentials(head)).count();
    assert_eq!(tries(), 1, "it would be taken for a guesser");
    assert_eq!(w.metric("rescind_client_authentication_failures_total").await, 1.0);
    // After half a minute it tries again.
    w.node.clock.advance(Duration::from_secs(31));
    w.stir().await;
    eventually("it tries again", async || (tries() == 2).then_some(())).await;
}

#[tokio::test]
async fn a_proxy_that_refuses_the_credentials_does_not_cut_the_verifier_off() {
    let w = World::new().await;
    w.relay.set(Kind::Tail, Fate::NoCredentials);
    let verifier = w.reporting("orders-7").await;
    assert_eq!(verifier.health().reported, Some(Reported::Unauthenticated));
    assert_eq!(w.list("").await["verifiers"], json!([]));
}

#[tokio::test]
async fn after_a_restart_all_are_heard_of_again() {
    let (secret, clients) = reporters();
    let relay = Relay::start().await;
    let setup = Setup { issuer: Some(relay.url.clone()), clients, on_disk: true, ..Setup::default() };
    let node = Harness::with(setup).await;
    relay.to(&node.base);
    let w = World { node, relay, secret };
    let _verifier = w.reporting("orders-7").await;
    w.only("it is current", |one| one["state"] == "current").await;
    w.relay.nowhere();
    let asked = w.relay.asked(Kind::Tail);
    let node = w.node.restart(|_, _| {}).await;
    let w = World { node, relay: w.relay, secret: w.secret };
    eventually("it asks in vain", async || (w.relay.asked(Kind::Tail) > asked).then_some(())).await;
    assert_eq!(w.list("").await["verifiers"], json!([]));
    w.relay.to(&w.node.base);
    w.only("it is current again", |one| one["state"] == "current").await;
}

#[tokio::test]
async fn a_name_or_a_client_that_is_none_is_refused_at_once() {
    let builder = || Verifier::builder("https://issuer.example").audience("api");
    for (name, client, secret, misuse) in [
        ("a\u{1b}b", ORDERS, "secret", Misuse::ReportName),
        ("", ORDERS, "secret", Misuse::ReportName),
        ("orders-7", "two words", "secret", Misuse::ReportClient),
        ("orders-7", ORDERS, "", Misuse::ReportClient),
        ("orders-7", ORDERS, "two\nlines", Misuse::ReportClient),
    ] {
        assert_eq!(builder().report_as(name, client, secret).follow().err(), Some(misuse), "{name:?} {client}");
    }
}

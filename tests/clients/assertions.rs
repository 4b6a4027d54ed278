//! `private_key_jwt` (RFC 7523): one assertion, for this issuer and nobody else, once.

use std::time::Duration;

use rescind::{
    clock::Clock,
    http::edge::{Quota, Rates, Settings},
    model::{ClientId, Timestamp},
    service::{Client, Permission},
    store::{AssertionId, AssertionUse, ClientStore, embedded::Acceptance},
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    forge::{Forge, Members},
    harness::{APP, Harness, ISSUER, PUBLIC, Setup, answer, text},
};

pub(crate) const KEYED: &str = "keyed";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client that is known by this key.
pub(crate) fn keyed(id: &str, forge: &Forge) -> Client {
    Client {
        keys: vec![forge.jwk()],
        permissions: Permission::ALL.iter().copied().collect(),
        audience: Some(vec!["api".parse().unwrap()]),
        ..Client::new(id.parse().unwrap())
    }
}

/// A node that knows a client by its key, and the key.
async fn start(on_disk: bool) -> (Harness, Forge) {
    start_with(|setup| setup.on_disk = on_disk).await
}

async fn start_with(change: impl FnOnce(&mut Setup)) -> (Harness, Forge) {
    let forge = Forge::new(0);
    let mut setup = Setup { clients: vec![keyed(KEYED, &forge)], ..Setup::default() };
    change(&mut setup);
    let harness = Harness::with(setup).await;
    let now = harness.clock.now().seconds();
    (harness, Forge { now, ..forge })
}

fn header(forge: &Forge) -> Members {
    Members::default().text("alg", "EdDSA").text("typ", "JWT").text("kid", &forge.kid())
}

/// Good for a minute.
fn claims(forge: &Forge, jti: &str) -> Members {
    Members::default()
        .text("iss", KEYED)
        .text("sub", KEYED)
        .text("aud", ISSUER)
        .text("jti", jti)
        .set("iat", forge.now)
        .set("exp", forge.now + 60)
}

pub(crate) fn assertion(forge: &Forge, jti: &str) -> String {
    forge.mint(&header(forge), &claims(forge, jti))
}

async fn own_token(harness: &Harness, assertion: &str) -> (u16, Value) {
    let form =
        [("grant_type", "client_credentials"), ("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)];
    answer(harness.http.post(format!("{}/oauth2/token", harness.base)).form(&form)).await
}

#[tokio::test]
async fn an_assertion_opens_every_door_that_a_secret_opens() {
    let (harness, forge) = start(false).await;
    let (status, tokens) = own_token(&harness, &assertion(&forge, "1")).await;
    assert_eq!(status, 200, "{tokens}");
    let token = text(&tokens, "access_token");
    for (path, jti, expected) in [
        ("/oauth2/introspect", "2", json!(true)),
        ("/oauth2/revoke", "3", Value::Null),
        ("/oauth2/introspect", "4", json!(false)),
    ] {
        let made = assertion(&forge, jti);
        let form = [("token", token), ("client_assertion_type", JWT_BEARER), ("client_assertion", &made)];
        let (status, body) = answer(harness.http.post(format!("{}{path}", harness.base)).form(&form)).await;
        assert_eq!((status, &body["active"]), (200, &expected), "{path} {body}");
    }
    let keys = harness.http.get(format!("{}/v1/keys", harness.base));
    let (status, body) = answer(keys.header("Client-Assertion", assertion(&forge, "5"))).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn metadata_names_the_methods_and_their_algorithms() {
    let (harness, _) = start(false).await;
    let (_, metadata) = harness.get("/.well-known/oauth-authorization-server").await;
    for endpoint in ["token", "revocation", "introspection"] {
        let methods = metadata[format!("{endpoint}_endpoint_auth_methods_supported")].as_array().unwrap();
        assert!(methods.contains(&json!("private_key_jwt")), "{endpoint}");
        let algorithms = &metadata[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")];
        assert_eq!(*algorithms, json!(["EdDSA", "Ed25519"]));
    }
}

/// Who holds the key hears what is wrong with the assertion; nobody else hears more than "no".
#[rstest]
#[case::token_endpoint_as_audience(|c: Members| c.text("aud", "https://issuer.test/oauth2/token"), "aud:")]
#[case::issuer_with_a_slash(|c: Members| c.text("aud", "https://issuer.test/"), "aud:")]
#[case::issuer_among_others(|c: Members| c.set("aud", r#"["https://issuer.test","https://evil.test"]"#), "aud:")]
#[case::expired(|c: Members| c.set("exp", 1_795_000_000_u64), "exp:")]
#[case::good_for_too_long(|c: Members| { let exp = in_(&c, 400); c.set("exp", exp) }, "exp:")]
#[case::not_yet(|c: Members| { let nbf = in_(&c, 45); c.set("nbf", nbf) }, "nbf:")]
#[case::from_the_future(|c: Members| { let iat = in_(&c, 45); c.set("iat", iat) }, "iat:")]
#[case::made_long_ago(|c: Members| { let iat = in_(&c, -400); c.set("iat", iat) }, "iat:")]
#[case::signed_but_no_expiry(|c: Members| c.without("exp"), "client authentication failed")]
#[case::no_name(|c: Members| c.without("jti"), "client authentication failed")]
#[case::empty_name(|c: Members| c.text("jti", ""), "client authentication failed")]
#[case::name_without_end(|c: Members| c.text("jti", &"x".repeat(257)), "client authentication failed")]
#[case::no_audience(|c: Members| c.without("aud"), "client authentication failed")]
#[case::audience_of_nobody(|c: Members| c.set("aud", "[]"), "client authentication failed")]
#[case::another_issuer(|c: Members| c.text("iss", APP), "client authentication failed")]
#[case::another_subject(|c: Members| c.text("sub", APP), "client authentication failed")]
#[case::another_client(|c: Members| c.text("sub", APP).text("iss", APP), "client authentication failed")]
#[case::nobody(|c: Members| c.text("sub", "nobody").text("iss", "nobody"), "client authentication failed")]
#[case::a_member_twice(|c: Members| c.again("aud", r#""https://evil.test""#), "client authentication failed")]
#[case::expiry_as_text(|c: Members| c.text("exp", "1795374900"), "client authentication failed")]
#[case::too_deep(|c: Members| c.set("x", "[".repeat(20) + &"]".repeat(20)), "client authentication failed")]
#[tokio::test]
async fn an_assertion_that_is_no_good_is_refused(#[case] spoil: fn(Members) -> Members, #[case] says: &str) {
    let (harness, forge) = start(false).await;
    let bad = forge.mint(&header(&forge), &spoil(claims(&forge, "1")));
    let (status, body) = own_token(&harness, &bad).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_client")), "{body}");
    assert!(text(&body, "error_description").contains(says), "{body}");
    assert_eq!(own_token(&harness, &assertion(&forge, "1")).await.0, 200, "what was refused is not used up");
}

/// So many seconds from when the assertion was made.
fn in_(claims: &Members, seconds: i64) -> u64 {
    let iat = claims.0.iter().find(|(name, _)| name == "iat").unwrap().1.parse::<u64>().unwrap();
    iat.checked_add_signed(seconds).unwrap()
}

#[rstest]
#[case::no_algorithm(|h: Members| h.text("alg", "none"))]
#[case::a_secret_algorithm(|h: Members| h.text("alg", "HS256"))]
#[case::an_access_token(|h: Members| h.text("typ", "at+jwt"))]
#[case::a_key_of_its_own(|h: Members| h.set("jwk", "{}"))]
#[case::extensions(|h: Members| h.set("crit", r#"["exp"]"#))]
#[case::a_key_that_it_has_not(|h: Members| h.text("kid", "other"))]
#[tokio::test]
async fn an_assertion_with_a_wrong_header_is_refused(#[case] spoil: fn(Members) -> Members) {
    let (harness, forge) = start(false).await;
    let bad = forge.mint(&spoil(header(&forge)), &claims(&forge, "1"));
    let (status, body) = own_token(&harness, &bad).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_client")), "{body}");
}

#[rstest]
#[case::both_names_of_the_algorithm(|h: Members| h.text("alg", "Ed25519"))]
#[case::no_key_named(|h: Members| h.without("kid"))]
#[case::no_type(|h: Members| h.without("typ"))]
#[case::its_own_type(|h: Members| h.text("typ", "client-authentication+jwt"))]
#[tokio::test]
async fn headers_that_libraries_write_are_fine(#[case] change: fn(Members) -> Members) {
    let (harness, forge) = start(false).await;
    let good = forge.mint(&change(header(&forge)), &claims(&forge, "1").set("aud", format!("[\"{ISSUER}\"]")));
    assert_eq!(own_token(&harness, &good).await.0, 200);
}

#[tokio::test]
async fn another_key_signs_for_nobody() {
    let (harness, forge) = start(false).await;
    let stranger = Forge::new(forge.now);
    let forged = stranger.mint(&header(&forge), &claims(&forge, "1"));
    let (status, body) = own_token(&harness, &forged).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_client")));
    assert_eq!(text(&body, "error_description"), "client authentication failed", "a stranger hears nothing more");
}

#[tokio::test]
async fn two_ways_of_authentication_are_one_too_many() {
    let (harness, forge) = start(false).await;
    let url = format!("{}/oauth2/token", harness.base);
    let made = assertion(&forge, "1");
    let assertion_form = [("client_assertion_type", JWT_BEARER), ("client_assertion", &*made)];
    let form = [&[("grant_type", "client_credentials")], &assertion_form[..]].concat();
    let basic = harness.http.post(&url).basic_auth(APP, Some(&harness.secret)).form(&form);
    let secret = [&form[..], &[("client_id", KEYED), ("client_secret", "x")]].concat();
    let other = [&form[..], &[("client_id", APP)]].concat();
    let untyped = harness.http.post(&url).form(&[("client_assertion", &*made)]);
    let odd = [("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")];
    let odd = harness.http.post(&url).form(&[&odd, &[("client_assertion", &*made)][..]].concat());
    let header = harness.http.get(format!("{}/v1/keys", harness.base));
    let header = header.basic_auth(APP, Some(&harness.secret)).header("Client-Assertion", &made);
    for request in [basic, harness.http.post(&url).form(&secret), harness.http.post(&url).form(&other), untyped, odd] {
        let (status, body) = answer(request).await;
        assert_eq!((status, &body["error"]), (400, &json!("invalid_request")), "{body}");
    }
    let (status, body) = answer(header).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_request")), "{body}");
    assert_eq!(own_token(&harness, &made).await.0, 200, "none of them has used it up");
}

#[tokio::test]
async fn an_assertion_in_a_url_is_refused_before_it_is_looked_at() {
    let (harness, forge) = start(false).await;
    let (status, body) = harness.get(&format!("/v1/keys?client_assertion={}", assertion(&forge, "1"))).await;
    assert_eq!((status, &body["code"]), (400, &json!("invalid_request")));
}

#[tokio::test]
async fn an_assertion_is_good_once_also_after_a_restart() {
    let (harness, forge) = start(true).await;
    let made = assertion(&forge, "once");
    assert_eq!(own_token(&harness, &made).await.0, 200);
    let (status, body) = own_token(&harness, &made).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_client")));
    assert!(text(&body, "error_description").contains("jti"), "{body}");
    let again = forge.mint(&header(&forge), &claims(&forge, "once").set("exp", forge.now + 61));
    assert_eq!(own_token(&harness, &again).await.0, 401, "the jti counts, not the bytes");
    let harness = harness.restart(|_, _| ()).await;
    assert_eq!(own_token(&harness, &made).await.0, 401, "after a restart");
    assert_eq!(own_token(&harness, &assertion(&forge, "twice")).await.0, 200);
}

#[tokio::test]
async fn of_two_at_once_one_wins() {
    let (harness, forge) = start(false).await;
    let made = assertion(&forge, "race");
    let tries: Vec<_> = (0..8).map(|_| own_token(&harness, &made)).collect();
    let mut won = 0;
    for one in futures(tries).await {
        won += usize::from(one.0 == 200);
    }
    assert_eq!(won, 1);
}

async fn futures<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    // All are polled in turn until each is done.
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, slot) in all.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().map(Option::unwrap).collect()
}

#[tokio::test]
async fn what_has_been_forgotten_is_not_taken_for_new() {
    let (harness, forge) = start(false).await;
    let now = harness.clock.now();
    let until = now.plus(Duration::from_secs(60));
    let id = |jti: u8| AssertionId::of(&KEYED.parse().unwrap(), &jti.to_string());
    let used = |jti: u8| harness.store.use_assertion(id(jti), until);
    assert_eq!(used(1).await.unwrap(), AssertionUse::First);
    assert_eq!(used(1).await.unwrap(), AssertionUse::Again);
    harness.clock.advance(Duration::from_secs(61));
    // Another step lets the first one expire.
    let later = harness.clock.now().plus(Duration::from_secs(60));
    assert_eq!(harness.store.use_assertion(id(2), later).await.unwrap(), AssertionUse::First);
    harness.clock.jump_back(Duration::from_secs(30));
    assert_eq!(used(1).await.unwrap(), AssertionUse::Unknown, "the clock was set back");
    let (status, body) =
        own_token(&harness, &forge.mint(&header(&forge), &claims(&forge, "1").set("exp", forge.now + 10))).await;
    assert_eq!((status, &body["error"]), (503, &json!("temporarily_unavailable")), "{body}");
}

#[tokio::test]
async fn after_an_accepted_loss_nobody_can_tell_what_was_used() {
    let (harness, forge) = start(true).await;
    let made = assertion(&forge, "1");
    assert_eq!(own_token(&harness, &made).await.0, 200);
    let harness = harness
        .restart(|setup, path| {
            setup.acceptance = Acceptance::EndSessions;
            std::fs::remove_file(path.unwrap().join("store.redb")).unwrap();
        })
        .await;
    let (status, _) = own_token(&harness, &made).await;
    assert_eq!(status, 503, "it may have been used");
    harness.clock.advance(Duration::from_secs(400));
    let forge = Forge { now: Timestamp::seconds(harness.clock.now()), ..forge };
    assert_eq!(own_token(&harness, &assertion(&forge, "1")).await.0, 200, "by now the old ones have expired");
}

/// So many requests of a client in a minute.
fn of_a_client(count: u32) -> Settings {
    let client = Quota { count, per: Duration::from_secs(60) };
    Settings { rates: Some(Rates { client, ..Rates::default() }), ..Settings::default() }
}

#[tokio::test]
async fn an_assertion_for_which_there_is_no_room_is_not_used_up() {
    let (harness, forge) = start_with(|setup| setup.edge = of_a_client(1)).await;
    assert_eq!(own_token(&harness, &assertion(&forge, "1")).await.0, 200);
    let second = forge.mint(&header(&forge), &claims(&forge, "2").set("exp", forge.now + 200));
    for _ in 0..3 {
        let (status, body) = own_token(&harness, &second).await;
        assert_eq!((status, &body["error"]), (429, &json!("too_many_requests")), "{body}");
    }
    harness.clock.advance(Duration::from_secs(60));
    assert_eq!(own_token(&harness, &second).await.0, 200, "the same one, once there is room");
    assert_eq!(own_token(&harness, &second).await.0, 401, "once");
}

#[tokio::test]
async fn an_assertion_that_was_picked_up_takes_nothing_from_its_client() {
    let (harness, forge) = start_with(|setup| setup.edge = of_a_client(2)).await;
    let seen = assertion(&forge, "1");
    assert_eq!(own_token(&harness, &seen).await.0, 200);
    for _ in 0..5 {
        assert_eq!(own_token(&harness, &seen).await.0, 401);
    }
    assert_eq!(own_token(&harness, &assertion(&forge, "2")).await.0, 200, "its second request of this minute");
    assert_eq!(own_token(&harness, &assertion(&forge, "3")).await.0, 429);
}

/// As many assertions of a client as are taken, and what the answer to one more is.
async fn fill(harness: &Harness, forge: &Forge, client: &str) -> (usize, u16, Value) {
    for taken in 0..100 {
        let jti = format!("{} {taken}", forge.now);
        let claims = claims(forge, &jti).text("iss", client).text("sub", client);
        let (status, body) = own_token(harness, &forge.mint(&header(forge), &claims)).await;
        if status != 200 {
            return (taken, status, body);
        }
    }
    panic!("there is no end to it");
}

#[tokio::test]
async fn a_client_that_fills_its_share_of_remembered_assertions_stands_in_nobodys_way() {
    let others = [(); 2].map(|()| Forge::new(0));
    let (harness, forge) = start_with(|setup| {
        (setup.on_disk, setup.assertions) = (true, 8);
        setup.clients.extend([keyed("second", &others[0]), keyed("third", &others[1])]);
    })
    .await;
    let (taken, status, body) = fill(&harness, &forge, KEYED).await;
    assert_eq!((taken, status, &body["error"]), (4, 429, &json!("too_many_requests")), "half of it: {body}");
    let [second, third] = others.map(|other| Forge { now: forge.now, ..other });
    assert_eq!(fill(&harness, &second, "second").await.0, 2, "half of what is left");
    assert!(harness.active(text(&harness.open("alice").await, "access_token")).await, "who has a secret needs no room");
    let harness = harness.restart(|_, _| ()).await;
    let again = forge.mint(&header(&forge), &claims(&forge, "again"));
    assert_eq!(own_token(&harness, &again).await.0, 429, "a restart gives it no other share");
    assert_eq!(fill(&harness, &third, "third").await.0, 1, "and there is room for a third");
    harness.clock.advance(Duration::from_secs(100));
    let forge = Forge { now: harness.clock.now().seconds(), ..forge };
    let mut taken = 0;
    // Each try is a step, and each step forgets what has expired before it.
    for _ in 0..10 {
        taken = taken.max(fill(&harness, &forge, KEYED).await.0);
    }
    assert_eq!(taken, 4, "when those of before have expired, it has its share again");
}

#[tokio::test]
async fn no_two_assertions_share_a_name() {
    let id = |client: &str, jti: &str| AssertionId::of(&client.parse::<ClientId>().unwrap(), jti);
    assert_eq!(id("a", "b"), id("a", "b"));
    assert_ne!(id("a", "bc"), id("ab", "c"));
    assert_ne!(id("a", "b"), id("b", "a"));
    assert_eq!(id("a", "b").client, id("a", "c").client, "by which they are counted");
}

#[tokio::test]
async fn a_client_with_a_key_is_nobody_without_it() {
    let (harness, _) = start(false).await;
    let form = [("grant_type", "client_credentials"), ("client_id", KEYED)];
    let (status, _) = answer(harness.http.post(format!("{}/oauth2/token", harness.base)).form(&form)).await;
    assert_eq!(status, 401, "by its name alone");
    let (status, _) = harness.post("/v1/sessions", KEYED, &json!({})).await;
    assert_eq!(status, 401, "with somebody's secret");
    let opened = harness.open_for("alice", PUBLIC).await;
    assert_eq!(harness.refresh(text(&opened, "refresh_token"), PUBLIC).await.0, 200);
}

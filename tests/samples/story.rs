//! What is asked of every sample, whatever it is written in.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    super::process::Sidecar,
    site::Site,
    stage::{MAX_STALENESS, START, Stage},
    wire::{Answer, send, until},
};

/// What a revocation may take from its acknowledgement to the last sample. G2 is measured elsewhere.
const IMMEDIATE: Duration = Duration::from_secs(2);
/// What may come on top of `max_staleness` on a busy machine: an answer, not a policy.
const SLACK: Duration = Duration::from_secs(4);

pub fn good_is_told_from_bad(stage: &Stage, site: &Site) {
    for subject in ["alice", "zoë 100%"] {
        assert_eq!(site.subject_of(&site.orders(&stage.open(subject, Some("orders:read")))), subject);
    }
    let challenge = refused(&site.get("/orders", &[]));
    // RFC 6750 section 3.1: nothing was wrong with what was not there.
    assert!(!challenge.contains("error="), "{challenge}");
    let good = stage.open("alice", Some("orders:read"));
    for bad in ["garbage", "a.b.c", &flipped(&good), &good[..good.len() - 1]] {
        refused(&site.orders(bad));
    }
}

/// 401 with a challenge, which it gives back.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, 401, "{answer:?}");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert!(challenge.starts_with("Bearer"), "{}", answer.head);
    challenge.to_owned()
}

/// The application could read another than the sidecar did.
pub fn two_tokens_are_none(stage: &Stage, site: &Site) {
    let bearer = format!("Bearer {}", stage.open("alice", Some("orders:read")));
    for two in [[&*bearer, "Bearer garbage"], ["Bearer garbage", &*bearer]] {
        let answer = site.get("/orders", &two.map(|value| ("Authorization", value)));
        assert!([400, 401].contains(&answer.status), "{answer:?}");
    }
}

/// The same token with another signature.
pub fn flipped(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{other}{}", &signature[1..])
}

/// Whatever a client says of itself in a header, the application hears of the token's subject.
pub fn no_identity_is_forged(stage: &Stage, site: &Site) {
    let good = stage.open("alice", Some("orders:read"));
    let answer = site.forged(&good);
    assert_eq!(site.subject_of(&answer), "alice");
    assert!(!answer.body.contains("mallory"), "{}", answer.body);
    // What the token does not have is not the client's to say either.
    let answer = site.forged(&stage.open("alice", None));
    assert!(!answer.body.contains("mallory"), "{}", answer.body);
    // RFC 9110 section 7.6.1: what `Connection` names, a proxy takes out on the way.
    let bearer = format!("Bearer {good}");
    let named = [("Connection", "close, X-Auth-Subject"), ("X-Auth-Subject", "mallory"), ("Authorization", &*bearer)];
    assert_eq!(site.subject_of(&site.get("/orders", &named)), "alice");
}

pub fn revoked_is_refused(stage: &Stage, site: &Site) {
    let token = stage.open("bob", Some("orders:read"));
    let other = stage.open("bob", Some("orders:read"));
    assert_eq!(site.subject_of(&site.orders(&token)), "bob");
    stage.revoke("token", &jti(&token));
    refused(&until(401, &[200], IMMEDIATE, || site.orders(&token)));
    assert_eq!(site.subject_of(&site.orders(&other)), "bob", "only that token");
    stage.revoke("subject", "bob");
    refused(&until(401, &[200], IMMEDIATE, || site.orders(&other)));
    let after = stage.open("bob", Some("orders:read"));
    assert_eq!(site.subject_of(&site.orders(&after)), "bob", "what came after is good");
}

fn jti(token: &str) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

pub fn post(site: &Site, token: &str, body: &str) -> Answer {
    send(&site.base, "POST /orders", &[("Authorization", &format!("Bearer {token}"))], body).unwrap()
}

/// What a proxy makes of the sidecar's answers is not done to the application's.
pub fn the_application_answers_for_itself(stage: &Stage, site: &Site) {
    let bearer = format!("Bearer {}", stage.open("alice", Some("orders:read")));
    for status in [401, 403, 404, 500] {
        let answer = site.get(&format!("/{status}"), &[("Authorization", &bearer)]);
        assert_eq!(answer.status, status);
        assert!(answer.body.starts_with(&format!("GET /{status}")), "the application's own words: {}", answer.body);
    }
}

/// A good token is 503 while nobody can tell that it is still good, and never 401: the client must not throw it away.
pub fn outage_is_503(stage: Stage, site: &Site, says_when_the_sidecar_is_down: bool) {
    let token = stage.open("alice", Some("orders:read"));
    let ask = || site.orders(&token);
    assert_eq!(ask().status, 200);

    stage.sidecar.signal("-STOP");
    assert_eq!(ask().status, 503, "the sidecar hangs");
    stage.sidecar.signal("-CONT");
    until(200, &[503], START, ask);

    let sidecar = outage_is_503_here(stage, site);
    sidecar.kill();
    let unavailable = ask();
    assert_eq!(unavailable.status, 503, "the sidecar is gone");
    assert_eq!(unavailable.header("retry-after").is_some(), says_when_the_sidecar_is_down, "{}", unavailable.head);
}

/// The issuer is gone; the sidecar is handed back.
pub fn outage_is_503_here(stage: Stage, site: &Site) -> Sidecar {
    let token = stage.open("alice", Some("orders:read"));
    let ask = || site.orders(&token);
    assert_eq!(ask().status, 200);
    let Stage { dev, sidecar, .. } = stage;
    dev.kill();
    let unavailable = until(503, &[200], MAX_STALENESS + SLACK, ask);
    assert!(unavailable.header("retry-after").is_some(), "{}", unavailable.head);
    for _ in 0..5 {
        assert_eq!(ask().status, 503, "and stays so");
    }
    sidecar
}

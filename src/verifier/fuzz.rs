//! What must hold of any bytes that verifiers read.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    Checker, Verifier, claims, feed,
    jws::{Header, Jws, MAX_TOKEN, is_access_token},
};
use crate::model::{
    Algorithm, Jwk, JwkSet, PublicKey, Timestamp,
    feed::{Page, Tail},
};

/// A key that nothing here signs with.
fn keys() -> JwkSet {
    let mut point = [0x66; 32];
    point[0] = 0x58;
    let key = PublicKey::from_bytes(&point).expect("the base point is a key");
    JwkSet { keys: vec![Jwk { kid: "k1".parse().expect("a kid"), algorithm: Algorithm::EdDSA, key }] }
}

/// Made once: its keys are prepared for many signatures.
static CHECKER: LazyLock<Checker> = LazyLock::new(|| {
    let builder = Verifier::builder("https://issuer.test").dangerous_any_audience().keys(keys());
    builder.checker().expect("an issuer and a key are enough")
});

/// One spelling, and never accepted: nobody could have signed it.
pub(crate) fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(jws) = Jws::parse(text, MAX_TOKEN) {
        let parts = [&jws.header, &jws.payload, &jws.signature].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        assert_eq!(parts.join("."), text);
        assert!(text.as_bytes().starts_with(jws.signed));
    }
    assert!(CHECKER.check(text, Timestamp::from_millis(1_800_000_000_000)).is_err(), "forged");
}

/// What is read is what another reader of JSON finds there.
pub(crate) fn header(json: &[u8]) {
    let Ok(header) = Header::parse(json, is_access_token) else { return };
    let seen: Value = serde_json::from_slice(json).expect("JSON to one reader is JSON to the other");
    assert_eq!(seen["kid"], *header.kid);
    assert!(seen["typ"].as_str().is_some_and(is_access_token));
    for forbidden in ["crit", "jwk", "jku", "x5u", "x5c", "b64"] {
        assert!(seen.get(forbidden).is_none(), "{forbidden}");
    }
}

/// The same for claims, and what a decision rests on is there.
pub(crate) fn claims(json: &[u8]) {
    let Ok(claims) = claims::parse(json) else { return };
    let seen: Value = serde_json::from_slice(json).expect("JSON to one reader is JSON to the other");
    assert_eq!(seen["iss"], *claims.issuer);
    assert_eq!(seen["sub"], claims.subject.as_str());
    assert_eq!(seen["client_id"], claims.client.as_str());
    assert!(seen.get("cnf").is_none());
}

/// A set that is taken has keys that can be used, each by one name.
pub(crate) fn jwks(json: &[u8]) {
    let Ok(set) = JwkSet::parse(json) else { return };
    assert!((1..=64).contains(&set.keys.len()));
    for (i, jwk) in set.keys.iter().enumerate() {
        assert!(set.keys[..i].iter().all(|other| other.kid != jwk.kid));
        assert_eq!(PublicKey::from_x(&jwk.key.x()).expect("it was a key"), jwk.key);
        assert!(!jwk.key.verifies(b"nobody signed this", &[0; 64]));
    }
}

/// Bytes that nobody signed are no answer of the feed; and what a signed one holds is in order, or refused.
pub(crate) fn feed_page(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(feed::tail(text, "https://issuer.test", &keys()).is_err());
        assert!(feed::page(text, "https://issuer.test", &keys()).is_err());
    }
    if let Ok(page) = serde_json::from_slice::<Page>(bytes) {
        ordered(feed::in_order(page.from, page.to, &page.entries).is_ok(), &page.entries);
        let again: Page =
            serde_json::from_value(serde_json::to_value(&page).expect("it serialises")).expect("and back");
        assert_eq!(again, page);
    }
    if let Ok(tail) = serde_json::from_slice::<Tail>(bytes) {
        ordered(feed::in_order(tail.from, tail.to, &tail.entries).is_ok(), &tail.entries);
    }
}

fn ordered(taken: bool, entries: &[crate::model::feed::Item]) {
    assert!(!taken || entries.is_sorted_by(|a, b| a.position < b.position));
}

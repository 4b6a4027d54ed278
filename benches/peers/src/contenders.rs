//! The same tokens, verified three ways. Each contender answers for a token by its number and panics if it is refused.

use std::hint::black_box;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::Signature;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rescind::{model::JwkSet, verifier::Verifier};
use serde::Deserialize;

use crate::tokens::{AUDIENCE, Fixture, ISSUER};

/// Verifies the token of that number.
pub type Contender = Box<dyn Fn(usize)>;

/// Ours, as a service uses it.
pub fn rescind_verify(fixture: &Fixture) -> Contender {
    let keys = JwkSet::parse(fixture.jwks().as_bytes()).expect("our own key set");
    let verifier = Verifier::builder(ISSUER)
        .audience(AUDIENCE)
        .keys(keys)
        .dangerous_allow_stale()
        .without_seen_before()
        .build()
        .expect("complete settings");
    let tokens = fixture.tokens.clone();
    Box::new(move |token| {
        black_box(verifier.verify(black_box(&tokens[token])).expect("a good token"));
    })
}

/// The claims as a user of the peer would declare them.
#[derive(Deserialize)]
#[expect(dead_code, reason = "deserialized to be thrown away")]
struct PeerClaims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    iat: u64,
    nbf: u64,
    jti: String,
    client_id: String,
    sid: Option<String>,
    scope: Option<String>,
    sub_ref: String,
    org: Option<String>,
}

/// The peer, as strict as it can be told to be.
pub fn jsonwebtoken_decode(fixture: &Fixture) -> Contender {
    let key = DecodingKey::from_ed_components(&fixture.public_key().x()).expect("a key");
    let mut strict = Validation::new(Algorithm::EdDSA);
    strict.set_audience(&[AUDIENCE]);
    strict.set_issuer(&[ISSUER]);
    strict.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    strict.validate_nbf = true;
    let tokens = fixture.tokens.clone();
    Box::new(move |token| {
        black_box(jsonwebtoken::decode::<PeerClaims>(black_box(&tokens[token]), &key, &strict).expect("a good token"));
    })
}

/// The signature alone, over bytes that lie ready.
pub fn verify_strict(fixture: &Fixture) -> Contender {
    let key = fixture.key.verifying_key();
    let signed: Vec<(Box<[u8]>, Signature)> = fixture.tokens.iter().map(|token| split(token)).collect();
    Box::new(move |token| {
        let (message, signature) = &signed[token];
        key.verify_strict(black_box(message), black_box(signature)).expect("a good signature");
    })
}

fn split(token: &str) -> (Box<[u8]>, Signature) {
    let (message, signature) = token.rsplit_once('.').expect("three segments");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    (message.as_bytes().into(), Signature::from_slice(&bytes).expect("64 bytes"))
}

//! Tokens as the service mints them, under a key made for this run.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use rescind::{
    clock::{Clock, SystemClock},
    model::{
        Algorithm, Jwk, JwkSet, PublicKey, SessionId, SubjectRef, Timestamp, TokenId,
        claims::{ACCESS_TOKEN_TYPE, Claims, CustomClaims},
    },
};

pub const ISSUER: &str = "https://id.example";
pub const AUDIENCE: &str = "api";

/// Distinct tokens of one length under one key.
pub struct Fixture {
    pub key: SigningKey,
    pub tokens: Vec<String>,
}

impl Fixture {
    /// Mints `count` tokens of as near `bytes` bytes as base64 allows.
    pub fn mint(count: usize, bytes: usize) -> Self {
        let key = SigningKey::from_bytes(&random());
        let now = SystemClock::default().now();
        let tokens = (0..count).map(|_| padded(&key, now, bytes)).collect();
        Self { key, tokens }
    }

    pub fn public_key(&self) -> PublicKey {
        public_key(&self.key)
    }

    /// The key set as the issuer publishes it.
    pub fn jwks(&self) -> String {
        let key = self.public_key();
        let jwk = Jwk { kid: key.thumbprint(), algorithm: Algorithm::EdDSA, key };
        serde_json::to_string(&JwkSet { keys: vec![jwk] }).expect("a key set is JSON")
    }

    pub fn token_bytes(&self) -> usize {
        let length = self.tokens[0].len();
        assert!(self.tokens.iter().all(|token| token.len() == length), "every token has the same length");
        length
    }
}

fn public_key(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes()).expect("a generated key is strong")
}

/// A custom claim takes up what is missing to the wanted length.
fn padded(key: &SigningKey, now: Timestamp, bytes: usize) -> String {
    let mut claims = claims(now);
    let missing = bytes.checked_sub(sign(key, &claims).len()).expect("the claims fit into the wanted length");
    claims.custom.insert("org".into(), "x".repeat(missing * 3 / 4).into());
    let mut token = sign(key, &claims);
    while token.len() > bytes {
        let shorter = claims.custom["org"].as_str().expect("was put there as text").len() - 1;
        claims.custom.insert("org".into(), "x".repeat(shorter).into());
        token = sign(key, &claims);
    }
    token
}

fn claims(now: Timestamp) -> Claims {
    Claims {
        issuer: ISSUER.into(),
        subject: "user-4711".parse().expect("a subject"),
        subject_ref: SubjectRef(random()),
        audience: vec![AUDIENCE.parse().expect("an audience")],
        expires: Timestamp::from_millis(now.millis() + 300_000),
        issued: now,
        not_before: now,
        token: TokenId::new(now, &random()),
        client: "web".parse().expect("a client id"),
        session: Some(SessionId::new(now, &random())),
        scope: "read".parse().expect("a scope"),
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        custom: CustomClaims::from_iter([("org".into(), "".into())]),
    }
}

fn sign(key: &SigningKey, claims: &Claims) -> String {
    let kid = public_key(key).thumbprint();
    let header = format!(r#"{{"alg":"EdDSA","typ":"{ACCESS_TOKEN_TYPE}","kid":"{kid}"}}"#);
    let payload = serde_json::to_vec(claims).expect("claims are JSON");
    let text = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload));
    let signature = key.sign(text.as_bytes()).to_bytes();
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::disallowed_methods, reason = "the verifier alone has no source of random numbers")]
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

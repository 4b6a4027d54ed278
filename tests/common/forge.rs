//! Mints tokens with a key of its own, good ones and any other.
#![allow(unreachable_pub, dead_code, reason = "shared by tests, benches and examples, each using a part")]
#![allow(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use rescind::{
    clock::Clock,
    model::{Algorithm, Jwk, JwkSet, PublicKey, SubjectRef, Timestamp, TokenId},
};

pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "api";

/// A clock that stands.
pub struct At(pub Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub struct Forge {
    pub key: SigningKey,
    /// Seconds since 1970, at which its tokens are issued.
    pub now: u64,
}

impl Forge {
    /// With a fresh key. Hash seeds are random enough for a key that guards nothing.
    pub fn new(now: u64) -> Self {
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
        }
        Self { key: SigningKey::from_bytes(&seed), now }
    }
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(&self.key.verifying_key().to_bytes()).unwrap()
    }
    pub fn kid(&self) -> String {
        self.public().thumbprint().to_string()
    }
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.jwk()] }
    }
    pub fn jwk(&self) -> Jwk {
        Jwk { kid: self.public().thumbprint(), algorithm: Algorithm::EdDSA, key: self.public() }
    }
    pub fn header(&self) -> Members {
        Members::default().text("alg", "EdDSA").text("typ", "at+jwt").text("kid", &self.kid())
    }
    /// The claims of a token that is issued now and lives five minutes.
    pub fn claims(&self) -> Members {
        let sub_ref = SubjectRef([7; 16]).to_string();
        Members::default()
            .text("iss", ISSUER)
            .text("sub", "alice")
            .text("aud", AUDIENCE)
            .set("exp", self.now + 300)
            .set("nbf", self.now)
            .issued(self.now)
            .text("client_id", "web")
            .text("sub_ref", &sub_ref)
            .text("sid", &uuid(self.now - 60))
            .text("scope", "orders:read orders:write")
            .set("auth_time", self.now - 60)
            .text("acr", "1")
            .set("amr", r#"["pwd","otp"]"#)
            .set("role", r#"{"name":"clerk","floors":[1,2]}"#)
    }
    pub fn sign(&self, input: &str) -> [u8; 64] {
        self.key.sign(input.as_bytes()).to_bytes()
    }
    /// `input` (two segments) with its signature.
    pub fn seal(&self, input: &str) -> String {
        format!("{input}.{}", b64(self.sign(input)))
    }
    pub fn mint(&self, header: &Members, claims: &Members) -> String {
        self.mint_raw(&header.json(), claims.json())
    }
    pub fn mint_raw(&self, header: &str, payload: impl AsRef<[u8]>) -> String {
        self.seal(&format!("{}.{}", b64(header), b64(payload)))
    }
    /// A good token.
    pub fn token(&self) -> String {
        self.mint(&self.header(), &self.claims())
    }
}

/// A UUIDv7 stamped with this second.
pub fn uuid(seconds: u64) -> String {
    TokenId::new(Timestamp::from_seconds(seconds), &[0xa5; 10]).to_string()
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A JSON object as text, so that it may hold what no serializer writes.
#[derive(Default, Clone)]
pub struct Members(pub Vec<(String, String)>);

impl Members {
    /// Replaces the member or appends it; `json` is written as it stands.
    pub fn set(mut self, name: &str, json: impl ToString) -> Self {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => *value = json.to_string(),
            None => self.0.push((name.into(), json.to_string())),
        }
        self
    }
    /// As [`Members::set`], with a string.
    pub fn text(self, name: &str, text: &str) -> Self {
        self.set(name, serde_json::to_string(text).unwrap())
    }
    /// Appends a member even if there is one; `name` is written as it stands.
    pub fn again(mut self, name: &str, json: &str) -> Self {
        self.0.push((name.into(), json.into()));
        self
    }
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }
    /// `iat` and the stamp of `jti`.
    pub fn issued(self, seconds: u64) -> Self {
        self.set("iat", seconds).text("jti", &uuid(seconds))
    }
    pub fn json(&self) -> String {
        let members: Vec<_> = self.0.iter().map(|(name, json)| format!(r#""{name}":{json}"#)).collect();
        format!("{{{}}}", members.join(","))
    }
}

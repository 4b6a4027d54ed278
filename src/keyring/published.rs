//! The JWKS as it goes over the wire, rendered once per change of the keys.

use std::fmt;

use sha2::{Digest, Sha256};

use super::ring::{KeyInfo, Ring};
use crate::model::{Jwk, JwkSet, feed::KeysVersion};

/// The published keys: pending, active and retiring, oldest first.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishedSet {
    /// The keys.
    pub set: JwkSet,
    /// The same as JSON (RFC 7517 §5).
    pub json: Vec<u8>,
    /// A strong validator (RFC 9110 §8.8.3) with its quotes: equal if and only if `json` is.
    pub etag: String,
    /// The same hash, as the feed names it.
    pub version: KeysVersion,
}

impl PublishedSet {
    pub(super) fn new(ring: &Ring) -> Self {
        let published = ring.keys().iter().filter(|k| k.is_published());
        let jwk = |k: &KeyInfo| Jwk { kid: k.kid.clone(), algorithm: k.algorithm, key: k.key };
        let set = JwkSet { keys: published.map(jwk).collect() };
        let json = serde_json::to_vec(&set).expect("strings serialise");
        let version = KeysVersion(Sha256::digest(&json).into());
        let etag = format!("\"{version}\"");
        Self { set, json, etag, version }
    }
}

impl fmt::Debug for PublishedSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublishedSet({} keys, etag {})", self.set.keys.len(), self.etag)
    }
}

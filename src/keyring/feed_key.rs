//! The key of the feed. It signs nothing else, so that nobody who can have one thing signed can have the other.

use std::fmt;

use super::{secret::SecretBytes, signing::LocalKey};
use crate::model::{Algorithm, Jwk, Kid};

/// Signs the feed, and never a token: no token verifier is ever given its public half.
pub struct FeedKey(LocalKey);

impl FeedKey {
    pub(super) fn new(seed: &SecretBytes) -> Self {
        Self(LocalKey::new(seed))
    }
    /// Its name: `kid`.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        self.0.kid()
    }
    /// The `alg` of what it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        // Only our own verifiers read the feed, and they know this name: a switch would help nobody.
        Algorithm::EdDSA
    }
    /// What its signatures are verified with.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        Jwk { kid: self.kid().clone(), algorithm: self.algorithm(), key: self.0.public_key() }
    }
    /// An Ed25519 signature (RFC 8032 §5.1.6).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

impl fmt::Debug for FeedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeedKey({})", self.kid())
    }
}

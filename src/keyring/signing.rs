//! One signing key.

use std::fmt;

use ed25519_dalek::Signer;

use super::secret::SecretBytes;
use crate::{
    clock::Random,
    model::{Algorithm, Kid, PublicKey},
};

/// A private key that signs access tokens, with the names that go into their headers.
pub struct ActiveKey {
    kid: Kid,
    algorithm: Algorithm,
    public: PublicKey,
    key: ed25519_dalek::SigningKey,
}

impl ActiveKey {
    pub(super) fn generate(algorithm: Algorithm, random: &dyn Random) -> Self {
        Self::new(&SecretBytes::generate(random), algorithm)
    }
    pub(super) fn new(seed: &SecretBytes, algorithm: Algorithm) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed.expose());
        let public = PublicKey::from_bytes(&key.verifying_key().to_bytes());
        let public = public.expect("a clamped scalar times the base point is of large order (RFC 8032 §5.1.5)");
        Self { kid: public.thumbprint(), algorithm, public, key }
    }
    /// Its name: `kid`.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.kid
    }
    /// The `alg` of what it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    /// What its signatures are verified with.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }
    /// An Ed25519 signature (RFC 8032 §5.1.6): the same for the same message, so no randomness can fail it.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
    pub(super) fn seed(&self) -> SecretBytes {
        SecretBytes::new(self.key.to_bytes())
    }
}

impl fmt::Debug for ActiveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveKey({})", self.kid)
    }
}

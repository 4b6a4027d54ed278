//! The key that signs the head of the audit log. It signs nothing else.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{secret::SecretBytes, signing::LocalKey};
use crate::model::{Algorithm, Jwk, Kid};

/// Signs the audit log's head: neither a token nor a feed, whose verifiers are never given its public half.
pub struct AuditKey(LocalKey);

impl AuditKey {
    /// Of the same secret as a feed key, by way of a label (RFC 5869): knowing one of the two keys says nothing of the
    /// other, and neither needs a file of its own.
    pub(super) fn new(secret: &SecretBytes) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        let hkdf = Hkdf::<Sha256>::new(None, secret.expose());
        hkdf.expand(b"rescind/audit/head/1", &mut *seed).expect("32 bytes are within the 8160 of RFC 5869 §2.3");
        Self(LocalKey::new(&SecretBytes::new(*seed)))
    }
    /// Its name: `kid`, which an auditor pins.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        self.0.kid()
    }
    /// What its signatures are verified with.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        Jwk { kid: self.kid().clone(), algorithm: Algorithm::EdDSA, key: self.0.public_key() }
    }
    /// An Ed25519 signature (RFC 8032 §5.1.6).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditKey({})", self.kid())
    }
}

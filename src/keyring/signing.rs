//! One signing key, and the boundary behind which its private half may live elsewhere.

use std::fmt;

use ed25519_dalek::Signer as _;

use super::secret::SecretBytes;
use crate::{
    clock::Random,
    model::{Algorithm, Kid, PublicKey},
};

/// Signs with a private key that is not in this process: a hardware security module, a key management service. May block.
pub trait Signer: Send + Sync + 'static {
    /// An Ed25519 signature (RFC 8032 §5.1.6).
    ///
    /// # Errors
    /// [`SignerError`]: nothing was signed.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError>;
}

/// Why there is no signature. The token is not issued; who asked may ask again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// It did not answer, or refused.
    #[error("the signer does not sign: {0}")]
    Unavailable(String),
    /// What it answered is not a signature by the key that is published: it has another key, or is faulty (RFC 8032 §8.4).
    #[error("the signer's signature does not verify under the published key")]
    Wrong,
}

/// A private key in this process's memory, wiped when it goes.
pub(super) struct LocalKey {
    kid: Kid,
    public: PublicKey,
    key: ed25519_dalek::SigningKey,
}

impl LocalKey {
    pub(super) fn generate(random: &dyn Random) -> Self {
        Self::new(&SecretBytes::generate(random))
    }
    pub(super) fn new(seed: &SecretBytes) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed.expose());
        let public = PublicKey::from_bytes(&key.verifying_key().to_bytes());
        let public = public.expect("a clamped scalar times the base point is of large order (RFC 8032 §5.1.5)");
        Self { kid: public.thumbprint(), public, key }
    }
    pub(super) fn kid(&self) -> &Kid {
        &self.kid
    }
    pub(super) fn public_key(&self) -> PublicKey {
        self.public
    }
    /// The same for the same message, so no randomness can fail it.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
    pub(super) fn seed(&self) -> SecretBytes {
        SecretBytes::new(self.key.to_bytes())
    }
}

/// A key that signs access tokens, with the names that go into their headers.
pub struct ActiveKey {
    kid: Kid,
    algorithm: Algorithm,
    public: PublicKey,
    half: Half,
}

/// Where the private half is.
enum Half {
    Local(Box<LocalKey>),
    Remote(Box<dyn Signer>),
}

impl ActiveKey {
    pub(super) fn generate(algorithm: Algorithm, random: &dyn Random) -> Self {
        Self::local(LocalKey::generate(random), algorithm)
    }
    pub(super) fn new(seed: &SecretBytes, algorithm: Algorithm) -> Self {
        Self::local(LocalKey::new(seed), algorithm)
    }
    fn local(key: LocalKey, algorithm: Algorithm) -> Self {
        Self { kid: key.kid.clone(), algorithm, public: key.public, half: Half::Local(Box::new(key)) }
    }
    /// A key whose private half is behind `signer`.
    #[must_use]
    pub fn remote(public: PublicKey, algorithm: Algorithm, signer: Box<dyn Signer>) -> Self {
        Self { kid: public.thumbprint(), algorithm, public, half: Half::Remote(signer) }
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
    /// An Ed25519 signature (RFC 8032 §5.1.6). One that came from elsewhere has been verified.
    ///
    /// # Errors
    /// [`SignerError`], of a key that lives elsewhere.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        match &self.half {
            Half::Local(key) => Ok(key.sign(message)),
            Half::Remote(signer) => {
                let signature = signer.sign(message)?;
                // A faulty signature can give away an Ed25519 key; and of another key nobody could verify it.
                if self.public.verifies(message, &signature) { Ok(signature) } else { Err(SignerError::Wrong) }
            }
        }
    }
    /// The private half, if it is here.
    pub(super) fn seed(&self) -> Option<SecretBytes> {
        match &self.half {
            Half::Local(key) => Some(key.seed()),
            Half::Remote(_) => None,
        }
    }
}

impl fmt::Debug for ActiveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveKey({})", self.kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that answers what it likes.
    struct Module(fn(&LocalKey, &[u8]) -> Result<[u8; 64], SignerError>);

    impl Signer for Module {
        fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
            (self.0)(&LocalKey::new(&SecretBytes::new([7; 32])), message)
        }
    }

    #[test]
    fn what_a_remote_signer_answers_is_verified_before_it_leaves() {
        let public = LocalKey::new(&SecretBytes::new([7; 32])).public_key();
        let sign = |module| ActiveKey::remote(public, Algorithm::EdDSA, Box::new(Module(module))).sign(b"message");
        assert!(public.verifies(b"message", &sign(|key, m| Ok(key.sign(m))).unwrap()));
        assert!(matches!(sign(|key, _| Ok(key.sign(b"another"))), Err(SignerError::Wrong)));
        let other = |_: &LocalKey, m: &[u8]| Ok(LocalKey::new(&SecretBytes::new([8; 32])).sign(m));
        assert!(matches!(sign(other), Err(SignerError::Wrong)), "another key's");
        let flipped = |key: &LocalKey, m: &[u8]| {
            let mut signature = key.sign(m);
            signature[40] ^= 1;
            Ok(signature)
        };
        assert!(matches!(sign(flipped), Err(SignerError::Wrong)), "a fault");
        let away = |_: &LocalKey, _: &[u8]| Err(SignerError::Unavailable("no answer in 2s".into()));
        assert!(matches!(sign(away), Err(SignerError::Unavailable(_))));
    }
}

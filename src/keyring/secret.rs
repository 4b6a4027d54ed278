//! The two shapes in which secrets lie in memory. Neither can be cloned, printed or serialised; both are wiped.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::clock::{Random, random_bytes};

/// 32 secret bytes. [`SecretBytes::expose`] is the one way to them.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SecretBytes([u8; 32]);

impl SecretBytes {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    pub(super) fn generate(random: &dyn Random) -> Self {
        Self(random_bytes(random))
    }
    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

/// What the files in `keys/` are encrypted under.
pub struct Passphrase(Zeroizing<String>);

/// A passphrase without a character protects nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the passphrase is empty")]
pub struct EmptyPassphrase;

impl Passphrase {
    /// One line end at its end is not part of it, since a passphrase usually comes from a file or from stdin.
    ///
    /// # Errors
    /// [`EmptyPassphrase`].
    pub fn new(text: String) -> Result<Self, EmptyPassphrase> {
        let text = Zeroizing::new(text);
        let line = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
        if line.is_empty() {
            return Err(EmptyPassphrase);
        }
        Ok(Self(Zeroizing::new(line.to_owned())))
    }
    pub(super) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

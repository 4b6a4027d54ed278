//! The refresh token: opaque to clients, recognisable to secret scanners, refusable without asking the store.
//!
//! `rescind_rt_` and 92 characters of base64url over 69 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 16 | family |
//! | 4 | generation |
//! | 4 | which derivation key |
//! | 32 | secret: `HMAC(derivation key, family ‖ generation ‖ nonce)` |
//! | 8 | tag: a keyed hash of all before it |
//! | 4 | CRC-32 of prefix and all before it, for secret scanners |

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    keyring::DerivationKey,
    model::{SessionId, family::Generation},
};

/// What every refresh token begins with.
pub const PREFIX: &str = "rescind_rt_";
const VERSION: u8 = 1;
const TAGGED: usize = 1 + 16 + 4 + 4 + 32;
const SUMMED: usize = TAGGED + 8;
const LENGTH: usize = SUMMED + 4;

/// A refresh token. Shows nothing of itself; [`RefreshToken::expose`] is the one way out.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RefreshToken(String);

impl RefreshToken {
    /// The token's text, for the one response that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Composes the token of a generation. The same inputs give the same bytes, which is why a successor never needs
    /// to be stored.
    pub(super) fn compose(key: &DerivationKey, family: SessionId, generation: Generation, nonce: &[u8; 16]) -> Self {
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(family.as_bytes());
        bytes[17..21].copy_from_slice(&generation.0.to_be_bytes());
        bytes[21..25].copy_from_slice(&key.id().to_be_bytes());
        bytes[25..57].copy_from_slice(&key.secret(family, generation.0, nonce));
        let tag = key.tag(&bytes[..TAGGED]);
        bytes[TAGGED..SUMMED].copy_from_slice(&tag);
        let sum = checksum(&bytes[..SUMMED]);
        bytes[SUMMED..].copy_from_slice(&sum);
        let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
        bytes.zeroize();
        Self(text)
    }
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken")
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(PREFIX.as_bytes());
    hasher.update(bytes);
    hasher.finalize().to_be_bytes()
}

/// A presented token, well formed; nothing about it is believed yet.
pub(super) struct Parsed {
    bytes: [u8; LENGTH],
    pub(super) family: SessionId,
    pub(super) generation: Generation,
    pub(super) key: u32,
}

impl Drop for Parsed {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl Parsed {
    /// Reads the one spelling that [`RefreshToken::compose`] writes.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        if text.len() != LENGTH.div_ceil(3) * 4 {
            return None;
        }
        let mut bytes = [0; LENGTH];
        let written = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        if written != LENGTH || bytes[0] != VERSION || bytes[SUMMED..] != checksum(&bytes[..SUMMED]) {
            return None;
        }
        let family = SessionId::from_bytes(bytes[1..17].try_into().ok()?)?;
        let generation = Generation(u32::from_be_bytes(bytes[17..21].try_into().ok()?));
        let key = u32::from_be_bytes(bytes[21..25].try_into().ok()?);
        Some(Self { bytes, family, generation, key })
    }

    /// As it was written.
    #[cfg(any(test, fuzzing))]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the tag is this key's. Needs no store.
    pub(super) fn is_tagged_by(&self, key: &DerivationKey) -> bool {
        let tag: &[u8; 8] = self.bytes[TAGGED..SUMMED].try_into().expect("eight bytes");
        key.is_tag(&self.bytes[..TAGGED], tag)
    }

    /// Whether the secret is that of a family with this nonce.
    pub(super) fn is_secret_of(&self, key: &DerivationKey, nonce: &[u8; 16]) -> bool {
        let secret: &[u8; 32] = self.bytes[25..57].try_into().expect("32 bytes");
        key.is_secret(self.family, self.generation.0, nonce, secret)
    }
}

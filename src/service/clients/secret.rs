//! Client secrets: made here, kept only as a hash by those who check them.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::clock::{Random, random_bytes};

/// What client secrets begin with, so that secret scanners recognise a leaked one.
const PREFIX: &str = "rescind_cs_";

/// A new client secret of 256 bits.
#[must_use]
pub fn generate_secret(random: &dyn Random) -> Zeroizing<String> {
    let bytes = Zeroizing::new(random_bytes::<32>(random));
    Zeroizing::new(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(*bytes)))
}

/// SHA-256 of a client secret. Secrets are 256 random bits, so a plain hash is as good as a slow one.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of no secret that anyone could find.
    pub(super) const NOBODY: Self = Self([0; 32]);

    /// Of a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
    /// In hexadecimal, as a configuration has it.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
    /// Names the secret without telling anything of it: the first 12 digits.
    #[must_use]
    pub fn id(self) -> String {
        self.to_hex()[..12].to_owned()
    }
    /// In constant time.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl FromStr for SecretHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = "secret hash: 64 hexadecimal digits, as `rescind client generate-secret` prints them";
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(err);
        }
        let mut out = [0; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| err)?;
        }
        Ok(Self(out))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

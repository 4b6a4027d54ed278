//! Certificates that clients prove themselves by when they connect (RFC 8705 §2.2), known by their hashes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};
use subtle::{Choice, ConstantTimeEq};

/// SHA-256 of a certificate in DER: `x5t#S256` (RFC 8705 §3.1) before it is encoded. No secret, but compared like one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificateHash(pub [u8; 32]);

impl CertificateHash {
    /// In constant time.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// As `openssl x509 -fingerprint -sha256` prints it, with or without colons.
impl FromStr for CertificateHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = "certificate hash: 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them";
        let digits = text.replace(':', "");
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(err);
        }
        let mut out = [0; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| err)?;
        }
        Ok(Self(out))
    }
}

impl fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateHash({self})")
    }
}

impl<'de> Deserialize<'de> for CertificateHash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let plain = "0a".repeat(32);
        let colons = vec!["0A"; 32].join(":");
        assert_eq!(plain.parse::<CertificateHash>(), colons.parse());
        assert_eq!(plain.parse::<CertificateHash>().unwrap().to_string(), plain);
        for bad in ["", "0a", &"0g".repeat(32), &"0a".repeat(33)] {
            assert!(bad.parse::<CertificateHash>().is_err(), "{bad}");
        }
    }
}

//! Public signing keys and their JSON form (RFC 7517, RFC 8037).

use std::{fmt, str::FromStr};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use curve25519_dalek::EdwardsPoint;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Kid;

/// The name by which a key's signatures go, equal in its JWK and in every header that it signs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Algorithm {
    /// RFC 8037 §3.1: the name that today's verifiers know.
    #[default]
    EdDSA,
    /// RFC 9864 §2.2: the fully specified name.
    Ed25519,
}

impl Algorithm {
    /// The `alg` value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl FromStr for Algorithm {
    type Err = JwkError;
    fn from_str(text: &str) -> Result<Self, JwkError> {
        match text {
            "EdDSA" => Ok(Self::EdDSA),
            "Ed25519" => Ok(Self::Ed25519),
            _ => Err(JwkError::Algorithm),
        }
    }
}

/// Why a public key is refused at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// `x` is not 32 bytes of base64url.
    #[error("x is not 32 bytes of unpadded base64url")]
    Encoding,
    /// The bytes are not a point, or not its one canonical encoding (RFC 8032 §5.1.3).
    #[error("x is not the canonical encoding of a point on the curve")]
    NotAPoint,
    /// A key of small order: signatures under it prove nothing.
    #[error("x is a weak key of small order")]
    Weak,
    /// `alg` is neither `EdDSA` nor `Ed25519`.
    #[error("alg is neither EdDSA nor Ed25519")]
    Algorithm,
}

/// SubjectPublicKeyInfo of Ed25519 up to the key itself (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 public key that is known to be canonical and of large order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From its 32 bytes (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// [`JwkError::NotAPoint`], [`JwkError::Weak`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, JwkError> {
        // The encoding is canonical iff y < 2^255 - 19; decompression alone reduces a larger y silently. A set sign
        // bit with x = 0 is the one other second spelling, and only points of small order have x = 0.
        let mut y = *bytes;
        y[31] &= 0x7f;
        let above_p = y[1..31].iter().all(|&b| b == 0xff) && y[31] == 0x7f && y[0] >= 0xed;
        if above_p {
            return Err(JwkError::NotAPoint);
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| JwkError::NotAPoint)?;
        if key.is_weak() {
            return Err(JwkError::Weak);
        }
        Ok(Self(key))
    }
    /// From the `x` of a JWK.
    ///
    /// # Errors
    /// As [`PublicKey::from_bytes`], and [`JwkError::Encoding`].
    pub fn from_x(x: &str) -> Result<Self, JwkError> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(x).map_err(|_| JwkError::Encoding)?;
        Self::from_bytes(&bytes.try_into().map_err(|_| JwkError::Encoding)?)
    }
    pub(super) fn point(self) -> EdwardsPoint {
        self.0.to_edwards()
    }
    /// Its 32 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }
    /// SubjectPublicKeyInfo (RFC 8410 §4) in PEM, as `openssl pkey -pubin` reads it.
    #[must_use]
    pub fn to_pem(self) -> String {
        let document = BASE64_STANDARD.encode([&SPKI[..], &self.to_bytes()].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{document}\n-----END PUBLIC KEY-----")
    }
    /// The `x` of its JWK.
    #[must_use]
    pub fn x(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.to_bytes())
    }
    /// SHA-256 over its canonical JWK (RFC 7638 §3): the `kid` of our keys.
    #[must_use]
    pub fn thumbprint(self) -> Kid {
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x());
        let print = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        print.parse().expect("43 characters of base64url are a kid")
    }
    /// Whether `signature` over `message` is good by the strict rules: canonical `S`, no small-order `R`,
    /// the cofactorless equation.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        // The verdict of dalek's `verify_strict` without its price. Both recompute R and compare its canonical encoding
        // with the bytes that came, so whatever `verify` accepts is the canonical encoding of a point. The strict form
        // decompresses R as well, only to refuse a small order, which the bytes tell; and it refuses keys of small
        // order, of which no `PublicKey` can be made.
        let signature = Signature::from_bytes(signature);
        !is_small_order(*signature.r_bytes()) && self.0.verify(message, &signature).is_ok()
    }
}

/// The y coordinates of the eight points whose order divides 8, little-endian.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    // 1: the neutral element
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    // p - 1: order 2
    *b"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
       \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    // 0: order 4
    [0; 32],
    // order 8
    *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
       \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
    *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
       \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
];

/// Whether these 32 bytes, if they encode a point canonically, encode one whose order divides 8.
pub(super) fn is_small_order(mut point: [u8; 32]) -> bool {
    // x and -x share their order, and the sign of x is the topmost bit.
    point[31] &= 0x7f;
    SMALL_ORDER_Y.contains(&point)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.x())
    }
}

/// One member of a JWK set, as we publish it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Jwk {
    /// Its name.
    pub kid: Kid,
    /// The one algorithm that it is used with.
    pub algorithm: Algorithm,
    /// The key.
    pub key: PublicKey,
}

impl Serialize for Jwk {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = s.serialize_map(Some(6))?;
        map.serialize_entry("kty", "OKP")?;
        map.serialize_entry("crv", "Ed25519")?;
        map.serialize_entry("x", &self.key.x())?;
        map.serialize_entry("kid", &self.kid)?;
        map.serialize_entry("alg", self.algorithm.name())?;
        map.serialize_entry("use", "sig")?;
        map.end()
    }
}

/// A JWK set (RFC 7517 §5), as we publish it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct JwkSet {
    /// Its keys.
    pub keys: Vec<Jwk>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprint_is_that_of_rfc_8037_a3() {
        let key = PublicKey::from_x("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(key.thumbprint().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn pem_is_that_of_rfc_8410_10_1() {
        let key = PublicKey::from_x("Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE").unwrap();
        let document = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        assert_eq!(key.to_pem(), format!("-----BEGIN PUBLIC KEY-----\n{document}\n-----END PUBLIC KEY-----"));
    }

    #[test]
    fn keys_are_checked_at_load() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(JwkError::Weak));
        assert_eq!(PublicKey::from_bytes(&[0; 32]), Err(JwkError::Weak), "order 4");
        let mut above = [0xff; 32];
        above[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(&above), Err(JwkError::NotAPoint), "y = 2^255 - 1");
        above[0] = 0xee;
        assert_eq!(PublicKey::from_bytes(&above), Err(JwkError::NotAPoint), "y = p + 1, the identity again");
        assert_eq!(PublicKey::from_x("AAAA"), Err(JwkError::Encoding), "short");
        assert_eq!(PublicKey::from_x(""), Err(JwkError::Encoding));
        assert_eq!(
            PublicKey::from_x("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp"),
            Err(JwkError::Encoding),
            "bits after the last byte"
        );
    }
}

//! Reading a key set that somebody else published.

use serde_json::{Map, Value};

use super::json::{Blame, Fault, Strict};
use crate::model::{Algorithm, Jwk, JwkSet, Kid, PublicKey, jwk::JwkError};

/// The longest key set that is read, in bytes.
pub const MAX_SET: usize = 64 * 1024;
/// The most keys that a set may have, those of other types counted.
pub const MAX_KEYS: usize = 64;

/// Why a key set is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Longer than [`MAX_SET`].
    #[error("key set is longer than 64 KiB")]
    TooLong,
    /// Not a JSON object with an array `keys` of objects (RFC 7517 §5), or one with a member twice or nested too deep.
    #[error("key set is not a JSON object with an array of keys")]
    NotASet,
    /// More than [`MAX_KEYS`].
    #[error("key set has more than 64 keys")]
    TooManyKeys,
    /// A private key was published: whoever has read it can sign.
    #[error("key set holds a private key")]
    PrivateKey,
    /// Two keys for signatures go by one name, so a name would not choose a key.
    #[error("key set has a kid twice")]
    DuplicateKid,
    /// An Ed25519 key for signatures is no good.
    #[error("key set holds a bad key")]
    Key(#[source] JwkError),
    /// No Ed25519 key for signatures is in it.
    #[error("key set has no Ed25519 key for signatures")]
    NoKeys,
}

impl JwkSet {
    /// Reads a JWK set (RFC 7517 §5, RFC 8037 §2).
    ///
    /// Keys that are not ours to use are passed over: another `kty` or `crv`, a `use` other than `sig`, `key_ops`
    /// without `verify`, an `alg` other than `EdDSA` and `Ed25519`, no `kid`. An absent `alg` reads as `EdDSA`.
    ///
    /// # Errors
    /// [`JwksError`]: one bad key of those that are left refuses the set, for its publisher is confused or is not who
    /// it should be.
    pub fn parse(json: &[u8]) -> Result<Self, JwksError> {
        if json.len() > MAX_SET {
            return Err(JwksError::TooLong);
        }
        let blame = Blame::new();
        let set = blame.read(json, Strict::document(&blame)).map_err(|_: Fault| JwksError::NotASet)?;
        let members = set.get("keys").and_then(Value::as_array).ok_or(JwksError::NotASet)?;
        if members.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys);
        }
        let mut keys: Vec<Jwk> = Vec::new();
        for member in members {
            let Some(key) = read_key(member.as_object().ok_or(JwksError::NotASet)?)? else { continue };
            if keys.iter().any(|other| other.kid == key.kid) {
                return Err(JwksError::DuplicateKid);
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(JwksError::NoKeys) } else { Ok(Self { keys }) }
    }
}

/// `None` for a key that is not ours to use.
fn read_key(member: &Map<String, Value>) -> Result<Option<Jwk>, JwksError> {
    if text(member, "kty") != Some("OKP") {
        return Ok(None);
    }
    if member.contains_key("d") {
        return Err(JwksError::PrivateKey);
    }
    let (Some(kid), Some(algorithm)) = (kid(member), algorithm(member)) else { return Ok(None) };
    if text(member, "crv") != Some("Ed25519") || !is_for_signatures(member) {
        return Ok(None);
    }
    let x = text(member, "x").ok_or(JwksError::Key(JwkError::Encoding))?;
    let key = PublicKey::from_x(x).map_err(JwksError::Key)?;
    Ok(Some(Jwk { kid, algorithm, key }))
}

fn text<'a>(member: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    member.get(name).and_then(Value::as_str)
}

fn kid(member: &Map<String, Value>) -> Option<Kid> {
    text(member, "kid")?.parse().ok()
}

fn algorithm(member: &Map<String, Value>) -> Option<Algorithm> {
    match member.get("alg") {
        None => Some(Algorithm::EdDSA),
        Some(name) => name.as_str()?.parse().ok(),
    }
}

/// RFC 7517 §4.2 and §4.3; where both are absent, nothing forbids it.
fn is_for_signatures(member: &Map<String, Value>) -> bool {
    let used = member.get("use").is_none_or(|r#use| r#use == "sig");
    let operates =
        member.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
    used && operates
}

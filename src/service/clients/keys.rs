//! Public keys of clients, as a configuration has them: one JWK at a time, or a file with a set.

use std::fmt::Display;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value};

use super::MAX_PROOFS;
use crate::model::{Algorithm, Jwk, JwkSet, PublicKey};

/// A client's public key: a JWK with `kty` "OKP", `crv` "Ed25519", `x`, and at will `kid`, `alg` and `use`. Without a
/// `kid` it goes by its thumbprint (RFC 7638).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKey(pub Jwk);

impl ClientKey {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        let member = |name: &str| members.get(name).map(|value| value.as_str().unwrap_or_default());
        if members.contains_key("d") {
            return Err(
                "is a private key; only the client has that: leave out `d`, and make a new key if others have \
                        seen this one"
                    .into(),
            );
        }
        if member("kty") != Some("OKP") || member("crv") != Some("Ed25519") {
            return Err("must have kty = \"OKP\" and crv = \"Ed25519\"".into());
        }
        if member("use").is_some_and(|r#use| r#use != "sig") {
            return Err("has a `use` other than \"sig\"".into());
        }
        let text = |e: &dyn Display| e.to_string();
        let algorithm = member("alg").map_or(Ok(Algorithm::EdDSA), str::parse).map_err(|e| text(&e))?;
        let key = PublicKey::from_x(member("x").unwrap_or_default()).map_err(|e| text(&e))?;
        let kid = member("kid").map_or_else(|| Ok(key.thumbprint()), str::parse).map_err(|e| text(&e))?;
        Ok(Self(Jwk { kid, algorithm, key }))
    }
}

impl<'de> Deserialize<'de> for ClientKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let members = Map::deserialize(d)?;
        Self::read(&members).map_err(|why| D::Error::custom(format!("a client's key {why}")))
    }
}

/// The keys of a JWK set (RFC 7517 §5), as a client publishes it.
///
/// # Errors
/// A sentence for the operator.
pub fn client_keys(json: &[u8]) -> Result<Vec<Jwk>, String> {
    let keys = JwkSet::parse(json).map_err(|e| e.to_string())?.keys;
    if keys.len() > MAX_PROOFS {
        return Err(format!("{} keys; two are enough to replace one by the other", keys.len()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn read(toml: &str) -> Result<ClientKey, String> {
        toml::from_str(toml).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_key_without_a_name_goes_by_its_thumbprint() {
        let key = read(&format!("kty = 'OKP'\ncrv = 'Ed25519'\nx = '{X}'")).unwrap();
        assert_eq!(key.0.kid.as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let named = read(&format!("kty = 'OKP'\ncrv = 'Ed25519'\nx = '{X}'\nkid = 'one'\nuse = 'sig'")).unwrap();
        assert_eq!(named.0.kid.as_str(), "one");
    }

    #[test]
    fn a_private_key_in_a_configuration_is_refused() {
        let private = read(&format!("kty = 'OKP'\ncrv = 'Ed25519'\nx = '{X}'\nd = 'AAAA'")).unwrap_err();
        assert!(private.contains("private key"), "{private}");
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        for bad in ["kty = 'RSA'", "kty = 'OKP'\ncrv = 'X25519'", "kty = 'OKP'\ncrv = 'Ed25519'\nx = 'AAAA'"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let wrong_alg = format!("kty = 'OKP'\ncrv = 'Ed25519'\nx = '{X}'\nalg = 'RS256'");
        assert!(read(&wrong_alg).is_err());
    }
}

//! Private keys from elsewhere: PKCS#8 as PEM (RFC 8410), or a private JWK (RFC 8037 §2).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::{
    ChangeError, Passphrase,
    pem::{self, PemError},
    secret::SecretBytes,
    signing::LocalKey,
};
use crate::model::{Algorithm, Kid};

/// What is taken.
const BRING: &str =
    "bring an Ed25519 private key as PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` makes it, or as a JWK";

/// A key as it was read.
pub(super) struct Read {
    pub(super) seed: SecretBytes,
    /// The name that the file gives its signatures; PEM has none.
    pub(super) algorithm: Option<Algorithm>,
}

pub(super) fn read(text: &[u8], passphrase: Option<&Passphrase>) -> Result<Read, ChangeError> {
    if text.trim_ascii_start().starts_with(b"{") {
        return read_jwk(text);
    }
    let read = pem::decode(text, passphrase).map_err(|e| match e {
        PemError::NotAKey(what) => ChangeError::NotAKey { what, mend: BRING },
        PemError::Encrypted => {
            ChangeError::Locked("the key is encrypted; give the passphrase that it was written with")
        }
        PemError::WrongPassphrase => {
            ChangeError::Locked("the key does not open with this passphrase; give the one that it was written with")
        }
    })?;
    Ok(Read { seed: read.seed, algorithm: None })
}

/// RFC 8037 §2. Other members are of no consequence (RFC 7517 §4).
#[derive(Deserialize)]
struct PrivateJwk {
    kty: Box<str>,
    crv: Option<Box<str>>,
    x: Option<Box<str>>,
    d: Option<String>,
    alg: Option<Box<str>>,
    kid: Option<Kid>,
}

impl Drop for PrivateJwk {
    fn drop(&mut self) {
        self.d.zeroize();
    }
}

fn read_jwk(json: &[u8]) -> Result<Read, ChangeError> {
    let wrong = |what, mend| ChangeError::NotAKey { what, mend };
    let bad = |what| wrong(what, BRING);
    let jwk: PrivateJwk = serde_json::from_slice(json).map_err(|_| bad("not a JWK"))?;
    if &*jwk.kty != "OKP" || jwk.crv.as_deref() != Some("Ed25519") {
        return Err(bad("not an Ed25519 key (kty OKP, crv Ed25519)"));
    }
    let d = jwk.d.as_deref().ok_or(bad("a public JWK: the private half, `d`, is not in it"))?;
    let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(d).map_err(|_| bad("`d` is not base64url"))?);
    let seed: [u8; 32] = bytes[..].try_into().map_err(|_| bad("`d` is not 32 bytes"))?;
    let seed = SecretBytes::new(seed);
    let key = LocalKey::new(&seed);
    // Who signs with one key in the name of another gives both away.
    if jwk.x.as_deref() != Some(&*key.public_key().x()) {
        return Err(wrong("`x` is missing, or is not the public half of `d`", "bring both halves of one key"));
    }
    let algorithm = match jwk.alg.as_deref() {
        None => None,
        Some(name) => {
            Some(name.parse().map_err(|_| wrong("`alg` is neither EdDSA nor Ed25519", "mend it, or leave it out"))?)
        }
    };
    // Ours are thumbprints (RFC 7638): under another name nobody would find it again.
    if jwk.kid.as_ref().is_some_and(|kid| kid != key.kid()) {
        return Err(wrong("`kid` is not the key's thumbprint (RFC 7638)", "leave it out"));
    }
    Ok(Read { seed, algorithm })
}

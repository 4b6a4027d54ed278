//! Verifies access tokens offline: no I/O, no waiting, and one reason for each token that is refused.
//!
//! ```no_run
//! use rescind::{model::JwkSet, verifier::Verifier};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let jwks = std::fs::read("jwks.json")?; // from the issuer's /.well-known/jwks.json
//! let verifier = Verifier::builder("https://issuer.example").audience("api").keys(JwkSet::parse(&jwks)?).build()?;
//!
//! # let token = "";
//! match verifier.verify(token) {
//!     Ok(verified) => println!("hello {}, you may {}", verified.subject, verified.scope),
//!     Err(rejection) => println!("401: {rejection}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A token is checked from the outside in: its spelling, its header, its key, its signature. Only what was signed is
//! read further, so nobody without the key can reach the code that reads claims.
//!
//! Stricter than RFC 9068: `nbf` and `sub_ref` are required too (a token without the latter would escape every cut-off
//! of its subject), `jti` and `sid` are UUIDv7, and the stamp of `jti` agrees with `iat` to the second, one more or
//! less, because cut-offs compare stamps. `typ` may be `at+jwt` or `application/at+jwt`, in any case (§4).

mod builder;
mod claims;
mod json;
mod jwks;
mod jws;
mod policy;
mod rejection;

use std::{fmt, ops::Deref, sync::Arc};

use arc_swap::ArcSwap;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use builder::{Builder, MAX_LEEWAY, Misuse};
pub use json::MAX_DEPTH;
pub use jwks::{JwksError, MAX_KEYS, MAX_SET};
pub use jws::MAX_TOKEN;
pub use rejection::Rejection;

use self::{
    jws::{Header, Jws},
    policy::Policy,
};
use crate::{
    clock::Clock,
    model::{JwkSet, Kid, claims::Claims},
};

/// What a [`Verifier`] has found good. Nothing else can make one, so whoever is handed one need not check again.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified<T> {
    value: T,
    kid: Kid,
}

impl<T> Verified<T> {
    /// The key that signed it.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }
    /// What was found good, now no longer known to be.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Verifies the access tokens of one issuer. Share it in an [`Arc`]; every method takes `&self`.
pub struct Verifier {
    policy: Policy,
    /// Replaced as a whole. A reader never waits for a writer, nor sees half a set.
    keys: ArcSwap<JwkSet>,
    clock: Box<dyn Clock>,
}

impl Verifier {
    /// A verifier of tokens whose `iss` is exactly `issuer`.
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// The [`Rejection`] of the first check that fails.
    pub fn verify(&self, token: &str) -> Result<Verified<Claims>, Rejection> {
        let jws = Jws::parse(token)?;
        let kid = self.authenticate(&jws)?;
        let value = claims::parse(&jws.payload)?;
        self.policy.check(&value, self.clock.now())?;
        Ok(Verified { value, kid })
    }

    /// Verifies a token and reads the claims beyond the profile as `C`.
    ///
    /// # Errors
    /// The [`Rejection`] of the first check that fails; [`Rejection::CustomClaims`] comes last.
    pub fn verify_as<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<Claims<C>>, Rejection> {
        let Verified { value, kid } = self.verify(token)?;
        let read = |custom| C::deserialize(Value::Object(custom)).map_err(|_| Rejection::CustomClaims);
        Ok(Verified { value: value.try_map_custom(read)?, kid })
    }

    /// From now on these keys are the issuer's. Verifications under way end with the keys they began with.
    pub fn set_keys(&self, keys: JwkSet) {
        self.keys.store(Arc::new(keys));
    }

    /// Returns the key under which the signature holds.
    fn authenticate(&self, jws: &Jws<'_>) -> Result<Kid, Rejection> {
        let header = Header::parse(&jws.header)?;
        let keys = self.keys.load();
        // By name and by nothing else: trying each key would let a sender choose among them.
        let jwk = keys.keys.iter().find(|jwk| jwk.kid.as_str() == &*header.kid).ok_or(Rejection::KeyUnknown)?;
        if &*header.alg != jwk.algorithm.name() {
            return Err(Rejection::Algorithm);
        }
        if !jwk.key.verifies(jws.signed, jws.signature()?) {
            return Err(Rejection::Signature);
        }
        Ok(jwk.kid.clone())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("policy", &self.policy)
            .field("keys", &self.keys.load())
            .finish_non_exhaustive()
    }
}

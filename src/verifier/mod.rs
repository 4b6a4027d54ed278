//! Verifies access tokens offline: no I/O, no waiting, one reason for each token that is refused, and nothing that has
//! been revoked.
//!
//! ```no_run
//! use rescind::verifier::{Refused, Verifier};
//!
//! # #[cfg(feature = "follow")]
//! # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! // Inside a tokio runtime: finds the issuer's keys and its feed, and follows both in the background.
//! let verifier = Verifier::builder("https://issuer.example").audience("api").follow()?;
//!
//! match verifier.verify(token) {
//!     Ok(verified) => println!("hello {}, you may {}", verified.subject, verified.scope),
//!     Err(Refused::Rejected(reason)) => println!("401: {reason}"),
//!     Err(Refused::Unavailable(why)) => println!("503: {why}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A token is checked from the outside in: its spelling, its header, its key, its signature. Only what was signed is
//! read further, so nobody without the key can reach the code that reads claims. Then the verifier asks itself whether it
//! knows what is revoked *now*: if it has not heard from the feed within `max_staleness` (30 s by default), it answers
//! [`Refused::Unavailable`], to good tokens and bad ones alike. Only then is the token looked up in the denylist.
//!
//! Stricter than RFC 9068: `nbf` and `sub_ref` are required too (a token without the latter would escape every cut-off
//! of its subject), `jti` and `sid` are UUIDv7, and the stamp of `jti` agrees with `iat` to the second, one more or
//! less, because cut-offs compare stamps. `typ` may be `at+jwt` or `application/at+jwt`, in any case (§4).

#[cfg(feature = "server")]
mod assertion;
mod builder;
mod check;
mod claims;
mod core;
mod feed;
#[cfg(feature = "follow")]
pub(crate) mod follow;
#[cfg(feature = "follow")]
mod follower;
#[cfg(all(feature = "server", any(test, fuzzing)))]
pub(crate) mod fuzz;
mod health;
mod json;
mod jwks;
mod jws;
mod policy;
mod refused;
mod rejection;
mod replica;
mod require;
mod seen;
mod several;

use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::core::Core;
#[cfg(feature = "server")]
pub(crate) use self::feed::open as signed;
#[cfg(feature = "server")]
pub(crate) use self::{assertion::Assertion, check::Checker};
pub use self::{
    builder::{Builder, MAX_LEEWAY, Misuse},
    check::Verified,
    feed::FeedError,
    health::{Health, Metrics},
    json::MAX_DEPTH,
    jwks::{JwksError, MAX_KEYS, MAX_SET},
    jws::MAX_TOKEN,
    refused::{Refused, Unavailable},
    rejection::Rejection,
    require::Requirement,
    several::Verifiers,
};
use crate::model::{JwkSet, claims::Claims};

/// Verifies the access tokens of one issuer. Share it in an [`Arc`]; every method takes `&self`. Dropping it ends what it
/// does in the background.
pub struct Verifier {
    core: Arc<Core>,
    feed_keys: JwkSet,
    #[cfg(feature = "follow")]
    task: Option<follow::Task>,
}

impl Verifier {
    /// A verifier of tokens whose `iss` is exactly `issuer`.
    pub fn builder(issuer: impl Into<String>) -> Builder {
        Builder::new(issuer.into())
    }

    /// Verifies a token. Does no I/O and waits for nobody.
    ///
    /// # Errors
    /// [`Refused::Rejected`] with the reason, or [`Refused::Unavailable`] where we cannot tell.
    pub fn verify(&self, token: &str) -> Result<Verified<Claims>, Refused> {
        self.verify_for(token, &Requirement::default())
    }

    /// Verifies a token, and that it is enough for what is asked.
    ///
    /// # Errors
    /// As [`Verifier::verify`]; [`Rejection::InsufficientAuthentication`] and [`Rejection::InsufficientScope`] come last.
    pub fn verify_for(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused> {
        let outcome = self.core.judge(token, requirement);
        self.core.metrics.verified(outcome.as_ref().map(drop));
        outcome
    }

    /// Verifies a token and reads the claims beyond the profile as `C`.
    ///
    /// # Errors
    /// As [`Verifier::verify`]; [`Rejection::CustomClaims`] comes last.
    pub fn verify_as<C: DeserializeOwned>(&self, token: &str) -> Result<Verified<Claims<C>>, Refused> {
        Ok(self.verify(token)?.read_custom()?)
    }

    /// Whose tokens it verifies.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.core.checker.policy.issuer
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// From now on these keys are the issuer's: for keys that come by hand. Verifications under way end with the keys
    /// that they began with, unless they found no key there.
    pub fn set_keys(&self, keys: JwkSet) {
        self.core.checker.set_keys(keys);
    }

    /// Takes in a page or a tail of the feed that somebody carried here. Says how many entries it held. What it denies is
    /// refused from now on; it does not prove that this is all, so it makes no verifier available.
    ///
    /// # Errors
    /// [`FeedError`]: it is not signed by one of the [`Builder::feed_keys`], or not this issuer's, or there is no room.
    pub fn merge(&self, answer: &str) -> Result<usize, FeedError> {
        let (issuer, keys, replica) = (self.issuer(), &self.feed_keys, &self.core.replica);
        let boottime = self.core.clock.boottime();
        let items = match feed::page(answer, issuer, keys) {
            Err(FeedError::Signature(Rejection::Type)) => {
                let tail = feed::tail(answer, issuer, keys)?;
                // Carried answers may come in any order: the newest one tells the time.
                replica.hear_time(tail.now.max(replica.issuer_now(boottime)), boottime);
                replica.sweep(tail.now);
                tail.entries
            }
            page => page?.entries,
        };
        replica.merge(&items, replica.issuer_now(boottime)).map_err(|_| FeedError::Full)?;
        Ok(items.len())
    }

    /// Waits until it is available. For tests and for programs that want to be ready before they say so; there is no
    /// bound to it but the caller's.
    #[cfg(feature = "follow")]
    pub async fn ready(&self) {
        if let Some(task) = &self.task {
            task.wait_until(|| self.core.health().available.is_ok()).await;
        }
    }
}

impl Verified<Claims> {
    /// The same token with the claims beyond the profile read as `C`.
    ///
    /// # Errors
    /// [`Rejection::CustomClaims`].
    pub fn read_custom<C: DeserializeOwned>(self) -> Result<Verified<Claims<C>>, Rejection> {
        let read = |custom| C::deserialize(Value::Object(custom)).map_err(|_| Rejection::CustomClaims);
        self.try_map(|claims| claims.try_map_custom(read))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

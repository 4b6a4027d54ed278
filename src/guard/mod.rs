//! Asks every request for a token: a tower layer, and what it found as an axum extractor.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use rescind::{guard::RequireToken, model::claims::Claims, verifier::{Verified, Verifier}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Verifier::builder("https://issuer.example").audience("orders").follow()?;
//! let app: Router = Router::new()
//!     .route("/orders", get(async |who: Verified<Claims>| format!("the orders of {}", who.subject)))
//!     .layer(RequireToken::new(verifier).scope("orders:read"));
//! # Ok(())
//! # }
//! ```
//!
//! What a request without a good token is answered, always with `Cache-Control: no-store` and an empty body:
//!
//! | | status | `WWW-Authenticate: Bearer realm="…"` and |
//! |---|---|---|
//! | no token, or another scheme | 401 | nothing more (RFC 6750 §3.1) |
//! | `Authorization` twice, or no token in it | 400 | `error="invalid_request"` |
//! | a token that is no good, or revoked | 401 | `error="invalid_token"` |
//! | one without the scope | 403 | `error="insufficient_scope", scope="…"` |
//! | one whose subject must authenticate better | 401 | `error="insufficient_user_authentication"` (RFC 9470) |
//! | we cannot tell | 503 | no challenge, but `Retry-After`: no other token would help |
//!
//! Why a token was no good is told to the log (at debug) and to [`Metrics`](crate::verifier::Metrics), never to whoever
//! sent it. A token in the query or the body is not looked at (RFC 9700 §4.3.2).
//!
//! Every request is asked, `OPTIONS` too: a layer that answers CORS preflights, which carry no token, belongs outside of
//! this one. With axum, `Router::layer` also guards what no route matches, `Router::route_layer` only what one does.

mod bearer;
#[cfg(feature = "axum")]
mod extract;
mod gate;
mod judge;
mod service;

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

#[cfg(feature = "axum")]
pub use self::extract::NotExtracted;
pub(crate) use self::gate::Gate;
#[cfg(feature = "server")]
pub(crate) use self::gate::Refusal;
pub use self::{
    judge::Judge,
    service::{Guarded, Judged},
};
use crate::verifier::Requirement;

/// A layer that lets a request pass only with a token that is good and enough. What was found good goes along as the
/// request's extension `Verified<Claims>`.
#[derive(Clone)]
pub struct RequireToken {
    gate: Arc<Gate>,
}

impl RequireToken {
    /// Asks for a good token: `judge` is a [`Verifier`](crate::verifier::Verifier), several
    /// [`Verifiers`](crate::verifier::Verifiers), or an `Arc` of either.
    #[must_use]
    pub fn new(judge: impl Judge) -> Self {
        Self { gate: Arc::new(Gate::new(Arc::new(judge))) }
    }
    /// The token has all these scopes, one space between them; may be called again for more.
    ///
    /// # Panics
    /// If that is no scope (RFC 6749 §3.3), or an empty one. For one that comes from a configuration, use [`RequireToken::requirement`].
    #[must_use]
    pub fn scope(self, scope: &str) -> Self {
        let and = |asked: Requirement| asked.scope(scope);
        self.change(|gate| {
            gate.requirement =
                and(gate.requirement.clone()).unwrap_or_else(|e| panic!("RequireToken::scope({scope:?}): {e}"));
        })
    }
    /// The subject authenticated by one of these `acr` values (RFC 9470 §4).
    ///
    /// # Panics
    /// If there is none, or one is not a word of visible ASCII without quote and backslash.
    #[must_use]
    pub fn acr<'a>(self, values: impl IntoIterator<Item = &'a str>) -> Self {
        let values: Vec<&str> = values.into_iter().collect();
        self.change(|gate| {
            let asked = gate.requirement.clone().acr(values.iter().copied());
            gate.requirement = asked.unwrap_or_else(|e| panic!("RequireToken::acr({values:?}): {e}"));
        })
    }
    /// The subject authenticated no longer ago than this (RFC 9470 §4).
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        self.change(|gate| gate.requirement = gate.requirement.clone().max_age(age))
    }
    /// Asks this, and nothing of what was asked before.
    #[must_use]
    pub fn requirement(self, requirement: Requirement) -> Self {
        self.change(|gate| gate.requirement = requirement)
    }
    /// What clients are told that they need a token for: `api` by default.
    ///
    /// # Panics
    /// If it cannot stand in a header: it holds something else than visible ASCII and spaces.
    #[must_use]
    pub fn realm(self, realm: &str) -> Self {
        assert!(realm.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "RequireToken::realm({realm:?}): not ASCII");
        self.change(|gate| gate.realm = realm.into())
    }

    fn change(mut self, by: impl FnOnce(&mut Gate)) -> Self {
        by(Arc::make_mut(&mut self.gate));
        self
    }
}

impl<S> Layer<S> for RequireToken {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded::new(inner, self.gate.clone())
    }
}

impl fmt::Debug for RequireToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gate.fmt(f)
    }
}

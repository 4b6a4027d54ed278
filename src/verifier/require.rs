//! What a resource asks of a token beyond that it be good.

use std::{fmt::Write, time::Duration};

use super::Rejection;
use crate::model::{Scope, Timestamp, claims::Claims, scope::ScopeError};

/// Scopes, and how and when the subject must have authenticated (RFC 6750 §3.1, RFC 9470). The default asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    scope: Scope,
    acr: Vec<Box<str>>,
    max_age: Option<Duration>,
}

impl Requirement {
    /// Asks nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
    /// The token has all these scopes, one space between them; may be called again for more.
    ///
    /// # Errors
    /// [`ScopeError`] if that is no scope (RFC 6749 §3.3), or an empty one.
    pub fn scope(mut self, scope: &str) -> Result<Self, ScopeError> {
        let more: Scope = scope.parse()?;
        // What came out empty by mistake must not open what it was to guard.
        if more.is_empty() {
            return Err(ScopeError);
        }
        self.scope = self.scope.union(more);
        Ok(self)
    }
    /// The subject authenticated by one of these `acr` values (RFC 9470 §4); replaces those that were asked before.
    ///
    /// # Errors
    /// [`ScopeError`] if there is none, or one cannot stand in a header: they are words as scopes are.
    pub fn acr<'a>(mut self, values: impl IntoIterator<Item = &'a str>) -> Result<Self, ScopeError> {
        let word = |w: &str| w.parse::<Scope>().and_then(|s| if s.has(w) { Ok(w.into()) } else { Err(ScopeError) });
        self.acr = values.into_iter().map(word).collect::<Result<_, _>>()?;
        // As above.
        if self.acr.is_empty() { Err(ScopeError) } else { Ok(self) }
    }
    /// The subject authenticated no longer ago than this (RFC 9470 §4).
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    pub(super) fn check<C>(&self, claims: &Claims<C>, now: Timestamp) -> Result<(), Rejection> {
        // How the subject authenticated comes first: with a better token, the scope may be another as well.
        let by = |acr: &str| self.acr.iter().any(|one| &**one == acr);
        let strong = self.acr.is_empty() || claims.acr.as_deref().is_some_and(by);
        let recent = |max| claims.auth_time.is_some_and(|at| now.since(at) <= max);
        if !strong || !self.max_age.is_none_or(recent) {
            return Err(Rejection::InsufficientAuthentication);
        }
        if claims.scope.covers(&self.scope) { Ok(()) } else { Err(Rejection::InsufficientScope) }
    }
    pub(super) fn scope_text(&self) -> String {
        self.scope.to_string()
    }
    /// The parameters of RFC 9470 §3.
    pub(super) fn authentication(&self) -> String {
        let mut text = String::new();
        if !self.acr.is_empty() {
            let _ = write!(text, ", acr_values=\"{}\"", self.acr.join(" "));
        }
        if let Some(age) = self.max_age {
            let _ = write!(text, ", max_age=\"{}\"", age.as_secs());
        }
        text
    }
}

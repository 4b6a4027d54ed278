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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SubjectRef, TokenId};

    fn claims(acr: Option<&str>, auth_time: Option<u64>) -> Claims {
        Claims {
            issuer: "i".into(),
            subject: "alice".parse().unwrap(),
            subject_ref: SubjectRef([0; 16]),
            audience: vec!["api".parse().unwrap()],
            expires: Timestamp::from_seconds(1300),
            issued: Timestamp::from_seconds(1000),
            not_before: Timestamp::from_seconds(1000),
            token: TokenId::new(Timestamp::from_seconds(1000), &[0; 10]),
            client: "app".parse().unwrap(),
            session: None,
            scope: "read write".parse().unwrap(),
            auth_time: auth_time.map(Timestamp::from_seconds),
            acr: acr.map(Into::into),
            amr: Vec::new(),
            custom: serde_json::Map::new(),
        }
    }

    #[test]
    fn an_authentication_is_recent_up_to_its_last_second_and_must_be_known() {
        let asked = Requirement::none().max_age(Duration::from_secs(100));
        let check = |auth_time, now| asked.check(&claims(None, auth_time), Timestamp::from_seconds(now));
        assert_eq!(check(Some(1000), 1100), Ok(()));
        assert_eq!(check(Some(1000), 1101), Err(Rejection::InsufficientAuthentication));
        assert_eq!(check(None, 1000), Err(Rejection::InsufficientAuthentication), "nobody says when it was");
    }

    #[test]
    fn an_authentication_is_strong_by_one_of_the_values_that_are_asked() {
        let asked = Requirement::none().acr(["gold", "silver"]).unwrap();
        let check = |acr| asked.check(&claims(acr, None), Timestamp::from_seconds(1000));
        assert_eq!((check(Some("gold")), check(Some("silver"))), (Ok(()), Ok(())));
        for weak in [Some("bronze"), Some("gold silver"), Some(""), None] {
            assert_eq!(check(weak), Err(Rejection::InsufficientAuthentication), "{weak:?}");
        }
    }

    #[test]
    fn every_scope_that_is_asked_is_there() {
        let check = |scope: &str| {
            let asked = Requirement::none().scope(scope).unwrap();
            asked.check(&claims(None, None), Timestamp::from_seconds(1000))
        };
        assert_eq!((check("read"), check("write read")), (Ok(()), Ok(())));
        assert_eq!(check("read delete"), Err(Rejection::InsufficientScope));
    }
}

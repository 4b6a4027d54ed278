//! What a verifier demands of claims that are well formed.

use std::time::Duration;

use super::Rejection;
use crate::model::{Audience, Timestamp, claims::Claims};

/// Whose tokens are accepted, for whom, and for how long.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) issuer: Box<str>,
    /// None: any.
    pub(super) audiences: Option<Vec<Audience>>,
    pub(super) leeway: Duration,
    pub(super) max_lifetime: Duration,
}

impl Policy {
    /// What is so at any hour: asked once about a token.
    pub(super) fn check_for_good<C>(&self, claims: &Claims<C>) -> Result<(), Rejection> {
        // RFC 7519 §4.1.1 and RFC 9068 §4: compared as bytes.
        if claims.issuer != self.issuer {
            return Err(Rejection::Issuer);
        }
        if !self.is_for_us(&claims.audience) {
            return Err(Rejection::Audience);
        }
        self.check_span(claims)
    }

    fn is_for_us(&self, audience: &[Audience]) -> bool {
        self.audiences.as_ref().is_none_or(|ours| audience.iter().any(|one| ours.contains(one)))
    }

    /// Times against one another: true at any hour.
    fn check_span<C>(&self, claims: &Claims<C>) -> Result<(), Rejection> {
        if claims.expires <= claims.issued {
            return Err(Rejection::EndsBeforeIssued);
        }
        if claims.expires.since(claims.issued) > self.max_lifetime {
            return Err(Rejection::LivesTooLong);
        }
        // Cut-offs compare the stamp of `jti`; one second for an issuer that rounds `iat` the other way.
        if claims.token.stamp().seconds().abs_diff(claims.issued.seconds()) > 1 {
            return Err(Rejection::StampMismatch);
        }
        Ok(())
    }

    /// RFC 7519 §4.1.4 (the instant of `exp` itself is too late), §4.1.5, §4.1.6.
    pub(super) fn check_now<C>(&self, claims: &Claims<C>, now: Timestamp) -> Result<(), Rejection> {
        if now >= claims.expires.plus(self.leeway) {
            return Err(Rejection::Expired);
        }
        let soon = now.plus(self.leeway);
        if claims.not_before > soon {
            return Err(Rejection::NotYetValid);
        }
        if claims.issued > soon {
            return Err(Rejection::IssuedInFuture);
        }
        Ok(())
    }
}

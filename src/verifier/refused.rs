//! What a verifier answers instead of claims, and what that is over HTTP.

use std::time::Duration;

use super::{Rejection, Requirement};

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The token is no good: 401, or 403 where another scope would help.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// We cannot tell: 503, and never an acceptance.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a verifier cannot tell whether a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// It has not read the whole feed yet.
    #[error("the revocation feed has not been read yet")]
    NotSynced,
    /// It has not heard for longer than its `max_staleness` what is revoked.
    #[error("the revocation feed was last heard of too long ago")]
    Stale,
    /// More is denied than it may hold. It forgets nothing, and so takes nothing in.
    #[error("more is denied than this verifier may hold; raise `max_entries`")]
    Full,
    /// The issuer has another key set by now, and it could not be fetched yet.
    #[error("the issuer's keys are being fetched")]
    Keys,
    /// The issuer's keys have not been confirmed for so long that they are no longer believed.
    #[error("the issuer's keys have not been confirmed for too long")]
    KeysTooOld,
}

impl Unavailable {
    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotSynced => "not_synced",
            Self::Stale => "stale",
            Self::Full => "full",
            Self::Keys => "keys",
            Self::KeysTooOld => "keys_too_old",
        }
    }
    /// When to come again.
    #[must_use]
    pub const fn retry_after(self) -> Duration {
        match self {
            Self::NotSynced | Self::Keys => Duration::from_secs(1),
            Self::Stale | Self::KeysTooOld => Duration::from_secs(2),
            Self::Full => Duration::from_secs(30),
        }
    }
}

impl Refused {
    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::Unavailable(why) => why.code(),
        }
    }
    /// 401, 403 or 503 (RFC 6750 §3.1, RFC 9470 §3).
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Rejected(Rejection::InsufficientScope) => 403,
            Self::Rejected(_) => 401,
            Self::Unavailable(_) => 503,
        }
    }
    /// The value of `WWW-Authenticate`; none with a 503, which no other token would help.
    #[must_use]
    pub fn challenge(&self, requirement: &Requirement) -> Option<String> {
        self.parameters(requirement).map(|parameters| format!("Bearer {parameters}"))
    }
    /// The error code of RFC 6750 §3.1 or RFC 9470 §3; none with a 503.
    #[must_use]
    pub const fn error(&self) -> Option<&'static str> {
        match self {
            Self::Rejected(Rejection::InsufficientScope) => Some("insufficient_scope"),
            Self::Rejected(Rejection::InsufficientAuthentication) => Some("insufficient_user_authentication"),
            // The reason is for the log: to whoever holds a bad token it is of no use, or of the wrong one.
            Self::Rejected(_) => Some("invalid_token"),
            Self::Unavailable(_) => None,
        }
    }
    /// The parameters of a challenge: the error code and what goes with it. All are words that need no escape.
    pub(crate) fn parameters(&self, requirement: &Requirement) -> Option<String> {
        let error = self.error()?;
        let more = match self {
            Self::Rejected(Rejection::InsufficientScope) => format!(", scope=\"{}\"", requirement.scope_text()),
            Self::Rejected(Rejection::InsufficientAuthentication) => requirement.authentication(),
            _ => String::new(),
        };
        Some(format!("error=\"{error}\"{more}"))
    }
}

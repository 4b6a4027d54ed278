//! How a verifier is set up.

use std::{fmt, time::Duration};

use arc_swap::ArcSwap;

use super::{Verifier, policy::Policy};
use crate::{
    clock::{Clock, SystemClock},
    model::{Audience, JwkSet},
};

/// The greatest leeway, and the default: denylist entries are kept for that much longer than the tokens they deny.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// A verifier that was asked for something that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// Tokens of no issuer would be accepted.
    #[error("issuer is empty")]
    Issuer,
    /// An audience that no token can carry.
    #[error("audience must have 1 to 255 bytes and no control characters")]
    Audience,
    /// No audience was named; a token for another service would be accepted here (RFC 9068 §4).
    #[error("no audience is named")]
    NoAudience,
    /// No keys were given.
    #[error("no keys are given")]
    NoKeys,
    /// Above [`MAX_LEEWAY`]: a token could be accepted after its denylist entry has gone.
    #[error("leeway is above 60 seconds")]
    Leeway,
    /// No token could be accepted.
    #[error("maximum lifetime is zero")]
    MaxLifetime,
}

/// Builds a [`Verifier`].
pub struct Builder {
    issuer: String,
    audiences: Vec<String>,
    any_audience: bool,
    keys: JwkSet,
    leeway: Duration,
    max_lifetime: Duration,
    clock: Box<dyn Clock>,
}

impl Builder {
    pub(super) fn new(issuer: String) -> Self {
        Self {
            issuer,
            audiences: Vec::new(),
            any_audience: false,
            keys: JwkSet::default(),
            leeway: MAX_LEEWAY,
            max_lifetime: Duration::from_secs(3600),
            clock: Box::new(SystemClock::default()),
        }
    }
    /// Accepts tokens for this audience; may be called again for more.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }
    /// Accepts tokens for whomever they are. For the issuer itself, which introspects them all; anywhere else a token
    /// handed to one service would open every other.
    #[must_use]
    pub fn dangerous_any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }
    /// The issuer's keys.
    #[must_use]
    pub fn keys(mut self, keys: JwkSet) -> Self {
        self.keys = keys;
        self
    }
    /// By how much clocks may differ: 0 to 60 s, 60 s by default.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }
    /// The longest `exp − iat` that is accepted: one hour by default.
    #[must_use]
    pub fn max_lifetime(mut self, max: Duration) -> Self {
        self.max_lifetime = max;
        self
    }
    /// Tells the time from `clock` instead of the machine's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }
    /// The verifier.
    ///
    /// # Errors
    /// [`Misuse`], for what is missing or out of range.
    pub fn build(self) -> Result<Verifier, Misuse> {
        if self.issuer.is_empty() {
            return Err(Misuse::Issuer);
        }
        if self.keys.keys.is_empty() {
            return Err(Misuse::NoKeys);
        }
        if self.leeway > MAX_LEEWAY {
            return Err(Misuse::Leeway);
        }
        if self.max_lifetime.is_zero() {
            return Err(Misuse::MaxLifetime);
        }
        let audiences = if self.any_audience { None } else { Some(audiences(&self.audiences)?) };
        let issuer = self.issuer.into_boxed_str();
        let policy = Policy { issuer, audiences, leeway: self.leeway, max_lifetime: self.max_lifetime };
        Ok(Verifier { policy, keys: ArcSwap::from_pointee(self.keys), clock: self.clock })
    }
}

fn audiences(named: &[String]) -> Result<Vec<Audience>, Misuse> {
    if named.is_empty() {
        return Err(Misuse::NoAudience);
    }
    named.iter().map(|one| one.parse().map_err(|_| Misuse::Audience)).collect()
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}

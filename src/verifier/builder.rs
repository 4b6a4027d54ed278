//! How a verifier is set up.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    Metrics, Verifier,
    check::Checker,
    core::{Core, KeysState, Status},
    health::NoMetrics,
    policy::Policy,
    replica::Replica,
};
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
    /// Revocations could not be known, and nobody said that this is meant.
    #[error("nothing tells what is revoked: follow the issuer's feed, or say dangerous_allow_stale()")]
    NoFeed,
    /// Too short to hear from the feed in between, or so long that entries leave the feed unseen.
    #[error("max_staleness must lie between 1 second and 5 minutes")]
    MaxStaleness,
    /// The issuer is to be asked, and its name is no URL that may be: https, or http on loopback.
    #[error("the issuer is not an https URL, nor an http one on loopback")]
    IssuerUrl,
    /// The background task needs a tokio runtime.
    #[error("follow() was called outside of a tokio runtime")]
    NoRuntime,
    /// TLS could not be set up.
    #[error("the certificates that this machine trusts cannot be read")]
    Tls,
    /// A verifier would report under a name that is none.
    #[error("the name to report under must be 1 to 64 visible ASCII characters")]
    ReportName,
    /// A verifier would report by a client that is none, or without a secret.
    #[error("the client to report by must be 1 to 128 visible ASCII characters, and its secret one line")]
    ReportClient,
    /// Two verifiers of one issuer: it would be chance which one judges.
    #[error("an issuer is there twice")]
    IssuerTwice,
}

/// How old knowledge of revocations may be, unless it is said.
const MAX_STALENESS: Duration = Duration::from_secs(30);
/// An entry stays in the feed for at least 65 seconds after the last token that it denies has expired. A verifier that
/// hears nothing for longer than that knows nothing; the bound is generous because such a one is no longer available.
#[cfg(feature = "follow")]
const STALENESS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// How many entries are held, unless it is said: about 200 MiB of them.
const MAX_ENTRIES: usize = 5_000_000;
/// How many tokens are remembered whose signatures were checked. A set holds eight, and with a third of this in use hardly
/// one runs over.
const SEEN: usize = 32_768;
/// How long keys are believed that nobody has confirmed.
#[cfg(feature = "follow")]
const MAX_KEY_AGE: Duration = Duration::from_secs(3600);

/// Builds a [`Verifier`].
pub struct Builder {
    issuer: String,
    audiences: Vec<String>,
    any_audience: bool,
    keys: JwkSet,
    feed_keys: JwkSet,
    leeway: Duration,
    max_lifetime: Duration,
    max_staleness: Option<Duration>,
    max_entries: usize,
    seen: usize,
    metrics: Box<dyn Metrics>,
    clock: Box<dyn Clock>,
    #[cfg(feature = "follow")]
    report: Option<super::follow::ReportAs>,
}

impl Builder {
    pub(super) fn new(issuer: String) -> Self {
        Self {
            issuer,
            audiences: Vec::new(),
            any_audience: false,
            keys: JwkSet::default(),
            feed_keys: JwkSet::default(),
            leeway: MAX_LEEWAY,
            max_lifetime: Duration::from_secs(3600),
            max_staleness: Some(MAX_STALENESS),
            max_entries: MAX_ENTRIES,
            seen: SEEN,
            metrics: Box::new(NoMetrics),
            clock: Box::new(SystemClock::default()),
            #[cfg(feature = "follow")]
            report: None,
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
    /// The issuer's keys, from a file or wherever; with [`Builder::follow`] the issuer is asked instead.
    #[must_use]
    pub fn keys(mut self, keys: JwkSet) -> Self {
        self.keys = keys;
        self
    }
    /// The keys of the issuer's feed (`rescind_feed_jwks` of its metadata), for [`Verifier::merge`].
    #[must_use]
    pub fn feed_keys(mut self, keys: JwkSet) -> Self {
        self.feed_keys = keys;
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
    /// How old its knowledge of revocations may be: 1 s to 5 min, 30 s by default. Beyond it, it answers *unavailable*.
    #[must_use]
    pub fn max_staleness(mut self, max: Duration) -> Self {
        self.max_staleness = Some(max);
        self
    }
    /// Accepts tokens also when it cannot know whether they are revoked: what has reached it is refused, what has not is
    /// accepted until `exp`. For places that no feed reaches.
    #[must_use]
    pub fn dangerous_allow_stale(mut self) -> Self {
        self.max_staleness = None;
        self
    }
    /// How many denied tokens, sessions and cut-offs it holds: 5 million by default, about 40 bytes each. With more it is
    /// *unavailable*; it never forgets one.
    #[must_use]
    pub fn max_entries(mut self, max: usize) -> Self {
        self.max_entries = max;
        self
    }
    /// How many tokens it remembers whose signatures it has checked: 32,768 by default. Everything else about them is
    /// asked anew each time.
    #[must_use]
    pub fn seen_before(mut self, tokens: usize) -> Self {
        self.seen = tokens;
        self
    }
    /// Checks every signature every time.
    #[must_use]
    pub fn without_seen_before(self) -> Self {
        self.seen_before(0)
    }
    /// Told what the verifier does.
    #[must_use]
    pub fn metrics(mut self, metrics: impl Metrics) -> Self {
        self.metrics = Box::new(metrics);
        self
    }
    /// With [`Builder::follow`], tells the issuer how far this verifier is, so that operators see who lags: under `name`,
    /// 1 to 64 visible ASCII characters, one for each process, and by a client with the permission `verifiers:report`.
    /// `secret` goes to the issuer's feed alone, over TLS or on loopback. [`Health::reported`] says whether it is heard;
    /// nothing else depends on it.
    ///
    /// [`Health::reported`]: super::Health::reported
    #[cfg(feature = "follow")]
    #[must_use]
    pub fn report_as(
        mut self,
        name: impl Into<String>,
        client_id: impl Into<String>,
        secret: impl Into<String>,
    ) -> Self {
        let (name, client_id, secret) = (name.into(), client_id.into(), zeroize::Zeroizing::new(secret.into()));
        self.report = Some(super::follow::ReportAs { name, client_id, secret });
        self
    }
    /// Tells the time from `clock` instead of the machine's.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// A verifier that asks nobody: its keys, and what is revoked, come by hand ([`Verifier::set_keys`],
    /// [`Verifier::merge`]). It can never prove that it knows all revocations, so [`Builder::dangerous_allow_stale`] has
    /// to be said.
    ///
    /// # Errors
    /// [`Misuse`], for what is missing or out of range.
    pub fn build(mut self) -> Result<Verifier, Misuse> {
        self.policy()?;
        if self.keys.keys.is_empty() {
            return Err(Misuse::NoKeys);
        }
        if self.max_staleness.is_some() {
            return Err(Misuse::NoFeed);
        }
        let feed_keys = std::mem::take(&mut self.feed_keys);
        let core = Arc::new(self.core(KeysState::fixed())?);
        Ok(Verifier {
            core,
            feed_keys,
            #[cfg(feature = "follow")]
            task: None,
        })
    }

    /// A verifier that finds the issuer's keys and feed by its metadata (RFC 8414) and follows both. It is *unavailable*
    /// until it has read all of the feed; [`Verifier::ready`] waits for that. Call it inside a tokio runtime: one task
    /// there does all I/O, and ends when the verifier is dropped.
    ///
    /// # Errors
    /// [`Misuse`].
    #[cfg(feature = "follow")]
    pub fn follow(self) -> Result<Verifier, Misuse> {
        self.start(None)
    }

    /// As [`Builder::follow`], and `observer` is told of every entry.
    #[cfg(feature = "server")]
    pub(crate) fn follow_observed(self, observer: super::follow::Observer) -> Result<Verifier, Misuse> {
        self.start(Some(observer))
    }

    #[cfg(feature = "follow")]
    fn start(mut self, observer: Option<super::follow::Observer>) -> Result<Verifier, Misuse> {
        self.policy()?;
        if self.max_staleness.is_some_and(|max| !STALENESS.contains(&max)) {
            return Err(Misuse::MaxStaleness);
        }
        let reporter = self.report.take().map(super::follow::Reporter::new).transpose()?;
        let feed_keys = std::mem::take(&mut self.feed_keys);
        let core = Arc::new(self.core(KeysState::default())?);
        let task = super::follow::Task::start(core.clone(), MAX_KEY_AGE, observer, reporter)?;
        Ok(Verifier { core, feed_keys, task: Some(task) })
    }

    /// What a node judges its own tokens with.
    #[cfg(feature = "server")]
    pub(crate) fn checker(self) -> Result<Checker, Misuse> {
        Ok(Checker::new(self.policy()?, self.keys, 0))
    }

    fn core(self, keys_state: KeysState) -> Result<Core, Misuse> {
        let policy = self.policy()?;
        Ok(Core {
            checker: Checker::new(policy, self.keys, self.seen),
            replica: Replica::new(self.max_entries),
            clock: self.clock,
            metrics: self.metrics,
            max_staleness: self.max_staleness,
            keys_state,
            status: Mutex::new(Status::default()),
        })
    }

    fn policy(&self) -> Result<Policy, Misuse> {
        if self.issuer.is_empty() {
            return Err(Misuse::Issuer);
        }
        if self.leeway > MAX_LEEWAY {
            return Err(Misuse::Leeway);
        }
        if self.max_lifetime.is_zero() {
            return Err(Misuse::MaxLifetime);
        }
        let audiences = if self.any_audience { None } else { Some(audiences(&self.audiences)?) };
        let issuer = self.issuer.as_str().into();
        Ok(Policy { issuer, audiences, leeway: self.leeway, max_lifetime: self.max_lifetime })
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

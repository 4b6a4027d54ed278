//! What the verifier and its background task share, and the one place where a token is judged.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Health, Metrics, Refused, Rejection, Requirement, Unavailable, Verified, check::Checker, replica::Replica,
};
use crate::{
    clock::Clock,
    model::{claims::Claims, feed::Place, report::Reported},
};

pub(super) struct Core {
    pub(super) checker: Checker,
    pub(super) replica: Replica,
    pub(super) clock: Box<dyn Clock>,
    pub(super) metrics: Box<dyn Metrics>,
    /// None: what is known is good enough, however old.
    pub(super) max_staleness: Option<Duration>,
    pub(super) keys_state: KeysState,
    /// For [`Health`]; verification never takes it.
    pub(super) status: Mutex<Status>,
}

/// What is known about the keys beside the keys themselves.
#[derive(Default)]
pub(super) struct KeysState {
    /// Until when they are believed, in milliseconds of the clock that runs on while the machine sleeps.
    good_until: AtomicU64,
    /// Whether the issuer has others by now, in the feed's words.
    behind: AtomicBool,
    /// Told of each token whose key is unknown.
    on_unknown: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl KeysState {
    /// Keys that were handed over, and are not fetched.
    pub(super) fn fixed() -> Self {
        Self { good_until: AtomicU64::new(u64::MAX), ..Self::default() }
    }
    #[cfg(feature = "follow")]
    pub(super) fn confirm_until(&self, until: Duration) {
        self.good_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }
    #[cfg(feature = "follow")]
    pub(super) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::Release);
    }
    #[cfg(feature = "follow")]
    pub(super) fn on_unknown(&self, tell: impl Fn() + Send + Sync + 'static) {
        // Set once, by the one task that fetches.
        let _ = self.on_unknown.set(Box::new(tell));
    }
}

/// For people.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub(super) place: Option<Place>,
    pub(super) last_error: Option<Box<str>>,
    pub(super) reported: Option<Reported>,
}

impl Core {
    pub(super) fn judge(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused> {
        let authentic = self.checker.authentic(token);
        // Read after the signature, which takes longest, and before the denylist: what is proven to be fresh here is
        // still there when it is asked below.
        let boottime = self.clock.boottime();
        self.check_available(boottime)?;
        let verified = authentic.or_else(|rejection| self.look_again(token, rejection))?;
        // A clock of ours that is slow must not revive what the feed has dropped as expired.
        let now = self.clock.lately().max(self.replica.issuer_now(boottime));
        self.checker.policy.check_now(&verified, now)?;
        if self.replica.denies_now(verified.bearer(), verified.clear()) {
            return Err(Rejection::Revoked.into());
        }
        requirement.check(&verified, now)?;
        Ok(verified)
    }

    fn check_available(&self, boottime: Duration) -> Result<(), Unavailable> {
        if self.max_staleness.is_some() {
            self.replica.check_fresh(boottime)?;
        }
        let good_until = self.keys_state.good_until.load(Ordering::Acquire);
        match good_until {
            0 => Err(Unavailable::Keys),
            _ if boottime.as_millis() < u128::from(good_until) => Ok(()),
            _ => Err(Unavailable::KeysTooOld),
        }
    }

    /// A key that is unknown here may be known to the issuer by now, or have come to us since we looked.
    fn look_again(&self, token: &str, rejection: Rejection) -> Result<Verified<Claims>, Refused> {
        if rejection != Rejection::KeyUnknown {
            return Err(rejection.into());
        }
        if let Some(tell) = self.keys_state.on_unknown.get() {
            tell();
        }
        if self.keys_state.behind.load(Ordering::Acquire) {
            return Err(Unavailable::Keys.into());
        }
        // The keys were here before it was said that we are not behind: who does not find his now has none.
        Ok(self.checker.authentic(token)?)
    }

    pub(super) fn health(&self) -> Health {
        let boottime = self.clock.boottime();
        let Status { place, last_error, reported } = self.status().clone();
        let keys = self.checker.keys.load();
        Health {
            available: self.check_available(boottime),
            fresh_for: self.replica.fresh_for(boottime),
            epoch: place.map(|place| place.epoch.to_string().into()),
            position: place.map(|place| place.mark.position),
            entries: self.replica.len(),
            keys: keys.set.keys.iter().map(|key| key.kid.clone()).collect(),
            keys_current: !keys.set.keys.is_empty() && !self.keys_state.behind.load(Ordering::Acquire),
            last_error,
            reported,
        }
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        // Plain data, whole at every step.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("policy", &self.checker.policy).field("health", &self.health()).finish()
    }
}

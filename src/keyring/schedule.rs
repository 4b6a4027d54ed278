//! When keys move on: what the schedule follows from, whether it is possible at all, and its next steps. No I/O and no
//! clock.

use std::time::Duration;

use super::{
    ring::{KeyState, Ring},
    rule::Step,
};
use crate::model::{Kid, Timestamp, time::format_duration};

/// The greatest number of keys that may retire at once, so that the key set stays far below what verifiers read.
pub const MAX_RETIRING: u32 = 16;

/// What the schedule follows from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// How long a key is published before it may sign: at least twice the longest cache of a key set.
    pub publish_ahead: Duration,
    /// How long anyone is told that the JWKS may be cached.
    pub jwks_max_age: Duration,
    /// How long verifiers cache it that follow their own settings (PyJWT 5 minutes, jose 10).
    pub client_cache: Duration,
    /// The longest life of an access token.
    pub token_life: Duration,
    /// The greatest leeway that a verifier is permitted.
    pub leeway: Duration,
    /// How long a key signs before the next one does by itself; `None`: until somebody rotates.
    pub rotate_every: Option<Duration>,
    /// How long a key goes on verifying once it signs no more; `None`: as short as is safe.
    pub retire_after: Option<Duration>,
    /// How long the private half of a retired key is kept.
    pub destroy_after: Duration,
    /// How long other nodes may go on signing with a key after it has retired; nothing for a node by itself.
    pub spread: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        Self {
            publish_ahead: minutes(20),
            jwks_max_age: minutes(5),
            client_cache: minutes(10),
            token_life: minutes(5),
            leeway: minutes(1),
            rotate_every: None,
            retire_after: None,
            destroy_after: Duration::ZERO,
            spread: Duration::ZERO,
        }
    }
}

/// Why no service can keep a schedule. Each names the settings and what would happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// A key would sign before every cache has it.
    #[error(
        "publish_ahead ({}) is shorter than twice the longest cache of a key set ({}, the longer of jwks_max_age and \
         client_cache): verifiers would meet signatures of a key that they do not have; lengthen the one or shorten the \
         other", format_duration(*.publish_ahead), format_duration(*.cache)
    )]
    PublishAhead {
        /// As set.
        publish_ahead: Duration,
        /// The longest cache.
        cache: Duration,
    },
    /// A key would leave while tokens that it signed are good.
    #[error(
        "retire_after ({}) is shorter than a token's life, the greatest leeway and jwks_max_age together ({}): good tokens \
         would be refused; lengthen it, or leave it out", format_duration(*.retire_after), format_duration(*.least)
    )]
    RetireAfter {
        /// As set.
        retire_after: Duration,
        /// What it must be at least.
        least: Duration,
    },
    /// The next signer would not have been published for long enough when its turn comes.
    #[error(
        "rotate_every ({}) is shorter than publish_ahead ({}): no standby would be ready when its turn comes; lengthen the \
         one or shorten the other", format_duration(*.rotate_every), format_duration(*.publish_ahead)
    )]
    RotateEvery {
        /// As set.
        rotate_every: Duration,
        /// As set.
        publish_ahead: Duration,
    },
    /// The key set would grow without need.
    #[error(
        "with rotate_every {} and keys that verify for {} afterwards, more than {MAX_RETIRING} keys would retire at once; \
         lengthen rotate_every", format_duration(*.rotate_every), format_duration(*.retiring)
    )]
    TooMany {
        /// As set.
        rotate_every: Duration,
        /// How long a key retires.
        retiring: Duration,
    },
}

impl Timing {
    /// The longest that any verifier may hold a key set.
    #[must_use]
    pub fn longest_cache(&self) -> Duration {
        self.client_cache.max(self.jwks_max_age)
    }
    /// How long a key verifies after it signed last, if it signed tokens of this life.
    #[must_use]
    pub fn retiring_for(&self, token_life: Duration) -> Duration {
        let least = token_life + self.leeway + self.jwks_max_age + self.spread;
        self.retire_after.map_or(least, |asked| asked.max(least))
    }
    /// Whether the times fit together.
    ///
    /// # Errors
    /// [`TimingError`]: the first that do not.
    pub fn check(&self) -> Result<(), TimingError> {
        let Self { publish_ahead, .. } = *self;
        let cache = self.longest_cache();
        if publish_ahead < 2 * cache {
            return Err(TimingError::PublishAhead { publish_ahead, cache });
        }
        let least = self.token_life + self.leeway + self.jwks_max_age + self.spread;
        if let Some(retire_after) = self.retire_after.filter(|asked| *asked < least) {
            return Err(TimingError::RetireAfter { retire_after, least });
        }
        let Some(rotate_every) = self.rotate_every else { return Ok(()) };
        if rotate_every < publish_ahead {
            return Err(TimingError::RotateEvery { rotate_every, publish_ahead });
        }
        let retiring = self.retiring_for(self.token_life);
        if retiring > rotate_every * MAX_RETIRING {
            return Err(TimingError::TooMany { rotate_every, retiring });
        }
        Ok(())
    }
}

/// Something that the service does by itself, once its time has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// When. In the past: overdue.
    pub at: Timestamp,
    /// What.
    pub step: Step,
    /// To which key.
    pub kid: Kid,
}

impl Ring {
    /// When the standby is to sign, if there is a schedule: one period after the active key began to, and no earlier
    /// than it may.
    #[must_use]
    pub fn next_rotation(&self, timing: &Timing) -> Option<Timestamp> {
        let due = self.active().signs_since()?.plus(timing.rotate_every?);
        Some(due.max(self.earliest_rotation(timing)))
    }
    /// The next steps in the order of their time, for a process that has published these keys since `opened`: before a
    /// rotation it waits out `publish_ahead` itself. Keys that do not exist yet are in none of them.
    #[must_use]
    pub fn plan(&self, timing: &Timing, opened: Timestamp) -> Vec<Planned> {
        let mut plan = Vec::new();
        if let Some(at) = self.next_rotation(timing) {
            let at = at.max(opened.plus(timing.publish_ahead));
            plan.push(Planned { at, step: Step::Activate, kid: self.standby().kid.clone() });
            let active = self.active();
            let until = at.plus(timing.retiring_for(active.longest_token_life.max(timing.token_life)));
            plan.push(Planned { at: until, step: Step::Retire, kid: active.kid.clone() });
        }
        for key in self.keys() {
            match (key.state, key.verifies_until, key.retired) {
                (KeyState::Retiring, Some(at), _) => {
                    plan.push(Planned { at, step: Step::Retire, kid: key.kid.clone() });
                    let at = at.plus(timing.destroy_after);
                    plan.push(Planned { at, step: Step::Destroy, kid: key.kid.clone() });
                }
                (KeyState::Retired, _, Some(retired)) => {
                    let at = retired.plus(timing.destroy_after);
                    plan.push(Planned { at, step: Step::Destroy, kid: key.kid.clone() });
                }
                _ => {}
            }
        }
        plan.sort_by_key(|planned| planned.at);
        plan
    }
    /// For how long a key set that is fetched now may be cached: not beyond the next rotation, so that whoever holds one
    /// then soon holds the next. Never less than a thirtieth of `jwks_max_age`, nor than a second.
    #[must_use]
    pub fn cacheable_for(&self, timing: &Timing, now: Timestamp) -> Duration {
        let least = (timing.jwks_max_age / 30).max(Duration::from_secs(1)).min(timing.jwks_max_age);
        let change = self.next_rotation(timing).map_or(Duration::MAX, |at| at.since(now));
        change.clamp(least, timing.jwks_max_age)
    }
}

//! The life of signing keys as a pure rule: which one signs, which ones are published, and when each may move on.
//! No I/O and no clock.
//!
//! ```text
//!  pending ──► active ──► retiring ──► retired
//!  published,  signs;     verifies     gone from the JWKS,
//!  standing by one only                private key destroyed
//! ```

use std::{collections::HashSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::{Algorithm, Kid, PublicKey, Timestamp};

/// How many retired keys are remembered; older ones are forgotten so that the list stays bounded.
pub const MAX_RETIRED: usize = 256;

/// Where a key is in its life. The order is the order of life: a key only ever moves on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, not signing: the standby.
    Pending,
    /// Signs. Exactly one key is.
    Active,
    /// Signs no more; still verifies what it signed.
    Retiring,
    /// Gone from the JWKS. Never signs or verifies again.
    Retired,
}

impl KeyState {
    /// As in the manifest and in `/v1/keys`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the schedule follows from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// How long a key is published before it may sign. At least `jwks_max_age`.
    pub publish_ahead: Duration,
    /// How long anyone may cache the JWKS.
    pub jwks_max_age: Duration,
    /// The longest life of an access token.
    pub token_life: Duration,
    /// The greatest leeway that a verifier is permitted.
    pub leeway: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        Self { publish_ahead: minutes(20), jwks_max_age: minutes(5), token_life: minutes(5), leeway: minutes(1) }
    }
}

impl Timing {
    /// Whether a key that has been published long enough is in every cache when it starts to sign.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.publish_ahead >= self.jwks_max_age
    }
}

/// All that is public about a signing key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyInfo {
    /// Its name: the RFC 7638 thumbprint.
    pub kid: Kid,
    /// The public key.
    pub key: PublicKey,
    /// The name its signatures go by, fixed when it was generated.
    pub algorithm: Algorithm,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was generated.
    pub created: Timestamp,
    /// When it first was in the JWKS.
    pub published: Timestamp,
    /// When it began to sign.
    pub activated: Option<Timestamp>,
    /// When it signed its last token.
    pub retiring_since: Option<Timestamp>,
    /// From when on nobody needs it: its last token has expired by every permitted leeway, and every cache of a JWKS.
    pub verifies_until: Option<Timestamp>,
    /// When it left the JWKS.
    pub retired: Option<Timestamp>,
    /// The longest token life that it ever signed under. Remembered, because a shorter configured life must not make
    /// the key leave before the tokens of the longer one.
    pub longest_token_life: Duration,
}

impl KeyInfo {
    fn new(key: PublicKey, algorithm: Algorithm, now: Timestamp) -> Self {
        Self {
            kid: key.thumbprint(),
            key,
            algorithm,
            state: KeyState::Pending,
            created: now,
            published: now,
            activated: None,
            retiring_since: None,
            verifies_until: None,
            retired: None,
            longest_token_life: Duration::ZERO,
        }
    }
    /// Whether it is in the JWKS.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.state != KeyState::Retired
    }
    fn activate(&mut self, now: Timestamp, timing: &Timing) {
        self.state = KeyState::Active;
        self.activated = Some(now);
        self.longest_token_life = timing.token_life;
    }
    fn begin_retiring(&mut self, now: Timestamp, timing: &Timing) {
        let life = self.longest_token_life.max(timing.token_life);
        self.state = KeyState::Retiring;
        self.retiring_since = Some(now);
        self.verifies_until = Some(now.plus(life).plus(timing.leeway).plus(timing.jwks_max_age));
    }
}

/// The standby has not been published long enough: verifiers may not have seen it yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the standby key may sign from {} on", earliest.to_rfc3339())]
pub struct TooEarly {
    /// When it will have been.
    pub earliest: Timestamp,
}

/// Why a list of keys is not a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// None or several keys are active.
    #[error("{0} keys are active, not one")]
    Active(usize),
    /// No key is pending.
    #[error("no key is pending")]
    NoStandby,
    /// A key is listed twice.
    #[error("a key is listed twice")]
    Twice,
    /// A `kid` is not the thumbprint of its key.
    #[error("a kid is not the thumbprint of its key")]
    NotTheThumbprint,
    /// A state without the time that it began.
    #[error("a key's state and its times contradict each other")]
    Times,
}

/// All keys, in the order in which they were generated. Exactly one is active, at least one is pending: no value of
/// this type is otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    keys: Vec<KeyInfo>,
}

impl Ring {
    /// The first two keys: one signs at once, since no verifier can have cached anything before it.
    #[must_use]
    pub fn first(active: PublicKey, standby: PublicKey, algorithm: Algorithm, now: Timestamp, timing: &Timing) -> Self {
        let mut keys = vec![KeyInfo::new(active, algorithm, now), KeyInfo::new(standby, algorithm, now)];
        keys[0].activate(now, timing);
        Self { keys }
    }
    /// From a stored list.
    ///
    /// # Errors
    /// [`RingError`] says which rule the list breaks.
    pub fn restore(keys: Vec<KeyInfo>) -> Result<Self, RingError> {
        let count = |state| keys.iter().filter(|k| k.state == state).count();
        let distinct: HashSet<&Kid> = keys.iter().map(|k| &k.kid).collect();
        match count(KeyState::Active) {
            _ if distinct.len() != keys.len() => Err(RingError::Twice),
            _ if keys.iter().any(|k| k.key.thumbprint() != k.kid) => Err(RingError::NotTheThumbprint),
            _ if !keys.iter().all(times_fit_state) => Err(RingError::Times),
            1 if count(KeyState::Pending) == 0 => Err(RingError::NoStandby),
            1 => Ok(Self { keys }),
            other => Err(RingError::Active(other)),
        }
    }
    /// All keys, oldest first.
    #[must_use]
    pub fn keys(&self) -> &[KeyInfo] {
        &self.keys
    }
    /// The key that signs.
    #[must_use]
    pub fn active(&self) -> &KeyInfo {
        self.keys.iter().find(|k| k.state == KeyState::Active).expect("every constructor leaves one key active")
    }
    /// The key that signs next: the one that has been published longest.
    #[must_use]
    pub fn standby(&self) -> &KeyInfo {
        let pending = self.keys.iter().filter(|k| k.state == KeyState::Pending);
        pending.min_by_key(|k| k.published).expect("every constructor leaves one key pending")
    }
    /// The key of that name.
    #[must_use]
    pub fn find(&self, kid: &Kid) -> Option<&KeyInfo> {
        self.keys.iter().find(|k| k.kid == *kid)
    }
    /// From when on [`Ring::rotate`] needs no force.
    #[must_use]
    pub fn earliest_rotation(&self, timing: &Timing) -> Timestamp {
        self.standby().published.plus(timing.publish_ahead)
    }
    /// The standby signs from now on, the active key only verifies, and `fresh` stands by: one step, so that there is
    /// never a moment with two signing keys or without a standby.
    ///
    /// # Errors
    /// [`TooEarly`] unless the standby has been published for `publish_ahead`, or `force`.
    pub fn rotate(
        &self,
        fresh: (PublicKey, Algorithm),
        now: Timestamp,
        timing: &Timing,
        force: bool,
    ) -> Result<Self, TooEarly> {
        let earliest = self.earliest_rotation(timing);
        if now < earliest && !force {
            return Err(TooEarly { earliest });
        }
        let (old, new) = (self.active().kid.clone(), self.standby().kid.clone());
        let mut next = self.clone();
        for key in &mut next.keys {
            match &key.kid {
                kid if *kid == old => key.begin_retiring(now, timing),
                kid if *kid == new => key.activate(now, timing),
                _ => {}
            }
        }
        next.keys.push(KeyInfo::new(fresh.0, fresh.1, now));
        Ok(next)
    }
    /// Retires the keys whose last token has expired everywhere.
    #[must_use]
    pub fn sweep(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        for key in &mut next.keys {
            if key.state == KeyState::Retiring && key.verifies_until.is_some_and(|until| until <= now) {
                key.state = KeyState::Retired;
                key.retired = Some(now);
            }
        }
        next.forget_the_oldest_retired();
        next
    }
    /// A retiring key retires at once: it has been denied, and nothing that it signed is to be believed again.
    #[must_use]
    pub fn retire(&self, kid: &Kid, now: Timestamp) -> Self {
        let mut next = self.clone();
        for key in next.keys.iter_mut().filter(|k| k.kid == *kid && k.state == KeyState::Retiring) {
            key.state = KeyState::Retired;
            key.retired = Some(now);
        }
        next.forget_the_oldest_retired();
        next
    }
    /// Notes that the active key signs tokens of this life. A shorter one changes nothing.
    #[must_use]
    pub fn signing_for(&self, token_life: Duration) -> Self {
        let mut next = self.clone();
        for key in next.keys.iter_mut().filter(|k| k.state == KeyState::Active) {
            key.longest_token_life = key.longest_token_life.max(token_life);
        }
        next
    }
    fn forget_the_oldest_retired(&mut self) {
        let retired = self.keys.iter().filter(|k| k.state == KeyState::Retired).count();
        let mut surplus = retired.saturating_sub(MAX_RETIRED);
        self.keys.retain(|k| {
            let forget = surplus > 0 && k.state == KeyState::Retired;
            surplus -= usize::from(forget);
            !forget
        });
    }
}

fn times_fit_state(key: &KeyInfo) -> bool {
    let has =
        (key.activated.is_some(), key.retiring_since.is_some() && key.verifies_until.is_some(), key.retired.is_some());
    match key.state {
        KeyState::Pending => has == (false, false, false),
        KeyState::Active => has == (true, false, false),
        KeyState::Retiring => has == (true, true, false),
        KeyState::Retired => has == (true, true, true),
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;

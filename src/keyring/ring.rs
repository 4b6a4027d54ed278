//! The life of signing keys as a pure rule: which one signs, which ones are published, and when each may move on.
//! No I/O and no clock. What is legal is one table, [`super::rule::RULES`].
//!
//! ```text
//!                     rollback
//!               ┌──────────────────┐
//!               ▼                  │
//!  pending ──► active ──► retiring ──► retired ──► destroyed
//!  published,  signs;     verifies     gone from    private key
//!  standing by one only                the JWKS     gone
//!
//!  any of them ──► compromised: gone from the JWKS, private key gone, denied for ever
//! ```

use std::{collections::HashSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    rule::{self, Step, StepError, TooEarly, Wait},
    schedule::Timing,
};
use crate::model::{Algorithm, Kid, PublicKey, Timestamp};

/// How many keys that verify no more are remembered; older ones are forgotten so that the list stays bounded.
pub const MAX_RETIRED: usize = 256;

/// How many keys stand by: one that verifiers know also right after a rotation, when the other is new.
pub const STANDBYS: usize = 2;

/// How many may.
pub const MAX_PENDING: usize = 8;

/// How many keys retire at most, also if every rotation is forced: verifiers read no set of more than 64.
pub const MAX_FORCED: usize = 64 - 1 - MAX_PENDING;

/// Where a key is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, not signing: a standby.
    Pending,
    /// Signs. Exactly one key is.
    Active,
    /// Signs no more; still verifies what it signed.
    Retiring,
    /// Gone from the JWKS: nobody needs it.
    Retired,
    /// Its private half is gone as well.
    Destroyed,
    /// Whatever it signed is refused, for ever.
    Compromised,
}

impl KeyState {
    /// All of them, in the order of life.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Active, Self::Retiring, Self::Retired, Self::Destroyed, Self::Compromised];

    /// As in the manifest and in `/v1/keys`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
            Self::Compromised => "compromised",
        }
    }
    /// Whether a key in this state is in the JWKS.
    #[must_use]
    pub const fn is_published(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::Retiring)
    }
    /// Whether the private half of a key in this state is kept.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        self.is_published() || matches!(self, Self::Retired)
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
    /// When it was generated or imported.
    pub created: Timestamp,
    /// When it first was in the JWKS.
    pub published: Timestamp,
    /// When it first began to sign.
    pub activated: Option<Timestamp>,
    /// When it began to sign again.
    pub rolled_back: Option<Timestamp>,
    /// When it signed its last token.
    pub retiring_since: Option<Timestamp>,
    /// From when on nobody needs it: its last token has expired by every permitted leeway, and every cache of a JWKS.
    pub verifies_until: Option<Timestamp>,
    /// When it left the JWKS after its life.
    pub retired: Option<Timestamp>,
    /// When its private half was given up.
    pub destroyed: Option<Timestamp>,
    /// When it was said to be compromised.
    pub compromised: Option<Timestamp>,
    /// The longest token life that it ever signed under. Remembered, because a shorter configured life must not make
    /// the key leave before the tokens of the longer one.
    pub longest_token_life: Duration,
}

impl KeyInfo {
    fn new((key, algorithm): Fresh, now: Timestamp) -> Self {
        Self {
            kid: key.thumbprint(),
            key,
            algorithm,
            state: KeyState::Pending,
            created: now,
            published: now,
            activated: None,
            rolled_back: None,
            retiring_since: None,
            verifies_until: None,
            retired: None,
            destroyed: None,
            compromised: None,
            longest_token_life: Duration::ZERO,
        }
    }
    /// Whether it is in the JWKS.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.state.is_published()
    }
    /// Since when it signs, without a pause.
    #[must_use]
    pub fn signs_since(&self) -> Option<Timestamp> {
        self.rolled_back.or(self.activated)
    }
    /// From when on verifiers know it that fetch the key set as often as they should.
    #[must_use]
    pub fn known_from(&self, timing: &Timing) -> Timestamp {
        self.published.plus(timing.publish_ahead)
    }
    /// From when on its private half can be given up without anyone noticing. `None`: not known yet, or gone already.
    #[must_use]
    pub fn destroyable_from(&self) -> Option<Timestamp> {
        match self.state {
            KeyState::Retiring => self.verifies_until,
            KeyState::Retired => self.retired,
            _ => None,
        }
    }
    /// Whether it verifies until then, or has: neither a compromise nor an operator took it out of the JWKS before.
    #[must_use]
    pub fn served_until(&self, until: Timestamp) -> bool {
        self.state == KeyState::Retiring || self.retired.is_some_and(|retired| retired >= until)
    }
    /// Is in `state` from now on.
    fn enter(&mut self, state: KeyState, now: Timestamp, timing: &Timing) {
        match state {
            KeyState::Pending => {}
            KeyState::Active => {
                if self.activated.is_some() {
                    self.rolled_back = Some(now);
                }
                self.activated = self.activated.or(Some(now));
                (self.retiring_since, self.verifies_until) = (None, None);
                self.longest_token_life = self.longest_token_life.max(timing.token_life);
            }
            KeyState::Retiring => {
                let life = self.longest_token_life.max(timing.token_life);
                self.retiring_since = Some(now);
                self.verifies_until = Some(now.plus(timing.retiring_for(life)));
            }
            KeyState::Retired => self.retired = Some(now),
            KeyState::Destroyed => self.destroyed = Some(now),
            KeyState::Compromised => self.compromised = Some(now),
        }
        self.state = state;
    }
}

/// The public half of a key that is new.
pub type Fresh = (PublicKey, Algorithm);

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
    /// The first keys: one signs at once, since no verifier can have cached anything before it.
    #[must_use]
    pub fn first(mut fresh: impl FnMut() -> Fresh, now: Timestamp, timing: &Timing) -> Self {
        let mut active = KeyInfo::new(fresh(), now);
        active.enter(KeyState::Active, now, timing);
        let mut ring = Self { keys: vec![active] };
        ring.replenish(fresh, now);
        ring
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
        self.longest_pending_but(None).expect("every constructor leaves one key pending")
    }
    /// The key that would sign again after a rollback: the one that signed last.
    #[must_use]
    pub fn predecessor(&self) -> Option<&KeyInfo> {
        self.keys.iter().filter(|k| k.state == KeyState::Retiring).max_by_key(|k| k.retiring_since)
    }
    /// The key of that name.
    #[must_use]
    pub fn find(&self, kid: &Kid) -> Option<&KeyInfo> {
        self.keys.iter().find(|k| k.kid == *kid)
    }
    fn longest_pending_but(&self, kid: Option<&Kid>) -> Option<&KeyInfo> {
        // They are in the order of generation, which a clock that was set back cannot change.
        self.keys.iter().find(|k| k.state == KeyState::Pending && Some(&k.kid) != kid)
    }
    fn pending(&self) -> usize {
        self.keys.iter().filter(|k| k.state == KeyState::Pending).count()
    }
    fn retiring(&self) -> usize {
        self.keys.iter().filter(|k| k.state == KeyState::Retiring).count()
    }

    /// From when on the standby may sign.
    #[must_use]
    pub fn earliest_rotation(&self, timing: &Timing) -> Timestamp {
        self.earliest(self.standby(), Wait::Published, timing).unwrap_or(Timestamp::MAX)
    }
    /// From when on a step need not be forced. `None`: from now on.
    fn earliest(&self, key: &KeyInfo, wait: Wait, timing: &Timing) -> Option<Timestamp> {
        let known = |key: &KeyInfo| key.known_from(timing);
        let spare = || self.longest_pending_but(Some(&key.kid)).map(known);
        match wait {
            Wait::Nothing => None,
            Wait::Expired => key.verifies_until,
            // A ring of before there were two standbys has no spare, and is not held up by it.
            Wait::Published => Some(spare().map_or(known(key), |spare| spare.max(known(key)))),
            Wait::Spare => Some(spare().unwrap_or(Timestamp::MAX)),
        }
    }
    /// Takes a step with the key of that name, and all that goes with it: when one begins to sign, the one that did
    /// retires; when one stands by no more, `fresh` is asked for another. One step, so that there is never a moment with
    /// two signing keys or without a standby.
    ///
    /// # Errors
    /// [`StepError`]; with `force` never [`StepError::TooEarly`].
    pub fn step(
        &self,
        step: Step,
        kid: &Kid,
        now: Timestamp,
        timing: &Timing,
        force: bool,
        fresh: impl FnMut() -> Fresh,
    ) -> Result<Self, StepError> {
        let key = self.find(kid).ok_or(StepError::Unknown)?;
        let rule = rule::find(step, key.state).ok_or(StepError::Illegal { step, state: key.state })?;
        if let (Some(earliest), Some(breaks)) = (self.earliest(key, rule.wait, timing), rule.wait.breaks())
            && now < earliest
            && !force
        {
            return Err(TooEarly { earliest, breaks }.into());
        }
        if step == Step::Activate && self.retiring() >= MAX_FORCED {
            return Err(StepError::TooManyRetiring(self.retiring()));
        }
        let signed = self.active().kid.clone();
        let mut next = self.clone();
        next.enter(kid, rule.to, now, timing);
        if rule.to == KeyState::Active {
            next.enter(&signed, KeyState::Retiring, now, timing);
        } else if *kid == signed {
            // Whatever it has been published for: better a key that some do not know yet than one that must be denied.
            let heir = self.standby().kid.clone();
            next.enter(&heir, KeyState::Active, now, timing);
        }
        next.replenish(fresh, now);
        next.forget_the_oldest();
        Ok(next)
    }
    /// The standby signs from now on.
    ///
    /// # Errors
    /// [`StepError::TooEarly`] unless it and a further one have been published for `publish_ahead`, or `force`.
    pub fn rotate(
        &self,
        now: Timestamp,
        timing: &Timing,
        force: bool,
        fresh: impl FnMut() -> Fresh,
    ) -> Result<Self, StepError> {
        self.step(Step::Activate, &self.standby().kid, now, timing, force, fresh)
    }
    /// One more key stands by.
    ///
    /// # Errors
    /// [`StepError::Known`], [`StepError::TooManyPending`].
    pub fn add(&self, key: Fresh, now: Timestamp) -> Result<Self, StepError> {
        if let Some(known) = self.find(&key.0.thumbprint()) {
            return Err(StepError::Known { kid: known.kid.clone(), state: known.state });
        }
        if self.pending() >= MAX_PENDING {
            return Err(StepError::TooManyPending(self.pending()));
        }
        let mut next = self.clone();
        next.keys.push(KeyInfo::new(key, now));
        Ok(next)
    }
    /// As many keys stand by as should.
    #[must_use]
    pub fn completed(&self, now: Timestamp, fresh: impl FnMut() -> Fresh) -> Self {
        let mut next = self.clone();
        next.replenish(fresh, now);
        next
    }
    /// Retires the keys whose last token has expired everywhere, and destroys those that have been retired for as long as
    /// is asked.
    #[must_use]
    pub fn sweep(&self, now: Timestamp, timing: &Timing) -> Self {
        let mut next = self.clone();
        for key in &mut next.keys {
            if key.state == KeyState::Retiring && key.verifies_until.is_some_and(|until| until <= now) {
                key.enter(KeyState::Retired, now, timing);
            }
            if key.state == KeyState::Retired && key.retired.is_some_and(|at| at.plus(timing.destroy_after) <= now) {
                key.enter(KeyState::Destroyed, now, timing);
            }
        }
        next.forget_the_oldest();
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
    fn enter(&mut self, kid: &Kid, state: KeyState, now: Timestamp, timing: &Timing) {
        for key in self.keys.iter_mut().filter(|k| k.kid == *kid) {
            key.enter(state, now, timing);
        }
    }
    fn replenish(&mut self, mut fresh: impl FnMut() -> Fresh, now: Timestamp) {
        while self.pending() < STANDBYS {
            self.keys.push(KeyInfo::new(fresh(), now));
        }
    }
    /// What is over is forgotten in the order of generation; a compromised key last, though the feed denies it for ever
    /// whether or not it is remembered here.
    fn forget_the_oldest(&mut self) {
        for state in [KeyState::Destroyed, KeyState::Compromised] {
            let mut surplus = self.keys.iter().filter(|k| k.state == state).count().saturating_sub(MAX_RETIRED);
            self.keys.retain(|k| {
                let forget = surplus > 0 && k.state == state;
                surplus -= usize::from(forget);
                !forget
            });
        }
    }
}

fn times_fit_state(key: &KeyInfo) -> bool {
    let active = key.activated.is_some();
    let retiring = key.retiring_since.is_some() && key.verifies_until.is_some();
    let has = (active, retiring, key.retired.is_some(), key.destroyed.is_some(), key.compromised.is_some());
    match key.state {
        KeyState::Pending => has == (false, false, false, false, false),
        KeyState::Active => has == (true, false, false, false, false),
        KeyState::Retiring => has == (true, true, false, false, false),
        KeyState::Retired => has == (true, true, true, false, false),
        // After a whole life, or none.
        KeyState::Destroyed => has == (true, true, true, true, false) || has == (false, false, false, true, false),
        KeyState::Compromised => has.4,
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;

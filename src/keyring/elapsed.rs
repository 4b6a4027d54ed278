//! How long keys have been published and have signed by a clock that nobody can set. The wall clock alone would have a
//! key sign too early after it leapt ahead, and too late after it was set back.

use std::{collections::HashMap, time::Duration};

use super::ring::{KeyState, Ring};
use crate::model::Kid;

/// What this process has seen begin, and when by [`crate::clock::Clock::boottime`].
#[derive(Debug, Default)]
pub(super) struct Elapsed {
    seen: HashMap<Kid, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    state: KeyState,
    since: Duration,
    /// Whether it began under our eyes: else it is older than that, by an unknown time.
    began: bool,
}

impl Elapsed {
    /// What a start finds: for how long it has been so is not known.
    pub(super) fn found(ring: &Ring, now: Duration) -> Self {
        let mut elapsed = Self::default();
        elapsed.look(ring, now, false);
        elapsed
    }
    /// What a change has made.
    pub(super) fn changed(&mut self, ring: &Ring, now: Duration) {
        self.look(ring, now, true);
    }
    fn look(&mut self, ring: &Ring, now: Duration, began: bool) {
        let before = std::mem::take(&mut self.seen);
        for key in ring.keys().iter().filter(|k| k.is_published()) {
            let same = before.get(&key.kid).filter(|seen| seen.state == key.state);
            let seen = same.copied().unwrap_or(Seen { state: key.state, since: now, began });
            self.seen.insert(key.kid.clone(), seen);
        }
    }
    /// For how long at least a key has been in this state. `None`: longer than this process knows.
    pub(super) fn begun(&self, kid: &Kid, now: Duration) -> Option<Duration> {
        self.seen.get(kid).filter(|seen| seen.began).map(|seen| now.saturating_sub(seen.since))
    }
    /// For how long this process has seen a key in this state.
    pub(super) fn watched(&self, kid: &Kid, now: Duration) -> Duration {
        self.seen.get(kid).map_or(Duration::ZERO, |seen| now.saturating_sub(seen.since))
    }
}

//! The store's time: the machine's clock, corrected by that of the server that has the log.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{clock::Clock, model::Timestamp};

/// Measurements that are remembered: of the last seconds the best counts.
const REMEMBERED: usize = 8;

/// The machine's clock, corrected by the store's. It is not set back by a correction that is within what is permitted.
pub struct StoreClock<C> {
    machine: C,
    permitted: Duration,
    /// What is added to the machine's time, in milliseconds.
    offset: AtomicI64,
    latest: AtomicU64,
    measured: Mutex<VecDeque<Measured>>,
}

/// By how much the store's clock is ahead of the machine's, in milliseconds, give or take.
#[derive(Clone, Copy, Debug)]
struct Measured {
    ahead: i64,
    within: i64,
}

impl Measured {
    const fn contradicts(self, other: Self) -> bool {
        (self.ahead - other.ahead).abs() > self.within + other.within
    }
}

/// The machine's clock differs from the store's by more than is permitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Skew {
    /// The store's time less the machine's, in milliseconds.
    pub ahead: i64,
    /// What is permitted.
    pub permitted: Duration,
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = Duration::from_millis(self.ahead.unsigned_abs());
        let which = if self.ahead < 0 { "ahead of" } else { "behind" };
        write!(
            f,
            "this machine's clock is {by:?} {which} the store's, and {:?} is permitted; set both by the same time servers \
             (chronyc makestep), then this node goes on by itself",
            self.permitted
        )
    }
}

impl<C: Clock> StoreClock<C> {
    /// The machine's time until something is measured. `permitted`: by how much the machine's clock may differ; zero if
    /// nothing is to be corrected.
    #[must_use]
    pub fn new(machine: C, permitted: Duration) -> Self {
        Self { machine, permitted, offset: 0.into(), latest: 0.into(), measured: Mutex::default() }
    }

    /// The store's time was `store` at some instant between two readings of the machine's clock.
    pub fn measure(&self, before: Timestamp, store: Timestamp, after: Timestamp) {
        let signed = |t: Timestamp| i64::try_from(t.millis()).unwrap_or(i64::MAX / 4);
        let (before, after) = (signed(before), signed(after));
        if self.permitted.is_zero() || after < before {
            return;
        }
        // Half of the way there and back, and what is lost by reading milliseconds.
        let new = Measured { ahead: signed(store) - (before + after) / 2, within: (after - before) / 2 + 2 };
        let mut all = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        // One of the clocks was set in the meantime.
        if all.iter().any(|old| old.contradicts(new)) {
            all.clear();
        }
        all.push_back(new);
        if all.len() > REMEMBERED {
            all.pop_front();
        }
        let best = all.iter().rev().min_by_key(|measured| measured.within).copied().unwrap_or(new);
        self.offset.store(best.ahead, Ordering::Relaxed);
    }

    /// Whether the machine's clock differs by more than is permitted. `None` also if nothing was measured yet.
    pub fn skew(&self) -> Option<Skew> {
        let all = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let best = all.iter().rev().min_by_key(|measured| measured.within)?;
        let permitted = i64::try_from(self.permitted.as_millis()).unwrap_or(i64::MAX / 4);
        (best.ahead.abs() > permitted.saturating_add(best.within))
            .then_some(Skew { ahead: best.ahead, permitted: self.permitted })
    }

    fn corrected(&self, machine: Timestamp) -> Timestamp {
        if self.permitted.is_zero() {
            return machine;
        }
        let now = machine.millis().saturating_add_signed(self.offset.load(Ordering::Relaxed));
        let latest = self.latest.fetch_max(now, Ordering::Relaxed);
        // Within what is permitted it stands still rather than going back; beyond that the clock was set.
        if now < latest && u128::from(latest - now) > self.permitted.as_millis() {
            self.latest.store(now, Ordering::Relaxed);
            return Timestamp::from_millis(now);
        }
        Timestamp::from_millis(now.max(latest))
    }
}

impl<C: Clock> Clock for StoreClock<C> {
    fn now(&self) -> Timestamp {
        self.corrected(self.machine.now())
    }
    fn lately(&self) -> Timestamp {
        self.corrected(self.machine.lately())
    }
    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
    fn boottime(&self) -> Duration {
        self.machine.boottime()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    const START: u64 = 1_795_374_805_000;

    fn clock() -> (Arc<ManualClock>, StoreClock<Arc<ManualClock>>) {
        let machine = Arc::new(ManualClock::new(Timestamp::from_millis(START)));
        (machine.clone(), StoreClock::new(machine, Duration::from_secs(1)))
    }

    fn measure(clock: &StoreClock<Arc<ManualClock>>, ahead: i64, took: u64) {
        let before = clock.machine.now();
        clock.machine.advance(Duration::from_millis(took));
        let middle = before.millis() + took / 2;
        clock.measure(before, Timestamp::from_millis(middle.saturating_add_signed(ahead)), clock.machine.now());
    }

    #[test]
    fn it_shows_the_stores_time_and_the_quickest_answer_counts() {
        let (machine, clock) = clock();
        measure(&clock, 300, 10);
        assert_eq!(clock.now().millis(), machine.now().millis() + 300);
        measure(&clock, 420, 400);
        assert_eq!(clock.now().millis(), machine.now().millis() + 300, "a slow answer says less");
        assert_eq!(clock.skew(), None);
    }

    #[test]
    fn a_correction_does_not_set_it_back_and_a_leap_does_not_hold_it() {
        let (machine, clock) = clock();
        measure(&clock, 500, 0);
        let before = clock.now();
        measure(&clock, -200, 0);
        assert_eq!(clock.now(), before, "it stands still");
        machine.advance(Duration::from_millis(701));
        assert_eq!(clock.now().millis(), machine.now().millis() - 200);
        let hour = Duration::from_secs(3600);
        machine.jump(hour);
        clock.now();
        machine.jump_back(hour);
        assert_eq!(clock.now().millis(), machine.now().millis() - 200, "a clock that was set is followed");
    }

    #[test]
    fn a_clock_that_differs_by_more_than_is_permitted_is_reported_and_forgiven() {
        let (machine, clock) = clock();
        measure(&clock, -3_600_000, 10);
        let skew = clock.skew().unwrap();
        assert!(
            skew.to_string().starts_with("this machine's clock is 3600s ahead of the store's, and 1s is permitted")
        );
        machine.jump_back(Duration::from_secs(3600));
        measure(&clock, 0, 10);
        assert_eq!(clock.skew(), None);
    }
}

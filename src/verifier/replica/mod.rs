//! What a verifier knows to be denied, and until when it knows it: the feed, in memory.
//!
//! Readers wait for no writer. The writer only adds, and removes what has expired by the *issuer's* clock: whatever this
//! machine's clock does, nothing is forgotten early. At the cap nothing is forgotten either; then we cannot tell.

mod few;
pub(crate) mod table;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;

use self::{
    few::Few,
    table::{CutOffTable, IdTable},
};
use super::Unavailable;
use crate::model::{
    SubjectRef, Timestamp,
    denial::{Bearer, Ends, Target},
    feed::Item,
};

/// No room for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
pub(super) struct Replica {
    /// Tokens and sessions: no id is both.
    ids: IdTable,
    /// By what they end.
    subjects: [CutOffTable; 2],
    few: ArcSwap<Few>,
    max_entries: usize,
    freshness: Freshness,
    /// Counts the times that entries came in.
    merges: AtomicU64,
}

/// Of one token: the count of merges up to which no entry denied it. Zero: it was not asked about.
///
/// An entry that comes in is counted right after, and before anything is proven by it. So who finds the count as it was
/// knows what asking again would say.
#[derive(Debug, Default)]
pub(crate) struct Clear(AtomicU64);

/// Until when the replica is known to be complete, on the clock that runs on while the machine sleeps.
#[derive(Debug, Default)]
struct Freshness {
    /// In milliseconds; zero until the whole feed has been read once.
    until: AtomicU64,
    /// Whether the cap was reached, since when nothing was proven any more.
    full: AtomicU64,
    /// The issuer's time minus that clock: a lower bound of what the issuer's clock shows now.
    issuer_ahead: AtomicU64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Replica {
    pub(super) fn new(max_entries: usize) -> Self {
        Self {
            ids: IdTable::new(),
            subjects: [CutOffTable::new(), CutOffTable::new()],
            few: ArcSwap::default(),
            max_entries,
            freshness: Freshness::default(),
            merges: AtomicU64::new(1),
        }
    }

    /// Whether everything that was acknowledged until `max_staleness` ago is in here.
    pub(super) fn check_fresh(&self, boottime: Duration) -> Result<(), Unavailable> {
        let until = self.freshness.until.load(Ordering::Acquire);
        if millis(boottime) < until {
            return Ok(());
        }
        Err(match (self.freshness.full.load(Ordering::Relaxed), until) {
            (1, _) => Unavailable::Full,
            (_, 0) => Unavailable::NotSynced,
            _ => Unavailable::Stale,
        })
    }

    /// For how much longer it is fresh.
    pub(super) fn fresh_for(&self, boottime: Duration) -> Option<Duration> {
        let until = Duration::from_millis(self.freshness.until.load(Ordering::Acquire));
        until.checked_sub(boottime).filter(|left| !left.is_zero())
    }

    /// The issuer's time, or a little earlier; zero while it is unknown.
    pub(super) fn issuer_now(&self, boottime: Duration) -> Timestamp {
        match self.freshness.issuer_ahead.load(Ordering::Relaxed) {
            0 => Timestamp::default(),
            ahead => Timestamp::from_millis(ahead.saturating_add(millis(boottime))),
        }
    }

    /// The issuer's clock showed `now` not later than our clock showed `boottime`.
    pub(super) fn hear_time(&self, now: Timestamp, boottime: Duration) {
        let ahead = now.millis().saturating_sub(millis(boottime)).max(1);
        self.freshness.issuer_ahead.store(ahead, Ordering::Relaxed);
    }

    /// All that was acknowledged before `at` is in here, and good for `max_staleness` from then.
    #[cfg(feature = "follow")]
    pub(super) fn prove(&self, at: Duration, max_staleness: Duration) {
        self.freshness.full.store(0, Ordering::Relaxed);
        // Release: whoever sees this sees the entries that it speaks of. Never back: two answers may overtake.
        self.freshness.until.fetch_max(millis(at.saturating_add(max_staleness)).max(1), Ordering::Release);
    }

    /// Something is missing, whatever was proven before.
    #[cfg(feature = "follow")]
    pub(super) fn refuse_full(&self) {
        self.freshness.full.store(1, Ordering::Relaxed);
        self.freshness.until.store(0, Ordering::Release);
    }

    /// As [`Replica::denies`], for a token that was asked about before.
    pub(super) fn denies_now(&self, bearer: &Bearer, clear: &Clear) -> bool {
        // Acquire, and before the entries are looked at: all that is counted is seen.
        let merges = self.merges.load(Ordering::Acquire);
        if clear.0.load(Ordering::Relaxed) == merges {
            return false;
        }
        let denied = self.denies(bearer);
        if !denied {
            clear.0.store(merges, Ordering::Relaxed);
        }
        denied
    }

    /// Whether an entry denies this token.
    pub(super) fn denies(&self, bearer: &Bearer) -> bool {
        self.ids.contains(bearer.token.as_bytes())
            || bearer.session.is_some_and(|session| self.ids.contains(session.as_bytes()))
            || self.cuts_off(bearer.subject, bearer)
            || self.few.load().denies(bearer)
    }

    fn cuts_off(&self, subject: SubjectRef, bearer: &Bearer) -> bool {
        [Ends::Sessions, Ends::Tokens].into_iter().any(|ends| {
            let before = self.subjects[ends as usize].before(&subject.0);
            before.is_some_and(|before| bearer.stamp(ends).millis() < before)
        })
    }

    /// Takes entries in. After [`Full`] some are missing; what is in stays.
    pub(super) fn merge(&self, items: &[Item], now: Timestamp) -> Result<(), Full> {
        let mut few: Option<Few> = None;
        let mut full = false;
        for item in items.iter().filter(|item| item.until > now) {
            // Also what this answer has brought so far, which is not stored yet.
            let few_len = few.as_ref().map_or_else(|| self.few.load().len(), Few::len);
            if self.many_len() + few_len >= self.max_entries && !self.knows(&item.target, item.ends) {
                full = true;
                continue;
            }
            let until = expiry(item.until);
            match &item.target {
                Target::Token(id) => self.ids.insert(id.as_bytes(), until),
                Target::Session(id) => self.ids.insert(id.as_bytes(), until),
                Target::Subject(id) => self.subjects[item.ends as usize].insert(&id.0, item.before.millis(), until),
                Target::Client(id) => few.get_or_insert_with(|| self.copy()).client(id, item),
                Target::Key(id) => few.get_or_insert_with(|| self.copy()).key(id, item),
                Target::All => few.get_or_insert_with(|| self.copy()).all(item),
            }
        }
        if let Some(few) = few {
            self.few.store(few.into());
        }
        self.merges.fetch_add(1, Ordering::Release);
        if full { Err(Full) } else { Ok(()) }
    }

    /// What is known already can be extended without more room.
    fn knows(&self, target: &Target, ends: Ends) -> bool {
        match target {
            Target::Token(id) => self.ids.contains(id.as_bytes()),
            Target::Session(id) => self.ids.contains(id.as_bytes()),
            Target::Subject(id) => self.subjects[ends as usize].before(&id.0).is_some(),
            // Few, and the strongest: there is always room.
            Target::Key(_) | Target::All => true,
            Target::Client(id) => self.few.load().knows(id),
        }
    }

    fn copy(&self) -> Few {
        (**self.few.load()).clone()
    }

    /// Drops what has expired by the issuer's clock. Costs a look at every entry.
    pub(super) fn sweep(&self, now: Timestamp) {
        let seconds = u32::try_from(now.seconds()).unwrap_or(u32::MAX - 1);
        self.ids.sweep(seconds);
        for table in &self.subjects {
            table.sweep(seconds);
        }
        if self.few.load().is_due(now) {
            let mut few = self.copy();
            few.sweep(now);
            self.few.store(few.into());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.many_len() + self.few.load().len()
    }

    fn many_len(&self) -> usize {
        self.ids.len() + self.subjects.iter().map(CutOffTable::len).sum::<usize>()
    }
}

/// Seconds, rounded up; the greatest value is for ever.
fn expiry(until: Timestamp) -> u32 {
    if until == Timestamp::MAX {
        return u32::MAX;
    }
    u32::try_from(until.millis().div_ceil(1000)).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests;

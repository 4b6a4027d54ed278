//! Many entries of one subject become one cut-off, so that one user's opening and revoking cannot fill the list for all.
//!
//! Whoever may open sessions and hand tokens back could add an entry to the list with each round, and every verifier would
//! have to hold it until the token expires. So entries about single sessions and tokens are counted by subject, and beyond
//! a number of them the next is not added: instead, one cut-off ends all *tokens* of the subject that were minted until
//! then. That covers what was to be denied; it ends no session, so those that live go on and fetch new tokens. The next
//! revocation moves the cut-off, and the one before it, now without meaning, leaves after a moment. What a subject can have
//! in the list is bounded by the number, and by the rate at which it may revoke, for that moment.

use std::{collections::HashMap, time::Duration};

use redb::ReadableTable;

use super::{
    denials::{Index, NewEntry},
    expiry::Due,
    tables::{Step, decode, failed},
};
use crate::{
    model::{
        SubjectRef, Timestamp,
        denial::{Ends, Entry, LEEWAY_AND_MARGIN, Retention, Target},
    },
    store::StoreError,
};

/// How long a cut-off that has been moved stays: a follower that stands on it goes on from there for as long.
pub(in crate::store) const MOMENT: Duration = Duration::from_secs(5);
/// Subjects that are counted; beyond it, new ones are not until the window has passed.
const COUNTED: usize = 1 << 18;
/// What such a cut-off says, and by which it is known.
pub(in crate::store) const REASON: &str = "many revocations of one subject";

/// Whose entries, and how many it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) subject: SubjectRef,
    pub(super) most: u32,
}

/// Entries of late, by subject: those of this window and of the one before, each as long as an entry lives. Lost in a
/// restart, which gives everyone another share and no more.
#[derive(Debug, Default)]
pub(in crate::store) struct Singles {
    since: Timestamp,
    now: HashMap<SubjectRef, u32>,
    before: HashMap<SubjectRef, u32>,
}

impl Singles {
    pub(in crate::store) fn turn(&mut self, now: Timestamp, window: Duration) {
        // Also when the clock was set back: then the window begins anew.
        if now >= self.since.plus(window) || now < self.since {
            let old = std::mem::take(&mut self.now);
            self.before = if now < self.since.plus(window * 2) { old } else { HashMap::new() };
            self.since = now;
        }
    }

    pub(in crate::store) fn count(&self, subject: SubjectRef) -> u32 {
        let of = |map: &HashMap<_, u32>| map.get(&subject).copied().unwrap_or_default();
        of(&self.now).saturating_add(of(&self.before))
    }

    pub(in crate::store) fn add(&mut self, subject: SubjectRef) {
        if self.now.len() < COUNTED || self.now.contains_key(&subject) {
            *self.now.entry(subject).or_default() += 1;
        }
    }
}

impl Step<'_> {
    /// Appends an entry, or the cut-off that stands for it.
    pub(super) fn append_of(
        &mut self,
        of: Option<Share>,
        new: NewEntry,
        retention: Retention,
    ) -> Result<Entry, StoreError> {
        let Some(Share { subject, most }) = of else { return self.append(new) };
        if let Some(standing) = self.standing_entry(&new)? {
            return Ok(standing);
        }
        self.clerk.noted.singles.turn(self.moment.now, retention.access.saturating_add(LEEWAY_AND_MARGIN));
        if self.clerk.noted.singles.count(subject) >= most {
            return self.cut_tokens(subject, retention);
        }
        self.clerk.noted.singles.add(subject);
        self.append(new)
    }

    fn cut_tokens(&mut self, subject: SubjectRef, retention: Retention) -> Result<Entry, StoreError> {
        let (target, ends, before) = (Target::Subject(subject), Ends::Tokens, self.cut_now());
        let (feed_until, kept_until) = self.until(&target, ends, before, None, retention);
        let old = self.hold(&target, ends)?;
        let reason = Some(REASON.into());
        let at = self.moment.now;
        let entry = self.append(NewEntry { target, ends, before, at, feed_until, kept_until, reason })?;
        match old {
            Some(old) if old.position != entry.position => self.supersede(old.position, &entry)?,
            _ => {}
        }
        Ok(entry)
    }

    /// A cut-off of ours that reaches no further than the new one is needed no more.
    pub(super) fn supersede(&mut self, position: u64, by: &Entry) -> Result<(), StoreError> {
        let Some(row) = self.log.get(position).map_err(failed)?.map(|row| row.value().to_vec()) else { return Ok(()) };
        let old: Entry = decode(&row, "entry")?;
        if !is_superseded(&old, by) {
            return Ok(());
        }
        self.reschedule(old.kept_until, self.moment.now.plus(MOMENT), Due::Entry(position))
    }
}

/// Whether an entry is such a cut-off, and this one reaches at least as far.
pub(in crate::store) fn is_superseded(old: &Entry, by: &Entry) -> bool {
    let ours = old.reason.as_deref() == Some(REASON) && old.feed_until == old.kept_until;
    ours && old.before <= by.before && old.kept_until <= by.feed_until
}

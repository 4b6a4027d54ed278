//! Expiry without scans: a queue of what must be looked at again, and when. A family has exactly one place in it,
//! which using the family does not move: when its time comes and the family has been used since, it is queued anew.

use std::time::Duration;

use redb::ReadableTable;

use super::{
    Role,
    tables::{Step, decode, encode, failed, subject_key},
};
use crate::{
    model::{
        SessionId, Timestamp,
        audit::Draft,
        denial::{Ends, Entry, LEEWAY_AND_MARGIN, Retention, Target},
    },
    store::{Denial, Family, StoreError},
};

/// Where [`super::tables::META`] holds the time by which something last left the feed as expired.
pub(super) const FORGOTTEN_BY: &str = "forgotten_by";
/// By how much less than that the clock may show: the margin that entries are kept for beyond all leeway.
const SET_BACK: Duration = Duration::from_secs(3);

/// How many a batch looks at when there is other work, besides [`PER_JOB`] for each job that it carries: a job puts at
/// most three things into the queue (a family, an entry, its place in the feed), so the queue cannot outgrow what is
/// alive.
pub(super) const PER_BATCH: usize = 64;
/// See [`PER_BATCH`].
pub(super) const PER_JOB: usize = 4;
/// How many an idle moment looks at.
pub(super) const WHEN_IDLE: usize = 2048;

/// What is due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Family(SessionId),
    Entry(u64),
    /// What verifiers need for a shorter time than the issuer.
    Feed(u64),
    /// One that a client has used up.
    Assertion([u8; 16]),
}

fn due_key(at: Timestamp, what: Due) -> [u8; 25] {
    let mut key = [0; 25];
    key[..8].copy_from_slice(&at.millis().to_be_bytes());
    let (kind, id) = match &what {
        Due::Family(id) => (0, *id.as_bytes()),
        Due::Entry(position) => (ENTRY, wide(*position)),
        Due::Feed(position) => (FEED, wide(*position)),
        Due::Assertion(id) => (ASSERTION, *id),
    };
    key[8] = kind;
    key[9..].copy_from_slice(&id);
    key
}

/// When what has this key is due.
pub(super) fn due_at(key: &[u8; 25]) -> Timestamp {
    Timestamp::from_millis(u64::from_be_bytes(*key.first_chunk().expect("a key has 25 bytes")))
}

const ENTRY: u8 = 1;
const FEED: u8 = 2;
const ASSERTION: u8 = 3;

fn wide(position: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&position.to_be_bytes());
    id
}

fn due_of(key: &[u8; 25]) -> Option<Due> {
    let position = || key[9..17].try_into().ok().map(u64::from_be_bytes);
    match key[8] {
        ENTRY => position().map(Due::Entry),
        FEED => position().map(Due::Feed),
        ASSERTION => key[9..].try_into().ok().map(Due::Assertion),
        _ => key[9..].try_into().ok().and_then(SessionId::from_bytes).map(Due::Family),
    }
}

/// When a family is of no more use: an ended one is kept to its absolute end, so that it can be looked at.
pub(in crate::store) fn family_due(family: &Family) -> Timestamp {
    // Also not before its last token: whoever hands that back must find what to close.
    let last_token = family.lineage.access_until.plus(LEEWAY_AND_MARGIN);
    let ended = if family.lineage.closed.is_some() { family.lineage.absolute_until } else { family.lineage.idle_until };
    ended.max(last_token)
}

/// What must be denied if the clock is behind the time by which something was let go of as expired.
pub(in crate::store) fn set_back(now: Timestamp, forgotten: Timestamp) -> Option<Denial> {
    if now.plus(SET_BACK) >= forgotten {
        return None;
    }
    tracing::error!(seconds = forgotten.since(now).as_secs(), "the clock was set back: all access tokens are ended");
    // What was forgotten had expired by `forgotten`, leeway and margin included.
    let before = forgotten.minus(LEEWAY_AND_MARGIN).min(now);
    Some(Denial {
        target: Target::All,
        ends: Ends::Tokens,
        before: Some(before),
        expires: None,
        reason: Some("the clock was set back after revocations had expired by it".into()),
        audit: Draft::default(),
    })
}

impl Step<'_> {
    pub(super) fn schedule(&mut self, at: Timestamp, what: Due) -> Result<(), StoreError> {
        // What is kept for ever needs no place in the queue.
        if at < Timestamp::MAX {
            self.due.insert(due_key(at, what), ()).map_err(failed)?;
        }
        Ok(())
    }

    /// Looks at something sooner than it was to be looked at.
    pub(super) fn reschedule(&mut self, from: Timestamp, to: Timestamp, what: Due) -> Result<(), StoreError> {
        self.due.remove(due_key(from, what)).map_err(failed)?;
        self.schedule(to.min(from), what)
    }

    /// Removes what has expired, `at_most` so many.
    pub(super) fn expire(&mut self, at_most: usize) -> Result<(), StoreError> {
        let now = self.expired_by;
        self.moment.now = now;
        self.make_up_for_the_clock(now)?;
        self.trim_audit(now)?;
        let feed_ended = self.feed_left;
        let end = due_key(now, Due::Assertion([0xff; 16]));
        let mut passed = Vec::new();
        for item in self.due.range(..=end).map_err(failed)?.take(at_most) {
            passed.push(item.map_err(failed)?.0.value());
        }
        for key in &passed {
            self.due.remove(key).map_err(failed)?;
            let expired = match due_of(key) {
                Some(Due::Family(id)) => self.expire_family(id),
                Some(Due::Entry(position)) => self.expire_entry(position),
                Some(Due::Feed(position)) => self.leave_feed(position),
                Some(Due::Assertion(id)) => self.expire_assertion(id),
                None => Err(StoreError::Damaged("due")),
            };
            match expired {
                // One record that cannot be read must not stop everyone's requests, again and again. It stays.
                Err(error @ StoreError::Damaged(_)) => tracing::error!(%error, "what was due cannot be read"),
                other => other?,
            }
            self.dirty = true;
        }
        if self.feed_left > feed_ended {
            self.meta.insert(FORGOTTEN_BY, &encode(&now)[..]).map_err(failed)?;
        }
        Ok(())
    }

    /// A clock that ran ahead has let entries expire, and was set back: what they denied may live again. All tokens of
    /// that time are ended; their clients fetch new ones. What is stamped from now on is not hit.
    pub(super) fn make_up_for_the_clock(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let row = self.meta.get(FORGOTTEN_BY).map_err(failed)?.map(|bytes| bytes.value().to_vec());
        let Some(row) = row else { return Ok(()) };
        let forgotten: Timestamp = decode(&row, "time")?;
        // In a mirror nothing can be added: whoever keeps the log makes up for it.
        if self.clerk.role == Role::Mirror {
            return Ok(());
        }
        let Some(denial) = set_back(now, forgotten) else { return Ok(()) };
        let lives = |millis| Duration::from_millis(millis);
        let retention =
            Retention { access: lives(self.character.access_millis), session: lives(self.character.session_millis) };
        self.deny(denial, retention)?;
        self.meta.insert(FORGOTTEN_BY, &encode(&now)[..]).map_err(failed)?;
        self.dirty = true;
        Ok(())
    }

    fn expire_family(&mut self, id: SessionId) -> Result<(), StoreError> {
        let Some(family) = self.family(id)? else { return Ok(()) };
        let due = family_due(&family);
        if due > self.moment.now {
            return self.schedule(due, Due::Family(id));
        }
        self.families.remove(id.as_bytes()).map_err(failed)?;
        self.subjects.remove(subject_key(family.subject, id)).map_err(failed)?;
        self.open.remove(subject_key(family.subject, id)).map_err(failed)?;
        Ok(())
    }

    fn expire_entry(&mut self, position: u64) -> Result<(), StoreError> {
        self.leave_feed(position)?;
        let Some(row) = self.log.remove(position).map_err(failed)? else { return Ok(()) };
        let entry: Entry = decode(row.value(), "entry")?;
        drop(row);
        let key = super::denials::index_key(&entry.target, entry.ends);
        let held = super::denials::look_up(&self.denied, &entry.target, entry.ends)?;
        if held.is_some_and(|h| h.kept_until <= self.moment.now) {
            self.denied.remove(&key[..]).map_err(failed)?;
        }
        Ok(())
    }
}

//! The one slot where things have an order: the log of the feed, and the audit log.
//!
//! A change of a bucket and what it owes to the hub are two slots, so they are two steps: the change writes down what it
//! owes, in the same step, and the hub takes it over in another. Whoever finds something owed takes it over: doing so
//! twice is doing it once.

use serde::{Deserialize, Serialize};

use super::{Core, layout::Bucket};
use crate::{
    model::{
        ClientId, SessionId, Subject, SubjectRef, Timestamp,
        audit::{Event, Origin, Outcome},
        denial::{Ends, Entry, Target},
        family::Generation,
    },
    store::StoreError,
};

/// What a change of a bucket owes to the hub.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Owed {
    /// An entry of the denylist.
    Deny(NewEntry),
    /// An audit record.
    Note(Box<NewRecord>),
}

/// An entry before it has its place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct NewEntry {
    pub(super) target: Target,
    pub(super) ends: Ends,
    pub(super) before: Timestamp,
    pub(super) at: Timestamp,
    pub(super) feed_until: Timestamp,
    pub(super) kept_until: Timestamp,
    pub(super) reason: Option<Box<str>>,
}

/// An audit record before it has its place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct NewRecord {
    pub(super) at: Timestamp,
    pub(super) event: Event,
    pub(super) outcome: Outcome,
    pub(super) actor: Option<ClientId>,
    pub(super) client: Option<ClientId>,
    pub(super) subject: Option<Subject>,
    pub(super) subject_ref: Option<SubjectRef>,
    pub(super) session: Option<SessionId>,
    pub(super) generation: Option<Generation>,
    pub(super) origin: Origin,
    pub(super) cause: Option<Box<str>>,
}

/// What was written down, and under which number.
pub(super) type Debt = (u64, Owed);

/// PROVISIONAL: one node's log, in memory.
#[derive(Default)]
pub(super) struct Hub {
    pub(super) log: std::sync::Mutex<Vec<Entry>>,
    pub(super) records: std::sync::Mutex<Vec<NewRecord>>,
}

impl Core {
    /// Takes over what has just been written down as owed, and waits until it is in its log, as durable as is asked for.
    /// Gives the entries, in the order of the denials: of what is denied as strongly already, the one that is there.
    pub(super) async fn settle(&self, bucket: Bucket, debts: Vec<Debt>) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let Some(last) = debts.last().map(|(number, _)| *number) else { return Ok(entries) };
        for (_, owed) in debts {
            match owed {
                Owed::Deny(new) => entries.push(self.hub.enter(new)),
                Owed::Note(record) => self.hub.records.lock().expect("no panic").push(*record),
            }
        }
        super::commit::Commit::new(self.clock.now()).paid(self.layout.owed(bucket), last).make(&self.link).await?;
        Ok(entries)
    }

    /// The same in a while: what is durable already, and nobody waits for.
    pub(super) fn settle_later(&self, _bucket: Bucket, debts: Vec<Debt>) {
        for (_, owed) in debts {
            match owed {
                Owed::Deny(new) => drop(self.hub.enter(new)),
                Owed::Note(record) => self.hub.records.lock().expect("no panic").push(*record),
            }
        }
    }

    /// The instant before which the hub's cut-offs of this kind (of the client, of everyone) cover. Asked of the hub itself.
    pub(super) async fn hub_cut_before(&self, client: &ClientId, ends: Ends) -> Result<Timestamp, StoreError> {
        let log = self.hub.log.lock().expect("no panic");
        let covers = |target: &Target| matches!(target, Target::All) || *target == Target::Client(client.clone());
        let cuts = log.iter().filter(|entry| entry.ends == ends && covers(&entry.target));
        Ok(cuts.map(|entry| entry.before).max().unwrap_or_default())
    }
}

impl Hub {
    pub(super) fn enter(&self, new: NewEntry) -> Entry {
        let mut log = self.log.lock().expect("no panic");
        let as_strong = |old: &&Entry| {
            let same = old.target == new.target && (!old.target.is_cut_off() || old.ends == new.ends);
            let as_far = !old.target.is_cut_off() || old.before >= new.before;
            same && as_far && old.kept_until >= new.kept_until && old.feed_until >= new.feed_until
        };
        if let Some(old) = log.iter().find(as_strong) {
            return old.clone();
        }
        let position = log.len() as u64 + 1;
        let NewEntry { target, ends, before, at, feed_until, kept_until, reason } = new;
        let entry = Entry { position, target, ends, before, at, feed_until, kept_until, reason };
        log.push(entry.clone());
        entry
    }
}

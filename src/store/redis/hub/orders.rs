//! What the clerk may be asked.

use super::{Debt, NewRecord, log::is_kept_for_long};
use crate::{
    model::{Timestamp, denial::Entry},
    store::{
        BookChange, Denial, StoreError,
        embedded::{Hold, Placed, decode},
        redis::layout::Bucket,
    },
};

/// One thing to be done in the hub.
pub(in crate::store::redis) enum Order {
    /// What a bucket owes is to be taken over: these, and whatever stands before them. None: whatever there is.
    Settle { bucket: Bucket, debts: Vec<Debt> },
    /// A denial of what lies in no bucket: of a client, a key, everyone.
    Deny(Denial),
    /// What this node knows and the log does not say.
    Again(Vec<Entry>),
    /// A record of its own.
    Record(Box<NewRecord>),
    /// Another book of clients.
    Book(Box<BookChange>),
    /// How far somebody has read the audit log.
    Cursor { name: &'static str, to: u64 },
    /// Records stripped of what names a person, each as it is to be; entries that lose an operator's words; and the record
    /// that tells of it.
    Strip { rows: Vec<(u64, Vec<u8>)>, blanked: Vec<u64>, told: Box<NewRecord> },
    /// Nothing: whoever asks waits until what was asked before is done.
    Flush,
}

impl Order {
    /// How much of a commit it takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Settle { debts, .. } => debts.len().max(1),
            Self::Again(entries) => entries.len(),
            Self::Strip { rows, blanked, .. } => rows.len() + blanked.len() + 1,
            _ => 1,
        }
    }
}

/// What is of no more use.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Sweep {
    /// The first position that the log must keep.
    pub(super) first: Option<u64>,
    /// Positions that have left before their time.
    pub(super) superseded: Vec<u64>,
    /// Positions that are kept beside the log no longer.
    pub(super) kept: Vec<u64>,
    /// Positions whose reasons nobody will ask for.
    pub(super) reasons: Vec<u64>,
    /// Pages whose beginnings serve nobody.
    pub(super) seals: Vec<u64>,
    /// Cut-offs that nobody asks for any more.
    pub(super) denied: Vec<Vec<u8>>,
}

impl Sweep {
    /// Of the beginning of the log, and a part of what is kept beside it.
    pub(super) fn of(now: Timestamp, log: &[Placed], kept: &[Placed]) -> Self {
        let left = |placed: &&Placed| placed.entry.feed_until <= now || is_kept_for_long(&placed.entry);
        let gone: Vec<&Entry> = log.iter().take_while(left).map(|placed| &placed.entry).collect();
        let over = kept.iter().filter(|placed| placed.entry.kept_until <= now).map(|placed| placed.entry.position);
        let kept: Vec<u64> = over.collect();
        let short = gone.iter().filter(|entry| !is_kept_for_long(entry)).map(|entry| entry.position);
        let reasons = short.chain(kept.iter().copied()).collect();
        Self { first: gone.last().map(|entry| entry.position + 1), kept, reasons, ..Self::default() }
    }

    /// Of the cut-offs that the hub is asked for.
    pub(super) fn denied_of(&mut self, now: Timestamp, all: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        for (field, row) in all {
            let over = decode::<Hold>(&row, "denial")?.kept_until <= now;
            self.denied.extend(over.then_some(field));
        }
        Ok(())
    }
}

//! What the clerk may be asked.

use super::{Debt, NewRecord};
use crate::{
    model::denial::Entry,
    store::{BookChange, Denial, redis::layout::Bucket},
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

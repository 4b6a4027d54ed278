//! The hub's head: what every commit there is decided by, and guarded by.

use serde::{Deserialize, Serialize};

use super::log;
use crate::{
    model::{
        Timestamp, chain,
        denial::Entry,
        feed::{Digest, Epoch, Mark, Place},
    },
    store::{
        StoreError,
        embedded::{self, NEWS, NOTHING, body_of, decode, encode},
    },
};

/// How far the logs have come.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(in crate::store::redis) struct Head {
    /// How many commits there have been: no two heads are the same.
    pub(super) commits: u64,
    /// Which life of the denylist's log this is.
    pub(super) epoch: Epoch,
    /// The last position given out.
    pub(super) position: u64,
    /// What stands for all up to it.
    pub(super) digest: Digest,
    /// Whether the log may have nothing where the next entry finds what lies before it: the entry says that itself.
    pub(super) gap: bool,
    /// The audit log.
    pub(super) chain: chain::Head,
    /// The latest instant of any record of it.
    pub(super) latest: Timestamp,
    /// The latest instant that any node says it has stamped into something.
    pub(super) stamped: Timestamp,
    /// The record that tells that the audit log is another.
    pub(super) broken: Option<u64>,
    /// What nobody may miss, and since when.
    pub(super) alarm: Option<(u64, Timestamp)>,
}

impl Head {
    /// Of logs that have not begun.
    pub(in crate::store::redis) const fn new(epoch: Epoch) -> Self {
        Self {
            commits: 0,
            epoch,
            position: 0,
            digest: NOTHING,
            gap: true,
            chain: chain::Head::EMPTY,
            latest: Timestamp::from_millis(0),
            stamped: Timestamp::from_millis(0),
            broken: None,
            alarm: None,
        }
    }

    /// The same, but followers of the log begin anew.
    pub(in crate::store::redis) const fn in_another_life(self, epoch: Epoch) -> Self {
        Self { commits: self.commits + 1, epoch, ..self }
    }

    pub(in crate::store::redis) fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        decode(bytes, "head of the hub")
    }

    pub(in crate::store::redis) fn bytes(&self) -> Vec<u8> {
        encode(self)
    }

    pub(in crate::store::redis) const fn place(&self) -> Place {
        Place { epoch: self.epoch, mark: Mark { position: self.position, digest: self.digest } }
    }

    /// An entry that is at the next position becomes the last of the log. Gives the digest of what lies before it, and
    /// whether its row says so.
    pub(super) fn append(&mut self, entry: &Entry) -> (Digest, bool) {
        let (before, says) = (self.digest, self.gap || log::says(entry.position));
        (self.position, self.digest) = (entry.position, embedded::chain(before, &body_of(entry)));
        // Those leave before their time.
        self.gap = log::stands_for_many(entry);
        (before, says)
    }

    /// The log has lost all that lies before this position.
    pub(super) const fn trimmed_to(&mut self, first: u64) {
        self.gap |= first > self.position;
    }

    /// The latest instant that any node says it has stamped into something.
    pub(in crate::store::redis) const fn stamped(&self) -> Timestamp {
        self.stamped
    }

    /// The record that tells that the log is another, while it is kept.
    pub(super) fn broken(&self) -> Option<u64> {
        self.broken.filter(|sequence| *sequence >= self.chain.first)
    }

    /// What nobody may miss, as long as it is news.
    pub(super) fn alarm(&self, now: Timestamp) -> Option<u64> {
        self.alarm.filter(|(_, at)| now.since(*at) <= NEWS).map(|(sequence, _)| sequence)
    }
}

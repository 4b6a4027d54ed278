//! Who keeps the audit log between the writer's steps: how much of it is kept, who signs it, and whether it still is
//! the log that this process wrote.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    audit::row_of,
    tables::{Bytes, Happened, Noted, Step, decode, encode, failed},
};
use crate::{
    clock::{Random, random_bytes},
    model::{
        Timestamp,
        audit::{Draft, Event, Outcome},
        chain::{Head, digest_of},
        feed::Digest,
    },
    store::{Notary, StoreError},
};

/// Where [`super::tables::META`] holds the chain.
pub(super) const CHAIN: &str = "audit_chain";
/// Where it holds the notary's word on its head.
pub(super) const STATEMENT: &str = "audit_statement";
/// Records that an opening of the store may write before there is a notary.
const UNSIGNED: u64 = 64;

/// The chain as the store has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Chain {
    pub(super) head: Head,
    /// The latest instant of any record: the clock may have been put back since.
    pub(super) latest: Timestamp,
    /// The last record from before there was a chain.
    pub(super) born: u64,
}

impl Chain {
    pub(super) const EMPTY: Self = Self { head: Head::EMPTY, latest: Timestamp::from_millis(0), born: 0 };
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub(super) records: u64,
    pub(super) age: Option<Duration>,
}

/// What the writer and the store's face share of the log.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) notary: OnceLock<Arc<dyn Notary>>,
    pub(super) broken: AtomicBool,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

pub(super) struct Clerk {
    pub(super) noted: Noted,
    pub(super) keep: Keep,
    pub(super) desk: Arc<Desk>,
    /// As of our last commit, once the log has been found to be ours.
    pub(super) chain: Option<Chain>,
    /// When to look for records that are too old.
    pub(super) trim_at: Timestamp,
    salts: [u8; 32],
}

impl Clerk {
    pub(super) fn new(keep: Keep, desk: Arc<Desk>, random: &dyn Random) -> Self {
        let salts = random_bytes(random);
        Self { noted: Noted::default(), keep, desk, chain: None, trim_at: Timestamp::default(), salts }
    }

    /// Never the same twice, and forgotten here at once: who has this process later cannot find it again.
    pub(super) fn salt(&mut self) -> [u8; 16] {
        let derived = |label: &str| Sha256::new().chain_update(label).chain_update(self.salts).finalize();
        let (salt, next) = (derived("salt"), derived("next"));
        self.salts = next.into();
        *salt.first_chunk().expect("a digest has 32 bytes")
    }

    fn notary(&self) -> Option<Arc<dyn Notary>> {
        self.desk.notary.get().cloned()
    }
}

impl Step<'_> {
    /// Asked before the first change of an opening: is this the log that we signed last? What is not is told in the
    /// log itself, which goes on: it never stops what it records.
    pub(super) fn examine_chain(&mut self) -> Result<(), StoreError> {
        if let Some(known) = self.clerk.chain {
            return if known == self.chain {
                Ok(())
            } else {
                self.tell_broken("the log was changed while it was open")
            };
        }
        let Some(notary) = self.clerk.notary() else { return Ok(()) };
        self.clerk.chain = Some(self.chain);
        // Signed anew by this batch, whatever the notary's key was.
        self.signs = true;
        let statement = self.meta.get(STATEMENT).map_err(failed)?.map(|b| b.value().to_vec());
        let signed = match statement.map(String::from_utf8) {
            None => self.unsigned_head()?,
            Some(Ok(text)) => notary.attested(&text),
            Some(Err(_)) => None,
        };
        let Some(signed) = signed else { return self.tell_broken("its head is not signed by this service") };
        match self.departs_from(&signed)? {
            Some(why) => self.tell_broken(why),
            None => Ok(()),
        }
    }

    /// A log that was never signed ends where the chain began.
    fn unsigned_head(&self) -> Result<Option<Head>, StoreError> {
        let born = self.chain.born;
        if born == 0 {
            return Ok(Some(Head::EMPTY));
        }
        let digest = self.digest_at(born)?;
        Ok(digest.map(|digest| Head { sequence: born, digest, ..self.chain.head }))
    }

    fn digest_at(&self, sequence: u64) -> Result<Option<Digest>, StoreError> {
        if sequence + 1 == self.chain.head.first {
            return Ok(Some(self.chain.head.anchor));
        }
        let row = self.audit.get(sequence).map_err(failed)?;
        row.map(|bytes| row_of(bytes.value()).map(|row| digest_of(&row.record))).transpose()
    }

    /// How the log differs from what was signed.
    fn departs_from(&self, signed: &Head) -> Result<Option<&'static str>, StoreError> {
        if let Some(why) = self.lacks(signed)? {
            return Ok(Some(why));
        }
        let head = self.chain.head;
        if head.sequence - signed.sequence > UNSIGNED {
            return Ok(Some("it holds records that were never signed"));
        }
        let mut previous = signed.digest;
        for sequence in signed.sequence + 1..=head.sequence {
            let row = self.audit.get(sequence).map_err(failed)?;
            let Some(row) = row.map(|bytes| row_of(bytes.value())).transpose()? else {
                return Ok(Some("a record is missing"));
            };
            // Only the opening of the store writes without a notary, and nobody asks it to.
            if Digest(row.record.link.previous) != previous || row.record.actor.is_some() {
                return Ok(Some("it holds records that were never signed"));
            }
            previous = digest_of(&row.record);
        }
        Ok((previous != head.digest).then_some("its head is not the newest record"))
    }

    /// Whether the log is without a record that it once ended with.
    pub(super) fn lacks(&self, then: &Head) -> Result<Option<&'static str>, StoreError> {
        let head = self.chain.head;
        Ok(match then.sequence {
            newer if newer > head.sequence => Some("its newest records are missing"),
            // Dropped since, as the configuration says.
            older if older + 1 < head.first => None,
            sequence if self.digest_at(sequence)? == Some(then.digest) => None,
            _ => Some("the record that was its newest has been changed"),
        })
    }

    pub(super) fn tell_broken(&mut self, why: &'static str) -> Result<(), StoreError> {
        self.clerk.chain = Some(self.chain);
        if self.clerk.desk.broken.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        tracing::error!(why, "the audit log is not the one that this service wrote");
        let (event, outcome, cause) = (Event::AuditBroken, Outcome::Done, Some(why.into()));
        self.note(Draft::default(), Happened { event, outcome, session: None, generation: None, cause })
    }

    /// Writes the chain, and the notary's word on it. Called once, before the commit.
    pub(super) fn seal_chain(&mut self) -> Result<(), StoreError> {
        let changed = stored_chain(&self.meta)? != self.chain;
        if changed {
            self.meta.insert(CHAIN, &encode(&self.chain)[..]).map_err(failed)?;
        }
        if let Some(notary) = self.clerk.notary().filter(|_| changed || self.signs) {
            let statement = notary.attest(&self.chain.head);
            self.meta.insert(STATEMENT, statement.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

pub(super) fn stored_chain(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<Chain, StoreError> {
    let row = meta.get(CHAIN).map_err(failed)?;
    row.map_or(Ok(Chain::EMPTY), |bytes| decode(bytes.value(), "audit chain"))
}

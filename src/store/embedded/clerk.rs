//! Who keeps the audit log between the writer's steps: how much of it is kept, who signs it, and whether it still is
//! the log that this process wrote.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Role,
    audit::row_of,
    tables::{Bytes, Happened, Noted, Step, decode, encode, failed},
};
use crate::{
    clock::{Random, random_bytes},
    model::{
        Timestamp,
        audit::{Draft, Event, Outcome, Record},
        chain::{Head, digest_of},
        feed::Digest,
    },
    store::{Notary, StoreError},
};

/// Where [`super::tables::META`] holds the chain.
pub(super) const CHAIN: &str = "audit_chain";
/// Where it holds the notary's word on its head.
pub(super) const STATEMENT: &str = "audit_statement";
/// Where it holds the record that tells that the log is another: see [`SignedHead::broken`].
///
/// [`SignedHead::broken`]: crate::store::SignedHead::broken
pub(super) const BROKEN: &str = "audit_broken";
/// Where it holds what nobody may miss, and since when: see [`SignedHead::alarm`].
///
/// [`SignedHead::alarm`]: crate::store::SignedHead::alarm
const ALARM: &str = "audit_alarm";
/// For how long that is news.
pub(in crate::store) const NEWS: Duration = Duration::from_secs(3 * 86_400);
/// Records that an opening of the store may write before there is a notary.
pub(in crate::store) const UNSIGNED: u64 = 64;

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
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

pub(super) struct Clerk {
    pub(super) noted: Noted,
    pub(super) keep: Keep,
    pub(super) role: Role,
    pub(super) desk: Arc<Desk>,
    /// As of our last commit, once the log has been found to be ours.
    pub(super) chain: Option<Chain>,
    /// How far the witness remembers the log. Only what was signed gets there.
    pub(super) testified: Option<Head>,
    /// When to look for records that are too old.
    pub(super) trim_at: Timestamp,
    pub(super) salts: Salts,
}

impl Clerk {
    pub(super) fn new(keep: Keep, role: Role, desk: Arc<Desk>, random: &dyn Random) -> Self {
        let (noted, trim_at) = (Noted::default(), Timestamp::default());
        Self { noted, keep, role, desk, chain: None, testified: None, trim_at, salts: Salts::new(random) }
    }

    /// What the witness is to remember next. While nobody can say whose log it is, that stays what it was.
    pub(super) fn to_testify(&self) -> Option<Head> {
        self.chain.map_or(self.testified, |chain| Some(chain.head))
    }

    fn notary(&self) -> Option<Arc<dyn Notary>> {
        self.desk.notary.get().cloned()
    }
}

/// What blinds the personal part of records.
pub(in crate::store) struct Salts([u8; 32]);

impl Salts {
    pub(in crate::store) fn new(random: &dyn Random) -> Self {
        Self(random_bytes(random))
    }

    /// Never the same twice, and forgotten here at once: who has this process later cannot find it again.
    pub(in crate::store) fn next(&mut self) -> [u8; 16] {
        let derived = |label: &str| Sha256::new().chain_update(label).chain_update(self.0).finalize();
        let (salt, next) = (derived("salt"), derived("next"));
        self.0 = next.into();
        *salt.first_chunk().expect("a digest has 32 bytes")
    }
}

impl Step<'_> {
    /// Asked before each batch: is this the log that we signed last? What is not is told in the log itself, which goes
    /// on: it never stops what it records.
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
        match self.fault(&*notary)? {
            Some(why) => self.tell_broken(why),
            None => Ok(()),
        }
    }

    /// What is wrong with the log, by what was signed last and by what the witness remembers: it lies where who can write
    /// the store cannot.
    fn fault(&self, notary: &dyn Notary) -> Result<Option<&'static str>, StoreError> {
        let testified = self.clerk.testified;
        let statement = self.meta.get(STATEMENT).map_err(failed)?.map(|b| b.value().to_vec());
        let signed = match statement.map(String::from_utf8) {
            None if testified.is_some() => return Ok(Some("its signed head is gone")),
            None => self.unsigned_head()?,
            Some(Ok(text)) => notary.attested(&text),
            Some(Err(_)) => None,
        };
        let Some(signed) = signed else { return Ok(Some("its head is not signed by this service")) };
        let departs = self.departs_from(&signed)?;
        if departs.is_some() { Ok(departs) } else { testified.map_or(Ok(None), |then| self.lacks(&then)) }
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
        if (head.first, head.anchor) != (signed.first, signed.anchor) {
            return Ok(Some("it does not begin where it did"));
        }
        if head.sequence - signed.sequence > UNSIGNED {
            return Ok(Some("it holds records that were never signed"));
        }
        let mut previous = signed.digest;
        for sequence in signed.sequence + 1..=head.sequence {
            let row = self.audit.get(sequence).map_err(failed)?;
            let Some(row) = row.map(|bytes| row_of(bytes.value())).transpose()? else {
                return Ok(Some("a record is missing"));
            };
            if Digest(row.record.link.previous) != previous || !may_be_unsigned(&row.record) {
                return Ok(Some("it holds records that were never signed"));
            }
            previous = digest_of(&row.record);
        }
        Ok((previous != head.digest).then_some("its head is not the newest record"))
    }

    /// Whether the log is without the record that it once ended with. Retention does not explain that: such a record is
    /// dropped only when the witness remembers a newer one.
    fn lacks(&self, then: &Head) -> Result<Option<&'static str>, StoreError> {
        if then.sequence > self.chain.head.sequence {
            return Ok(Some("its newest records are missing"));
        }
        let same = self.digest_at(then.sequence)? == Some(then.digest);
        Ok((!same).then_some("the record that was its newest is gone or has been changed"))
    }

    /// What the log has lost beside what the witness remembers, to be told by whoever accepts it.
    pub(super) fn lost_records(&self, testified: Option<Head>) -> Result<String, StoreError> {
        let (last, Some(then)) = (self.chain.head.sequence, testified) else { return Ok(String::new()) };
        Ok(match self.lacks(&then)? {
            Some(_) if then.sequence > last => {
                format!("; of the audit log records {} to {} are lost", last + 1, then.sequence)
            }
            Some(_) => "; the audit log is not the one that its witness remembers".into(),
            None => String::new(),
        })
    }

    fn tell_broken(&mut self, why: &'static str) -> Result<(), StoreError> {
        self.clerk.chain = Some(self.chain);
        tracing::error!(why, "the audit log is not the one that this service wrote");
        self.raise_alarm()?;
        self.meta.insert(BROKEN, &encode(&(self.chain.head.sequence + 1))[..]).map_err(failed)?;
        let (event, outcome, cause) = (Event::AuditBroken, Outcome::Done, Some(why.into()));
        self.note(Draft::default(), Happened { event, outcome, session: None, generation: None, cause })
    }

    /// What is written next nobody may miss: who reads along and has no place yet begins there, and nobody has read beyond
    /// it, whatever the store says.
    pub(super) fn raise_alarm(&mut self) -> Result<(), StoreError> {
        let (now, last) = (self.moment.now, self.chain.head.sequence);
        // An earlier one may not have been heard of yet.
        if recent_alarm(&self.meta, now)?.is_none_or(|first| first > last) {
            self.meta.insert(ALARM, &encode(&(last + 1, now))[..]).map_err(failed)?;
        }
        self.put_cursors_back(last)
    }

    /// The log of other keys goes on as it stands: of what they signed nobody here can tell whether they did.
    pub(super) fn disown_chain(&mut self) -> Result<(), StoreError> {
        self.meta.remove(STATEMENT).map_err(failed)?;
        self.chain.born = self.chain.head.sequence;
        Ok(())
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

/// Only an opening of the store writes before there is a notary: what the clock or an operator's word at the start makes
/// it write. Nobody has asked it over HTTP, and it strips nothing.
pub(in crate::store) fn may_be_unsigned(record: &Record) -> bool {
    let by_opening = matches!(record.event, Event::Revoked | Event::StoreAccepted | Event::AuditDropped);
    by_opening && record.actor.is_none()
}

/// The record that tells that the log is another, while it is kept.
pub(super) fn broken_at(
    meta: &impl ReadableTable<&'static str, Bytes>,
    head: &Head,
) -> Result<Option<u64>, StoreError> {
    let row = meta.get(BROKEN).map_err(failed)?;
    let told: Option<u64> = row.and_then(|bytes| decode(bytes.value(), "audit").ok());
    Ok(told.filter(|sequence| *sequence >= head.first))
}

/// What nobody may miss, however old.
pub(super) fn stored_alarm(
    meta: &impl ReadableTable<&'static str, Bytes>,
) -> Result<Option<(u64, Timestamp)>, StoreError> {
    let row = meta.get(ALARM).map_err(failed)?;
    Ok(row.and_then(|bytes| decode(bytes.value(), "audit").ok()))
}

/// What nobody may miss, as long as it is news.
pub(super) fn recent_alarm(
    meta: &impl ReadableTable<&'static str, Bytes>,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    Ok(stored_alarm(meta)?.filter(|(_, at)| now.since(*at) <= NEWS).map(|(sequence, _)| sequence))
}

pub(super) fn stored_chain(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<Chain, StoreError> {
    let row = meta.get(CHAIN).map_err(failed)?;
    row.map_or(Ok(Chain::EMPTY), |bytes| decode(bytes.value(), "audit chain"))
}

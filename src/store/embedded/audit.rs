//! The audit log: appended to, cut at its old end, read, and stripped of what names a person.

use std::time::Duration;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{
    AUDIT_SCAN, EmbeddedStore,
    clerk::{STATEMENT, broken_at, recent_alarm, stored_chain},
    tables::{AUDIT, Happened, META, Step, decode, encode, failed},
    verbs::table,
};
use crate::{
    model::{
        SubjectRef, Timestamp,
        audit::{Draft, Event, Link, Outcome, Record},
        chain::{Head, NOTHING, tie},
        feed::Digest,
        time::format_duration,
    },
    store::{AuditPage, AuditQuery, AuditStore, SignedHead, StoreError},
};

/// How much older than they should be records may become: so that dropping them is not told once for each.
pub(in crate::store) const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// How often old ones are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Records that one step drops at most, and one record tells of.
const DROPS: u64 = 256;
/// How many more than should be are kept for the witness, which is told of newer ones each second. So many are not written
/// in a second; where it cannot be told, the log stays bounded all the same.
const AHEAD_OF_WITNESS: u64 = 100_000;

/// A row: a record, and the latest instant up to it. The clock may be put back, this is not: it can be bisected.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct Row {
    pub(in crate::store) latest: Timestamp,
    pub(in crate::store) record: Record,
}

pub(super) fn row_of(bytes: &[u8]) -> Result<Row, StoreError> {
    decode(bytes, "audit")
}

impl Step<'_> {
    /// Appends an audit record. A full log drops its oldest: it never stops what it records.
    pub(super) fn note(&mut self, draft: Draft, what: Happened) -> Result<(), StoreError> {
        let reference = self.clerk.desk.notary.get().zip(draft.subject.as_ref()).map(|(n, s)| n.refer(s));
        self.write(draft, what, reference)
    }

    pub(super) fn write(
        &mut self,
        draft: Draft,
        what: Happened,
        subject_ref: Option<SubjectRef>,
    ) -> Result<(), StoreError> {
        // Its own drop tells of no other: what is too much goes bit by bit.
        let may_drop = what.event != Event::AuditDropped;
        let record = Record {
            sequence: self.chain.head.sequence + 1,
            at: self.moment.now,
            event: what.event,
            outcome: what.outcome,
            actor: draft.actor,
            client: draft.client,
            subject: draft.subject,
            session: what.session,
            generation: what.generation,
            origin: draft.origin,
            cause: what.cause,
            subject_ref,
            link: Link::default(),
        };
        self.append_record(record)?;
        let most = self.clerk.keep.records.max(8);
        if may_drop && self.chain.head.kept() > most {
            // Several at a time: the record that tells of it takes a place, too.
            self.drop_oldest((most / 8).clamp(4, DROPS), &format!("more than the {most} that are kept"))?;
        }
        Ok(())
    }

    fn append_record(&mut self, mut record: Record) -> Result<(), StoreError> {
        let salt = self.clerk.salts.next();
        let digest = tie(&mut record, self.chain.head.digest, salt);
        self.chain.latest = self.chain.latest.max(record.at);
        (self.chain.head.sequence, self.chain.head.digest) = (record.sequence, digest);
        let (sequence, row) = (record.sequence, Row { latest: self.chain.latest, record });
        self.audit.insert(sequence, &encode(&row)[..]).map_err(failed)?;
        self.dirty = true;
        Ok(())
    }

    /// Lets go of what is too old or too much, as the configuration has it now.
    pub(super) fn trim_audit(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let most = self.clerk.keep.records.max(8);
        let surplus = self.chain.head.kept().saturating_sub(most);
        if surplus > 0 {
            return self.drop_oldest((surplus + 1).min(DROPS), &format!("more than the {most} that are kept"));
        }
        let Some(age) = self.clerk.keep.age else { return Ok(()) };
        if now < self.clerk.trim_at || self.oldest_at()?.is_none_or(|at| now.since(at) <= age + TRIM_EVERY) {
            self.clerk.trim_at = self.clerk.trim_at.max(now.plus(LOOK_EVERY));
            return Ok(());
        }
        let mut old = 0;
        for row in self.audit.iter().map_err(failed)?.take(usize::try_from(DROPS).unwrap_or(usize::MAX)) {
            let record = row_of(row.map_err(failed)?.1.value())?.record;
            if now.since(record.at) <= age {
                break;
            }
            old += 1;
        }
        self.clerk.trim_at = now;
        self.drop_oldest(old, &format!("older than {}", format_duration(age)))
    }

    fn oldest_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let oldest = self.audit.first().map_err(failed)?;
        oldest.map(|(_, bytes)| row_of(bytes.value()).map(|row| row.record.at)).transpose()
    }

    /// Up to where the log may be cut: the newest always stays, and so does what the witness remembers, since by that it
    /// is known again. Where it began was signed, so before there is a notary that stays, too.
    fn droppable(&self) -> Result<u64, StoreError> {
        let head = self.chain.head;
        if self.clerk.chain.is_none() && self.meta.get(STATEMENT).map_err(failed)?.is_some() {
            return Ok(head.first);
        }
        let testified =
            self.clerk.testified.filter(|_| head.kept() <= self.clerk.keep.records.saturating_add(AHEAD_OF_WITNESS));
        Ok(head.sequence.min(testified.map_or(u64::MAX, |then| then.sequence)))
    }

    /// The chain goes on from what was dropped: its digest stays as the anchor, and a record tells of it.
    fn drop_oldest(&mut self, count: u64, why: &str) -> Result<(), StoreError> {
        let first = self.chain.head.first;
        let end = first.saturating_add(count).min(self.droppable()?);
        if end <= first {
            return Ok(());
        }
        for sequence in first..end {
            self.audit.remove(sequence).map_err(failed)?;
        }
        let (end, anchor) = self.first_from(end)?;
        (self.chain.head.first, self.chain.head.anchor) = (end, anchor);
        let cause = format!("records {first} to {}: {why}", end - 1);
        let (event, outcome, cause) = (Event::AuditDropped, Outcome::Done, Some(cause.into()));
        self.write(Draft::default(), Happened { event, outcome, session: None, generation: None, cause }, None)
    }

    /// The record there and what lies before it. If somebody has taken it out, the next: the log never stops what it records.
    fn first_from(&self, sequence: u64) -> Result<(u64, Digest), StoreError> {
        let first = self.audit.range(sequence..).map_err(failed)?.next().transpose().map_err(failed)?;
        let (sequence, bytes) = first.ok_or(StoreError::Damaged("audit"))?;
        Ok((sequence.value(), Digest(row_of(bytes.value())?.record.link.previous)))
    }

    /// Records from before there was a chain are tied together as they stand: what they say cannot be vouched for.
    pub(super) fn chain_older_records(&mut self) -> Result<(), StoreError> {
        let mut after = 0;
        let (mut first, mut latest, mut last) = (None, Timestamp::default(), (0, NOTHING));
        loop {
            let mut rows = Vec::new();
            for row in self.audit.range(after + 1..).map_err(failed)?.take(1000) {
                let (sequence, bytes) = row.map_err(failed)?;
                rows.push((sequence.value(), decode::<Older>(bytes.value(), "audit")?));
            }
            let Some((end, _)) = rows.last() else { break };
            after = *end;
            for (sequence, older) in rows {
                let mut record = Record::from(older);
                let digest = tie(&mut record, last.1, self.clerk.salts.next());
                latest = latest.max(record.at);
                self.audit.insert(sequence, &encode(&Row { latest, record })[..]).map_err(failed)?;
                first.get_or_insert(sequence);
                last = (sequence, digest);
            }
        }
        if let Some(first) = first {
            let head = Head { first, anchor: NOTHING, sequence: last.0, digest: last.1 };
            self.chain = super::clerk::Chain { head, latest, born: last.0 };
            self.dirty = true;
        }
        Ok(())
    }
}

/// A record of schema 2.
#[derive(Deserialize)]
struct Older {
    sequence: u64,
    at: Timestamp,
    event: Event,
    outcome: Outcome,
    actor: Option<crate::model::ClientId>,
    client: Option<crate::model::ClientId>,
    subject: Option<crate::model::Subject>,
    session: Option<crate::model::SessionId>,
    generation: Option<crate::model::family::Generation>,
    origin: crate::model::audit::Origin,
    cause: Option<Box<str>>,
}

impl From<Older> for Record {
    fn from(o: Older) -> Self {
        Self {
            sequence: o.sequence,
            at: o.at,
            event: o.event,
            outcome: o.outcome,
            actor: o.actor,
            client: o.client,
            subject: o.subject,
            session: o.session,
            generation: o.generation,
            origin: o.origin,
            cause: o.cause,
            subject_ref: None,
            link: Link::default(),
        }
    }
}

impl AuditStore for EmbeddedStore {
    async fn record(
        &self,
        event: Event,
        outcome: Outcome,
        cause: Option<Box<str>>,
        audit: Draft,
    ) -> Result<(), StoreError> {
        self.whole()?;
        let happened = Happened { event, outcome, session: None, generation: None, cause };
        self.step(move |step| step.note(audit, happened)).await
    }

    async fn audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        self.whole()?;
        let mut page = AuditPage { records: Vec::new(), next: None };
        let Some(log) = table(&self.read()?, AUDIT)? else { return Ok(page) };
        let earliest = first_since(&log, query.since)?;
        let (first, end) = match (query.newest_first, query.after) {
            (false, after) => (earliest.max(after.saturating_add(1)), u64::MAX),
            (true, 0) => (earliest, u64::MAX),
            (true, before) => (earliest, before),
        };
        let range = log.range(first..end.max(first)).map_err(failed)?;
        let range = if query.newest_first { Either::Backward(range.rev()) } else { Either::Forward(range) };
        for (looked_at, item) in range.enumerate() {
            let (sequence, bytes) = item.map_err(failed)?;
            if page.records.len() == query.limit || looked_at == AUDIT_SCAN {
                let place = sequence.value();
                page.next = Some(if query.newest_first { place + 1 } else { place - 1 });
                break;
            }
            let record = row_of(bytes.value())?.record;
            let matches = query.subject.as_ref().is_none_or(|s| record.subject.as_ref() == Some(s))
                && query.session.is_none_or(|s| record.session == Some(s));
            if matches {
                page.records.push(record);
            }
        }
        Ok(page)
    }
}

/// The log in one of its two directions.
enum Either<F, B> {
    Forward(F),
    Backward(B),
}

impl<T, F: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<F, B> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        match self {
            Self::Forward(range) => range.next(),
            Self::Backward(range) => range.next(),
        }
    }
}

impl EmbeddedStore {
    pub(super) fn signed_head(&self) -> Result<SignedHead, StoreError> {
        self.whole()?;
        let txn = self.read()?;
        let Some(meta) = table(&txn, META)? else {
            return Ok(SignedHead { head: Head::EMPTY, statement: None, broken: None, alarm: None });
        };
        let statement = meta.get(STATEMENT).map_err(failed)?.map(|bytes| bytes.value().to_vec());
        let statement = statement.and_then(|bytes| String::from_utf8(bytes).ok());
        let head = stored_chain(&meta)?.head;
        let (broken, alarm) = (broken_at(&meta, &head)?, recent_alarm(&meta, self.shared.clock.now())?);
        Ok(SignedHead { head, statement, broken, alarm })
    }
}

/// The first sequence from which on nothing is missed that was written at `since` or later, by bisection.
fn first_since(log: &redb::ReadOnlyTable<u64, &'static [u8]>, since: Option<Timestamp>) -> Result<u64, StoreError> {
    let (Some(since), Some(first), Some(last)) = (since, log.first().map_err(failed)?, log.last().map_err(failed)?)
    else {
        return Ok(0);
    };
    let (mut low, mut high) = (first.0.value(), last.0.value() + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = log.get(middle).map_err(failed)?.ok_or(StoreError::Damaged("audit"))?;
        if row_of(row.value())?.latest < since { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

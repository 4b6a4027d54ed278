//! The audit log as the hub holds it: records in lists of so many, so that one that must be stripped can be replaced in
//! its place.

use std::collections::VecDeque;

use redis::Value;

use super::{
    Answer, Head, NewRecord, Order,
    pen::{LIST, list, place_of},
};
use crate::{
    model::{
        Timestamp,
        audit::{Draft, Event, Outcome},
        chain::{self, digest_of},
        feed::Digest,
        time::format_duration,
    },
    store::{
        AuditPage, AuditQuery, AuditStore, Notary, SignedHead, StoreError,
        embedded::{AUDIT_SCAN, Happened, Row, TRIM_EVERY, UNSIGNED, decode, may_be_unsigned},
        redis::{
            Core, RedisStore,
            commit::{Look, UNREADABLE, bytes, maybe},
        },
    },
};

impl NewRecord {
    /// The record of what happened at an instant.
    pub(in crate::store::redis) fn of(at: Timestamp, draft: Draft, what: Happened) -> Self {
        let Draft { actor, client, subject, origin } = draft;
        let Happened { event, outcome, session, generation, cause } = what;
        let subject_ref = None;
        Self { at, event, outcome, actor, client, subject, subject_ref, session, generation, origin, cause }
    }
}

impl AuditStore for RedisStore {
    async fn record(
        &self,
        event: Event,
        outcome: Outcome,
        cause: Option<Box<str>>,
        audit: Draft,
    ) -> Result<(), StoreError> {
        let happened = Happened { event, outcome, session: None, generation: None, cause };
        self.core.record(audit, happened).await
    }

    async fn audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let began = self.core.begin().await?;
        let page = self.core.audit(&query).await?;
        self.core.life.current(&began)?;
        Ok(page)
    }
}

impl Core {
    /// Writes a record of its own.
    pub(in crate::store::redis) async fn record(&self, draft: Draft, what: Happened) -> Result<(), StoreError> {
        let began = self.begin().await?;
        let record = NewRecord::of(began.moment().now, draft, what);
        self.hub.order(Order::Record(Box::new(record))).await?;
        self.life.current(&began)
    }

    /// What this node has put off is done when this returns.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        match self.hub.order(Order::Flush).await? {
            Answer::Done => Ok(()),
            _ => Err(UNREADABLE),
        }
    }

    async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        self.flush().await?;
        let chain = self.head().await?.0.chain;
        let earliest = match query.since {
            Some(since) => self.first_since(&chain, since).await?,
            None => chain.first,
        };
        let end = chain.sequence + 1;
        let (mut first, mut end) = match (query.newest_first, query.after) {
            (false, after) => (earliest.max(after.saturating_add(1)), end),
            (true, 0) => (earliest, end),
            (true, before) => (earliest, end.min(before)),
        };
        let mut page = AuditPage { records: Vec::new(), next: None };
        let (mut looked_at, mut rows) = (0, VecDeque::new());
        loop {
            if rows.is_empty() {
                // The next list, from whichever side.
                let (from, to) = if query.newest_first {
                    (first.max(place_of(end.saturating_sub(1)).0 * LIST + 1), end)
                } else {
                    (first, end.min((place_of(first).0 + 1) * LIST + 1))
                };
                if from >= to {
                    return Ok(page);
                }
                rows.extend(self.rows(from, to).await?);
                (first, end) = if query.newest_first { (first, from) } else { (to, end) };
            }
            let row = if query.newest_first { rows.pop_back() } else { rows.pop_front() };
            let Some(Row { record, .. }) = row else { continue };
            if page.records.len() == query.limit || looked_at == AUDIT_SCAN {
                let place = record.sequence;
                page.next = Some(if query.newest_first { place + 1 } else { place - 1 });
                return Ok(page);
            }
            looked_at += 1;
            let matches = query.subject.as_ref().is_none_or(|s| record.subject.as_ref() == Some(s))
                && query.session.is_none_or(|s| record.session == Some(s));
            if matches {
                page.records.push(record);
            }
        }
    }

    /// The records from a place to before another, all of one list. Those that were dropped meanwhile are left out.
    pub(super) async fn rows(&self, from: u64, to: u64) -> Result<Vec<Row>, StoreError> {
        let (number, first) = place_of(from);
        let place = |n| i64::try_from(n).unwrap_or(i64::MAX);
        let last = place(first + (to - from).saturating_sub(1));
        let seen = Look::default().range(list(self, number), place(first), last).ask(&self.link).await?;
        let Some(Value::Array(rows)) = seen.parts.first() else { return Err(UNREADABLE) };
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            let row = bytes(row)?;
            if !row.is_empty() {
                read.push(decode(row, "audit")?);
            }
        }
        Ok(read)
    }

    /// One record. What does not read as one is none.
    async fn row(&self, sequence: u64) -> Result<Option<Row>, StoreError> {
        match self.rows(sequence, sequence + 1).await {
            Err(StoreError::Damaged(_)) => Ok(None),
            rows => rows.map(|mut rows| rows.pop()),
        }
    }

    /// The first record from which on nothing is missed that was written at `since` or later, by bisection.
    async fn first_since(&self, chain: &chain::Head, since: Timestamp) -> Result<u64, StoreError> {
        let (mut low, mut high) = (chain.first, chain.sequence + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.rows(middle, middle + 1).await?.pop();
            // Dropped while we looked: what is left begins later.
            let before = row.is_none_or(|row| row.latest < since);
            if before { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The first record that is not too old, if there are older ones, and why they go. As many as one commit drops.
    pub(super) async fn too_old(&self, chain: &chain::Head) -> Result<Option<(u64, String)>, StoreError> {
        let Some(age) = self.options.audit_age.filter(|_| chain.kept() > 0) else { return Ok(None) };
        let now = self.node.expired_by(&*self.clock);
        let to = (chain.sequence + 1).min((place_of(chain.first).0 + 1) * LIST + 1);
        let rows = self.rows(chain.first, to).await?;
        // Told once for many, not once for each.
        if rows.first().is_none_or(|row| now.since(row.record.at) <= age + TRIM_EVERY) {
            return Ok(None);
        }
        let old = rows.iter().take_while(|row| now.since(row.record.at) > age).last();
        Ok(old.map(|row| (row.record.sequence + 1, format!("older than {}", format_duration(age)))))
    }

    /// The head of both logs, and the notary's word on it.
    pub(super) async fn head(&self) -> Result<(Head, Option<String>), StoreError> {
        let look = Look::default().get(self.layout.hub("head")).get(self.layout.hub("statement"));
        let parts = look.ask(&self.link).await?.parts;
        let [head, statement] = &parts[..] else { return Err(UNREADABLE) };
        let head = Head::read(maybe(head)?.ok_or(StoreError::NotWhole)?)?;
        Ok((head, maybe(statement)?.and_then(|text| String::from_utf8(text.to_vec()).ok())))
    }

    pub(super) async fn signed_head(&self) -> Result<SignedHead, StoreError> {
        self.flush().await?;
        let (head, statement) = self.head().await?;
        let (broken, alarm) = (head.broken(), head.alarm(self.clock.now()));
        Ok(SignedHead { head: head.chain, statement, broken, alarm })
    }

    /// What is wrong with a log that this node did not leave as it is now: by what was signed, and by what it was when it
    /// was last seen here.
    pub(super) async fn fault(
        &self,
        seen: Option<chain::Head>,
        head: &chain::Head,
        statement: Option<&[u8]>,
    ) -> Result<Option<&'static str>, StoreError> {
        let Some(notary) = self.hub.notary() else { return Ok(None) };
        if seen.as_ref() == Some(head) {
            return Ok(None);
        }
        if seen.is_some_and(|then| then.sequence > head.sequence) {
            return Ok(Some("its newest records are missing"));
        }
        let signed = match statement {
            None if seen.is_some_and(|then| then.sequence > 0) => return Ok(Some("its signed head is gone")),
            None => Some(chain::Head::EMPTY),
            Some(text) => std::str::from_utf8(text).ok().and_then(|text| notary.attested(text)),
        };
        let Some(signed) = signed else { return Ok(Some("its head is not signed by this service")) };
        if signed != *head {
            return self.departs(&signed, head).await;
        }
        // Once, when it is first seen: whether the record that was signed is there.
        if seen.is_some() || head.kept() == 0 {
            return Ok(None);
        }
        let newest = self.row(head.sequence).await?;
        let same = newest.is_some_and(|row| digest_of(&row.record) == head.digest);
        Ok((!same).then_some("the record that was its newest is gone or has been changed"))
    }

    /// How a log differs from what was signed: what an opening may write before there is a notary is no difference.
    async fn departs(&self, signed: &chain::Head, head: &chain::Head) -> Result<Option<&'static str>, StoreError> {
        if signed.sequence > head.sequence {
            return Ok(Some("its newest records are missing"));
        }
        if (signed.first, signed.anchor) != (head.first, head.anchor) {
            return Ok(Some("it does not begin where it did"));
        }
        if head.sequence - signed.sequence > UNSIGNED {
            return Ok(Some("it holds records that were never signed"));
        }
        let mut previous = signed.digest;
        for sequence in signed.sequence + 1..=head.sequence {
            let Some(row) = self.row(sequence).await? else {
                return Ok(Some("a record is missing"));
            };
            if Digest(row.record.link.previous) != previous || !may_be_unsigned(&row.record) {
                return Ok(Some("it holds records that were never signed"));
            }
            previous = digest_of(&row.record);
        }
        Ok((previous != head.digest).then_some("its head is not the newest record"))
    }
}

impl RedisStore {
    /// Whose word the head of the audit log has from here on. The first one stays.
    pub fn employ(&self, notary: std::sync::Arc<dyn Notary>) {
        self.core.hub.employ(notary);
    }
}

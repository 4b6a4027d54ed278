//! Erasure, cursors, and the records that nothing else in the store goes with.

use super::{
    Core, NewRecord, Order,
    pen::{LIST, place_of},
};
use crate::{
    model::{
        SessionId, Subject, SubjectRef,
        audit::{Draft, Event, Outcome},
        chain::erasure,
        denial::{Entry, Target},
    },
    store::{
        Erased, EvidenceStore, SignedHead, StoreError,
        embedded::{ERASES, Happened, LOOKS, Row, encode},
        redis::{
            RedisStore,
            commit::{Look, maybe},
        },
    },
};

impl EvidenceStore for RedisStore {
    async fn audit_head(&self) -> Result<SignedHead, StoreError> {
        let began = self.core.begin().await?;
        let head = self.core.signed_head().await?;
        self.core.life.current(&began)?;
        Ok(head)
    }

    async fn witness(
        &self,
        event: Event,
        session: Option<SessionId>,
        cause: Box<str>,
        audit: Draft,
    ) -> Result<(), StoreError> {
        let happened = Happened { event, outcome: Outcome::Done, session, generation: None, cause: Some(cause) };
        self.core.record(audit, happened).await
    }

    async fn entries_about(&self, targets: Vec<Target>) -> Result<Vec<Entry>, StoreError> {
        let began = self.core.begin().await?;
        self.core.come_abreast().await?.is_of(&began)?;
        let entries = self.core.mirror.entries_about(targets).await?;
        let entries = self.core.with_reasons(entries).await?;
        self.core.life.current(&began)?;
        Ok(entries)
    }

    async fn erase(
        &self,
        subject: Subject,
        reference: SubjectRef,
        after: u64,
        audit: Draft,
    ) -> Result<Erased, StoreError> {
        let began = self.core.begin().await?;
        let erased = self.core.erase(&subject, reference, after, audit).await?;
        self.core.life.current(&began)?;
        Ok(erased)
    }

    async fn cursor(&self, name: &'static str) -> Result<Option<u64>, StoreError> {
        let began = self.core.begin().await?;
        let look = Look::default().hget(self.core.layout.hub("cursors"), name.as_bytes());
        let seen = look.ask(&self.core.link).await?;
        let cursor = seen.parts.first().map_or(Ok(None), maybe)?.map(super::log::be).transpose()?;
        self.core.life.current(&began)?;
        Ok(cursor)
    }

    async fn move_cursor(&self, name: &'static str, to: u64) -> Result<(), StoreError> {
        let began = self.core.begin().await?;
        self.core.hub.order(Order::Cursor { name, to }).await?;
        self.core.life.current(&began)
    }
}

/// What was found about a subject in the audit log.
struct Found {
    /// Records as they are to be.
    rows: Vec<(u64, Vec<u8>)>,
    next: Option<u64>,
}

impl Core {
    /// Sessions first, each with its bucket; then what the hub says of them, in one commit that tells of it.
    async fn erase(
        &self,
        subject: &Subject,
        reference: SubjectRef,
        after: u64,
        audit: Draft,
    ) -> Result<Erased, StoreError> {
        // What is still on its way would be written after it had been looked for.
        self.flush().await?;
        self.come_abreast().await?;
        let sessions = self.forget_sessions(reference, ERASES).await?;
        let mut targets: Vec<Target> = sessions.iter().map(|id| Target::Session(*id)).collect();
        targets.push(Target::Subject(reference));
        let blanked = self.reasons_about(targets).await?;
        let Found { rows, next } = self.records_about(subject, after).await?;
        let next = if sessions.len() == ERASES { Some(after) } else { next };
        let erased = Erased { sessions: sessions.len(), records: rows.len(), entries: blanked.len(), next };
        if erased.sessions + erased.records + erased.entries > 0 {
            let records: Vec<u64> = rows.iter().map(|(sequence, _)| *sequence).collect();
            let cause = Some(erasure(erased.sessions, erased.entries, &records).into());
            let (event, outcome) = (Event::SubjectErased, Outcome::Done);
            let happened = Happened { event, outcome, session: None, generation: None, cause };
            let mut told = NewRecord::of(self.clock.now(), audit, happened);
            told.subject_ref = Some(reference);
            self.hub.order(Order::Strip { rows, blanked, told: Box::new(told) }).await?;
        }
        Ok(erased)
    }

    /// The entries stay, because they protect; what an operator wrote beside them goes.
    async fn reasons_about(&self, targets: Vec<Target>) -> Result<Vec<u64>, StoreError> {
        let entries = self.mirror.entries_about(targets).await?;
        let reasons = self.reasons(&entries).await?;
        Ok(entries.iter().zip(reasons).filter(|(_, reason)| reason.is_some()).map(|(e, _)| e.position).collect())
    }

    async fn records_about(&self, subject: &Subject, after: u64) -> Result<Found, StoreError> {
        let chain = self.head().await?.0.chain;
        let mut at = chain.first.max(after.saturating_add(1));
        let (mut rows, mut looked) = (Vec::new(), 0);
        while at <= chain.sequence {
            let to = (chain.sequence + 1).min((place_of(at).0 + 1) * LIST + 1);
            for Row { latest, mut record } in self.rows(at, to).await? {
                if looked == LOOKS || rows.len() == ERASES {
                    return Ok(Found { rows, next: Some(record.sequence - 1) });
                }
                looked += 1;
                if record.subject.as_ref() == Some(subject) {
                    record.erase();
                    rows.push((record.sequence, encode(&Row { latest, record })));
                }
            }
            at = to;
        }
        Ok(Found { rows, next: None })
    }

    /// What operators wrote beside entries.
    async fn reasons(&self, entries: &[Entry]) -> Result<Vec<Option<Box<str>>>, StoreError> {
        let key = self.layout.hub("reasons");
        let look =
            entries.iter().fold(Look::default(), |look, entry| look.hget(key.clone(), &entry.position.to_be_bytes()));
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let seen = look.ask(&self.link).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into();
        seen.parts.iter().map(|part| Ok(maybe(part)?.map(text))).collect()
    }

    /// The same in their place.
    pub(super) async fn recall_reasons(&self, entries: Vec<&mut Entry>) -> Result<(), StoreError> {
        let named: Vec<Entry> = entries.iter().map(|entry| (**entry).clone()).collect();
        for (entry, reason) in entries.into_iter().zip(self.reasons(&named).await?) {
            entry.reason = reason.or(entry.reason.take());
        }
        Ok(())
    }

    /// Entries as operators see them.
    pub(in crate::store::redis) async fn with_reasons(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, StoreError> {
        let reasons = self.reasons(&entries).await?;
        let named = entries.into_iter().zip(reasons);
        Ok(named.map(|(entry, reason)| Entry { reason: reason.or(entry.reason), ..entry }).collect())
    }
}

//! What the rest asks of the store: changes go through the writer as steps, looks read the last commit.

use std::ops::Bound;

use redb::TableError;

use super::{
    EmbeddedStore,
    denials::{Hold, Index, look_up},
    feed::{epoch_of, head_position},
    singles::Share,
    tables::{
        DENIED, FAMILIES, Happened, LOG, META, Progress, SUBJECTS, decode, decode_id, failed, family_of, subject_key,
    },
};
use crate::{
    model::{
        ClientId, Kid, SessionId, SubjectRef, Timestamp,
        audit::{Draft, Event, Outcome},
        denial::{Bearer, Ends, Entry, Target},
        family::{Closure, Generation, Moment, Standing},
        feed::{Epoch, Mark},
    },
    store::{
        Amended, ClosedFamily, ClosedOthers, Denial, DenyStore, Family, FamilyStore, LogPage, LogTail, Opened, Opening,
        Others, Page, Presentation, Presented, Sight, StoreError,
    },
};

/// A subject's part of the subject index, from after a session.
pub(super) fn keys_of(subject: SubjectRef, after: Option<SessionId>) -> (Bound<[u8; 32]>, Bound<[u8; 32]>) {
    let end = |byte: u8| {
        let mut key = [byte; 32];
        key[..16].copy_from_slice(&subject.0);
        key
    };
    let first = after.map_or(Bound::Included(end(0)), |id| Bound::Excluded(subject_key(subject, id)));
    (first, Bound::Included(end(0xff)))
}

/// A table as of the last commit. One that was never written is empty.
pub(super) fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    txn: &redb::ReadTransaction,
    definition: redb::TableDefinition<'_, K, V>,
) -> Result<Option<redb::ReadOnlyTable<K, V>>, StoreError> {
    match txn.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

impl FamilyStore for EmbeddedStore {
    async fn open(&self, opening: Opening) -> Result<Opened, StoreError> {
        self.whole()?;
        let retention = self.retention;
        self.step(move |step| step.open_family(opening, retention)).await
    }

    async fn present(&self, presentation: Presentation) -> Result<Presented, StoreError> {
        let (standing, retention) = (self.shared.standing(), self.retention);
        let (subject, client, opened) = (presentation.subject, presentation.client.clone(), presentation.id.stamp());
        let presented = self.step(move |step| step.present(presentation, standing, retention)).await?;
        // What was acknowledged while this step waited for the disk wins, too.
        let covered = presented.is_success() && self.cut_off(subject, client, opened).await?;
        Ok(if covered { presented.cut_off() } else { presented })
    }

    /// A step is one transaction, and needs nothing that was seen before.
    async fn sight(
        &self,
        id: SessionId,
        _generation: Generation,
        _client: ClientId,
    ) -> Result<Option<(Family, Option<Sight>)>, StoreError> {
        Ok(self.find(id).await?.map(|family| (family, None)))
    }

    async fn amend(&self, id: SessionId, seen: Vec<u8>, sealed: Vec<u8>, audit: Draft) -> Result<Amended, StoreError> {
        self.whole()?;
        self.step(move |step| step.amend(id, &seen, sealed, audit)).await
    }

    async fn close(
        &self,
        id: SessionId,
        cause: Closure,
        reason: Option<Box<str>>,
        audit: Draft,
    ) -> Result<ClosedFamily, StoreError> {
        self.whole()?;
        let retention = self.retention;
        self.urgent_step(move |step| step.close(id, cause, reason, audit, retention)).await
    }

    async fn close_others(&self, others: Others) -> Result<ClosedOthers, StoreError> {
        self.whole()?;
        let retention = self.retention;
        self.urgent_step(move |step| step.close_others(others, retention)).await
    }

    async fn find(&self, id: SessionId) -> Result<Option<Family>, StoreError> {
        self.whole()?;
        let Some(families) = table(&self.read()?, FAMILIES)? else { return Ok(None) };
        let row = families.get(id.as_bytes()).map_err(failed)?;
        row.map(|bytes| family_of(id, bytes.value())).transpose()
    }

    async fn of_subject(
        &self,
        subject: SubjectRef,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Family>, StoreError> {
        self.whole()?;
        let txn = self.read()?;
        let (Some(subjects), Some(families)) = (table(&txn, SUBJECTS)?, table(&txn, FAMILIES)?) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for key in subjects.range(keys_of(subject, after)).map_err(failed)?.take(limit) {
            let key = key.map_err(failed)?.0.value();
            let id = decode_id(&key)?;
            if let Some(row) = families.get(id.as_bytes()).map_err(failed)? {
                found.push(family_of(id, row.value())?);
            }
        }
        Ok(found)
    }

    async fn all(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.whole()?;
        let Some(families) = table(&self.read()?, FAMILIES)? else { return Ok(Vec::new()) };
        let first = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id.as_bytes()));
        let rows = families.range::<[u8; 16]>((first, Bound::Unbounded)).map_err(failed)?;
        rows.take(limit)
            .map(|row| {
                let (id, bytes) = row.map_err(failed)?;
                let id = SessionId::from_bytes(id.value()).ok_or(StoreError::Damaged("family"))?;
                family_of(id, bytes.value())
            })
            .collect()
    }

    async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.all(None, 1).await?.first().map(|family| family.id.stamp()))
    }

    async fn count_of_subject(&self, subject: SubjectRef, cap: usize) -> Result<usize, StoreError> {
        self.whole()?;
        let Some(subjects) = table(&self.read()?, SUBJECTS)? else { return Ok(0) };
        Ok(subjects.range(keys_of(subject, None)).map_err(failed)?.take(cap).count())
    }

    async fn cut_off(&self, subject: SubjectRef, client: ClientId, opened: Timestamp) -> Result<bool, StoreError> {
        self.whole()?;
        let Some(index) = table(&self.read()?, DENIED)? else { return Ok(false) };
        Ok(opened < Snapshot(index).cut_before(subject, &client, Ends::Sessions)?)
    }

    fn standing(&self) -> Standing {
        self.shared.standing()
    }

    fn moment(&self) -> Moment {
        self.shared.moment()
    }

    fn stamped(&self) -> Result<Timestamp, StoreError> {
        let Some(meta) = table(&self.read()?, META)? else { return Ok(Timestamp::default()) };
        let row = meta.get("progress").map_err(failed)?;
        row.map_or(Ok(Timestamp::default()), |row| Ok(decode::<Progress>(row.value(), "progress")?.stamped))
    }
}

/// The denylist's index as of the last commit.
struct Snapshot(redb::ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Index for Snapshot {
    fn hold(&self, target: &Target, ends: Ends) -> Result<Option<Hold>, StoreError> {
        look_up(&self.0, target, ends)
    }
}

impl DenyStore for EmbeddedStore {
    async fn deny(&self, denial: Denial) -> Result<Option<Entry>, StoreError> {
        self.whole()?;
        let retention = self.retention;
        self.urgent_step(move |step| step.deny(denial, retention)).await
    }

    async fn deny_of(&self, subject: SubjectRef, most: u32, denial: Denial) -> Result<Option<Entry>, StoreError> {
        self.whole()?;
        let (retention, of) = (self.retention, Some(Share { subject, most }));
        self.urgent_step(move |step| step.deny_of(denial, of, retention)).await
    }

    async fn denied(&self, bearer: Bearer) -> Result<bool, StoreError> {
        self.whole()?;
        let Some(index) = table(&self.read()?, DENIED)? else { return Ok(false) };
        Snapshot(index).denies(&bearer, self.shared.clock.now())
    }

    async fn denied_key(&self, kid: &Kid) -> Result<bool, StoreError> {
        self.whole()?;
        let Some(index) = table(&self.read()?, DENIED)? else { return Ok(false) };
        Ok(look_up(&index, &Target::Key(kid.clone()), Ends::Tokens)?.is_some())
    }

    async fn entries(&self, after: u64, limit: usize) -> Result<Page, StoreError> {
        self.whole()?;
        let txn = self.read()?;
        let mut page = Page { epoch: self.epoch(), head: 0, entries: Vec::new() };
        if let Some(meta) = table(&txn, META)? {
            page.head = head_position(&meta)?;
            page.epoch = epoch_of(&meta)?;
        }
        let Some(log) = table(&txn, LOG)? else { return Ok(page) };
        let now = self.shared.clock.now();
        for item in log.range(after.saturating_add(1)..).map_err(failed)? {
            if page.entries.len() >= limit {
                break;
            }
            let entry: Entry = decode(item.map_err(failed)?.1.value(), "entry")?;
            if entry.kept_until > now {
                page.entries.push(entry);
            }
        }
        Ok(page)
    }

    async fn tail(&self, after: Option<(Epoch, Mark)>, limit: u64) -> Result<LogTail, StoreError> {
        self.tail_after(after, limit)
    }

    async fn page(&self, page: u64) -> Result<Option<LogPage>, StoreError> {
        self.history(page)
    }

    async fn appended(&self, position: u64) -> u64 {
        let mut head = self.shared.head.subscribe();
        let moved = head.wait_for(|head| *head != position).await.map(|head| *head);
        match moved {
            Ok(head) => head,
            // The store is closing: nothing will be appended any more.
            Err(_) => std::future::pending().await,
        }
    }

    fn expired_by(&self) -> Timestamp {
        self.shared.sweep_time()
    }

    async fn stamp(&self, subject: SubjectRef, client: ClientId, audit: Draft) -> Result<Timestamp, StoreError> {
        self.whole()?;
        self.step(move |step| {
            let at = step.fresh_stamp(subject, &client)?;
            step.note(
                audit,
                Happened {
                    event: Event::ClientToken,
                    outcome: Outcome::Done,
                    session: None,
                    generation: None,
                    cause: None,
                },
            )?;
            Ok(at)
        })
        .await
    }
}

//! Erasure, cursors, and the records that nothing else in the store goes with.

use redb::ReadableTable;

use super::{
    EmbeddedStore,
    audit::{Row, row_of},
    denials::{Hold, look_up},
    tables::{DENIED, Happened, LOG, Step, decode, encode, failed, subject_key},
    verbs::{keys_of, table},
};
use crate::{
    model::{
        SessionId, Subject, SubjectRef,
        audit::{Draft, Event, Outcome},
        chain::erasure,
        denial::{Ends, Entry, Target},
    },
    store::{Erased, EvidenceStore, SignedHead, StoreError},
};

/// Sessions, and audit records, that one step removes or strips at most.
pub(in crate::store) const ERASES: usize = 500;
/// Audit records that one step looks at: it holds up everyone else for so long.
pub(in crate::store) const LOOKS: usize = 4000;

/// Where cursors are in [`super::tables::META`].
pub(super) const CURSORS: std::ops::Range<&str> = "cursor ".."cursor!";

fn cursor_name(name: &str) -> String {
    format!("{}{name}", CURSORS.start)
}

impl EvidenceStore for EmbeddedStore {
    async fn audit_head(&self) -> Result<SignedHead, StoreError> {
        self.signed_head()
    }

    async fn witness(
        &self,
        event: Event,
        session: Option<SessionId>,
        cause: Box<str>,
        audit: Draft,
    ) -> Result<(), StoreError> {
        self.whole()?;
        let happened = Happened { event, outcome: Outcome::Done, session, generation: None, cause: Some(cause) };
        self.step(move |step| step.note(audit, happened)).await
    }

    async fn entries_about(&self, targets: Vec<Target>) -> Result<Vec<Entry>, StoreError> {
        self.whole()?;
        let txn = self.read()?;
        let (Some(index), Some(log)) = (table(&txn, DENIED)?, table(&txn, LOG)?) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for hold in holds(&index, &targets)? {
            if let Some(row) = log.get(hold.position).map_err(failed)? {
                found.push(decode(row.value(), "entry")?);
            }
        }
        Ok(found)
    }

    async fn erase(
        &self,
        subject: Subject,
        reference: SubjectRef,
        after: u64,
        audit: Draft,
    ) -> Result<Erased, StoreError> {
        self.whole()?;
        self.step(move |step| step.erase(&subject, reference, after, audit)).await
    }

    async fn cursor(&self, name: &'static str) -> Result<Option<u64>, StoreError> {
        self.whole()?;
        let Some(meta) = table(&self.read()?, super::tables::META)? else { return Ok(None) };
        let row = meta.get(&*cursor_name(name)).map_err(failed)?;
        row.map(|bytes| decode(bytes.value(), "cursor")).transpose()
    }

    async fn move_cursor(&self, name: &'static str, to: u64) -> Result<(), StoreError> {
        self.whole()?;
        self.step(move |step| {
            step.meta.insert(&*cursor_name(name), &encode(&to)[..]).map_err(failed)?;
            step.dirty = true;
            Ok(())
        })
        .await
    }
}

fn holds(
    index: &impl ReadableTable<&'static [u8], &'static [u8]>,
    targets: &[Target],
) -> Result<Vec<Hold>, StoreError> {
    let mut holds: Vec<Hold> = Vec::new();
    for target in targets {
        for ends in [Ends::Sessions, Ends::Tokens] {
            let hold = look_up(index, target, ends)?;
            holds.extend(hold.filter(|new| holds.iter().all(|old| old.position != new.position)));
        }
    }
    Ok(holds)
}

impl Step<'_> {
    /// Nobody has read beyond this place. A cursor that cannot be read says nothing else.
    pub(super) fn put_cursors_back(&mut self, last: u64) -> Result<(), StoreError> {
        let mut ahead = Vec::new();
        for row in self.meta.range(CURSORS).map_err(failed)? {
            let (name, bytes) = row.map_err(failed)?;
            if decode::<u64>(bytes.value(), "cursor").is_ok_and(|at| at <= last) {
                continue;
            }
            ahead.push(name.value().to_owned());
        }
        for name in ahead {
            self.meta.insert(&*name, &encode(&last)[..]).map_err(failed)?;
        }
        Ok(())
    }

    fn erase(
        &mut self,
        subject: &Subject,
        reference: SubjectRef,
        after: u64,
        audit: Draft,
    ) -> Result<Erased, StoreError> {
        let sessions = self.sessions_to_remove(reference)?;
        let mut targets: Vec<Target> = sessions.iter().map(|id| Target::Session(*id)).collect();
        targets.push(Target::Subject(reference));
        let entries = self.blank_reasons(&targets)?;
        for id in &sessions {
            self.families.remove(id.as_bytes()).map_err(failed)?;
            self.subjects.remove(subject_key(reference, *id)).map_err(failed)?;
            self.open.remove(subject_key(reference, *id)).map_err(failed)?;
        }
        let (records, looked) = self.strip(subject, after)?;
        let more = if sessions.len() == ERASES { Some(after) } else { looked };
        let erased = Erased { sessions: sessions.len(), records: records.len(), entries, next: more };
        if erased.sessions + erased.records + erased.entries > 0 {
            let cause = erasure(erased.sessions, entries, &records);
            let (event, outcome) = (Event::SubjectErased, Outcome::Done);
            let happened = Happened { event, outcome, session: None, generation: None, cause: Some(cause.into()) };
            self.write(audit, happened, Some(reference))?;
        }
        Ok(erased)
    }

    fn sessions_to_remove(&self, reference: SubjectRef) -> Result<Vec<SessionId>, StoreError> {
        let mut sessions = Vec::new();
        for key in self.subjects.range(keys_of(reference, None)).map_err(failed)?.take(ERASES) {
            let key = key.map_err(failed)?.0.value();
            let id = key[16..].try_into().ok().and_then(SessionId::from_bytes);
            sessions.push(id.ok_or(StoreError::Damaged("subject"))?);
        }
        Ok(sessions)
    }

    /// The entries stay, because they protect; what an operator wrote beside them goes.
    fn blank_reasons(&mut self, targets: &[Target]) -> Result<usize, StoreError> {
        let mut blanked = 0;
        for hold in holds(&self.denied, targets)? {
            let row = self.log.get(hold.position).map_err(failed)?.map(|bytes| bytes.value().to_vec());
            let Some(row) = row else { continue };
            let mut entry: Entry = decode(&row, "entry")?;
            if entry.reason.take().is_some() {
                self.log.insert(hold.position, &encode(&entry)[..]).map_err(failed)?;
                (self.dirty, blanked) = (true, blanked + 1);
            }
        }
        Ok(blanked)
    }

    /// Strips records about the subject from after a place; says which, and where to go on.
    fn strip(&mut self, subject: &Subject, after: u64) -> Result<(Vec<u64>, Option<u64>), StoreError> {
        let (mut found, mut last, mut looked) = (Vec::new(), after, 0);
        for row in self.audit.range(after + 1..).map_err(failed)? {
            let (sequence, bytes) = row.map_err(failed)?;
            if looked == LOOKS || found.len() == ERASES {
                looked = LOOKS;
                break;
            }
            (last, looked) = (sequence.value(), looked + 1);
            let row = row_of(bytes.value())?;
            if row.record.subject.as_ref() == Some(subject) {
                found.push((last, row));
            }
        }
        let records = found.iter().map(|(sequence, _)| *sequence).collect();
        for (sequence, Row { latest, mut record }) in found {
            record.erase();
            self.audit.insert(sequence, &encode(&Row { latest, record })[..]).map_err(failed)?;
            self.dirty = true;
        }
        Ok((records, (looked == LOOKS).then_some(last)))
    }
}

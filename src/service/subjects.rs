//! What is kept about a subject: handed out, or removed as far as it can be.
//!
//! Removed are its sessions with all that they say, the personal part of its audit records (name, address, user agent,
//! an operator's words), and operators' words beside its denylist entries. Kept are the records themselves under the
//! pseudonym that tokens carry too, and the denylist entries, which hold no name: without them its tokens would live.

use super::{Context, Error, Permission, Service, sessions::COUNT_CAP};
use crate::{
    families::Session,
    model::{
        Subject, SubjectRef,
        audit::{Event, Record},
        denial::{Ends, Entry, Target},
    },
    store::{AuditQuery, AuditStore, Denial, EvidenceStore},
};

/// Sessions read at once.
const SESSIONS: usize = 200;

/// What is kept about a subject, or a part of it.
#[derive(Debug)]
pub struct Dossier {
    /// The pseudonym.
    pub reference: SubjectRef,
    /// Its sessions, ended ones that are still kept among them. Only in the first part.
    pub sessions: Vec<Session>,
    /// Whether there are more sessions than are handed out.
    pub more_sessions: bool,
    /// Entries of the denylist about it or its sessions. Only in the first part.
    pub entries: Vec<Entry>,
    /// Audit records.
    pub records: Vec<Record>,
    /// Where to go on with the audit records.
    pub next: Option<u64>,
}

/// What an erasure did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Erasure {
    /// Sessions ended and removed.
    pub sessions: usize,
    /// Audit records stripped of what names a person.
    pub records: usize,
    /// Denylist entries that lost an operator's words.
    pub reasons: usize,
}

impl Service {
    /// All that is kept about a subject. That it was handed out is recorded, once for all parts.
    ///
    /// # Errors
    /// The caller may not, or 503.
    pub async fn dossier(&self, ctx: &Context, subject: &Subject, after: u64, limit: usize) -> Result<Dossier, Error> {
        ctx.require(Permission::SubjectsExport)?;
        let reference = self.families.refer(subject);
        let (mut sessions, mut entries) = (Vec::new(), Vec::new());
        if after == 0 {
            let mut draft = ctx.draft();
            draft.subject = Some(subject.clone());
            self.store.witness(Event::SubjectExported, None, "everything that is kept".into(), draft).await?;
            sessions = self.sessions_of(subject).await?;
            let mut about: Vec<Target> = sessions.iter().map(|s| Target::Session(s.id)).collect();
            about.push(Target::Subject(reference));
            entries = self.store.entries_about(about).await?;
        }
        let query = AuditQuery { subject: Some(subject.clone()), after, limit, ..AuditQuery::default() };
        let page = self.store.audit(query).await?;
        let more_sessions = sessions.len() >= COUNT_CAP;
        Ok(Dossier { reference, sessions, more_sessions, entries, records: page.records, next: page.next })
    }

    async fn sessions_of(&self, subject: &Subject) -> Result<Vec<Session>, Error> {
        let mut sessions: Vec<Session> = Vec::new();
        while sessions.len() < COUNT_CAP {
            let after = sessions.last().map(|s| s.id);
            let page = self.families.of_subject(subject, after, SESSIONS).await?;
            let is_last = page.len() < SESSIONS;
            sessions.extend(page);
            if is_last {
                break;
            }
        }
        Ok(sessions)
    }

    /// Ends what the subject has and removes what can be removed. Doing it again is fine: it finds what has come since.
    ///
    /// # Errors
    /// The caller may not, or 503; what was done until then stays done, and is told in the audit log.
    pub async fn erase_subject(&self, ctx: &Context, subject: &Subject) -> Result<Erasure, Error> {
        ctx.require(Permission::SubjectsErase)?;
        let reference = self.families.refer(subject);
        // First, so that nothing of it can be used any more whatever becomes of the rest. Under the pseudonym.
        let (target, ends) = (Target::Subject(reference), Ends::Sessions);
        let denial = Denial { target, ends, before: None, expires: None, reason: None, audit: ctx.draft() };
        self.denylist.deny(denial).await?;
        let (mut erasure, mut after) = (Erasure::default(), 0);
        loop {
            let step = self.store.erase(subject.clone(), reference, after, ctx.draft()).await?;
            erasure.sessions += step.sessions;
            erasure.records += step.records;
            erasure.reasons += step.entries;
            match step.next {
                Some(next) => after = next,
                None => break,
            }
        }
        self.metrics.revocation("subject");
        Ok(erasure)
    }
}

//! What evidence asks of a store: the log's signed head, erasure of a subject, cursors of those who read along.

use std::future::Future;

use super::StoreError;
use crate::model::{
    SessionId, Subject, SubjectRef,
    audit::Draft,
    chain::Head,
    denial::{Entry, Target},
};

/// Signs the head of the audit log, and gives subjects their pseudonyms. Called in the writer's step: it must be quick
/// and do no I/O.
pub trait Notary: Send + Sync + 'static {
    /// The reference that stands for a subject.
    fn refer(&self, subject: &Subject) -> SubjectRef;
    /// A signed statement of the head.
    fn attest(&self, head: &Head) -> String;
    /// What a statement says, if it is ours.
    fn attested(&self, statement: &str) -> Option<Head>;
}

/// The audit log's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// Which records there are.
    pub head: Head,
    /// The notary's word on it. None while there is no notary, or no record.
    pub statement: Option<String>,
    /// The record that tells that the log was found to be another than the notary's; the last one, while it is kept and no
    /// operator has accepted a loss since.
    pub broken: Option<u64>,
    /// From which record on nobody may miss anything: there the log was found to be another, or an operator accepted a
    /// loss, in the last three days.
    pub alarm: Option<u64>,
}

/// How far an erasure has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Sessions removed in this step.
    pub sessions: usize,
    /// Audit records stripped in this step.
    pub records: usize,
    /// Denylist entries that lost an operator's words.
    pub entries: usize,
    /// Where to go on; none once all has been looked at.
    pub next: Option<u64>,
}

/// Evidence. Every method is one atomic step, and durable once it returns `Ok`.
pub trait EvidenceStore: Send + Sync + 'static {
    /// The head of the audit log with its signature.
    fn audit_head(&self) -> impl Future<Output = Result<SignedHead, StoreError>> + Send;
    /// Records that something was seen too often, or that a subject's data was handed out.
    fn witness(
        &self,
        event: crate::model::audit::Event,
        session: Option<SessionId>,
        cause: Box<str>,
        audit: Draft,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Entries of the denylist about any of these.
    fn entries_about(&self, targets: Vec<Target>) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;
    /// One step of an erasure: removes what the store holds about a subject, from after this place in the audit log.
    /// Sessions must have been cut off before. What was stripped is told by a record of the same step.
    fn erase(
        &self,
        subject: Subject,
        reference: SubjectRef,
        after: u64,
        audit: Draft,
    ) -> impl Future<Output = Result<Erased, StoreError>> + Send;
    /// How far somebody has read the audit log, if that was ever said.
    fn cursor(&self, name: &'static str) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;
    /// Remembers it.
    fn move_cursor(&self, name: &'static str, to: u64) -> impl Future<Output = Result<(), StoreError>> + Send;
}

//! What the rest needs of a store, in the words of those who need it. One suite (`tests/store_contract.rs`) holds
//! every store to it.

use std::future::Future;

use crate::model::{
    ClientId, Kid, SessionId, SubjectRef, Timestamp,
    audit::{Draft, Event, Outcome, Record},
    denial::{Bearer, Ends, Entry, Target},
    family::{Closure, Generation, Holder, Lifetimes, Lineage, Moment, Refusal, Secret, Standing, Verdict},
    feed::{Epoch, Item, Mark},
    session::SessionCap,
};

mod backend;
mod clients;
pub mod embedded;
mod evidence;
pub mod redis;

pub use backend::{Backend, Report};
pub use evidence::{Erased, EvidenceStore, Notary, SignedHead};
pub use redis::Sight;

pub use clients::{ASSERTION_LIFE, ASSERTIONS, AssertionId, AssertionUse, BookChange, BookChanged, ClientStore};

/// We could not tell. The write may or may not have happened, unless the variant says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Too much is waiting. Nothing was written.
    #[error("the store is busy; nothing was written")]
    Busy,
    /// The disk is full, or the like. The change may have been written.
    #[error("the store cannot answer: {0}")]
    Failed(String),
    /// It is not the store that it was (G10). Nothing was written.
    #[error(
        "the store came back without all that it had acknowledged; /readyz says what is waited for, and what mends it"
    )]
    NotWhole,
    /// The keys that nodes share may have changed since this node looked. What was to be signed is not.
    #[error(transparent)]
    KeysUnconfirmed(#[from] crate::keyring::Unconfirmed),
    /// Its layout is not one that this program may touch. Nothing was written.
    #[error(transparent)]
    Layout(#[from] crate::model::edition::Unfit),
    /// A record that we wrote does not read back.
    #[error("a record is damaged: {0}")]
    Damaged(&'static str),
}

/// A family as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, which says when it was opened.
    pub id: SessionId,
    /// The part that moves.
    pub lineage: Lineage,
    /// Which derivation key its secrets come from, for life.
    pub key: u32,
    /// Whose it is, opaquely.
    pub subject: SubjectRef,
    /// Whose it is, sealed: see [`crate::model::session::Identity`].
    pub sealed: Vec<u8>,
}

/// Asks for a new family.
pub struct Opening {
    /// The random part of its name; the store adds the instant.
    pub random: [u8; 10],
    /// Which derivation key.
    pub key: u32,
    /// Whose.
    pub subject: SubjectRef,
    /// Which client will refresh it.
    pub client: ClientId,
    /// How long it may live.
    pub lives: Lifetimes,
    /// How many the subject may have.
    pub cap: Option<SessionCap>,
    /// Seals the identity once name and absolute end are known. Called inside the step; once more each time that the step
    /// has to begin anew under another name.
    pub seal: Box<dyn Fn(SessionId, Timestamp) -> Vec<u8> + Send + Sync>,
    /// For the audit log.
    pub audit: Draft,
}

/// What became of an opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opened {
    /// A new family.
    Family(Family),
    /// The subject has as many as it may; nothing was written.
    Full,
}

impl Opened {
    /// The family, if there is one.
    #[must_use]
    pub fn family(self) -> Option<Family> {
        if let Self::Family(family) = self { Some(family) } else { None }
    }
}

/// Asks for the outcome of a presented refresh token. What the caller can know is in here; the rest the store looks
/// up in the same step.
#[derive(Clone, Debug)]
pub struct Presentation {
    /// The family.
    pub id: SessionId,
    /// The generation.
    pub generation: Generation,
    /// Whether the secret is right.
    pub secret: Secret,
    /// Who presents it.
    pub holder: Holder,
    /// The sealed identity that all this was read from. A success is held back if the family has another by now.
    pub seen: Vec<u8>,
    /// Whether more is asked for than the identity allows. A success is then held back.
    pub wide: bool,
    /// Whose session the sealed record says it is.
    pub subject: SubjectRef,
    /// The client that the sealed record names.
    pub client: ClientId,
    /// How long things last.
    pub lives: Lifetimes,
    /// For the audit log.
    pub audit: Draft,
    /// What [`FamilyStore::sight`] saw. The step may be decided by it, as long as nothing of it has moved.
    pub sight: Option<Sight>,
}

/// Why a success was not carried out: nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// The identity has changed since it was seen: read again.
    Stale,
    /// More was asked for than the identity allows.
    Wide,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The rule's verdict, carried out unless it is held back.
    pub verdict: Verdict,
    /// Only ever set beside a success.
    pub held_back: Option<HeldBack>,
    /// The family after it. None if it is unknown.
    pub family: Option<Family>,
    /// When; later than any cut-off of tokens that applies. An access token is stamped with this.
    pub at: Timestamp,
}

impl Presented {
    /// Whether tokens are to be handed out.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.held_back.is_none() && matches!(self.verdict, Verdict::Rotate | Verdict::Retry | Verdict::Heal)
    }

    /// The same, met by a cut-off that covers it.
    #[must_use]
    pub(crate) fn cut_off(self) -> Self {
        Self { verdict: Verdict::Refused(Refusal::CutOff), ..self }
    }
}

/// What became of a closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedFamily {
    /// Whether the family was open until now.
    pub was_open: bool,
    /// The entry that denies its live access tokens. None if no token of it can be alive.
    pub entry: Option<Entry>,
}

/// Asks to close a subject's families but one.
#[derive(Clone, Debug)]
pub struct Others {
    /// Whose.
    pub subject: SubjectRef,
    /// The one that goes on.
    pub keep: SessionId,
    /// Those after this one only.
    pub after: Option<SessionId>,
    /// Those up to this one; the last that there is, if it is not said.
    pub until: Option<SessionId>,
    /// How many are looked at in one step, at most.
    pub limit: usize,
    /// Why.
    pub reason: Option<Box<str>>,
    /// For the audit log.
    pub audit: Draft,
}

/// What became of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosedOthers {
    /// How many were open until now.
    pub closed: usize,
    /// Until when the feed denies their tokens. None if none of them can be alive.
    pub feed_until: Option<Timestamp>,
    /// For `after` of the next step, if there is more to look at.
    pub next: Option<SessionId>,
    /// For `until` of the next step: what is opened meanwhile is left alone.
    pub until: Option<SessionId>,
}

/// What became of an amendment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// The new seal is in place.
    Done,
    /// Somebody else changed it since it was read: read again.
    Stale,
    /// The family has ended, or is unknown.
    Ended,
}

/// Refresh-token families. Every method is one atomic step, and durable once it returns `Ok`.
pub trait FamilyStore: Send + Sync + 'static {
    /// Starts a family, stamped later than any cut-off that would cover it. Counting those of the subject and ending the
    /// oldest is part of the step: no race makes them more than the cap.
    fn open(&self, opening: Opening) -> impl Future<Output = Result<Opened, StoreError>> + Send;
    /// Applies the family rule. Closing denies the family's access tokens in the same step. A cut-off that was acknowledged
    /// before the family's step was made refuses, also where the two are not one transaction.
    fn present(&self, presentation: Presentation) -> impl Future<Output = Result<Presented, StoreError>> + Send;
    /// Replaces the sealed identity if it still is `seen`.
    fn amend(
        &self,
        id: SessionId,
        seen: Vec<u8>,
        sealed: Vec<u8>,
        audit: Draft,
    ) -> impl Future<Output = Result<Amended, StoreError>> + Send;
    /// Closes a family and denies its live access tokens; closing twice is fine. An unknown one is denied all the
    /// same, for the longest life that a token of it could have.
    fn close(
        &self,
        id: SessionId,
        cause: Closure,
        reason: Option<Box<str>>,
        audit: Draft,
    ) -> impl Future<Output = Result<ClosedFamily, StoreError>> + Send;
    /// Closes a subject's families but one, as [`FamilyStore::close`] would each, all of them in one step. Serialised
    /// with openings: a family that was opened before the first step is closed, one opened after it is not.
    fn close_others(&self, others: Others) -> impl Future<Output = Result<ClosedOthers, StoreError>> + Send;
    /// One family, for this client to present a token of this generation next.
    fn sight(
        &self,
        id: SessionId,
        generation: Generation,
        client: ClientId,
    ) -> impl Future<Output = Result<Option<(Family, Option<Sight>)>, StoreError>> + Send;
    /// One family.
    fn find(&self, id: SessionId) -> impl Future<Output = Result<Option<Family>, StoreError>> + Send;
    /// A subject's families in the order of their opening, from after `after`.
    fn of_subject(
        &self,
        subject: SubjectRef,
        after: Option<SessionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Family>, StoreError>> + Send;
    /// All families, from after `after`: in an order that stays, so that whoever goes on after the last of a part comes by
    /// each once.
    fn all(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Family>, StoreError>> + Send;
    /// When the oldest family was opened that is still kept, ended or not.
    fn oldest(&self) -> impl Future<Output = Result<Option<Timestamp>, StoreError>> + Send;
    /// How many families a subject has, ended ones that are still kept among them; counted up to `cap`.
    fn count_of_subject(
        &self,
        subject: SubjectRef,
        cap: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
    /// Whether the latest cut-off of sessions covers a family of this subject and client, opened then.
    fn cut_off(
        &self,
        subject: SubjectRef,
        client: ClientId,
        opened: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Whether the store is the one it was.
    fn standing(&self) -> Standing;
    /// The store's time, for what needs no step.
    fn moment(&self) -> Moment;
    /// The latest instant that has been stamped into anything: the clock may have been put back since.
    ///
    /// # Errors
    /// It cannot be read.
    fn stamped(&self) -> Result<Timestamp, StoreError>;
}

/// Asks for an entry of the denylist. Sessions are closed by [`FamilyStore::close`] instead.
#[derive(Clone, Debug)]
pub struct Denial {
    /// What.
    pub target: Target,
    /// What a cut-off ends.
    pub ends: Ends,
    /// Up to when; now, if it is not said. A later instant is never asked for.
    pub before: Option<Timestamp>,
    /// The `exp` of the last token that it concerns, if that is known.
    pub expires: Option<Timestamp>,
    /// Why.
    pub reason: Option<Box<str>>,
    /// For the audit log.
    pub audit: Draft,
}

/// The denylist. Every method is one atomic step, and durable once it returns `Ok`.
pub trait DenyStore: Send + Sync + 'static {
    /// Denies. Denying again what is denied as long gives the entry that is there. `None`: the cut-off would lie in
    /// the future.
    fn deny(&self, denial: Denial) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;
    /// As [`DenyStore::deny`] for a single token of this subject. One that has more than `most` such entries of late gets
    /// a cut-off of its tokens instead, which takes the place of the one before.
    fn deny_of(
        &self,
        subject: SubjectRef,
        most: u32,
        denial: Denial,
    ) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;
    /// Whether any live entry denies this token.
    fn denied(&self, bearer: Bearer) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Whether this key is denied.
    fn denied_key(&self, kid: &Kid) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Live entries after a position, in order.
    fn entries(&self, after: u64, limit: usize) -> impl Future<Output = Result<Page, StoreError>> + Send;
    /// What lies between a mark and the end of the log, `limit` entries of it at most and never more than
    /// [`crate::model::feed::PAGE`]. Read from this node's last commit, and only if the store is whole.
    ///
    /// It begins at `after` if that is a mark of this log which is still known, else at the last whole page.
    fn tail(
        &self,
        after: Option<(Epoch, Mark)>,
        limit: u64,
    ) -> impl Future<Output = Result<LogTail, StoreError>> + Send;
    /// The page of history that begins after `page` times [`crate::model::feed::PAGE`] positions. `None`: it is not
    /// whole yet, or nothing of it is alive.
    fn page(&self, page: u64) -> impl Future<Output = Result<Option<LogPage>, StoreError>> + Send;
    /// Waits until the log ends elsewhere than at `position`, and says where. Whoever is told so finds it in
    /// [`DenyStore::tail`].
    fn appended(&self, position: u64) -> impl Future<Output = u64> + Send;
    /// What expires by then has expired. Now, unless the clock has leapt ahead, which is doubted for a while.
    fn expired_by(&self) -> Timestamp;
    /// The instant for a client's own token: later than any cut-off that applies to it.
    fn stamp(
        &self,
        subject: SubjectRef,
        client: ClientId,
        audit: Draft,
    ) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;
}

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Which life of the log. Positions of different epochs do not compare.
    pub epoch: u128,
    /// The last position given out.
    pub head: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// The end of the log, for those who follow it. It holds what is alive, and positions count what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTail {
    /// Which life of the log.
    pub epoch: Epoch,
    /// Where it begins.
    pub from: Mark,
    /// How far it reaches: to the last of the entries if some are left out, else to the end.
    pub to: Mark,
    /// The last position given out.
    pub head: u64,
    /// The first page of history that holds entries; if there is none, the first that is not whole yet.
    pub first_page: u64,
    /// What had expired by then has left; nothing else has.
    pub now: Timestamp,
    /// What is denied.
    pub entries: Vec<Item>,
}

/// A page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// Which life of the log.
    pub epoch: Epoch,
    /// Where it begins.
    pub from: Mark,
    /// Where the next page that holds entries begins, or the tail.
    pub to: Mark,
    /// What is denied.
    pub entries: Vec<Item>,
}

/// The audit log.
pub trait AuditStore: Send + Sync + 'static {
    /// Writes a record of its own, for events that change nothing else in the store.
    fn record(
        &self,
        event: Event,
        outcome: Outcome,
        cause: Option<Box<str>>,
        audit: Draft,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Records that match, newest last unless asked otherwise.
    fn audit(&self, query: AuditQuery) -> impl Future<Output = Result<AuditPage, StoreError>> + Send;
}

/// Which records.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// About this subject.
    pub subject: Option<crate::model::Subject>,
    /// About this session.
    pub session: Option<SessionId>,
    /// Not before this instant, and all that was written later, whatever the clock said then.
    pub since: Option<Timestamp>,
    /// After this place in the log; where the newest come first, before it, and 0 is the end.
    pub after: u64,
    /// The newest first.
    pub newest_first: bool,
    /// How many at most.
    pub limit: usize,
}

/// A part of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<Record>,
    /// Where to go on; none at the end. A page may be short and still have a next one.
    pub next: Option<u64>,
}

/// All of them.
pub trait Store: FamilyStore + DenyStore + AuditStore + ClientStore + EvidenceStore {}
impl<T: FamilyStore + DenyStore + AuditStore + ClientStore + EvidenceStore> Store for T {}

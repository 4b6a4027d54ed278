//! The store that a node was given: one of those that there are.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    AssertionId, AssertionUse, AuditPage, AuditQuery, AuditStore, BookChange, BookChanged, ClientStore, ClosedFamily,
    ClosedOthers, Denial, DenyStore, Erased, EvidenceStore, Family, FamilyStore, LogPage, LogTail, Notary, Opened,
    Opening, Others, Page, Presentation, Presented, SignedHead, StoreError,
    embedded::{Acceptance, EmbeddedStore, Summary},
    redis::{NodeReport, RedisStore},
};
use crate::{
    clock::Random,
    model::{
        ClientId, Kid, SessionId, Subject, SubjectRef, Timestamp,
        audit::{Draft, Event, Outcome},
        denial::{Bearer, Entry, Target},
        family::{Closure, Generation, Moment, Standing},
        feed::{Epoch, Mark},
    },
};

/// The store that a node runs on.
#[derive(Clone, Debug)]
pub enum Backend {
    /// One file, one process.
    Embedded(Arc<EmbeddedStore>),
    /// Redis or Valkey, which many nodes share.
    Redis(Arc<RedisStore>),
}

impl From<Arc<EmbeddedStore>> for Backend {
    fn from(store: Arc<EmbeddedStore>) -> Self {
        Self::Embedded(store)
    }
}

impl From<EmbeddedStore> for Backend {
    fn from(store: EmbeddedStore) -> Self {
        Self::Embedded(Arc::new(store))
    }
}

impl From<RedisStore> for Backend {
    fn from(store: RedisStore) -> Self {
        Self::Redis(Arc::new(store))
    }
}

/// What can be said of a store, whether or not it is whole.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whether it is the one it was.
    pub standing: Standing,
    /// Its layout.
    pub schema: u32,
    /// How often it has come back as another.
    pub incarnation: u32,
    /// The bytes that it occupies, if it tells.
    pub bytes: Option<u64>,
    /// Rows of each table; none where counting them would take going through them.
    pub rows: BTreeMap<String, u64>,
    /// Requests of this node that wait.
    pub queue: usize,
    /// The last backup that was sent to its end.
    pub last_backup: Option<Summary>,
    /// Why a shared store does not serve here, and what mends it.
    pub why: Option<String>,
    /// Who takes part in a shared store.
    pub nodes: Vec<NodeReport>,
}

/// Asks whichever store it is.
macro_rules! of_either {
    ($backend:expr, $store:ident => $asked:expr) => {
        match $backend {
            Backend::Embedded($store) => $asked,
            Backend::Redis($store) => $asked,
        }
    };
}

impl Backend {
    /// The embedded store, if it is one: it alone backs itself up.
    #[must_use]
    pub const fn embedded(&self) -> Option<&Arc<EmbeddedStore>> {
        if let Self::Embedded(store) = self { Some(store) } else { None }
    }

    /// The store that many nodes share, if it is one.
    #[must_use]
    pub const fn shared(&self) -> Option<&Arc<RedisStore>> {
        if let Self::Redis(store) = self { Some(store) } else { None }
    }

    /// Whose word the head of the audit log has from here on. The first one stays.
    pub fn employ(&self, notary: Arc<dyn Notary>) {
        of_either!(self, store => store.employ(notary));
    }

    /// How many requests wait.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        of_either!(self, store => store.queue_depth())
    }

    /// This store, as opposed to any other.
    #[must_use]
    pub fn id(&self) -> u128 {
        of_either!(self, store => store.id())
    }

    /// Which life of the denylist's log this is.
    #[must_use]
    pub fn epoch(&self) -> u128 {
        of_either!(self, store => store.epoch())
    }

    /// The bytes that it occupies: of its file, or of the memory of its server. None: it does not tell.
    pub async fn size(&self) -> Option<u64> {
        match self {
            Self::Embedded(store) => store.size().ok(),
            Self::Redis(store) => store.used_memory().await,
        }
    }

    /// What can be said of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self) -> Result<Report, StoreError> {
        match self {
            Self::Embedded(store) => store.report(),
            Self::Redis(store) => store.report().await,
        }
    }

    /// Declares that what the store holds is what there is, whatever is remembered of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn declare(
        &self,
        acceptance: Acceptance,
        random: Arc<dyn Random>,
        audit: Draft,
    ) -> Result<(), StoreError> {
        of_either!(self, store => store.declare(acceptance, random, audit).await)
    }

    /// When the last backup was taken that was sent to its end. None also where others see to that.
    #[must_use]
    pub fn last_backup_at(&self) -> Option<Timestamp> {
        self.embedded().and_then(|store| store.last_backup_at())
    }
}

/// A trait of stores, by whichever store it is.
macro_rules! delegate {
    ($trait:ident {
        $(async fn $step:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*
        $(fn $look:ident($($by:ident: $by_type:ty),*) -> $seen:ty;)*
    }) => {
        impl $trait for Backend {
            $(async fn $step(&self $(, $arg: $type)*) -> $answer {
                of_either!(self, store => $trait::$step(&**store $(, $arg)*).await)
            })*
            $(fn $look(&self $(, $by: $by_type)*) -> $seen {
                of_either!(self, store => $trait::$look(&**store $(, $by)*))
            })*
        }
    };
}

type Reason = Option<Box<str>>;

delegate!(FamilyStore {
    async fn open(opening: Opening) -> Result<Opened, StoreError>;
    async fn present(presentation: Presentation) -> Result<Presented, StoreError>;
    async fn sight(id: SessionId, generation: Generation, client: ClientId) -> Result<Option<(Family, Option<super::Sight>)>, StoreError>;
    async fn amend(id: SessionId, seen: Vec<u8>, sealed: Vec<u8>, audit: Draft) -> Result<super::Amended, StoreError>;
    async fn close(id: SessionId, cause: Closure, reason: Reason, audit: Draft) -> Result<ClosedFamily, StoreError>;
    async fn close_others(others: Others) -> Result<ClosedOthers, StoreError>;
    async fn find(id: SessionId) -> Result<Option<Family>, StoreError>;
    async fn of_subject(subject: SubjectRef, after: Option<SessionId>, limit: usize) -> Result<Vec<Family>, StoreError>;
    async fn all(after: Option<SessionId>, limit: usize) -> Result<Vec<Family>, StoreError>;
    async fn oldest() -> Result<Option<Timestamp>, StoreError>;
    async fn count_of_subject(subject: SubjectRef, cap: usize) -> Result<usize, StoreError>;
    async fn cut_off(subject: SubjectRef, client: ClientId, opened: Timestamp) -> Result<bool, StoreError>;
    fn standing() -> Standing;
    fn moment() -> Moment;
    fn stamped() -> Result<Timestamp, StoreError>;
});

delegate!(DenyStore {
    async fn deny(denial: Denial) -> Result<Option<Entry>, StoreError>;
    async fn deny_of(subject: SubjectRef, most: u32, denial: Denial) -> Result<Option<Entry>, StoreError>;
    async fn denied(bearer: Bearer) -> Result<bool, StoreError>;
    async fn denied_key(kid: &Kid) -> Result<bool, StoreError>;
    async fn entries(after: u64, limit: usize) -> Result<Page, StoreError>;
    async fn tail(after: Option<(Epoch, Mark)>, limit: u64) -> Result<LogTail, StoreError>;
    async fn page(page: u64) -> Result<Option<LogPage>, StoreError>;
    async fn appended(position: u64) -> u64;
    async fn stamp(subject: SubjectRef, client: ClientId, audit: Draft) -> Result<Timestamp, StoreError>;
    fn expired_by() -> Timestamp;
});

delegate!(AuditStore {
    async fn record(event: Event, outcome: Outcome, cause: Reason, audit: Draft) -> Result<(), StoreError>;
    async fn audit(query: AuditQuery) -> Result<AuditPage, StoreError>;
});

delegate!(ClientStore {
    async fn amend_book(change: BookChange) -> Result<BookChanged, StoreError>;
    async fn use_assertion(id: AssertionId, until: Timestamp) -> Result<AssertionUse, StoreError>;
    fn client_book() -> Result<Option<Vec<u8>>, StoreError>;
    fn assertion_used(id: AssertionId) -> Result<bool, StoreError>;
});

delegate!(EvidenceStore {
    async fn audit_head() -> Result<SignedHead, StoreError>;
    async fn witness(event: Event, session: Option<SessionId>, cause: Box<str>, audit: Draft) -> Result<(), StoreError>;
    async fn entries_about(targets: Vec<Target>) -> Result<Vec<Entry>, StoreError>;
    async fn erase(subject: Subject, reference: SubjectRef, after: u64, audit: Draft) -> Result<Erased, StoreError>;
    async fn cursor(name: &'static str) -> Result<Option<u64>, StoreError>;
    async fn move_cursor(name: &'static str, to: u64) -> Result<(), StoreError>;
});

//! PROVISIONAL: what is not there yet, so that what stands on it compiles. Each part that comes takes its place.

use std::{collections::BTreeMap, sync::Arc};

use super::{Core, Options, RedisStore, StoreUrl, hub::Hub, layout::Layout, life::Life, link::Link};
use crate::{
    clock::{Clock, Random},
    model::{
        ClientId, Kid, SessionId, Subject, SubjectRef, Timestamp,
        audit::{Draft, Event, Outcome},
        denial::{Bearer, Entry, Target},
        family::{Closure, Moment, Standing},
        feed::{Epoch, Mark},
    },
    store::{
        Amended, AssertionId, AssertionUse, AuditPage, AuditQuery, AuditStore, BookChange, BookChanged, ClientStore,
        ClosedFamily, ClosedOthers, Denial, DenyStore, Erased, EvidenceStore, Family, FamilyStore, LogPage, LogTail,
        Notary, Opened, Opening, Others, Page, Presentation, Presented, Report, SignedHead, StoreError,
        embedded::Acceptance,
    },
};

/// What the service asks of a store beside the traits.
impl RedisStore {
    /// Opens the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(
        url: &StoreUrl,
        options: Options,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let link = Link::open(&url.to_string(), options.skew).await?;
        let layout = Layout::new(url.prefix().unwrap_or(&options.prefix));
        let (life, hub) = (Life::provisional(), Hub);
        Ok(Self { core: Arc::new(Core { link, layout, options, clock, random, life, hub }) })
    }

    /// Why it cannot serve; else what an operator may want to mend, warnings of the link's check among it.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// This node stops: nobody waits for it.
    pub async fn leave(&self) {}

    /// Whose word the head of the audit log has from here on. The first one stays.
    pub fn employ(&self, _notary: Arc<dyn Notary>) {}

    /// How many requests of this node wait.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        0
    }

    /// This store, as opposed to any other.
    #[must_use]
    pub fn id(&self) -> u128 {
        0
    }

    /// Which life of the denylist's log this is.
    #[must_use]
    pub fn epoch(&self) -> u128 {
        0
    }

    /// The memory that the servers use. None: they do not tell.
    pub async fn used_memory(&self) -> Option<u64> {
        None
    }

    /// What can be said of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self) -> Result<Report, StoreError> {
        Ok(Report {
            standing: self.standing(),
            schema: 1,
            incarnation: self.core.life.moment(self.core.clock.now()).incarnation,
            bytes: self.used_memory().await,
            rows: BTreeMap::new(),
            queue: self.queue_depth(),
            last_backup: None,
        })
    }

    /// Declares that what the store holds is what there is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn declare(&self, _: Acceptance, _: Arc<dyn Random>, _: Draft) -> Result<(), StoreError> {
        Err(StoreError::Busy)
    }
}

impl FamilyStore for RedisStore {
    async fn open(&self, _: Opening) -> Result<Opened, StoreError> {
        Err(StoreError::Busy)
    }
    async fn present(&self, _: Presentation) -> Result<Presented, StoreError> {
        Err(StoreError::Busy)
    }
    async fn amend(&self, _: SessionId, _: Vec<u8>, _: Vec<u8>, _: Draft) -> Result<Amended, StoreError> {
        Err(StoreError::Busy)
    }
    async fn close(&self, _: SessionId, _: Closure, _: Option<Box<str>>, _: Draft) -> Result<ClosedFamily, StoreError> {
        Err(StoreError::Busy)
    }
    async fn close_others(&self, _: Others) -> Result<ClosedOthers, StoreError> {
        Err(StoreError::Busy)
    }
    async fn find(&self, _: SessionId) -> Result<Option<Family>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn of_subject(&self, _: SubjectRef, _: Option<SessionId>, _: usize) -> Result<Vec<Family>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn all(&self, _: Option<SessionId>, _: usize) -> Result<Vec<Family>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn count_of_subject(&self, _: SubjectRef, _: usize) -> Result<usize, StoreError> {
        Err(StoreError::Busy)
    }
    async fn cut_off(&self, _: SubjectRef, _: ClientId, _: Timestamp) -> Result<bool, StoreError> {
        Err(StoreError::Busy)
    }
    fn standing(&self) -> Standing {
        self.core.life.standing()
    }
    fn moment(&self) -> Moment {
        self.core.life.moment(self.core.clock.now())
    }
    fn stamped(&self) -> Result<Timestamp, StoreError> {
        Err(StoreError::Busy)
    }
}

impl DenyStore for RedisStore {
    async fn deny(&self, _: Denial) -> Result<Option<Entry>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn deny_of(&self, _: SubjectRef, _: u32, _: Denial) -> Result<Option<Entry>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn denied(&self, _: Bearer) -> Result<bool, StoreError> {
        Err(StoreError::Busy)
    }
    async fn denied_key(&self, _: &Kid) -> Result<bool, StoreError> {
        Err(StoreError::Busy)
    }
    async fn entries(&self, _: u64, _: usize) -> Result<Page, StoreError> {
        Err(StoreError::Busy)
    }
    async fn tail(&self, _: Option<(Epoch, Mark)>, _: u64) -> Result<LogTail, StoreError> {
        Err(StoreError::Busy)
    }
    async fn page(&self, _: u64) -> Result<Option<LogPage>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn appended(&self, _: u64) -> u64 {
        std::future::pending().await
    }
    fn expired_by(&self) -> Timestamp {
        self.core.clock.now()
    }
    async fn stamp(&self, _: SubjectRef, _: ClientId, _: Draft) -> Result<Timestamp, StoreError> {
        Err(StoreError::Busy)
    }
}

impl AuditStore for RedisStore {
    async fn record(&self, _: Event, _: Outcome, _: Option<Box<str>>, _: Draft) -> Result<(), StoreError> {
        Err(StoreError::Busy)
    }
    async fn audit(&self, _: AuditQuery) -> Result<AuditPage, StoreError> {
        Err(StoreError::Busy)
    }
}

impl ClientStore for RedisStore {
    fn client_book(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn amend_book(&self, _: BookChange) -> Result<BookChanged, StoreError> {
        Err(StoreError::Busy)
    }
    fn assertion_used(&self, _: AssertionId) -> Result<bool, StoreError> {
        Err(StoreError::Busy)
    }
    async fn use_assertion(&self, _: AssertionId, _: Timestamp) -> Result<AssertionUse, StoreError> {
        Err(StoreError::Busy)
    }
}

impl EvidenceStore for RedisStore {
    async fn audit_head(&self) -> Result<SignedHead, StoreError> {
        Err(StoreError::Busy)
    }
    async fn witness(&self, _: Event, _: Option<SessionId>, _: Box<str>, _: Draft) -> Result<(), StoreError> {
        Err(StoreError::Busy)
    }
    async fn entries_about(&self, _: Vec<Target>) -> Result<Vec<Entry>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn erase(&self, _: Subject, _: SubjectRef, _: u64, _: Draft) -> Result<Erased, StoreError> {
        Err(StoreError::Busy)
    }
    async fn cursor(&self, _: &'static str) -> Result<Option<u64>, StoreError> {
        Err(StoreError::Busy)
    }
    async fn move_cursor(&self, _: &'static str, _: u64) -> Result<(), StoreError> {
        Err(StoreError::Busy)
    }
}

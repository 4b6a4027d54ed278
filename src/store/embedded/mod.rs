//! The embedded store: one file, nothing to install, one writer.

use std::{
    collections::HashMap,
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io,
    ops::Bound,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redb::{Database, ReadableDatabase, ReadableTable, TableError};
use tokio::sync::oneshot;

use self::{
    denials::{Hold, Index, look_up},
    tables::{
        AUDIT, Character, DENIED, FAMILIES, Happened, LOG, META, Noted, Progress, SCHEMA, SUBJECTS, Step, decode,
        encode, failed, family_of, subject_key,
    },
    witness::{Witness, sync_directory_of},
    writer::{Job, ServedClock, Shared, SweepClock, Writer, open_database},
};
use super::{
    Amended, AuditPage, AuditQuery, AuditStore, ClosedFamily, Denial, DenyStore, Family, FamilyStore, Opening, Page,
    Presentation, Presented, StoreError,
};
use crate::{
    clock::{Clock, Random, random_bytes},
    model::{
        ClientId, SessionId, SubjectRef, Timestamp,
        audit::{Draft, Event, Outcome, Record},
        denial::{Bearer, Ends, Entry, Retention, Target},
        family::{Closure, Moment, Standing},
    },
};

mod backing;
mod denials;
mod expiry;
mod families;
mod tables;
mod witness;
mod writer;

pub use backing::{Backing, FileBacking, MemoryBacking, OnSyncFailure};

/// Requests that may wait for the writer. Beyond it the answer is 503, at once.
const QUEUE: usize = 8192;
/// How far one audit query looks before it hands back a page with a continuation.
const AUDIT_SCAN: usize = 50_000;

/// What an operator says about a store that came back older, or empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Acceptance {
    /// Nothing: answer 503 until somebody decides.
    #[default]
    Wait,
    /// Accept the loss. Every session opened before now ends, because revocations and spent tokens that the store no
    /// longer knows could come alive otherwise.
    EndSessions,
    /// Accept the loss and let sessions go on. Sessions that were revoked after the copy was made live again, and a
    /// token spent after it is good for one more exchange.
    DangerouslyKeepSessions,
}

/// How to open the store.
#[derive(Clone)]
pub struct Options {
    /// For how long things must be remembered.
    pub retention: Retention,
    /// Where the witness lies; none for a store that nobody expects back.
    pub witness: Option<PathBuf>,
    /// What to do if the witness contradicts the store.
    pub acceptance: Acceptance,
    /// Bytes of pages kept in memory.
    pub cache: usize,
    /// Audit records kept.
    pub audit_cap: u64,
    /// Reopening after a crash in constant time, at the price of dearer commits.
    pub quick_repair: bool,
    /// What to do when a sync fails: end the process, unless a test wants to look.
    pub on_sync_failure: OnSyncFailure,
}

impl Options {
    /// The defaults for this retention.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            witness: None,
            acceptance: Acceptance::Wait,
            cache: 128 << 20,
            audit_cap: 1_000_000,
            quick_repair: true,
            on_sync_failure: Arc::new(|error| {
                tracing::error!(%error, "fsync failed: nobody can know what is durable; the process ends");
                std::process::abort();
            }),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("retention", &self.retention)
            .field("witness", &self.witness)
            .finish_non_exhaustive()
    }
}

/// Why the store does not open. Each says how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{path}: another process has this store open; stop that one first, one process serves an embedded store")]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// A store of another version.
    #[error("the store has schema {found}, this program knows {SCHEMA}; use the version that wrote it, or a newer one")]
    Schema {
        /// What was found.
        found: u32,
    },
    /// It does not read as a store.
    #[error("the store does not open: {0}")]
    Damaged(String),
}

/// The embedded store. Dropping it finishes what is queued and closes the file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    standing: Standing,
    retention: Retention,
    requests: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    // Held for as long as the store is open: a second process must not open it.
    _lock: Option<File>,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedStore({:?})", self.shared.bytes)
    }
}

impl EmbeddedStore {
    /// Opens, or creates, the store in a file that only its owner can read.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, options: Options, clock: Arc<dyn Clock>, random: &dyn Random) -> Result<Self, OpenError> {
        let file_error = |source| OpenError::File { path: path.into(), source };
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let fresh = !path.exists();
        let file = open().map_err(file_error)?;
        // A copy put back by hand may have come with other permissions.
        if file.metadata().map_err(file_error)?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(file_error)?;
        }
        if fresh {
            sync_directory_of(path).map_err(file_error)?;
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.into() }),
            Err(TryLockError::Error(e)) => return Err(file_error(e)),
        }
        let bytes = Arc::new(FileBacking(file.try_clone().map_err(file_error)?));
        let mut store = Self::with_backing(bytes, options, clock, random)?;
        store._lock = Some(file);
        Ok(store)
    }

    /// A store in memory, gone with the process.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn in_memory(options: Options, clock: Arc<dyn Clock>, random: &dyn Random) -> Result<Self, OpenError> {
        Self::with_backing(Arc::new(MemoryBacking::default()), options, clock, random)
    }

    /// A store on bytes that the caller provides.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn with_backing(
        bytes: Arc<dyn Backing>,
        options: Options,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, OpenError> {
        let damaged = |e: redb::DatabaseError| OpenError::Damaged(e.to_string());
        let (database, fence) = open_database(&bytes, &options.on_sync_failure, options.cache).map_err(damaged)?;
        let retention = options.retention;
        let Start { character, progress, standing } = prepare(&database, &options, &*clock, random)?;
        let shared = Arc::new(Shared {
            bytes,
            database: ArcSwapOption::from_pointee(database),
            served: Mutex::new(ServedClock::default()),
            character,
            on_sync_failure: options.on_sync_failure,
            cache: options.cache,
            quick_repair: options.quick_repair,
            audit_cap: options.audit_cap,
            depth: AtomicUsize::new(0),
            clock,
        });
        shared.start_serving_from(progress.served);
        let now = shared.clock.monotonic();
        // A witness that contradicts the store keeps its testimony until an operator has decided.
        let witness = options.witness.filter(|_| standing == Standing::Whole).map(Witness::new);
        let writer = Writer {
            shared: shared.clone(),
            fence,
            frozen: standing != Standing::Whole,
            witness,
            progress,
            noted: Noted::new(),
            unanswered: HashMap::new(),
            sweep_clock: SweepClock::default(),
            last_change: now,
            last_commit: now,
            last_testimony: now,
        };
        let (requests, queue) = sync_channel(QUEUE);
        let spawn = std::thread::Builder::new().name("rescind-store".into());
        let writer = spawn.spawn(move || writer.run(&queue)).map_err(|e| OpenError::Damaged(e.to_string()))?;
        Ok(Self { shared, standing, retention, requests: Some(requests), writer: Some(writer), _lock: None })
    }

    /// How many requests wait for the writer.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.shared.depth.load(Ordering::Relaxed)
    }

    /// Which life of the denylist's log this is.
    #[must_use]
    pub fn epoch(&self) -> u128 {
        self.shared.character.epoch
    }

    /// The bytes that it occupies.
    ///
    /// # Errors
    /// As the device has them.
    pub fn size(&self) -> io::Result<u64> {
        self.shared.bytes.len()
    }

    /// Queues a step and waits until it is durable. The step runs once or, if the queue is full, not at all.
    async fn step<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Step<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |step| {
            let outcome = run(step);
            let half_done = outcome.is_err() && step.dirty;
            // The requester may be gone; the change stands all the same, and a retry finds it.
            let reply = move |durable: Result<(), StoreError>| answer.send(durable.and(outcome)).is_ok();
            (half_done, Box::new(reply))
        });
        let requests = self.requests.as_ref().ok_or(StoreError::Busy)?;
        self.shared.depth.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = requests.try_send(job) {
            self.shared.depth.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Busy);
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::Failed("the store could not write".into())))
    }

    fn read(&self) -> Result<redb::ReadTransaction, StoreError> {
        let database = self.shared.database.load_full();
        database.ok_or_else(|| StoreError::Failed("the store is being reopened".into()))?.begin_read().map_err(failed)
    }

    fn whole(&self) -> Result<(), StoreError> {
        if self.standing == Standing::Whole { Ok(()) } else { Err(StoreError::NotWhole) }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

struct Start {
    character: Character,
    progress: Progress,
    standing: Standing,
}

/// A subject's part of the subject index, from after a session.
fn keys_of(subject: SubjectRef, after: Option<SessionId>) -> (Bound<[u8; 32]>, Bound<[u8; 32]>) {
    let end = |byte: u8| {
        let mut key = [byte; 32];
        key[..16].copy_from_slice(&subject.0);
        key
    };
    let first = after.map_or(Bound::Included(end(0)), |id| Bound::Excluded(subject_key(subject, id)));
    (first, Bound::Included(end(0xff)))
}

/// The first transaction of an opening: creates or checks the layout, and hears the witness.
fn prepare(db: &Database, options: &Options, clock: &dyn Clock, random: &dyn Random) -> Result<Start, OpenError> {
    let damaged = |e: StoreError| OpenError::Damaged(e.to_string());
    let redb_damaged = |e: redb::Error| OpenError::Damaged(e.to_string());
    let txn = db.begin_write().map_err(|e| redb_damaged(e.into()))?;
    let (start, witness) = {
        let meta = txn.open_table(META).map_err(|e| redb_damaged(e.into()))?;
        let stored =
            |name: &str| meta.get(name).map(|v| v.map(|b| b.value().to_vec())).map_err(|e| redb_damaged(e.into()));
        let fresh = stored("character")?.is_none();
        if let Some(schema) = stored("schema")? {
            let found = decode(&schema, "schema").map_err(damaged)?;
            if found != SCHEMA {
                return Err(OpenError::Schema { found });
            }
        }
        let access_millis = u64::try_from(options.retention.access.as_millis()).unwrap_or(u64::MAX);
        let session_millis = u64::try_from(options.retention.session.as_millis()).unwrap_or(u64::MAX);
        let mut character = match stored("character")? {
            Some(bytes) => decode(&bytes, "character").map_err(damaged)?,
            None => Character {
                schema: SCHEMA,
                id: u128::from_be_bytes(random_bytes(random)),
                epoch: u128::from_be_bytes(random_bytes(random)),
                incarnation: 0,
                restored: 0,
                access_millis,
                older_until: Timestamp::default(),
                session_millis,
                older_sessions_until: Timestamp::default(),
                witnessed: false,
            },
        };
        let progress: Progress =
            stored("progress")?.map_or(Ok(Progress::default()), |b| decode(&b, "progress")).map_err(damaged)?;
        drop(meta);
        // Tokens minted under a longer life than today's must be deniable until the last of them has expired.
        let now = clock.now();
        let older_life = Duration::from_millis(character.access_millis);
        if older_life > options.retention.access {
            character.older_until = character.older_until.max(now.plus(older_life));
        }
        // The same for sessions: a cut-off must be kept as long as a session that it ended could be refreshed.
        let older_session = Duration::from_millis(character.session_millis);
        if older_session > options.retention.session {
            character.older_sessions_until = character.older_sessions_until.max(now.plus(older_session));
        }
        (character.access_millis, character.session_millis) = (access_millis, session_millis);
        let witness = options.witness.clone().map(Witness::new);
        let examine = |w: &Witness| w.examine(character.id, progress.commits, fresh, character.witnessed);
        let file = |source| OpenError::File { path: options.witness.clone().unwrap_or_default(), source };
        let mut standing = witness.as_ref().map_or(Ok(Standing::Whole), examine).map_err(file)?;
        let accept = standing != Standing::Whole && options.acceptance != Acceptance::Wait;
        if accept {
            character.incarnation += 1;
            character.restored = character.incarnation;
            character.epoch = u128::from_be_bytes(random_bytes(random));
            standing = Standing::Whole;
        }
        let moment =
            Moment { now, served: progress.served, incarnation: character.incarnation, restored: character.restored };
        if standing != Standing::Whole {
            // Nothing is written to a store that is not ours to continue, not even the fact that it was opened: its
            // count of commits would catch up with the witness's.
            return Ok(Start { character, progress, standing });
        }
        let mut noted = Noted::new();
        let mut step = Step::begin(&txn, character, moment, options.audit_cap, &mut noted).map_err(damaged)?;
        if accept {
            accept_loss(&mut step, options).map_err(damaged)?;
        }
        step.meta.insert("schema", &encode(&SCHEMA)[..]).map_err(|e| redb_damaged(e.into()))?;
        step.meta.insert("character", &encode(&character)[..]).map_err(|e| redb_damaged(e.into()))?;
        let progress = step.finish().map_err(damaged)?;
        (Start { character, progress, standing }, witness)
    };
    txn.commit().map_err(|e| redb_damaged(e.into()))?;
    // Durable: from here on the witness may say so.
    if let Some(witness) = witness {
        let file = |source| OpenError::File { path: options.witness.clone().unwrap_or_default(), source };
        witness.write(start.character.id, start.progress.commits).map_err(file)?;
    }
    Ok(start)
}

/// An operator has accepted that acknowledged writes are gone. What they denied must not come alive.
fn accept_loss(step: &mut Step<'_>, options: &Options) -> Result<(), StoreError> {
    let keep = options.acceptance == Acceptance::DangerouslyKeepSessions;
    let denial = Denial {
        target: Target::All,
        ends: if keep { Ends::Tokens } else { Ends::Sessions },
        before: None,
        expires: None,
        reason: Some("the store came back without acknowledged writes".into()),
        audit: Draft::default(),
    };
    step.deny(denial, options.retention)?;
    let cause = if keep { "sessions kept" } else { "sessions ended" };
    step.note(
        Draft::default(),
        Happened {
            event: Event::StoreAccepted,
            outcome: Outcome::Done,
            session: None,
            generation: None,
            cause: Some(cause.into()),
        },
    )
}

/// A table as of the last commit. One that was never written is empty.
fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
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
    async fn open(&self, opening: Opening) -> Result<Family, StoreError> {
        self.whole()?;
        self.step(move |step| step.open_family(opening)).await
    }

    async fn present(&self, presentation: Presentation) -> Result<Presented, StoreError> {
        let (standing, retention) = (self.standing, self.retention);
        self.step(move |step| step.present(presentation, standing, retention)).await
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
        self.step(move |step| step.close(id, cause, reason, audit, retention)).await
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
            let id: [u8; 16] = key[16..].try_into().map_err(|_| StoreError::Damaged("subject"))?;
            let id = SessionId::from_bytes(id).ok_or(StoreError::Damaged("subject"))?;
            if let Some(row) = families.get(id.as_bytes()).map_err(failed)? {
                found.push(family_of(id, row.value())?);
            }
        }
        Ok(found)
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
        self.standing
    }

    fn moment(&self) -> Moment {
        self.shared.moment()
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
        self.step(move |step| step.deny(denial, retention)).await
    }

    async fn denied(&self, bearer: Bearer) -> Result<bool, StoreError> {
        self.whole()?;
        let Some(index) = table(&self.read()?, DENIED)? else { return Ok(false) };
        Snapshot(index).denies(&bearer, self.shared.clock.now())
    }

    async fn entries(&self, after: u64, limit: usize) -> Result<Page, StoreError> {
        self.whole()?;
        let txn = self.read()?;
        let mut page = Page { epoch: self.shared.character.epoch, head: 0, entries: Vec::new() };
        if let Some(meta) = table(&txn, META)?
            && let Some(head) = meta.get("position").map_err(failed)?
        {
            page.head = decode(head.value(), "position")?;
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
        let start = query.after.saturating_add(1).max(first_since(&log, query.since)?);
        for (looked_at, item) in log.range(start..).map_err(failed)?.enumerate() {
            let (sequence, bytes) = item.map_err(failed)?;
            if page.records.len() == query.limit || looked_at == AUDIT_SCAN {
                page.next = Some(sequence.value() - 1);
                break;
            }
            let record: Record = decode(bytes.value(), "audit")?;
            let matches = query.subject.as_ref().is_none_or(|s| record.subject.as_ref() == Some(s))
                && query.session.is_none_or(|s| record.session == Some(s));
            if matches {
                page.records.push(record);
            }
        }
        Ok(page)
    }
}

/// The first sequence whose record is not before `since`, by bisection: records are written in the order of time.
fn first_since(log: &redb::ReadOnlyTable<u64, &'static [u8]>, since: Option<Timestamp>) -> Result<u64, StoreError> {
    let (Some(since), Some(first), Some(last)) = (since, log.first().map_err(failed)?, log.last().map_err(failed)?)
    else {
        return Ok(0);
    };
    let (mut low, mut high) = (first.0.value(), last.0.value() + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = log.get(middle).map_err(failed)?.ok_or(StoreError::Damaged("audit"))?;
        let record: Record = decode(row.value(), "audit")?;
        if record.at < since { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

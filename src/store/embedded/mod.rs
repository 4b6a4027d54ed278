//! The embedded store: one file, nothing to install, one writer.

use std::{
    collections::HashMap,
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use redb::ReadableDatabase;
use tokio::sync::{oneshot, watch};

use self::{
    backing::Fenced,
    clerk::{Clerk, Desk, Keep},
    start::{Start, prepare},
    tables::{Step, failed},
    witness::{Witness, sync_directory_of},
    writer::{Job, Life, Request, ServedClock, Shared, Writer, head_of, open_database},
};
use super::{Notary, StoreError};
use crate::{
    clock::{Clock, Random},
    model::{audit::Draft, denial::Retention, family::Standing},
};

mod audit;
mod backing;
mod backup;
mod clerk;
mod clients;
mod compact;
mod declare;
mod denials;
mod evidence;
mod expiry;
mod families;
mod feed;
mod following;
mod import;
mod leaving;
mod mirror;
mod options;
mod others;
mod peek;
mod restore;
mod rooms;
mod singles;
mod start;
mod tables;
mod upgrade;
mod verbs;
mod witness;
mod writer;

pub(in crate::store) use audit::{Row, TRIM_EVERY};
pub(in crate::store) use clerk::{NEWS, Salts, UNSIGNED, may_be_unsigned};
pub(in crate::store) use denials::{Hold, NewEntry, Older, index_key, told, until};
pub(in crate::store) use evidence::{ERASES, LOOKS};
pub(in crate::store) use expiry::{family_due, set_back};
pub(in crate::store) use families::{NOTED_CAP, REFUSALS_NOTED_EVERY, done, reuse_told};
pub(in crate::store) use feed::{NOTHING, body_of, chain};
pub(in crate::store) use leaving::Kept;
pub(in crate::store) use mirror::{Followed, Placed, Whole};
pub(in crate::store) use rooms::ENDED_PER_OPENING;
pub(in crate::store) use singles::{MOMENT, REASON as MANY_SINGLES, Singles, is_superseded};
pub(in crate::store) use tables::{Happened, decode, encode};
pub(in crate::store) use writer::{SweepClock, UNANSWERED_CAP};

pub use backing::{Backing, FileBacking, MemoryBacking, OnSyncFailure};
pub use backup::{Head, Snapshot, Summary};
pub use compact::{Compacted, compact};
pub use import::{BackupError, check};
pub use leaving::{Amount, LeaveError, Leaving};
pub use options::{Acceptance, OpenError, Options};
pub use peek::made_by;
pub use restore::{Lost, Order, RestoreError, Restored, restore};

/// Requests that may wait for the writer. Beyond it the answer is 503, at once.
const QUEUE: usize = 8192;
/// How many of them are kept free for revocations: when the disk is slow, what grants access is refused first.
const RESERVED: usize = 2048;
/// How far one audit query looks before it hands back a page with a continuation.
pub(in crate::store) const AUDIT_SCAN: usize = 50_000;

/// The embedded store. Dropping it finishes what is queued and closes the file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    retention: Retention,
    /// How many are remembered at once.
    assertions: u64,
    requests: Option<SyncSender<Request>>,
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
        Held::at(path)?.open(options, clock, random)
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
        Self::on(bytes, None, Role::Store, options, clock, random)
    }

    fn on(
        bytes: Arc<dyn Backing>,
        path: Option<&Path>,
        role: Role,
        options: Options,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, OpenError> {
        let damaged = |e: redb::DatabaseError| OpenError::Damaged(e.to_string());
        let open = || open_database(&bytes, &options.on_sync_failure, options.cache).map_err(damaged);
        let (database, fence) = match path {
            Some(path) => upgrade::keep_older(path, open()?, open)?,
            None => open()?,
        };
        let (retention, assertions) = (options.retention, options.assertions);
        let desk = Arc::new(Desk::default());
        let keep = Keep { records: options.audit_cap, age: options.audit_age };
        let mut clerk = Clerk::new(keep, role, desk.clone(), random);
        let start = prepare(&database, &options, &*clock, random, &Draft::default(), &mut clerk)?;
        let Start { character, progress, standing } = start;
        let longest_access = retention.access.max(character.older_until.since(clock.now()));
        let head = head_of(&database).map_err(|e| OpenError::Damaged(e.to_string()))?;
        let shared = Arc::new(Shared {
            bytes,
            database: ArcSwapOption::from_pointee(database),
            served: Mutex::new(ServedClock::default()),
            sweep: Mutex::new(SweepClock::new(longest_access)),
            head: watch::Sender::new(head),
            life: ArcSwap::from_pointee(Life { character, standing }),
            on_sync_failure: options.on_sync_failure.clone(),
            cache: options.cache,
            quick_repair: options.quick_repair,
            desk,
            depth: AtomicUsize::new(0),
            clock,
        });
        shared.start_serving_from(progress.served);
        let now = shared.clock.monotonic();
        // A witness that contradicts the store keeps its testimony until an operator has decided.
        let witness = options.witness.clone().filter(|_| standing == Standing::Whole).map(Witness::new);
        let writer = Writer {
            shared: shared.clone(),
            fence,
            options,
            witness,
            progress,
            clerk,
            unanswered: HashMap::new(),
            last_change: now,
            last_commit: now,
            last_testimony: now,
        };
        let (requests, queue) = sync_channel(QUEUE);
        let spawn = std::thread::Builder::new().name("rescind-store".into());
        let writer = spawn.spawn(move || writer.run(&queue)).map_err(|e| OpenError::Damaged(e.to_string()))?;
        Ok(Self { shared, retention, assertions, requests: Some(requests), writer: Some(writer), _lock: None })
    }

    /// Whose word the head of the audit log has from here on. The first one stays. Waits for the disk: what the opening
    /// has recorded is signed when this returns, because until then the log would look broken.
    pub fn employ(&self, notary: Arc<dyn Notary>) {
        let _ = self.shared.desk.notary.set(notary);
        let (signed, wait) = sync_channel(1);
        let nothing: Job = Box::new(move |_| (false, Box::new(move |_| signed.send(()).is_ok())));
        // Where it cannot be written now, the next step that can does it.
        if self.send(Request::Step(nothing)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Has the writer do something, or nothing at all.
    fn send(&self, request: Request) -> Result<(), StoreError> {
        let requests = self.requests.as_ref().ok_or(StoreError::Busy)?;
        self.shared.depth.fetch_add(1, Ordering::Relaxed);
        requests.try_send(request).map_err(|_| {
            self.shared.depth.fetch_sub(1, Ordering::Relaxed);
            StoreError::Busy
        })
    }

    /// How many requests wait for the writer.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.shared.depth.load(Ordering::Relaxed)
    }

    /// This store, as opposed to any other.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.shared.character().id
    }

    /// Which life of the denylist's log this is.
    #[must_use]
    pub fn epoch(&self) -> u128 {
        self.shared.character().epoch
    }

    /// The bytes that it occupies.
    ///
    /// # Errors
    /// As the device has them.
    pub fn size(&self) -> io::Result<u64> {
        self.shared.bytes.len()
    }

    /// Queues a step and waits until it is durable. The step runs once or, if too much is waiting, not at all.
    async fn step<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Step<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Not exact, and need not be: revocations lose a place or two of thousands.
        if self.queue_depth() >= QUEUE - RESERVED {
            return Err(StoreError::Busy);
        }
        self.urgent_step(run).await
    }

    /// As `step`, for what takes back: it has a share of the queue that nothing else gets.
    async fn urgent_step<T: Send + 'static>(
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
        self.send(Request::Step(job))?;
        answered.await.unwrap_or_else(|_| Err(StoreError::Failed("the store could not write".into())))
    }

    fn read(&self) -> Result<redb::ReadTransaction, StoreError> {
        let database = self.shared.database.load_full();
        database.ok_or_else(|| StoreError::Failed("the store is being reopened".into()))?.begin_read().map_err(failed)
    }

    fn whole(&self) -> Result<(), StoreError> {
        if self.shared.standing() == Standing::Whole { Ok(()) } else { Err(StoreError::NotWhole) }
    }
}

/// What the tables are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// The store itself.
    Store,
    /// A copy of a log that is kept elsewhere: nothing gets a place in it here.
    Mirror,
}

/// A store's file, made if it was not there, which no other process can open meanwhile.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    file: File,
}

impl Held {
    /// Takes hold of it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn at(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { path: path.into(), file: hold(path, true)? })
    }

    /// Whether no store has ever been in it.
    ///
    /// # Errors
    /// [`OpenError::File`].
    pub fn is_new(&self) -> Result<bool, OpenError> {
        self.file.metadata().map(|about| about.len() == 0).map_err(|source| self.failed(source))
    }

    /// Opens, or creates, the store in it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        self,
        options: Options,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<EmbeddedStore, OpenError> {
        self.open_as(Role::Store, options, clock, random)
    }

    fn open_as(
        self,
        role: Role,
        options: Options,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<EmbeddedStore, OpenError> {
        let bytes = Arc::new(FileBacking(self.file.try_clone().map_err(|source| self.failed(source))?));
        let mut store = EmbeddedStore::on(bytes, Some(&self.path), role, options, clock, random)?;
        store._lock = Some(self.file);
        Ok(store)
    }

    fn failed(&self, source: io::Error) -> OpenError {
        OpenError::File { path: self.path.clone(), source }
    }
}

/// The store's file, open to this process alone and readable for its owner alone.
fn hold(path: &Path, create: bool) -> Result<File, OpenError> {
    let file_error = |source| OpenError::File { path: path.into(), source };
    let open = || OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path);
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
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.into() }),
        Err(TryLockError::Error(e)) => Err(file_error(e)),
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

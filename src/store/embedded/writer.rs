//! The one writer. It takes what has queued up, carries it out in one transaction, commits that with one fsync, and
//! only then answers. Nobody sees anything before its commit.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redb::Database;

use super::{
    backing::{Backing, Fenced, OnSyncFailure},
    tables::{Character, Noted, Progress, Step, failed},
    witness::Witness,
};
use crate::{
    clock::Clock,
    model::family::{Moment, Served},
    store::StoreError,
};

/// Requests that one commit carries at most.
const BATCH: usize = 256;
/// A transaction that takes this long is an outage, not load.
const STALL: Duration = Duration::from_secs(1);
/// How often the writer wakes when nobody asks.
const TICK: Duration = Duration::from_secs(1);
/// How long after the last change time served is still written down: longer than any retry window.
const HEARTBEATS_FOR: Duration = Duration::from_secs(600);
/// How much of it a crash may forget.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Answers one request, once it is known whether its change is durable.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// One request. The flag says that it failed after it had begun to write.
pub(super) type Job = Box<dyn FnOnce(&mut Step<'_>) -> (bool, Reply) + Send>;

/// Time served: runs while the store can answer, stands still while it cannot.
#[derive(Debug, Default)]
pub(super) struct ServedClock {
    base: Duration,
    since: Option<Duration>,
}

impl ServedClock {
    fn read(&self, monotonic: Duration) -> Served {
        let run = self.since.map_or(Duration::ZERO, |since| monotonic.saturating_sub(since));
        Served(u64::try_from((self.base + run).as_millis()).unwrap_or(u64::MAX))
    }
    fn pause(&mut self, monotonic: Duration) {
        self.base = Duration::from_millis(self.read(monotonic).0);
        self.since = None;
    }
    /// A stretch in which nobody was answered does not count.
    fn discount(&mut self, stretch: Duration) {
        self.base = self.base.saturating_sub(stretch);
    }
    fn resume(&mut self, monotonic: Duration) {
        self.since.get_or_insert(monotonic);
    }
}

/// What writer and readers share.
pub(super) struct Shared {
    pub(super) bytes: Arc<dyn Backing>,
    pub(super) database: ArcSwapOption<Database>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) served: Mutex<ServedClock>,
    pub(super) character: Character,
    pub(super) on_sync_failure: OnSyncFailure,
    pub(super) cache: usize,
    pub(super) quick_repair: bool,
    pub(super) audit_cap: u64,
    pub(super) depth: std::sync::atomic::AtomicUsize,
}

impl Shared {
    pub(super) fn moment(&self) -> Moment {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner).read(self.clock.monotonic());
        let Character { incarnation, restored, .. } = self.character;
        Moment { now: self.clock.now(), served, incarnation, restored }
    }

    pub(super) fn start_serving_from(&self, served: Served) {
        let mut clock = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        *clock = ServedClock { base: Duration::from_millis(served.0), since: Some(self.clock.monotonic()) };
    }

    fn set_serving(&self, serving: bool) {
        let mut clock = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if serving { clock.resume(self.clock.monotonic()) } else { clock.pause(self.clock.monotonic()) }
    }
}

/// Opens the database on these bytes. The fence, once raised, shuts this opening out.
pub(super) fn open_database(
    bytes: &Arc<dyn Backing>,
    on_sync_failure: &OnSyncFailure,
    cache: usize,
) -> Result<(Database, Arc<AtomicBool>), redb::DatabaseError> {
    let fence = Arc::new(AtomicBool::new(false));
    let (bytes, on_sync_failure) = (bytes.clone(), on_sync_failure.clone());
    let backend = Fenced { bytes, fence: fence.clone(), on_sync_failure };
    let database = redb::Builder::new().set_cache_size(cache).create_with_backend(backend)?;
    Ok((database, fence))
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) fence: Arc<AtomicBool>,
    /// The store is not the one it was: whatever is asked, nothing is written to it.
    pub(super) frozen: bool,
    pub(super) witness: Option<Witness>,
    pub(super) progress: Progress,
    pub(super) noted: Noted,
    pub(super) last_change: Duration,
    pub(super) last_commit: Duration,
    pub(super) last_testimony: Duration,
}

impl Writer {
    /// Runs until every sender is gone, then leaves the store as a clean stop leaves it.
    pub(super) fn run(mut self, requests: &Receiver<Job>) {
        loop {
            let first = match requests.recv_timeout(TICK) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut jobs: Vec<Job> = first.into_iter().collect();
            while let Some(job) = (jobs.len() < BATCH).then(|| requests.try_recv().ok()).flatten() {
                jobs.push(job);
            }
            self.shared.depth.fetch_sub(jobs.len(), Ordering::Relaxed);
            self.batch(jobs, false);
            self.testify(TICK);
        }
        self.batch(Vec::new(), true);
        self.testify(Duration::ZERO);
        self.shared.database.store(None);
    }

    /// One transaction, and the answers to all that it carried.
    fn batch(&mut self, jobs: Vec<Job>, last: bool) {
        let mut replies = Vec::with_capacity(jobs.len());
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.transact(jobs, &mut replies, last)))
                .unwrap_or_else(|_| Err(StoreError::Failed("a step panicked; its batch was not written".into())));
        if let Err(error) = &outcome {
            tracing::error!(%error, "the store could not write");
            self.shared.set_serving(false);
            self.reopen();
        } else {
            self.shared.set_serving(true);
        }
        for reply in replies {
            reply(outcome.clone());
        }
    }

    fn transact(&mut self, jobs: Vec<Job>, replies: &mut Vec<Reply>, last: bool) -> Result<(), StoreError> {
        let database = self.shared.database.load_full();
        let Some(database) = database else { return Err(StoreError::Failed("the store is being reopened".into())) };
        let mut txn = database.begin_write().map_err(failed)?;
        txn.set_quick_repair(self.shared.quick_repair);
        let shared = self.shared.clone();
        let (mono, stamped) = (shared.clock.monotonic(), self.progress.stamped);
        let must_write = last || self.heartbeat_due(mono);
        let mut step = Step::begin(&txn, shared.character, shared.moment(), shared.audit_cap, &mut self.noted)?;
        let mut changed = false;
        for job in jobs {
            step.moment = shared.moment();
            step.dirty = false;
            let (half_done, reply) = job(&mut step);
            changed |= step.dirty;
            replies.push(reply);
            if half_done {
                return Err(StoreError::Failed("a step failed after it had begun to write".into()));
            }
        }
        step.moment = shared.moment();
        step.dirty = false;
        step.expire()?;
        changed |= step.dirty || step.progress.stamped > stamped;
        if self.frozen || (!changed && !must_write) {
            drop(step);
            return txn.abort().map_err(failed);
        }
        let progress = step.finish()?;
        // Step done: nothing of it is visible or durable yet.
        txn.commit().map_err(failed)?;
        // Committed: durable and visible; the replies may go.
        self.discount_stall(shared.clock.monotonic().saturating_sub(mono));
        self.progress = progress;
        self.last_commit = mono;
        if changed {
            self.last_change = mono;
        }
        Ok(())
    }

    /// A disk that stalls answers nobody: that time must not use up anyone's retry window.
    fn discount_stall(&self, took: Duration) {
        if took >= STALL {
            tracing::warn!(seconds = took.as_secs_f64(), "the disk stalled");
            let mut clock = self.shared.served.lock().unwrap_or_else(PoisonError::into_inner);
            clock.pause(self.shared.clock.monotonic());
            clock.discount(took);
            clock.resume(self.shared.clock.monotonic());
        }
    }

    fn heartbeat_due(&self, mono: Duration) -> bool {
        mono.saturating_sub(self.last_commit) >= HEARTBEAT && mono.saturating_sub(self.last_change) < HEARTBEATS_FOR
    }

    /// After a failure: what the disk really holds is found by opening it anew.
    fn reopen(&mut self) {
        self.fence.store(true, Ordering::Release);
        self.shared.database.store(None);
        match open_database(&self.shared.bytes, &self.shared.on_sync_failure, self.shared.cache) {
            Ok((database, fence)) => {
                self.fence = fence;
                self.shared.database.store(Some(Arc::new(database)));
            }
            Err(error) => tracing::error!(%error, "the store could not be reopened; trying again"),
        }
    }

    fn testify(&mut self, every: Duration) {
        let mono = self.shared.clock.monotonic();
        let Some(witness) = &self.witness else { return };
        if mono.saturating_sub(self.last_testimony) < every || self.last_commit < self.last_testimony {
            return;
        }
        self.last_testimony = mono;
        if let Err(error) = witness.write(self.shared.character.id, self.progress.commits) {
            tracing::warn!(%error, "the witness file could not be written");
        }
    }
}

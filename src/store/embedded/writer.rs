//! The one writer. It takes what has queued up, carries it out in one transaction, commits that with one fsync, and
//! only then answers. Nobody sees anything before its commit.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use redb::{Database, ReadableDatabase};
use tokio::sync::watch;

use super::{
    backing::{Backing, Fenced, OnSyncFailure},
    clerk::{Clerk, Desk},
    declare::Declaration,
    expiry::{PER_BATCH, PER_JOB, WHEN_IDLE},
    feed::head_position,
    options::Options,
    tables::{Character, META, Progress, Step, failed},
    verbs::table,
    witness::Witness,
};
use crate::{
    clock::Clock,
    model::{
        SessionId, Timestamp,
        denial::LEEWAY_AND_MARGIN,
        family::{Generation, Moment, Served, Standing},
    },
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
/// A wall clock that runs ahead of the monotonic one by more than this has leapt. Less than the margin with which
/// entries outlive the greatest leeway: what a smaller leap deletes too early is needed no more.
const LEAP: Duration = Duration::from_secs(3);
/// How long such a leap is doubted at least before it is believed.
const DOUBTED_FOR: Duration = Duration::from_secs(900);
/// How many rotations are remembered whose answers did not leave. Beyond it their windows count from the rotation.
pub(in crate::store) const UNANSWERED_CAP: usize = 8192;

/// Answers one request, once it is known whether its change is durable; `false` if nobody waits for it any more.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) -> bool + Send>;
/// One request. The flag says that it failed after it had begun to write.
pub(super) type Job = Box<dyn FnOnce(&mut Step<'_>) -> (bool, Reply) + Send>;

/// What the writer is asked.
pub(super) enum Request {
    /// A step of a transaction.
    Step(Job),
    /// An operator's word about the store itself.
    Declare(Box<Declaration>),
}

/// A reply, and the successor that it would be the first to carry.
type Replied = (Reply, Option<(SessionId, Generation)>);

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
    fn resume(&mut self, monotonic: Duration) {
        self.since.get_or_insert(monotonic);
    }
    /// As if it had stood still from `start` to `end`.
    fn skip(&mut self, start: Duration, end: Duration) {
        self.pause(start);
        self.resume(end);
    }
}

/// The time by which things expire for good. A wall clock that leaps ahead is doubted for a while: an entry that is
/// deleted by mistake does not come back when the clock is set right.
#[derive(Debug)]
pub(in crate::store) struct SweepClock {
    anchor: Option<(Timestamp, Duration)>,
    doubted_since: Option<Duration>,
    doubted_for: Duration,
}

impl SweepClock {
    /// For tokens that live so long: when a leap is believed, those from before it have expired by any clock.
    pub(in crate::store) fn new(access: Duration) -> Self {
        let doubted_for = DOUBTED_FOR.max(access.saturating_add(LEEWAY_AND_MARGIN));
        Self { anchor: None, doubted_since: None, doubted_for }
    }

    pub(in crate::store) fn read(&mut self, clock: &dyn Clock) -> Timestamp {
        let (wall, mono) = (clock.now(), clock.monotonic());
        let (from, since) = *self.anchor.get_or_insert((wall, mono));
        let expected = from.plus(mono.saturating_sub(since));
        let leaps = wall.since(expected) > LEAP;
        let doubted = mono.saturating_sub(*self.doubted_since.get_or_insert(mono));
        if leaps && doubted < self.doubted_for {
            return expected;
        }
        (self.anchor, self.doubted_since) = (Some((wall, mono)), None);
        wall
    }
}

/// Which store it is, and whether it is the one it was. Both change together, by an operator's word alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) character: Character,
    pub(super) standing: Standing,
}

/// What writer and readers share.
pub(super) struct Shared {
    pub(super) bytes: Arc<dyn Backing>,
    pub(super) database: ArcSwapOption<Database>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) served: Mutex<ServedClock>,
    /// Read by the writer to let things expire, and by readers to say by when they have.
    pub(super) sweep: Mutex<SweepClock>,
    /// The last position of the denylist's log that is durable.
    pub(super) head: watch::Sender<u64>,
    pub(super) life: ArcSwap<Life>,
    pub(super) on_sync_failure: OnSyncFailure,
    pub(super) cache: usize,
    pub(super) quick_repair: bool,
    pub(super) desk: Arc<Desk>,
    pub(super) depth: std::sync::atomic::AtomicUsize,
}

impl Shared {
    pub(super) fn character(&self) -> Character {
        self.life.load().character
    }

    pub(super) fn standing(&self) -> Standing {
        self.life.load().standing
    }

    pub(super) fn moment(&self) -> Moment {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner).read(self.clock.monotonic());
        let Character { incarnation, restored, .. } = self.character();
        Moment { now: self.clock.now(), served, incarnation, restored }
    }

    pub(super) fn sweep_time(&self) -> Timestamp {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner).read(&*self.clock)
    }

    pub(super) fn start_serving_from(&self, served: Served) {
        let mut clock = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        *clock = ServedClock { base: Duration::from_millis(served.0), since: Some(self.clock.monotonic()) };
    }

    /// A commit has succeeded, or failed, that began then: proof that the store could answer, or could not.
    fn proven(&self, committed: bool, began: Duration) {
        let now = self.clock.monotonic();
        let took = now.saturating_sub(began);
        let mut clock = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        match committed {
            false => clock.pause(began),
            // A disk that stalls answers nobody: that time must not use up anyone's retry window.
            true if took >= STALL => {
                tracing::warn!(seconds = took.as_secs_f64(), "the disk stalled");
                clock.skip(began, now);
            }
            true => clock.resume(now),
        }
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

/// The last position of the denylist's log.
pub(super) fn head_of(database: &Database) -> Result<u64, StoreError> {
    let meta = table(&database.begin_read().map_err(failed)?, META)?;
    meta.map_or(Ok(0), |meta| head_position(&meta))
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) fence: Arc<AtomicBool>,
    /// How it was opened: an operator's word opens it once more.
    pub(super) options: Options,
    pub(super) witness: Option<Witness>,
    pub(super) progress: Progress,
    pub(super) clerk: Clerk,
    /// Successors whose first answer did not leave as a 2xx, to be marked so by the next batch.
    pub(super) unanswered: HashMap<SessionId, Generation>,
    pub(super) last_change: Duration,
    pub(super) last_commit: Duration,
    pub(super) last_testimony: Duration,
}

impl Writer {
    /// Runs until every sender is gone, then leaves the store as a clean stop leaves it.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let mut next = match requests.recv_timeout(TICK) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut jobs = Vec::new();
            while let Some(Request::Step(job)) = next {
                jobs.push(job);
                next = (jobs.len() < BATCH).then(|| requests.try_recv().ok()).flatten();
            }
            self.shared.depth.fetch_sub(jobs.len(), Ordering::Relaxed);
            self.batch(jobs, false);
            if let Some(Request::Declare(declaration)) = next {
                self.shared.depth.fetch_sub(1, Ordering::Relaxed);
                self.declare(*declaration);
            }
            self.testify(TICK);
        }
        self.batch(Vec::new(), true);
        self.testify(Duration::ZERO);
        self.shared.database.store(None);
    }

    /// One transaction, and the answers to all that it carried.
    fn batch(&mut self, jobs: Vec<Job>, last: bool) {
        let began = self.shared.clock.monotonic();
        if self.shared.database.load().is_none() {
            self.reopen();
        }
        let mut replies = Vec::with_capacity(jobs.len());
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.transact(jobs, &mut replies, last)))
                .unwrap_or_else(|_| Err(StoreError::Failed("a step panicked; its batch was not written".into())));
        match &outcome {
            Ok(true) => self.shared.proven(true, began),
            // Nothing was written, so nothing is proven: the disk may still be full.
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the store could not write");
                self.shared.proven(false, began);
                self.reopen();
            }
        }
        for (reply, first) in replies {
            let answered = reply(outcome.clone().map(drop)) && outcome.is_ok();
            if let Some((id, head)) = first.filter(|_| !answered && self.unanswered.len() < UNANSWERED_CAP) {
                self.unanswered.insert(id, head);
            }
        }
    }

    /// Says whether anything was committed.
    fn transact(&mut self, jobs: Vec<Job>, replies: &mut Vec<Replied>, last: bool) -> Result<bool, StoreError> {
        let database = self.shared.database.load_full();
        let Some(database) = database else { return Err(StoreError::Failed("the store is being reopened".into())) };
        let mut txn = database.begin_write().map_err(failed)?;
        txn.set_quick_repair(self.shared.quick_repair);
        let shared = self.shared.clone();
        let (mono, stamped) = (shared.clock.monotonic(), self.progress.stamped);
        // The store is not the one it was: whatever is asked, nothing is written to it.
        let frozen = shared.standing() != Standing::Whole;
        let must_write = !frozen && (last || self.heartbeat_due(mono));
        let sweep = if jobs.is_empty() { WHEN_IDLE } else { PER_BATCH + PER_JOB * jobs.len() };
        let sweep_now = shared.sweep_time();
        let mut step = Step::begin(&txn, shared.character(), shared.moment(), &mut self.clerk)?;
        step.expired_by = sweep_now;
        if !frozen {
            step.examine_chain()?;
        }
        for (id, head) in &self.unanswered {
            step.unanswered(*id, *head)?;
        }
        let mut changed = step.dirty;
        for job in jobs {
            step.moment = shared.moment();
            (step.dirty, step.first_answer) = (false, None);
            let (half_done, reply) = job(&mut step);
            changed |= step.dirty;
            replies.push((reply, step.first_answer));
            if half_done {
                return Err(StoreError::Failed("a step failed after it had begun to write".into()));
            }
        }
        step.moment = shared.moment();
        step.dirty = false;
        if !frozen {
            step.expire(sweep)?;
        }
        changed |= step.dirty || step.signs || step.progress.stamped > stamped;
        if frozen || (!changed && !must_write) {
            drop(step);
            self.unanswered.clear();
            return txn.abort().map(|()| false).map_err(failed);
        }
        let head = step.head;
        let progress = step.finish()?;
        // Step done: nothing of it is visible or durable yet.
        txn.commit().map_err(failed)?;
        // Committed: durable and visible. Followers hear of it first, then the replies may go.
        if let Some(head) = head {
            shared.head.send_replace(head);
        }
        self.progress = progress;
        self.unanswered.clear();
        self.last_commit = mono;
        if changed {
            self.last_change = mono;
        }
        Ok(true)
    }

    fn heartbeat_due(&self, mono: Duration) -> bool {
        mono.saturating_sub(self.last_commit) >= HEARTBEAT && mono.saturating_sub(self.last_change) < HEARTBEATS_FOR
    }

    /// After a failure: what the disk really holds is found by opening it anew.
    fn reopen(&mut self) {
        self.fence.store(true, Ordering::Release);
        self.shared.database.store(None);
        // What another opening finds is examined as at the start.
        self.clerk.chain = None;
        match open_database(&self.shared.bytes, &self.shared.on_sync_failure, self.shared.cache) {
            Ok((database, fence)) => {
                self.fence = fence;
                // What was answered as a failure may be there all the same.
                match head_of(&database) {
                    Ok(head) => drop(self.shared.head.send_replace(head)),
                    Err(error) => tracing::error!(%error, "the head of the log cannot be read"),
                }
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
        let audit = self.clerk.to_testify();
        match witness.write(self.shared.character().id, self.progress.commits, audit) {
            Ok(()) => self.clerk.testified = audit,
            Err(error) => tracing::warn!(%error, "the witness file could not be written"),
        }
    }
}

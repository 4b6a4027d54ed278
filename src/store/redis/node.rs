//! What this node alone knows, and forgets when it stops.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex as Turn;

use super::{
    clients::Clients,
    layout::{BUCKETS, Bucket},
};
use crate::{
    clock::Clock,
    model::{
        SessionId, SubjectRef, Timestamp,
        denial::{LEEWAY_AND_MARGIN, Retention},
        family::{Generation, Lineage},
    },
    store::{
        StoreError,
        embedded::{NOTED_CAP, Older, REFUSALS_NOTED_EVERY, Singles, SweepClock, UNANSWERED_CAP},
    },
};

/// Sessions of which it is remembered that their subject has cut-offs.
const CUT_CAP: usize = 65_536;

/// How long a step waits for the others of its bucket.
const TURN_WITHIN: Duration = Duration::from_secs(1);

/// How often it is asked whether a rotation was made of which nobody knows.
const ASKED: u32 = 100;

pub(super) struct Node {
    pub(super) clients: Clients,
    /// Steps of one bucket take turns: what they would find moved is only what other nodes have moved.
    turns: Box<[Turn<()>]>,
    stamped: AtomicU64,
    /// Families whose refusal has been noted lately.
    refusals: Mutex<HashMap<SessionId, Timestamp>>,
    /// Sessions that came by here and whose subject has cut-offs: both are looked at together.
    cut: Mutex<HashSet<SessionId>>,
    /// How many entries each subject has got from here lately.
    singles: Mutex<Singles>,
    /// Successors whose first answer did not leave as a 2xx.
    unanswered: Mutex<HashMap<SessionId, (Generation, u32)>>,
    sweep: Mutex<SweepClock>,
    window: Duration,
    older: Mutex<Older>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            clients: Clients::default(),
            turns: (0..BUCKETS).map(|_| Turn::default()).collect(),
            stamped: AtomicU64::default(),
            refusals: Mutex::default(),
            cut: Mutex::default(),
            singles: Mutex::default(),
            unanswered: Mutex::default(),
            sweep: Mutex::new(SweepClock::new(retention.access)),
            window: retention.access.saturating_add(LEEWAY_AND_MARGIN),
            older: Mutex::default(),
        }
    }

    pub(super) async fn turn(&self, bucket: Bucket) -> Result<tokio::sync::MutexGuard<'_, ()>, StoreError> {
        let turn = self.turns[usize::from(bucket.0)].lock();
        tokio::time::timeout(TURN_WITHIN, turn).await.map_err(|_| StoreError::Busy)
    }

    /// The same, if nobody has it.
    pub(super) fn turn_now(&self, bucket: Bucket) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.turns[usize::from(bucket.0)].try_lock().ok()
    }

    /// The latest instant that is known here to have been stamped.
    pub(super) fn stamped(&self) -> Timestamp {
        Timestamp::from_millis(self.stamped.load(Ordering::SeqCst))
    }

    /// This has been stamped, or is about to be. Gives the latest.
    pub(super) fn stamp(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(self.stamped.fetch_max(at.millis(), Ordering::SeqCst)).max(at)
    }

    /// What expires by then has expired: now, unless the clock has leapt ahead, which is doubted for a while.
    pub(super) fn expired_by(&self, clock: &dyn Clock) -> Timestamp {
        lock(&self.sweep).read(clock)
    }

    pub(super) fn learn_older(&self, older: Older) {
        *lock(&self.older) = older;
    }

    /// By when what was made under earlier, longer lives has ended.
    pub(super) fn older(&self) -> Older {
        *lock(&self.older)
    }

    pub(super) fn knows_of_cuts(&self, id: SessionId) -> bool {
        lock(&self.cut).contains(&id)
    }

    pub(super) fn learn_of_cuts(&self, id: SessionId) {
        let mut cut = lock(&self.cut);
        if cut.len() >= CUT_CAP {
            cut.clear();
        }
        cut.insert(id);
    }

    pub(super) fn has_noted(&self, id: SessionId, now: Timestamp) -> bool {
        lock(&self.refusals).get(&id).is_some_and(|at| now.since(*at) < REFUSALS_NOTED_EVERY)
    }

    pub(super) fn noted(&self, id: SessionId, now: Timestamp) {
        let mut refusals = lock(&self.refusals);
        if refusals.len() >= NOTED_CAP {
            refusals.clear();
        }
        refusals.insert(id, now);
    }

    /// How many entries this subject has got from here of late.
    pub(super) fn singles(&self, subject: SubjectRef, now: Timestamp) -> u32 {
        let mut singles = lock(&self.singles);
        singles.turn(now, self.window);
        singles.count(subject)
    }

    pub(super) fn add_single(&self, subject: SubjectRef) {
        lock(&self.singles).add(subject);
    }

    /// The window of a rotation whose answer never left begins when one does.
    pub(super) fn recall(&self, id: SessionId, lineage: &mut Lineage) {
        if lock(&self.unanswered).get(&id).is_some_and(|(head, _)| *head == lineage.head) {
            lineage.unanswered();
        }
    }

    /// What is in the store now was written with that in mind.
    pub(super) fn settled(&self, id: SessionId) {
        lock(&self.unanswered).remove(&id);
    }

    /// Those to be written down without waiting for their next use: each as often as it may take for a rotation to turn up
    /// that nobody knows to have been made.
    pub(super) fn unanswered(&self) -> Vec<(SessionId, Generation)> {
        let mut unanswered = lock(&self.unanswered);
        unanswered.retain(|_, (_, asked)| *asked < ASKED);
        unanswered.values_mut().for_each(|(_, asked)| *asked += 1);
        unanswered.iter().map(|(id, (head, _))| (*id, *head)).collect()
    }

    /// From here on this rotation may have been made. Unless its answer leaves, that is remembered.
    pub(super) fn unsure(&self, first: Option<(SessionId, Generation)>) -> Unsure<'_> {
        Unsure { node: self, first }
    }
}

/// A rotation that has not been answered yet. Also a caller that goes away has got no answer.
pub(super) struct Unsure<'n> {
    node: &'n Node,
    first: Option<(SessionId, Generation)>,
}

impl Unsure<'_> {
    pub(super) fn answered(mut self) {
        self.first = None;
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        let Some((id, head)) = self.first else { return };
        let mut unanswered = lock(&self.node.unanswered);
        if unanswered.len() < UNANSWERED_CAP {
            unanswered.insert(id, (head, 0));
        }
    }
}

//! Whether the store is the one it was, and whether this node may speak for it. The rule is [`crate::model::reign`];
//! `docs/redis.md` says why it is safe.
//!
//! A step begins with [`Life::begin`], is decided and written under the [`Began`] that it gives, and asks
//! [`Life::current`] after all of it is durable, here and in the store, and before anyone is told:
//!
//! ```text
//! let began = core.life.begin(core.clock.now())?;          // 503 unless this node holds a lease
//! ... Commit::new(..).life(meta, began.mark()) ...          // the hub too: its marker is in layout.hub("meta")
//! ... journal ...
//! core.life.current(&began)?;                               // 503 if the lease ran out, or is another's by now
//! ```
//!
//! It must be the same `Began`: a lease that was granted after the change may be one of another server, which has
//! never seen it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::{
    clock::{Clock, SystemClock},
    model::{
        Timestamp,
        family::{Moment, Served, Standing},
        reign::{self, Doubt, Lease, NodeId, Row, Seal, Term, Wait},
    },
    store::StoreError,
};

mod heads;
mod keeper;
mod known;
mod memory;
mod parts;
mod push;
mod record;
mod report;
mod words;

pub(super) use self::{
    heads::Heads,
    keeper::keep,
    known::{Book, Known},
    memory::Memories,
    parts::beat,
    record::seal,
};
pub use self::{
    report::{LifeReport, NodeReport},
    words::WordError,
};

/// Under what a step began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    mark: [u8; 28],
    moment: Moment,
    standing: Standing,
    /// None: it only repairs, and nothing of it is ever acknowledged.
    term: Option<Term>,
}

impl Began {
    /// What every bucket's marker must be for a change to be made in it.
    pub(super) fn mark(&self) -> &[u8] {
        &self.mark
    }

    /// The instant of the step.
    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    /// For the rule: `Whole` or `Wiped`.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }
}

/// What the keeper has established last.
#[derive(Clone, Debug, Default)]
struct Now {
    /// The life that is remembered durably here.
    life: Option<Arc<reign::Life>>,
    lease: Option<Lease>,
    /// Time served when that was last asked, and by this node's clock, when that was.
    served: (Served, Duration),
    /// Who takes part.
    rows: Arc<Vec<(NodeId, Row)>>,
    /// Into which life everything that this node knows has been pushed.
    pushed: Option<Seal>,
    /// Why there is no lease.
    why: Option<Why>,
}

/// Why this node does not serve.
#[derive(Clone, Debug)]
enum Why {
    Waits(Wait),
    Failed(StoreError),
}

/// Whether this node may speak for the store.
pub(super) struct Life {
    now: ArcSwap<Now>,
    /// How often this node has come to speak to other servers.
    way: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Leases run by the machine's own clock, which runs on in suspension.
    machine: SystemClock,
    /// Time served is counted by this one.
    clock: Arc<dyn Clock>,
    pub(super) heads: Heads,
    memories: Mutex<Memories>,
    /// Wakes the keeper.
    wake: Notify,
    /// This node is leaving.
    stopped: AtomicBool,
}

impl Life {
    pub(super) fn new(
        memories: Memories,
        heads: Duration,
        clock: Arc<dyn Clock>,
        way: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let served = memories.memory().map_or(Served::default(), |memory| memory.served);
        Self {
            now: ArcSwap::default(),
            way: Box::new(way),
            machine: SystemClock::default(),
            clock,
            heads: Heads::new(heads, served),
            memories: Mutex::new(memories),
            wake: Notify::new(),
            stopped: AtomicBool::new(false),
        }
    }

    /// A step begins, at this instant of the store's time.
    ///
    /// # Errors
    /// This node may not speak for the store now.
    pub(super) fn begin(&self, now: Timestamp) -> Result<Began, StoreError> {
        if self.is_stopped() {
            return Err(StoreError::Failed("this node is stopping".into()));
        }
        let state = self.now.load();
        let held = state.life.as_ref().zip(state.lease);
        let Some((life, lease)) =
            held.filter(|(_, lease)| lease.covers(lease.term, (self.way)(), self.machine.boottime()))
        else {
            return Err(state.refusal());
        };
        let moment = self.moment_of(&state, now);
        Ok(Began { mark: life.mark(), moment, standing: life.standing(), term: Some(lease.term) })
    }

    /// A repair begins: what this node knows is written into the life that it has adopted, also while nobody serves.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn begin_repair(&self, now: Timestamp) -> Result<Began, StoreError> {
        self.begin(now).or_else(|refusal| {
            let state = self.now.load();
            let life = state.life.as_ref().ok_or(refusal)?;
            let moment = self.moment_of(&state, now);
            Ok(Began { mark: life.mark(), moment, standing: Standing::NotWhole, term: None })
        })
    }

    /// Whether the store is the one it was, as far as this node can tell now.
    pub(super) fn standing(&self) -> Standing {
        self.begin(Timestamp::default()).map_or(Standing::NotWhole, |began| began.standing)
    }

    /// The store's time, for what needs no step.
    pub(super) fn moment(&self, now: Timestamp) -> Moment {
        self.moment_of(&self.now.load(), now)
    }

    /// Asked after every change, before anyone is told that it was made: whether the server that made it was the store
    /// at that instant.
    ///
    /// # Errors
    /// Nobody can tell.
    pub(super) fn current(&self, began: &Began) -> Result<(), StoreError> {
        let state = self.now.load();
        let covered = !self.is_stopped()
            && began
                .term
                .zip(state.lease)
                .is_some_and(|(term, lease)| lease.covers(term, (self.way)(), self.machine.boottime()));
        if covered { Ok(()) } else { Err(state.refusal()) }
    }

    /// Time served counts while leases are held: it stands still in an outage.
    fn moment_of(&self, state: &Now, now: Timestamp) -> Moment {
        let (served, at) = state.served;
        let since = self.clock.monotonic().saturating_sub(at);
        let since = match (state.lease, &state.life) {
            (Some(lease), _) if self.machine.boottime() < lease.until => since,
            (Some(_), Some(life)) => since.min(life.lease),
            _ => Duration::ZERO,
        };
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let (incarnation, restored) = state.life.as_ref().map_or((0, 0), |life| (life.incarnation, life.restored));
        Moment { now, served: Served(served.0.saturating_add(since)), incarnation, restored }
    }

    fn memories(&self) -> std::sync::MutexGuard<'_, Memories> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This store, as opposed to any other.
    pub(super) fn id(&self) -> u128 {
        self.now.load().life.as_ref().map_or(0, |life| life.store)
    }

    /// Whether this is the life.
    fn is(&self, seal: Seal) -> bool {
        self.now.load().life.as_ref().is_some_and(|life| life.seal == seal)
    }

    /// The keeper looks now, and not when it would have.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The store is not for this program: nothing is served, and nothing is repaired.
    fn forgo(&self) {
        let state = self.now.load_full();
        self.tell(Now { life: None, lease: None, ..(*state).clone() });
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn pushed(&self) -> Option<Seal> {
        self.now.load().pushed
    }

    fn has_pushed(&self, seal: Seal) {
        let state = self.now.load_full();
        self.tell(Now { pushed: Some(seal), ..(*state).clone() });
    }

    fn tell(&self, now: Now) {
        self.now.store(Arc::new(now));
    }
}

/// A node that has been silent for so many leases is not one that is about to push what it knows.
const SILENT: u32 = 5;

impl Now {
    /// Whether any of them has been silent for long, by the store's time, as the others have it.
    fn are_gone(&self, nodes: &[NodeId]) -> bool {
        let latest = self.rows.iter().map(|(_, row)| row.seen).max().unwrap_or_default();
        let patience = self.life.as_ref().map_or(Duration::ZERO, |life| life.lease * SILENT);
        let of = |id: &NodeId| self.rows.iter().find(|(other, _)| other == id);
        nodes.iter().filter_map(of).any(|(_, row)| latest.since(row.seen) > patience)
    }

    fn refusal(&self) -> StoreError {
        match &self.why {
            Some(Why::Waits(Wait::Word(Doubt::Declared(_)))) => StoreError::Busy,
            Some(Why::Waits(Wait::Word(_))) => StoreError::NotWhole,
            Some(Why::Waits(Wait::Nodes(nodes))) if self.are_gone(nodes) => StoreError::NotWhole,
            Some(Why::Waits(_)) => StoreError::Failed("this node may not speak for the store at this moment".into()),
            Some(Why::Failed(error)) => error.clone(),
            None => StoreError::Failed("it is not known yet whether this node may speak for the store".into()),
        }
    }
}

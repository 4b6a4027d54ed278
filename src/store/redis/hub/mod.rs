//! The one slot where things have an order: the log of the feed, and the audit log.
//!
//! A change of a bucket and what it owes to the hub are two slots, so they are two steps: the change writes down what it
//! owes, in the same step, and the hub takes it over in another. Whoever finds something owed takes it over: doing so
//! twice is doing it once.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{Core, layout::Bucket};
use crate::{
    model::{
        ClientId, SessionId, Subject, SubjectRef, Timestamp,
        audit::{Event, Origin, Outcome, Record},
        denial::Entry,
        family::Generation,
    },
    store::{Notary, StoreError},
};

mod audit;
mod clerk;
mod cuts;
mod debts;
mod evidence;
mod head;
mod log;
mod moving;
mod orders;
mod pen;

pub use self::moving::{Destination, MoveError, Moved, Rename};
pub(super) use self::{
    clerk::{Clerk, drained_numbers},
    cuts::{HubCuts, look_out},
    debts::look_for_debts,
    head::Head,
    log::{contradicts, follow, pairs, read_on, read_whole},
    orders::Order,
};
pub(super) use crate::store::embedded::NewEntry;

/// What a change of a bucket owes to the hub.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Owed {
    /// An entry of the denylist.
    Deny(NewEntry),
    /// An audit record.
    Note(Box<NewRecord>),
}

impl Owed {
    /// When it came to be.
    fn at(&self) -> Timestamp {
        match self {
            Self::Deny(entry) => entry.at,
            Self::Note(record) => record.at,
        }
    }
}

/// An audit record before it has its place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct NewRecord {
    pub(super) at: Timestamp,
    pub(super) event: Event,
    pub(super) outcome: Outcome,
    pub(super) actor: Option<ClientId>,
    pub(super) client: Option<ClientId>,
    pub(super) subject: Option<Subject>,
    pub(super) subject_ref: Option<SubjectRef>,
    pub(super) session: Option<SessionId>,
    pub(super) generation: Option<Generation>,
    pub(super) origin: Origin,
    pub(super) cause: Option<Box<str>>,
}

/// What was written down, and under which number.
pub(super) type Debt = (u64, Owed);

/// What waits for the clerk at most. Beyond it what is written down in a bucket is left there for a while, and what is
/// not waits outside.
const QUEUE: usize = 8192;
/// How often a mirror looks whether the log is still the same, if nothing is added to it.
pub(super) const FOLLOWS_EVERY: Duration = Duration::from_millis(500);

/// The way to this node's clerk.
pub(super) struct Hub {
    orders: mpsc::Sender<Ask>,
    /// Whoever asks what is cut off.
    cuts: mpsc::Sender<cuts::Asked>,
    latest: cuts::Latest,
    /// Buckets whose hand-over was left for later.
    left: Left,
    /// Whose word the head of the audit log has.
    notary: OnceLock<Arc<dyn Notary>>,
}

/// One thing asked of the clerk, and where the answer goes.
pub(super) struct Ask {
    pub(super) order: Order,
    pub(super) answer: Option<oneshot::Sender<Result<Answer, StoreError>>>,
}

/// What the clerk says.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is done, and these deny it.
    Entries(Vec<Entry>),
    /// It is done; perhaps there was nothing to do.
    Done,
    /// Nothing was done, because what it was asked by is not so any more, or cannot be.
    Refused,
}

/// A set of buckets.
#[derive(Default)]
pub(super) struct Left(std::sync::Mutex<std::collections::BTreeSet<Bucket>>);

impl Left {
    fn add(&self, bucket: Bucket) {
        self.lock().insert(bucket);
    }
    pub(super) fn take(&self, most: usize) -> Vec<Bucket> {
        let mut left = self.lock();
        (0..most).map_while(|_| left.pop_first()).collect()
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<Bucket>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Hub {
    /// The way, and where it leads: to the clerk, and to who looks out for cut-offs.
    pub(super) fn new() -> (Self, mpsc::Receiver<Ask>, mpsc::Receiver<cuts::Asked>) {
        let ((orders, asked), (cuts, questions)) = (mpsc::channel(QUEUE), mpsc::channel(cuts::QUEUE));
        (
            Self { orders, cuts, latest: cuts::Latest::default(), left: Left::default(), notary: OnceLock::new() },
            asked,
            questions,
        )
    }

    fn notary(&self) -> Option<&Arc<dyn Notary>> {
        self.notary.get()
    }

    /// The first one stays.
    fn employ(&self, notary: Arc<dyn Notary>) {
        let _ = self.notary.set(notary);
    }

    /// Has the clerk do something, and waits until it is done.
    pub(super) async fn order(&self, order: Order) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { order, answer: Some(answer) };
        self.orders.send(ask).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Failed("this node is stopping".into())
}

impl Core {
    /// Takes over what has just been written down as owed, and waits until it is in its log, as durable as is asked for.
    /// Gives the entries, in the order of the denials: of what is denied as strongly already, the one that is there.
    pub(super) async fn settle(&self, bucket: Bucket, debts: Vec<Debt>) -> Result<Vec<Entry>, StoreError> {
        match self.hub.order(Order::Settle { bucket, debts }).await? {
            Answer::Entries(entries) => Ok(entries),
            _ => Ok(Vec::new()),
        }
    }

    /// The same in a while: what is durable already, and nobody waits for.
    pub(super) fn settle_later(&self, bucket: Bucket, debts: Vec<Debt>) {
        let ask = Ask { order: Order::Settle { bucket, debts }, answer: None };
        if self.hub.orders.try_send(ask).is_err() {
            // It stands in the bucket.
            self.hub.left.add(bucket);
        }
    }
}

impl NewRecord {
    /// The record, once it has a place.
    fn at(self, sequence: u64) -> Record {
        let Self { at, event, outcome, actor, client, subject, subject_ref, session, generation, origin, cause } = self;
        let link = crate::model::audit::Link::default();
        Record {
            sequence,
            at,
            event,
            outcome,
            actor,
            client,
            subject,
            session,
            generation,
            origin,
            cause,
            subject_ref,
            link,
        }
    }
}

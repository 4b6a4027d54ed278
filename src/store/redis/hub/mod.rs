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

use super::{
    Core,
    commit::{Look, maybe},
    layout::Bucket,
};
use crate::{
    model::{
        ClientId, SessionId, Subject, SubjectRef, Timestamp,
        audit::{Event, Origin, Outcome, Record},
        denial::{Ends, Entry, Target},
        family::Generation,
    },
    store::{
        Notary, StoreError,
        embedded::{Hold, decode, index_key},
    },
};

mod audit;
mod clerk;
mod debts;
mod evidence;
mod head;
mod log;
mod orders;
mod pen;

pub(super) use self::{
    clerk::Clerk,
    debts::look_for_debts,
    head::Head,
    log::{read_on, read_whole},
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
    /// The way, and where it leads.
    pub(super) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (orders, asked) = mpsc::channel(QUEUE);
        (Self { orders, left: Left::default(), notary: OnceLock::new() }, asked)
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

    /// The instant before which the hub's cut-offs of this kind (of the client, of everyone) cover. Asked of the hub itself.
    pub(super) async fn hub_cut_before(&self, client: &ClientId, ends: Ends) -> Result<Timestamp, StoreError> {
        let [before] = self.hub_cuts_before(client, [ends]).await?;
        Ok(before)
    }

    /// The same for several kinds, at one instant.
    pub(super) async fn hub_cuts_before<const N: usize>(
        &self,
        client: &ClientId,
        kinds: [Ends; N],
    ) -> Result<[Timestamp; N], StoreError> {
        let (denied, targets) = (self.layout.hub("denied"), [Target::Client(client.clone()), Target::All]);
        let each = kinds.iter().flat_map(|ends| targets.iter().map(|target| index_key(target, *ends)));
        let seen = each.fold(Look::default(), |look, key| look.hget(denied.clone(), &key)).ask(&self.link).await?;
        let mut latest = [Timestamp::default(); N];
        for (parts, latest) in seen.parts.chunks(targets.len()).zip(&mut latest) {
            for part in parts {
                let hold: Option<Hold> = maybe(part)?.map(|row| decode(row, "denial")).transpose()?;
                *latest = hold.map_or(*latest, |hold| hold.before.max(*latest));
            }
        }
        Ok(latest)
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

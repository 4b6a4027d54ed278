//! The sessions that moved of late: opened, rotated, closed. What Redis loses of them in a failover is pushed again, and one
//! that has not moved since need not be looked at before it moves on.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::super::record::Record;
use crate::model::{
    SessionId,
    family::{Generation, Served},
};

/// How many are remembered.
const MOST: usize = 200_000;
/// What a server may lose without anyone's being asked, also where nobody remembers it: the last moments before it was
/// killed, of a file that is written every second.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// What moved within a time served. Of each session the last that is known.
pub(crate) struct Heads {
    within: Duration,
    moved: Mutex<Moved>,
}

#[derive(Default)]
struct Moved {
    heads: HashMap<SessionId, Head>,
    /// In the order in which they moved; a session that moved again stands here twice.
    order: VecDeque<(Served, SessionId)>,
    /// What moved before this was forgotten, because there was too much of it.
    forgotten: Served,
}

/// A session as it was left here.
struct Head {
    at: Served,
    record: Record,
    /// Nothing is known to have moved it since.
    is_last: bool,
}

impl Heads {
    /// `since`: what moved before was known to a process that is no more.
    pub(super) fn new(within: Duration, since: Served) -> Self {
        let moved = Moved { forgotten: since, ..Moved::default() };
        Self { within, moved: Mutex::new(moved) }
    }

    /// This is how the store has it now, at this time served.
    pub(crate) fn moved(&self, record: Record, at: Served) {
        let mut moved = self.lock();
        let id = record.family.id;
        moved.heads.insert(id, Head { at, record, is_last: true });
        moved.order.push_back((at, id));
        while moved.order.front().is_some_and(|(then, _)| at.since(*then) > self.within) {
            moved.drop_first();
        }
        while moved.order.len() > MOST * 2 || moved.heads.len() > MOST {
            moved.forgotten = moved.order.front().map_or(at, |(then, _)| *then);
            moved.drop_first();
        }
    }

    /// One that moved is not spoken of any more: a person is to be forgotten.
    pub(crate) fn forget(&self, id: SessionId) {
        self.lock().heads.remove(&id);
    }

    /// As it was left here, for who has a token of this generation. One of a later generation was handed out elsewhere.
    pub(crate) fn left_at(&self, id: SessionId, generation: Generation) -> Option<Record> {
        let moved = self.lock();
        let head = moved.heads.get(&id).filter(|head| head.is_last)?;
        let lineage = &head.record.family.lineage;
        (lineage.head == generation && lineage.closed.is_none()).then(|| head.record.clone())
    }

    /// Somebody else has moved it since.
    pub(crate) fn moved_elsewhere(&self, id: SessionId) {
        if let Some(head) = self.lock().heads.get_mut(&id) {
            head.is_last = false;
        }
    }

    /// A node has left that knew what moved before this time served, and nobody else may.
    pub(super) fn has_left(&self, at: Served) {
        let mut moved = self.lock();
        moved.forgotten = moved.forgotten.max(at);
    }

    /// For how long before this time served nothing is missing here.
    pub(super) fn reach(&self, now: Served) -> Duration {
        let forgotten = self.lock().forgotten;
        let known = if forgotten == Served::default() { self.within } else { now.since(forgotten) };
        known.max(LAST_MOMENTS).min(self.within)
    }

    pub(super) fn all(&self) -> Vec<Record> {
        self.lock().heads.values().map(|head| head.record.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Moved> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moved {
    fn drop_first(&mut self) {
        let Some((at, id)) = self.order.pop_front() else { return };
        if self.heads.get(&id).is_some_and(|head| head.at == at) {
            self.heads.remove(&id);
        }
    }
}

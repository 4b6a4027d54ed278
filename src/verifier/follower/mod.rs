//! Follows the log of one issuer: what to ask next, and what an answer proves. No I/O.
//!
//! A tail that begins where we are goes on from there. One that begins elsewhere is of a log that we do not know, or
//! know too little of: what we know stays, and the pages of history up to the tail are read before we are complete.

use std::{cmp::Ordering, time::Duration};

use super::{
    feed::{self, FeedError},
    replica::Replica,
};
use crate::model::{
    JwkSet,
    feed::{Epoch, Item, KeysVersion, Mark, Nonce, PAGE, Place},
};

/// What a tail is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) nonce: Nonce,
    /// When it was sent, on the clock that runs on while the machine sleeps.
    pub(crate) sent: Duration,
}

/// What to ask next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The tail. Whether it may wait: there is nothing left to be read.
    Tail { wait: bool },
    /// This page of history; `again` if the one that a cache may have is of no use.
    Page { epoch: Epoch, page: u64, again: bool },
}

/// What a tail said beside its entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) keys: KeysVersion,
    pub(crate) pause: Option<Duration>,
    pub(crate) entries: usize,
}

/// History that must be read before the tail that was heard is of use.
#[derive(Debug)]
struct History {
    epoch: Epoch,
    next: u64,
    last: Option<Mark>,
    /// Where the tail began and ended, and whether that was all.
    from: Mark,
    to: Mark,
    whole: bool,
    proven: Duration,
}

#[derive(Debug)]
pub(crate) struct Follower {
    issuer: Box<str>,
    keys: JwkSet,
    max_staleness: Duration,
    at: Option<Place>,
    /// The last whole page that we passed: what remains to go on from if the log no longer knows where we are.
    boundary: Option<Place>,
    history: Option<History>,
    swept: Duration,
    whole: bool,
    /// The pages that were had last did not lead to the end.
    again: bool,
}

/// How often what has expired is looked for.
const SWEEP: Duration = Duration::from_secs(15);

impl Follower {
    pub(crate) fn new(issuer: &str, keys: JwkSet, max_staleness: Duration) -> Self {
        Self {
            issuer: issuer.into(),
            keys,
            max_staleness,
            at: None,
            boundary: None,
            history: None,
            swept: Duration::ZERO,
            whole: false,
            again: false,
        }
    }

    pub(crate) fn set_keys(&mut self, keys: JwkSet) {
        self.keys = keys;
    }
    pub(crate) fn place(&self) -> Option<Place> {
        self.at
    }
    pub(crate) fn next(&self) -> Next {
        match &self.history {
            Some(history) => Next::Page { epoch: history.epoch, page: history.next, again: self.again },
            None => Next::Tail { wait: self.whole },
        }
    }
    /// A page is not to be had: the log has moved on. The tail says from where to read.
    pub(crate) fn begin_again(&mut self) {
        self.history = None;
        self.whole = false;
        self.again = true;
    }

    /// Whether pages failed us since we last arrived.
    pub(crate) fn begins_again(&self) -> bool {
        self.again
    }

    pub(crate) fn hear_tail(
        &mut self,
        question: &Question,
        answer: &str,
        received: Duration,
        replica: &Replica,
    ) -> Result<Heard, FeedError> {
        let tail = feed::tail(answer, &self.issuer, &self.keys)?;
        if tail.nonce != question.nonce {
            return Err(FeedError::Nonce);
        }
        self.whole = false;
        // It was signed after it had been asked for, and waited for as long as it says; never later than now.
        let waited = Duration::from_millis(tail.waited).min(received.saturating_sub(question.sent));
        let proven = question.sent + waited;
        replica.hear_time(tail.now, received);
        if received.saturating_sub(self.swept) >= SWEEP {
            replica.sweep(tail.now);
            self.swept = received;
        }
        self.take_in(replica, &tail.entries, received)?;
        let (from, to) = (Place { epoch: tail.epoch, mark: tail.from }, Place { epoch: tail.epoch, mark: tail.to });
        let known = [self.at, self.boundary].contains(&Some(from));
        let whole = tail.head == tail.to.position;
        let before = tail.first_page.saturating_mul(PAGE);
        if known || before >= tail.from.position {
            self.arrive(to, tail.from);
            self.complete(whole, proven, replica);
        } else {
            let (from, to) = (tail.from, tail.to);
            let (epoch, next) = (tail.epoch, tail.first_page);
            self.history = Some(History { epoch, next, last: None, from, to, whole, proven });
        }
        let pause = tail.pause.map(Duration::from_millis);
        Ok(Heard { keys: tail.keys, pause, entries: tail.entries.len() })
    }

    pub(crate) fn hear_page(&mut self, answer: &str, received: Duration, replica: &Replica) -> Result<(), FeedError> {
        let Some(mut history) = self.history.take() else { return Ok(()) };
        let page = feed::page(answer, &self.issuer, &self.keys)?;
        let joins = history.last.is_none_or(|last| last == page.from);
        if page.epoch != history.epoch || page.from.position != history.next * PAGE || !joins {
            return Err(FeedError::Discontinuous);
        }
        self.take_in(replica, &page.entries, received)?;
        history.next = page.to.position / PAGE;
        history.last = Some(page.to);
        let end = Place { epoch: page.epoch, mark: page.to };
        match page.to.position.cmp(&history.from.position) {
            Ordering::Less => self.history = Some(history),
            Ordering::Equal if page.to != history.from => return Err(FeedError::Discontinuous),
            Ordering::Equal => {
                self.arrive(Place { epoch: page.epoch, mark: history.to }, history.from);
                self.complete(history.whole, history.proven, replica);
            }
            // The log has grown since the tail was signed: the next tail must join here.
            Ordering::Greater => self.arrive(end, page.to),
        }
        Ok(())
    }

    fn take_in(&self, replica: &Replica, items: &[Item], received: Duration) -> Result<(), FeedError> {
        let now = replica.issuer_now(received);
        replica
            .merge(items, now)
            .or_else(|_| {
                // Room may be made by what has expired since.
                replica.sweep(now);
                replica.merge(items, now)
            })
            .map_err(|_| {
                replica.refuse_full();
                FeedError::Full
            })
    }

    /// We are at `to`; `from` may be a whole page's end.
    fn arrive(&mut self, to: Place, from: Mark) {
        self.at = Some(to);
        self.again = false;
        for mark in [from, to.mark] {
            if mark.position.is_multiple_of(PAGE) {
                self.boundary = Some(Place { epoch: to.epoch, mark });
            }
        }
    }

    fn complete(&mut self, whole: bool, proven: Duration, replica: &Replica) {
        self.whole = whole;
        if whole {
            replica.prove(proven, self.max_staleness);
        }
    }
}

#[cfg(all(test, feature = "server"))]
mod store_tests;
#[cfg(test)]
mod tests;

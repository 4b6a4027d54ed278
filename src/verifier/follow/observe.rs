//! For somebody who wants to see what is taken in.

use tokio::sync::mpsc;

use super::{Driver, StepError};
use crate::{
    model::{
        JwkSet,
        feed::{Epoch, Item},
    },
    verifier::{
        feed,
        follower::{Follower, Next},
    },
};

/// Where an observer is told. The follower waits for it: who reads slowly makes it late, and fills no memory.
pub(crate) type Observer = mpsc::Sender<Observed>;

/// What the follower did.
#[derive(Debug)]
#[cfg_attr(not(feature = "server"), expect(dead_code, reason = "the command line alone looks inside"))]
pub(crate) enum Observed {
    /// It took entries in: a page of history, or a tail. A tail that is followed by pages comes after them in the log.
    Entries { epoch: Epoch, items: Vec<Item>, is_page: bool, then: Then },
    /// It did not get a good answer.
    Failed(Box<str>),
}

/// What there is to be read after that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// Pages of history.
    Pages,
    /// The rest of the tail.
    More,
    /// Nothing, for now.
    Nothing,
}

impl From<Next> for Then {
    fn from(next: Next) -> Self {
        match next {
            Next::Page { .. } => Self::Pages,
            Next::Tail { wait: false } => Self::More,
            Next::Tail { wait: true } => Self::Nothing,
        }
    }
}

impl Driver {
    /// `answer` was good, and is read once more: nobody else needs its entries as such.
    pub(super) async fn show_tail(&self, answer: &str, keys: &JwkSet, follower: &Follower) {
        let Some(observer) = &self.observer else { return };
        if let Ok(tail) = feed::tail(answer, &self.core.checker.policy.issuer, keys) {
            let (epoch, items) = (tail.epoch, tail.entries);
            // An observer that has gone wants to know nothing more.
            let _ =
                observer.send(Observed::Entries { epoch, items, is_page: false, then: follower.next().into() }).await;
        }
    }
    pub(super) async fn show_page(&self, answer: &str, keys: &JwkSet, follower: &Follower) {
        let Some(observer) = &self.observer else { return };
        if let Ok(page) = feed::page(answer, &self.core.checker.policy.issuer, keys) {
            let (epoch, items) = (page.epoch, page.entries);
            let _ =
                observer.send(Observed::Entries { epoch, items, is_page: true, then: follower.next().into() }).await;
        }
    }
    pub(super) async fn show_failure(&self, error: &StepError) {
        if let Some(observer) = &self.observer {
            let _ = observer.send(Observed::Failed(error.to_string().into())).await;
        }
    }
}

//! What clients asked, and what they were told: all that the checks go by. One monotonic clock for everything.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rescind::clock::{Clock, SystemClock};

/// What a revocation took back, from the moment on at which it was acknowledged.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// By which order, for whoever reads a failure.
    pub by: &'static str,
    pub session: String,
    /// Access tokens that must be refused.
    pub access: Vec<String>,
    /// The newest refresh token, if the session has ended, and whether its client is public.
    pub refresh: Option<(String, bool)>,
    pub acknowledged: Duration,
}

/// A session that was refused although nobody had asked for its end.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "shown as a whole by whoever fails")]
pub struct Refusal {
    pub session: String,
    /// When it was told that it is open.
    pub opened: Duration,
    pub refused: Duration,
    pub said: String,
}

/// A number that only rises.
#[derive(Default)]
pub struct Count(AtomicUsize);

impl Count {
    pub fn one(&self) {
        self.add(1);
    }
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    pub fn so_far(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often each thing was tried.
#[derive(Default)]
pub struct Counts {
    pub opened: Count,
    pub refreshed: Count,
    /// The same token twice at once.
    pub races: Count,
    /// Answers thrown away, and the token sent again.
    pub dropped: Count,
    /// Parents of the newest token, presented again by a late tab.
    pub late: Count,
    /// Orders to revoke that were acknowledged: each takes back one thing or several.
    pub revocations: Count,
    /// Answered 503, or not at all.
    pub later: Count,
    pub lost: Count,
    /// Good tokens that were shown to a verifier: accepted, and not told.
    pub accepted: Count,
    pub unavailable: Count,
}

#[derive(Default)]
struct State {
    revoked: Vec<Revoked>,
    /// Of each token that was presented, the first successor that was given.
    successors: HashMap<String, String>,
    /// Tokens with two successors: presented, and both.
    forks: Vec<[String; 3]>,
    refusals: Vec<Refusal>,
    /// Whatever must never be: said in words.
    wrongs: Vec<String>,
    /// How long after its acknowledgement each revocation was last seen not to hold.
    lags: Vec<Duration>,
}

#[derive(Default)]
pub struct History {
    pub clock: SystemClock,
    pub counts: Counts,
    state: Mutex<State>,
}

impl History {
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// This token was exchanged for that one.
    pub fn given(&self, presented: &str, successor: &str) {
        let mut state = self.state.lock().unwrap();
        let first = state.successors.entry(presented.into()).or_insert_with(|| successor.into()).clone();
        if first != successor {
            state.forks.push([presented.into(), first, successor.into()]);
        }
    }

    /// What was given before, so that a check can try both.
    pub fn forks(&self) -> Vec<[String; 3]> {
        self.state.lock().unwrap().forks.clone()
    }

    pub fn presented(&self) -> usize {
        self.state.lock().unwrap().successors.len()
    }

    pub fn revoked(&self, what: Revoked) {
        self.state.lock().unwrap().revoked.push(what);
    }

    /// Those from this one on.
    pub fn revocations(&self, from: usize) -> Vec<Revoked> {
        self.state.lock().unwrap().revoked[from..].to_vec()
    }

    pub fn refused(&self, refusal: Refusal) {
        self.state.lock().unwrap().refusals.push(refusal);
    }

    pub fn refusals(&self) -> Vec<Refusal> {
        self.state.lock().unwrap().refusals.clone()
    }

    pub fn wrong(&self, what: String) {
        self.state.lock().unwrap().wrongs.push(what);
    }

    pub fn wrongs(&self) -> Vec<String> {
        self.state.lock().unwrap().wrongs.clone()
    }

    pub fn lag(&self, lag: Duration) {
        self.state.lock().unwrap().lags.push(lag);
    }

    /// How many revocations were seen to hold at every verifier; half of them held after the first of these, and all after
    /// the second.
    pub fn lags(&self) -> (usize, Duration, Duration) {
        let mut lags = self.state.lock().unwrap().lags.clone();
        lags.sort_unstable();
        let at = |n: usize| lags.get(n).copied().unwrap_or_default();
        (lags.len(), at(lags.len() / 2), at(lags.len().saturating_sub(1)))
    }
}

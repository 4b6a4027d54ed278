//! What a host may know of its verifier.

use std::time::Duration;

use super::{Refused, Unavailable};
use crate::model::{Kid, report::Reported};

/// How a verifier is. For people and probes: verification does not ask it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it can tell good tokens from bad ones; else why not.
    pub available: Result<(), Unavailable>,
    /// For how much longer it can without hearing from the feed.
    pub fresh_for: Option<Duration>,
    /// Which life of the issuer's log it follows.
    pub epoch: Option<Box<str>>,
    /// Up to where it has read that log.
    pub position: Option<u64>,
    /// How many entries it holds.
    pub entries: usize,
    /// The keys that it knows.
    pub keys: Vec<Kid>,
    /// Whether these are the issuer's newest, in the feed's words.
    pub keys_current: bool,
    /// What went wrong last. Empty again once the feed has answered.
    pub last_error: Option<Box<str>>,
    /// What the issuer said to its last report ([`Builder::report_as`](super::Builder::report_as)). None: it makes none, or
    /// has not been answered yet.
    pub reported: Option<Reported>,
}

/// Told what a verifier does. Every method has a default that does nothing; none may block.
pub trait Metrics: Send + Sync + 'static {
    /// A token was judged.
    fn verified(&self, outcome: Result<(), &Refused>) {
        let _ = outcome;
    }
    /// The feed has answered, with so many entries.
    fn feed_heard(&self, entries: usize) {
        let _ = entries;
    }
    /// The feed has not answered, or not well.
    fn feed_failed(&self) {}
    /// The issuer's keys were fetched, or could not be.
    fn keys_fetched(&self, ok: bool) {
        let _ = ok;
    }
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NoMetrics;

impl Metrics for NoMetrics {}

//! How to open the store.

use std::{path::PathBuf, time::Duration};

use crate::{model::denial::Retention, store::ASSERTIONS};

/// How to open the store.
#[derive(Clone, Debug)]
pub struct Options {
    /// For how long things must be remembered.
    pub retention: Retention,
    /// What the names of all keys begin with.
    pub prefix: Box<str>,
    /// By how much a node's clock may differ from the store's.
    pub skew: Duration,
    /// By how much a cut-off reaches beyond the instant at which it is made: no stamp that another node has given before
    /// may lie later, and what is stamped afterwards is stamped later.
    pub margin: Duration,
    /// How many replicas must have a change before it is acknowledged.
    pub replicas: u16,
    /// Where this node's journal lies. None: in memory.
    pub journal: Option<PathBuf>,
    /// Audit records kept.
    pub audit_cap: u64,
    /// How old they may become.
    pub audit_age: Option<Duration>,
    /// Client assertions that are remembered at once.
    pub assertions: u64,
    /// How long a request to the store may take, all in all.
    pub deadline: Duration,
    /// Requests to the store at once; beyond that one is answered 503 at once. An eighth is for revocations and the like.
    pub in_flight: u32,
    /// Connections to each server that requests share.
    pub connections: u16,
    /// Connections to each server for changes that wait for replicas, one change at a time on each.
    pub waiting: u16,
}

impl Options {
    /// The defaults for this retention.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            prefix: "rescind:".into(),
            skew: Duration::from_secs(1),
            margin: Duration::from_millis(250),
            replicas: 0,
            journal: None,
            audit_cap: 1_000_000,
            audit_age: None,
            assertions: ASSERTIONS,
            deadline: Duration::from_secs(1),
            in_flight: 1024,
            connections: 2,
            waiting: 16,
        }
    }
}

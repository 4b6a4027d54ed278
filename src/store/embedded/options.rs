//! How to open the store, and why it does not open.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use super::{OnSyncFailure, tables::SCHEMA};
use crate::{
    model::{Installation, denial::Retention},
    store::ASSERTIONS,
};

/// What an operator says about a store that came back older, or empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Acceptance {
    /// Nothing: answer 503 until somebody decides.
    #[default]
    Wait,
    /// Accept the loss. Every session opened before now ends, because revocations and spent tokens that the store no
    /// longer knows could come alive otherwise.
    EndSessions,
    /// Accept the loss and let sessions go on. Sessions that were revoked after the copy was made live again, and a
    /// token spent after it is good for one more exchange.
    DangerouslyKeepSessions,
}

/// How to open the store.
#[derive(Clone)]
pub struct Options {
    /// For how long things must be remembered.
    pub retention: Retention,
    /// Where the witness lies; none for a store that nobody expects back.
    pub witness: Option<PathBuf>,
    /// What to do if the witness contradicts the store.
    pub acceptance: Acceptance,
    /// Whose keys lie beside it. None: nobody asks, as for a store that is looked at by itself.
    pub installation: Option<Installation>,
    /// Whether keys that did not make the store may take it over. Its sessions end, and what was changed of clients at
    /// run time is void: nobody can read either.
    pub other_keys: bool,
    /// Whose word `acceptance` is, where no client of the service gives it: it goes into the audit log.
    pub accepted_by: Option<Box<str>>,
    /// Whether `acceptance` counts although nothing contradicts the store: an operator knows that it was restored.
    pub declared: bool,
    /// Bytes of pages kept in memory.
    pub cache: usize,
    /// Audit records kept.
    pub audit_cap: u64,
    /// How old they may become; up to an hour more until they are dropped.
    pub audit_age: Option<Duration>,
    /// Client assertions that are remembered at once, those of all clients together.
    pub assertions: u64,
    /// Reopening after a crash in constant time, at the price of dearer commits.
    pub quick_repair: bool,
    /// What to do when a sync fails: end the process, unless a test wants to look.
    pub on_sync_failure: OnSyncFailure,
}

impl Options {
    /// The defaults for this retention.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            witness: None,
            acceptance: Acceptance::Wait,
            accepted_by: None,
            installation: None,
            other_keys: false,
            declared: false,
            cache: 128 << 20,
            audit_cap: 1_000_000,
            audit_age: None,
            assertions: ASSERTIONS,
            quick_repair: true,
            on_sync_failure: Arc::new(|error| {
                tracing::error!(%error, "fsync failed: nobody can know what is durable; the process ends");
                std::process::abort();
            }),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("retention", &self.retention)
            .field("witness", &self.witness)
            .finish_non_exhaustive()
    }
}

/// Why the store does not open. Each says how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{path}: another process has this store open; stop that one first, one process serves an embedded store")]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// A store of another version.
    #[error("the store has schema {found}, this program knows {SCHEMA}; use the version that wrote it, or a newer one")]
    Schema {
        /// What was found.
        found: u32,
    },
    /// The keys beside it are not those that it was made with. Nothing was written.
    #[error("the store was made with the keys of installation {store}, and the keys beside it are those of {keys}")]
    OtherKeys {
        /// Whose keys made it.
        store: Installation,
        /// Whose lie beside it.
        keys: Installation,
    },
    /// No copy could be kept of a store that is to be brought to a newer layout. It is as it was.
    #[error(
        "{path}: no copy of the store could be kept before it is brought to schema {SCHEMA}: {source}; make room and start again"
    )]
    NoCopy {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not read as a store.
    #[error("the store does not open: {0}")]
    Damaged(String),
}

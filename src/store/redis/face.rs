//! What the service asks of the store beside the traits of stores.

use std::collections::BTreeMap;

use super::{RedisStore, link::Severity};
use crate::{
    model::family::Standing,
    store::{FamilyStore, Report, StoreError},
};

/// What an operator must know of it while new sessions can be opened.
const WIPED: &str = "the store came back empty: what was revoked is refused, and what moved in the last minutes is there again; a session \
                     that nobody remembers is answered 503 until an operator says that it is gone: rescind store restored";

impl RedisStore {
    /// Why it cannot serve; else what an operator may want to mend, warnings of the link's check among it.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        let (refused, warned): (Vec<_>, Vec<_>) =
            self.core.link.findings().into_iter().partition(|finding| finding.severity == Severity::Refuse);
        match (refused.first(), self.core.life.why()) {
            (Some(finding), _) => Err(finding.to_string()),
            (None, Some(why)) => Err(why),
            (None, None) => {
                let wiped = (self.standing() == Standing::Wiped).then(|| format!("warning: {WIPED}"));
                Ok(wiped.into_iter().chain(warned.iter().map(|finding| format!("warning: {finding}"))).collect())
            }
        }
    }

    /// How many requests of this node wait.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        0
    }

    /// This store, as opposed to any other.
    #[must_use]
    pub fn id(&self) -> u128 {
        self.core.life.id()
    }

    /// Which life of the denylist's log this is.
    #[must_use]
    pub fn epoch(&self) -> u128 {
        self.core.mirror.place().ok().flatten().map_or(0, |place| u128::from_be_bytes(place.epoch.0))
    }

    /// The memory that the servers use. None: they do not tell.
    pub async fn used_memory(&self) -> Option<u64> {
        let mut info = ::redis::cmd("INFO");
        info.arg("memory");
        // Of the server that has the hub; those of a cluster are much alike.
        let answer = self.core.link.command(&self.core.layout.hub("head"), info).await.ok()?;
        let text = match &answer {
            ::redis::Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            ::redis::Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        text.lines().find_map(|line| line.strip_prefix("used_memory:"))?.trim().parse().ok()
    }

    /// What can be said of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self) -> Result<Report, StoreError> {
        Ok(Report {
            standing: self.standing(),
            schema: 1,
            incarnation: self.core.life.moment(self.core.clock.now()).incarnation,
            bytes: self.used_memory().await,
            rows: BTreeMap::new(),
            queue: self.queue_depth(),
            last_backup: None,
            why: self.ready().await.err(),
            nodes: self.life().nodes,
        })
    }
}

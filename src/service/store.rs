//! The store as its operators see it: backed up, looked at, and declared when it has come back.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Context, Error, Permission, Service};
use crate::{
    model::{
        audit::{Draft, Event, Outcome},
        family::Standing,
        reign::Refused,
    },
    store::{
        AuditStore, FamilyStore, Report, StoreError,
        embedded::{Acceptance, EmbeddedStore, Head, Snapshot},
        redis::WordError,
    },
};

/// A backup that is being sent. Only one is at a time: while it lasts, the store keeps what it shows.
#[derive(Debug)]
pub struct Backup {
    snapshot: Snapshot,
    store: Arc<EmbeddedStore>,
    draft: Draft,
    _place: OwnedSemaphorePermit,
}

impl Backup {
    /// What it says of itself.
    #[must_use]
    pub fn head(&self) -> &Head {
        self.snapshot.head()
    }

    /// The next piece, and what is left; no piece after the last. Reads the disk, so not on a task of the runtime's.
    ///
    /// # Errors
    /// What was sent so far is no backup.
    pub async fn next_piece(mut self) -> Result<(Option<Vec<u8>>, Self), Error> {
        let read = tokio::task::spawn_blocking(move || self.snapshot.next_piece().map(|piece| (piece, self)));
        let broke_off = |e: tokio::task::JoinError| StoreError::Failed(e.to_string());
        Ok(read.await.map_err(broke_off)??)
    }

    /// Its last piece has been sent.
    pub async fn sent(self) {
        let Self { snapshot, store, draft, .. } = self;
        let Some(summary) = snapshot.summary().cloned() else { return };
        // What it shows may go now; the record is another transaction's.
        drop(snapshot);
        tracing::info!(rows = summary.rows, bytes = summary.bytes, sha256 = summary.sha256, "a backup was sent");
        if let Err(error) = store.backed_up(summary, draft).await {
            tracing::error!(%error, "a backup was sent and is not in the audit log");
        }
    }
}

impl Service {
    /// A consistent copy of the store while it serves. That it was begun is in the audit log before its first byte.
    ///
    /// # Errors
    /// The caller may not; 409 while another is being sent, or where the store is not ours to copy; 503.
    pub async fn backup(&self, ctx: &Context) -> Result<Backup, Error> {
        ctx.require(Permission::Backup)?;
        let Some(store) = self.store.embedded() else {
            return Err(Error::Conflict {
                code: "backup_elsewhere",
                hint:
                    "the store is a Redis, which keeps copies of itself: use its own persistence, see docs/redis.md; \
                       the keys' directory is a backup of its own"
                        .into(),
                earliest: None,
            });
        };
        let place = self.backups.clone().try_acquire_owned().map_err(|_| Error::Conflict {
            code: "backup_running",
            hint: "a backup is being sent; fetch yours when it has ended".into(),
            earliest: None,
        })?;
        self.store.record(Event::BackupStarted, Outcome::Done, None, ctx.draft()).await?;
        let snapshot = store.snapshot()?;
        Ok(Backup { snapshot, store: store.clone(), draft: ctx.draft(), _place: place })
    }

    /// What can be said of the store, whether or not it is whole.
    ///
    /// # Errors
    /// The caller may not; 503.
    pub async fn store_report(&self, ctx: &Context) -> Result<Report, Error> {
        ctx.require(Permission::StoreRead)?;
        Ok(self.store.report().await?)
    }

    /// An operator's word that the store was restored. It is another store from here on.
    ///
    /// # Errors
    /// The caller may not; 409 if nothing contradicts the store, unless `although_whole`; 503.
    pub async fn declare_restored(
        &self,
        ctx: &Context,
        keep_sessions: bool,
        although_whole: bool,
    ) -> Result<Report, Error> {
        ctx.require(Permission::StoreRestore)?;
        if self.store.standing() == Standing::Whole && !although_whole {
            return Err(Error::Conflict {
                code: "store_whole",
                hint:
                    "nothing contradicts the store, so there is nothing to declare; if you know that it was put back \
                       all the same (with its witness), say `although_whole`"
                        .into(),
                earliest: None,
            });
        }
        let acceptance = if keep_sessions { Acceptance::DangerouslyKeepSessions } else { Acceptance::EndSessions };
        self.store.declare(acceptance, self.random.clone(), ctx.draft()).await?;
        Ok(self.store.report().await?)
    }

    /// An operator's word that a node of a shared store is gone for ever: nobody waits any more for what it alone knew.
    ///
    /// # Errors
    /// The caller may not; 404: no such node; 409: it takes part or may still serve, or the store is not shared; 503.
    pub async fn waive_node(&self, ctx: &Context, node: &str) -> Result<Report, Error> {
        ctx.require(Permission::StoreRestore)?;
        let conflict = |code, hint: String| Error::Conflict { code, hint, earliest: None };
        let Some(store) = self.store.shared() else {
            return Err(conflict(
                "store_not_shared",
                "one process serves an embedded store: there are no others".into(),
            ));
        };
        store.waive(node, ctx.draft()).await.map_err(|error| match error {
            WordError::Refused(Refused::NoSuchNode) => {
                Error::NotFound("no such node takes part in this store; `rescind store show` names those that do")
            }
            WordError::Refused(refused @ Refused::Alive) => conflict("node_alive", refused.to_string()),
            WordError::Refused(refused @ Refused::Early) => conflict("node_may_serve", refused.to_string()),
            WordError::Refused(refused) => conflict("store_empty", refused.to_string()),
            WordError::NoId(_) => Error::request("node", error.to_string()),
            WordError::Store(error) => error.into(),
        })?;
        Ok(self.store.report().await?)
    }
}

//! What nodes share beside sessions and denials: the keys, and the book of clients. Each node looks twice a second what
//! the others have changed.

use std::{fmt, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::Service;
use crate::{
    families::RefreshError,
    keyring::{Kept, SharedKeys, Unshared},
    model::{audit::Draft, family::Doubt},
    store::{StoreError, redis::RedisStore},
};

/// How often it is looked for the sake of a key that nobody may have.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// The keys as they lie in a Redis. Asked by threads that may block.
pub struct StoredKeys {
    store: Arc<RedisStore>,
    runtime: Handle,
}

impl StoredKeys {
    /// In this store, which is asked by that runtime.
    #[must_use]
    pub const fn new(store: Arc<RedisStore>, runtime: Handle) -> Self {
        Self { store, runtime }
    }
}

impl fmt::Debug for StoredKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredKeys")
    }
}

impl SharedKeys for StoredKeys {
    fn read(&self) -> Result<Kept, Unshared> {
        let (sealed, current) = self.runtime.block_on(self.store.shared_keys()).map_err(unshared)?;
        Ok(Kept { sealed, current })
    }
    fn replace(&self, seen: Option<&[u8]>, sealed: &[u8], again: bool) -> Result<bool, Unshared> {
        self.runtime.block_on(self.store.replace_shared_keys(seen, sealed, again)).map_err(unshared)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a mapping of errors")]
fn unshared(error: StoreError) -> Unshared {
    Unshared(error.to_string())
}

impl Service {
    /// Takes up what other nodes have changed. Nothing to do for a node by itself.
    pub(crate) async fn follow_others(self: &Arc<Self>) {
        if self.store.shared().is_none() {
            return;
        }
        // The keys first: the book may be sealed under a new one.
        self.hear_of_keys().await;
        self.hear_of_clients().await;
    }

    /// Whether the keys are other ones now.
    async fn hear_of_keys(&self) -> bool {
        let before = self.keyring.following().map(|now| now.version);
        let keyring = self.keyring.clone();
        match tokio::task::spawn_blocking(move || keyring.take_up()).await {
            Ok(Ok(changes)) => {
                for change in changes {
                    self.tell_of_keys(&change, ", which was not known to have been made", Draft::default()).await;
                }
            }
            // Said when it begins to matter, by what stands against signing; here twice a second.
            Ok(Err(error)) => tracing::debug!(%error, "the shared keys could not be confirmed; tried again"),
            Err(error) => tracing::error!(%error, "the shared keys could not be looked at"),
        }
        self.follow_keys();
        self.keyring.following().map(|now| now.version) != before
    }

    /// Whether an exchange failed for want of a key that another node may have made a moment ago, and there is one now.
    pub(super) async fn has_heard_of_key<T: Sync>(&self, outcome: &Result<T, RefreshError>) -> bool {
        let wanting = matches!(
            outcome,
            Err(RefreshError::Doubt(Doubt::KeyMissing) | RefreshError::Store(StoreError::Damaged(_)))
        );
        let Some(before) = self.keyring.following().filter(|_| wanting) else { return false };
        // Anyone can ask with a key that nobody has: not each of them is worth a look, and all who wait share one.
        let Some(rest) = before.confirmed.and_then(|ago| LOOKS_EVERY.checked_sub(ago)) else {
            return before.confirmed.is_some() && self.hear_of_keys().await;
        };
        tokio::time::sleep(rest).await;
        let now = self.keyring.following();
        let looked = now.as_ref().and_then(|now| now.confirmed).is_some_and(|ago| ago < rest);
        if looked { now.map(|now| now.version) != Some(before.version) } else { self.hear_of_keys().await }
    }
}

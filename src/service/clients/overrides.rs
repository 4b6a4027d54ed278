//! What has been changed about clients at run time: one book, sealed as a whole (G7). Who can write the store can
//! neither add a secret, nor enable a client, nor take one page out of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MAX_PROOFS, SecretHash};
use crate::{
    clock::Random,
    keyring::{SealError, Sealer},
    model::{ClientId, Timestamp},
};

/// Clients that the book holds at most.
pub(crate) const MAX_OVERRIDES: usize = 1000;
/// What the sealed book belongs to; it opens as nothing else.
const BELONGS_TO: &[u8] = b"rescind/clients/1";

/// Since when a client is disabled, and by whose word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Disabled {
    pub(crate) since: Timestamp,
    pub(crate) by: ClientId,
    pub(crate) reason: Option<Box<str>>,
}

/// From when on a secret is dropped that is dropped at once. No clock that is set back shows an instant before it.
pub(crate) const AT_ONCE: Timestamp = Timestamp::from_millis(0);

/// A secret that is no longer good, or will not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) hash: SecretHash,
    pub(crate) from: Timestamp,
}

/// What has been changed about one client.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Override {
    pub(crate) disabled: Option<Disabled>,
    /// Secrets beside those of the configuration, the newest last.
    pub(crate) secrets: Vec<SecretHash>,
    /// Of both.
    pub(crate) dropped: Vec<Dropped>,
}

impl Override {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The secret ends then, or earlier if it already does.
    pub(crate) fn drop_secret(&mut self, hash: SecretHash, from: Timestamp) {
        match self.dropped.iter_mut().find(|d| d.hash == hash) {
            Some(dropped) => dropped.from = dropped.from.min(from),
            None => self.dropped.push(Dropped { hash, from }),
        }
    }

    /// Forgets secrets of its own that have ended. Those of the configuration stay dropped for as long as it names
    /// them, and the last of all for good: see [`Override::had_secret`].
    pub(crate) fn tidy(&mut self, configured: &[SecretHash], now: Timestamp) {
        for ended in self.dropped.iter_mut().filter(|d| d.from <= now) {
            ended.from = AT_ONCE;
        }
        let dropped = &self.dropped;
        self.secrets.retain(|hash| dropped.iter().all(|d| d.hash != *hash || d.from > now));
        let kept = &self.secrets;
        let last = self.dropped.last().copied().filter(|_| kept.is_empty() && configured.is_empty());
        self.dropped.retain(|d| kept.contains(&d.hash) || configured.contains(&d.hash));
        self.dropped.extend(last);
        debug_assert!(self.secrets.len() <= MAX_PROOFS, "a rotation is refused while two are live");
    }

    /// Whether it has had one, and so does not become public if its configuration should lose its keys.
    pub(crate) fn had_secret(&self) -> bool {
        !self.secrets.is_empty() || !self.dropped.is_empty()
    }
}

/// The book.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Overrides {
    /// Counts its changes: the greater one is the newer one.
    pub(crate) version: u64,
    clients: BTreeMap<ClientId, Override>,
}

/// Why a book does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("sealed by us, and of no shape that we know")]
    Shape,
}

impl Overrides {
    pub(crate) fn of(&self, id: &ClientId) -> Option<&Override> {
        self.clients.get(id)
    }

    /// The next book, in which nothing is different.
    pub(crate) fn next(&self) -> Self {
        Self { version: self.version + 1, clients: self.clients.clone() }
    }

    /// The next book, in which this client stands so. `None`: it would be too thick.
    pub(crate) fn amended(&self, id: &ClientId, change: Override) -> Option<Self> {
        let mut next = self.next();
        if change.is_nothing() {
            next.clients.remove(id);
        } else {
            next.clients.insert(id.clone(), change);
        }
        (next.clients.len() <= MAX_OVERRIDES).then_some(next)
    }

    pub(crate) fn seal(&self, sealer: &Sealer, random: &dyn Random) -> Vec<u8> {
        let plain = postcard::to_stdvec(self).expect("the book has no unsized maps, so it serialises");
        sealer.seal(BELONGS_TO, &plain, random)
    }

    pub(crate) fn open(sealer: &Sealer, sealed: &[u8]) -> Result<Self, BookError> {
        let plain = sealer.open(BELONGS_TO, sealed)?;
        postcard::from_bytes(&plain).map_err(|_| BookError::Shape)
    }
}

//! What is kept about clients: the book of what has been changed at run time, and which assertions have been used.

use std::{future::Future, time::Duration};

use sha2::{Digest, Sha256};

use super::{Denial, StoreError};
use crate::model::{
    ClientId, Timestamp,
    audit::{Draft, Event},
    denial::Entry,
};

/// The longest that an assertion is asked to be remembered. After a loss that was accepted, nothing is known of any
/// assertion for that long.
pub const ASSERTION_LIFE: Duration = Duration::from_secs(400);
/// Assertions that are remembered at once, unless the store is told another number. Forgetting one would let it come
/// again, so there is an end to taking them; and no client may have more of them than are still free. So one alone gets
/// half, n that take what they can get an n+1th each, and as much is left for whoever comes next.
pub const ASSERTIONS: u64 = 400_000;

/// Asks for a new book.
pub struct BookChange {
    /// The book that this one was made from, as the store had it.
    pub seen: Option<Vec<u8>>,
    /// The new one, sealed.
    pub sealed: Vec<u8>,
    /// What is denied with it, in the same step.
    pub denial: Option<Denial>,
    /// For the audit log.
    pub event: Event,
    /// What exactly, and why.
    pub cause: Option<Box<str>>,
    /// For the audit log.
    pub audit: Draft,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BookChanged {
    /// It is in place, and this is denied.
    Done(Option<Box<Entry>>),
    /// Somebody else changed it since it was read.
    Stale,
}

/// An assertion by its client and its `jti`: no more of either than tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssertionId {
    /// The first bytes of the SHA-256 of the client's id.
    pub client: [u8; 8],
    /// Of its `jti`. Whoever found two that share them, by trying, could use one of its own only once.
    pub jti: [u8; 8],
}

impl AssertionId {
    /// The one that this client calls so.
    #[must_use]
    pub fn of(client: &ClientId, jti: &str) -> Self {
        let first = |text: &str| {
            let digest: [u8; 32] = Sha256::digest(text).into();
            *digest.first_chunk().expect("a digest has 32 bytes")
        };
        Self { client: first(client.as_str()), jti: first(jti) }
    }
}

/// Whether an assertion is good for once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionUse {
    /// It has not been seen before, and from now on it has.
    First,
    /// It has been used.
    Again,
    /// Nobody can tell: the clock was set back, or the store has lost what it knew.
    Unknown,
    /// This client has as many as are still free.
    Full,
}

/// What is kept about clients.
pub trait ClientStore: Send + Sync + 'static {
    /// The book as it was written last. Read from the last commit, whatever the store's standing.
    ///
    /// # Errors
    /// It cannot be read.
    fn client_book(&self) -> Result<Option<Vec<u8>>, StoreError>;
    /// Replaces the book if it still is `seen`, and denies what goes with it, in one durable step.
    fn amend_book(&self, change: BookChange) -> impl Future<Output = Result<BookChanged, StoreError>> + Send;
    /// Whether an assertion is known to have been used. Read from the last commit: one that is not may be all the same.
    ///
    /// # Errors
    /// It cannot be read, or the store is not whole.
    fn assertion_used(&self, id: AssertionId) -> Result<bool, StoreError>;
    /// Uses an assertion up: durably, before anyone is told that it was the first time. `until`: when it is of no more
    /// use to anyone.
    fn use_assertion(
        &self,
        id: AssertionId,
        until: Timestamp,
    ) -> impl Future<Output = Result<AssertionUse, StoreError>> + Send;
}

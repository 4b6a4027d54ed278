//! What is kept about clients: the book of what has been changed at run time, and which assertions have been used.

use std::{future::Future, time::Duration};

use super::{Denial, StoreError};
use crate::model::{
    Timestamp,
    audit::{Draft, Event},
    denial::Entry,
};

/// The longest that an assertion is asked to be remembered. After a loss that was accepted, nothing is known of any
/// assertion for that long.
pub const ASSERTION_LIFE: Duration = Duration::from_secs(400);
/// Assertions that are remembered at once. Beyond it no more are taken: forgetting one would let it come again.
pub const ASSERTIONS: u64 = 200_000;

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

/// Whether an assertion is good for once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionUse {
    /// It has not been seen before, and from now on it has.
    First,
    /// It has been used.
    Again,
    /// Nobody can tell: the clock was set back, or the store has lost what it knew.
    Unknown,
    /// No more can be remembered.
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
    /// Uses an assertion up: durably, before anyone is told that it was the first time. `until`: when it is of no more
    /// use to anyone.
    fn use_assertion(
        &self,
        id: [u8; 16],
        until: Timestamp,
    ) -> impl Future<Output = Result<AssertionUse, StoreError>> + Send;
}

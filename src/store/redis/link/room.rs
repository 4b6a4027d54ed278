//! How much may be on its way at once. Beyond that one is told so at once, before memory grows.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Places for requests.
pub(super) struct Room {
    all: Semaphore,
    /// For what must not wait behind the rest.
    reserved: Semaphore,
}

impl Room {
    /// An eighth of the places is reserved.
    pub(super) fn new(places: u32) -> Self {
        let places = places.max(2) as usize;
        let reserved = (places / 8).max(1);
        Self { all: Semaphore::new(places - reserved), reserved: Semaphore::new(reserved) }
    }

    pub(super) fn enter(&self, urgent: bool) -> Option<SemaphorePermit<'_>> {
        self.all.try_acquire().or_else(|full| if urgent { self.reserved.try_acquire() } else { Err(full) }).ok()
    }
}

//! Whether the store is the one it was, and whether this node may speak for it.

use crate::{
    model::{
        Timestamp,
        family::{Moment, Served, Standing},
    },
    store::StoreError,
};

/// PROVISIONAL.
pub(super) struct Life {
    mark: Vec<u8>,
}

impl Life {
    pub(super) fn provisional() -> Self {
        Self { mark: b"life".to_vec() }
    }

    /// What every bucket's marker must be for a change to be made in it.
    pub(super) fn mark(&self) -> &[u8] {
        &self.mark
    }

    pub(super) fn standing(&self) -> Standing {
        Standing::Whole
    }

    /// The instant of a step that begins now.
    pub(super) fn moment(&self, now: Timestamp) -> Moment {
        Moment { now, served: Served(now.millis()), incarnation: 0, restored: 0 }
    }

    /// Asked after every change, before anyone is told that it was made: whether the server that made it was the store
    /// at that instant.
    ///
    /// # Errors
    /// Nobody can tell.
    pub(super) fn current(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

//! Whether the store is the one it was, and whether this node may speak for it.
//!
//! A step begins with [`Life::begin`], is decided and written under the [`Began`] that it gives, and asks
//! [`Life::current`] after all of it is durable, here and in the store, and before anyone is told:
//!
//! ```text
//! let began = core.life.begin(core.clock.now())?;          // 503 unless this node holds a lease
//! ... Commit::new(..).life(meta, began.mark()) ...          // the hub too: its marker is in layout.hub("meta")
//! ... journal ...
//! core.life.current(&began)?;                               // 503 if the lease ran out, or is another's by now
//! ```
//!
//! It must be the same `Began`: a lease that was granted after the change may be one of another server, which has
//! never seen it.

use crate::{
    model::{
        Timestamp,
        family::{Moment, Served, Standing},
    },
    store::StoreError,
};

/// PROVISIONAL.
pub(super) struct Life {
    mark: [u8; 28],
}

/// Under what a step began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    mark: [u8; 28],
    moment: Moment,
    standing: Standing,
}

impl Began {
    /// What every bucket's marker must be for a change to be made in it.
    pub(super) fn mark(&self) -> &[u8] {
        &self.mark
    }

    /// The instant of the step.
    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    /// For the rule: `Whole` or `Wiped`.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }
}

impl Life {
    pub(super) fn provisional() -> Self {
        Self { mark: [0; 28] }
    }

    /// A step begins, at this instant of the store's time.
    ///
    /// # Errors
    /// This node may not speak for the store now.
    pub(super) fn begin(&self, now: Timestamp) -> Result<Began, StoreError> {
        Ok(Began { mark: self.mark, moment: self.moment(now), standing: self.standing() })
    }

    /// Whether the store is the one it was, as far as this node can tell now.
    pub(super) fn standing(&self) -> Standing {
        Standing::Whole
    }

    /// The store's time, for what needs no step.
    pub(super) fn moment(&self, now: Timestamp) -> Moment {
        Moment { now, served: Served(now.millis()), incarnation: 0, restored: 0 }
    }

    /// Asked after every change, before anyone is told that it was made: whether the server that made it was the store
    /// at that instant.
    ///
    /// # Errors
    /// Nobody can tell.
    pub(super) fn current(&self, began: &Began) -> Result<(), StoreError> {
        let _ = began;
        Ok(())
    }
}

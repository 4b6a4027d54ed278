//! Sessions that came from an embedded store. Each lies with its subject under an id that says so; the id that it had
//! before is asked for only where no session has it, and leads there for as long as the session can live.

use super::{Core, layout::Bucket, life::Began};
use crate::{
    model::{SessionId, denial::LEEWAY_AND_MARGIN, family::Generation},
    store::{Family, StoreError},
};

/// Where a session went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lead {
    /// The id that it has here.
    pub(super) id: SessionId,
    /// Its newest generation when it came.
    pub(super) head: Generation,
}

impl Lead {
    /// For a session as it came: its generation, until when it can live at most in seconds (where the sweep looks for it),
    /// and its bucket.
    pub(super) fn row(family: &Family) -> [u8; 10] {
        let over = family.lineage.absolute_until.plus(LEEWAY_AND_MARGIN).seconds().saturating_add(1);
        let mut row = [0; 10];
        row[..4].copy_from_slice(&family.lineage.head.0.to_be_bytes());
        row[4..8].copy_from_slice(&u32::try_from(over).unwrap_or(u32::MAX).to_be_bytes());
        row[8..].copy_from_slice(&Bucket::of_session(family.id).0.to_be_bytes());
        row
    }

    fn read(was: SessionId, row: &[u8]) -> Option<Self> {
        let [h0, h1, h2, h3, _, _, _, _, b0, b1] = *row else { return None };
        let bucket = Bucket::numbered(u16::from_be_bytes([b0, b1]))?;
        Some(Self { id: bucket.adopt(was), head: Generation(u32::from_be_bytes([h0, h1, h2, h3])) })
    }
}

impl Core {
    /// Where the session went that had this id in another store. To be asked for one that nothing is known of.
    pub(super) async fn lead(&self, began: Began, was: SessionId) -> Result<Option<Lead>, StoreError> {
        let bucket = Bucket::of_session(was);
        let look = self.look(bucket).hget(self.layout.moved(bucket), was.as_bytes());
        let row = self.seen(began, look).await?.value()?;
        row.map(|row| Lead::read(was, &row).ok_or(StoreError::Damaged("moved"))).transpose()
    }
}

//! The sessions of an embedded store, as they will be here.

use super::{
    Rename,
    mover::{Change, change},
};
use crate::{
    model::{SessionId, Timestamp},
    store::{
        Family, StoreError,
        embedded::{Kept, Leaving, family_due},
        redis::{
            layout::{Bucket, Layout},
            moved::Lead,
            record::Record,
        },
    },
};

/// Sessions that are read and written together: so many that a bucket gets several of them in one change.
const SESSIONS: usize = 8192;

/// A session as it will be here.
pub(super) struct Arrival {
    pub(super) was: SessionId,
    pub(super) record: Record,
    pub(super) open: bool,
}

/// The sessions that go on, and those that have ended whose tokens may still come: page by page, subject by subject.
pub(super) struct Arrivals<'a> {
    from: &'a Leaving,
    rename: &'a Rename<'a>,
    now: Timestamp,
    after: Option<[u8; 32]>,
    /// How many were of no more use.
    pub(super) over: u64,
}

impl<'a> Arrivals<'a> {
    pub(super) fn of(from: &'a Leaving, rename: &'a Rename<'a>, now: Timestamp) -> Self {
        Self { from, rename, now, after: None, over: 0 }
    }

    /// The next ones; `None` at the end.
    pub(super) fn page(&mut self) -> Result<Option<Vec<Arrival>>, StoreError> {
        let page = self.from.sessions(self.after, SESSIONS)?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = Some(last.key);
        let mut arrivals = Vec::with_capacity(page.len());
        for Kept { family, open, .. } in page {
            let Some(family) = family else { continue };
            let was = family.id;
            let renamed = match family_due(&family) <= self.now {
                true => Ok(None),
                false => {
                    let id = Bucket::of_subject(family.subject).adopt(was);
                    (self.rename)(family, id)
                }
            };
            match renamed {
                Ok(Some((family, client))) => {
                    arrivals.push(Arrival { was, record: Record { version: 0, client, family }, open });
                }
                Ok(None) => self.over += 1,
                // One that cannot be read must not hold up all others: nobody could refresh it there either.
                Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(arrivals))
    }
}

impl Arrival {
    pub(super) fn record_in(&self, layout: &Layout) -> Change {
        let Family { id, subject, .. } = self.record.family;
        let (key, row) = (layout.families(Bucket::of_subject(subject)), self.record.encode());
        change(move |commit| commit.field_is(key.clone(), id.as_bytes(), None).hset(key, id.as_bytes(), &row))
    }

    /// The id that it had leads there.
    pub(super) fn leads_there(&self, layout: &Layout) -> Change {
        let (key, was) = (layout.moved(Bucket::of_session(self.was)), self.was);
        let row = Lead::row(&self.record.family);
        change(move |commit| commit.hset(key, was.as_bytes(), &row))
    }
}

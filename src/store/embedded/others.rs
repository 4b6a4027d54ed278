//! Closing all of a subject's families but one.

use redb::ReadableTable;

use super::{
    tables::{Step, failed},
    verbs::keys_of,
};
use crate::{
    model::{
        SessionId,
        denial::{LEEWAY_AND_MARGIN, Retention},
        family::Closure,
    },
    store::{ClosedOthers, Others, StoreError},
};

impl Step<'_> {
    /// See [`crate::store::FamilyStore::close_others`].
    pub(super) fn close_others(&mut self, others: Others, retention: Retention) -> Result<ClosedOthers, StoreError> {
        let (ids, until) = self.others(&others)?;
        let is_more = ids.len() == others.limit && ids.last() != until.as_ref();
        let next = ids.last().copied().filter(|_| is_more);
        let mut done = ClosedOthers { next, until, ..ClosedOthers::default() };
        for id in ids.into_iter().filter(|id| *id != others.keep) {
            if self.is_over(id)? {
                continue;
            }
            let closed = self.close(id, Closure::Revoked, others.reason.clone(), others.audit.clone(), retention)?;
            done.closed += usize::from(closed.was_open);
            done.feed_until = done.feed_until.max(closed.entry.map(|entry| entry.feed_until));
        }
        Ok(done)
    }

    /// Which to look at, and the last one that there was when this began.
    fn others(&self, others: &Others) -> Result<(Vec<SessionId>, Option<SessionId>), StoreError> {
        let range = self.subjects.range(keys_of(others.subject, others.after)).map_err(failed)?;
        let mut all = range.map(|key| session_of(&key.map_err(failed)?.0.value()));
        let until = match others.until {
            Some(until) => Some(until),
            None => self.last_of(others)?,
        };
        let mut ids = Vec::new();
        while ids.len() < others.limit
            && let Some(id) = all.next().transpose()?.filter(|id| until.is_some_and(|until| *id <= until))
        {
            ids.push(id);
        }
        Ok((ids, until))
    }

    fn last_of(&self, others: &Others) -> Result<Option<SessionId>, StoreError> {
        let mut range = self.subjects.range(keys_of(others.subject, None)).map_err(failed)?;
        range.next_back().map(|key| session_of(&key.map_err(failed)?.0.value())).transpose()
    }

    /// Whether it has ended and none of its tokens can be alive: then there is nothing to close.
    fn is_over(&self, id: SessionId) -> Result<bool, StoreError> {
        let Some(family) = self.family(id)? else { return Ok(true) };
        let lineage = &family.lineage;
        let ended = lineage.ended(self.moment.now, false).is_some();
        // A closed one was denied in the step that closed it.
        Ok(lineage.closed.is_some() || (ended && lineage.access_until.plus(LEEWAY_AND_MARGIN) <= self.moment.now))
    }
}

fn session_of(key: &[u8; 32]) -> Result<SessionId, StoreError> {
    let damaged = || StoreError::Damaged("subject");
    let id: [u8; 16] = key[16..].try_into().map_err(|_| damaged())?;
    SessionId::from_bytes(id).ok_or_else(damaged)
}

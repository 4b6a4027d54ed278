//! The book of clients, and the assertions that have been used.

use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    EmbeddedStore,
    expiry::Due,
    tables::{Happened, META, Step, decode, encode, failed},
    verbs::table,
};
use crate::{
    model::{Timestamp, audit::Outcome, denial::Retention},
    store::{ASSERTIONS, AssertionUse, BookChange, BookChanged, ClientStore, StoreError},
};

/// Where [`META`] holds the sealed book.
const BOOK: &str = "clients";
/// Where it holds the time up to which assertions have been forgotten.
const FORGOTTEN_BY: &str = "assertions_forgotten_by";

impl Step<'_> {
    fn amend_book(&mut self, change: BookChange, retention: Retention) -> Result<BookChanged, StoreError> {
        let BookChange { seen, sealed, denial, event, cause, audit } = change;
        let now = self.meta.get(BOOK).map_err(failed)?.map(|row| row.value().to_vec());
        if now != seen {
            return Ok(BookChanged::Stale);
        }
        self.meta.insert(BOOK, &sealed[..]).map_err(failed)?;
        self.dirty = true;
        let what = Happened { event, outcome: Outcome::Done, session: None, generation: None, cause };
        self.note(audit, what)?;
        let entry = denial.map(|denial| self.deny(denial, retention)).transpose()?.flatten();
        Ok(BookChanged::Done(entry.map(Box::new)))
    }

    /// Nobody can read it any more.
    pub(super) fn forget_book(&mut self) -> Result<(), StoreError> {
        self.meta.remove(BOOK).map(drop).map_err(failed)
    }

    fn use_assertion(&mut self, id: [u8; 16], until: Timestamp) -> Result<AssertionUse, StoreError> {
        if until <= self.assertions_forgotten_by()? {
            return Ok(AssertionUse::Unknown);
        }
        if self.assertions.get(id).map_err(failed)?.is_some() {
            return Ok(AssertionUse::Again);
        }
        if self.assertions.len().map_err(failed)? >= ASSERTIONS {
            return Ok(AssertionUse::Full);
        }
        self.assertions.insert(id, until.millis()).map_err(failed)?;
        self.schedule(until, Due::Assertion(id))?;
        self.dirty = true;
        Ok(AssertionUse::First)
    }

    fn assertions_forgotten_by(&self) -> Result<Timestamp, StoreError> {
        let row = self.meta.get(FORGOTTEN_BY).map_err(failed)?;
        row.map_or(Ok(Timestamp::default()), |bytes| decode(bytes.value(), "time"))
    }

    /// From here on nobody can say of an assertion from before that instant whether it has been used.
    pub(super) fn forget_assertions_by(&mut self, by: Timestamp) -> Result<(), StoreError> {
        if by > self.assertions_forgotten_by()? {
            self.meta.insert(FORGOTTEN_BY, &encode(&by)[..]).map_err(failed)?;
        }
        Ok(())
    }

    /// It is refused for its age now; only a clock that is set back could make it look good again.
    pub(super) fn expire_assertion(&mut self, id: [u8; 16]) -> Result<(), StoreError> {
        let until = self.assertions.remove(id).map_err(failed)?.map(|row| row.value());
        until.map_or(Ok(()), |until| self.forget_assertions_by(Timestamp::from_millis(until)))
    }
}

impl ClientStore for EmbeddedStore {
    fn client_book(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(meta) = table(&self.read()?, META)? else { return Ok(None) };
        Ok(meta.get(BOOK).map_err(failed)?.map(|row| row.value().to_vec()))
    }

    async fn amend_book(&self, change: BookChange) -> Result<BookChanged, StoreError> {
        self.whole()?;
        let retention = self.retention;
        self.urgent_step(move |step| step.amend_book(change, retention)).await
    }

    async fn use_assertion(&self, id: [u8; 16], until: Timestamp) -> Result<AssertionUse, StoreError> {
        self.whole()?;
        self.urgent_step(move |step| step.use_assertion(id, until)).await
    }
}

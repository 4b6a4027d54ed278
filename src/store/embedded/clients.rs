//! The book of clients, and the assertions that have been used.

use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    EmbeddedStore,
    expiry::Due,
    tables::{ASSERTIONS, Happened, META, Step, decode, encode, failed},
    verbs::table,
};
use crate::{
    model::{Timestamp, audit::Outcome, denial::Retention},
    store::{AssertionId, AssertionUse, BookChange, BookChanged, ClientStore, StoreError},
};

/// Where [`META`] holds the sealed book.
pub(super) const BOOK: &str = "clients";
/// Where it holds the time up to which assertions have been forgotten.
pub(super) const FORGOTTEN_BY: &str = "assertions_forgotten_by";

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

    fn use_assertion(&mut self, id: AssertionId, until: Timestamp, most: u64) -> Result<AssertionUse, StoreError> {
        if until <= self.assertions_forgotten_by()? {
            return Ok(AssertionUse::Unknown);
        }
        if self.assertions.get(row_key(id)).map_err(failed)?.is_some() {
            return Ok(AssertionUse::Again);
        }
        let mine = self.assertions_of(id.client)?;
        if mine >= most.saturating_sub(self.assertions.len().map_err(failed)?) {
            return Ok(AssertionUse::Full);
        }
        self.assertions.insert(row_key(id), until.millis()).map_err(failed)?;
        self.assertions_by.insert(id.client, mine + 1).map_err(failed)?;
        self.schedule(until, Due::Assertion(row_key(id)))?;
        self.dirty = true;
        Ok(AssertionUse::First)
    }

    fn assertions_of(&self, client: [u8; 8]) -> Result<u64, StoreError> {
        Ok(self.assertions_by.get(client).map_err(failed)?.map_or(0, |row| row.value()))
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
    pub(super) fn expire_assertion(&mut self, key: [u8; 16]) -> Result<(), StoreError> {
        let Some(until) = self.assertions.remove(key).map_err(failed)?.map(|row| row.value()) else { return Ok(()) };
        let client = *key.first_chunk().expect("a key has 16 bytes");
        match self.assertions_of(client)?.saturating_sub(1) {
            0 => drop(self.assertions_by.remove(client).map_err(failed)?),
            left => drop(self.assertions_by.insert(client, left).map_err(failed)?),
        }
        self.forget_assertions_by(Timestamp::from_millis(until))
    }
}

/// The assertions of a client stand together.
fn row_key(AssertionId { client, jti }: AssertionId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&client);
    key[8..].copy_from_slice(&jti);
    key
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

    fn assertion_used(&self, id: AssertionId) -> Result<bool, StoreError> {
        self.whole()?;
        let Some(assertions) = table(&self.read()?, ASSERTIONS)? else { return Ok(false) };
        Ok(assertions.get(row_key(id)).map_err(failed)?.is_some())
    }

    async fn use_assertion(&self, id: AssertionId, until: Timestamp) -> Result<AssertionUse, StoreError> {
        self.whole()?;
        let most = self.assertions;
        self.urgent_step(move |step| step.use_assertion(id, until, most)).await
    }
}

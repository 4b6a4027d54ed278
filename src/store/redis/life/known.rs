//! What this node has seen in the hub that is in no log: the keys that nodes share, sealed as they are, and the book of
//! clients. Each has a number that only rises. It lies beside the journal, and is given back to a store that has lost it.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    super::{
        Core,
        commit::{Commit, Outcome},
        step::TRIES,
    },
    memory::{failed, read, replace},
};
use crate::{
    model::bundle::Version,
    store::{StoreError, embedded::encode},
};

/// How often the book was changed, and what is in it.
pub(in crate::store::redis) type Book = (u64, Option<Vec<u8>>);

/// Seen in one store; of another it says nothing.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Page {
    store: u128,
    keys: Option<Vec<u8>>,
    book: Book,
}

/// Kept in a file, or in memory.
pub(in crate::store::redis) struct Known {
    path: Option<PathBuf>,
    page: Mutex<Page>,
}

impl Known {
    /// What lies beside this journal.
    ///
    /// # Errors
    /// The file cannot be read, or is none of ours.
    pub(in crate::store::redis) fn open(journal: Option<&Path>) -> Result<Self, StoreError> {
        let path = journal.map(|journal| journal.with_added_extension("known"));
        let page = read(path.as_deref(), "what the node has seen")?.unwrap_or_default();
        Ok(Self { path, page: Mutex::new(page) })
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, store: u128) -> Page {
        let page = self.page().clone();
        if page.store == store { page } else { Page { store, ..Page::default() } }
    }

    /// Durable once it returns.
    fn learn(&self, next: Page) -> Result<(), StoreError> {
        let mut page = self.page();
        // Somebody else has seen what is newer meanwhile.
        let next = if page.store == next.store { next.or_newer(&page) } else { next };
        if let Some(path) = &self.path {
            replace(path, &encode(&next)).map_err(|error| failed(Some(path), &error))?;
        }
        *page = next;
        Ok(())
    }
}

impl Page {
    fn or_newer(mut self, other: &Self) -> Self {
        if other.keys.as_deref().is_some_and(|theirs| is_newer(theirs, self.keys.as_deref())) {
            self.keys.clone_from(&other.keys);
        }
        if other.book.0 > self.book.0 {
            self.book.clone_from(&other.book);
        }
        self
    }
}

/// Whether these keys are of a later version. What is no bundle is older than every one that is.
fn is_newer(keys: &[u8], than: Option<&[u8]>) -> bool {
    let number = |sealed: &[u8]| Version::of(sealed).map(|version| version.number);
    number(keys) > than.and_then(number)
}

impl Core {
    /// These keys are in the hub, or were. Durable once it returns.
    pub(in crate::store::redis) async fn learn_keys(&self, sealed: &[u8]) -> Result<(), StoreError> {
        let page = self.known.of(self.life.id());
        if !is_newer(sealed, page.keys.as_deref()) {
            return Ok(());
        }
        self.learn(Page { keys: Some(sealed.to_vec()), ..page }).await
    }

    /// The same of a book.
    pub(in crate::store::redis) async fn learn_book(&self, book: &Book) -> Result<(), StoreError> {
        let page = self.known.of(self.life.id());
        if book.0 <= page.book.0 {
            return Ok(());
        }
        self.learn(Page { book: book.clone(), ..page }).await
    }

    async fn learn(&self, page: Page) -> Result<(), StoreError> {
        // Nothing is known of the store yet.
        if page.store == 0 {
            return Ok(());
        }
        let known = self.known.clone();
        let done = tokio::task::spawn_blocking(move || known.learn(page)).await;
        done.unwrap_or_else(|_| Err(StoreError::Failed("what the node has seen could not be written".into())))
    }

    /// The newest book that was seen in this store.
    pub(in crate::store::redis) fn known_book(&self) -> Book {
        self.known.of(self.life.id()).book
    }

    /// The newest keys that were seen here, unless the hub has those, or newer ones.
    pub(super) async fn push_keys(&self) -> Result<(), StoreError> {
        let Some(sealed) = self.known.of(self.life.id()).keys else { return Ok(()) };
        for _ in 0..TRIES {
            let (began, key) = (self.begin_repair()?, self.layout.hub("keys"));
            let theirs = self.seen(began, self.look_in_hub().get(key.clone())).await?.value()?;
            // What is there and no bundle, a person must look at.
            let readable = theirs.as_deref().is_none_or(|theirs| Version::of(theirs).is_some());
            if !readable || !is_newer(&sealed, theirs.as_deref()) {
                return Ok(());
            }
            let commit = Commit::new(self.clock.now()).life(self.layout.hub("meta"), began.mark());
            let commit = commit.value_is(key.clone(), theirs.as_deref()).set(key, &sealed);
            if let Outcome::Done(_) = commit.make(&self.link.urgent()).await? {
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }
}

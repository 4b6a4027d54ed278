//! Who is a client now: the configuration, which may be loaded anew, and the book of what was changed at run time.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::{
    Clients,
    overrides::{BookError, Overrides},
};
use crate::{
    keyring::{Keyring, SealError, Sealer},
    store::{ClientStore, StoreError},
};

/// All that is known of clients, one consistent state after another. Readers wait for nobody.
pub(crate) struct ClientBook {
    state: ArcSwap<State>,
    /// Held by whoever changes the book, over the store's step.
    pub(super) writer: Arc<tokio::sync::Mutex<()>>,
}

/// One state.
#[derive(Clone)]
pub(crate) struct State {
    configured: Arc<Clients>,
    /// None: it cannot be read, so nobody can tell who is disabled.
    book: Option<Arc<Overrides>>,
    /// The book as the store has it, whatever this node goes by.
    pub(crate) stored: Option<Vec<u8>>,
    /// It could not be read: perhaps it can with newer keys.
    unread: bool,
    effective: Arc<Clients>,
}

impl State {
    fn new(configured: Arc<Clients>, book: Option<Arc<Overrides>>, stored: Option<Vec<u8>>) -> Self {
        let effective = Arc::new(book.as_ref().map_or_else(Clients::default, |book| configured.with(book)));
        Self { configured, book, stored, unread: false, effective }
    }

    /// Everyone, as they stand. `None`: nobody can tell.
    pub(crate) fn clients(&self) -> Option<&Arc<Clients>> {
        self.book.as_ref().map(|_| &self.effective)
    }

    /// The book. `None`: it cannot be read.
    pub(crate) fn book(&self) -> Option<&Overrides> {
        self.book.as_deref()
    }
}

impl ClientBook {
    /// Reads the book: of the store's copy and this node's own, the newer one counts. Blocks on the disk.
    pub(crate) fn open(configured: Clients, store: &impl ClientStore, keyring: &Keyring) -> Self {
        let stored = store.client_book();
        let book = newest(&stored, keyring);
        let state = State::new(Arc::new(configured), book.map(Arc::new), stored.ok().flatten());
        Self { state: ArcSwap::from_pointee(state), writer: Arc::default() }
    }

    /// How things stand now.
    pub(crate) fn now(&self) -> Guard<Arc<State>> {
        self.state.load()
    }

    /// Takes up another configuration. What was changed at run time stays.
    pub(crate) fn configure(&self, clients: Clients) {
        let configured = Arc::new(clients);
        self.state.rcu(|old| State::new(configured.clone(), old.book.clone(), old.stored.clone()));
    }

    /// Whether the store has another book than the one that was taken up, or read, last.
    pub(super) fn is_behind(&self, stored: Option<&Vec<u8>>) -> bool {
        let state = self.state.load();
        state.unread || state.stored.as_ref() != stored
    }

    /// After a change that met another one, or of which nobody knows whether it was written: takes up what the store
    /// has, unless what this node knows is newer. Blocks on the disk.
    pub(super) fn read_again(&self, store: &impl ClientStore, keyring: &Keyring) {
        let Ok(stored) = store.client_book() else { return };
        let found = newest(&Ok(stored.clone()), keyring).map(Arc::new);
        self.state.rcu(|old| {
            let known = version(old.book.as_deref());
            let newer = found.clone().filter(|found| found.version > known);
            let state = State::new(old.configured.clone(), newer.or_else(|| old.book.clone()), stored.clone());
            State { unread: found.is_none(), ..state }
        });
    }

    /// Takes up a book that has become durable.
    pub(super) fn take_up(&self, book: Overrides, sealed: Vec<u8>) {
        let book = Arc::new(book);
        self.state.rcu(|old| State::new(old.configured.clone(), Some(book.clone()), Some(sealed.clone())));
    }
}

/// Of the two copies the one with more changes. A copy that does not open is none, and only if no other does is the
/// book unknown: then everyone is refused, because somebody may be disabled. It is, too, if the store's was sealed under a
/// key that has never been here.
fn newest(stored: &Result<Option<Vec<u8>>, StoreError>, keyring: &Keyring) -> Option<Overrides> {
    let sealer = keyring.sealer();
    if let Ok(stored) = stored
        && let Err(error @ BookError::Seal(SealError::UnknownKey(_))) = open(&sealer, stored.as_ref())
    {
        // These keys are older than the store, and so is the copy beside them: it may not know who is disabled since.
        tracing::error!(%error, "the store's copy of the book of clients cannot be read; put back the keys of the store");
        return None;
    }
    let own = keyring.client_book();
    let mut failed = false;
    let mut read = |name: &str, sealed: Result<Option<&Vec<u8>>, String>| {
        let book = sealed.and_then(|sealed| open(&sealer, sealed).map_err(|e| e.to_string()));
        book.unwrap_or_else(|error| {
            failed = true;
            tracing::error!(error, "the {name} copy of the book of clients cannot be read");
            None
        })
    };
    let theirs = read("store's", stored.as_ref().map(Option::as_ref).map_err(ToString::to_string));
    let ours = read("node's own", own.as_ref().map(Option::as_ref).map_err(ToString::to_string));
    let (their_version, our_version) = (version(theirs.as_ref()), version(ours.as_ref()));
    if their_version < our_version {
        tracing::warn!(
            their_version,
            our_version,
            "the store's book of clients is older than this node's: ours counts"
        );
        return ours;
    }
    if let (Some(_), Ok(Some(sealed))) = (&theirs, stored)
        && their_version > our_version
        && let Err(error) = keyring.keep_client_book(sealed)
    {
        tracing::warn!(%error, "the book of clients could not be copied beside the keys");
    }
    theirs.or(ours).or_else(|| (!failed).then(Overrides::default))
}

fn version(book: Option<&Overrides>) -> u64 {
    book.map_or(0, |book| book.version)
}

fn open(sealer: &Sealer, sealed: Option<&Vec<u8>>) -> Result<Option<Overrides>, BookError> {
    sealed.map(|sealed| Overrides::open(sealer, sealed)).transpose()
}

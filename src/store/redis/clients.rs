//! What is kept about clients, in the hub: the book of them, and the assertions that have been used.
//!
//! An assertion is good for once, on whichever node. Those that have been used are members of one sorted set, by when they
//! are of no more use: nothing is left to a TTL, which a server short of memory might take for leave to drop it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::{
    Core, RedisStore,
    commit::{Commit, Look, Outcome, maybe, number as count},
    hub::{Answer, Order},
    life::{Began, Book},
    step::TRIES,
};
use crate::{
    model::Timestamp,
    store::{ASSERTION_LIFE, AssertionId, AssertionUse, BookChange, BookChanged, ClientStore, StoreError},
};

/// Where the hub's [`super::layout::Layout::hub`] `meta` holds the time up to which assertions have been forgotten.
const FORGOTTEN_BY: &[u8] = b"assertions_forgotten_by";
/// Where it holds how often the book was changed.
pub(super) const BOOKED: &[u8] = b"booked";
/// How many assertions are given again in one step.
const PUSHES: usize = 64;
/// How many assertions are let go of in one step.
const FORGETS: usize = 256;
/// How many this node remembers by itself: enough to refuse most replays without a question, and to push again what a
/// failover lost.
const REMEMBERS: usize = 1 << 16;
/// How old this node's copy of the book may be.
pub(super) const BOOK_EVERY: Duration = Duration::from_millis(100);

/// What this node knows by itself.
#[derive(Default)]
pub(super) struct Clients {
    /// How often it was changed, and what is in it.
    book: Mutex<Book>,
    used: Mutex<HashMap<[u8; 16], Timestamp>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    fn remember(&self, member: [u8; 16], until: Timestamp, now: Timestamp) {
        let mut used = lock(&self.used);
        if used.len() >= REMEMBERS {
            used.retain(|_, until| *until > now);
        }
        if used.len() < REMEMBERS {
            used.insert(member, until);
        }
    }

    fn knows(&self, member: [u8; 16]) -> bool {
        lock(&self.used).contains_key(&member)
    }
}

/// The assertions of a client stand together.
fn member_of(AssertionId { client, jti }: AssertionId) -> [u8; 16] {
    let mut member = [0; 16];
    member[..8].copy_from_slice(&client);
    member[8..].copy_from_slice(&jti);
    member
}

/// What the hub was seen to hold.
struct Sight {
    forgotten_by: Option<Vec<u8>>,
    is_used: bool,
    /// How many assertions there are, and how many of this client.
    all: u64,
    mine: u64,
}

impl Sight {
    fn is_forgotten(&self, until: Timestamp) -> Result<bool, StoreError> {
        Ok(until <= instant(self.forgotten_by.as_deref())?)
    }
}

fn instant(text: Option<&[u8]>) -> Result<Timestamp, StoreError> {
    let Some(text) = text else { return Ok(Timestamp::default()) };
    let millis = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    millis.map(Timestamp::from_millis).ok_or(StoreError::Damaged("time"))
}

impl Core {
    fn assertions(&self) -> Vec<u8> {
        self.layout.hub("assertions")
    }

    fn assertions_by(&self) -> Vec<u8> {
        self.layout.hub("assertions_by")
    }

    async fn look_at_assertion(&self, began: Began, member: [u8; 16]) -> Result<Sight, StoreError> {
        let look = self
            .look_in_hub()
            .hget(self.layout.hub("meta"), FORGOTTEN_BY)
            .score(self.assertions(), &member)
            .size(self.assertions())
            .hget(self.assertions_by(), &member[..8]);
        let mut found = self.seen(began, look).await?;
        let (forgotten_by, used) = (found.value()?, found.value()?);
        let (all, mine) = (count(&found.part()?)?, found.part()?);
        let mine = if maybe(&mine)?.is_some() { count(&mine)? } else { 0 };
        Ok(Sight { forgotten_by, is_used: used.is_some(), all, mine })
    }

    async fn use_assertion(&self, id: AssertionId, until: Timestamp) -> Result<AssertionUse, StoreError> {
        let member = member_of(id);
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let sight = self.look_at_assertion(began, member).await?;
            let use_ = match () {
                () if sight.is_forgotten(until)? => AssertionUse::Unknown,
                () if sight.is_used => AssertionUse::Again,
                () if sight.mine >= self.options.assertions.saturating_sub(sight.all) => AssertionUse::Full,
                () => AssertionUse::First,
            };
            if use_ == AssertionUse::First {
                let meta = self.layout.hub("meta");
                let commit = Commit::new(began.moment().now)
                    .life(meta.clone(), began.mark())
                    .field_is(meta, FORGOTTEN_BY, sight.forgotten_by.as_deref())
                    .member_absent(self.assertions(), &member)
                    .enter_with(self.assertions(), &member, until.millis())
                    .count(self.assertions_by(), &member[..8], 1);
                let Outcome::Done(_) = commit.make(&self.link).await? else { continue };
            }
            self.life.current(&began)?;
            self.node.clients.remember(member, until, began.moment().now);
            return Ok(use_);
        }
        Err(StoreError::Busy)
    }

    /// Lets go of assertions that are refused for their age: only a clock that is set back could make them look good again,
    /// and for that it is remembered how far this has gone.
    pub(super) async fn expire_assertions(&self) -> Result<(), StoreError> {
        loop {
            let (began, by) = (self.begin().await?, self.node.expired_by(&*self.clock));
            let look = self.look_in_hub().due(self.assertions(), by.millis(), FORGETS);
            let rows = self.seen(began, look).await?.list()?;
            let Some(last) = rows.chunks_exact(2).next_back() else { return Ok(()) };
            let last = instant(Some(&last[1]))?;
            let (all, by_client, meta) = (self.assertions(), self.assertions_by(), self.layout.hub("meta"));
            let commit = Commit::new(began.moment().now).life(meta.clone(), began.mark());
            let commit = commit.raise(meta, FORGOTTEN_BY, last.millis());
            let commit = rows.chunks_exact(2).fold(commit, |commit, row| {
                let (member, client) = (&row[0][..], row[0].get(..8).unwrap_or_default());
                commit.member_there(all.clone(), member).leave(all.clone(), member).count(by_client.clone(), client, -1)
            });
            // Another node was quicker: what is left is due the next time.
            let Outcome::Done(_) = commit.make(&self.link).await? else { return Ok(()) };
            if rows.len() < 2 * FORGETS {
                return Ok(());
            }
        }
    }

    /// An operator has accepted a loss: nobody can say of any assertion from before whether it was used.
    pub(super) async fn forget_assertions(&self) -> Result<(), StoreError> {
        let (began, meta) = (self.begin_repair()?, self.layout.hub("meta"));
        let (now, commit) = (self.clock.now(), Commit::new(self.clock.now()).life(meta.clone(), began.mark()));
        match commit.raise(meta, FORGOTTEN_BY, now.plus(ASSERTION_LIFE).millis()).make(&self.link).await? {
            Outcome::Done(_) => Ok(()),
            Outcome::Moved | Outcome::NotTheSame => Err(StoreError::Busy),
        }
    }

    /// What this node knows of clients, for a store that came back without it.
    pub(super) async fn push_clients(&self) -> Result<(), StoreError> {
        self.push_book().await?;
        let (now, used) = (self.clock.now(), lock(&self.node.clients.used).clone());
        let used: Vec<_> = used.into_iter().filter(|(_, until)| *until > now).collect();
        for lot in used.chunks(PUSHES) {
            self.push_assertions(lot).await?;
        }
        Ok(())
    }

    async fn push_assertions(&self, used: &[([u8; 16], Timestamp)]) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let (began, all) = (self.begin_repair()?, self.assertions());
            let look = used.iter().fold(self.look_in_hub(), |look, (member, _)| look.score(all.clone(), member));
            let mut found = self.seen(began, look).await?;
            let mut commit = Commit::new(self.clock.now()).life(self.layout.hub("meta"), began.mark());
            for (member, until) in used {
                if found.value()?.is_none() {
                    commit = commit
                        .member_absent(all.clone(), member)
                        .enter_with(all.clone(), member, until.millis())
                        .count(self.assertions_by(), &member[..8], 1);
                }
            }
            if let Outcome::Done(_) = commit.make(&self.link).await? {
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }

    /// The book, unless the hub has one that was changed as often.
    async fn push_book(&self) -> Result<(), StoreError> {
        let (number, Some(book)) = lock(&self.node.clients.book).clone().max(self.known_book()) else {
            return Ok(());
        };
        for _ in 0..TRIES {
            let began = self.begin_repair()?;
            let (theirs, seen) = self.look_at_book(began).await?;
            if theirs >= number {
                return Ok(());
            }
            let (key, meta) = (self.layout.hub("book"), self.layout.hub("meta"));
            let commit = Commit::new(self.clock.now()).life(meta.clone(), began.mark());
            let commit = commit.value_is(key.clone(), seen.as_deref()).set(key, &book).raise(meta, BOOKED, number);
            if let Outcome::Done(_) = commit.make(&self.link).await? {
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }

    async fn look_at_book(&self, began: Began) -> Result<Book, StoreError> {
        let look = self.look_in_hub().hget(self.layout.hub("meta"), BOOKED).get(self.layout.hub("book"));
        let mut found = self.seen(began, look).await?;
        let number = found.part()?;
        Ok((if maybe(&number)?.is_some() { count(&number)? } else { 0 }, found.value()?))
    }

    /// Reads the book, for those who cannot wait for it.
    pub(super) async fn read_book(&self) -> Result<(), StoreError> {
        let began = self.begin().await?;
        let book = self.look_at_book(began).await?;
        let learned = self.learn_book(&book).await;
        self.life.current(&began)?;
        // One that was changed less often is what a server has left that lost the last changes.
        let mut known = lock(&self.node.clients.book);
        if book.0 >= known.0 {
            *known = book;
        }
        learned
    }

    async fn amend_book(&self, change: BookChange) -> Result<BookChanged, StoreError> {
        let began = self.begin().await?;
        let answer = self.hub.order(Order::Book(Box::new(change))).await?;
        // Also if it was refused: somebody else's is there, and whoever asks reads again.
        self.read_book().await?;
        self.life.current(&began)?;
        Ok(match answer {
            Answer::Refused => BookChanged::Stale,
            Answer::Done => BookChanged::Done(None),
            Answer::Entries(mut entries) => BookChanged::Done(entries.pop().map(Box::new)),
        })
    }
}

impl Core {
    /// A look at the hub, as [`Core::look`] is one at a bucket.
    pub(super) fn look_in_hub(&self) -> Look {
        let meta = self.layout.hub("meta");
        Look::default().hget(meta.clone(), b"life").hget(meta, b"stamped")
    }
}

/// Keeps this node's copy of the book fresh until the store is closed.
pub(super) async fn follow_book(core: Weak<Core>) {
    loop {
        tokio::time::sleep(BOOK_EVERY).await;
        let Some(core): Option<Arc<Core>> = core.upgrade() else { return };
        // Whoever cannot be asked for the book cannot be asked for anything: nobody is let in by the old one meanwhile.
        if let Err(error) = core.read_book().await {
            tracing::debug!(%error, "the book of clients cannot be read");
        }
    }
}

impl ClientStore for RedisStore {
    fn client_book(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock(&self.core.node.clients.book).1.clone())
    }

    async fn amend_book(&self, change: BookChange) -> Result<BookChanged, StoreError> {
        self.core.amend_book(change).await
    }

    fn assertion_used(&self, id: AssertionId) -> Result<bool, StoreError> {
        self.core.begin_now()?;
        Ok(self.core.node.clients.knows(member_of(id)))
    }

    async fn use_assertion(&self, id: AssertionId, until: Timestamp) -> Result<AssertionUse, StoreError> {
        self.core.use_assertion(id, until).await
    }
}

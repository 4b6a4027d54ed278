//! An installation moves here from an embedded store. Until all of it is here the store says so in its layout, which every
//! node asks first, so nobody serves a half of it; what was begun and not ended is not gone on with.
//!
//! What is denied, cut off, used, or on record is all here, and so are the sessions. Each lies in the bucket of its subject
//! by its very id, which those of an embedded store do not: so it has another here, alike but for the digits of the bucket,
//! and the one that it had leads to it. Verifiers know nothing of that, and the access tokens that name the old ids would
//! outlive the sessions that are ended here: one more cut-off ends them all, and their clients refresh.

use std::sync::Arc;

use tokio::task::JoinSet;

use self::{arrivals::Arrivals, mover::Mover};
use super::Head;
use crate::{
    clock::{Clock, Random, random_bytes},
    model::{
        ClientId, SessionId,
        edition::{Edition, Unfit},
        feed::Epoch,
    },
    store::{
        Family, StoreError,
        embedded::{Amount, Leaving},
        redis::{
            commit::{Commit, Look, Outcome, maybe, number},
            layout::{Bucket, Layout},
            link::{Link, OpenError},
            options::Options,
            reach,
            url::StoreUrl,
        },
    },
};

mod arrivals;
mod mover;

/// Buckets that are asked or written at once.
const AT_ONCE: usize = 64;

/// Gives a family another id, and its client with it; what is sealed is bound to the id, and the keys are elsewhere. `None`:
/// it ended with its key.
pub type Rename<'a> = dyn Fn(Family, SessionId) -> Result<Option<(Family, ClientId)>, StoreError> + Send + Sync + 'a;

/// Why an installation does not move. What the target holds then says [`MoveError::Begun`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The target cannot be reached, or would not be safe.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is something already. Nothing was written.
    #[error("the target is not empty: {what} is there under the prefix `{prefix}`; name another prefix or database")]
    NotEmpty {
        /// What was found first.
        what: String,
        /// What names begin with.
        prefix: Box<str>,
    },
    /// A move was begun and did not end. Nothing was written by this one.
    #[error(
        "a move into this store was begun ({word}) and did not end; it is not gone on with: delete every key that begins \
         with `{prefix}`, as by `redis-cli --scan --pattern '{prefix}*' | xargs redis-cli unlink`, and run this again"
    )]
    Begun {
        /// What the store says of it.
        word: Box<str>,
        /// What names begin with.
        prefix: Box<str>,
    },
    /// Somebody else has written there meanwhile.
    #[error("somebody else writes to the target; it must be for this alone until all is there")]
    Disturbed,
    /// One of both stores could not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What has been moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Moved {
    /// Sessions, ended ones among them whose tokens may still come.
    pub sessions: u64,
    /// Sessions that are over, and of no more use.
    pub sessions_over: u64,
    /// Sessions that cannot be read: nobody could refresh them.
    pub sessions_unreadable: u64,
    /// Entries of the denylist that live, and the one that ends all access tokens.
    pub entries: u64,
    /// Audit records, and the two that tell of this.
    pub records: u64,
    /// Assertions that have been used.
    pub assertions: u64,
}

/// Where an installation is to move.
pub struct Destination {
    link: Link,
    layout: Layout,
    options: Options,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Destination")
    }
}

impl Destination {
    /// The store that this address names, in which there is nothing yet. Writes nothing.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn at(
        url: &StoreUrl,
        mut options: Options,
        machine: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, MoveError> {
        let (link, clock) = reach(url, &mut options, machine).await?;
        let target = Self { layout: Layout::new(&options.prefix), link, options, clock, random };
        target.is_empty().await?;
        Ok(target)
    }

    async fn is_empty(&self) -> Result<(), MoveError> {
        let (hub, prefix) = (|name| self.layout.hub(name), self.options.prefix.clone());
        let seen = Look::default().get(hub("layout")).ask(&self.link).await?;
        match Edition::read(seen.parts.first().map_or(Ok(None), maybe)?) {
            Err(Unfit::Held { word }) => return Err(MoveError::Begun { word, prefix }),
            other => other.map_err(StoreError::from)?,
        };
        let names = ["layout", "life", "head", "keys", "nodes", "meta", "book", "log"];
        self.has_none(names.map(hub).to_vec()).await?;
        let mut buckets = JoinSet::new();
        for bucket in Bucket::all() {
            let layout = &self.layout;
            let keys = [Layout::meta, Layout::families, Layout::moved, Layout::cuts, Layout::owed];
            let keys = keys.map(|key| key(layout, bucket)).to_vec();
            if buckets.len() >= AT_ONCE {
                join(buckets.join_next().await)?;
            }
            let target = self.asker();
            buckets.spawn(async move { target.has_none(keys).await });
        }
        while let Some(done) = buckets.join_next().await {
            join(Some(done))?;
        }
        Ok(())
    }

    fn asker(&self) -> Asker {
        Asker { link: self.link.clone(), prefix: self.options.prefix.clone() }
    }

    async fn has_none(&self, keys: Vec<Vec<u8>>) -> Result<(), MoveError> {
        self.asker().has_none(keys).await
    }

    /// What would be moved. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError`]: the source does not read.
    pub fn foresee(&self, source: &Leaving, rename: &Rename<'_>) -> Result<Moved, StoreError> {
        let Amount { sessions: kept, entries, records, assertions } = source.amount()?;
        let mut moved = Moved { entries, records, assertions, ..Moved::default() };
        let mut arrivals = Arrivals::of(source, rename, self.clock.now());
        while let Some(page) = arrivals.page()? {
            moved.sessions += page.len() as u64;
        }
        moved.count_the_rest(kept, arrivals.over);
        Ok(moved)
    }

    /// Moves everything, and the sealed keys of the nodes with it. `by`: on whose word. `tell`: hears how many sessions have
    /// been moved so far.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn take_in(
        &self,
        source: &Leaving,
        rename: &Rename<'_>,
        keys: &[u8],
        by: &str,
        tell: impl FnMut(u64) + Send,
    ) -> Result<Moved, MoveError> {
        let random: [u8; 8] = random_bytes(&*self.random);
        let word = format!("being filled since {}, {:016x}", self.clock.now().to_rfc3339(), u64::from_be_bytes(random));
        let edition = Edition { held: Some(word.into()), ..Edition::FIRST };
        let claim = self.hub_commit(None).set(self.layout.hub("layout"), edition.text().as_bytes());
        let free =
            ["life", "head"].into_iter().fold(claim, |commit, name| commit.value_is(self.layout.hub(name), None));
        done(free.make(&self.link).await?)?;
        // From here on no node touches it, and nobody else who moves.
        let mut mover = Mover {
            to: self,
            from: source,
            held: edition.text(),
            head: Head::new(Epoch(random_bytes(&*self.random))),
            moved: Moved::default(),
        };
        mover.denials().await?;
        mover.sessions(rename, tell).await?;
        mover.records(by).await?;
        mover.assertions().await?;
        mover.buckets().await?;
        mover.rest(keys).await?;
        // All is there; the life is what a node looks for.
        mover.open_the_door().await?;
        Ok(mover.moved)
    }

    /// A change of the hub while the layout is this one.
    fn hub_commit(&self, held: Option<&str>) -> Commit {
        Commit::new(self.clock.now()).value_is(self.layout.hub("layout"), held.map(str::as_bytes))
    }
}

/// For what is asked at once.
struct Asker {
    link: Link,
    prefix: Box<str>,
}

impl Asker {
    async fn has_none(&self, keys: Vec<Vec<u8>>) -> Result<(), MoveError> {
        let look = keys.iter().fold(Look::default(), |look, key| look.exists(key.clone()));
        let seen = look.ask(&self.link).await?;
        for (key, there) in keys.iter().zip(&seen.parts) {
            if number(there)? > 0 {
                let what = String::from_utf8_lossy(key).into_owned();
                return Err(MoveError::NotEmpty { what, prefix: self.prefix.clone() });
            }
        }
        Ok(())
    }
}

fn join<T: Default>(done: Option<Result<Result<T, MoveError>, tokio::task::JoinError>>) -> Result<T, MoveError> {
    match done {
        None => Ok(T::default()),
        Some(Ok(outcome)) => outcome,
        Some(Err(e)) => Err(StoreError::Failed(e.to_string()).into()),
    }
}

fn done(outcome: Outcome) -> Result<(), MoveError> {
    if matches!(outcome, Outcome::Done(_)) { Ok(()) } else { Err(MoveError::Disturbed) }
}

impl Moved {
    /// Of all that were kept there.
    fn count_the_rest(&mut self, kept: u64, over: u64) {
        self.sessions_over = over;
        self.sessions_unreadable = kept.saturating_sub(self.sessions + over);
    }
}

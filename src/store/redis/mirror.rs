//! This node's copy of the log: what is known here is answered from it, and pushed again if Redis should come back without.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::Value;
use tokio::sync::Mutex;

use super::{
    Core, Options,
    commit::{Commit, Look, Outcome, maybe},
    hub::{FOLLOWS_EVERY, Head, Order, contradicts, follow, read_on, read_whole},
    life::Began,
    step::{TRIES, is_of},
};
use crate::{
    clock::{Clock, Random, random_bytes},
    model::{Timestamp, feed::Epoch},
    store::{
        StoreError,
        embedded::{self, EmbeddedStore, Followed, OpenError, Placed},
    },
};

/// Looks that one catching up takes at most: entries come by the thousand.
const LOOKS: usize = 10_000;

/// How long a follower that failed waits before it tries again.
const AGAIN: Duration = Duration::from_millis(100);
/// Entries that are denied again at once.
const PUSHES: usize = 128;

/// This node's copy of the log.
pub(super) struct Mirror {
    pub(super) store: EmbeddedStore,
    /// Whoever brings it on holds this.
    turn: Mutex<()>,
    together: Together,
}

/// Of which life the hub was, and the latest instant that was stamped by then.
type Marked = Result<(Option<Vec<u8>>, Timestamp), StoreError>;

/// Looks at the log that many share.
#[derive(Default)]
struct Together {
    begun: AtomicU64,
    /// The number of the last one that has ended, and what came of it.
    last: Mutex<Option<(u64, Marked)>>,
}

impl std::ops::Deref for Mirror {
    type Target = EmbeddedStore;
    fn deref(&self) -> &EmbeddedStore {
        &self.store
    }
}

/// The head that the mirror has come up to.
pub(super) struct Abreast {
    /// As it is written.
    pub(super) seen: Vec<u8>,
    pub(super) head: Head,
    mark: Option<Vec<u8>>,
    /// The time of the server that has the hub.
    pub(super) now: Timestamp,
    /// What else was looked at, at the same instant.
    pub(super) rest: Vec<Value>,
}

impl Abreast {
    /// Of the life under which this began: another may be in the middle of being made good.
    pub(super) fn is_of(&self, began: &Began) -> Result<(), StoreError> {
        is_of(self.mark.as_deref(), began)
    }
}

impl Mirror {
    pub(super) fn open(options: &Options, clock: Arc<dyn Clock>, random: &dyn Random) -> Result<Self, OpenError> {
        let engine = embedded::Options { cache: 16 << 20, ..embedded::Options::new(options.retention) };
        let store = EmbeddedStore::mirror(options.journal.as_deref(), engine, clock, random)?;
        Ok(Self { store, turn: Mutex::new(()), together: Together::default() })
    }
}

impl Core {
    /// Brings the mirror on to where the log is when this is asked, or later.
    pub(super) async fn come_abreast(&self) -> Result<Abreast, StoreError> {
        self.come_abreast_with(|look| look).await
    }

    /// The same, by one look for all who wait: whoever comes while one is under way waits for the next, which begins after
    /// he has asked. Gives the latest instant that was stamped by then.
    pub(super) async fn come_abreast_together(&self, began: &Began) -> Result<Timestamp, StoreError> {
        let (mark, stamped) = self.look_together().await?;
        is_of(mark.as_deref(), began).map(|()| stamped)
    }

    async fn look_together(&self) -> Marked {
        let together = &self.mirror.together;
        let next = together.begun.load(Ordering::SeqCst) + 1;
        let mut last = together.last.lock().await;
        if let Some((number, outcome)) = &*last
            && *number >= next
        {
            return outcome.clone();
        }
        let number = together.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.come_abreast().await.map(|abreast| (abreast.mark, abreast.head.stamped()));
        *last = Some((number, outcome.clone()));
        outcome
    }

    /// Brings the mirror on, and looks at something else in the hub at the same instant.
    pub(super) async fn come_abreast_with(&self, more: impl Fn(Look) -> Look) -> Result<Abreast, StoreError> {
        for _ in 0..LOOKS {
            let place = self.mirror.place()?;
            let part = read_on(self, place.map_or(0, |place| place.mark.position), &more).await?;
            if place == Some(part.head.place()) {
                return Ok(Abreast {
                    seen: part.seen,
                    head: part.head,
                    mark: part.mark,
                    now: part.now,
                    rest: part.rest,
                });
            }
            let _turn = self.mirror.turn.lock().await;
            // Somebody else has brought it on meanwhile.
            if self.mirror.place()? != place {
                continue;
            }
            let Some(place) = place.filter(|place| place.epoch == part.head.place().epoch) else {
                self.mirror.lay_out(read_whole(self).await?).await?;
                continue;
            };
            let head = part.head.place().mark;
            if head.position <= place.mark.position {
                // It ends before what this node knows, or elsewhere.
                return Err(StoreError::NotWhole);
            }
            let followed = match follow(place.mark, part.entries, head) {
                Ok(entries) => self.mirror.follow_on(place.epoch, entries).await?,
                Err(why) => why,
            };
            match followed {
                Followed::On => {}
                Followed::Contradicted => return Err(StoreError::NotWhole),
                // Some of what came since has left again.
                Followed::Gap => {
                    let whole = read_whole(self).await?;
                    if whole.place.epoch == place.epoch && contradicts(&whole, place.mark) {
                        return Err(StoreError::NotWhole);
                    }
                    self.mirror.lay_out(whole).await?;
                }
            }
        }
        Err(StoreError::Busy)
    }

    /// Makes the log go on from what this node knows. If it does not hold that, it begins another life: whoever follows it
    /// keeps what they know, and reads it anew. What is denied here and not there is denied there again.
    pub(super) async fn reconcile(&self) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            match self.come_abreast().await {
                Ok(_) => return self.push_again().await,
                Err(StoreError::NotWhole) => self.begin_anew().await?,
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy)
    }

    async fn begin_anew(&self) -> Result<(), StoreError> {
        let (began, key) = (self.begin_repair()?, self.layout.hub("head"));
        let seen = Look::default().get(key.clone()).ask(&self.link).await?;
        let seen = seen.parts.first().map_or(Ok(None), maybe)?;
        let epoch = Epoch(random_bytes(&*self.random));
        let head =
            seen.map_or(Ok(Head::new(epoch)), |seen| Head::read(seen).map(|head| head.in_another_life(epoch)))?;
        let commit = Commit::new(self.clock.now()).life(self.layout.hub("meta"), began.mark());
        let commit = commit.value_is(key.clone(), seen).set(key, &head.bytes());
        // Moved: somebody else has done it.
        match commit.make(&self.link).await? {
            Outcome::NotTheSame => Err(StoreError::NotWhole),
            _ => Ok(()),
        }
    }

    /// Denies again whatever is known here and has no place in the log. It is there when this returns.
    pub(super) async fn push_again(&self) -> Result<(), StoreError> {
        loop {
            let entries = self.mirror.unplaced(PUSHES)?;
            if entries.is_empty() {
                return Ok(());
            }
            self.hub.order(Order::Again(entries)).await?;
        }
    }

    pub(super) fn mirror_position(&self) -> u64 {
        self.mirror.place().ok().flatten().map_or(0, |place| place.mark.position)
    }

    /// Takes in what this node has just written. Durable once it returns.
    pub(super) async fn take_in(&self, epoch: Epoch, entries: Vec<Placed>) -> Result<(), StoreError> {
        let _turn = self.mirror.turn.lock().await;
        match self.mirror.follow_on(epoch, entries).await? {
            Followed::On => Ok(()),
            // The log is another by now: whoever waits is told that nobody can tell.
            _ => Err(StoreError::NotWhole),
        }
    }
}

/// Follows the log until the store is closed.
pub(super) async fn follow_log(core: Weak<Core>) {
    let Some(mut reader) = core.upgrade().map(|core| core.link.reader(&core.layout.hub("log"))) else { return };
    loop {
        let Some(at) = core.upgrade().map(|core| core.mirror_position()) else { return };
        let news = reader.read(&format!("{at}-0"), 1, FOLLOWS_EVERY).await;
        let Some(core) = core.upgrade() else { return };
        // This node has written it itself.
        let known = matches!(&news, Ok(items) if !items.is_empty()) && core.mirror_position() > at;
        if known {
            continue;
        }
        if let Err(error) = core.come_abreast().await {
            tracing::debug!(%error, "the log cannot be followed");
            drop(core);
            tokio::time::sleep(AGAIN).await;
        }
    }
}

//! Redis or Valkey as the store: many nodes share it, and none of them is special.
//!
//! Rust decides, Redis commits: a step looks at what it needs (`look.lua`), applies the same pure rules as every store,
//! and writes with one script (`commit.lua`) that does nothing unless all it was decided by is still so. What moves
//! together lies in one slot (a *bucket*): a session, its subject's index and cut-offs, and what the step owes to the
//! *hub*, where the log of the feed and the audit log have their one order. `docs/redis.md` has every key.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use self::{
    commit::{Look, maybe},
    hub::{Clerk, Hub, look_for_debts, look_out},
    layout::Layout,
    life::{Known, Life, Memories},
    link::Link,
    mirror::Mirror,
    node::Node,
};
use super::StoreError;
use crate::{
    clock::{Clock, Random},
    model::edition::Edition,
};

mod clients;
mod closing;
mod commit;
mod denials;
mod face;
mod families;
mod hub;
mod index;
mod keys;
mod layout;
mod life;
#[doc(hidden)]
pub mod link;
mod lives;
mod mirror;
mod moved;
mod node;
mod opening;
mod options;
mod record;
mod rooms;
mod secret;
mod step;
mod subjects;
mod sweep;
mod url;
mod verbs;

pub use families::Sight;
pub use hub::{Destination, MoveError, Moved, Rename};
pub use life::{LifeReport, NodeReport, WordError};
pub use options::Options;
pub use url::{StoreUrl, StoreUrlError};

/// How long a start waits for the servers to answer.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How often a node that starts looks whether it serves.
const LOOKS_EVERY: Duration = Duration::from_millis(10);

/// The store that many nodes share.
pub struct RedisStore {
    core: Arc<Core>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisStore")
    }
}

impl Drop for RedisStore {
    /// What goes on by itself ends, and lets go of the journal.
    fn drop(&mut self) {
        self.core.life.wake();
    }
}

/// What all parts of the store share.
struct Core {
    link: Link,
    layout: Layout,
    options: Options,
    /// The store's time: the machine's clock, set by the server's.
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    life: Life,
    known: Arc<Known>,
    hub: Hub,
    mirror: Mirror,
    node: Node,
}

/// What is done once this node serves.
async fn arrive(core: Weak<Core>) -> Result<(), StoreError> {
    let core = loop {
        let Some(core) = core.upgrade() else { return Ok(()) };
        if core.begin_now().is_ok() {
            break core;
        }
        drop(core);
        tokio::time::sleep(LOOKS_EVERY).await;
    };
    core.come_abreast().await?;
    core.say_lives().await?;
    core.read_book().await?;
    tokio::spawn(mirror::follow_log(Arc::downgrade(&core)));
    tokio::spawn(look_for_debts(Arc::downgrade(&core)));
    tokio::spawn(sweep::sweep(Arc::downgrade(&core)));
    tokio::spawn(life::beat(Arc::downgrade(&core)));
    tokio::spawn(clients::follow_book(Arc::downgrade(&core)));
    Ok(())
}

/// The servers that this address names, once they answer, and their time. What it says of the prefix counts.
async fn reach(
    url: &StoreUrl,
    options: &mut Options,
    machine: Arc<dyn Clock>,
) -> Result<(Link, Arc<dyn Clock>), link::OpenError> {
    if let Some(prefix) = url.prefix() {
        options.prefix = prefix.into();
    }
    let link = Link::open(url, options, machine.clone())?;
    link.ready(READY_WITHIN).await?;
    // Where nobody looks whether the two clocks agree, they are one.
    let clock: Arc<dyn Clock> = if options.skew.is_zero() { machine } else { link.clock() };
    Ok((link, clock))
}

impl RedisStore {
    /// Opens the store that this address names, and makes it if there is none.
    ///
    /// # Errors
    /// It cannot be reached, or is not one that may be used.
    pub async fn open(
        url: &StoreUrl,
        mut options: Options,
        machine: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let (link, clock) = reach(url, &mut options, machine).await.map_err(|e| StoreError::Failed(e.to_string()))?;
        let layout = Layout::new(&options.prefix);
        // Whoever cannot be asked now is asked by the keeper, before anything is written.
        if let Ok(seen) = Look::default().get(layout.hub("layout")).ask(&link).await {
            Edition::read(seen.parts.first().map_or(Ok(None), maybe)?)?;
        }
        let node = Node::new(options.retention);
        let mirror = Mirror::open(&options, clock.clone(), &*random).map_err(|e| StoreError::Failed(e.to_string()))?;
        let memories = Memories::open(options.journal.as_deref(), &*random)?;
        let known = Arc::new(Known::open(options.journal.as_deref())?);
        let (ways, (hub, asked, questions)) = (link.clone(), Hub::new());
        let life = Life::new(memories, options.heads, clock.clone(), move || ways.way());
        let core = Arc::new(Core { link, layout, options, clock, random, life, known, hub, mirror, node });
        core.recall_closed()?;
        tokio::spawn(Clerk::new(&core, asked).run());
        tokio::spawn(look_out(Arc::downgrade(&core), questions));
        tokio::spawn(life::keep(Arc::downgrade(&core)));
        let arrival = tokio::spawn(arrive(Arc::downgrade(&core)));
        // One that must wait for others, or for an operator, says so while it serves nothing.
        if let Ok(done) = tokio::time::timeout(READY_WITHIN, arrival).await {
            done.map_err(|e| StoreError::Failed(e.to_string()))??;
        }
        Ok(Self { core })
    }
}

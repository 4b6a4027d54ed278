//! Redis or Valkey as the store: many nodes share it, and none of them is special.
//!
//! Rust decides, Redis commits: a step looks at what it needs (`look.lua`), applies the same pure rules as every store,
//! and writes with one script (`commit.lua`) that does nothing unless all it was decided by is still so. What moves
//! together lies in one slot (a *bucket*): a session, its subject's index and cut-offs, and what the step owes to the
//! *hub*, where the log of the feed and the audit log have their one order. `docs/redis.md` has every key.

use std::{fmt, sync::Arc};

use self::{
    hub::{Clerk, Hub, look_for_debts},
    layout::Layout,
    life::Life,
    link::Link,
    mirror::Mirror,
    node::Node,
};
use super::StoreError;
use crate::clock::{Clock, Random};

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

pub use options::Options;
pub use url::{StoreUrl, StoreUrlError};

/// How long the servers are waited for at the start.
const READY_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The store that many nodes share.
pub struct RedisStore {
    core: Arc<Core>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisStore")
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
    hub: Hub,
    mirror: Mirror,
    node: Node,
}

impl RedisStore {
    /// Opens the store that this address names, and makes it if there is none.
    ///
    /// # Errors
    /// It cannot be reached, or is not one that may be used.
    pub async fn open(
        url: &StoreUrl,
        options: Options,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Failed(why);
        let link = Link::open(url, &options, clock).map_err(|e| failed(e.to_string()))?;
        link.ready(READY_WITHIN).await.map_err(|e| failed(e.to_string()))?;
        let clock = link.clock();
        let (layout, node) = (Layout::new(&options.prefix), Node::new(options.retention));
        let mirror = Mirror::open(&options, clock.clone(), &*random).map_err(|e| failed(e.to_string()))?;
        let (life, (hub, asked)) = (Life::provisional(), Hub::new());
        let core = Arc::new(Core { link, layout, options, clock, random, life, hub, mirror, node });
        core.provisional_markers().await?;
        core.found_hub().await?;
        core.come_abreast().await?;
        core.say_lives().await?;
        core.read_book().await?;
        tokio::spawn(Clerk::new(&core, asked).run());
        tokio::spawn(mirror::follow(Arc::downgrade(&core)));
        tokio::spawn(look_for_debts(Arc::downgrade(&core)));
        tokio::spawn(sweep::sweep(Arc::downgrade(&core)));
        tokio::spawn(clients::follow_book(Arc::downgrade(&core)));
        Ok(Self { core })
    }
}

impl Core {
    /// PROVISIONAL: who takes the store over writes the markers of its buckets.
    async fn provisional_markers(self: &Arc<Self>) -> Result<(), StoreError> {
        let began = self.begin()?;
        let mut marking = tokio::task::JoinSet::new();
        for bucket in layout::Bucket::all() {
            if marking.len() >= 64 {
                marking.join_next().await;
            }
            let core = self.clone();
            marking.spawn(async move {
                let commit = commit::Commit::new(core.clock.now());
                commit.hset(core.layout.meta(bucket), b"life", began.mark()).make(&core.link).await.map(drop)
            });
        }
        let commit = commit::Commit::new(self.clock.now());
        commit.hset(self.layout.hub("meta"), b"life", began.mark()).make(&self.link).await?;
        marking.join_all().await.into_iter().collect()
    }
}

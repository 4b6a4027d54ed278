//! Redis or Valkey as the store: many nodes share it, and none of them is special.
//!
//! Rust decides, Redis commits: a step looks at what it needs (`look.lua`), applies the same pure rules as every store,
//! and writes with one script (`commit.lua`) that does nothing unless all it was decided by is still so. What moves
//! together lies in one slot (a *bucket*): a session, its subject's index and cut-offs, and what the step owes to the
//! *hub*, where the log of the feed and the audit log have their one order. `docs/redis.md` has every key.

use std::{fmt, sync::Arc};

use self::{hub::Hub, layout::Layout, life::Life, link::Link};
use crate::clock::{Clock, Random};

mod commit;
mod hub;
mod keys;
mod layout;
mod life;
mod link;
mod options;
mod secret;
mod stub;
mod url;

pub use options::Options;
pub use url::{StoreUrl, StoreUrlError};

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
}

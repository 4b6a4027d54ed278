//! The store that many nodes share, on real servers that each test starts for itself.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "how long something took is measured from outside")]

#[path = "../common/store/mod.rs"]
mod common;
#[path = "../common/redis/mod.rs"]
mod servers;

mod hub;
mod keys;
mod layout;
mod life;
mod link;
mod losses;
mod migrate;
mod nodes;
mod parts;
mod sessions;

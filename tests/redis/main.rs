//! Redis as the store: what many nodes that share one promise, on real servers that the tests start.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/store/mod.rs"]
mod common;
mod hub;
mod keys;
mod nodes;
#[path = "../common/redis/mod.rs"]
mod servers;
mod sessions;

//! What Redis, networks and machines do to a service of two nodes: killed, frozen, cut off, emptied, put back, full, and
//! with a wrong clock, under clients that go on all the while. Real servers, the real program, real verifiers.
//!
//! Every client writes down what it asked and what it was told; the checks go by that. `docs/reliability.md` has the
//! figures, and for each protection a run without it.
#![cfg(feature = "server")]
#![allow(unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a zero is worth the number of trials beside it")]

#[path = "../common/harness.rs"]
mod harness;
#[path = "../common/redis/mod.rs"]
mod redis_servers;
#[path = "../common/relay.rs"]
mod relay;

mod deployment;
mod dice;
mod history;
mod kills;
mod load;
mod lost;
mod nodes;
mod partition;
mod refused;
mod stage;
mod stalls;
mod unprotected;
mod verify;

/// The long form of a number of trials, or the short one.
fn trials(short: usize, long: usize) -> usize {
    if std::env::var_os("LONG_TESTS").is_some() { long } else { short }
}

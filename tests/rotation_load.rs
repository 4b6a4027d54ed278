//! Signing keys moved under load: rotated, rolled back and given up while sessions are refreshed and everyone verifies;
//! killed amid it, and on disks that refuse. The real program, and verifiers of ours and of others.
//!
//! Times are shortened alike. What production keeps is kept here: a key set is cached for half of `publish_ahead` at most.
#![cfg(feature = "server")]
#![allow(unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a zero is worth the number of trials beside it")]

#[path = "common/harness.rs"]
mod harness;
#[path = "foreign/interpreter.rs"]
mod interpreter;
#[path = "crash/liar.rs"]
mod liar;
#[path = "common/process.rs"]
mod process;
#[path = "common/remote.rs"]
mod remote;

mod rotation_load {
    pub mod compromise;
    pub mod crash;
    pub mod disk;
    pub mod load;
    pub mod rotation;
    pub mod stream;
}

/// The long form of a number of trials, or the short one.
fn trials(short: usize, long: usize) -> usize {
    if std::env::var_os("LONG_TESTS").is_some() { long } else { short }
}

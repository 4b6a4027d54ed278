//! Clients: how they prove themselves, what they may, and how an operator takes that away while the service runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/forge.rs"]
mod forge;
#[path = "common/harness.rs"]
mod harness;

mod clients {
    pub(crate) mod assertions;
    pub(crate) mod permissions;
    pub(crate) mod proofs;
    pub(crate) mod run_time;
    pub(crate) mod tampering;
}

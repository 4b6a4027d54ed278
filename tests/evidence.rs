//! What auditors, security teams and the people concerned can hold the service to: the chain of the audit log, erasure,
//! the webhook, alerts.
#![cfg(feature = "server")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

mod evidence {
    pub mod alerts;
    pub mod chain;
    pub mod commands;
    pub mod configuration;
    pub mod erasure;
    pub mod metrics;
    pub mod receiver;
    pub mod support;
    pub mod webhook;
}

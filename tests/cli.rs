//! The command line, as people and scripts use it. Transcripts lie in `tests/cli/`.
#![cfg(feature = "server")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli {
    pub mod clients;
    pub mod config;
    pub mod demo;
    pub mod dev;
    pub mod doctor;
    pub mod feed;
    pub mod keys;
    pub mod mask;
    pub mod operate;
    pub mod refused;
    pub mod reload;
    pub mod serve;
    pub mod store;
    pub mod support;
    pub mod tls;
    pub mod token;
    pub mod transcripts;
    pub mod values;
    pub mod verifier;
    pub mod verifiers;
    pub mod walk;
}

//! A new operator, with the documents alone: two clients, nginx with TLS in front, one person's sessions, one of them cut
//! off and refused everywhere, a backup and its restore, and who did it. All of it through the command line, against
//! `rescind serve`. What a package adds to this is in `packaging.rs`.
#![cfg(feature = "server")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "documents/markdown.rs"]
mod markdown;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "a helper of several tests; each uses a part")]
mod support;
mod operator {
    pub mod day;
    pub mod runbook;
    pub mod site;
    pub mod story;
}

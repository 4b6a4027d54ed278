//! The documents say what is so: the tests they name exist, their links lead somewhere, their commands are commands of
//! ours, and the tutorial and the page on keys do what they say.
#![cfg(feature = "server")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents {
    pub mod commands;
    pub mod evidence;
    pub mod keys;
    pub mod links;
    pub mod markdown;
    pub mod shell;
    pub mod tutorial;
}

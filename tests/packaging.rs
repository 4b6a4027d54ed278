//! What is shipped, as those who install it meet it: the Debian package under a real systemd, the program without its C
//! library in an empty root, nginx in front, the list of what is in it all.

#![cfg(feature = "server")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what cannot run here is said")]

mod packaging {
    mod composed;
    mod container;
    mod debian;
    mod machine;
    mod notify;
    mod proxied;
    mod source;
    mod support;
    mod units;
}

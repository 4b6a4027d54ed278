//! The interpreters of the clients that others wrote, in an environment of their own.

#![allow(dead_code, unreachable_pub, reason = "a test helper; each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

const HINT: &str = "the foreign clients are not installed: run tests/run, or tests/foreign/setup alone";

fn foreign() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign")
}

/// An interpreter of the clients' own environment, which must have been made: a skipped client would read as passed.
pub fn client(interpreter: &str) -> Command {
    let made = [".venv/made-from", "node_modules/made-from"].map(|mark| foreign().join(mark).exists());
    assert!(made == [true; 2], "{HINT}");
    let own = foreign().join(".venv/bin");
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path =
        std::env::join_paths([own].into_iter().chain(std::env::split_paths(&inherited))).expect("no colon in it");
    let mut command = Command::new("/usr/bin/env");
    command.arg(interpreter).current_dir(foreign()).env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

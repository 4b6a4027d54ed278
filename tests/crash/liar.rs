//! A library that makes the disk lie, put before the real one: `liar.c` says when.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test helper")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub fn liar(directory: &Path) -> PathBuf {
    let source = directory.join("liar.c");
    std::fs::write(&source, include_str!("liar.c")).unwrap();
    let library = directory.join("liar.so");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(built.expect("a C compiler: tests/run installs one").success());
    library
}

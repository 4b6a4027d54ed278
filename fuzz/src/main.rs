//! Drives the target that RESCIND_FUZZ names: see `fuzz/run`.

#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("RESCIND_FUZZ").expect("RESCIND_FUZZ names a target; use fuzz/run");
    let found = rescind::fuzzing::TARGETS.into_iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("no target `{name}`")).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));

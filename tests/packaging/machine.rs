//! The package on a machine: systemd, dpkg and nginx are real, and their own; `machine/story` is what is done there.

use std::fs;

use super::{
    debian::Package,
    support::{command, here, said},
};

#[test]
fn a_new_operator_installs_it_and_takes_a_session_back() {
    let package = Package::build();
    let dir = tempfile::Builder::new().prefix("rescind-machine-").tempdir().unwrap();
    fs::create_dir(dir.path().join("machine")).unwrap();
    fs::copy(&package.file, dir.path().join("rescind.deb")).unwrap();
    fs::copy(here("tests/packaging/machine/story"), dir.path().join("story")).unwrap();
    let boot = command("tests/packaging/machine/boot").arg(dir.path()).output().unwrap();
    let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    let end = fs::read_to_string(dir.path().join("rc")).unwrap_or_default();
    assert_eq!(end.trim(), "0", "{}\n{log}", said(&boot));
    assert!(log.trim_end().ends_with("== done"), "{log}");
}

//! The Debian package, built from what cargo has built for the tests.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::support::{PROGRAM, command, good, here};

pub struct Package {
    pub file: PathBuf,
    pub dir: tempfile::TempDir,
}

impl Package {
    pub fn build() -> Self {
        let dir = tempfile::Builder::new().prefix("rescind-package-").tempdir().unwrap();
        let target = here("target");
        assert!(PROGRAM.starts_with(target.to_str().unwrap()), "{PROGRAM} is where deploy/debian/build looks");
        good(command("deploy/debian/build").args(["--built", "dev"]).arg(dir.path()));
        let file = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some());
        Self { file: file.expect("a package"), dir }
    }
}

#[test]
fn the_package_holds_what_it_needs_and_its_program_runs() {
    let package = Package::build();
    let root = package.dir.path().join("root");
    good(command("dpkg-deb").arg("--extract").arg(&package.file).arg(&root));
    let version = good(command(root.join("usr/bin/rescind")).arg("--version"));
    assert_eq!(version.trim(), format!("rescind {}", env!("CARGO_PKG_VERSION")));
    for path in [
        "usr/lib/systemd/system/rescind.service",
        "usr/lib/systemd/system/rescind-verifier@.service",
        "usr/lib/sysusers.d/rescind.conf",
        "usr/share/man/man1/rescind.1.gz",
        "usr/share/bash-completion/completions/rescind",
        "usr/share/zsh/vendor-completions/_rescind",
        "usr/share/fish/vendor_completions.d/rescind.fish",
        "usr/share/doc/rescind/copyright",
        "usr/share/doc/rescind/examples/nginx.conf",
        "usr/share/doc/rescind/docs/how-to/install.md",
    ] {
        let about = fs::metadata(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert!(about.len() > 20, "{path} is empty");
        assert_eq!(about.permissions().mode() & 0o7777, 0o644, "{path}");
    }
    assert!(!root.join("etc").exists(), "configuration is the operator's");
    let example = fs::read_to_string(root.join("usr/share/doc/rescind/examples/rescind.toml")).unwrap();
    let secrets: Vec<&str> = example.lines().filter(|line| line.starts_with("secret_sha256")).collect();
    assert_eq!(secrets, ["secret_sha256 = []"], "nobody knows a secret for the example");
    assert!(example.contains("/var/lib/rescind/") && !example.contains("/tmp"), "{example}");
}

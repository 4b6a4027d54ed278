//! This machine: its files, its entropy, its clock.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use super::{
    super::config::{Config, secret::Source},
    Check,
};

/// Files that are looked at in the directory of the keys; more than there ever are.
const MAX_FILES: usize = 1000;

/// What is configured, and who can reach it.
pub(super) fn files(config: &Path) -> Vec<Check> {
    let read = match Config::read(config) {
        Ok(read) => read,
        Err(failure) => {
            return vec![Check::fail("config", format!("{:#}", failure.error), "mend the configuration")];
        }
    };
    let mut checks = vec![Check::ok("config", format!("{} can be read and makes sense", config.display()))];
    checks.push(guarded("config file", config, 0o022));
    checks.push(keys(&read.keys.dir));
    let store = &read.store.url.0;
    checks.push(guarded("store", store, 0o077));
    if let Some(Source::File(file)) = &read.keys.passphrase {
        checks.push(guarded("passphrase", file, 0o077));
    }
    checks
}

/// The directory, and each file in it.
fn keys(dir: &Path) -> Check {
    let name = "key files";
    let listed = fs::read_dir(dir).and_then(|entries| entries.take(MAX_FILES).collect::<io::Result<Vec<_>>>());
    let entries = match listed {
        Ok(entries) => entries,
        Err(e) => return unreadable(name, dir, &e),
    };
    let all = std::iter::once(dir.to_owned()).chain(entries.iter().map(fs::DirEntry::path));
    let checked = all.map(|path| guarded(name, &path, 0o077));
    let wrong = checked.into_iter().find(|check| check.remedy.is_some());
    wrong.unwrap_or_else(|| Check::ok(name, format!("{}: only its owner can reach it", dir.display())))
}

/// Whether nobody has what these bits give.
fn guarded(name: &'static str, path: &Path, forbidden: u32) -> Check {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) => return unreadable(name, path, &e),
    };
    let mode = metadata.permissions().mode() & 0o777;
    let shown = path.display();
    if mode & forbidden != 0 {
        let better = mode & !forbidden;
        let detail =
            format!("{shown}: others can {} it (mode {mode:04o})", if forbidden == 0o022 { "change" } else { "reach" });
        return Check::fail(name, detail, format!("chmod {better:03o} '{shown}'"));
    }
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us && us != 0 {
        let detail = format!("{shown} belongs to user {}, and this is user {us}", metadata.uid());
        return Check::warn(name, detail, "run this as the user that serves");
    }
    Check::ok(name, format!("{shown}, mode {mode:04o}"))
}

fn unreadable(name: &'static str, path: &Path, error: &io::Error) -> Check {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Check::warn(name, detail, "it is made at the first start of `rescind serve`"),
        _ => Check::warn(name, detail, "run this as the user that serves"),
    }
}

/// Keys and tokens are random numbers.
pub(super) fn entropy() -> Check {
    match getrandom::u64() {
        Ok(_) => Check::ok("entropy", "the operating system gives random numbers"),
        Err(e) => Check::fail("entropy", e.to_string(), "the system call getrandom must be permitted in this sandbox"),
    }
}

/// Whether something keeps this clock in step. Only the common ones leave a trace that anyone can read.
pub(super) fn time() -> Check {
    let traces = [
        ("systemd-timesyncd", "/run/systemd/timesync/synchronized"),
        ("chrony", "/run/chrony/chronyd.pid"),
        ("chrony", "/run/chronyd.pid"),
        ("ntpd", "/run/ntpd.pid"),
    ];
    match traces.iter().find(|(_, path)| Path::new(path).exists()) {
        Some((by, _)) => Check::ok("time", format!("{by} keeps this clock in step")),
        None => Check::warn(
            "time",
            "nothing is seen that keeps this clock in step",
            "look at timedatectl; in a container the host keeps the clock",
        ),
    }
}

//! This machine: its files, its entropy, its clock.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use super::{
    super::{
        Exit,
        args::StoreUrl,
        config::{Config, secret::Source},
        pair::mismatch,
    },
    Check,
};
use crate::clock::{Clock, SystemClock};

/// Files that are looked at in the directory of the keys; more than there ever are.
const MAX_FILES: usize = 1000;

/// What is configured, and who can reach it.
pub(super) fn files(config: &Path) -> Vec<Check> {
    let all = format!("`rescind config check --config {}` tells all that is wrong", config.display());
    let read = match Config::read(config) {
        Ok(read) => read,
        Err(failure) => return vec![Check::fail("config", failure.to_string(), all)],
    };
    let mut checks = vec![match wrong(&read) {
        Some(wrong) => Check::fail("config", wrong, all),
        None => Check::ok("config", format!("{} can be read and makes sense", config.display())),
    }];
    let first_start = "the first start of `rescind serve` makes it";
    checks.push(guarded("config file", config, 0o022, "name the right one with --config"));
    checks.push(keys(&read.keys.dir, first_start));
    if let StoreUrl::Embedded(path) = &read.store.url.0 {
        checks.push(guarded("store", path, 0o077, first_start));
    }
    if let Some(Source::File(file)) = &read.keys.passphrase {
        checks.push(guarded("passphrase", file, 0o077, "put it back there, or mend keys.passphrase_file"));
    }
    if let Some(Source::File(file)) = &read.keys.shared_key {
        checks.push(guarded("shared key", file, 0o077, "put it back there, or mend keys.shared_key_file"));
    }
    if let Some(Source::File(file)) = &read.store.password {
        checks.push(guarded("redis password", file, 0o077, "put it back there, or mend store.password_file"));
    }
    checks
}

/// What is wrong with what it names. What this user may not see is told apart below.
fn wrong(config: &Config) -> Option<String> {
    let edge = config.edge(SystemClock::default().now()).err().into_iter().flatten();
    let edge = edge.filter(|problem| problem.exit != Exit::NotPermitted).map(|problem| problem.to_string());
    mismatch(config).into_iter().chain(edge).next()
}

/// The directory, and each file in it.
fn keys(dir: &Path, if_missing: &str) -> Check {
    let name = "key files";
    let listed = fs::read_dir(dir).and_then(|entries| entries.take(MAX_FILES).collect::<io::Result<Vec<_>>>());
    let entries = match listed {
        Ok(entries) => entries,
        Err(e) => return unreadable(name, dir, &e, if_missing),
    };
    if let Some(closed) = writable(name, dir) {
        return closed;
    }
    let all = std::iter::once(dir.to_owned()).chain(entries.iter().map(fs::DirEntry::path));
    let checked = all.map(|path| guarded(name, &path, 0o077, if_missing));
    let wrong = checked.into_iter().find(|check| check.remedy.is_some());
    wrong.unwrap_or_else(|| Check::ok(name, format!("{}: only its owner can reach it", dir.display())))
}

/// What would keep the service from changing its keys: it is found out in an emergency else.
fn writable(name: &'static str, dir: &Path) -> Option<Check> {
    let owner_may = fs::metadata(dir).ok()?.permissions().mode() & 0o200 != 0;
    // This user may be root, whom only the file system can refuse.
    let refused = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).err();
    let shown = dir.display();
    let (why, remedy) = match refused {
        None if owner_may => return None,
        None => ("its owner cannot write there".to_owned(), format!("chmod u+w '{shown}'")),
        Some(refused) => (format!("{refused}"), "let the service write there".to_owned()),
    };
    Some(Check::fail(name, format!("{shown}: no key can be rotated, and none given up: {why}"), remedy))
}

/// Whether nobody has what these bits give.
fn guarded(name: &'static str, path: &Path, forbidden: u32, if_missing: &str) -> Check {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) => return unreadable(name, path, &e, if_missing),
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

fn unreadable(name: &'static str, path: &Path, error: &io::Error, if_missing: &str) -> Check {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => if_missing,
        io::ErrorKind::PermissionDenied => "run this as the user that serves",
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => "mend the configuration: something else is there",
        _ => "look at the disk",
    };
    Check::warn(name, format!("{}: {error}", path.display()), remedy)
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

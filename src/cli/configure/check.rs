//! Whether `serve` could start: the configuration, and what it names on the disk.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{super::say, CheckArgs, Chosen, Exit, Failure, failure, tell};
use crate::{
    cli::{
        args::StoreUrl,
        config::{Config, layers::Problem},
        exit::said,
        pair::{mismatch, no_place},
    },
    clock::{Clock, SystemClock},
    keyring::{Keyring, Passphrase},
};

/// What was found beside the configuration itself.
#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

pub(super) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let found = match Chosen::load(&args.chosen) {
        Ok(loaded) => look(&loaded.config, &args.chosen.config),
        Err(problems) => Found { problems, warnings: Vec::new() },
    };
    if args.json {
        let problems: Vec<_> = found.problems.iter().map(|p| json!({ "at": p.at, "what": p.what })).collect();
        say(json!({ "ok": problems.is_empty(), "problems": problems, "warnings": found.warnings }));
        return Ok(if problems.is_empty() { Exit::Yes } else { Exit::Usage });
    }
    for warning in &found.warnings {
        tell(format_args!("warning: {warning}"));
    }
    if !found.problems.is_empty() {
        return Err(Failure { exit: Exit::Usage, ..failure(&found.problems) });
    }
    say(format_args!("{}: good", args.chosen.config.display()));
    Ok(Exit::Yes)
}

/// What is on the disk.
fn look(config: &Config, file: &Path) -> Found {
    let mut found = Found::default();
    check_file(file, &mut found);
    match (&config.store.url.0, config.passphrase()) {
        (StoreUrl::Redis(_), Ok(_)) => check_shared(config, &mut found),
        (_, Ok(passphrase)) => check_keys(config, passphrase, &mut found),
        (_, Err(problem)) => found.problems.push(problem),
    }
    found.problems.extend(config.evidence().err());
    match config.edge(SystemClock::default().now()) {
        Ok(edge) => found.warnings.extend(config.doubts(&edge)),
        Err(problems) => found.problems.extend(problems),
    }
    if let StoreUrl::Embedded(path) = &config.store.url.0 {
        check_store(path, &mut found);
    }
    found
}

/// Who may change the configuration may let anyone in.
fn check_file(file: &Path, found: &mut Found) {
    let Ok(meta) = fs::metadata(file) else { return };
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_file() && mode & 0o022 != 0 {
        let shown = file.display();
        found.problems.push(Problem::at(
            &shown,
            format!(
                "others than its owner can change it (mode {mode:o}), and with it who may do what; chmod go-w '{shown}'"
            ),
        ));
    }
}

fn check_keys(config: &Config, passphrase: Option<Passphrase>, found: &mut Found) {
    let dir = &config.keys.dir;
    let mismatch = mismatch(config);
    let encrypted = passphrase.is_some();
    match Keyring::inspect(dir, passphrase) {
        Ok(true) if !encrypted => found.warnings.push(format!(
            "the keys in {} are not encrypted: who reads that directory, or a copy of it, can sign tokens; see \
             keys.passphrase",
            dir.display()
        )),
        Ok(false) if mismatch.is_none() => {
            found.warnings.push(format!("there are no keys in {} yet; the first start makes them", dir.display()));
            check_place(dir, found);
        }
        Ok(_) => {}
        Err(error) => found.problems.push(Problem::of(format!("cannot use the keys: {}", said(&error)))),
    }
    found.problems.extend(mismatch.map(Problem::of));
}

/// What nodes share, as far as it lies here. Whether Redis answers is the doctor's question.
fn check_shared(config: &Config, found: &mut Found) {
    found.problems.extend(config.redis().err());
    match config.shared_key() {
        Ok(Some(key)) => match Keyring::inspect_shared(&config.keys.dir, key) {
            Ok(true) => {}
            Ok(false) => {
                let dir = config.keys.dir.display();
                found
                    .warnings
                    .push(format!("there is no copy of the shared keys in {dir} yet; the store has to have them"));
                check_place(&config.keys.dir, found);
            }
            Err(error) => found.problems.push(Problem::of(format!("cannot use the keys: {}", said(&error)))),
        },
        Ok(None) => {}
        Err(problem) => found.problems.push(problem),
    }
}

fn check_store(path: &PathBuf, found: &mut Found) {
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            let mode = file.metadata().map_or(0, |m| m.permissions().mode() & 0o7777);
            if mode & 0o077 != 0 {
                let shown = path.display();
                found.warnings.push(format!("others can reach the store (mode {mode:o}); chmod 600 '{shown}'"));
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound && path.parent().is_some_and(is_absent) => {
            found.problems.push(Problem::of(no_place(path)));
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            found.warnings.push(format!("there is no store at {} yet; the first start makes it", path.display()));
            check_place(path, found);
        }
        Err(e) => found.problems.push(Problem::of(format!("store.url: cannot open {}: {e}", path.display()))),
    }
}

fn is_absent(dir: &Path) -> bool {
    !dir.as_os_str().is_empty() && !dir.exists()
}

/// Whether something can be made there.
fn check_place(path: &Path, found: &mut Found) {
    let parent = path.ancestors().skip(1).find(|p| p.exists() || p.as_os_str().is_empty());
    let parent = parent.filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = parent.display();
    match rustix::fs::access(parent, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) if parent.is_dir() => {}
        Ok(()) => {
            found.problems.push(Problem::of(format!("{} cannot be made: {place} is no directory", path.display())))
        }
        Err(e) => found.problems.push(Problem::of(format!(
            "{} cannot be made: {place} cannot be written by this user ({e})",
            path.display()
        ))),
    }
}

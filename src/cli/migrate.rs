//! `rescind store migrate`: what an embedded store holds, into a Redis that many nodes share.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Exit, Failure, OrExit,
    args::StoreUrl,
    config::{Config, layers::failure},
    owner,
    pair::exit_of,
    say, tell,
};
use crate::{
    clock::{Clock, SystemClock, SystemRandom},
    keyring::{Keyring, KeyringError, SHARED_COPY},
    model::Installation,
    store::{
        StoreError,
        embedded::{LeaveError, Leaving},
        redis::{Destination, MoveError, Moved},
    },
};

/// Move what an embedded store holds into a Redis, which must be empty. Every session ends: everyone logs in again.
///
/// The service must be stopped; its store is read, and nothing is written to it. What is denied goes on being denied:
/// revocations, cut-offs and keys; so do the book of clients, the assertions that have been used, the audit log with its
/// chain, and who has read it how far. The sealed keys go with it. Sessions do not: they and their access tokens end by
/// one cut-off, as after `rescind restore`.
///
/// The configuration is that of the nodes to come: it names the Redis (store.url), and a directory (keys.dir) with a copy
/// of the keys that `rescind keys share` has made ready, beside witness.json of the service. No node serves the Redis
/// before all is there. A run that broke off is not gone on with: delete what it made, and run it again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The store of the stopped service: `embedded:` and the path of its file.
    #[arg(long, value_name = "URL")]
    from: StoreUrl,
    /// The Redis, as store.url of the configuration names it.
    #[arg(long, value_name = "URL")]
    to: StoreUrl,
    /// The configuration of the nodes to come.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Say what would be moved, and move nothing.
    #[arg(long)]
    dry_run: bool,
    /// Go on: every session ends.
    #[arg(long)]
    yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed {
    moved: bool,
    #[serde(flatten)]
    counts: Moved,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let StoreUrl::Embedded(from) = &args.from else {
        return Err(Failure::usage(
            "--from: only an embedded store can be moved; write `embedded:` and the path of its file",
        ));
    };
    let config = Config::read(&args.config)?;
    let problem = |problem| failure(&[problem]);
    let Some(url) = config.redis().map_err(problem)?.filter(|_| args.to == config.store.url.0) else {
        return Err(Failure::usage(
            "--to is not the Redis that store.url of the configuration names; the nodes would serve another store",
        ));
    };
    let (installation, keys) = shared_keys(&config)?;
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    let witness = config.keys.dir.join("witness.json");
    let source = Leaving::at(from, installation, &witness, clock.now()).map_err(leave_failure)?;
    let to = Destination::at(&url, config.redis_options(), clock, random).await.map_err(move_failure)?;
    let amount = Moved::from(source.amount().map_err(|e| leave_failure(e.into()))?);
    if args.dry_run {
        return print(&args, amount);
    }
    if !args.yes {
        return Err(Failure::usage(format!(
            "nothing was moved: {}. Every session ends by this, and everyone logs in again; --yes goes on",
            in_numbers(amount)
        )));
    }
    let moved = to.take_in(&source, &keys, &owner::whoever_runs_this()).await.map_err(move_failure)?;
    print(&args, moved)
}

/// Whose keys lie there ready to be shared, and their bundle.
fn shared_keys(config: &Config) -> Result<(Installation, Vec<u8>), Failure> {
    let key = config.shared_key().map_err(|problem| failure(&[problem]))?;
    let key = key.ok_or_else(|| Failure::usage("keys.shared_key_file names no file; `rescind keys share` makes it"))?;
    let dir = &config.keys.dir;
    let mend = "copy the directory of the service's keys there, and run `rescind keys share` with this configuration";
    let whose = match Keyring::installation_of_shared(dir, key) {
        Ok(Some(whose)) => whose,
        Ok(None) => return Err(Failure::usage(format!("{}: no keys are here; {mend}", dir.display()))),
        Err(e @ KeyringError::NotShared { .. }) => return Err(Failure::usage(e)),
        Err(e) => return Err(e).or_exit(Exit::Usage, "cannot use the keys"),
    };
    Ok((whose, read(&dir.join(SHARED_COPY))?))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).or_exit(Exit::CannotTell, format!("cannot read {}", path.display()))
}

fn leave_failure(error: LeaveError) -> Failure {
    let exit = match &error {
        LeaveError::Open(error) => exit_of(error),
        LeaveError::Store(_) => Exit::CannotTell,
        _ => Exit::Usage,
    };
    Failure::new(exit, error)
}

fn move_failure(error: MoveError) -> Failure {
    let exit = match &error {
        MoveError::NotEmpty { .. } | MoveError::Begun { .. } | MoveError::Store(StoreError::Layout(_)) => Exit::Usage,
        _ => Exit::CannotTell,
    };
    Failure::new(exit, error)
}

fn in_numbers(counts: Moved) -> String {
    let Moved { sessions_ended, entries, records, assertions } = counts;
    format!(
        "{entries} entries of the denylist, {records} audit records, {assertions} used assertions; {sessions_ended} sessions \
         stay behind"
    )
}

fn print(args: &Args, counts: Moved) -> Result<Exit, Failure> {
    if args.json {
        say(serde_json::to_string(&Printed { moved: !args.dry_run, counts })?);
        return Ok(Exit::Yes);
    }
    let verb = if args.dry_run { "would be moved" } else { "moved" };
    say(format_args!("{verb}: {}", in_numbers(counts)));
    if args.dry_run {
        tell("Every session would end: everyone would log in again.");
        return Ok(Exit::Yes);
    }
    tell("Every session has ended: everyone logs in again.");
    tell(format_args!(
        "Start the nodes with {}; every node needs a copy of it and of the shared key, and an empty keys.dir. What lies in \
         the embedded store and its keys is not used any more: never start it again, and delete both once nobody needs them.",
        args.config.display()
    ));
    Ok(Exit::Yes)
}

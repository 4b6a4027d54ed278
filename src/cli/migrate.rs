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
    progress::Progress,
    say, tell,
};
use crate::{
    clock::{Clock, Random, SystemClock, SystemRandom},
    families,
    keyring::{Keyring, KeyringError, SHARED_COPY},
    store::{
        StoreError,
        embedded::{LeaveError, Leaving},
        redis::{Destination, MoveError, Moved},
    },
};

/// Move what an embedded store holds into a Redis, which must be empty. Nobody is logged out by it.
///
/// The service must be stopped; its store is read, and nothing is written to it. Sessions go on with the refresh tokens
/// that their clients hold. What is denied goes on being denied: revocations, cut-offs and keys; so do the book of
/// clients, the assertions that have been used, the audit log with its chain, and who has read it how far. The sealed
/// keys go with it. A session has another id there, in its last three digits; the one that it had finds it as well.
/// Access tokens name the old ids, so all of them end by one cut-off: clients refresh, and go on.
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
    /// Go on: every access token ends.
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
    let (clock, random) = (Arc::new(SystemClock::default()), Arc::new(SystemRandom));
    let (keyring, keys) = shared_keys(&config, clock.clone(), random.clone())?;
    let witness = config.keys.dir.join("witness.json");
    let source = Leaving::at(from, keyring.installation(), &witness, clock.now()).map_err(leave_failure)?;
    let rename = |family, id| families::renamed(&keyring, &SystemRandom, family, id);
    let to = Destination::at(&url, config.redis_options(), clock, random).await.map_err(move_failure)?;
    if args.dry_run || !args.yes {
        let foreseen = to.foresee(&source, &rename).map_err(|e| leave_failure(e.into()))?;
        if args.dry_run {
            return print(&args, foreseen);
        }
        return Err(Failure::usage(format!(
            "nothing was moved: {}. Every access token ends by this, and clients refresh; --yes goes on",
            in_numbers(foreseen)
        )));
    }
    let mut progress = Progress::new();
    let tell = |sessions| progress.tell(format_args!("{sessions} sessions"));
    let moved = to.take_in(&source, &rename, &keys, &owner::whoever_runs_this(), tell).await;
    drop(progress);
    print(&args, moved.map_err(move_failure)?)
}

/// The keys that lie there ready to be shared, and their bundle.
fn shared_keys(config: &Config, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<(Keyring, Vec<u8>), Failure> {
    let key = config.shared_key().map_err(|problem| failure(&[problem]))?;
    let key = key.ok_or_else(|| Failure::usage("keys.shared_key_file names no file; `rescind keys share` makes it"))?;
    let dir = &config.keys.dir;
    let mend = "copy the directory of the service's keys there, and run `rescind keys share` with this configuration";
    let keyring = match Keyring::of_copy(dir, key, config.key_settings(), clock, random) {
        Ok(Some(keyring)) => keyring,
        Ok(None) => return Err(Failure::usage(format!("{}: no keys are here; {mend}", dir.display()))),
        Err(e @ KeyringError::NotShared { .. }) => return Err(Failure::usage(e)),
        Err(e) => return Err(e).or_exit(Exit::Usage, "cannot use the keys"),
    };
    Ok((keyring, read(&dir.join(SHARED_COPY))?))
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
    let Moved { sessions, sessions_over, sessions_unreadable, entries, records, assertions } = counts;
    let told = format!(
        "{sessions} sessions, {entries} entries of the denylist, {records} audit records, {assertions} used assertions; \
         {sessions_over} sessions that are over stay behind"
    );
    match sessions_unreadable {
        0 => told,
        n => format!("{told}, and {n} that cannot be read"),
    }
}

fn print(args: &Args, counts: Moved) -> Result<Exit, Failure> {
    if args.json {
        say(serde_json::to_string(&Printed { moved: !args.dry_run, counts })?);
        return Ok(Exit::Yes);
    }
    let verb = if args.dry_run { "would be moved" } else { "moved" };
    say(format_args!("{verb}: {}", in_numbers(counts)));
    if args.dry_run {
        tell("Every access token would end: clients would refresh, and go on.");
        return Ok(Exit::Yes);
    }
    tell("Every access token has ended: clients refresh, and go on.");
    tell(format_args!(
        "Start the nodes with {}; every node needs a copy of it and of the shared key, and an empty keys.dir. What lies in \
         the embedded store and its keys is not used any more: never start it again, and delete both once nobody needs them.",
        args.config.display()
    ));
    Ok(Exit::Yes)
}

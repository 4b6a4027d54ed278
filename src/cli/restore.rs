//! `rescind restore`: a backup in the place of a stopped service's store.

use std::{io, path::PathBuf, sync::Arc};

use serde::Serialize;

use super::{Exit, Failure, OrExit, config::Config, node::store_options, owner, pair::exit_of, say, tell};
use crate::{
    clock::{Clock, SystemClock, SystemRandom},
    keyring::Keyring,
    model::Installation,
    store::embedded::{Acceptance, Lost, Order, RestoreError, Restored, restore},
};

const MEND_KEYS: &str = "put back the keys of its own installation first, or name their directory in keys.dir; \
                         --dangerous-other-keys says that it is meant, and everyone logs in again";

/// Put a backup in the place of a store. The service must be stopped.
///
/// The backup is read to its end and checked before anything is changed, and the store that is there is put aside, not
/// deleted. The backup knows nothing of what was revoked after it was made, so every session in it ends: everyone logs in
/// again. From then on nothing is healed: a refresh token that is newer than the backup closes its session.
///
/// A backup names the installation whose keys it was made with; one of another installation is refused.
///
/// Clients that were disabled and secrets that were replaced after the backup stay so, as long as `clients.sealed` is
/// beside the keys: look at `rescind client list`. The directory of the keys must be there.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `rescind backup` wrote.
    #[arg(value_name = "FILE")]
    backup: PathBuf,
    /// The configuration of the service.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Replace a store that is there; it is put aside.
    #[arg(long)]
    yes: bool,
    /// Let sessions go on. What was revoked or spent after the backup works again.
    #[arg(long)]
    dangerous_keep_sessions: bool,
    /// Restore a backup of another installation, or one that does not say whose it is. Under other keys nobody can read
    /// its sessions, nor which clients were disabled at run time.
    #[arg(long, conflicts_with = "dangerous_keep_sessions")]
    dangerous_other_keys: bool,
    /// Check the backup and say what it would replace; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Done {
    restored: bool,
    taken_at: String,
    installation: Option<Installation>,
    schema: u32,
    rows: u64,
    sha256: String,
    sessions: &'static str,
    put_aside: Option<PathBuf>,
    lost: Option<Lost>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let config = Config::read(&args.config)?;
    let mut options = config.store_options(store_options(&config.lives()));
    options.acceptance =
        if args.dangerous_keep_sessions { Acceptance::DangerouslyKeepSessions } else { Acceptance::EndSessions };
    options.accepted_by = Some(owner::whoever_runs_this().into());
    options.installation = Some(installation(&config)?);
    options.other_keys = args.dangerous_other_keys;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let store = config.embedded()?;
    let order = Order { backup: &args.backup, store, replace: args.yes, dry_run: args.dry_run };
    let restored = restore(&order, &options, &clock, &SystemRandom).map_err(failure)?;
    if !args.dry_run {
        give_to_the_service(&config)?;
    }
    if args.json {
        say(serde_json::to_string(&done(args, restored))?);
    } else {
        in_words(args, &restored);
    }
    Ok(Exit::Yes)
}

/// Restored by root, it is for the service to write on.
fn give_to_the_service(config: &Config) -> Result<(), Failure> {
    for made in [config.embedded()?.to_owned(), config.keys.dir.join("witness.json")] {
        if let (true, Some(home)) = (made.exists(), made.parent()) {
            // A name alone lies where we are.
            let home = if home.as_os_str().is_empty() { std::path::Path::new(".") } else { home };
            owner::hand_over(&made, home)?;
        }
    }
    Ok(())
}

/// Whose keys are there. Without its keys a backup is a list of records that nobody can open.
fn installation(config: &Config) -> Result<Installation, Failure> {
    let dir = &config.keys.dir;
    let there = Keyring::installation_of(dir).or_exit(Exit::Usage, "nothing was changed")?;
    let what = "the keys are not there; put their own backup in this place first, or mend keys.dir: a backup of the \
                store is of no use without them";
    there.ok_or_else(|| Failure::usage(format!("{}: {what}", dir.display())))
}

fn failure(error: RestoreError) -> Failure {
    let (exit, mend) = match &error {
        RestoreError::Exists { lost, .. } => {
            let known = lost.map_or_else(
                || "what exactly cannot be read from it".into(),
                |lost| format!("{}; the backup does not know them", in_numbers(lost)),
            );
            (Exit::Usage, format!(": {known}; --yes puts the store aside and goes on"))
        }
        RestoreError::OtherKeys { .. } => (Exit::Usage, format!("; {MEND_KEYS}")),
        RestoreError::Backup { .. } => (Exit::Usage, String::new()),
        RestoreError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => (Exit::Usage, String::new()),
        RestoreError::File { .. } => (Exit::CannotTell, String::new()),
        RestoreError::Open(error) => (exit_of(error), String::new()),
    };
    let said = format!("nothing was changed: {error}{mend}");
    Failure::new(exit, anyhow::Error::new(error).context(said))
}

fn in_numbers(lost: Lost) -> String {
    let Lost { revocations, sessions, records } = lost;
    format!("{revocations} revocations, {sessions} sessions opened, {records} audit records")
}

fn done(args: &Args, restored: Restored) -> Done {
    Done {
        restored: !args.dry_run,
        taken_at: restored.summary.taken_at.to_rfc3339(),
        installation: restored.head.installation,
        schema: restored.head.schema,
        rows: restored.summary.rows,
        sha256: restored.summary.sha256,
        sessions: if args.dangerous_keep_sessions { "kept" } else { "ended" },
        put_aside: restored.aside,
        lost: restored.lost,
    }
}

fn in_words(args: &Args, restored: &Restored) {
    let Restored { summary, aside, lost, .. } = restored;
    let (taken_at, rows) = (summary.taken_at.to_rfc3339(), summary.rows);
    let verb = if args.dry_run { "is whole; it shows" } else { "restored:" };
    say(format_args!("{} {verb} the store as of {taken_at}, {rows} rows", args.backup.display()));
    match lost {
        Some(lost) => say(format_args!("lost since then: {}", in_numbers(*lost))),
        None => say(format_args!("lost since then: everything; how much is not known")),
    }
    if args.dry_run {
        return;
    }
    if let Some(aside) = aside {
        say(format_args!("put aside: {}; delete it once nobody needs it", aside.display()));
    }
    if args.dangerous_keep_sessions {
        tell("Sessions go on: what was revoked or spent after the backup works again. Revoke anew what must not.");
    } else {
        tell("Every session of the backup has ended: everyone logs in again.");
    }
    tell(
        "Clients disabled and secrets replaced since the backup stay so while keys/clients.sealed is there: see `rescind client \
         list`.",
    );
}

//! `rescind store`: what the store is like, and an operator's word when it has come back.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Exit, Failure, backup,
    config::Config,
    consent::{Consent, Foreseen},
    migrate,
    output::plain,
    pair::exit_of,
    remote::{Remote, Server},
    say, tell,
};
use crate::store::embedded::{Compacted, compact};

/// Look after the store.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Show(Show),
    Restored(RestoredArgs),
    Waive(WaiveArgs),
    Compact(Compact),
    Migrate(migrate::Args),
}

/// Show whether the store is whole, how large it is, and when it was last backed up.
///
/// The client needs the permission `backup` or `store:restore`. Exit code 1: it is not whole.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Print the answer as it comes, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Declare to a running service that its store was restored by other means, a snapshot of the disk for one.
///
/// The service answers 503 until then, because the store came back older than its witness remembers. Every session ends,
/// since what was revoked after the copy was made would come alive. The client needs the permission `store:restore`.
#[derive(Debug, clap::Args)]
pub(super) struct RestoredArgs {
    /// Let sessions go on. What was revoked or spent after the copy was made works again.
    #[arg(long)]
    dangerous_keep_sessions: bool,
    /// Declare it although nothing contradicts the store: its witness was put back with it.
    #[arg(long)]
    although_whole: bool,
    /// Print the answer as it comes, as JSON; with --dry-run the store as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

/// Declare that a node of a shared store is gone for ever, so that the others need not wait for it.
///
/// When Redis comes back as another, every node must push what it knows before anybody serves. What this one alone knew of
/// acknowledged revocations is lost by this word; if its journal is still there, start it instead. The client needs the
/// permission `store:restore`.
#[derive(Debug, clap::Args)]
pub(super) struct WaiveArgs {
    /// Its id: `rescind store show` and the answer of /readyz name it.
    #[arg(value_name = "NODE")]
    node: String,
    /// Print the answer as it comes, as JSON; with --dry-run the store as it is.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

/// Give the room that deleted records took back to the file system. The service must be stopped.
#[derive(Debug, clap::Args)]
pub(super) struct Compact {
    /// The configuration of the service.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Show(args) => show(args).await,
        Command::Restored(args) => restored(args).await,
        Command::Waive(args) => waive(args).await,
        Command::Compact(args) => run_compact(&args),
        Command::Migrate(args) => migrate::run(args).await,
    }
}

async fn show(args: Show) -> Result<Exit, Failure> {
    let store = args.server.connect()?.get(&["v1", "store"], &[]).await?;
    print(&store, args.json);
    Ok(if store["standing"] == "whole" { Exit::Yes } else { Exit::No })
}

async fn restored(args: RestoredArgs) -> Result<Exit, Failure> {
    let foresee = async |remote: &Remote| {
        let store = remote.get(&["v1", "store"], &[]).await?;
        let standing = plain(store["standing"].as_str().unwrap_or("?"));
        let then = if args.dangerous_keep_sessions {
            "What was revoked or spent after the copy was made will work again."
        } else {
            "Every session will end: everyone logs in again."
        };
        Ok(Foreseen::new(store, format!("The store is {standing}. {then}")))
    };
    let order = async |remote: &Remote| {
        let (keep, although) = (args.dangerous_keep_sessions, args.although_whole);
        let order = json!({"dangerous_keep_sessions": keep, "although_whole": although});
        print(&remote.post(&["v1", "store", "restored"], &order).await?, args.json);
        Ok(Exit::Yes)
    };
    args.consent.carry_out(&args.server, args.json, foresee, order).await
}

async fn waive(args: WaiveArgs) -> Result<Exit, Failure> {
    let foresee = async |remote: &Remote| {
        let store = remote.get(&["v1", "store"], &[]).await?;
        let node = store["nodes"].as_array().into_iter().flatten().find(|node| node["id"] == args.node.as_str());
        let who = node.map_or_else(
            || "No such node takes part in this store.".into(),
            |node| {
                let say = |member: &str| plain(node[member].as_str().unwrap_or("?"));
                format!("{} was last seen {}.", say("name"), say("seen_at"))
            },
        );
        let words = format!("{who} What it alone knew of acknowledged revocations will be lost.");
        Ok(Foreseen::new(store, words))
    };
    let order = async |remote: &Remote| {
        print(&remote.post(&["v1", "store", "waive"], &json!({"node": args.node})).await?, args.json);
        Ok(Exit::Yes)
    };
    args.consent.carry_out(&args.server, args.json, foresee, order).await
}

fn print(store: &Value, json: bool) {
    if json {
        return say(store);
    }
    let bytes = store["bytes"].as_u64().map_or("?".into(), backup::in_words);
    say(format_args!("standing     {}", store["standing"].as_str().unwrap_or("?")));
    say(format_args!("schema       {}", store["schema"]));
    say(format_args!("incarnation  {}", store["incarnation"]));
    say(format_args!("size         {bytes}"));
    say(format_args!("last backup  {}", store["last_backup"]["taken_at"].as_str().unwrap_or("never")));
    for (table, rows) in store["rows"].as_object().into_iter().flatten() {
        say(format_args!("{table:<11}  {rows} rows"));
    }
    for node in store["nodes"].as_array().into_iter().flatten() {
        let own = |member: &str| plain(node[member].as_str().unwrap_or("?"));
        let waits = if node["pushed"] == true { "" } else { ", is waited for" };
        say(format_args!(
            "node         {} {}, {}, seen {}{waits}",
            own("id"),
            own("name"),
            own("version"),
            own("seen_at")
        ));
    }
    if let Some(why) = store["why"].as_str() {
        say(format_args!("why          {}", plain(why)));
    }
}

/// What `store compact --json` prints.
#[derive(Serialize)]
struct Printed {
    bytes_before: u64,
    bytes_after: u64,
}

fn run_compact(args: &Compact) -> Result<Exit, Failure> {
    let config = Config::read(&args.config)?;
    let done = compact(config.embedded()?).map_err(|e| Failure::new(exit_of(&e), e))?;
    let Compacted { before, after } = done;
    if args.json {
        say(serde_json::to_string(&Printed { bytes_before: before, bytes_after: after })?);
    } else {
        say(format_args!("{} before, {} after", backup::in_words(before), backup::in_words(after)));
        tell("The store is as it was; start the service again.");
    }
    Ok(Exit::Yes)
}

//! `rescind subject export|erase`: what is kept about a person, handed out and removed.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure,
    consent::{Consent, Foreseen},
    fresh::Fresh,
    output::plain,
    remote::{Remote, Server},
    say, tell,
};
use crate::model::Subject;

/// What is kept about a person.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Export(ExportArgs),
    Erase(EraseArgs),
}

/// Write all that is kept about a subject, as one JSON object.
///
/// Its sessions, live revocations and audit records. Needs the permission subjects:export, and is recorded in the audit
/// log.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// The subject, as `sub` has it.
    #[arg(value_name = "ID")]
    subject: Subject,
    /// A new file, which only its owner can read, instead of stdout.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Changes nothing: the export is JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// End a subject's sessions and remove what is kept about it.
///
/// Sessions go, and from audit records and revocations what names a person: the name, addresses, user agents,
/// operators' words. What remains stands under a pseudonym, and the audit log tells that it was erased; copies of the
/// store and exports made before are not reached. Needs the permission subjects:erase. Doing it again is fine.
#[derive(Debug, clap::Args)]
pub(super) struct EraseArgs {
    /// The subject, as `sub` has it.
    #[arg(value_name = "ID")]
    subject: Subject,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Export(args) => export(args).await,
        Command::Erase(args) => erase(args).await,
    }
}

/// All parts put together. `sessions` and `revocations` are in the first.
async fn dossier(remote: &Remote, subject: &str) -> Result<Value, Failure> {
    let path = ["v1", "subjects", subject];
    let mut whole = remote.get(&path, &[]).await?;
    while let Some(next) = whole["next"].as_u64() {
        let mut part = remote.get(&path, &[("after", next.to_string())]).await?;
        let more = part["records"].as_array_mut().map(std::mem::take).unwrap_or_default();
        if let Some(all) = whole["records"].as_array_mut() {
            all.extend(more);
        }
        whole["next"] = part["next"].take();
    }
    whole.as_object_mut().map(|members| members.remove("next"));
    Ok(whole)
}

async fn export(args: ExportArgs) -> Result<Exit, Failure> {
    let remote = args.server.connect()?;
    // Before anything is asked for: what cannot be written need not be handed out.
    let file = args.output.as_deref().map(|path| Fresh::create("--output", path)).transpose()?;
    let whole = dossier(&remote, args.subject.as_str()).await?;
    let text = serde_json::to_string_pretty(&whole)?;
    match file {
        None => say(text),
        Some(file) => drop(file.keep(&text, "it could not be written; export it again")?),
    }
    if whole["more_sessions"] == true {
        tell("there are more than 10000 sessions; the oldest of them are written");
    }
    Ok(Exit::Yes)
}

async fn erase(args: EraseArgs) -> Result<Exit, Failure> {
    let foresee = async |remote: &Remote| {
        let query = [("subject", args.subject.to_string()), ("limit", "1".into())];
        let sessions = remote.get(&["v1", "sessions"], &query).await?["total"].take();
        let words = format!(
            "This would erase all that is kept about {}: {sessions} sessions end, and audit records lose what names a \
             person.",
            plain(args.subject.as_str())
        );
        Ok(Foreseen::new(json!({"sessions": sessions, "dry_run": true}), words))
    };
    let order = async |remote: &Remote| {
        print(&remote.delete(&["v1", "subjects", args.subject.as_str()]).await?, args.json);
        Ok(Exit::Yes)
    };
    args.consent.carry_out(&args.server, args.json, foresee, order).await
}

fn print(done: &Value, as_json: bool) {
    if as_json {
        return say(done);
    }
    say(format_args!("erased: {} sessions", done["sessions"]));
    for (member, text) in [
        ("records", "audit records stripped of what names a person"),
        ("reasons", "operators' words beside revocations"),
    ] {
        if let Some(number) = done[member].as_u64() {
            say(format_args!("erased: {number} {text}"));
        }
    }
    if let Some(reference) = done["subject_ref"].as_str() {
        say(format_args!("known from now on as: {reference}"));
    }
}

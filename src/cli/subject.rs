//! `rescind subject export|erase`: what is kept about a person, handed out and removed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure, OrExit,
    consent::{Consent, DECLINED},
    output::plain,
    remote::{Remote, Server},
    say, tell,
};

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
    subject: String,
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
    subject: String,
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
    let file = args.output.as_deref().map(fresh).transpose()?;
    let whole = match (dossier(&remote, &args.subject).await, &args.output) {
        (Ok(whole), _) => whole,
        (Err(failure), Some(path)) => {
            let _ = fs::remove_file(path);
            return Err(failure);
        }
        (Err(failure), None) => return Err(failure),
    };
    let mut text = serde_json::to_string_pretty(&whole)?;
    text.push('\n');
    match file {
        None => io::stdout().write_all(text.as_bytes()).or_exit(Exit::CannotTell, "cannot write")?,
        Some(mut file) => {
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).or_exit(Exit::CannotTell, "--output")?;
        }
    }
    if whole["more_sessions"] == true {
        tell("there are more than 10000 sessions; the oldest of them are written");
    }
    Ok(Exit::Yes)
}

/// A new file that only its owner can read.
fn fresh(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.or_exit(Exit::Usage, format!("--output {}", path.display()))
}

async fn erase(args: EraseArgs) -> Result<Exit, Failure> {
    args.consent.check(args.server.takes_stdin())?;
    let remote = args.server.connect()?;
    let name = plain(&args.subject);
    if args.consent.asks() || args.consent.dry_run {
        let count = count(&remote, &args.subject).await?;
        if args.consent.dry_run {
            print(&count, args.json, "would erase");
            return Ok(Exit::Yes);
        }
        let what = format!(
            "All that is kept about {name} will be erased: {} sessions end, and audit records lose what names a person.",
            count["sessions"]
        );
        if !args.consent.ask(&what)? {
            return Ok(DECLINED);
        }
    }
    let done = remote.delete(&["v1", "subjects", &args.subject]).await?;
    print(&done, args.json, "erased");
    Ok(Exit::Yes)
}

/// What an erasure would find.
async fn count(remote: &Remote, subject: &str) -> Result<Value, Failure> {
    let whole = remote.get(&["v1", "sessions"], &[("subject", subject.to_owned()), ("limit", "1".into())]).await?;
    Ok(json!({"sessions": whole["total"], "dry_run": true}))
}

fn print(done: &Value, as_json: bool, verb: &str) {
    if as_json {
        return say(done);
    }
    say(format_args!("{verb}: {} sessions", done["sessions"]));
    for (member, text) in [
        ("records", "audit records stripped of what names a person"),
        ("reasons", "operators' words beside revocations"),
    ] {
        if let Some(number) = done[member].as_u64() {
            say(format_args!("{verb}: {number} {text}"));
        }
    }
    if let Some(reference) = done["subject_ref"].as_str() {
        say(format_args!("known from now on as: {reference}"));
    }
}

//! `rescind session`: open, list, show, revoke.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure,
    args::{id, reason},
    consent::{Consent, Foreseen},
    effect,
    output::{members, table, text, when},
    remote::{Remote, Server},
    say, tell,
};
use crate::model::{SessionId, Subject};

mod open;

/// Open, find and end sessions.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Open(open::Args),
    List(ListArgs),
    Show(ShowArgs),
    Revoke(RevokeArgs),
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Open(args) => open::run(args).await,
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Revoke(args) => revoke(args).await,
    }
}

/// Find a subject's sessions, the oldest first.
///
/// Needs the permission sessions:read. Ended sessions are listed for as long as they are kept.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Whose: `sub`.
    subject: Subject,
    /// Only those that have not ended.
    #[arg(long)]
    open: bool,
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    /// Print one JSON object with `sessions`, each as GET /v1/sessions/{session_id} has it, and `total`: how many the
    /// subject has, ended ones included.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let remote = args.server.connect()?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut sessions, mut total, mut after) = (Vec::new(), Value::Null, None);
    while sessions.len() < limit {
        let mut query = vec![("subject", args.subject.to_string()), ("limit", "200".into())];
        query.extend(after.map(|after| ("after", after)));
        let mut page = remote.get(&["v1", "sessions"], &query).await?;
        total = page["total"].take();
        let found = page["sessions"].as_array_mut().map(std::mem::take).unwrap_or_default();
        sessions.extend(found.into_iter().filter(|s| !args.open || s["state"] == "open"));
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if sessions.len() > limit || after.is_some() {
        sessions.truncate(limit);
        tell(format_args!("rescind: the first {limit}; there may be more, which --limit lets in"));
    }
    if args.json {
        say(json!({"sessions": sessions, "total": total}));
    } else if sessions.is_empty() {
        tell("no sessions");
    } else {
        rows(&sessions);
    }
    Ok(Exit::Yes)
}

fn rows(sessions: &[Value]) {
    let heading = ["SESSION", "STATE", "CLIENT", "OPENED", "LAST USED", "DEVICE"];
    let row = |s: &Value| {
        let device = ["label", "ip", "user_agent"].map(|name| text(&s["device"][name]));
        let device = device.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        vec![
            text(&s["session_id"]),
            text(&s["state"]),
            text(&s["client_id"]),
            when(&s["opened_at"]),
            when(&s["last_used_at"]),
            device,
        ]
    };
    table(&heading, 2, sessions.iter().map(row));
}

/// Show one session.
///
/// Needs the permission sessions:read.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Its id, the `sid` of its tokens.
    session: String,
    /// Print the session as GET /v1/sessions/{session_id} has it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

async fn show(args: ShowArgs) -> Result<Exit, Failure> {
    let session: SessionId = id("SESSION", &args.session)?;
    let session = args.server.connect()?.get(&["v1", "sessions", &session.to_string()], &[]).await?;
    if args.json {
        say(session);
        return Ok(Exit::Yes);
    }
    let instants = ["opened_at", "last_used_at", "expires_at", "absolute_expires_at"];
    let shown = |name: &str| if instants.contains(&name) { when(&session[name]) } else { text(&session[name]) };
    let names = [
        "session_id",
        "state",
        "subject",
        "client_id",
        "audience",
        "scope",
        "claims",
        "acr",
        "amr",
        "opened_at",
        "last_used_at",
        "generation",
        "expires_at",
        "absolute_expires_at",
    ];
    let device = ["label", "ip", "user_agent"].map(|name| (name, text(&session["device"][name])));
    let closed = [("closed_at", when(&session["closed"]["at"])), ("cause", text(&session["closed"]["cause"]))];
    members(names.map(|name| (name, shown(name))).into_iter().chain(device).chain(closed));
    Ok(Exit::Yes)
}

/// End a session, or all others of its subject.
///
/// It can no longer be refreshed, and its live access tokens are refused. With --others, the sessions that were opened
/// before this is carried out end; one that is opened meanwhile goes on. Needs the permission sessions:revoke.
#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// Its id, the `sid` of its tokens.
    session: String,
    /// End its subject's other sessions instead: everything but this one.
    #[arg(long)]
    others: bool,
    /// Why, for the audit log; up to 256 bytes.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// Print the answer of POST /v1/sessions/{session_id}/revoke.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

async fn revoke(args: RevokeArgs) -> Result<Exit, Failure> {
    let session = id::<SessionId>("SESSION", &args.session)?.to_string();
    let path = ["v1", "sessions", &session, "revoke"];
    let order = |dry_run| json!({"others": args.others, "reason": args.reason, "dry_run": dry_run});
    let foresee = async |remote: &Remote| {
        let impact = remote.post(&path, &order(true)).await?;
        let words = effect::sentence(&impact);
        Ok(Foreseen::new(impact, words))
    };
    let carry_out = async |remote: &Remote| {
        show_ended(&remote.post(&path, &order(false)).await?, &args);
        Ok(Exit::Yes)
    };
    args.consent.carry_out(&args.server, args.json, foresee, carry_out).await
}

fn show_ended(ended: &Value, args: &RevokeArgs) {
    if args.json {
        return say(ended);
    }
    let named = if args.others { "kept" } else { "session" };
    let done = [
        (named, text(&ended["session_id"])),
        ("subject", text(&ended["subject"])),
        ("ended", text(&ended["sessions"])),
    ];
    members(done.into_iter().chain(effect::effect(&ended["effect"])));
}

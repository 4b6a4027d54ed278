//! `rescind session open`: for a person who lost the login page, a test, a job. Its tokens go where they are wanted
//! and never to a terminal by chance.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};

use super::super::{
    Exit, Failure, OrExit,
    fresh::Fresh,
    output::{members, text},
    remote::Server,
    say,
};
use crate::model::{Audience, ClientId, Scope, Subject, time::format_duration};

/// What is secret about the answer.
const TOKENS: [&str; 2] = ["access_token", "refresh_token"];

/// Open a session for a subject.
///
/// Whoever calls this vouches for the subject. The tokens go to --tokens-file, or, with --json and without that file,
/// to stdout; say one of the two. Needs the permission sessions:open.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Whose: `sub`.
    subject: Subject,
    /// For whom its tokens are: `aud`. May be repeated.
    #[arg(long, value_name = "AUDIENCE", required = true)]
    audience: Vec<Audience>,
    /// What they allow, separated by spaces.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<Scope>,
    /// Which client will refresh it; the one that asks by default.
    #[arg(long, value_name = "ID")]
    for_client: Option<ClientId>,
    /// A file with custom claims, a JSON object.
    #[arg(long, value_name = "FILE")]
    claims_file: Option<PathBuf>,
    /// How strongly the subject was authenticated.
    #[arg(long, value_name = "ACR")]
    acr: Option<String>,
    /// By which methods (RFC 8176). May be repeated.
    #[arg(long, value_name = "METHOD")]
    amr: Vec<String>,
    /// What the subject calls the device.
    #[arg(long, value_name = "TEXT")]
    device: Option<String>,
    /// Where to write the answer with its tokens, as JSON: a new file that only its owner can read.
    #[arg(long, value_name = "FILE", required_unless_present = "json")]
    tokens_file: Option<PathBuf>,
    /// Print the answer of POST /v1/sessions; without its tokens if they go to --tokens-file.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let order = order(&args)?;
    let remote = args.server.connect()?;
    // Before the session exists: one whose tokens cannot be kept is of no use to anybody.
    let file = args.tokens_file.as_deref().map(|path| Fresh::create("--tokens-file", path)).transpose()?;
    let mut opened = remote.post(&["v1", "sessions"], &order).await?;
    if let Some(file) = file {
        let session = text(&opened["session_id"]);
        let lost = format!("the session {session} was opened, but its tokens could not be written; revoke it");
        file.keep(&opened, &lost)?;
        opened.as_object_mut().into_iter().for_each(|answer| TOKENS.iter().for_each(|name| drop(answer.remove(*name))));
    }
    if args.json {
        say(opened);
        return Ok(Exit::Yes);
    }
    let tokens = args.tokens_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let life = |name: &str| format_duration(Duration::from_secs(opened[name].as_u64().unwrap_or(0)));
    members([
        ("opened", text(&opened["session_id"])),
        ("scope", text(&opened["scope"])),
        ("access token", format!("good for {}", life("expires_in"))),
        ("session", format!("ends after {} without use", life("refresh_expires_in"))),
        ("tokens", tokens),
    ]);
    Ok(Exit::Yes)
}

fn order(args: &Args) -> Result<Value, Failure> {
    let mut order = json!({"subject": args.subject, "audience": args.audience});
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            order[name] = value;
        }
    };
    set("scope", json!(args.scope));
    set("client_id", json!(args.for_client));
    set("acr", args.acr.clone().into());
    set("amr", if args.amr.is_empty() { Value::Null } else { args.amr.clone().into() });
    set("device", args.device.as_ref().map_or(Value::Null, |label| json!({"label": label})));
    if let Some(path) = &args.claims_file {
        let named = format!("--claims-file {}", path.display());
        let claims: Map<String, Value> = serde_json::from_reader(fs::File::open(path).or_exit(Exit::Usage, &named)?)
            .or_exit(
                Exit::Usage,
                format!("{named}: one JSON object is expected, such as {{\"roles\": [\"admin\"]}}"),
            )?;
        set("claims", claims.into());
    }
    Ok(order)
}

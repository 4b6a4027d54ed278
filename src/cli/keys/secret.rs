//! `rescind keys secrets`, `keys rotate --secret`, `keys compromise --secret`, `keys forget-unknown`: the feed, derivation
//! and sealing keys.

use serde_json::{Value, json};

use super::{
    super::{
        Exit, Failure,
        consent::Foreseen,
        output::{members, table, text, when},
        remote::{Remote, Server},
        say, tell,
    },
    order::{How, NOBODY},
};
use crate::keyring::{Exposure, SecretKind};

/// List the feed, derivation and sealing keys: names and ages, never the keys.
///
/// The feed's key signs the feed and the head of the audit log, refresh tokens are made of the derivation key, and the
/// sealing key seals what the store must not read. Needs the permission keys:read.
#[derive(Debug, clap::Args)]
pub(in super::super) struct SecretsArgs {
    /// Print the answer of GET /v1/keys/secrets.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn list(args: SecretsArgs) -> Result<Exit, Failure> {
    let answer = args.server.connect()?.get(&["v1", "keys", "secrets"], &[]).await?;
    if args.json {
        say(answer);
        return Ok(Exit::Yes);
    }
    let row = |key: &Value| {
        let created = key["created_at"].as_str().map_or_else(|| "long ago".into(), |_| when(&key["created_at"]));
        vec![text(&key["kind"]), text(&key["id"]), state(key), created, text(&key["kid"])]
    };
    table(
        &["KIND", "ID", "STATE", "MADE", "KID IN THE FEED"],
        2,
        answer["secrets"].as_array().into_iter().flatten().map(row),
    );
    match &answer["forgotten_until"] {
        Value::Null => tell("A token whose key is not here is answered 503: the key may only be missing."),
        until => tell(format_args!("Sessions opened until {} under keys that are not here are refused.", when(until))),
    }
    Ok(Exit::Yes)
}

fn state(key: &Value) -> String {
    let superseded = || when(&key["superseded_at"]);
    match (key["in_use"] == true, key["given_up"] == true) {
        (true, _) => "in use".into(),
        (false, true) => format!("given up since {}", superseded()),
        (false, false) => format!("kept since {}", superseded()),
    }
}

async fn carry_out(
    how: How,
    path: &[&str],
    order: Value,
    question: &str,
    show: impl FnOnce(&Value),
) -> Result<Exit, Failure> {
    let How { json, consent, server } = how;
    let path = [&["v1", "keys", "secrets"], path].concat();
    let foresee = async |remote: &Remote| {
        let mut asked = order.clone();
        asked["dry_run"] = true.into();
        Ok(Foreseen::new(remote.post(&path, &asked).await?, question))
    };
    let carried_out = async |remote: &Remote| {
        let done = remote.post(&path, &order).await?;
        if json {
            say(done);
        } else {
            show(&done);
        }
        Ok(Exit::Yes)
    };
    consent.carry_out(&server, json, foresee, carried_out).await
}

pub(super) async fn rotate(kind: SecretKind, how: How) -> Result<Exit, Failure> {
    let question = format!("A new {kind} key would be in use; what the old one made stays good. {NOBODY}");
    let show = |done: &Value| {
        members(made(done));
        tell(NOBODY);
    };
    carry_out(how, &[kind.name(), "rotate"], json!({}), &question, show).await
}

/// The new key, and those that went.
fn made(done: &Value) -> Vec<(&'static str, String)> {
    let key = &done["made"];
    let mut rows = vec![("kind", text(&done["kind"])), ("in use", text(&key["id"]))];
    if key["kid"].is_string() {
        rows.push(("signs the feed", text(&key["kid"])));
        rows.push(("signs the audit log", text(&key["audit_kid"])));
    }
    let gone = done["gone"].as_array().into_iter().flatten();
    rows.extend(gone.map(|key| ("dropped", text(&key["id"]))));
    rows
}

pub(super) async fn compromise(
    kind: SecretKind,
    end_sessions: bool,
    reason: Option<String>,
    how: How,
) -> Result<Exit, Failure> {
    let exposure = kind.exposure();
    let order = json!({"end_sessions": end_sessions, "reason": reason});
    let question = format!("This would be done: {}.", after(&exposure, end_sessions).join(". "));
    let show = |done: &Value| {
        members(made(done).into_iter().chain(position(done)));
        say("");
        members(consequences(exposure, end_sessions));
    };
    carry_out(how, &[kind.name(), "compromise"], order, &question, show).await
}

/// What is done, and what remains.
fn after(exposure: &Exposure, end_sessions: bool) -> Vec<String> {
    let (remains, ends) = (format!("What remains: {}", exposure.remains), exposure.with_end_sessions);
    let then = ends.filter(|_| end_sessions).map_or(remains, |ends| format!("Besides, {ends}"));
    vec![exposure.done.to_owned(), then]
}

fn position(done: &Value) -> Option<(&'static str, String)> {
    let entry = &done["sessions"];
    (!entry.is_null()).then(|| ("sessions", format!("ended, by position {} of the feed", text(&entry["position"]))))
}

/// What a thief could do with it, and still can.
fn consequences(exposure: Exposure, end_sessions: bool) -> Vec<(&'static str, String)> {
    let Exposure { alone, store_read, store_write, done, remains, with_end_sessions } = exposure;
    let could = [("the key alone", alone), ("reading the store", store_read), ("writing the store", store_write)];
    let ends = with_end_sessions.filter(|_| end_sessions);
    let now = [("done", done), ends.map_or(("remains", remains), |ends| ("ended", ends))];
    could.into_iter().chain(now).map(|(name, words)| (name, words.to_owned())).collect()
}

/// Say that the keys directory was replaced on purpose.
///
/// Refresh tokens whose keys this service has not got are answered 503, because the keys may only be missing. From then
/// on those of sessions that were opened until now are refused, and clients log their users in. Sessions whose keys are
/// here are not touched. Needs the permissions keys:compromise and revoke:all.
///
/// Exit codes: 0 done, 1 nobody agreed, 2 nobody could be asked, 4 not permitted, 5 cannot tell: do it again, which
/// is harmless.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ForgetArgs {
    /// Why, for the audit log; up to 256 bytes.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn forget(args: ForgetArgs) -> Result<Exit, Failure> {
    let ForgetArgs { reason, how } = args;
    let question = "Sessions opened until now under keys that are not here would be refused for good, where they are \
                    answered 503 now. Those whose keys are here go on.";
    let show = |done: &Value| {
        let until = when(&done["forgotten_until"]);
        members([("refused", format!("sessions opened until {until} under keys that are not here"))]);
    };
    carry_out(how, &["forget-unknown"], json!({"reason": reason}), question, show).await
}

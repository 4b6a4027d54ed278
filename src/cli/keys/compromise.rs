//! `rescind keys compromise`: a key is in other hands.

use serde_json::{Value, json};

use super::{
    super::{
        Exit, Failure,
        consent::Foreseen,
        effect::effect,
        output::{members, table, text, when},
        remote::Remote,
        say,
    },
    followers,
    foreign::{FOREIGN, Foreign},
    kid::kid,
    order::How,
    secret, tell as told,
};
use crate::{
    keyring::SecretKind,
    model::{Timestamp, time::format_duration},
};

/// Give up a key that is in other hands: in one step the standby signs, and the key is refused for ever.
///
/// If the key signs, the standby signs from now on; the key leaves the key set, its private half is destroyed, a new
/// standby is published, and the feed denies the key, for ever. Sessions go on with tokens of the key that signs then,
/// unless --end-sessions. Says from when on whom the key cannot deceive any more; if verifiers report, waits up to 10 s for
/// them and says when the last of them refused the key. Whoever could read this key may have read the others in the
/// directory: see docs/how-to/incident.md. With --secret the key of the feed, of refresh tokens or of what is sealed is
/// given up instead: a new one is in use, and the answer says what the old one is still good for. Needs the permission
/// keys:compromise; with --end-sessions revoke:all, too, and verifiers:read to hear of verifiers.
///
/// Exit codes: 0 done, 1 nobody agreed, 2 nobody could be asked, 3 no such key, 4 not permitted, 5 cannot tell whether
/// it was done: do it again, which is harmless and does the rest.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The key, whatever its state.
    #[arg(value_parser = kid, allow_hyphen_values = true, required_unless_present = "secret", conflicts_with = "secret")]
    kid: Option<String>,
    /// A symmetric key instead: feed, derivation or sealing.
    #[arg(long, value_name = "KIND")]
    secret: Option<SecretKind>,
    /// End all sessions, too: everyone logs in again. That cannot be undone.
    #[arg(long)]
    end_sessions: bool,
    /// Why, for the audit log; up to 256 bytes.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let Args { kid, secret, end_sessions, reason, how } = args;
    let kid = match (&kid, secret) {
        (_, Some(kind)) => return secret::compromise(kind, end_sessions, reason, how).await,
        (Some(kid), None) => kid,
        (None, None) => return Err(Failure::usage("which key? give its kid, or --secret KIND")),
    };
    let How { json, consent, server } = how;
    let path = ["v1", "keys", kid, "compromise"];
    let order = |dry_run| json!({"end_sessions": end_sessions, "reason": reason, "dry_run": dry_run});
    let foresee = async |remote: &Remote| {
        let would = remote.post(&path, &order(true)).await?;
        let words = question(&would, end_sessions);
        Ok(Foreseen::new(would, words))
    };
    let carried_out = async |remote: &Remote| {
        let done = remote.post(&path, &order(false)).await?;
        if json {
            say(done);
            return Ok(Exit::Yes);
        }
        show(told::rows(remote, &done).await, &done);
        followers::tell_of(remote, last_position(&done)).await;
        Ok(Exit::Yes)
    };
    consent.carry_out(&server, json, foresee, carried_out).await
}

fn question(would: &Value, end_sessions: bool) -> String {
    format!(
        "This would be done: {}. The key that signs then: {}. Sessions {}.",
        told::sentence(would),
        known(would),
        sessions(end_sessions)
    )
}

/// Whether verifiers have the key that signs then.
fn known(change: &Value) -> &'static str {
    if change["active_is_known"] == true {
        "verifiers know it, so no good token of it is refused"
    } else {
        "verifiers that have not fetched the key set lately refuse its tokens until they do"
    }
}

const fn sessions(end: bool) -> &'static str {
    if end {
        "end, all of them: everyone logs in again"
    } else {
        "go on: clients refresh, and have a token of the key that signs"
    }
}

/// The places of what was written to the feed.
fn position(done: &Value) -> String {
    let [key, sessions] = ["entry", "sessions"].map(|entry| text(&done[entry]["position"]));
    if sessions.is_empty() {
        format!("{key} in the feed")
    } else {
        format!("{key} in the feed, {sessions} ends the sessions")
    }
}

/// Where in the feed all of it is said.
fn last_position(done: &Value) -> u64 {
    [&done["entry"], &done["sessions"]].into_iter().filter_map(|entry| entry["position"].as_u64()).max().unwrap_or(0)
}

/// From when on the key deceives whom no more.
fn show(keys: Vec<(&'static str, String)>, done: &Value) {
    let [here, disconnected, _] = effect(&done["effect"]);
    let told = [
        ("signer", known(done).to_owned()),
        ("sessions", sessions(!done["sessions"].is_null()).to_owned()),
        ("reason", text(&done["entry"]["reason"])),
        ("position", position(done)),
        here,
        disconnected,
    ];
    members(keys.into_iter().chain(told));
    say("");
    say("Verifiers without the feed accept what the key signs until they fetch the key set again:");
    say("");
    let at = done["effect"]["here_from"].as_str().and_then(Timestamp::from_rfc3339);
    let mut heading = vec!["VERIFIER", "AT THE LATEST", "SET BY", "SOONER"];
    let mut rows: Vec<_> = FOREIGN.iter().map(|kind| row(kind, at)).collect();
    if done["active_is_known"] != true {
        heading.push("THE KEY THAT SIGNS NOW");
        rows.iter_mut().zip(FOREIGN).for_each(|(row, kind)| row.push(kind.unknown.into()));
    }
    table(&heading, 1, rows);
}

fn row(kind: &Foreign, at: Option<Timestamp>) -> Vec<String> {
    let until = match (kind.holds, at) {
        (Some(holds), Some(at)) => {
            format!("{} ({})", when(&at.plus(holds).to_rfc3339().into()), format_duration(holds))
        }
        _ => "as configured".to_owned(),
    };
    vec![kind.name.into(), until, kind.setting.into(), kind.sooner.into()]
}

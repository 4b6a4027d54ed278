//! `rescind keys`: the signing keys, and their rotation.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure,
    consent::{Consent, Foreseen},
    output::{members, plain, table, text, when},
    remote::{Remote, Server},
    say, tell,
};
use crate::{
    clock::{Clock, SystemClock},
    model::Timestamp,
};

/// Look at the signing keys and rotate them.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(ListArgs),
    Rotate(RotateArgs),
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Rotate(args) => rotate(args).await,
    }
}

/// List the signing keys with their states.
///
/// pending: published, stands by; active: signs; retiring: verifies until its last token has expired; retired: gone.
/// Needs the permission keys:read.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Print the answer of GET /v1/keys.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let answer = args.server.connect()?.get(&["v1", "keys"], &[]).await?;
    if args.json {
        say(answer);
        return Ok(Exit::Yes);
    }
    let heading = ["KID", "STATE", "ALG", "PUBLISHED", "SIGNS SINCE", "VERIFIES UNTIL"];
    let row = |key: &Value| {
        let [kid, state, alg] = ["kid", "state", "alg"].map(|name| text(&key[name]));
        let [published, active, until] =
            ["published_at", "activated_at", "verifies_until"].map(|name| when(&key[name]));
        vec![kid, state, alg, published, active, until]
    };
    table(&heading, 2, answer["keys"].as_array().into_iter().flatten().map(row));
    tell(format_args!("A rotation is safe from {} on.", when(&answer["rotation_possible_from"])));
    Ok(Exit::Yes)
}

/// Make the standby sign.
///
/// The key that signed goes on verifying until its last token has expired, and a new standby is published. Refused
/// until the standby has been published long enough. Needs the permission keys:rotate; with --dry-run keys:read.
///
/// Exit codes: 0 done, 1 nobody agreed or it is too early, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// Rotate although the standby has not been published long enough: verifiers that cache the key set will refuse
    /// valid tokens until they fetch it again.
    #[arg(long)]
    dangerous_before_published: bool,
    /// Print the answer of POST /v1/keys/rotate; with --dry-run an object with `dry_run`, `active`, `retiring`,
    /// `possible` and `rotation_possible_from`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

async fn rotate(args: RotateArgs) -> Result<Exit, Failure> {
    let foresee = async |remote: &Remote| {
        // Who is asked can do without the keys, which needs another permission.
        if args.consent.dry_run {
            dry_run(remote, &args).await
        } else {
            Ok(Foreseen::new(Value::Null, question(&args)))
        }
    };
    let order = async |remote: &Remote| {
        let order = json!({"dangerous_before_published": args.dangerous_before_published});
        show_rotated(&remote.post(&["v1", "keys", "rotate"], &order).await?, args.json);
        Ok(Exit::Yes)
    };
    args.consent.carry_out(&args.server, args.json, foresee, order).await
}

fn question(args: &RotateArgs) -> String {
    let forced = if args.dangerous_before_published {
        " Where the standby is not known yet, valid tokens will be refused until verifiers fetch the key set again."
    } else {
        ""
    };
    format!("The standby will sign from now on; the key that signs now will retire.{forced}")
}

fn show_rotated(rotated: &Value, json: bool) {
    if json {
        return say(rotated);
    }
    let name = |state: &str| text(&rotated[state]);
    members([
        ("active", format!("{}  signs from now on", name("active"))),
        ("retiring", format!("{}  verifies until its last token has expired", name("retiring"))),
        ("pending", format!("{}  is published from now on and stands by", name("pending"))),
    ]);
}

async fn dry_run(remote: &Remote, args: &RotateArgs) -> Result<Foreseen, Failure> {
    let answer = remote.get(&["v1", "keys"], &[]).await?;
    let keys = answer["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kid = |state: &str| keys.iter().find(|key| key["state"] == state).map_or(Value::Null, |key| key["kid"].clone());
    let from = answer["rotation_possible_from"].clone();
    let earliest = from.as_str().and_then(Timestamp::from_rfc3339);
    // By this machine's clock, which is near enough to say; the service decides by its own.
    let is_time = earliest.is_some_and(|earliest| earliest <= SystemClock::default().now());
    let possible = is_time || args.dangerous_before_published;
    let (active, retiring) = (kid("pending"), kid("active"));
    let words = {
        let [active, retiring] = [&active, &retiring].map(|kid| plain(kid.as_str().unwrap_or("(none)")));
        format!("This would make {active} sign and {retiring} retire. It is safe from {} on.", when(&from))
    };
    let json = json!({
        "dry_run": true, "active": active, "retiring": retiring, "possible": possible, "rotation_possible_from": from,
    });
    Ok(Foreseen { json, words, exit: if possible { Exit::Yes } else { Exit::No } })
}

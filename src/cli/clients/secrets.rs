//! `rescind client rotate-secret`, `drop-secret`, `generate-secret`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        Exit, Failure,
        consent::{Consent, Foreseen},
        output::{plain, text, when},
        remote::{Remote, Server},
        say, tell,
    },
    fetch,
    secret_file::SecretFile,
    show_client,
};
use crate::{
    clock::SystemRandom,
    model::{
        ClientId,
        time::{format_duration, parse_duration},
    },
    service::{SecretHash, generate_secret},
};

/// Make a new secret for a client.
///
/// The secret goes to stdout, or to --secret-file, this once; the service keeps a hash. The old one stays good until it
/// is dropped: at once with --drop-old, after a time with --drop-old-after, or later with drop-secret. Two are live at
/// most. Needs the permission clients:write, and all permissions that the client has.
///
/// Exit codes: 0 done, 1 nobody agreed, or two secrets are live, 2 nobody could be asked, 3 no such client, 4 not
/// permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct RotateArgs {
    /// The client.
    id: ClientId,
    /// Drop the old ones after this time: 12h or 7d, 90d at most.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    drop_old_after: Option<Duration>,
    /// Drop the old ones at once. Whoever uses them is refused from now on.
    #[arg(long, conflicts_with = "drop_old_after")]
    drop_old: bool,
    #[command(flatten)]
    file: SecretFile,
    /// Print the answer of POST /v1/clients/{client_id}/secrets; without its secret if that goes to --secret-file. With
    /// --dry-run an object with `dry_run` and `client`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn rotate(args: RotateArgs) -> Result<Exit, Failure> {
    // A new secret beside the old ones does no harm; nobody need be asked.
    let consent = args.consent.given_if(!args.drop_old);
    let foresee = async |remote: &Remote| {
        let client = fetch(remote, &args.id).await?;
        let (id, has) = (plain(args.id.as_str()), client["secrets"].as_array().map_or(0, Vec::len));
        let words = if args.drop_old {
            format!("This would drop all secrets that client {id} has ({has}), at once, and make a new one.")
        } else {
            format!("This would make a new secret for client {id}, beside those that it has ({has}).")
        };
        Ok(Foreseen::new(json!({"dry_run": true, "client": client}), words))
    };
    consent.carry_out(&args.server, args.json, foresee, async |remote: &Remote| make(remote, &args).await).await
}

async fn make(remote: &Remote, args: &RotateArgs) -> Result<Exit, Failure> {
    let file = args.file.create()?;
    let order = json!({"drop_old": args.drop_old, "drop_old_after": args.drop_old_after.map(format_duration)});
    let mut made = remote.post(&["v1", "clients", args.id.as_str(), "secrets"], &order).await?;
    let secret = zeroize::Zeroizing::new(made["client_secret"].as_str().unwrap_or_default().to_owned());
    let (name, id) = (text(&made["secret_id"]), plain(args.id.as_str()));
    if let Some(file) = file {
        let lost = format!("secret {name} was made, but could not be written; drop it with drop-secret");
        let path = file.keep(&*secret, &lost)?;
        tell(format_args!("Secret {name} of client {id} is in {}.", path.display()));
        made.as_object_mut().into_iter().for_each(|answer| drop(answer.remove("client_secret")));
        if args.json {
            say(&made);
        }
    } else if args.json {
        say(&made);
    } else {
        say(&*secret);
        tell(format_args!("That is secret {name} of client {id}, told this once."));
    }
    tell_of_others(&made);
    Ok(Exit::Yes)
}

/// Until when the old ones are good.
fn tell_of_others(made: &Value) {
    let others = made["secrets"].as_array().into_iter().flatten().filter(|s| s["secret_id"] != made["secret_id"]);
    for other in others {
        let until = match other["valid_until"].as_str() {
            Some(_) => format!("until {}", when(&other["valid_until"])),
            None => "until it is dropped".to_owned(),
        };
        tell(format_args!("Secret {} stays good {until}.", text(&other["secret_id"])));
    }
}

/// Drop one secret of a client, at once.
///
/// `rescind client show` names the secrets. The last one of a client that has neither key nor certificate stays: disable
/// the client instead. Needs the permission clients:write.
///
/// Exit codes: 0 done, 1 nobody agreed or it is the last one, 2 nobody could be asked, 3 no such client or secret, 4
/// not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct DropArgs {
    /// The client.
    id: ClientId,
    /// The secret's name: the first 12 digits of its SHA-256.
    secret_id: String,
    /// Print the answer of DELETE /v1/clients/{client_id}/secrets/{secret_id}; with --dry-run an object with `dry_run`
    /// and `client`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn drop_one(args: DropArgs) -> Result<Exit, Failure> {
    // Not repeated, and not sent: it may be the secret itself.
    if args.secret_id.len() != 12 || !args.secret_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Failure::usage(format!(
            "SECRET_ID: 12 hexadecimal digits, as `rescind client show {}` names it; never the secret itself",
            plain(args.id.as_str())
        )));
    }
    let foresee = async |remote: &Remote| {
        let (id, secret) = (plain(args.id.as_str()), &args.secret_id);
        let words = format!("This would drop secret {secret} of client {id}: whoever uses it is refused from then on.");
        // Who is asked can do without it.
        let client = if args.consent.dry_run { fetch(remote, &args.id).await? } else { Value::Null };
        Ok(Foreseen::new(json!({"dry_run": true, "client": client}), words))
    };
    let order = async |remote: &Remote| {
        let path = ["v1", "clients", args.id.as_str(), "secrets", &args.secret_id];
        show_client(&remote.delete(&path).await?, args.json);
        Ok(Exit::Yes)
    };
    args.consent.carry_out(&args.server, args.json, foresee, order).await
}

/// Make a secret and its hash, for the configuration. No service is asked.
///
/// Prints `client_secret` for the client and `secret_sha256` for the configuration; with --secret-file the second
/// alone.
#[derive(Debug, clap::Args)]
pub(in super::super) struct GenerateArgs {
    #[command(flatten)]
    file: SecretFile,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn generate(args: &GenerateArgs) -> Result<Exit, Failure> {
    let secret = generate_secret(&SystemRandom);
    let hash = SecretHash::of(&secret).to_hex();
    let mut made = json!({"secret_sha256": hash});
    match args.file.create()? {
        Some(file) => {
            file.keep(&*secret, "the secret could not be written; make another")?;
        }
        None => made["client_secret"] = secret.as_str().into(),
    }
    if args.json {
        say(made);
        return Ok(Exit::Yes);
    }
    if let Some(secret) = made["client_secret"].as_str() {
        say(format_args!("client_secret={secret}"));
    }
    say(format_args!("secret_sha256={hash}"));
    Ok(Exit::Yes)
}

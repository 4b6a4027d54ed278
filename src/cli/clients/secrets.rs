//! `rescind client rotate-secret`, `drop-secret`, `generate-secret`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        Exit, Failure,
        consent::{Consent, DECLINED},
        output::{plain, text, when},
        remote::Server,
        say, tell,
    },
    fetch,
    secret_file::SecretFile,
    show_client,
};
use crate::{
    clock::SystemRandom,
    model::time::{format_duration, parse_duration},
    service::{SecretHash, generate_secret},
};

/// Make a new secret for a client.
///
/// The secret goes to stdout, or to --secret-file, this once; the service keeps a hash. The old one stays good until it
/// is dropped: at once with --drop-old, after a time with --drop-old-after, or later with drop-secret. Two are live at
/// most. Needs the permission clients:write, and all permissions that the client has.
///
/// Exit codes: 0 done, 1 nobody agreed, or two secrets are live, 3 no such client, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct RotateArgs {
    /// The client.
    id: String,
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
    if args.drop_old {
        args.consent.check(args.server.takes_stdin())?;
    }
    let remote = args.server.connect()?;
    let what = format!("This would drop all secrets that client {} has, at once, and make a new one.", plain(&args.id));
    if args.consent.dry_run {
        let client = fetch(&remote, &args.id).await?;
        if args.json {
            say(json!({"dry_run": true, "client": client}));
        } else {
            show_client(&client, false);
            tell(if args.drop_old { &*what } else { "This would make a new secret beside these." });
        }
        return Ok(Exit::Yes);
    }
    if args.drop_old && !args.consent.ask(&what)? {
        return Ok(DECLINED);
    }
    let file = args.file.create()?;
    let order = json!({"drop_old": args.drop_old, "drop_old_after": args.drop_old_after.map(format_duration)});
    let mut made = remote.post(&["v1", "clients", &args.id, "secrets"], &order).await?;
    let secret = zeroize::Zeroizing::new(made["client_secret"].as_str().unwrap_or_default().to_owned());
    let name = text(&made["secret_id"]);
    if let Some(file) = file {
        let lost = format!("secret {name} was made, but could not be written; drop it with drop-secret");
        let path = file.keep(&*secret, &lost)?;
        tell(format_args!("Secret {name} of client {} is in {}.", plain(&args.id), path.display()));
        made.as_object_mut().into_iter().for_each(|answer| drop(answer.remove("client_secret")));
        if args.json {
            say(&made);
        }
    } else if args.json {
        say(&made);
    } else {
        say(&*secret);
        tell(format_args!("That is secret {name} of client {}, told this once.", plain(&args.id)));
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
/// Exit codes: 0 done, 1 nobody agreed or it is the last one, 3 no such client or secret, 4 not permitted,
/// 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct DropArgs {
    /// The client.
    id: String,
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
    args.consent.check(args.server.takes_stdin())?;
    let remote = args.server.connect()?;
    let (id, secret) = (plain(&args.id), plain(&args.secret_id));
    let what = format!("This would drop secret {secret} of client {id}: whoever uses it is refused from then on.");
    if args.consent.dry_run {
        let client = fetch(&remote, &args.id).await?;
        if args.json {
            say(json!({"dry_run": true, "client": client}))
        } else {
            say(what)
        }
        return Ok(Exit::Yes);
    }
    if !args.consent.ask(&what)? {
        return Ok(DECLINED);
    }
    let client = remote.delete(&["v1", "clients", &args.id, "secrets", &args.secret_id]).await?;
    show_client(&client, args.json);
    Ok(Exit::Yes)
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

//! `rescind token verify`.

use std::{env, fs, path::PathBuf, time::Duration};

use reqwest::Url;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    super::{Exit, Failure, OrExit, client::check_transport, say, tell},
    from_stdin,
    issuer::{Credentials, Issuer, Opinion},
    table,
};
use crate::{
    families::PREFIX,
    model::time::parse_duration,
    verifier::{MAX_LEEWAY, Verifier},
};

/// The client secret, by its environment variable. There is no argument for it: arguments are public.
const SECRET: &str = "RESCIND_CLIENT_SECRET";

/// Say whether an access token is good.
///
/// Reads the token from stdin, fetches the issuer's keys, and checks signature and claims offline. With client
/// credentials it then asks the issuer whether the token has been revoked. The client secret comes from a file or from
/// the environment variable RESCIND_CLIENT_SECRET.
///
/// Exit codes: 0 it is good, 1 it is not, 4 this client may not ask, 5 the issuer cannot be asked.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The issuer, exactly as tokens name it in `iss`.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// For whom the token must be.
    #[arg(long, value_name = "AUDIENCE")]
    audience: String,
    /// By how much clocks may differ: 60s at most.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    leeway: Duration,
    /// A client that may introspect.
    #[arg(long, value_name = "ID", env = "RESCIND_CLIENT_ID")]
    client_id: Option<String>,
    /// A file with its secret.
    #[arg(long, value_name = "FILE", env = "RESCIND_CLIENT_SECRET_FILE")]
    client_secret_file: Option<PathBuf>,
    /// Print the claims, or the reason, as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let credentials = credentials(&args)?;
    if args.leeway > MAX_LEEWAY {
        return Err(Failure::usage("--leeway is above 60s: revocations are not remembered longer than that"));
    }
    let url = Url::parse(&args.issuer).or_exit(Exit::Usage, format!("--issuer `{}`", args.issuer))?;
    check_transport(&url).map_err(|e| Failure::new(Exit::Usage, e))?;
    let token = from_stdin()?;
    if token.starts_with(PREFIX) {
        return Ok(refused(&args, "refresh_token", "it is a refresh token, of which only its issuer can say more"));
    }
    let issuer = Issuer::discover(&args.issuer, &url).await?;
    let verifier = Verifier::builder(&*args.issuer).audience(&*args.audience).leeway(args.leeway);
    let verifier =
        verifier.keys(issuer.keys().await?).dangerous_allow_stale().build().or_exit(Exit::Usage, "cannot verify")?;
    let verified = match verifier.verify(&token) {
        Ok(verified) => verified,
        Err(rejection) => return Ok(refused(&args, rejection.code(), &rejection.to_string())),
    };
    if let Some(credentials) = &credentials {
        match issuer.introspect(credentials, &token).await? {
            Opinion::Active => {}
            Opinion::Inactive => {
                let why = "its issuer calls it inactive: it has been revoked, or has just expired";
                return Ok(refused(&args, "inactive", why));
            }
            Opinion::NotForUs(why) => return Err(Failure::new(Exit::NotPermitted, anyhow::anyhow!(why))),
        }
    }
    show(&args, &serde_json::to_value(verified.into_inner())?, credentials.is_some());
    Ok(Exit::Yes)
}

fn show(args: &Args, claims: &Value, asked: bool) {
    if args.json {
        return say(claims);
    }
    claims.as_object().into_iter().for_each(table);
    tell(if asked {
        "Good: signature and claims hold, and its issuer calls it active."
    } else {
        "Good offline: signature and claims hold. Whether it was revoked, only a client that may ask can tell."
    });
}

fn refused(args: &Args, code: &str, reason: &str) -> Exit {
    if args.json {
        say(json!({"refused": code, "reason": reason}));
    } else {
        say(format_args!("refused: {reason} ({code})"));
    }
    Exit::No
}

/// None if the issuer is not to be asked. Half of a pair is a mistake, and not taken for a wish to go without.
fn credentials(args: &Args) -> Result<Option<Credentials>, Failure> {
    let secret = match (env::var(SECRET), &args.client_secret_file) {
        (Ok(secret), _) => Some(Zeroizing::new(secret)),
        (Err(_), None) => None,
        (Err(_), Some(file)) => {
            let read = fs::read_to_string(file).map(Zeroizing::new);
            let text = read.or_exit(Exit::Usage, format!("cannot read the client secret from {}", file.display()))?;
            Some(Zeroizing::new(text.trim_end().to_owned()))
        }
    };
    match (args.client_id.clone(), secret) {
        (Some(id), Some(secret)) => Ok(Some(Credentials { id, secret })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Failure::usage(format!(
            "a client id without its secret; give --client-secret-file, or {SECRET} in the environment"
        ))),
        (None, Some(_)) => Err(Failure::usage(
            "a client secret without its client; give --client-id, or RESCIND_CLIENT_ID in the environment",
        )),
    }
}

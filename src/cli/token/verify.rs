//! `rescind token verify`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{Exit, Failure, OrExit, client, say, tell},
    from_stdin, table,
};
use crate::{
    families::PREFIX,
    model::time::parse_duration,
    verifier::{MAX_LEEWAY, Refused, Verifier},
};

/// Say whether an access token is good, as a service would.
///
/// Reads the token from stdin, fetches the issuer's keys and its revocation feed, and checks the token with both. The
/// token itself stays here, and nobody need be a client.
///
/// Exit codes: 0 it is good, 1 it is not, 5 the issuer cannot be asked.
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
    /// Print the claims, or the reason, as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    if args.leeway > MAX_LEEWAY {
        return Err(Failure::usage("--leeway is above 60s: revocations are not remembered longer than that"));
    }
    client::issuer(&args.issuer)?;
    let token = from_stdin()?;
    if token.starts_with(PREFIX) {
        return Ok(refused(&args, "refresh_token", "it is a refresh token, of which only its issuer can say more"));
    }
    let verifier = Verifier::builder(&*args.issuer).audience(&*args.audience).leeway(args.leeway);
    let verifier = verifier.follow().or_exit(Exit::Usage, "cannot verify")?;
    if let Err(why) = client::heard(&verifier).await {
        let why = why.unwrap_or_else(|| format!("{} does not answer in time", args.issuer));
        return Err(Failure::new(Exit::CannotTell, anyhow::anyhow!(why)));
    }
    match verifier.verify(&token) {
        Ok(verified) => {
            show(&args, &serde_json::to_value(verified.into_inner())?);
            Ok(Exit::Yes)
        }
        Err(Refused::Rejected(reason)) => Ok(refused(&args, reason.code(), &reason.to_string())),
        Err(Refused::Unavailable(why)) => Err(Failure::new(Exit::CannotTell, why)),
    }
}

fn show(args: &Args, claims: &Value) {
    if args.json {
        return say(claims);
    }
    claims.as_object().into_iter().for_each(table);
    tell("Good: signature and claims hold, and the issuer's feed does not deny it.");
}

fn refused(args: &Args, code: &str, reason: &str) -> Exit {
    if args.json {
        say(json!({"refused": code, "reason": reason}));
    } else {
        say(format_args!("refused: {reason} ({code})"));
    }
    Exit::No
}

//! `rescind token inspect`: what a token says of itself, unverified.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::{
    super::{Exit, Failure, say, tell},
    from_stdin, table,
};
use crate::{families::PREFIX, model::SessionId};

/// Show what a token says, without verifying anything.
///
/// Reads the token from stdin. Of a refresh token it shows the parts that are no secret. Anyone can write a token that
/// says anything: to know whether it is true, use `rescind token verify`.
///
/// Exit codes: 0 it has the form of a token, 1 it has not.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let token = from_stdin()?;
    let read = if token.starts_with(PREFIX) { refresh_token(&token) } else { access_token(&token) };
    let Some(parts) = read else {
        tell("rescind: neither a signed JWT in its compact form nor a refresh token of ours");
        return Ok(Exit::No);
    };
    tell("NOTHING WAS VERIFIED. Anyone can write a token that says this.");
    if args.json {
        say(Value::Object(parts));
    } else {
        let shown = ["header", "claims", "refresh_token"].iter().filter_map(|part| parts.get(*part));
        shown.filter_map(Value::as_object).for_each(table);
    }
    Ok(Exit::Yes)
}

/// Header and claims (RFC 7515 §3.1), whatever they are.
fn access_token(token: &str) -> Option<Map<String, Value>> {
    let mut segments = token.split('.');
    let mut object = || -> Option<Value> {
        let json = BASE64_URL_SAFE_NO_PAD.decode(segments.next()?).ok()?;
        serde_json::from_slice(&json).ok().filter(Value::is_object)
    };
    let (header, claims) = (object()?, object()?);
    // The signature, and nothing after it.
    let signed = segments.next().is_some() && segments.next().is_none();
    signed.then(|| Map::from_iter([("header".into(), header), ("claims".into(), claims)]))
}

/// The parts of a refresh token but its secret; `families/token.rs` has the layout.
fn refresh_token(token: &str) -> Option<Map<String, Value>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    let (parts, checksum) = bytes.split_last_chunk::<4>().filter(|(parts, _)| parts.len() == 65)?;
    let number = |at: usize| parts[at..].first_chunk::<4>().map(|b| u32::from_be_bytes(*b));
    let family = parts[1..].first_chunk::<16>().and_then(|b| SessionId::from_bytes(*b))?;
    let holds = crc32fast::hash(&[PREFIX.as_bytes(), parts].concat()).to_be_bytes() == *checksum;
    let shown = json!({
        "version": parts[0],
        "session_id": family.to_string(),
        "opened": family.stamp().to_rfc3339(),
        "generation": number(17)?,
        // As `rescind keys secrets` names it.
        "derivation_key": format!("{:08x}", number(21)?),
        "checksum": if holds { "holds" } else { "does not hold: cut or mistyped" },
    });
    Some(Map::from_iter([("refresh_token".into(), shown)]))
}

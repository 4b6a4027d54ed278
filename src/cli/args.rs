//! Values that several commands take.

use std::{path::PathBuf, str::FromStr, time::Duration};

use super::Failure;
use crate::{
    model::{
        Timestamp,
        ids::IdError,
        time::{format_duration, parse_duration},
    },
    store::redis,
};

/// Where the store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum StoreUrl {
    /// Gone with the process.
    Memory,
    /// One file.
    Embedded(PathBuf),
    /// Redis or Valkey, which many nodes share.
    Redis(Box<redis::StoreUrl>),
}

impl FromStr for StoreUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("embedded", path)) if !path.is_empty() => Ok(Self::Embedded(path.into())),
            Some((_, rest)) if rest.starts_with("//") => {
                text.parse().map(|url| Self::Redis(Box::new(url))).map_err(|e: redis::StoreUrlError| e.to_string())
            }
            // Not repeated: there may be a password in it.
            _ => Err("names no store; write `embedded:` and the path of a file, `redis://host:6379`, or, for \
                      `rescind dev` alone, `memory:`"
                .into()),
        }
    }
}

/// The greatest window in which the answer to a refresh may be fetched again.
pub(super) const MAX_RETRY_WINDOW: Duration = Duration::from_secs(5 * 60);
/// The longest life of an access token; no verifier accepts a longer one.
pub(super) const MAX_ACCESS: Duration = Duration::from_secs(60 * 60);

/// A duration within limits, which the message names.
pub(super) fn between(name: &str, value: Duration, least: Duration, greatest: Duration) -> Result<(), String> {
    if (least..=greatest).contains(&value) {
        return Ok(());
    }
    let [value, least, greatest] = [value, least, greatest].map(format_duration);
    Err(format!("{name} is {value}; it must lie between {least} and {greatest}"))
}

/// As [`parse_duration`], for an access token's life.
pub(super) fn access_life(text: &str) -> Result<Duration, String> {
    let life = parse_duration(text)?;
    between("the life of an access token", life, Duration::from_secs(1), MAX_ACCESS).map(|()| life)
}

/// As [`parse_duration`], for the retry window.
pub(super) fn retry_window(text: &str) -> Result<Duration, String> {
    let window = parse_duration(text)?;
    between("the retry window", window, Duration::ZERO, MAX_RETRY_WINDOW).map(|()| window)
}

/// An instant, as it is sent.
pub(super) fn instant(text: &str) -> Result<String, String> {
    match Timestamp::from_rfc3339(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected an RFC 3339 instant, such as 2026-01-31T12:00:00Z".into()),
    }
}

/// Operators' words for the audit log.
pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        1..=256 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err("expected 1 to 256 bytes without control characters".into()),
    }
}

/// An id that goes into a request. Read here and not by clap, which would repeat what is wrong: it may be a token that
/// somebody pasted.
pub(super) fn id<T: FromStr<Err = IdError>>(argument: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|e| Failure::usage(format!("{argument}: {e}")))
}

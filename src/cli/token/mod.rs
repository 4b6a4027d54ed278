//! `rescind token`: what a token says, and whether it is good.

use std::{
    cmp::Ordering,
    io::{self, IsTerminal, Read},
};

use clap::Subcommand;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Exit, Failure, OrExit, on_runtime, output::plain, say, tell};
use crate::{
    clock::{Clock, SystemClock},
    model::{Timestamp, time::format_duration},
};

mod inspect;
mod verify;

/// Look at one token, from stdin.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Verify(verify::Args),
    Inspect(inspect::Args),
}

pub(super) fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Verify(args) => on_runtime(verify::run(args)),
        Command::Inspect(args) => inspect::run(&args),
    }
}

/// No token is longer; what is longer is something else.
const MAX_INPUT: u64 = 64 * 1024;

/// The token on stdin, without the white space around it.
fn from_stdin() -> Result<Zeroizing<String>, Failure> {
    if io::stdin().is_terminal() {
        tell("Paste a token, then press Enter and Ctrl-D.");
    }
    let mut text = Zeroizing::new(String::new());
    let read = io::stdin().take(MAX_INPUT).read_to_string(&mut text);
    read.or_exit(Exit::Usage, "cannot read a token from stdin")?;
    match text.trim() {
        "" => Err(Failure::usage("no token on stdin; write it there, as in: echo \"$ACCESS_TOKEN\" | rescind token …")),
        token => Ok(Zeroizing::new(token.to_owned())),
    }
}

/// Members one a line, instants in words as well.
fn table(members: &Map<String, Value>) {
    let width = members.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, value) in members {
        let shown = match value {
            Value::String(text) => plain(text),
            other => other.to_string(),
        };
        let instant = ["exp", "iat", "nbf", "auth_time"].contains(&&**name).then(|| value.as_u64().map(in_words));
        say(format_args!("{:<width$}  {shown}{}", plain(name), instant.flatten().unwrap_or_default()));
    }
}

fn in_words(seconds: u64) -> String {
    let now = Timestamp::from_seconds(SystemClock::default().now().seconds());
    let then = Timestamp::from_seconds(seconds);
    let distance = format_duration(now.since(then).max(then.since(now)));
    let relative = match then.cmp(&now) {
        Ordering::Less => format!("{distance} ago"),
        Ordering::Equal => "now".into(),
        Ordering::Greater => format!("in {distance}"),
    };
    format!("  ({}, {relative})", then.to_rfc3339())
}

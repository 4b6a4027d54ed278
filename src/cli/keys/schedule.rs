//! `rescind keys schedule`: what happens to the keys by itself.

use std::time::Duration;

use serde_json::Value;

use super::{
    super::{
        Exit, Failure,
        output::{plain, table, text, when},
        remote::Server,
        say,
    },
    list::roughly,
};
use crate::{
    clock::{Clock, SystemClock},
    model::{Timestamp, time::format_duration},
};

/// Say what happens to the signing keys by itself, and when.
///
/// Needs the permission keys:read.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// Print the answer of GET /v1/keys/schedule.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let schedule = args.server.connect()?.get(&["v1", "keys", "schedule"], &[]).await?;
    if args.json {
        say(schedule);
        return Ok(Exit::Yes);
    }
    let steps = schedule["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    if steps.is_empty() {
        say("Nothing is planned.");
    } else {
        // By this machine's clock, which is near enough for that.
        let now = SystemClock::default().now();
        let row = |step: &Value| vec![text(&step["kid"]), words(&step["step"]), when(&step["at"]), distance(step, now)];
        table(&["KID", "WHAT", "WHEN", ""], 2, steps.iter().map(row));
    }
    say("");
    told(&schedule).into_iter().for_each(say);
    Ok(Exit::Yes)
}

fn words(step: &Value) -> String {
    match step.as_str() {
        Some("activate") => "begins to sign; the key that signs retires".into(),
        Some("retire") => "leaves the key set".into(),
        Some("destroy") => "its private half is destroyed".into(),
        other => plain(other.unwrap_or_default()),
    }
}

fn distance(step: &Value, now: Timestamp) -> String {
    match step["at"].as_str().and_then(Timestamp::from_rfc3339) {
        Some(at) if at.seconds().abs_diff(now.seconds()) == 0 => "due now".into(),
        Some(at) if at >= now => format!("in {}", roughly(at.since(now))),
        Some(at) => format!("overdue for {}", roughly(now.since(at))),
        None => String::new(),
    }
}

/// What the instants follow from.
fn told(schedule: &Value) -> [String; 3] {
    let long = |name: &str| schedule[name].as_u64().map(|s| format_duration(Duration::from_secs(s)));
    let [ahead, after, cached] =
        ["publish_ahead", "retire_after", "jwks_max_age"].map(|name| long(name).unwrap_or_default());
    let rotation = match long("rotate_every") {
        Some(every) => format!("Keys rotate every {every}, by themselves."),
        None => "Keys rotate by an operator's word alone; keys.rotate_every sets a schedule.".into(),
    };
    [
        rotation,
        format!("A key is published {ahead} before it signs, and verifies for {after} after it has signed last."),
        format!("Whoever fetches the key set now may keep it for {cached}."),
    ]
}

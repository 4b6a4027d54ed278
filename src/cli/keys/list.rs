//! `rescind keys list` and `show`.

use std::time::Duration;

use serde_json::Value;

use super::{
    super::{
        Exit, Failure,
        output::{earliest, members, table, text, when},
        remote::Server,
        say, tell,
    },
    kid::kid,
};
use crate::{
    clock::{Clock, SystemClock},
    model::Timestamp,
};

/// List the signing keys with their states.
///
/// pending: published, stands by; active: signs; retiring: verifies until its last token has expired; retired: out of the
/// key set; destroyed: its private half is gone; compromised: refused for ever. Needs the permission keys:read.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ListArgs {
    /// Print the answer of GET /v1/keys.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let remote = args.server.connect()?;
    let answer = remote.get(&["v1", "keys"], &[]).await?;
    if args.json {
        say(answer);
        return Ok(Exit::Yes);
    }
    let schedule = remote.get(&["v1", "keys", "schedule"], &[]).await?;
    let heading = ["KID", "STATE", "ALG", "AGE", "SIGNS", "VERIFIES", "SAFE TO DESTROY"];
    let row = |key: &Value| {
        let [kid, state, alg] = ["kid", "state", "alg"].map(|name| text(&key[name]));
        vec![kid, state, alg, age(key), signs(key), verifies(key, &schedule), destroyable(key)]
    };
    table(&heading, 2, answer["keys"].as_array().into_iter().flatten().map(row));
    tell(format_args!("A rotation is safe from {} on.", from(&answer["rotation_possible_from"])));
    Ok(Exit::Yes)
}

/// From when on, by this machine's clock, which is near enough for what is past.
pub(super) fn from(instant: &Value) -> String {
    earliest(instant, SystemClock::default().now())
}

/// Since it was made, by this machine's clock, which is near enough for that.
fn age(key: &Value) -> String {
    let Some(made) = key["created_at"].as_str().and_then(Timestamp::from_rfc3339) else { return String::new() };
    let age = SystemClock::default().now().since(made);
    if age < Duration::from_secs(120) { format!("{}m", age.as_secs() / 60) } else { roughly(age) }
}

/// In its largest unit.
pub(super) fn roughly(duration: Duration) -> String {
    const UNITS: [(u64, char); 3] = [(24 * 60 * 60, 'd'), (60 * 60, 'h'), (60, 'm')];
    // To the nearest: 11 minutes less a moment are 11 minutes.
    let of = |unit: u64| (duration.as_secs() + unit / 2) / unit;
    let unit = UNITS.into_iter().find(|(unit, _)| duration.as_secs() >= 2 * unit);
    unit.map_or_else(|| format!("{}s", duration.as_secs()), |(unit, name)| format!("{}{name}", of(unit)))
}

fn instant(key: &Value, name: &str) -> Option<String> {
    key[name].as_str().map(|_| when(&key[name]))
}

fn signs(key: &Value) -> String {
    let since = || instant(key, "rolled_back_at").or_else(|| instant(key, "activated_at"));
    match key["state"].as_str() {
        Some("pending") => Some(format!("from {}", from(&key["signs_from"]))),
        Some("active") => since().map(|since| format!("since {since}")),
        _ => instant(key, "retiring_since").map(|until| format!("until {until}")),
    }
    .unwrap_or_default()
}

/// Until when; of the key that signs, when it begins to retire.
fn verifies(key: &Value, schedule: &Value) -> String {
    let mut steps = schedule["steps"].as_array().into_iter().flatten();
    match key["state"].as_str() {
        Some("active") => {
            let next = steps.find(|step| step["step"] == "activate");
            next.map(|next| format!("retires {}", when(&next["at"]))).unwrap_or_default()
        }
        Some("retiring") => instant(key, "verifies_until").map(|until| format!("until {until}")).unwrap_or_default(),
        _ => String::new(),
    }
}

fn destroyable(key: &Value) -> String {
    match key["state"].as_str() {
        Some("destroyed" | "compromised") => "destroyed".into(),
        _ => instant(key, "destroyable_from")
            .map(|_| format!("from {}", from(&key["destroyable_from"])))
            .unwrap_or_default(),
    }
}

/// Show one signing key, with all its instants.
///
/// Needs the permission keys:read.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ShowArgs {
    /// The key.
    #[arg(value_parser = kid, allow_hyphen_values = true)]
    kid: String,
    /// Print the answer of GET /v1/keys/{kid}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn show(args: ShowArgs) -> Result<Exit, Failure> {
    let key = args.server.connect()?.get(&["v1", "keys", &args.kid], &[]).await?;
    if args.json {
        say(key);
        return Ok(Exit::Yes);
    }
    let shown = |name: &str| match name {
        "signs_from" | "destroyable_from" => from(&key[name]),
        _ => when(&key[name]),
    };
    let instants = [
        ("created", "created_at"),
        ("published", "published_at"),
        ("may sign from", "signs_from"),
        ("signs since", "activated_at"),
        ("again since", "rolled_back_at"),
        ("signed until", "retiring_since"),
        ("verifies until", "verifies_until"),
        ("retired", "retired_at"),
        ("destroyable from", "destroyable_from"),
        ("destroyed", "destroyed_at"),
        ("compromised", "compromised_at"),
    ];
    let named = ["kid", "state", "alg", "x"].map(|name| (name, text(&key[name])));
    members(named.into_iter().chain(instants.map(|(title, name)| (title, shown(name)))));
    Ok(Exit::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let roughly = |seconds| super::roughly(Duration::from_secs(seconds));
        assert_eq!([0, 59, 119].map(roughly), ["0s", "59s", "119s"]);
        assert_eq!([120, 659, 7199, 7200, 86_400, 90 * 86_400].map(roughly), ["2m", "11m", "120m", "2h", "24h", "90d"]);
    }
}

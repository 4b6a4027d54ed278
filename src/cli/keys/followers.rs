//! When those had applied an order that follow the feed and say how far they are.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::{output::when, remote::Remote, say, tell};
use crate::model::time::format_duration;

/// Connected ones have applied it within a second; whoever takes longer is to be looked at.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits a while until all that are heard of have applied the feed up to `position`, and says how many have, and when.
/// The order is carried out whatever comes of it, so nothing here fails.
pub(super) async fn tell_of(remote: &Remote, position: u64) {
    say("");
    let until = Instant::now() + PATIENCE;
    let told = loop {
        let query = [("limit", "1".to_owned()), ("position", position.to_string())];
        match remote.get(&["v1", "verifiers"], &query).await {
            Err(failure) => break Err(failure),
            Ok(page) if page["applied"]["missing"] == 0 || Instant::now() >= until => break Ok(page),
            Ok(_) => sleep(LOOK_EVERY).await,
        }
    };
    match told {
        Ok(page) => say(sentence(&page["applied"], position)),
        Err(failure) => {
            say("Verifiers with the feed: which of them have applied it cannot be told.");
            tell(failure);
        }
    }
}

fn sentence(counts: &Value, position: u64) -> String {
    let [applied, missing, silent] = ["applied", "missing", "silent"].map(|name| counts[name].as_u64().unwrap_or(0));
    if applied + missing + silent == 0 {
        return "Verifiers with the feed: none reports how far it is.".into();
    }
    let all = applied + missing + silent;
    let last = if applied > 0 { format!(", the last since {}", when(&counts["confirmed_at"])) } else { String::new() };
    let mut told = format!("Verifiers with the feed, of those that report: {applied} of {all} refuse it{last}");
    if silent > 0 {
        told += &format!("; {silent} silent: gone, or unavailable once their max_staleness is over");
    }
    if missing > 0 {
        let waited = format_duration(PATIENCE);
        told += &format!("; {missing} not after {waited}: rescind verifiers list --position {position}");
    }
    told + "."
}

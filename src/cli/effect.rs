//! What a revocation does, in words: before it is made, and once it is.

use serde_json::Value;

use super::output::{members, plain, text, when};

/// `This would end 2 sessions of 1 subject; …`
pub(super) fn sentence(impact: &Value) -> String {
    let least = if impact["capped"] == true { "at least " } else { "" };
    let count = |name: &str, one: &str| {
        let n = impact[name].as_u64().unwrap_or(0);
        format!("{least}{n} {one}{}", if n == 1 { "" } else { "s" })
    };
    let tokens = match impact["tokens_until"].as_str() {
        Some(_) => format!(
            "live access tokens of {}, the last of which expires at {}",
            count("sessions_with_live_tokens", "session"),
            when(&impact["tokens_until"])
        ),
        None => "no live access tokens of sessions".to_owned(),
    };
    let (sessions, subjects) = (count("sessions", "open session"), count("subjects", "subject"));
    format!("This would end {sessions} and refuse {tokens}; concerned: {subjects}.")
}

/// How long a key deceives those who do not follow the feed.
const HELD: &str = "until each fetches the key set again: rescind keys compromise says when that is";

/// From when on something holds, for whom: names and values.
pub(super) fn effect(told: &Value) -> [(&'static str, String); 3] {
    let without = match told["without_feed_from"].as_str() {
        Some(_) => format!("{}, when the last access token has expired", when(&told["without_feed_from"])),
        None => "no access token of it is alive".to_owned(),
    };
    [
        ("refused here", format!("from {} on; connected verifiers follow within moments", when(&told["here_from"]))),
        (
            "disconnected",
            format!("from {} on at the latest, by each verifier's max_staleness", when(&told["disconnected_from"])),
        ),
        ("without feed", without),
    ]
}

/// For a person, what was done. The feed and the denylist know no subject by its name, so that comes from the caller.
pub(super) fn show_entry(entry: &Value, subject: Option<&str>) {
    let id = match subject {
        Some(subject) => format!("{} (in the feed: {})", plain(subject), text(&entry["subject_ref"])),
        None => text(&entry["id"]),
    };
    let covers = match (entry["before"].as_str(), entry["ends"].as_str()) {
        (Some(_), Some("tokens")) => format!("tokens minted before {}; sessions go on", when(&entry["before"])),
        (Some(_), _) => format!("sessions opened before {}, with their tokens", when(&entry["before"])),
        _ => String::new(),
    };
    let is_key = entry["kind"] == "key";
    let told = [
        ("revoked", format!("{} {id}", text(&entry["kind"])).trim_end().to_owned()),
        ("covers", covers),
        ("reason", text(&entry["reason"])),
        ("position", format!("{} in the feed", text(&entry["position"]))),
    ]
    .into_iter();
    let [here, disconnected, without] = effect(&entry["effect"]);
    let without = if is_key { ("without feed", HELD.to_owned()) } else { without };
    members(told.chain([here, disconnected, without]));
}

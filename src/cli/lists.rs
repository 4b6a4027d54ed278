//! The tables of `docs/reference` that list what the code lists: permissions, audit events, kinds of messages. `BLESS=1`
//! writes them anew.

use std::fmt::Write as _;

use super::reference::keep_parts_in_step;
use crate::{
    model::audit::Event,
    service::{Kind, Permission},
};

/// What a cause begins with where it decides what a record is told as.
const CAUSES: [&str; 4] = ["", "Other", "all", "key"];

#[test]
fn the_pages_name_every_permission_event_and_message() {
    keep_parts_in_step("clients.md", &[("permissions", permissions())]);
    keep_parts_in_step("audit.md", &[("events", events())]);
    keep_parts_in_step("webhook.md", &[("messages", messages())]);
}

fn permissions() -> String {
    let mut table = "| permission | allows to | is part of |\n|---|---|---|\n".to_owned();
    for permission in Permission::ALL {
        let (name, about) = (permission.name(), in_a_cell(permission.about()));
        let _ =
            writeln!(table, "| `{name}` | {about} | {} |", quoted(permission.included_in().iter().map(|p| p.name())));
    }
    table
}

fn events() -> String {
    let mut table = "| event | says | the webhook tells it as |\n|---|---|---|\n".to_owned();
    for event in Event::ALL {
        let mut kinds: Vec<_> = CAUSES.into_iter().filter_map(|cause| Kind::told(*event, cause)).collect();
        kinds.sort();
        kinds.dedup();
        let (name, about) = (event.name(), in_a_cell(event.about()));
        let _ = writeln!(table, "| `{name}` | {about} | {} |", quoted(kinds.iter().map(|kind| kind.name())));
    }
    table
}

fn messages() -> String {
    let mut table = "| type | tells | of the events |\n|---|---|---|\n".to_owned();
    for kind in Kind::ALL {
        let tells = |event: &&Event| CAUSES.into_iter().any(|cause| Kind::told(**event, cause) == Some(*kind));
        let events: Vec<_> = Event::ALL.iter().filter(tells).map(|event| event.name()).collect();
        let (name, about) = (kind.name(), in_a_cell(kind.about()));
        let _ = writeln!(table, "| `{name}` | {about} | {} |", quoted(events.iter().map(AsRef::as_ref)));
    }
    table + "| `webhook.test` | nothing: `rescind webhook test` sent it | |\n"
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A sentence without its capital and its full stop.
fn in_a_cell(sentence: &str) -> String {
    let text = sentence.trim().trim_end_matches('.');
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}", first.to_lowercase())
}

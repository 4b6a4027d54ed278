//! What people read: tables as wide as their terminal, members one a line, instants without their milliseconds.
//! Whatever a service says goes to a terminal, so control characters are written out.

use std::io::{self, IsTerminal};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::NOTHING};
use serde_json::Value;

use super::say;
use crate::model::Timestamp;

/// Nobody reads lines that are longer, and a terminal that says less than this is none.
const WIDTHS: std::ops::RangeInclusive<u16> = 40..=400;

/// Text without anything that moves a cursor or turns the direction of writing.
pub(super) fn plain(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if harmful(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A value in one line: a string as it is, a list with commas, nothing for null.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(members) if members.is_empty() => String::new(),
        other => plain(&other.to_string()),
    }
}

/// RFC 3339 without `T` and milliseconds, which wraps where it must. Anything else stays as it is.
pub(super) fn when(value: &Value) -> String {
    let text = text(value);
    match text.get(..19) {
        Some(start) if Timestamp::from_rfc3339(&text).is_some() && text.ends_with('Z') => {
            format!("{}Z", start.replace('T', " "))
        }
        _ => text,
    }
}

/// From when on something may be done: `now`, or an instant as in [`when`], never before the true one.
pub(super) fn earliest(value: &Value, now: Timestamp) -> String {
    match value.as_str().and_then(Timestamp::from_rfc3339) {
        Some(at) if at <= now => "now".into(),
        Some(at) => when(&Timestamp::from_millis(at.millis().next_multiple_of(1000)).to_rfc3339().into()),
        None => when(value),
    }
}

/// Names and values, one a line; those without a value are left out.
pub(super) fn members<'a>(members: impl IntoIterator<Item = (&'a str, String)>) {
    let members: Vec<_> = members.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = members.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in members {
        say(format_args!("{name:<width$}  {value}"));
    }
}

/// A table with a heading. The first `whole` columns are never broken: they are copied from.
pub(super) fn table(heading: &[&str], whole: usize, rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heading.to_vec());
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    match width() {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        // One line a row, for those who search in it.
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at < whole {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.lines().for_each(|line| say(line.trim_end()));
}

/// As wide as the terminal. None: it is none.
fn width() -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col).filter(|col| *col > 0);
    Some(named.or_else(measured).unwrap_or(80).clamp(*WIDTHS.start(), *WIDTHS.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_cannot_move_the_cursor_or_turn_the_text() {
        for hostile in ["\u{1b}[2J", "a\nb", "\u{9b}31m", "\u{202e}txt", "\u{2066}x", "\u{7f}"] {
            let shown = text(&Value::from(hostile));
            assert!(shown.chars().all(|c| !c.is_control() && !"\u{202e}\u{2066}".contains(c)), "{shown:?}");
        }
        assert_eq!(plain("Zoë 東京"), "Zoë 東京");
    }

    #[test]
    fn instants_are_shortened_and_nothing_else() {
        assert_eq!(when(&"2026-11-22T12:00:00.123Z".into()), "2026-11-22 12:00:00Z");
        assert_eq!(when(&"not an instant, but long".into()), "not an instant, but long");
        assert_eq!(when(&Value::Null), "");
    }

    #[test]
    fn whoever_comes_when_it_is_said_does_not_come_too_early() {
        let now = Timestamp::from_rfc3339("2026-11-22T12:00:00.500Z").unwrap();
        assert_eq!(earliest(&"2026-11-22T12:00:33.603Z".into(), now), "2026-11-22 12:00:34Z");
        assert_eq!(earliest(&"2026-11-22T12:00:33.000Z".into(), now), "2026-11-22 12:00:33Z");
        assert_eq!(earliest(&"2026-11-22T12:00:00.500Z".into(), now), "now");
        assert_eq!(earliest(&Value::Null, now), "");
    }
}

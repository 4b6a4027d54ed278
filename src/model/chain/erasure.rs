//! What the record of an erasure says: which records it stripped, one by one. So nobody can strip another and say that
//! it was that erasure.

use std::{fmt::Write as _, ops::RangeInclusive};

/// Before the places of the records.
const RECORDS: &str = "; records ";

/// The `cause` of `subject_erased`: `2 sessions, 1 reasons; records 3, 5-9`. `records`: places in the log, ascending.
#[must_use]
pub fn erasure(sessions: usize, reasons: usize, records: &[u64]) -> String {
    let mut cause = format!("{sessions} sessions, {reasons} reasons");
    let mut before = RECORDS;
    for run in records.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let _ = if first == last { write!(cause, "{before}{first}") } else { write!(cause, "{before}{first}-{last}") };
        before = ", ";
    }
    if records.is_empty() {
        cause.push_str("; no records");
    }
    cause
}

/// The places that such a cause names.
pub(super) fn stripped(cause: &str) -> Vec<RangeInclusive<u64>> {
    let Some((_, list)) = cause.split_once(RECORDS) else { return Vec::new() };
    list.split(", ").filter_map(run_of).collect()
}

fn run_of(text: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_read() {
        let said = [
            (&[][..], "2 sessions, 1 reasons; no records", vec![]),
            (&[7], "2 sessions, 1 reasons; records 7", vec![7..=7]),
            (&[1, 2, 3, 5, 8, 9], "2 sessions, 1 reasons; records 1-3, 5, 8-9", vec![1..=3, 5..=5, 8..=9]),
        ];
        for (records, cause, read) in said {
            assert_eq!(erasure(2, 1, records), cause);
            assert_eq!(stripped(cause), read);
        }
    }

    #[test]
    fn what_nobody_wrote_names_nothing() {
        for odd in ["", "; records ", "; records 9-3", "; records x, -4, 4-, 99999999999999999999"] {
            assert_eq!(stripped(odd), [], "{odd}");
        }
    }
}

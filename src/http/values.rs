//! Values of a query, a path or a body that more than one route takes.

use std::str::FromStr;

use crate::{
    model::{Timestamp, ids::IdError},
    service::Error,
};

/// How many rows of a page are given unless it is said.
const PAGE: usize = 50;

/// An id, by its own rule.
pub(super) fn id<T: FromStr<Err = IdError>>(field: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|e: IdError| Error::request(field, e.to_string()))
}

/// The same, where it may be left out.
pub(super) fn id_if_any<T: FromStr<Err = IdError>>(
    field: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, Error> {
    text.map(|text| id(field, text)).transpose()
}

/// RFC 3339.
pub(super) fn instant(field: &'static str, text: &str) -> Result<Timestamp, Error> {
    Timestamp::from_rfc3339(text)
        .ok_or_else(|| Error::request(field, "an RFC 3339 instant, such as 2026-01-31T12:00:00Z"))
}

/// The same, where it may be left out.
pub(super) fn instant_if_any(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    text.map(|text| instant(field, text)).transpose()
}

/// `limit` of a page that may hold so many at most.
pub(super) fn page_size(asked: Option<usize>, most: usize) -> Result<usize, Error> {
    match asked.unwrap_or(PAGE) {
        size if (1..=most).contains(&size) => Ok(size),
        _ => Err(Error::request("limit", format!("1 to {most}"))),
    }
}

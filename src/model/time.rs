//! Instants and durations, and how people write them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted (RFC 7519 §2, `NumericDate`, ×1000).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Timestamp(u64);

impl Timestamp {
    /// The largest instant that every format here can carry (a UUIDv7 has 48 bits of milliseconds).
    pub const MAX: Self = Self((1 << 48) - 1);

    /// From milliseconds since the epoch, capped at [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }
    /// From seconds since the epoch, capped at [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }
    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }
    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }
    /// The instant `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
    /// The instant `by` earlier.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
    /// How long ago `earlier` was; zero if it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// As [`Timestamp::from_millis`]: what is read back is capped like everything else.
impl From<u64> for Timestamp {
    fn from(millis: u64) -> Self {
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for u64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(feature = "server")]
impl Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis).map_or_else(|_| self.0.to_string(), |t| format!("{t:.3}"))
    }
    /// Reads RFC 3339. `None` if it is not, or lies before 1970.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let t: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(t.as_millisecond()).ok().map(Self::from_millis)
    }
}

/// Reads `500ms`, `3s`, `5m`, `12h`, `14d`; `0` needs no unit. Anything else is an error that says what was expected.
///
/// # Errors
/// A sentence for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration; write a number and a unit: 500ms, 3s, 5m, 12h or 14d");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let millis_per = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return Err(bad()),
    };
    // Ten thousand days is beyond any life of anything here and far from overflow.
    match number.checked_mul(millis_per) {
        Some(millis) if millis <= 10_000 * 86_400_000 => Ok(Duration::from_millis(millis)),
        _ => Err(format!("`{text}` is longer than 10000d")),
    }
}

/// The shortest text that [`parse_duration`] reads back.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, per) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis >= per && millis.is_multiple_of(per) {
            return format!("{}{unit}", millis / per);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_instant_that_is_read_lies_beyond_the_largest() {
        for beyond in [(1 << 48) - 1, 1 << 48, 180_000_000_000_000_000, u64::MAX] {
            assert_eq!(serde_json::from_str::<Timestamp>(&beyond.to_string()).unwrap(), Timestamp::MAX);
        }
    }

    #[test]
    fn durations_read_back() {
        for text in ["500ms", "3s", "5m", "12h", "14d", "90s", "1001ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["", "5", "5 m", "-1s", "1w", "1.5s", "s", "99999999999999999999s", "10001d", "５s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn rfc3339_reads_back_to_the_millisecond() {
        let t = Timestamp::from_rfc3339("2026-11-22T19:13:25.007Z").unwrap();
        assert_eq!(t.to_rfc3339(), "2026-11-22T19:13:25.007Z");
        assert_eq!(Timestamp::from_rfc3339("2026-11-22T20:13:25.007+01:00"), Some(t));
        assert_eq!(Timestamp::from_rfc3339("yesterday"), None);
        assert_eq!(Timestamp::from_rfc3339("1969-12-31T23:59:59Z"), None);
    }
}

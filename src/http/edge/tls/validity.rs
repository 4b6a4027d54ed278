//! From when and until when a certificate is valid: the one thing that we must know of it and that rustls does not tell.

use crate::model::Timestamp;

/// Both ends belong to it (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which is explicit and may be absent.
const VERSION: u8 = 0xa0;

impl Validity {
    /// Walks `Certificate.tbsCertificate` up to `validity` (RFC 5280 §4.1).
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let mut certificate = Walk(der).enter(SEQUENCE)?;
        let mut tbs = certificate.enter(SEQUENCE)?;
        if tbs.0.first() == Some(&VERSION) {
            tbs.next()?;
        }
        // Serial number, signature algorithm, issuer.
        for expected in [INTEGER, SEQUENCE, SEQUENCE] {
            tbs.next().filter(|(tag, _)| *tag == expected)?;
        }
        let mut validity = tbs.enter(SEQUENCE)?;
        Some(Self { from: validity.time()?, until: validity.time()? })
    }
}

const NEVER: &str = "9999-12-30T00:00:00Z";

/// What is left of a DER structure.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    /// The next element: its tag and what is in it. Lengths up to 65,535, which is longer than any certificate of ours.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(n, rest)| (usize::from(*n), rest))?,
            0x82 => rest.split_first_chunk().map(|(n, rest)| (usize::from(u16::from_be_bytes(*n)), rest))?,
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn enter(&mut self, expected: u8) -> Option<Self> {
        self.next().filter(|(tag, _)| *tag == expected).map(|(_, content)| Self(content))
    }

    /// `YYMMDDHHMMSSZ`, of 1950 to 2049, or `YYYYMMDDHHMMSSZ`; nothing else is allowed in a certificate.
    fn time(&mut self) -> Option<Timestamp> {
        let (tag, content) = self.next()?;
        let digits = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let (century, rest) = match (tag, digits.len()) {
            (UTC_TIME, 12) if digits < "50" => ("20", digits),
            (UTC_TIME, 12) => ("19", digits),
            (GENERALIZED_TIME, 14) => digits.split_at(2),
            _ => return None,
        };
        let part = |at: usize| &rest[at..at + 2];
        let [year, month, day, hour, minute, second] = [0, 2, 4, 6, 8, 10].map(part);
        let read = Timestamp::from_rfc3339(&format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z"));
        // 99991231235959Z says "never" (RFC 5280 §4.1.2.5), which is later than our clocks count.
        read.or_else(|| digits.starts_with("9999").then(|| Timestamp::from_rfc3339(NEVER)).flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_validity_of_a_certificate_is_read() {
        assert_eq!(Validity::of(&certificate(9999)).unwrap().until.to_rfc3339(), "9999-12-30T00:00:00.000Z");
        for year in [2049, 2050, 9998] {
            let read = Validity::of(&certificate(year)).unwrap();
            assert_eq!(read.from.to_rfc3339(), "2020-02-29T00:00:00.000Z");
            assert_eq!(read.until.to_rfc3339(), format!("{year}-12-31T00:00:00.000Z"));
        }
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        let whole = certificate(2030);
        for cut in 0..130 {
            assert_eq!(Validity::of(&whole[..cut]), None);
        }
        for bytes in [&[][..], &[0x30], &[0x30, 0x84, 1, 1, 1, 1], &[0x30, 0x80, 0, 0], &[0xff; 64]] {
            assert_eq!(Validity::of(bytes), None);
        }
    }
}

//! A family as its bucket holds it.
//!
//! `version` (4 bytes) ‖ when it may be of no more use, in seconds (4) ‖ subject (16) ‖ numbers ‖ client ‖ seal. Every write
//! raises the version, so that a change need compare no more than that. Numbers that lie close together are written as their differences: a million sessions take
//! tens of megabytes less.

use crate::{
    model::{
        ClientId, SessionId, SubjectRef, Timestamp,
        family::{Closed, Closure, Generation, Lineage, STAMPS, Served, Stamp},
    },
    store::{Family, StoreError, embedded::family_due},
};

/// A family, and how often it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) client: ClientId,
    pub(super) family: Family,
}

const DAMAGED: StoreError = StoreError::Damaged("family");

impl Record {
    /// What a record must begin with for a change that was decided by this one.
    pub(super) fn begins(&self) -> [u8; 4] {
        self.version.to_be_bytes()
    }

    /// To be written in its place.
    pub(super) fn next(&self) -> Self {
        Self { version: self.version.wrapping_add(1), ..self.clone() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Family { id, lineage, key, subject, sealed } = &self.family;
        let mut out = Vec::with_capacity(96 + sealed.len());
        out.extend(self.version.to_be_bytes());
        out.extend(due(&self.family).to_be_bytes());
        out.extend(subject.0);
        let times = [
            (id.stamp(), lineage.absolute_until),
            (id.stamp(), lineage.last_used),
            (lineage.last_used, lineage.access_until),
            (lineage.absolute_until, lineage.idle_until),
        ];
        put(&mut out, u64::from(*key));
        put(&mut out, u64::from(lineage.head.0));
        put(&mut out, u64::from(lineage.incarnation));
        for (from, to) in times {
            put_difference(&mut out, from.millis(), to.millis());
        }
        let mut last = 0;
        for Stamp { rotated, given } in lineage.stamps {
            put_difference(&mut out, last, given.0);
            put_difference(&mut out, given.0, rotated.0);
            last = given.0;
        }
        put(&mut out, lineage.closed.map_or(0, |closed| code_of(closed.cause)));
        if let Some(closed) = lineage.closed {
            put_difference(&mut out, lineage.last_used.millis(), closed.at.millis());
        }
        put(&mut out, self.client.as_str().len() as u64);
        out.extend(self.client.as_str().as_bytes());
        out.extend(sealed);
        out
    }

    /// The record of this family.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn decode(id: SessionId, bytes: &[u8]) -> Result<Self, StoreError> {
        read(id, bytes).ok_or(DAMAGED)
    }
}

/// When a family may be of no more use, in whole seconds: never later than [`family_due`]. Who looks then, decides.
fn due(family: &Family) -> u32 {
    u32::try_from(family_due(family).seconds()).unwrap_or(u32::MAX)
}

fn read(id: SessionId, bytes: &[u8]) -> Option<Record> {
    let (version, rest) = bytes.split_first_chunk()?;
    // When it is due follows from the rest.
    let (_, mut rest) = rest.split_first_chunk::<4>()?;
    let subject = SubjectRef(*take_chunk(&mut rest)?);
    let rest = &mut rest;
    let key = u32::try_from(take(rest)?).ok()?;
    let head = Generation(u32::try_from(take(rest)?).ok()?);
    let incarnation = u32::try_from(take(rest)?).ok()?;
    let absolute_until = take_instant(rest, id.stamp())?;
    let last_used = take_instant(rest, id.stamp())?;
    let access_until = take_instant(rest, last_used)?;
    let idle_until = take_instant(rest, absolute_until)?;
    let mut stamps = [Stamp::default(); STAMPS];
    let mut last = 0;
    for stamp in &mut stamps {
        last = take_difference(rest, last)?;
        *stamp = Stamp { given: Served(last), rotated: Served(take_difference(rest, last)?) };
    }
    let closed = match take(rest)? {
        0 => None,
        code => Some(Closed { cause: cause_of(code)?, at: take_instant(rest, last_used)? }),
    };
    let length = usize::try_from(take(rest)?).ok()?;
    let (client, sealed) = rest.split_at_checked(length)?;
    let client = std::str::from_utf8(client).ok()?.parse().ok()?;
    let lineage = Lineage { head, stamps, closed, last_used, idle_until, absolute_until, access_until, incarnation };
    let family = Family { id, lineage, key, subject, sealed: sealed.to_vec() };
    Some(Record { version: u32::from_be_bytes(*version), client, family })
}

/// In the order of these numbers, which are never given to another.
const CAUSES: [Closure; 7] = [
    Closure::LoggedOut,
    Closure::Revoked,
    Closure::Reused,
    Closure::OtherClient,
    Closure::OtherKey,
    Closure::AheadOfBackup,
    Closure::Displaced,
];

fn code_of(cause: Closure) -> u64 {
    match cause {
        Closure::LoggedOut => 1,
        Closure::Revoked => 2,
        Closure::Reused => 3,
        Closure::OtherClient => 4,
        Closure::OtherKey => 5,
        Closure::AheadOfBackup => 6,
        Closure::Displaced => 7,
    }
}

fn cause_of(code: u64) -> Option<Closure> {
    CAUSES.into_iter().find(|cause| code_of(*cause) == code)
}

/// Seven bits at a time, the lowest first; the eighth says that there are more.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The difference, wherever it leads: small ones of either sign are short.
fn put_difference(out: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from).cast_signed();
    put(out, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
}

fn take_difference(from: &mut &[u8], base: u64) -> Option<u64> {
    let folded = take(from)?;
    let difference = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
    Some(base.wrapping_add(difference.cast_unsigned()))
}

fn take_instant(from: &mut &[u8], base: Timestamp) -> Option<Timestamp> {
    let millis = take_difference(from, base.millis())?;
    (millis <= Timestamp::MAX.millis()).then(|| Timestamp::from_millis(millis))
}

fn take_chunk<'a, const N: usize>(from: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (chunk, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(chunk)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instant() -> impl Strategy<Value = Timestamp> {
        prop_oneof![
            Just(0),
            Just(Timestamp::MAX.millis()),
            0..=Timestamp::MAX.millis(),
            1_795_374_805_000..1_795_374_905_000_u64
        ]
        .prop_map(Timestamp::from_millis)
    }

    fn served() -> impl Strategy<Value = Served> {
        prop_oneof![Just(u64::MAX), Just(0), any::<u64>(), 1_000_000..2_000_000_u64].prop_map(Served)
    }

    fn record() -> impl Strategy<Value = Record> {
        let stamp = || (served(), served()).prop_map(|(rotated, given)| Stamp { rotated, given });
        let closed = prop::option::of((0..CAUSES.len(), instant()));
        let lineage = (
            any::<u32>(),
            [stamp(), stamp(), stamp(), stamp()],
            closed,
            (instant(), instant(), instant(), instant()),
            any::<u32>(),
        )
            .prop_map(|(head, stamps, closed, times, incarnation)| Lineage {
                head: Generation(head),
                stamps,
                closed: closed.map(|(cause, at)| Closed { cause: CAUSES[cause], at }),
                last_used: times.0,
                idle_until: times.1,
                absolute_until: times.2,
                access_until: times.3,
                incarnation,
            });
        (
            any::<u32>(),
            "[!-~]{1,128}",
            instant(),
            any::<[u8; 10]>(),
            lineage,
            any::<u32>(),
            any::<[u8; 16]>(),
            any::<Vec<u8>>(),
        )
            .prop_map(|(version, client, at, random, lineage, key, subject, sealed)| Record {
                version,
                client: client.parse().expect("visible characters"),
                family: Family { id: SessionId::new(at, &random), lineage, key, subject: SubjectRef(subject), sealed },
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_reads_back(record in record()) {
            let bytes = record.encode();
            prop_assert_eq!(&bytes[..4], &record.begins());
            prop_assert_eq!(Record::decode(record.family.id, &bytes).unwrap(), record);
        }

        #[test]
        fn what_is_no_record_is_damaged_and_nothing_worse(bytes in any::<Vec<u8>>(), record in record(), cut in 0..60_usize) {
            let id = record.family.id;
            let _ = Record::decode(id, &bytes);
            let whole = record.encode();
            let head = whole.len() - record.family.sealed.len();
            let cut = &whole[..head.saturating_sub(1 + cut)];
            prop_assert!(matches!(Record::decode(id, cut), Err(StoreError::Damaged(_))));
        }
    }

    #[test]
    fn a_session_that_has_just_been_refreshed_takes_few_bytes_beside_its_seal() {
        let opened = Timestamp::from_seconds(1_795_374_805);
        let served = |ago: u64| Served((1 << 40) | ((1 << 30) - ago));
        let stamp = |ago| Stamp { rotated: served(ago), given: served(ago) };
        let lineage = Lineage {
            head: Generation(300),
            stamps: [stamp(0), stamp(300_000), stamp(600_000), stamp(900_000)],
            closed: None,
            last_used: opened.plus(std::time::Duration::from_secs(86_400)),
            idle_until: opened.plus(std::time::Duration::from_secs(15 * 86_400)),
            absolute_until: opened.plus(std::time::Duration::from_secs(90 * 86_400)),
            access_until: opened.plus(std::time::Duration::from_secs(86_700)),
            incarnation: 1,
        };
        let id = SessionId::new(opened, &[1; 10]);
        let family = Family { id, lineage, key: u32::MAX, subject: SubjectRef([1; 16]), sealed: Vec::new() };
        let record = Record { version: 1, client: "web".parse().unwrap(), family };
        assert!(record.encode().len() <= 76, "{}", record.encode().len());
    }
}

//! The log of the feed as the hub holds it: two streams, one for what leaves soon, and one for what is kept for long, so
//! that the first can be trimmed to its first entry that lives. An entry that is kept for long is in both.

use redis::Value;
use serde::{Deserialize, Serialize};

use super::Head;
use crate::{
    model::{
        Timestamp,
        denial::{Ends, Entry, Target},
        feed::{Digest, PAGE, Place},
    },
    store::{
        StoreError,
        embedded::{MANY_SINGLES, Placed, Whole, decode, encode},
        redis::{
            Core,
            commit::{Look, Seen, UNREADABLE, bytes, maybe},
        },
    },
};

/// Entries that one look reads.
const READS: usize = 1000;

/// An entry as it lies in the log, after the digest of what is before it. Instants as distances, because there are many.
#[derive(Serialize, Deserialize)]
struct Row {
    target: Target,
    ends: Ends,
    at: Timestamp,
    /// From `at`.
    before: i64,
    /// From `at`.
    feed: i64,
    /// From the former.
    kept: u64,
    /// Whether it stands for many: what an operator says lies elsewhere.
    many: bool,
}

fn distance(from: Timestamp, to: Timestamp) -> i64 {
    // Both have 48 bits.
    i64::try_from(to.millis()).unwrap_or(i64::MAX) - i64::try_from(from.millis()).unwrap_or(i64::MAX)
}

fn beyond(from: Timestamp, distance: i64) -> Timestamp {
    Timestamp::from_millis(from.millis().saturating_add_signed(distance))
}

pub(super) fn written(Placed { entry, before }: &Placed) -> Vec<u8> {
    let row = Row {
        target: entry.target.clone(),
        ends: entry.ends,
        at: entry.at,
        before: distance(entry.at, entry.before),
        feed: distance(entry.at, entry.feed_until),
        kept: entry.kept_until.millis().saturating_sub(entry.feed_until.millis()),
        many: stands_for_many(entry),
    };
    [&before.0, &encode(&row)[..]].concat()
}

fn read(position: u64, bytes: &[u8]) -> Result<Placed, StoreError> {
    let (before, row) = bytes.split_first_chunk().ok_or(StoreError::Damaged("entry"))?;
    let row: Row = decode(row, "entry")?;
    let feed_until = beyond(row.at, row.feed);
    let entry = Entry {
        position,
        target: row.target,
        ends: row.ends,
        before: beyond(row.at, row.before),
        at: row.at,
        feed_until,
        kept_until: Timestamp::from_millis(feed_until.millis().saturating_add(row.kept)),
        reason: row.many.then(|| MANY_SINGLES.into()),
    };
    Ok(Placed { entry, before: Digest(*before) })
}

/// Whether it is one of ours that stands for many, not the word of an operator.
pub(super) fn stands_for_many(entry: &Entry) -> bool {
    entry.reason.as_deref() == Some(MANY_SINGLES)
}

/// Whether it has a place beside the log, because it would hold up the trimming.
pub(super) fn is_kept_for_long(entry: &Entry) -> bool {
    entry.feed_until < entry.kept_until || entry.feed_until == Timestamp::MAX
}

/// A part of a stream of ours.
pub(super) fn entries(stream: &Value) -> Result<Vec<Placed>, StoreError> {
    let Value::Array(items) = stream else { return Err(UNREADABLE) };
    items.iter().map(entry).collect()
}

fn entry(item: &Value) -> Result<Placed, StoreError> {
    let Value::Array(parts) = item else { return Err(UNREADABLE) };
    let [id, Value::Array(fields)] = &parts[..] else { return Err(UNREADABLE) };
    let [_, row] = &fields[..] else { return Err(UNREADABLE) };
    let id = std::str::from_utf8(bytes(id)?).ok().and_then(|id| id.strip_suffix("-0")?.parse().ok());
    read(id.ok_or(UNREADABLE)?, bytes(row)?)
}

/// What a look at the log gives.
pub(in crate::store::redis) struct LogPart {
    /// The time of the hub's server.
    pub(in crate::store::redis) now: Timestamp,
    /// Which life the hub is of.
    pub(in crate::store::redis) mark: Option<Vec<u8>>,
    /// As it is written: what a commit is guarded by.
    pub(in crate::store::redis) seen: Vec<u8>,
    pub(in crate::store::redis) head: Head,
    /// What follows, not all of it perhaps.
    pub(in crate::store::redis) entries: Vec<Placed>,
    /// What else was looked at.
    pub(in crate::store::redis) rest: Vec<Value>,
}

/// The head, and the log from after a position; and what else is asked for, all at one instant.
pub(in crate::store::redis) async fn read_on(
    core: &Core,
    after: u64,
    more: impl FnOnce(Look) -> Look,
) -> Result<LogPart, StoreError> {
    let look = Look::default().hget(core.layout.hub("meta"), b"life").get(core.layout.hub("head"));
    let look = look.since(core.layout.hub("log"), after, READS);
    let Seen { now, parts } = more(look).ask(&core.link.urgent()).await?;
    let mut parts = parts.into_iter();
    let mut part = || parts.next().ok_or(UNREADABLE);
    let (mark, head, log) = (part()?, part()?, part()?);
    let mark = maybe(&mark)?.map(<[u8]>::to_vec);
    // It is the first thing that a store gets.
    let seen = maybe(&head)?.ok_or(StoreError::NotWhole)?.to_vec();
    Ok(LogPart { now, mark, head: Head::read(&seen)?, seen, entries: entries(&log)?, rest: parts.collect() })
}

/// All that lives of the log, and nothing beyond the head of when this began.
pub(in crate::store::redis) async fn read_whole(core: &Core) -> Result<Whole, StoreError> {
    let seals = core.layout.hub("seals");
    let LogPart { head, rest, .. } = read_on(core, u64::MAX >> 1, |look| look.hall(seals)).await?;
    let seals = rest.first().map_or(Ok(Vec::new()), seals_of)?;
    let place = head.place();
    let mut found = std::collections::BTreeMap::new();
    for stream in ["kept", "log"] {
        let mut after = 0;
        loop {
            let look = Look::default().get(core.layout.hub("head")).since(core.layout.hub(stream), after, READS);
            let parts = look.ask(&core.link).await?.parts;
            let [now, part] = &parts[..] else { return Err(UNREADABLE) };
            // Another log has taken its place meanwhile.
            if Head::read(maybe(now)?.ok_or(StoreError::NotWhole)?)?.epoch != place.epoch {
                return Err(StoreError::Busy);
            }
            let part = entries(part)?;
            let Some(last) = part.last() else { break };
            after = last.entry.position;
            found.extend(part.into_iter().map(|placed| (placed.entry.position, placed)));
            if after >= place.mark.position {
                break;
            }
        }
    }
    found.split_off(&(place.mark.position + 1));
    Ok(Whole { place, entries: found.into_values().collect(), seals })
}

/// The digests at the boundaries of pages.
fn seals_of(hash: &Value) -> Result<Vec<(u64, Digest)>, StoreError> {
    let pairs = pairs(hash)?;
    pairs
        .into_iter()
        .map(|(page, digest)| Ok((be(&page)?, Digest(digest.try_into().map_err(|_| UNREADABLE)?))))
        .collect()
}

/// A field of a hash, and its value.
pub(in crate::store::redis) type Pair = (Vec<u8>, Vec<u8>);

/// The fields of a hash, in whichever form the protocol gives them.
pub(in crate::store::redis) fn pairs(hash: &Value) -> Result<Vec<Pair>, StoreError> {
    match hash {
        Value::Array(items) => {
            items.chunks_exact(2).map(|pair| Ok((bytes(&pair[0])?.to_vec(), bytes(&pair[1])?.to_vec()))).collect()
        }
        Value::Map(items) => items.iter().map(|(k, v)| Ok((bytes(k)?.to_vec(), bytes(v)?.to_vec()))).collect(),
        _ => Err(UNREADABLE),
    }
}

/// A number as a field's name, or the value of one.
pub(super) fn be(bytes: &[u8]) -> Result<u64, StoreError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| UNREADABLE)
}

/// The seal that an entry makes, if it is the last of its page.
pub(super) fn sealed(place: &Place) -> Option<u64> {
    place.mark.position.is_multiple_of(PAGE).then_some(place.mark.position / PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kid, TokenId};

    #[test]
    fn an_entry_reads_back() {
        let at = Timestamp::from_seconds(1_795_374_805);
        let token = Entry {
            position: 7,
            target: Target::Token(TokenId::new(at, &[7; 10])),
            ends: Ends::Tokens,
            before: at.plus(std::time::Duration::from_millis(1)),
            at,
            feed_until: at.plus(std::time::Duration::from_secs(365)),
            kept_until: at.plus(std::time::Duration::from_secs(365)),
            reason: None,
        };
        let key = Entry {
            target: Target::Key("k".parse::<Kid>().unwrap()),
            before: at.minus(std::time::Duration::from_secs(99)),
            feed_until: Timestamp::MAX,
            kept_until: Timestamp::MAX,
            ..token.clone()
        };
        let many = Entry { target: Target::All, reason: Some(MANY_SINGLES.into()), ..token.clone() };
        for entry in [token, key, many] {
            let placed = Placed { entry, before: Digest([3; 32]) };
            let bytes = written(&placed);
            assert!(bytes.len() < 80, "{}", bytes.len());
            assert_eq!(read(7, &bytes).unwrap(), placed);
        }
    }
}

//! The log of the feed as the hub holds it: two streams, one for what leaves soon, and one for what is kept for long, so
//! that the first can be trimmed to its first entry that lives. An entry that is kept for long is in both.
//!
//! What lies before an entry is known by its digest. Beside most entries it is not written, because whoever reads them in
//! their order computes it from the one before. It is written where somebody may begin: beside one of so many, and beside
//! what follows a place that may be empty. There, and at the head, a reader finds out whether it is the log that he knows.

use redis::Value;
use serde::{Deserialize, Serialize};

use super::Head;
use crate::{
    model::{
        Timestamp,
        denial::{Ends, Entry, Target},
        feed::{Digest, Mark, PAGE, Place},
    },
    store::{
        StoreError,
        embedded::{Followed, MANY_SINGLES, Placed, Whole, body_of, chain, encode},
        redis::{
            Core,
            commit::{Look, Seen, UNREADABLE, bytes, maybe},
        },
    },
};

/// Entries that one look reads.
const READS: usize = 1000;
/// Of so many positions the first says what lies before it. Less than one look reads, so that each ends behind one.
const SAYS_EVERY: u64 = 100;

const DAMAGED: StoreError = StoreError::Damaged("log of the hub");

/// An entry as it lies in the log, before the digest of what is before it, where that is written. Instants as distances,
/// because there are many.
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

/// `before`: what lies before it, if that is to be said.
pub(super) fn written(entry: &Entry, before: Option<Digest>) -> Vec<u8> {
    let row = Row {
        target: entry.target.clone(),
        ends: entry.ends,
        at: entry.at,
        before: distance(entry.at, entry.before),
        feed: distance(entry.at, entry.feed_until),
        kept: entry.kept_until.millis().saturating_sub(entry.feed_until.millis()),
        many: stands_for_many(entry),
    };
    let mut bytes = encode(&row);
    bytes.extend(before.into_iter().flat_map(|digest| digest.0));
    bytes
}

/// Whether the row at this position says what lies before it, wherever it comes.
pub(super) const fn says(position: u64) -> bool {
    position % SAYS_EVERY == 1
}

/// To where a log is trimmed that must keep what is from `first` on: to all of it, or to a row that says what lies before it.
pub(super) const fn trimmed_to(first: u64, head: u64) -> u64 {
    if first > head { first } else { first - (first - 1) % SAYS_EVERY }
}

/// An entry as it lies in a stream of ours, and what it says of what lies before it.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::store::redis) struct Laid {
    pub(super) entry: Entry,
    before: Option<Digest>,
}

fn read(position: u64, bytes: &[u8]) -> Result<Laid, StoreError> {
    let (row, rest): (Row, _) = postcard::take_from_bytes(bytes).map_err(|_| DAMAGED)?;
    let before = if rest.is_empty() { None } else { Some(Digest(rest.try_into().map_err(|_| DAMAGED)?)) };
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
    Ok(Laid { entry, before })
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
pub(super) fn entries(stream: &Value) -> Result<Vec<Laid>, StoreError> {
    let Value::Array(items) = stream else { return Err(UNREADABLE) };
    items.iter().map(entry).collect()
}

fn entry(item: &Value) -> Result<Laid, StoreError> {
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
    pub(in crate::store::redis) entries: Vec<Laid>,
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

/// What was read on from a mark, as far as the log itself bears it out, by its head or by what a row says: at least one, and
/// each with what lies before it. The rest is read again.
///
/// # Errors
/// What became of it, if it does not follow: [`Followed::Gap`] or [`Followed::Contradicted`].
pub(in crate::store::redis) fn follow(from: Mark, rows: Vec<Laid>, head: Mark) -> Result<Vec<Placed>, Followed> {
    let (mut at, mut borne_out, mut placed) = (from, 0, Vec::with_capacity(rows.len()));
    for Laid { entry, before } in rows {
        if entry.position != at.position + 1 {
            return Err(Followed::Gap);
        }
        match before {
            Some(before) if before != at.digest => return Err(Followed::Contradicted),
            Some(_) => borne_out = placed.len(),
            None => {}
        }
        let before = at.digest;
        at = behind(&entry, before);
        placed.push(Placed { entry, before });
    }
    if at.position >= head.position {
        if at != head {
            return Err(Followed::Contradicted);
        }
        borne_out = placed.len();
    }
    placed.truncate(borne_out);
    if placed.is_empty() { Err(Followed::Gap) } else { Ok(placed) }
}

/// Where an entry ends that has this before it.
fn behind(entry: &Entry, before: Digest) -> Mark {
    Mark { position: entry.position, digest: chain(before, &body_of(entry)) }
}

/// Whether something else lies before a place than what this mark says, as far as that can be told from the whole log.
pub(in crate::store::redis) fn contradicts(Whole { entries, .. }: &Whole, mark: Mark) -> bool {
    entries.iter().any(|Placed { entry, before }| {
        let next = entry.position == mark.position + 1 && *before != mark.digest;
        next || (entry.position == mark.position && behind(entry, *before) != mark)
    })
}

/// All that lives of the log, and nothing beyond the head of when this began.
pub(in crate::store::redis) async fn read_whole(core: &Core) -> Result<Whole, StoreError> {
    let seals = core.layout.hub("seals");
    let LogPart { head, rest, .. } = read_on(core, u64::MAX >> 1, |look| look.hall(seals)).await?;
    let seals = rest.first().map_or(Ok(Vec::new()), seals_of)?;
    let place = head.place();
    let mut found = std::collections::BTreeMap::new();
    for stream in ["kept", "log"] {
        let mut last = None;
        for row in read_stream(core, stream, place).await? {
            let placed = behind_the_last(last, row)?;
            last = Some(behind(&placed.entry, placed.before));
            found.insert(placed.entry.position, placed);
        }
        // Of what is kept for long the end may be missing, and all that has left.
        if last.is_some_and(|mark| mark.position == place.mark.position && mark != place.mark) {
            return Err(StoreError::Busy);
        }
    }
    Ok(Whole { place, entries: found.into_values().collect(), seals })
}

/// A stream up to a place.
async fn read_stream(core: &Core, name: &str, place: Place) -> Result<Vec<Laid>, StoreError> {
    let (mut after, mut rows) = (0, Vec::new());
    while after < place.mark.position {
        let look = Look::default().get(core.layout.hub("head")).since(core.layout.hub(name), after, READS);
        let parts = look.ask(&core.link).await?.parts;
        let [now, part] = &parts[..] else { return Err(UNREADABLE) };
        // Another log has taken its place meanwhile.
        if Head::read(maybe(now)?.ok_or(StoreError::NotWhole)?)?.epoch != place.epoch {
            return Err(StoreError::Busy);
        }
        let part = entries(part)?;
        let Some(last) = part.last() else { break };
        after = last.entry.position;
        rows.extend(part.into_iter().filter(|row| row.entry.position <= place.mark.position));
    }
    Ok(rows)
}

/// A row with what lies before it: by what it says, or by the row that ended where it begins.
fn behind_the_last(last: Option<Mark>, Laid { entry, before }: Laid) -> Result<Placed, StoreError> {
    let known = last.filter(|mark| mark.position + 1 == entry.position).map(|mark| mark.digest);
    match (before, known) {
        // Another log has taken its place while it was read.
        (Some(said), Some(known)) if said != known => Err(StoreError::Busy),
        (Some(before), _) | (None, Some(before)) => Ok(Placed { entry, before }),
        (None, None) => Err(DAMAGED),
    }
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
    use crate::{
        model::{Kid, TokenId, feed::Epoch},
        store::embedded::NOTHING,
    };

    const AT: Timestamp = Timestamp::from_seconds(1_795_374_805);

    fn token(position: u64, seed: u8) -> Entry {
        let until = AT.plus(std::time::Duration::from_secs(365));
        Entry {
            position,
            target: Target::Token(TokenId::new(AT, &[seed; 10])),
            ends: Ends::Tokens,
            before: AT.plus(std::time::Duration::from_millis(1)),
            at: AT,
            feed_until: until,
            kept_until: until,
            reason: None,
        }
    }

    /// A log of so many, as it lies in the hub, from its first position on, and the mark behind each; from position `odd`
    /// on other entries than those of a log with another `odd`.
    fn log(many: u64, odd: u64) -> (Vec<Laid>, Vec<Mark>) {
        let mut head = Head::new(Epoch([1; 16]));
        let mut marks = vec![head.place().mark];
        let rows = (1..=many).map(|position| {
            let entry = token(position, u8::from(position >= odd));
            let (before, says) = head.append(&entry);
            marks.push(head.place().mark);
            read(position, &written(&entry, says.then_some(before))).unwrap()
        });
        (rows.collect(), marks)
    }

    #[test]
    fn an_entry_reads_back() {
        let key = Entry {
            target: Target::Key("k".parse::<Kid>().unwrap()),
            before: AT.minus(std::time::Duration::from_secs(99)),
            feed_until: Timestamp::MAX,
            kept_until: Timestamp::MAX,
            ..token(7, 7)
        };
        let many = Entry { target: Target::All, reason: Some(MANY_SINGLES.into()), ..token(7, 7) };
        for entry in [token(7, 7), key, many] {
            for before in [None, Some(Digest([3; 32]))] {
                let bytes = written(&entry, before);
                assert!(bytes.len() <= 33 + before.map_or(0, |_| 32), "{}", bytes.len());
                assert_eq!(read(7, &bytes).unwrap(), Laid { entry: entry.clone(), before });
                assert!(read(7, &bytes[..bytes.len() - 1]).is_err());
                assert!(read(7, &[&bytes[..], &[0]].concat()).is_err());
            }
        }
    }

    #[test]
    fn a_reader_finds_each_digest_that_is_not_written() {
        let (rows, marks) = log(250, 251);
        assert_eq!(rows.iter().filter(|row| row.before.is_some()).count(), 3);
        for (from, read, expected) in [(0, 250, 250), (120, 130, 130), (249, 1, 1), (0, 220, 200), (150, 60, 50)] {
            let part = rows[from..from + read].to_vec();
            let placed = follow(marks[from], part, marks[250]).unwrap();
            assert_eq!(placed.len(), expected, "{read} from {from}: no more than is borne out");
            assert!(placed.iter().zip(&marks[from..]).all(|(placed, mark)| placed.before == mark.digest));
        }
        // Nothing that was read is borne out, or there is nothing: all of it is read anew.
        for read in [30, 0] {
            assert_eq!(follow(marks[110], rows[110..110 + read].to_vec(), marks[250]), Err(Followed::Gap));
        }
        assert_eq!(follow(marks[110], rows[111..].to_vec(), marks[250]), Err(Followed::Gap));
    }

    #[test]
    fn positions_that_were_lost_and_given_again_are_noticed_whoever_reads_on() {
        let ((_, known), (rows, marks)) = (log(1200, 1201), log(1200, 95));
        // What this reader knows ends before the difference, or behind it; the log then has few more, or many.
        for (from, read, head) in [(95, 1, 96), (99, 1000, 1150), (130, 60, 190), (100, 5, 105), (100, 1000, 1200)] {
            let part = rows[from..from + read].to_vec();
            assert_eq!(follow(known[from], part.clone(), marks[head]), Err(Followed::Contradicted), "{from}");
            assert!(follow(marks[from], part, marks[head]).is_ok());
        }
        assert_eq!(known[94], marks[94]);
        assert!(follow(known[94], rows[94..].to_vec(), marks[1200]).is_ok());
        // One on the way that says nothing itself was exchanged.
        let mut exchanged = rows[120..].to_vec();
        exchanged[29].entry = token(150, 9);
        assert_eq!(follow(marks[120], exchanged, marks[1200]), Err(Followed::Contradicted));
    }

    #[test]
    fn a_log_that_was_trimmed_begins_with_what_says_what_was_before() {
        assert_eq!(
            [1, 100, 101, 102, 200, 201, 250].map(|first| trimmed_to(first, 250)),
            [1, 1, 101, 101, 101, 201, 201]
        );
        assert_eq!(trimmed_to(251, 250), 251, "all of it");
        let (rows, marks) = log(250, 251);
        let mut last = None;
        for row in &rows[100..] {
            let placed = behind_the_last(last, row.clone()).unwrap();
            last = Some(behind(&placed.entry, placed.before));
        }
        assert_eq!(last, Some(marks[250]));
        for last in [None, Some(marks[119])] {
            let nobody_knows = behind_the_last(last, rows[120].clone());
            assert!(matches!(nobody_knows, Err(StoreError::Damaged(_))), "{nobody_knows:?}");
        }
        let other = Mark { digest: NOTHING, ..marks[200] };
        assert!(matches!(behind_the_last(Some(other), rows[200].clone()), Err(StoreError::Busy)));
    }

    #[test]
    fn what_follows_a_place_that_may_become_empty_says_what_was_before() {
        let mut head = Head::new(Epoch([1; 16]));
        let many = |position| Entry { reason: Some(MANY_SINGLES.into()), ..token(position, 1) };
        let entries = [token(1, 1), token(2, 1), many(3), many(4), token(5, 1), token(6, 1)];
        let says: Vec<_> = entries.iter().map(|entry| head.append(entry).1).collect();
        assert_eq!(says, [true, false, false, true, true, false]);
        head.trimmed_to(7);
        assert_eq!([token(7, 1), token(8, 1)].map(|entry| head.append(&entry).1), [true, false]);
        head.trimmed_to(8);
        assert!(!head.append(&token(9, 1)).1, "something is left");
    }

    #[test]
    fn a_whole_log_contradicts_what_was_never_in_it() {
        let ((_, known), (rows, marks)) = (log(300, 301), log(300, 95));
        let place = Place { epoch: Epoch([1; 16]), mark: marks[300] };
        let mut last = None;
        let placed = |row: &Laid| {
            let placed = behind_the_last(last, row.clone()).unwrap();
            last = Some(behind(&placed.entry, placed.before));
            placed
        };
        let entries: Vec<_> = rows[100..].iter().map(placed).filter(|p| p.entry.position != 150).collect();
        let whole = Whole { place, entries, seals: Vec::new() };
        for at in [100, 149, 150, 151, 299, 300] {
            assert!(contradicts(&whole, known[at]) && !contradicts(&whole, marks[at]), "{at}");
        }
        assert!(!contradicts(&whole, known[99]), "what has left says nothing");
    }
}

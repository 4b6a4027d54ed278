//! The engine as a mirror: a copy of a log that is kept elsewhere, with its positions and digests as they are there, so
//! that whoever follows it here or there follows one log.
//!
//! What a mirror knew of a log that has come back as another is never dropped: it denies as before, and is handed out to
//! be denied in the new log too.

use std::{path::Path, sync::Arc};

use redb::ReadableTable;

use super::{
    EmbeddedStore, Held, MemoryBacking, OpenError, Options, Role,
    denials::{Hold, NewEntry, index_key, look_up, standing_in},
    expiry::{FORGOTTEN_BY, WHEN_IDLE, due_at},
    feed::{DIGEST, NOTHING, body_of, chain, epoch_of, head_digest, head_position, page_of},
    singles::REASON,
    tables::{Character, DENIED, DUE, LOG, META, SEALS, Step, decode, encode, failed},
    verbs::table,
};
use crate::{
    clock::{Clock, Random},
    model::{
        Timestamp,
        denial::{Ends, Entry, Target},
        family::Served,
        feed::{Digest, Epoch, Mark, Place},
    },
    store::StoreError,
};

/// Where [`META`] says that there is something to mirror.
const MIRRORED: &str = "mirrored";
/// Where it holds what has no place in the log as it is now.
const UNPLACED: std::ops::Range<&str> = "unplaced ".."unplaced!";

/// Where it holds what was closed of late: the time served, then a name.
const CLOSED: std::ops::Range<&str> = "closed ".."closed!";

/// An entry, and the digest of what lies before it.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::store) struct Placed {
    pub(in crate::store) entry: Entry,
    pub(in crate::store) before: Digest,
}

/// All that lives of a log.
pub(in crate::store) struct Whole {
    pub(in crate::store) place: Place,
    /// In their order.
    pub(in crate::store) entries: Vec<Placed>,
    /// The digests at the boundaries of pages, those that are still of use among them.
    pub(in crate::store) seals: Vec<(u64, Digest)>,
}

/// What became of entries that were to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Followed {
    /// They are there, durably.
    On,
    /// Some are missing before them, or it is another life of the log: all that lives must be read anew.
    Gap,
    /// They contradict what is here.
    Contradicted,
}

impl EmbeddedStore {
    /// A mirror in a file, or in memory.
    pub(in crate::store) fn mirror(
        path: Option<&Path>,
        options: Options,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, OpenError> {
        match path {
            Some(path) => Held::at(path)?.open_as(Role::Mirror, options, clock, random),
            None => Self::on(Arc::new(MemoryBacking::default()), None, Role::Mirror, options, clock, random),
        }
    }

    /// How far it has come. None: it has never mirrored anything.
    pub(in crate::store) fn place(&self) -> Result<Option<Place>, StoreError> {
        let Some(meta) = table(&self.read()?, META)? else { return Ok(None) };
        if meta.get(MIRRORED).map_err(failed)?.is_none() {
            return Ok(None);
        }
        let mark = Mark { position: head_position(&meta)?, digest: head_digest(&meta)? };
        Ok(Some(Place { epoch: Epoch(epoch_of(&meta)?.to_be_bytes()), mark }))
    }

    /// Goes on by these. What is here already is passed over.
    pub(in crate::store) async fn follow_on(&self, epoch: Epoch, entries: Vec<Placed>) -> Result<Followed, StoreError> {
        self.urgent_step(move |step| step.follow_on(epoch, entries)).await
    }

    /// Becomes this log.
    pub(in crate::store) async fn lay_out(&self, whole: Whole) -> Result<(), StoreError> {
        self.urgent_step(move |step| step.lay_out(whole)).await
    }

    /// The entry in force that denies as strongly. Where something about the target has no place in the log, what is in
    /// force here is not what the log says: then only an entry that does so by itself.
    pub(in crate::store) fn standing(&self, new: &NewEntry) -> Result<Option<Entry>, StoreError> {
        let txn = self.read()?;
        let (Some(denied), Some(log)) = (table(&txn, DENIED)?, table(&txn, LOG)?) else { return Ok(None) };
        let standing = standing_in(&denied, &log, new)?;
        let Some(meta) = table(&txn, META)? else { return Ok(standing) };
        let all_placed = meta.get(&*unplaced_key(&new.target, new.ends)).map_err(failed)?.is_none();
        Ok(standing.filter(|entry| all_placed || Hold::of(entry).reaches(new)))
    }

    /// The newest entry about a target.
    pub(in crate::store) fn newest(&self, target: &Target, ends: Ends) -> Result<Option<Entry>, StoreError> {
        let txn = self.read()?;
        let (Some(denied), Some(log)) = (table(&txn, DENIED)?, table(&txn, LOG)?) else { return Ok(None) };
        let Some(Hold { position, .. }) = look_up(&denied, target, ends)? else { return Ok(None) };
        log.get(position).map_err(failed)?.map(|row| decode(row.value(), "entry")).transpose()
    }

    /// What it knows and has no place for: it must be denied anew. So many at most.
    pub(in crate::store) fn unplaced(&self, most: usize) -> Result<Vec<Entry>, StoreError> {
        let Some(meta) = table(&self.read()?, META)? else { return Ok(Vec::new()) };
        let rows = meta.range(UNPLACED).map_err(failed)?;
        rows.take(most).map(|row| decode(row.map_err(failed)?.1.value(), "entry")).collect()
    }

    /// Keeps in mind what was closed at this time served, each by a name; lets go of what was closed before `since`. Durable
    /// once it returns.
    pub(in crate::store) async fn keep_closed(
        &self,
        at: Served,
        rows: Vec<(u128, Vec<u8>)>,
        since: Served,
    ) -> Result<(), StoreError> {
        self.urgent_step(move |step| step.keep_closed(at, &rows, since)).await
    }

    /// All of that, the oldest first.
    pub(in crate::store) fn closed(&self) -> Result<Vec<(Served, u128, Vec<u8>)>, StoreError> {
        let Some(meta) = table(&self.read()?, META)? else { return Ok(Vec::new()) };
        let rows = meta.range(CLOSED).map_err(failed)?;
        let read = |row: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), _>| {
            let (key, row) = row.map_err(failed)?;
            let (at, name) = closed_of(key.value()).ok_or(StoreError::Damaged("closed"))?;
            Ok((at, name, row.value().to_vec()))
        };
        rows.map(read).collect()
    }

    /// Whether it has the digest at the beginning of a page.
    pub(in crate::store) fn has_seal(&self, page: u64) -> Result<bool, StoreError> {
        let Some(seals) = table(&self.read()?, SEALS)? else { return Ok(false) };
        Ok(seals.get(page).map_err(failed)?.is_some())
    }

    /// Lets go of what has expired, if anything has.
    pub(in crate::store) async fn tidy(&self) -> Result<(), StoreError> {
        let now = self.shared.sweep_time();
        let is_due = match table(&self.read()?, DUE)? {
            Some(due) => due.first().map_err(failed)?.is_some_and(|(key, _)| due_at(&key.value()) <= now),
            None => false,
        };
        if is_due { self.urgent_step(|step| step.expire(WHEN_IDLE)).await } else { Ok(()) }
    }

    /// What is in force about a target, all entries about it taken together.
    pub(in crate::store) fn hold(&self, target: &Target, ends: Ends) -> Result<Option<Hold>, StoreError> {
        let Some(denied) = table(&self.read()?, DENIED)? else { return Ok(None) };
        look_up(&denied, target, ends)
    }

    /// By when something last left it as expired.
    pub(in crate::store) fn forgotten_by(&self) -> Result<Timestamp, StoreError> {
        let Some(meta) = table(&self.read()?, META)? else { return Ok(Timestamp::default()) };
        let row = meta.get(FORGOTTEN_BY).map_err(failed)?;
        row.map_or(Ok(Timestamp::default()), |row| decode(row.value(), "time"))
    }

    /// The clock was set back, and that has been made up for.
    pub(in crate::store) async fn made_up_for(&self, now: Timestamp) -> Result<(), StoreError> {
        self.urgent_step(move |step| {
            step.meta.insert(FORGOTTEN_BY, &encode(&now)[..]).map_err(failed)?;
            step.dirty = true;
            Ok(())
        })
        .await
    }
}

impl Step<'_> {
    fn follow_on(&mut self, epoch: Epoch, entries: Vec<Placed>) -> Result<Followed, StoreError> {
        if epoch != Epoch(epoch_of(&self.meta)?.to_be_bytes()) {
            return Ok(Followed::Gap);
        }
        let mut at = Mark { position: head_position(&self.meta)?, digest: head_digest(&self.meta)? };
        let new: Vec<_> = entries.into_iter().filter(|placed| placed.entry.position > at.position).collect();
        // Looked at before anything is written.
        for Placed { entry, before } in &new {
            if entry.position != at.position + 1 {
                return Ok(Followed::Gap);
            }
            if *before != at.digest {
                return Ok(Followed::Contradicted);
            }
            at = Mark { position: entry.position, digest: chain(*before, &body_of(entry)) };
        }
        for placed in new {
            self.put(&placed)?;
        }
        Ok(Followed::On)
    }

    /// Takes an entry over as it lies there.
    fn put(&mut self, Placed { entry, before }: &Placed) -> Result<(), StoreError> {
        let stands_for_many = entry.reason.as_deref() == Some(REASON);
        let old = look_up(&self.denied, &entry.target, entry.ends)?.filter(|_| stands_for_many);
        self.place(entry, *before)?;
        if let Some(Hold { position, .. }) = old {
            self.supersede(position, entry)?;
        }
        let key = unplaced_key(&entry.target, entry.ends);
        let missing: Option<Entry> = {
            let row = self.meta.get(&*key).map_err(failed)?;
            row.map(|row| decode(row.value(), "entry")).transpose()?
        };
        if missing.is_some_and(|missing| Hold::of(entry).reaches(&new_of(missing))) {
            self.meta.remove(&*key).map_err(failed)?;
        }
        Ok(())
    }

    fn keep_closed(&mut self, at: Served, rows: &[(u128, Vec<u8>)], since: Served) -> Result<(), StoreError> {
        let before = closed_key(since, 0);
        self.meta.retain_in(CLOSED.start..&before, |_, _| false).map_err(failed)?;
        for (name, row) in rows {
            self.meta.insert(&*closed_key(at, *name), &row[..]).map_err(failed)?;
        }
        self.dirty = true;
        Ok(())
    }

    fn lay_out(&mut self, Whole { place, entries, seals }: Whole) -> Result<(), StoreError> {
        let known = self.known()?;
        self.log.retain(|_, _| false).map_err(failed)?;
        self.feed.retain(|_, _| false).map_err(failed)?;
        self.seals.retain(|_, _| false).map_err(failed)?;
        self.denied.retain(|_, _| false).map_err(failed)?;
        self.due.retain(|_, _| false).map_err(failed)?;
        self.meta.retain_in(UNPLACED, |_, _| false).map_err(failed)?;
        self.settle_in(place)?;
        for placed in &entries {
            self.put(placed)?;
        }
        let last = place.mark.position / crate::model::feed::PAGE;
        let first = entries.first().map_or(last, |placed| page_of(placed.entry.position));
        for (page, digest) in [(0, NOTHING)].into_iter().filter(|_| first == 0).chain(seals) {
            self.seals.insert(page, digest.0).map_err(failed)?;
        }
        if self.seals.get(last).map_err(failed)?.is_none() {
            return Err(StoreError::Damaged("seal"));
        }
        // The last of it may have expired.
        self.settle_in(place)?;
        for entry in known {
            self.keep_in_mind(entry)?;
        }
        Ok(())
    }

    /// What denies something, whether or not it has a place.
    fn known(&self) -> Result<Vec<Entry>, StoreError> {
        let placed = self.log.iter().map_err(failed)?.map(|row| row.map(|(_, row)| row));
        let unplaced = self.meta.range(UNPLACED).map_err(failed)?.map(|row| row.map(|(_, row)| row));
        placed.chain(unplaced).map(|row| decode(row.map_err(failed)?.value(), "entry")).collect()
    }

    fn settle_in(&mut self, Place { epoch, mark }: Place) -> Result<(), StoreError> {
        let row = self.meta.get("character").map_err(failed)?.ok_or(StoreError::Damaged("character"))?;
        let character: Character = decode(row.value(), "character")?;
        drop(row);
        let character = Character { epoch: u128::from_be_bytes(epoch.0), ..character };
        self.meta.insert("character", &encode(&character)[..]).map_err(failed)?;
        self.meta.insert("position", &encode(&mark.position)[..]).map_err(failed)?;
        self.meta.insert(DIGEST, &mark.digest.0[..]).map_err(failed)?;
        self.meta.insert(MIRRORED, &[][..]).map_err(failed)?;
        (self.head, self.dirty) = (Some(mark.position), true);
        Ok(())
    }

    /// Of what the log as it is now does not deny as strongly: it denies here all the same.
    fn keep_in_mind(&mut self, entry: Entry) -> Result<(), StoreError> {
        let hold = look_up(&self.denied, &entry.target, entry.ends)?;
        if entry.kept_until <= self.expired_by || hold.is_some_and(|hold| hold.reaches(&new_of(entry.clone()))) {
            return Ok(());
        }
        // One row stands for all about this target.
        let Hold { before, feed_until, kept_until, .. } = Hold::of(&entry).merged(hold);
        let entry = Entry { position: 0, before, feed_until, kept_until, ..entry };
        self.meta.insert(&*unplaced_key(&entry.target, entry.ends), &encode(&entry)[..]).map_err(failed)?;
        self.index(&entry)
    }
}

fn new_of(entry: Entry) -> NewEntry {
    let Entry { target, ends, before, at, feed_until, kept_until, reason, .. } = entry;
    NewEntry { target, ends, before, at, feed_until, kept_until, reason }
}

fn closed_key(at: Served, name: u128) -> String {
    format!("{}{:016x} {name:032x}", CLOSED.start, at.0)
}

fn closed_of(key: &str) -> Option<(Served, u128)> {
    let (at, name) = key.strip_prefix(CLOSED.start)?.split_once(' ')?;
    Some((Served(u64::from_str_radix(at, 16).ok()?), u128::from_str_radix(name, 16).ok()?))
}

fn unplaced_key(target: &Target, ends: Ends) -> String {
    use std::fmt::Write as _;
    let mut key = UNPLACED.start.to_owned();
    for byte in index_key(target, ends) {
        let _ = write!(key, "{byte:02x}");
    }
    key
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{ManualClock, SystemRandom},
        model::{SubjectRef, denial::Retention},
    };

    const START: Timestamp = Timestamp::from_seconds(1_795_374_805);

    fn cut_off(position: u64, after: u64) -> Entry {
        let until = START.plus(Duration::from_secs(600));
        Entry {
            position,
            target: Target::Subject(SubjectRef([1; 16])),
            ends: Ends::Sessions,
            before: START.plus(Duration::from_millis(after)),
            at: START,
            feed_until: until,
            kept_until: until,
            reason: None,
        }
    }

    fn log(epoch: u8, entries: Vec<Entry>) -> Whole {
        let mut mark = Mark { position: 0, digest: NOTHING };
        let place = |entry: Entry| {
            let before = mark.digest;
            mark = Mark { position: entry.position, digest: chain(before, &body_of(&entry)) };
            Placed { entry, before }
        };
        let entries = entries.into_iter().map(place).collect();
        Whole { place: Place { epoch: Epoch([epoch; 16]), mark }, entries, seals: Vec::new() }
    }

    #[tokio::test]
    async fn what_has_no_place_is_not_taken_for_what_weaker_entries_say() {
        let retention = Retention { access: Duration::from_secs(300), session: Duration::from_secs(7200) };
        let clock = Arc::new(ManualClock::new(START));
        let mirror = EmbeddedStore::mirror(None, Options::new(retention), clock, &SystemRandom).unwrap();
        let strong = cut_off(1, 5);
        mirror.lay_out(log(1, vec![strong.clone()])).await.unwrap();
        // The log came back without it, and another node, which has not heard of it, denies what it knows.
        mirror.lay_out(log(2, Vec::new())).await.unwrap();
        let Whole { place, entries, .. } = log(2, vec![cut_off(1, 1)]);
        assert_eq!(mirror.follow_on(place.epoch, entries).await.unwrap(), Followed::On);
        assert_eq!(mirror.unplaced(10).unwrap().len(), 1);
        assert_eq!(mirror.standing(&new_of(strong.clone())).unwrap(), None, "no entry of the log denies as strongly");
        // It gets a place.
        let Whole { place, mut entries, .. } = log(2, vec![cut_off(1, 1), Entry { position: 2, ..strong.clone() }]);
        mirror.follow_on(place.epoch, entries.split_off(1)).await.unwrap();
        assert_eq!(mirror.unplaced(10).unwrap(), Vec::new());
        assert_eq!(mirror.standing(&new_of(strong)).unwrap().map(|entry| entry.position), Some(2));
    }
}

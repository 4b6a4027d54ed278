//! One commit of the hub, as it is being written: positions, digests and the audit chain are given out here, by the same
//! functions as in every store.

use std::{collections::HashMap, time::Duration};

use super::{Answer, Head, NewEntry, NewRecord, Order, Owed, clerk::Sweep, log};
use crate::{
    model::{
        Timestamp,
        audit::{Draft, Event, Outcome, Record},
        chain::tie,
        denial::{Entry, Target},
        feed::Digest,
    },
    store::{
        BookChange, Denial, StoreError,
        embedded::{Happened, Hold, Placed, Row, Salts, encode, index_key, is_superseded, told},
        redis::{Core, clients::BOOKED, commit::Commit},
    },
};

/// Audit records that lie in one list.
pub(super) const LIST: u64 = 256;
/// Records that one commit drops at most, besides what it writes.
const DROPS: u64 = 256;

/// The list of a record, and its place in it.
pub(super) const fn place_of(sequence: u64) -> (u64, u64) {
    let before = sequence.saturating_sub(1);
    (before / LIST, before % LIST)
}

pub(super) fn list(core: &Core, number: u64) -> Vec<u8> {
    core.layout.hub(&format!("audit:{number}"))
}

pub(super) struct Pen<'a> {
    core: &'a Core,
    salts: &'a mut Salts,
    now: Timestamp,
    /// The same by the hub's server, as it was looked at; no cut-off lies before it.
    theirs: Timestamp,
    pub(super) head: Head,
    commit: Commit,
    dirty: bool,
    /// The book of clients as it is.
    book: Option<Vec<u8>>,
    /// Before this commit.
    signed: crate::model::chain::Head,
    /// What is denied by this commit.
    denied: HashMap<Vec<u8>, Entry>,
    pub(super) placed: Vec<Placed>,
    records: HashMap<u64, Digest>,
    /// Positions that leave before their time.
    pub(super) superseded: Vec<u64>,
}

impl<'a> Pen<'a> {
    /// `commit`: with its guards.
    pub(super) fn new(core: &'a Core, salts: &'a mut Salts, head: Head, book: Option<Vec<u8>>, commit: Commit) -> Self {
        let (now, signed, denied) = (core.clock.now(), head.chain, HashMap::new());
        let (placed, records, superseded, dirty) = (Vec::new(), HashMap::new(), Vec::new(), false);
        let theirs = Timestamp::default();
        Self { core, salts, now, theirs, head, commit, dirty, book, signed, denied, placed, records, superseded }
    }

    /// The hub's server was looked at, by its own time then. Where nobody looks whether clocks agree, they are one.
    pub(super) fn at(self, theirs: Timestamp) -> Self {
        let differs = !self.core.options.skew.is_zero();
        if differs { Self { theirs, ..self } } else { self }
    }

    /// Whether there is anything to commit.
    pub(super) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn say(&mut self, change: impl FnOnce(Commit) -> Commit) {
        self.dirty = true;
        self.commit = change(std::mem::take(&mut self.commit));
    }

    fn key(&self, name: &str) -> Vec<u8> {
        self.core.layout.hub(name)
    }

    /// What a change of a bucket owes. Gives the entry that denies what is to be denied.
    pub(super) fn take_over(&mut self, owed: Owed) -> Result<Option<Entry>, StoreError> {
        match owed {
            Owed::Deny(new) => self.append(new).map(|(entry, _)| Some(entry)),
            Owed::Note(record) => {
                self.note(*record);
                Ok(None)
            }
        }
    }

    /// What bucket and number have been taken over up to.
    pub(super) fn drained(&mut self, field: &[u8], value: &[u8]) {
        let key = self.key("drained");
        self.say(|commit| commit.hset(key, field, value));
    }

    /// Carries out an order that is about the hub alone.
    pub(super) fn carry_out(&mut self, order: &Order) -> Result<Answer, StoreError> {
        match order {
            Order::Deny(denial) => self.deny(denial.clone()),
            Order::Again(entries) => {
                for entry in entries {
                    let Entry { target, ends, before, at, feed_until, kept_until, reason, .. } = entry.clone();
                    self.append(NewEntry { target, ends, before, at, feed_until, kept_until, reason })?;
                }
                Ok(Answer::Done)
            }
            Order::Record(record) => {
                self.note((**record).clone());
                Ok(Answer::Done)
            }
            Order::Book(change) => self.book(change),
            Order::Cursor { name, to } => {
                let key = self.key("cursors");
                self.say(|commit| commit.hset(key, name.as_bytes(), &to.to_be_bytes()));
                Ok(Answer::Done)
            }
            Order::Strip { rows, blanked, told } => {
                self.strip(rows, blanked);
                self.note((**told).clone());
                Ok(Answer::Done)
            }
            Order::Settle { .. } | Order::Flush => Ok(Answer::Done),
        }
    }

    /// Appends an entry, and says whether it is new. What is denied as strongly already gives the entry that is there.
    fn append(&mut self, new: NewEntry) -> Result<(Entry, bool), StoreError> {
        let key = index_key(&new.target, new.ends);
        let here = self.denied.get(&key);
        if let Some(entry) = here.filter(|entry| Hold::of(entry).reaches(&new)) {
            return Ok((entry.clone(), false));
        }
        if let Some(entry) = self.core.mirror.standing(&new)? {
            return Ok((entry, false));
        }
        let older = match here {
            Some(entry) => Some(entry.clone()),
            None => self.core.mirror.newest(&new.target, new.ends)?,
        };
        let entry = new.at(self.head.position + 1);
        let (before, says) = self.head.append(&entry);
        self.write_down(&entry, before, says)?;
        if let Some(older) = older.filter(|older| log::stands_for_many(&entry) && is_superseded(older, &entry)) {
            self.superseded.push(older.position);
        }
        self.denied.insert(key, entry.clone());
        Ok((entry, true))
    }

    /// `says`: whether its row says what lies before it.
    fn write_down(&mut self, entry: &Entry, before: Digest, says: bool) -> Result<(), StoreError> {
        let row = log::written(entry, says.then_some(before));
        let (log, kept, reasons, denied) = (self.key("log"), self.key("kept"), self.key("reasons"), self.key("denied"));
        self.say(|commit| commit.xadd(log, entry.position, &row));
        if log::is_kept_for_long(entry) {
            let row = log::written(entry, Some(before));
            self.say(|commit| commit.xadd(kept, entry.position, &row));
        }
        let word = entry.reason.as_deref().filter(|_| !log::stands_for_many(entry));
        if let Some(word) = word {
            self.say(|commit| commit.hset(reasons, &entry.position.to_be_bytes(), word.as_bytes()));
        }
        if matches!(entry.target, Target::Client(_) | Target::All | Target::Key(_)) {
            let key = index_key(&entry.target, entry.ends);
            let here = self.denied.get(&key).map(Hold::of);
            let there = self.core.mirror.hold(&entry.target, entry.ends)?;
            let hold = here.into_iter().chain(there).fold(Hold::of(entry), |hold, old| hold.merged(Some(old)));
            self.say(|commit| commit.hset(denied, &key, &encode(&hold)));
        }
        if let Some(page) = log::sealed(&self.head.place()) {
            let (seals, digest) = (self.key("seals"), self.head.digest);
            self.say(|commit| commit.hset(seals, &page.to_be_bytes(), &digest.0));
        }
        // What a person wrote stays in the hub, from where it can be erased.
        let reason = entry.reason.clone().filter(|_| log::stands_for_many(entry));
        self.placed.push(Placed { entry: Entry { reason, ..entry.clone() }, before });
        Ok(())
    }

    fn deny(&mut self, denial: Denial) -> Result<Answer, StoreError> {
        let Some((entry, record)) = self.cut(denial)? else { return Ok(Answer::Refused) };
        if let Some(record) = record {
            self.note(record);
        }
        Ok(Answer::Entries(vec![entry]))
    }

    /// `None`: it would lie in the future. Denying again what is denied leaves no record.
    fn cut(&mut self, denial: Denial) -> Result<Option<(Entry, Option<NewRecord>)>, StoreError> {
        let stamped = self.head.stamped.max(self.core.node.stamped());
        let latest =
            self.now.max(self.theirs).max(stamped).plus(Duration::from_millis(1)).plus(self.core.options.margin);
        let Denial { target, ends, before, expires, reason, audit } = denial;
        let before = before.unwrap_or(latest);
        if before > latest {
            return Ok(None);
        }
        let (feed_until, kept_until) =
            self.core.until(&target, ends, before, expires, self.now.max(self.theirs).max(stamped));
        let cause = Some(told(&target, reason.as_deref()));
        let new = NewEntry { target, ends, before, at: self.now, feed_until, kept_until, reason };
        let (entry, is_new) = self.append(new)?;
        let happened =
            Happened { event: Event::Revoked, outcome: Outcome::Done, session: None, generation: None, cause };
        let record = is_new.then(|| NewRecord::of(self.now, audit, happened));
        Ok(Some((entry, record)))
    }

    fn book(&mut self, change: &BookChange) -> Result<Answer, StoreError> {
        let BookChange { seen, sealed, denial, event, cause, audit } = change;
        if self.book != *seen {
            return Ok(Answer::Refused);
        }
        self.book = Some(sealed.clone());
        let (book, meta) = (self.key("book"), self.key("meta"));
        self.say(|commit| commit.set(book, sealed).count(meta, BOOKED, 1));
        let happened =
            Happened { event: *event, outcome: Outcome::Done, session: None, generation: None, cause: cause.clone() };
        self.note(NewRecord::of(self.now, audit.clone(), happened));
        match denial.clone() {
            None => Ok(Answer::Done),
            Some(denial) => match self.deny(denial)? {
                // The book is in place all the same.
                Answer::Refused => Ok(Answer::Done),
                other => Ok(other),
            },
        }
    }

    /// Appends an audit record.
    pub(super) fn note(&mut self, record: NewRecord) {
        let mut record: Record = record.at(self.head.chain.sequence + 1);
        if let (None, Some(subject), Some(notary)) = (record.subject_ref, &record.subject, self.core.hub.notary()) {
            record.subject_ref = Some(notary.refer(subject));
        }
        let digest = tie(&mut record, self.head.chain.digest, self.salts.next());
        self.head.latest = self.head.latest.max(record.at);
        (self.head.chain.sequence, self.head.chain.digest) = (record.sequence, digest);
        self.records.insert(record.sequence, Digest(record.link.previous));
        let list = list(self.core, place_of(record.sequence).0);
        let row = Row { latest: self.head.latest, record };
        self.say(|commit| commit.push(list, &encode(&row)));
    }

    fn strip(&mut self, rows: &[(u64, Vec<u8>)], blanked: &[u64]) {
        let first = self.head.chain.first;
        for (sequence, row) in rows.iter().filter(|(sequence, _)| *sequence >= first) {
            let (list, (_, place)) = (list(self.core, place_of(*sequence).0), place_of(*sequence));
            self.say(|commit| commit.put(list, place, row));
        }
        let reasons = self.key("reasons");
        for position in blanked {
            self.say(|commit| commit.hdel(reasons.clone(), &position.to_be_bytes()));
        }
    }

    pub(super) fn sweep(&mut self, sweep: &Sweep) {
        let names = ["log", "kept", "reasons", "seals", "denied"];
        let [log, kept, reasons, seals, denied] = names.map(|name| self.key(name));
        let mut commit = std::mem::take(&mut self.commit);
        self.dirty |= *sweep != Sweep::default();
        if let Some(first) = sweep.first {
            commit = commit.xtrim(log.clone(), first);
            self.head.trimmed_to(first);
        }
        // The last of a page bears its seal: whoever has been away reads that.
        for position in sweep.superseded.iter().filter(|position| !position.is_multiple_of(crate::model::feed::PAGE)) {
            commit = commit.xdel(log.clone(), *position);
        }
        for position in &sweep.kept {
            commit = commit.xdel(kept.clone(), *position);
        }
        for position in &sweep.reasons {
            commit = commit.hdel(reasons.clone(), &position.to_be_bytes());
        }
        for page in &sweep.seals {
            commit = commit.hdel(seals.clone(), &page.to_be_bytes());
        }
        for field in &sweep.denied {
            commit = commit.hdel(denied.clone(), field);
        }
        self.commit = commit;
    }

    /// Up to where records are to be dropped because there are too many, and why.
    pub(super) fn surplus(&self) -> Option<(u64, String)> {
        let most = self.core.options.audit_cap.max(8);
        let surplus = self.head.chain.kept().saturating_sub(most);
        if surplus == 0 {
            return None;
        }
        // Several at a time: the record that tells of it takes a place, too.
        let count = (most / 8).clamp(4, DROPS).max(surplus + 1).min(DROPS + LIST);
        Some((
            (self.head.chain.first + count).min(self.head.chain.sequence),
            format!("more than the {most} that are kept"),
        ))
    }

    /// What lies before a record of this commit.
    pub(super) fn before(&self, sequence: u64) -> Option<Digest> {
        self.records.get(&sequence).copied()
    }

    /// The chain goes on from what was dropped: its digest stays as the anchor, and a record tells of it. The newest stays.
    pub(super) fn drop_to(&mut self, end: u64, anchor: Digest, why: &str) {
        let first = self.head.chain.first;
        let end = end.min(self.head.chain.sequence);
        if end <= first {
            return;
        }
        let (first_list, last_list) = (place_of(first).0, place_of(end).0);
        for number in first_list..last_list {
            let list = list(self.core, number);
            self.say(|commit| commit.del(list));
        }
        // The rest of the list goes with its last record; what was written in it goes now.
        for sequence in first.max(last_list * LIST + 1)..end {
            let list = list(self.core, last_list);
            self.say(|commit| commit.put(list, place_of(sequence).1, b""));
        }
        (self.head.chain.first, self.head.chain.anchor) = (end, anchor);
        let cause = Some(format!("records {first} to {}: {why}", end - 1).into());
        let event = Event::AuditDropped;
        let happened = Happened { event, outcome: Outcome::Done, session: None, generation: None, cause };
        self.note(NewRecord::of(self.now, Draft::default(), happened));
    }

    /// The audit log is not the one that this service wrote.
    pub(super) fn tell_broken(&mut self, why: &'static str, cursors: &[(Vec<u8>, u64)]) {
        let last = self.head.chain.sequence;
        self.head.broken = Some(last + 1);
        if self.head.alarm(self.now).is_none_or(|first| first > last) {
            self.head.alarm = Some((last + 1, self.now));
        }
        let key = self.key("cursors");
        for (name, _) in cursors.iter().filter(|(_, at)| *at > last) {
            self.say(|commit| commit.hset(key.clone(), name, &last.to_be_bytes()));
        }
        let (event, outcome, cause) = (Event::AuditBroken, Outcome::Done, Some(why.into()));
        let happened = Happened { event, outcome, session: None, generation: None, cause };
        self.note(NewRecord::of(self.now, Draft::default(), happened));
    }

    /// The commit, and the head that it makes.
    pub(super) fn finish(mut self) -> (Commit, Written) {
        self.head.commits += 1;
        self.head.stamped = self.head.stamped.max(self.core.node.stamped());
        if self.head.chain != self.signed
            && let Some(notary) = self.core.hub.notary()
        {
            let (key, statement) = (self.key("statement"), notary.attest(&self.head.chain));
            self.say(|commit| commit.set(key, statement.as_bytes()));
        }
        let (key, bytes) = (self.key("head"), self.head.bytes());
        self.say(|commit| commit.set(key, &bytes));
        let Self { head, commit, placed, superseded, .. } = self;
        (commit, Written { head, bytes, placed, superseded })
    }
}

/// What a commit makes.
pub(super) struct Written {
    pub(super) head: Head,
    /// As it is written.
    pub(super) bytes: Vec<u8>,
    pub(super) placed: Vec<Placed>,
    pub(super) superseded: Vec<u64>,
}

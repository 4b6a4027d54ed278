//! Denylist steps: the log, and the index that answers "is this denied" without reading it.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{
    expiry::Due,
    feed::{head_digest, head_position},
    singles::Share,
    tables::{Happened, Step, decode, encode, failed},
};
use crate::{
    model::{
        ClientId, SessionId, SubjectRef, Timestamp,
        audit::{Event, Outcome},
        denial::{Bearer, Ends, Entry, LEEWAY_AND_MARGIN, Retention, SINGLES_PER_SUBJECT, Target},
        feed::Digest,
    },
    store::{Denial, StoreError},
};

/// What the index holds for a target: the strongest entry about it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::store) struct Hold {
    pub(in crate::store) before: Timestamp,
    pub(in crate::store) feed_until: Timestamp,
    pub(in crate::store) kept_until: Timestamp,
    pub(in crate::store) position: u64,
}

impl Hold {
    pub(in crate::store) const fn of(entry: &Entry) -> Self {
        let Entry { before, feed_until, kept_until, position, .. } = *entry;
        Self { before, feed_until, kept_until, position }
    }

    /// Merge, never shrink: an earlier cut-off added later must not weaken the one in force.
    pub(in crate::store) fn merged(self, old: Option<Self>) -> Self {
        let Some(old) = old else { return self };
        Self {
            before: self.before.max(old.before),
            feed_until: self.feed_until.max(old.feed_until),
            kept_until: self.kept_until.max(old.kept_until),
            position: self.position,
        }
    }

    /// Whether it reaches at least as far.
    pub(in crate::store) fn reaches(&self, new: &NewEntry) -> bool {
        let as_far = !new.target.is_cut_off() || self.before >= new.before;
        as_far && self.kept_until >= new.kept_until && self.feed_until >= new.feed_until
    }
}

/// The index key: kind, what a cut-off ends, then the id.
pub(in crate::store) fn index_key(target: &Target, ends: Ends) -> Vec<u8> {
    let ends = if target.is_cut_off() { ends as u8 } else { 0 };
    let (kind, id): (u8, &[u8]) = match target {
        Target::Token(id) => (1, id.as_bytes()),
        Target::Session(id) => (2, id.as_bytes()),
        Target::Subject(id) => (3, &id.0),
        Target::Client(id) => (4, id.as_str().as_bytes()),
        Target::Key(id) => (5, id.as_str().as_bytes()),
        Target::All => (6, &[]),
    };
    [&[kind, ends], id].concat()
}

/// Reads the index, inside a step or outside one.
pub(super) trait Index {
    fn hold(&self, target: &Target, ends: Ends) -> Result<Option<Hold>, StoreError>;

    /// Whether a live entry denies this token.
    fn denies(&self, bearer: &Bearer, now: Timestamp) -> Result<bool, StoreError> {
        let single = [
            Some(Target::Token(bearer.token)),
            bearer.session.map(Target::Session),
            Some(Target::Key(bearer.key.clone())),
        ];
        for target in single.into_iter().flatten() {
            if self.hold(&target, Ends::Sessions)?.is_some_and(|h| now < h.feed_until) {
                return Ok(true);
            }
        }
        for ends in [Ends::Sessions, Ends::Tokens] {
            let stamp = bearer.stamp(ends);
            for target in cut_offs(bearer.subject, &bearer.client) {
                if self.hold(&target, ends)?.is_some_and(|h| stamp < h.before && now < h.feed_until) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The instant before which cut-offs of this kind cover this subject or client.
    fn cut_before(&self, subject: SubjectRef, client: &ClientId, ends: Ends) -> Result<Timestamp, StoreError> {
        let mut latest = Timestamp::default();
        for target in cut_offs(subject, client) {
            if let Some(hold) = self.hold(&target, ends)? {
                latest = latest.max(hold.before);
            }
        }
        Ok(latest)
    }
}

fn cut_offs(subject: SubjectRef, client: &ClientId) -> [Target; 3] {
    [Target::Subject(subject), Target::Client(client.clone()), Target::All]
}

/// Looks a target up in whichever form of the index table is at hand.
pub(super) fn look_up(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    target: &Target,
    ends: Ends,
) -> Result<Option<Hold>, StoreError> {
    let row = table.get(&index_key(target, ends)[..]).map_err(failed)?;
    row.map(|bytes| decode(bytes.value(), "denial")).transpose()
}

impl Index for Step<'_> {
    fn hold(&self, target: &Target, ends: Ends) -> Result<Option<Hold>, StoreError> {
        look_up(&self.denied, target, ends)
    }
}

impl Step<'_> {
    /// An instant that no cut-off in force covers: for what is stamped now.
    pub(super) fn fresh_stamp(&mut self, subject: SubjectRef, client: &ClientId) -> Result<Timestamp, StoreError> {
        let tokens = self.cut_before(subject, client, Ends::Tokens)?;
        let sessions = self.cut_before(subject, client, Ends::Sessions)?;
        let at = self.moment.now.max(tokens).max(sessions);
        Ok(self.stamp(at))
    }

    /// The first instant after everything that has been stamped: a cut-off here covers all that was, and nothing
    /// that will be.
    pub(super) fn cut_now(&self) -> Timestamp {
        self.moment.now.max(self.progress.stamped).plus(std::time::Duration::from_millis(1))
    }

    /// Appends an entry and indexes it. What is denied as strongly already gives the entry that is there.
    pub(super) fn append(&mut self, new: NewEntry) -> Result<Entry, StoreError> {
        if let Some(standing) = self.standing_entry(&new)? {
            return Ok(standing);
        }
        let entry = new.at(head_position(&self.meta)? + 1);
        self.place(&entry, head_digest(&self.meta)?)?;
        Ok(entry)
    }

    /// Puts an entry in its place, behind what has this digest.
    pub(super) fn place(&mut self, entry: &Entry, before: Digest) -> Result<(), StoreError> {
        self.meta.insert("position", &encode(&entry.position)[..]).map_err(failed)?;
        self.log.insert(entry.position, &encode(entry)[..]).map_err(failed)?;
        self.feed_on(entry, before)?;
        self.index(entry)?;
        self.schedule(entry.kept_until, Due::Entry(entry.position))?;
        self.dirty = true;
        Ok(())
    }

    /// The entry in force about the same target, if it reaches at least as far.
    pub(super) fn standing_entry(&self, new: &NewEntry) -> Result<Option<Entry>, StoreError> {
        standing_in(&self.denied, &self.log, new)
    }

    pub(super) fn index(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let hold = Hold::of(entry).merged(self.hold(&entry.target, entry.ends)?);
        let key = index_key(&entry.target, entry.ends);
        self.denied.insert(&key[..], &encode(&hold)[..]).map_err(failed)?;
        Ok(())
    }

    /// A denial asked for by name. `None`: the cut-off would lie in the future.
    pub(super) fn deny(&mut self, denial: Denial, retention: Retention) -> Result<Option<Entry>, StoreError> {
        self.deny_of(denial, None, retention)
    }

    /// The same, perhaps as one of many of a subject.
    pub(super) fn deny_of(
        &mut self,
        denial: Denial,
        of: Option<Share>,
        retention: Retention,
    ) -> Result<Option<Entry>, StoreError> {
        let latest = self.cut_now();
        let before = denial.before.unwrap_or(latest);
        if before > latest {
            return Ok(None);
        }
        let (feed_until, kept_until) = self.until(&denial.target, denial.ends, before, denial.expires, retention);
        let Denial { target, ends, reason, audit, .. } = denial;
        let cause = told(&target, reason.as_deref());
        let held = std::mem::take(&mut self.dirty);
        let new = NewEntry { target, ends, before, at: self.moment.now, feed_until, kept_until, reason };
        let entry = self.append_of(of, new, retention)?;
        // Denying again what is denied leaves no trace: otherwise it would be a way to push others out of the log.
        let appended = self.dirty;
        self.dirty |= held;
        if !appended {
            return Ok(Some(entry));
        }
        self.note(
            audit,
            Happened {
                event: Event::Revoked,
                outcome: Outcome::Done,
                session: None,
                generation: None,
                cause: Some(cause),
            },
        )?;
        Ok(Some(entry))
    }

    /// Denies what a closed family may still have out there.
    pub(super) fn deny_session(
        &mut self,
        id: SessionId,
        subject: Option<SubjectRef>,
        expires: Option<Timestamp>,
        retention: Retention,
        reason: Option<Box<str>>,
    ) -> Result<Option<Entry>, StoreError> {
        let target = Target::Session(id);
        let now = self.moment.now;
        let (feed_until, kept_until) = self.until(&target, Ends::Sessions, now, expires, retention);
        // Not by `now`: a clock that is ahead for a moment must not let a live token slip through.
        if feed_until <= self.expired_by {
            return Ok(None);
        }
        let new = NewEntry { target, ends: Ends::Sessions, before: now, at: now, feed_until, kept_until, reason };
        let of = subject.map(|subject| Share { subject, most: SINGLES_PER_SUBJECT });
        self.append_of(of, new, retention).map(Some)
    }

    /// Until when, taking into account tokens minted under an earlier configuration with longer lives.
    pub(super) fn until(
        &self,
        target: &Target,
        ends: Ends,
        before: Timestamp,
        expires: Option<Timestamp>,
        retention: Retention,
    ) -> (Timestamp, Timestamp) {
        let older =
            Older { tokens_until: self.character.older_until, sessions_until: self.character.older_sessions_until };
        until(target, ends, before, expires, self.moment.now.max(self.progress.stamped), retention, older)
    }
}

/// The entry in force about the same target, if it reaches at least as far: by whichever forms of the tables are at hand.
pub(super) fn standing_in(
    denied: &impl ReadableTable<&'static [u8], &'static [u8]>,
    log: &impl ReadableTable<u64, &'static [u8]>,
    new: &NewEntry,
) -> Result<Option<Entry>, StoreError> {
    let Some(hold) = look_up(denied, &new.target, new.ends)?.filter(|hold| hold.reaches(new)) else { return Ok(None) };
    let row = log.get(hold.position).map_err(failed)?;
    row.map(|bytes| decode(bytes.value(), "entry")).transpose()
}

/// By when all tokens, and all sessions, of an earlier configuration with longer lives have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(in crate::store) struct Older {
    pub(in crate::store) tokens_until: Timestamp,
    pub(in crate::store) sessions_until: Timestamp,
}

/// Until when verifiers, and the issuer, keep an entry. `latest`: now, or the latest instant that has been stamped.
pub(in crate::store) fn until(
    target: &Target,
    ends: Ends,
    before: Timestamp,
    expires: Option<Timestamp>,
    latest: Timestamp,
    retention: Retention,
    older: Older,
) -> (Timestamp, Timestamp) {
    // A session opened before a past instant has had tokens minted until now; so has what is denied by its name.
    // What has been stamped counts too: before the clock was put back, tokens were minted that outlast those of today.
    let minted_until = match ends {
        Ends::Tokens if target.is_cut_off() => before,
        _ => before.max(latest),
    };
    let last = expires.unwrap_or_else(|| minted_until.plus(retention.access));
    let (mut feed, mut kept) = retention.of(target, ends, before, Some(last));
    if target.is_cut_off() && ends == Ends::Sessions {
        kept = kept.max(older.sessions_until);
    }
    if expires.is_none() {
        feed = feed.max(older.tokens_until.plus(LEEWAY_AND_MARGIN));
    }
    (feed, kept.max(feed))
}

/// What the audit log says of a denial. Subject and client have members of their own in the record.
pub(in crate::store) fn told(target: &Target, reason: Option<&str>) -> Box<str> {
    let what = match target {
        Target::Token(id) => format!("token {id}"),
        Target::Key(id) => format!("key {id}"),
        other => other.kind().to_owned(),
    };
    reason.map_or_else(|| what.clone(), |reason| format!("{what}: {reason}")).into()
}

/// An entry before it has its place.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(in crate::store) struct NewEntry {
    pub(in crate::store) target: Target,
    pub(in crate::store) ends: Ends,
    pub(in crate::store) before: Timestamp,
    pub(in crate::store) at: Timestamp,
    pub(in crate::store) feed_until: Timestamp,
    pub(in crate::store) kept_until: Timestamp,
    pub(in crate::store) reason: Option<Box<str>>,
}

impl NewEntry {
    pub(in crate::store) fn at(self, position: u64) -> Entry {
        let Self { target, ends, before, at, feed_until, kept_until, reason } = self;
        Entry { position, target, ends, before, at, feed_until, kept_until, reason }
    }
}

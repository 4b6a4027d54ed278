//! Denylist steps: the log, and the index that answers "is this denied" without reading it.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{
    expiry::Due,
    feed::head_position,
    singles::Share,
    tables::{Happened, Step, decode, encode, failed},
};
use crate::{
    model::{
        ClientId, SessionId, SubjectRef, Timestamp,
        audit::{Event, Outcome},
        denial::{Bearer, Ends, Entry, Retention, SINGLES_PER_SUBJECT, Target},
    },
    store::{Denial, StoreError},
};

/// What the index holds for a target: the strongest entry about it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Hold {
    pub(super) before: Timestamp,
    pub(super) feed_until: Timestamp,
    pub(super) kept_until: Timestamp,
    pub(super) position: u64,
}

/// The index key: kind, what a cut-off ends, then the id.
pub(super) fn index_key(target: &Target, ends: Ends) -> Vec<u8> {
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
        let position = self.next_position()?;
        let NewEntry { target, ends, before, feed_until, kept_until, reason } = new;
        let entry = Entry { position, target, ends, before, at: self.moment.now, feed_until, kept_until, reason };
        self.log.insert(position, &encode(&entry)[..]).map_err(failed)?;
        self.feed_on(&entry)?;
        self.index(&entry)?;
        self.schedule(entry.kept_until, Due::Entry(position))?;
        self.dirty = true;
        Ok(entry)
    }

    /// The entry in force about the same target, if it reaches at least as far.
    pub(super) fn standing_entry(&self, new: &NewEntry) -> Result<Option<Entry>, StoreError> {
        let Some(hold) = self.hold(&new.target, new.ends)? else { return Ok(None) };
        let as_far = !new.target.is_cut_off() || hold.before >= new.before;
        if !as_far || hold.kept_until < new.kept_until || hold.feed_until < new.feed_until {
            return Ok(None);
        }
        let row = self.log.get(hold.position).map_err(failed)?;
        row.map(|bytes| decode(bytes.value(), "entry")).transpose()
    }

    fn next_position(&mut self) -> Result<u64, StoreError> {
        let position = head_position(&self.meta)? + 1;
        self.meta.insert("position", &encode(&position)[..]).map_err(failed)?;
        Ok(position)
    }

    fn index(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let mut hold = Hold {
            before: entry.before,
            feed_until: entry.feed_until,
            kept_until: entry.kept_until,
            position: entry.position,
        };
        // Merge, never shrink: an earlier cut-off added later must not weaken the one in force.
        if let Some(old) = self.hold(&entry.target, entry.ends)? {
            hold.before = hold.before.max(old.before);
            hold.feed_until = hold.feed_until.max(old.feed_until);
            hold.kept_until = hold.kept_until.max(old.kept_until);
        }
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
        // Subject and client have members of their own in the record.
        let what = match &target {
            Target::Token(id) => format!("token {id}"),
            Target::Key(id) => format!("key {id}"),
            other => other.kind().to_owned(),
        };
        let held = std::mem::take(&mut self.dirty);
        let new = NewEntry { target, ends, before, feed_until, kept_until, reason: reason.clone() };
        let entry = self.append_of(of, new, retention)?;
        // Denying again what is denied leaves no trace: otherwise it would be a way to push others out of the log.
        let appended = self.dirty;
        self.dirty |= held;
        if !appended {
            return Ok(Some(entry));
        }
        let cause = reason.map_or_else(|| what.clone().into(), |r| format!("{what}: {r}").into());
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
        let new = NewEntry { target, ends: Ends::Sessions, before: now, feed_until, kept_until, reason };
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
        // A session opened before a past instant has had tokens minted until now; so has what is denied by its name.
        // `stamped` counts too: before the clock was put back, tokens were minted that outlast those of today.
        let minted_until = match ends {
            Ends::Tokens if target.is_cut_off() => before,
            _ => before.max(self.moment.now).max(self.progress.stamped),
        };
        let last = expires.unwrap_or_else(|| minted_until.plus(retention.access));
        let (mut feed, mut kept) = retention.of(target, ends, before, Some(last));
        if target.is_cut_off() && ends == Ends::Sessions {
            kept = kept.max(self.character.older_sessions_until);
        }
        if expires.is_none() {
            feed = feed.max(self.character.older_until.plus(crate::model::denial::LEEWAY_AND_MARGIN));
        }
        (feed, kept.max(feed))
    }
}

/// An entry before it has its place.
pub(super) struct NewEntry {
    pub(super) target: Target,
    pub(super) ends: Ends,
    pub(super) before: Timestamp,
    pub(super) feed_until: Timestamp,
    pub(super) kept_until: Timestamp,
    pub(super) reason: Option<Box<str>>,
}

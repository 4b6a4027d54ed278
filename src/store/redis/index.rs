//! A subject's sessions, as its bucket lists them: in one field while they are few, in sorted sets of their own beyond.

use super::{
    Core,
    commit::Commit,
    layout::{Bucket, Layout},
    life::Began,
    step::{Found, Step},
};
use crate::{
    model::{SessionId, SubjectRef},
    store::StoreError,
};

/// So many are few.
const FEW: usize = 64;
/// What the field of a subject with many begins with; else it is the first session's state.
const MANY: u8 = 0xff;
const DAMAGED: StoreError = StoreError::Damaged("subject");

/// One session of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Listed {
    pub(super) id: SessionId,
    /// Whether nobody has ended it.
    pub(super) open: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum List {
    /// In the order of their opening.
    Few(Vec<Listed>),
    /// How often the sets were written: what a change compares.
    Many(u64),
}

/// What is to be done to the sets.
enum Change {
    Enter(SessionId),
    End(SessionId),
    Remove(SessionId),
}

/// A subject's sessions.
pub(super) struct Sessions {
    subject: SubjectRef,
    seen: Option<Vec<u8>>,
    list: List,
    changes: Vec<Change>,
    is_empty: bool,
}

impl Sessions {
    /// The list that was looked for by [`Core::look_at_sessions`].
    pub(super) fn read(subject: SubjectRef, seen: Option<Vec<u8>>) -> Result<Self, StoreError> {
        let list = match seen.as_deref() {
            None => List::Few(Vec::new()),
            Some([MANY, revision @ ..]) => List::Many(u64::from_be_bytes(revision.try_into().map_err(|_| DAMAGED)?)),
            Some(row) => List::Few(few(row)?),
        };
        Ok(Self { subject, seen, list, changes: Vec::new(), is_empty: false })
    }

    pub(super) fn enter(&mut self, id: SessionId) {
        self.changes.push(Change::Enter(id));
        if let List::Few(few) = &mut self.list {
            let place = few.partition_point(|listed| listed.id < id);
            few.insert(place, Listed { id, open: true });
        }
    }

    /// Somebody has ended it.
    pub(super) fn end(&mut self, id: SessionId) {
        self.changes.push(Change::End(id));
        if let List::Few(few) = &mut self.list {
            few.iter_mut().filter(|listed| listed.id == id).for_each(|listed| listed.open = false);
        }
    }

    /// It is kept no more. `is_last`: none is left of many.
    pub(super) fn remove(&mut self, id: SessionId, is_last: bool) {
        self.changes.push(Change::Remove(id));
        match &mut self.list {
            List::Few(few) => few.retain(|listed| listed.id != id),
            List::Many(_) => self.is_empty = is_last,
        }
    }

    /// Writes it, if it is still what was seen. Nothing if it was only looked at.
    pub(super) fn put(self, step: &mut Step<'_>) {
        let layout = &step.core.layout;
        let (key, subject) = (layout.subjects(step.bucket), self.subject);
        let (all, open) = (layout.sessions(subject), layout.open_sessions(subject));
        let (row, changes) = match self.list {
            _ if self.changes.is_empty() => (self.seen.clone(), Vec::new()),
            List::Few(few) if few.is_empty() => (None, Vec::new()),
            List::Few(few) if few.len() <= FEW => (Some(written(&few)), Vec::new()),
            List::Few(few) => {
                let entering = few.iter().map(|listed| Change::Enter(listed.id));
                let ended = few.iter().filter(|listed| !listed.open).map(|listed| Change::End(listed.id));
                (Some(revision(0)), entering.chain(ended).collect())
            }
            List::Many(_) if self.is_empty => (None, self.changes),
            List::Many(number) => (Some(revision(number.wrapping_add(1))), self.changes),
        };
        let seen = self.seen;
        step.also(|commit| {
            let commit = commit.field_is(key.clone(), &subject.0, seen.as_deref());
            let commit = match row {
                _ if row == seen => commit,
                None => commit.hdel(key, &subject.0),
                Some(row) => commit.hset(key, &subject.0, &row),
            };
            changes.into_iter().fold(commit, |commit, change| match change {
                Change::Enter(id) => commit.enter(all.clone(), id.as_bytes()).enter(open.clone(), id.as_bytes()),
                Change::End(id) => commit.leave(open.clone(), id.as_bytes()),
                Change::Remove(id) => commit.leave(all.clone(), id.as_bytes()).leave(open.clone(), id.as_bytes()),
            })
        });
    }
}

/// Writes the list of a subject whose sessions come from elsewhere: all that have come so far, in the order of their
/// opening, of which this many were written before.
pub(super) fn arrive(layout: &Layout, subject: SubjectRef, all: &[Listed], before: usize, commit: Commit) -> Commit {
    let key = layout.subjects(Bucket::of_subject(subject));
    if all.len() <= FEW {
        return commit.hset(key, &subject.0, &written(all));
    }
    // As long as they were few, they were not in the sets.
    let new = if before > FEW { &all[before..] } else { all };
    new.iter().fold(commit.hset(key, &subject.0, &revision(0)), |commit, listed| {
        let commit = commit.enter(layout.sessions(subject), listed.id.as_bytes());
        if listed.open { commit.enter(layout.open_sessions(subject), listed.id.as_bytes()) } else { commit }
    })
}

fn few(row: &[u8]) -> Result<Vec<Listed>, StoreError> {
    let (rows, rest) = row.as_chunks::<17>();
    if !rest.is_empty() {
        return Err(DAMAGED);
    }
    let listed = |row: &[u8; 17]| {
        let [state, id @ ..] = *row;
        let id = SessionId::from_bytes(id)?;
        (state <= 1).then_some(Listed { id, open: state == 1 })
    };
    rows.iter().map(|row| listed(row).ok_or(DAMAGED)).collect()
}

fn written(few: &[Listed]) -> Vec<u8> {
    few.iter().flat_map(|listed| [&[u8::from(listed.open)], &listed.id.as_bytes()[..]].concat()).collect()
}

fn revision(number: u64) -> Vec<u8> {
    [&[MANY], &number.to_be_bytes()[..]].concat()
}

/// A session's id as a member of a set, or as a field.
pub(super) fn session_of(bytes: &[u8]) -> Result<SessionId, StoreError> {
    bytes.try_into().ok().and_then(SessionId::from_bytes).ok_or(DAMAGED)
}

impl Core {
    /// The subject's list, too.
    pub(super) fn look_at_sessions(&self, look: super::commit::Look, subject: SubjectRef) -> super::commit::Look {
        look.hget(self.layout.subjects(Bucket::of_subject(subject)), &subject.0)
    }

    /// Sessions of the list, in the order of their opening: from after `after`, so many at most; all of them, or those
    /// that nobody has ended.
    pub(super) async fn listed(
        &self,
        began: Began,
        sessions: &Sessions,
        only_open: bool,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, StoreError> {
        let List::Few(few) = &sessions.list else {
            let key = if only_open { Self::open_key } else { Self::all_key }(self, sessions.subject);
            let bucket = Bucket::of_subject(sessions.subject);
            let after = after.as_ref().map(|id| &id.as_bytes()[..]);
            let ids = self.seen(began, self.look(bucket).members(key, after, limit)).await?.list()?;
            return ids.iter().map(|id| session_of(id)).collect();
        };
        let chosen = few.iter().filter(|listed| listed.open || !only_open).map(|listed| listed.id);
        Ok(chosen.filter(|id| after.is_none_or(|after| *id > after)).take(limit).collect())
    }

    fn open_key(&self, subject: SubjectRef) -> Vec<u8> {
        self.layout.open_sessions(subject)
    }

    fn all_key(&self, subject: SubjectRef) -> Vec<u8> {
        self.layout.sessions(subject)
    }

    /// The last that there is of a subject.
    pub(super) async fn last_of(&self, began: Began, sessions: &Sessions) -> Result<Option<SessionId>, StoreError> {
        let List::Few(few) = &sessions.list else {
            let look = self.look(Bucket::of_subject(sessions.subject)).last_member(self.all_key(sessions.subject));
            return self.seen(began, look).await?.list()?.first().map(|id| session_of(id)).transpose();
        };
        Ok(few.last().map(|listed| listed.id))
    }
}

impl Found {
    /// What [`Core::look_at_sessions`] looked for.
    pub(super) fn sessions(&mut self, subject: SubjectRef) -> Result<Sessions, StoreError> {
        Sessions::read(subject, self.value()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn session(n: u64) -> SessionId {
        SessionId::new(Timestamp::from_millis(1_795_374_805_000 + n), &[7; 10])
    }

    #[test]
    fn a_list_reads_back_in_the_order_of_opening() {
        let mut sessions = Sessions::read(SubjectRef([1; 16]), None).unwrap();
        for n in [3, 1, 2] {
            sessions.enter(session(n));
        }
        sessions.end(session(2));
        let List::Few(list) = sessions.list else { panic!("three are few") };
        assert_eq!(few(&written(&list)).unwrap(), list);
        assert_eq!(
            list.iter().map(|l| (l.id, l.open)).collect::<Vec<_>>(),
            [(session(1), true), (session(2), false), (session(3), true)]
        );
    }

    #[test]
    fn what_is_no_list_is_damaged() {
        let good = written(&[Listed { id: session(1), open: true }]);
        for bad in [&good[1..], &good[..16], &[&[2], &good[1..]].concat(), &[1; 17], &[MANY], &[MANY; 17]] {
            assert!(Sessions::read(SubjectRef([1; 16]), Some(bad.to_vec())).is_err(), "{bad:?}");
        }
    }
}

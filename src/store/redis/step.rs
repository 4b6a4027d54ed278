//! One step in one bucket: what was seen there, by which it is decided, and what it writes if that is still so.

use std::time::Duration;

use redis::Value;

use super::{
    Core, Options,
    commit::{Commit, Look, Outcome, Rotate, bytes, maybe, number},
    hub::{Debt, HubCuts, NewEntry, NewRecord, Owed},
    layout::Bucket,
    life::Began,
    record::Record,
    subjects::{Cut, Cuts},
};
use crate::{
    clock::random_bytes,
    model::{
        SessionId, SubjectRef, Timestamp,
        audit::Draft,
        denial::{Ends, Entry, SINGLES_PER_SUBJECT, Target},
        family::{Moment, Served},
    },
    store::{
        StoreError,
        embedded::{Happened, MANY_SINGLES},
    },
};

/// How often a step begins anew because another node was quicker.
pub(super) const TRIES: u32 = 16;
/// How often a step that must wait looks whether it may begin.
const LOOKS_EVERY: Duration = Duration::from_millis(5);

/// What every step stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footing {
    /// Under what the bucket was looked at.
    pub(super) began: Began,
    /// The latest instant that is known to have been stamped, in this bucket or here.
    pub(super) stamped: Timestamp,
}

/// What a bucket was seen to hold.
pub(super) struct Found {
    pub(super) footing: Footing,
    parts: std::vec::IntoIter<Value>,
}

impl Found {
    pub(super) fn part(&mut self) -> Result<Value, StoreError> {
        self.parts.next().ok_or(super::commit::UNREADABLE)
    }

    /// What [`Look::hget`] and [`Look::get`] found.
    pub(super) fn value(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(maybe(&self.part()?)?.map(<[u8]>::to_vec))
    }

    /// What [`Look::range`], [`Look::members`] and [`Look::hkeys`] found; of [`Look::hall`], fields and values in turn.
    pub(super) fn list(&mut self) -> Result<Vec<Vec<u8>>, StoreError> {
        let Value::Array(items) = self.part()? else { return Err(super::commit::UNREADABLE) };
        items.iter().map(|item| bytes(item).map(<[u8]>::to_vec)).collect()
    }

    /// A record that was looked for by [`Look::hget`].
    pub(super) fn record(&mut self, id: SessionId) -> Result<Option<Record>, StoreError> {
        self.value()?.map(|row| Record::decode(id, &row)).transpose()
    }

    /// What [`Look::family`] found. The cut-offs are those of the family's subject.
    pub(super) fn family(&mut self, id: SessionId) -> Result<Option<(Record, Cuts)>, StoreError> {
        let Value::Array(parts) = self.part()? else { return Err(super::commit::UNREADABLE) };
        let [row, sessions, tokens] = &parts[..] else { return Err(super::commit::UNREADABLE) };
        let Some(row) = maybe(row)? else { return Ok(None) };
        let record = Record::decode(id, row)?;
        let cuts = Cuts::read(record.family.subject, [maybe(sessions)?, maybe(tokens)?])?;
        Ok(Some((record, cuts)))
    }

    /// The cut-offs of a subject, that were looked for by [`Core::look_at_cuts`].
    pub(super) fn cuts(&mut self, subject: SubjectRef) -> Result<Cuts, StoreError> {
        let (sessions, tokens) = (self.value()?, self.value()?);
        Cuts::read(subject, [sessions.as_deref(), tokens.as_deref()])
    }
}

/// Whether a slot with this marker is of the life that a step began under.
pub(super) fn is_of(mark: Option<&[u8]>, began: &Began) -> Result<(), StoreError> {
    match mark {
        Some(mark) if mark == began.mark() => Ok(()),
        // It is being taken over: in a moment it is again.
        Some(_) => Err(StoreError::Busy),
        None => Err(StoreError::NotWhole),
    }
}

impl Core {
    /// A look at a bucket, beginning with what every step asks of it.
    pub(super) fn look(&self, bucket: Bucket) -> Look {
        let meta = self.layout.meta(bucket);
        Look::default().hget(meta.clone(), b"life").hget(meta, b"stamped")
    }

    /// What cuts this subject off, too.
    pub(super) fn look_at_cuts(&self, look: Look, subject: SubjectRef) -> Look {
        let key = self.layout.cuts(Bucket::of_subject(subject));
        let field = |ends| Cuts::field(subject, ends);
        look.hget(key.clone(), &field(Ends::Sessions)).hget(key, &field(Ends::Tokens))
    }

    /// A step begins, or a look. What passes by itself (another node is taken note of, a lease is renewed late) is waited
    /// for, as long as an answer of the servers would be.
    ///
    /// # Errors
    /// This node may not speak for the store now.
    pub(super) async fn begin(&self) -> Result<Began, StoreError> {
        let mut waited = Duration::ZERO;
        loop {
            match self.begin_now() {
                Err(StoreError::Failed(_)) if waited < self.options.deadline => {}
                answer => return answer,
            }
            tokio::time::sleep(LOOKS_EVERY).await;
            waited += LOOKS_EVERY;
        }
    }

    /// The same for who cannot wait.
    ///
    /// # Errors
    /// This node may not speak for the store now.
    pub(super) fn begin_now(&self) -> Result<Began, StoreError> {
        self.life.begin(self.clock.now())
    }

    /// A repair begins: it is never acknowledged.
    ///
    /// # Errors
    /// There is no life that could be repaired.
    pub(super) fn begin_repair(&self) -> Result<Began, StoreError> {
        self.life.begin_repair(self.clock.now())
    }

    /// Takes the look. A bucket that is not of this store tells nothing.
    pub(super) async fn seen(&self, began: Began, look: Look) -> Result<Found, StoreError> {
        let mut parts = look.ask(&self.link).await?.parts.into_iter();
        let mut part = || parts.next().ok_or(super::commit::UNREADABLE);
        let footing = self.footing(began, &part()?, &part()?)?;
        Ok(Found { footing, parts })
    }

    /// By a slot's marker, and the latest instant that was stamped there.
    fn footing(&self, began: Began, life: &Value, stamped: &Value) -> Result<Footing, StoreError> {
        is_of(maybe(life)?, &began)?;
        let stamped = if maybe(stamped)?.is_some() { number(stamped)? } else { 0 };
        Ok(Footing { began, stamped: self.node.stamp(Timestamp::from_millis(stamped)) })
    }

    /// One record, without what cuts its subject off, by plain commands: they cost the server a fifth of a script. The
    /// marker is read after it: a bucket that was emptied in between has none.
    pub(super) async fn record_alone(
        &self,
        began: Began,
        id: SessionId,
    ) -> Result<(Footing, Option<Record>), StoreError> {
        let bucket = Bucket::of_session(id);
        let (families, meta) = (self.layout.families(bucket), self.layout.meta(bucket));
        let (mut row, mut marks) = (redis::cmd("HGET"), redis::cmd("HMGET"));
        row.arg(&families).arg(id.as_bytes());
        marks.arg(meta).arg("life").arg("stamped");
        let answers = self.link.commands(&families, vec![row, marks]).await?;
        let [row, Value::Array(marks)] = &answers[..] else { return Err(super::commit::UNREADABLE) };
        let [life, stamped] = &marks[..] else { return Err(super::commit::UNREADABLE) };
        let footing = self.footing(began, life, stamped)?;
        Ok((footing, maybe(row)?.map(|row| Record::decode(id, row)).transpose()?))
    }

    /// These records, as far as there are any, as they are at one instant.
    pub(super) async fn records(
        &self,
        began: Began,
        bucket: Bucket,
        ids: &[SessionId],
    ) -> Result<Vec<(SessionId, Option<Record>)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let key = self.layout.families(bucket);
        let look = ids.iter().fold(self.look(bucket), |look, id| look.hget(key.clone(), id.as_bytes()));
        let mut found = self.seen(began, look).await?;
        ids.iter().map(|id| Ok((*id, found.record(*id)?))).collect()
    }

    /// One record, with what cuts its subject off.
    pub(super) async fn family_and_cuts(
        &self,
        began: Began,
        id: SessionId,
    ) -> Result<(Found, Option<(Record, Cuts)>), StoreError> {
        let bucket = Bucket::of_session(id);
        let look = self.look(bucket).family(self.layout.families(bucket), id.as_bytes(), self.layout.cuts(bucket));
        let mut found = self.seen(began, look).await?;
        let family = found.family(id)?;
        Ok((found, family))
    }

    /// These sessions are closed, and it was acknowledged, or is about to be: whatever the store loses, this node knows it.
    /// Durable once it returns.
    pub(super) async fn remember_closed(&self, closed: &[Record], served: Served) -> Result<(), StoreError> {
        if closed.is_empty() {
            return Ok(());
        }
        closed.iter().for_each(|record| self.life.heads.moved(record.clone(), served));
        let name = |record: &Record| u128::from_be_bytes(*record.family.id.as_bytes());
        let rows = closed.iter().map(|record| (name(record), record.encode())).collect();
        let within = u64::try_from(self.options.heads.as_millis()).unwrap_or(u64::MAX);
        self.mirror.keep_closed(served, rows, Served(served.0.saturating_sub(within))).await
    }

    /// What was closed before this process began.
    pub(super) fn recall_closed(&self) -> Result<(), StoreError> {
        for (served, name, row) in self.mirror.closed()? {
            let id = SessionId::from_bytes(name.to_be_bytes()).ok_or(StoreError::Damaged("closed"))?;
            self.life.heads.moved(Record::decode(id, &row)?, served);
        }
        Ok(())
    }

    /// What nobody waits for goes to the hub in a while.
    pub(super) fn hand_over(&self, bucket: Bucket, debts: Vec<Debt>) {
        if !debts.is_empty() {
            self.settle_later(bucket, debts);
        }
    }

    /// Lets whoever was quicker be done: a moment that is another for each node.
    pub(super) async fn give_way(&self, attempt: u32) {
        if attempt > 0 {
            let [random] = random_bytes(&*self.random);
            let most = 1_u64 << attempt.min(6);
            tokio::time::sleep(Duration::from_micros(u64::from(random) * most)).await;
        }
    }
}

/// What is to be written.
pub(super) struct Step<'c> {
    pub(super) core: &'c Core,
    pub(super) bucket: Bucket,
    pub(super) began: Began,
    pub(super) moment: Moment,
    /// The latest instant that is known to have been stamped.
    pub(super) stamped: Timestamp,
    commit: Commit,
    owed: Vec<Owed>,
    /// Sessions that move by it, as they will be.
    moved: Vec<Record>,
    /// Subjects that get one entry more.
    singles: Vec<SubjectRef>,
    /// Which of the entries is the cut-off that stands for many.
    many: Option<usize>,
    denies: usize,
    /// What this step itself cuts off.
    cut_before: Timestamp,
}

impl<'c> Step<'c> {
    pub(super) fn new(core: &'c Core, bucket: Bucket, found: &Found) -> Self {
        Self::on(core, bucket, found.footing)
    }

    pub(super) fn on(core: &'c Core, bucket: Bucket, footing: Footing) -> Self {
        let Footing { began, stamped } = footing;
        let moment = began.moment();
        Self {
            core,
            bucket,
            began,
            moment,
            stamped,
            commit: Commit::new(moment.now),
            owed: Vec::new(),
            moved: Vec::new(),
            singles: Vec::new(),
            many: None,
            denies: 0,
            cut_before: Timestamp::default(),
        }
    }

    /// Adds guards and changes, in any order.
    pub(super) fn also(&mut self, add: impl FnOnce(Commit) -> Commit) {
        self.commit = add(std::mem::take(&mut self.commit));
    }

    /// An instant that no cut-off in force covers.
    pub(super) fn next_stamp(&self, cuts: &Cuts, hub: HubCuts) -> Timestamp {
        let ours = cuts.before(Ends::Tokens).max(cuts.before(Ends::Sessions));
        // A clock that is ahead must not stamp what a cut-off of the hub, which goes by that one's, would not reach.
        let Options { skew, margin, .. } = self.core.options;
        let most = if skew.is_zero() { self.moment.now } else { hub.at.plus(margin / 2) };
        let at = self.moment.now.min(most).max(ours).max(hub.tokens).max(hub.sessions).max(self.cut_before);
        // Before it is in anything: a cut-off of a client that is made here meanwhile must cover it.
        self.core.node.stamp(at);
        at
    }

    /// The same, for what is stamped by this step.
    pub(super) fn fresh_stamp(&mut self, cuts: &Cuts, hub: HubCuts) -> Timestamp {
        let at = self.next_stamp(cuts, hub);
        self.unchanged(cuts);
        let meta = self.core.layout.meta(self.bucket);
        self.also(|commit| commit.raise(meta, b"stamped", at.millis()));
        at
    }

    /// The first instant after everything that has been stamped here: a cut-off covers all that was, nothing that will be.
    pub(super) fn cut_now(&self) -> Timestamp {
        self.latest().plus(Duration::from_millis(1))
    }

    fn latest(&self) -> Timestamp {
        self.moment.now.max(self.stamped)
    }

    /// Only if these cut-offs are still the ones in force.
    pub(super) fn unchanged(&mut self, cuts: &Cuts) {
        let key = self.core.layout.cuts(self.bucket);
        self.also(|commit| cuts.unchanged(commit, key));
    }

    /// Writes a record in the place of the one that was seen.
    pub(super) fn put(&mut self, record: &Record) {
        self.put_over(record.begins(), record);
    }

    /// The same where the one that was seen begins like this.
    pub(super) fn put_over(&mut self, seen: [u8; 4], record: &Record) {
        let key = self.core.layout.families(self.bucket);
        let id = *record.family.id.as_bytes();
        let next = record.next();
        self.also(|commit| commit.field_begins(key.clone(), &id, &seen).hset(key, &id, &next.encode()));
        self.moves(next);
    }

    /// This session will be as it is here: it is remembered.
    pub(super) fn moves(&mut self, record: Record) {
        self.moved.push(record);
    }

    /// Only if the record is still the one that was seen.
    pub(super) fn as_seen(&mut self, record: &Record) {
        let key = self.core.layout.families(self.bucket);
        self.also(|commit| commit.field_begins(key, record.family.id.as_bytes(), &record.begins()));
    }

    pub(super) fn note(&mut self, draft: Draft, what: Happened) {
        let Draft { actor, client, subject, origin } = draft;
        let Happened { event, outcome, session, generation, cause } = what;
        let record = NewRecord {
            at: self.moment.now,
            event,
            outcome,
            actor,
            client,
            subject,
            // The hub's notary says it.
            subject_ref: None,
            session,
            generation,
            origin,
            cause,
        };
        self.owed.push(Owed::Note(Box::new(record)));
    }

    /// Denies what a closed family may still have out there. Gives the place of its entry; none if no token can be alive.
    pub(super) fn deny_session(
        &mut self,
        id: SessionId,
        cuts: Option<&Cuts>,
        expires: Option<Timestamp>,
        reason: Option<Box<str>>,
    ) -> Option<usize> {
        let target = Target::Session(id);
        let now = self.moment.now;
        let (feed_until, kept_until) = self.until(&target, Ends::Sessions, now, expires);
        // Not by `now`: a clock that is ahead for a moment must not let a live token slip through.
        if feed_until <= self.core.node.expired_by(&*self.core.clock) {
            return None;
        }
        let key = self.core.layout.denied_session(id);
        self.also(|commit| commit.set_until(key, b"1", feed_until));
        let new = NewEntry { target, ends: Ends::Sessions, before: now, at: now, feed_until, kept_until, reason };
        Some(match cuts {
            Some(cuts) => self.single(cuts, SINGLES_PER_SUBJECT, new),
            None => self.enter(new),
        })
    }

    /// Owes an entry of a subject, or the cut-off of its tokens that stands for it.
    pub(super) fn single(&mut self, cuts: &Cuts, most: u32, new: NewEntry) -> usize {
        let added = self.singles.iter().filter(|subject| **subject == cuts.subject).count();
        let had = self.core.node.singles(cuts.subject, self.moment.now);
        if had.saturating_add(u32::try_from(added).unwrap_or(u32::MAX)) < most {
            self.singles.push(cuts.subject);
            return self.enter(new);
        }
        if let Some(many) = self.many {
            return many;
        }
        let many = self.cut(cuts, Ends::Tokens, self.cut_now(), None, Some(MANY_SINGLES.into()));
        self.many = Some(many);
        many
    }

    /// Owes an entry as it is. Gives its place among those of this step.
    pub(super) fn enter(&mut self, new: NewEntry) -> usize {
        self.owed.push(Owed::Deny(new));
        self.denies += 1;
        self.denies - 1
    }

    /// Cuts the subject off. What is stamped meanwhile makes the step begin anew.
    pub(super) fn cut(
        &mut self,
        cuts: &Cuts,
        ends: Ends,
        before: Timestamp,
        expires: Option<Timestamp>,
        reason: Option<Box<str>>,
    ) -> usize {
        let target = Target::Subject(cuts.subject);
        let (feed_until, kept_until) = self.until(&target, ends, before, expires);
        let new = NewEntry { target, ends, before, at: self.moment.now, feed_until, kept_until, reason };
        let (key, meta) = (self.core.layout.cuts(self.bucket), self.core.layout.meta(self.bucket));
        let (field, row) = (Cuts::field(cuts.subject, ends), cuts.merged(ends, &new));
        let latest = self.latest().millis();
        self.cut_before = self.cut_before.max(before);
        self.unchanged(cuts);
        self.also(|commit| commit.at_most(meta, b"stamped", latest).hset(key, &field, &row));
        self.enter(new)
    }

    /// Owes what is in force already: the hub gives the entry that is there.
    pub(super) fn enter_again(&mut self, target: Target, ends: Ends, cut: Cut) -> usize {
        let Cut { before, feed_until, kept_until } = cut;
        let (at, reason) = (self.moment.now, Some(MANY_SINGLES.into()));
        self.enter(NewEntry { target, ends, before, at, feed_until, kept_until, reason })
    }

    pub(super) fn until(
        &self,
        target: &Target,
        ends: Ends,
        before: Timestamp,
        expires: Option<Timestamp>,
    ) -> (Timestamp, Timestamp) {
        self.core.until(target, ends, before, expires, self.latest())
    }

    /// Writes it all, or nothing: `None` if something that it was decided by has moved.
    pub(super) async fn make(mut self) -> Result<Option<Vec<Debt>>, StoreError> {
        let (meta, list) = (self.core.layout.meta(self.bucket), self.core.layout.owed(self.bucket));
        let commit = std::mem::take(&mut self.commit).life(meta.clone(), self.began.mark());
        let commit =
            self.owed.iter().fold(commit, |commit, owed| commit.owe(meta.clone(), list.clone(), &owed.encode()));
        let outcome = commit.make(&self.core.link).await?;
        let (core, bucket, served) = (self.core, self.bucket, self.moment.served);
        let closed: Vec<_> =
            self.moved.iter().filter(|record| record.family.lineage.closed.is_some()).cloned().collect();
        let debts = self.made(outcome)?;
        // What was closed is remembered on disk: no token of it may be alive, and then the log says nothing of it.
        match debts {
            Some(debts) => match core.remember_closed(&closed, served).await {
                Ok(()) => Ok(Some(debts)),
                Err(error) => {
                    core.hand_over(bucket, debts);
                    Err(error)
                }
            },
            None => Ok(None),
        }
    }

    /// The same where a family moves on to this record from one that begins like `seen`, stamped at that instant, and
    /// nothing else is written but the one thing that is owed for it.
    pub(super) async fn make_rotation(
        mut self,
        (seen, next): (&[u8], Record),
        cuts: &Cuts,
        stamped: Timestamp,
    ) -> Result<Option<Vec<Debt>>, StoreError> {
        let Self { core, bucket, began, moment, .. } = &self;
        let layout = &core.layout;
        let rotate = Rotate {
            keys: [layout.meta(*bucket), layout.families(*bucket), layout.cuts(*bucket), layout.owed(*bucket)],
            asked: moment.now,
            life: began.mark(),
            session: next.family.id.as_bytes(),
            record: (seen, next.encode()),
            subject: &cuts.subject.0,
            cuts: cuts.rows(),
            stamped,
            owes: self.owed.first().map(Owed::encode).unwrap_or_default(),
        };
        let outcome = rotate.make(&core.link).await?;
        self.moves(next);
        self.made(outcome)
    }

    fn made(self, outcome: Outcome) -> Result<Option<Vec<Debt>>, StoreError> {
        let Self { core, owed, singles, moved, moment, .. } = self;
        match outcome {
            Outcome::Done(numbers) if numbers.len() == owed.len() => {
                singles.into_iter().for_each(|subject| core.node.add_single(subject));
                moved.into_iter().for_each(|record| core.life.heads.moved(record, moment.served));
                Ok(Some(numbers.into_iter().zip(owed).collect()))
            }
            Outcome::Done(_) => Err(super::commit::UNREADABLE),
            // Whose the bucket is now, the next look says.
            Outcome::Moved | Outcome::NotTheSame => Ok(None),
        }
    }
}

/// A step that has been written.
pub(super) struct Made<T> {
    /// Under what: it is acknowledged under the same.
    pub(super) began: Began,
    pub(super) outcome: T,
    pub(super) debts: Vec<Debt>,
}

/// What a step that denies gives, once the hub has it.
pub(super) fn entry_at(entries: &[Entry], place: usize) -> Result<Entry, StoreError> {
    entries.get(place).cloned().ok_or_else(|| StoreError::Failed("the log gave fewer entries than were denied".into()))
}

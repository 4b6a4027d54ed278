//! What cuts a subject off, and entries about single sessions and tokens: made in a bucket, told to the hub.

use serde::{Deserialize, Serialize};

use super::{
    Core,
    commit::Commit,
    hub::{NewEntry, Owed},
    layout::Bucket,
    step::{Step, TRIES, entry_at},
};
use crate::{
    model::{
        ClientId, SubjectRef, Timestamp,
        audit::{Draft, Event, Outcome},
        denial::{Ends, Entry, Target},
    },
    store::{
        Denial, StoreError,
        embedded::{self, Happened},
    },
};

/// A cut-off as its bucket holds it: the strongest of all that were made, in each respect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    pub(super) before: Timestamp,
    pub(super) feed_until: Timestamp,
    pub(super) kept_until: Timestamp,
}

impl Cut {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("three numbers serialise")
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, StoreError> {
        postcard::from_bytes(row).map_err(|_| StoreError::Damaged("cut-off"))
    }
}

/// What was seen to cut a subject off.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    pub(super) subject: SubjectRef,
    /// As it is written, so that it can be compared: of sessions, of tokens.
    rows: [Option<Vec<u8>>; 2],
    cuts: [Option<Cut>; 2],
}

impl Cuts {
    pub(super) fn read(subject: SubjectRef, rows: [Option<&[u8]>; 2]) -> Result<Self, StoreError> {
        let [sessions, tokens] = rows.map(|row| row.map(Cut::decode).transpose());
        Ok(Self { subject, rows: rows.map(|row| row.map(<[u8]>::to_vec)), cuts: [sessions?, tokens?] })
    }

    /// There are none.
    pub(super) fn none(subject: SubjectRef) -> Self {
        Self { subject, rows: [None, None], cuts: [None, None] }
    }

    /// Under which name a cut-off stands in its bucket.
    pub(super) fn field(subject: SubjectRef, ends: Ends) -> [u8; 17] {
        let mut field = [ends as u8; 17];
        field[..16].copy_from_slice(&subject.0);
        field
    }

    /// As they are written: of sessions, of tokens.
    pub(super) fn rows(&self) -> [Option<&[u8]>; 2] {
        self.rows.each_ref().map(Option::as_deref)
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(Option::is_none)
    }

    pub(super) fn of(&self, ends: Ends) -> Option<Cut> {
        self.cuts[ends as usize]
    }

    /// The instant before which they cover.
    pub(super) fn before(&self, ends: Ends) -> Timestamp {
        self.of(ends).unwrap_or_default().before
    }

    pub(super) fn unchanged(&self, commit: Commit, key: Vec<u8>) -> Commit {
        [Ends::Sessions, Ends::Tokens].into_iter().fold(commit, |commit, ends| {
            commit.field_is(key.clone(), &Self::field(self.subject, ends), self.rows[ends as usize].as_deref())
        })
    }

    /// Never shrinks: an earlier cut-off that is added later must not weaken the one in force.
    pub(super) fn merged(&self, ends: Ends, new: &NewEntry) -> Vec<u8> {
        let old = self.of(ends).unwrap_or_default();
        let cut = Cut {
            before: old.before.max(new.before),
            feed_until: old.feed_until.max(new.feed_until),
            kept_until: old.kept_until.max(new.kept_until),
        };
        cut.encode()
    }

    /// Whether what is in force reaches as far as this already.
    fn reaches(&self, ends: Ends, before: Timestamp, (feed_until, kept_until): (Timestamp, Timestamp)) -> bool {
        self.of(ends)
            .is_some_and(|cut| cut.before >= before && cut.feed_until >= feed_until && cut.kept_until >= kept_until)
    }
}

impl Core {
    /// Cuts a subject off: of its sessions or of its tokens, as `denial` says, whose target it is. `None`: the cut-off
    /// would lie in the future. Once this returns, it is in the bucket and in the hub's log.
    pub(super) async fn cut_subject(&self, subject: SubjectRef, denial: Denial) -> Result<Option<Entry>, StoreError> {
        let bucket = Bucket::of_subject(subject);
        let turn = self.node.turn(bucket).await?;
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let mut found = self.seen(began, self.look_at_cuts(self.look(bucket), subject)).await?;
            let cuts = found.cuts(subject)?;
            let mut step = Step::new(self, bucket, &found);
            let latest = step.cut_now();
            let before = denial.before.unwrap_or(latest);
            if before > latest {
                return Ok(None);
            }
            let until = step.until(&denial.target, denial.ends, before, denial.expires);
            let is_new = !cuts.reaches(denial.ends, before, until);
            step.cut(&cuts, denial.ends, before, denial.expires, denial.reason.clone());
            // Denying again what is denied leaves no trace: otherwise it would be a way to push others out of the log.
            if is_new {
                step.note(denial.audit.clone(), revoked(&denial.target, denial.reason.as_deref()));
            }
            let Some(debts) = step.make().await? else { continue };
            drop(turn);
            let entries = self.settle(bucket, debts).await?;
            self.life.current(&began)?;
            return entry_at(&entries, 0).map(Some);
        }
        Err(StoreError::Busy)
    }

    /// Denies one session or one token, which is the target of `denial`, by its name. `of`: whose it is, and how many such
    /// entries that subject may have; beyond it, a cut-off of its tokens stands for this one. To be asked only for what
    /// the log does not deny as long already. `None`: it is asked for up to an instant in the future.
    pub(super) async fn deny_single(
        &self,
        denial: Denial,
        of: Option<(SubjectRef, u32)>,
    ) -> Result<Option<Entry>, StoreError> {
        match of {
            Some((subject, most)) if self.node.singles(subject, self.clock.now()) >= most => {
                if !self.say_denied(&denial).await? {
                    return Ok(None);
                }
                self.cut_for_single(subject, most, denial).await.map(Some)
            }
            _ => self.enter_single(denial, of.map(|(subject, _)| subject)).await,
        }
    }

    async fn enter_single(&self, denial: Denial, of: Option<SubjectRef>) -> Result<Option<Entry>, StoreError> {
        let (bucket, key) = self.place_of(&denial.target)?;
        // It depends on nothing that could move, so it needs no turn.
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let found = self.seen(began, self.look(bucket)).await?;
            let mut step = Step::new(self, bucket, &found);
            let new = step.entry_of(&denial);
            if new.before > step.cut_now() {
                return Ok(None);
            }
            step.also(|commit| commit.set_until(key.clone(), b"1", new.feed_until));
            step.enter(new);
            step.note(denial.audit.clone(), revoked(&denial.target, denial.reason.as_deref()));
            let Some(debts) = step.make().await? else { continue };
            of.into_iter().for_each(|subject| self.node.add_single(subject));
            let entries = self.settle(bucket, debts).await?;
            self.life.current(&began)?;
            return entry_at(&entries, 0).map(Some);
        }
        Err(StoreError::Busy)
    }

    async fn cut_for_single(&self, subject: SubjectRef, most: u32, denial: Denial) -> Result<Entry, StoreError> {
        let bucket = Bucket::of_subject(subject);
        let turn = self.node.turn(bucket).await?;
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let mut found = self.seen(began, self.look_at_cuts(self.look(bucket), subject)).await?;
            let cuts = found.cuts(subject)?;
            let mut step = Step::new(self, bucket, &found);
            let new = step.entry_of(&denial);
            step.single(&cuts, most, new);
            step.note(denial.audit.clone(), revoked(&denial.target, denial.reason.as_deref()));
            let Some(debts) = step.make().await? else { continue };
            drop(turn);
            let entries = self.settle(bucket, debts).await?;
            self.life.current(&began)?;
            return entry_at(&entries, 0);
        }
        Err(StoreError::Busy)
    }

    /// Where a single session or token lies, and the key by which others ask for it.
    fn place_of(&self, target: &Target) -> Result<(Bucket, Vec<u8>), StoreError> {
        match target {
            Target::Token(id) => Ok((Bucket::of_token(*id), self.layout.denied_token(*id))),
            Target::Session(id) => Ok((Bucket::of_session(*id), self.layout.denied_session(*id))),
            _ => Err(StoreError::Failed("this is no single session or token".into())),
        }
    }

    /// For those who ask Redis itself: they know nothing of cut-offs.
    async fn say_denied(&self, denial: &Denial) -> Result<bool, StoreError> {
        let (bucket, key) = self.place_of(&denial.target)?;
        let began = self.begin().await?;
        let found = self.seen(began, self.look(bucket)).await?;
        let mut step = Step::new(self, bucket, &found);
        let new = step.entry_of(denial);
        if new.before > step.cut_now() {
            return Ok(false);
        }
        step.also(|commit| commit.set_until(key, b"1", new.feed_until));
        if step.make().await?.is_none() {
            return Err(StoreError::Busy);
        }
        self.life.current(&began).map(|()| true)
    }

    /// The instant for a client's own token: later than any cut-off that applies to it.
    pub(super) async fn fresh_stamp(
        &self,
        subject: SubjectRef,
        client: &ClientId,
        audit: Draft,
    ) -> Result<Timestamp, StoreError> {
        let bucket = Bucket::of_subject(subject);
        let turn = self.node.turn(bucket).await?;
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let (began, look) = (self.begin().await?, self.look_at_cuts(self.look(bucket), subject));
            let (mut found, hub) = tokio::try_join!(self.seen(began, look), self.hub_cuts(began, client))?;
            let cuts = found.cuts(subject)?;
            let mut step = Step::new(self, bucket, &found);
            let at = step.fresh_stamp(&cuts, hub);
            let (event, outcome) = (Event::ClientToken, Outcome::Done);
            step.note(audit.clone(), Happened { event, outcome, session: None, generation: None, cause: None });
            let Some(debts) = step.make().await? else { continue };
            drop(turn);
            self.hand_over(bucket, debts);
            self.life.current(&began)?;
            return Ok(at);
        }
        Err(StoreError::Busy)
    }

    /// Until when a verifier and the issuer must know of a denial. `latest`: now, or the latest instant stamped if the
    /// clock was put back since: tokens were minted then that outlast those of today.
    pub(super) fn until(
        &self,
        target: &Target,
        ends: Ends,
        before: Timestamp,
        expires: Option<Timestamp>,
        latest: Timestamp,
    ) -> (Timestamp, Timestamp) {
        let (retention, older) = (self.options.retention, self.node.older());
        embedded::until(target, ends, before, expires, latest.max(self.node.stamped()), retention, older)
    }
}

impl Step<'_> {
    fn entry_of(&self, denial: &Denial) -> NewEntry {
        let Denial { target, ends, before, expires, reason, .. } = denial;
        let (target, ends, at) = (target.clone(), *ends, self.moment.now);
        let before = before.unwrap_or_else(|| self.cut_now());
        let (feed_until, kept_until) = self.until(&target, ends, before, *expires);
        NewEntry { target, ends, before, at, feed_until, kept_until, reason: reason.clone() }
    }
}

/// What the audit log says of a denial.
pub(super) fn revoked(target: &Target, reason: Option<&str>) -> Happened {
    let cause = Some(embedded::told(target, reason));
    Happened { event: Event::Revoked, outcome: Outcome::Done, session: None, generation: None, cause }
}

impl Owed {
    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("what is owed has no unsized maps, so it serialises")
    }

    /// What [`Commit::owe`] wrote down: its number, and what it is.
    pub(super) fn decode(row: &[u8]) -> Result<super::hub::Debt, StoreError> {
        let damaged = || StoreError::Damaged("what a bucket owes");
        let (number, rest) = row.split_first_chunk().ok_or_else(damaged)?;
        Ok((u64::from_be_bytes(*number), postcard::from_bytes(rest).map_err(|_| damaged())?))
    }
}

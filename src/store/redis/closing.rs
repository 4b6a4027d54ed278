//! Amending a family, closing one, closing all of a subject's but one.

use super::{
    Core,
    layout::Bucket,
    record::Record,
    step::{Made, Step, TRIES, entry_at},
    subjects::Cuts,
};
use crate::{
    model::{
        SessionId, Timestamp,
        audit::{Draft, Event},
        denial::{Ends, LEEWAY_AND_MARGIN, Target},
        family::Closure,
    },
    store::{
        Amended, ClosedFamily, ClosedOthers, Family, Others, StoreError,
        embedded::{Happened, done},
    },
};

impl Core {
    pub(super) async fn amend(
        &self,
        id: SessionId,
        seen: &[u8],
        sealed: &[u8],
        audit: Draft,
    ) -> Result<Amended, StoreError> {
        let bucket = Bucket::of_session(id);
        let turn = self.node.turn(bucket).await?;
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let (found, family) = self.family_and_cuts(began, id).await?;
            let mut step = Step::new(self, bucket, &found);
            let Some((mut record, _)) = family else { return Ok(Amended::Ended) };
            if record.family.lineage.ended(step.moment.now, false).is_some() {
                return Ok(Amended::Ended);
            }
            if record.family.sealed != seen {
                return Ok(Amended::Stale);
            }
            record.family.sealed = sealed.to_vec();
            step.put(&record);
            step.note(audit.clone(), done(Event::SessionAmended, id, None, None));
            let Some(debts) = step.make().await? else { continue };
            drop(turn);
            self.hand_over(bucket, debts);
            self.life.current(&began)?;
            return Ok(Amended::Done);
        }
        Err(StoreError::Busy)
    }

    pub(super) async fn close(
        &self,
        id: SessionId,
        cause: Closure,
        reason: Option<Box<str>>,
        audit: Draft,
    ) -> Result<ClosedFamily, StoreError> {
        let (mut id, mut bucket) = (id, Bucket::of_session(id));
        let mut turn = self.node.turn(bucket).await?;
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let (found, family) = self.family_and_cuts(began, id).await?;
            if family.is_none()
                && let Some(lead) = self.lead(began, id).await?
            {
                (id, bucket) = (lead.id, Bucket::of_session(lead.id));
                drop(turn);
                turn = self.node.turn(bucket).await?;
                continue;
            }
            let mut step = Step::new(self, bucket, &found);
            let known = family.as_ref().map(|(record, _)| record.clone());
            let (was_open, place) = match family {
                Some((record, cuts)) if record.family.lineage.closed.is_none() => {
                    self.list_as_ended(&mut step, &record).await?;
                    (true, step.close(record, &cuts, cause, reason.as_deref(), audit.clone()))
                }
                Some((record, cuts)) => (false, step.close_again(&record, &cuts, reason.as_deref())),
                None => (false, step.close_unknown(id, cause, reason.as_deref(), audit.clone())),
            };
            // Whoever closed it may not have heard of it, and remembers nothing.
            let said: Vec<_> = known.into_iter().filter(|_| !was_open).collect();
            if !was_open && place.is_none() {
                self.remember_closed(&said, step.moment.served).await?;
                self.life.current(&began)?;
                return Ok(ClosedFamily { was_open, entry: None });
            }
            let served = step.moment.served;
            let Some(debts) = step.make().await? else { continue };
            drop(turn);
            self.remember_closed(&said, served).await?;
            let entries = self.settle(bucket, debts).await?;
            self.life.current(&began)?;
            let entry = place.map(|place| entry_at(&entries, place)).transpose()?;
            return Ok(ClosedFamily { was_open, entry });
        }
        Err(StoreError::Busy)
    }

    pub(super) async fn close_others(&self, others: &Others) -> Result<ClosedOthers, StoreError> {
        let bucket = Bucket::of_subject(others.subject);
        let turn = self.node.turn(bucket).await?;
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let Some(made) = self.try_close_others(bucket, others).await? else { continue };
            let Made { began, outcome, debts } = made;
            let (mut done, places, said) = outcome;
            drop(turn);
            self.remember_closed(&said, began.moment().served).await?;
            let entries = if debts.is_empty() { Vec::new() } else { self.settle(bucket, debts).await? };
            self.life.current(&began)?;
            for place in places {
                done.feed_until = done.feed_until.max(Some(entry_at(&entries, place)?.feed_until));
            }
            return Ok(done);
        }
        Err(StoreError::Busy)
    }

    async fn try_close_others(
        &self,
        bucket: Bucket,
        others: &Others,
    ) -> Result<Option<Made<(ClosedOthers, Vec<usize>, Vec<Record>)>>, StoreError> {
        let subject = others.subject;
        let look = self.look_at_sessions(self.look_at_cuts(self.look(bucket), subject), subject);
        let began = self.begin().await?;
        let mut found = self.seen(began, look).await?;
        let (cuts, mut sessions) = (found.cuts(subject)?, found.sessions(subject)?);
        let until = match others.until {
            Some(until) => Some(until),
            None => self.last_of(began, &sessions).await?,
        };
        let mut ids = self.listed(began, &sessions, false, others.after, others.limit).await?;
        ids.retain(|id| until.is_some_and(|until| *id <= until));
        let is_more = ids.len() == others.limit && ids.last() != until.as_ref();
        let next = ids.last().copied().filter(|_| is_more);
        let mut step = Step::new(self, bucket, &found);
        let (mut outcome, mut places) = (ClosedOthers { next, until, ..ClosedOthers::default() }, Vec::new());
        // Those that were closed before: whoever did may not have heard of it, and remembers nothing.
        let mut said = Vec::new();
        for (id, record) in self.records(began, bucket, &ids).await? {
            let Some(record) = record.filter(|_| id != others.keep) else { continue };
            if is_over(&record.family, step.moment.now) {
                said.extend(Some(record).filter(|record| record.family.lineage.closed.is_some()));
                continue;
            }
            sessions.end(id);
            places.extend(step.close(record, &cuts, Closure::Revoked, others.reason.as_deref(), others.audit.clone()));
            outcome.closed += 1;
        }
        // Also if none was closed: what is opened meanwhile must not be passed over.
        sessions.put(&mut step);
        Ok(step.make().await?.map(|debts| Made { began, outcome: (outcome, places, said), debts }))
    }
}

impl Step<'_> {
    /// Closes one that is open. Gives the place of the entry that denies its tokens.
    fn close(
        &mut self,
        mut record: Record,
        cuts: &Cuts,
        cause: Closure,
        reason: Option<&str>,
        audit: Draft,
    ) -> Option<usize> {
        let Family { id, lineage, .. } = &mut record.family;
        let (id, access_until) = (*id, lineage.access_until);
        lineage.close(cause, self.moment);
        self.put(&record);
        let place = self.deny_session(id, Some(cuts), Some(access_until), reason.map(Into::into));
        self.note(audit, closed(id, cause, reason));
        place
    }

    /// Closing again what is closed and denied leaves no trace: otherwise it would be a way to fill the log. Whoever asks
    /// is told of the entry that is there.
    fn close_again(&mut self, record: &Record, cuts: &Cuts, reason: Option<&str>) -> Option<usize> {
        let Family { id, lineage, subject, .. } = &record.family;
        self.as_seen(record);
        let many = cuts.of(Ends::Tokens).filter(|cut| {
            cut.before > lineage.last_used && cut.feed_until >= lineage.access_until.plus(LEEWAY_AND_MARGIN)
        });
        let Some(cut) = many else {
            return self.deny_session(*id, None, Some(lineage.access_until), reason.map(Into::into));
        };
        if cut.feed_until <= self.core.node.expired_by(&*self.core.clock) {
            return None;
        }
        Some(self.enter_again(Target::Subject(*subject), Ends::Tokens, cut))
    }

    /// One that is not known is denied all the same, for the longest life that a token of it could have.
    fn close_unknown(&mut self, id: SessionId, cause: Closure, reason: Option<&str>, audit: Draft) -> Option<usize> {
        let families = self.core.layout.families(self.bucket);
        self.also(|commit| commit.field_is(families, id.as_bytes(), None));
        let place = self.deny_session(id, None, None, reason.map(Into::into))?;
        self.note(audit, closed(id, cause, reason));
        Some(place)
    }
}

fn closed(id: SessionId, cause: Closure, reason: Option<&str>) -> Happened {
    let word = if cause == Closure::LoggedOut { "logged_out" } else { "session" };
    let cause = reason.map_or_else(|| word.into(), |reason| format!("{word}: {reason}").into());
    done(Event::Revoked, id, None, Some(cause))
}

/// Whether it has ended and none of its tokens can be alive: then there is nothing to close.
fn is_over(family: &Family, now: Timestamp) -> bool {
    let lineage = &family.lineage;
    // A closed one was denied in the step that closed it.
    let ended = lineage.ended(now, false).is_some();
    lineage.closed.is_some() || (ended && lineage.access_until.plus(LEEWAY_AND_MARGIN) <= now)
}

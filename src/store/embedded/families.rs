//! Family steps: each applies the rule of [`crate::model::family`] and writes what it says.

use std::time::Duration;

use redb::ReadableTable;

use super::{
    denials::Index,
    expiry::Due,
    tables::{Happened, Step, failed, subject_key},
};
use crate::{
    model::{
        SessionId,
        audit::{Draft, Event, Outcome},
        denial::{Ends, Entry, Retention},
        family::{Closure, Facts, Generation, Lineage, Moment, Refusal, Served, Standing, Verdict, judge},
    },
    store::{Amended, ClosedFamily, Family, HeldBack, Opened, Opening, Presentation, Presented, StoreError},
};

/// A refusal of one family is noted once in this time, however often it is repeated.
pub(in crate::store) const REFUSALS_NOTED_EVERY: Duration = Duration::from_secs(60);
/// How many families' refusals are remembered for that; beyond it they are noted more often, never less.
pub(in crate::store) const NOTED_CAP: usize = 4096;

impl Step<'_> {
    pub(super) fn open_family(&mut self, opening: Opening, retention: Retention) -> Result<Opened, StoreError> {
        if let Some(cap) = opening.cap
            && !self.make_room(&opening, cap, retention)?
        {
            return Ok(Opened::Full);
        }
        let at = self.fresh_stamp(opening.subject, &opening.client)?;
        let id = SessionId::new(at, &opening.random);
        if self.families.get(id.as_bytes()).map_err(failed)?.is_some() {
            return Err(StoreError::Failed("this session id is taken; random numbers repeat".into()));
        }
        let lineage = Lineage::open(Moment { now: at, ..self.moment }, &opening.lives);
        let sealed = (opening.seal)(id, lineage.absolute_until);
        let family = Family { id, lineage, key: opening.key, subject: opening.subject, sealed };
        self.put_family(&family)?;
        self.subjects.insert(subject_key(family.subject, id), ()).map_err(failed)?;
        self.open.insert(subject_key(family.subject, id), opening.client.as_str().as_bytes()).map_err(failed)?;
        self.schedule(family.lineage.idle_until, Due::Family(id))?;
        self.note(opening.audit, done(Event::SessionOpened, id, Some(Generation(0)), None))?;
        Ok(Opened::Family(family))
    }

    pub(super) fn present(
        &mut self,
        p: Presentation,
        standing: Standing,
        retention: Retention,
    ) -> Result<Presented, StoreError> {
        let mut family = self.family(p.id)?;
        let cut_off = p.id.stamp() < self.cut_before(p.subject, &p.client, Ends::Sessions)?;
        let verdict = judge(&Facts {
            tag: true,
            key: true,
            standing,
            lineage: family.as_ref().map(|f| &f.lineage),
            secret: p.secret,
            cut_off,
            holder: p.holder,
            generation: p.generation,
            moment: self.moment,
            window: p.lives.retry_window,
        });
        let success = matches!(verdict, Verdict::Rotate | Verdict::Retry | Verdict::Heal);
        let stale = family.as_ref().is_some_and(|f| f.sealed != p.seen);
        let held_back = match () {
            () if success && stale => Some(HeldBack::Stale),
            () if success && p.wide => Some(HeldBack::Wide),
            () => None,
        };
        let mut presented = Presented { verdict, held_back, family: None, at: self.moment.now };
        if let Some(family) = family.as_mut().filter(|_| held_back.is_none()) {
            presented.at = self.carry_out(family, verdict, p, retention)?;
        }
        presented.family = family;
        Ok(presented)
    }

    fn carry_out(
        &mut self,
        family: &mut Family,
        verdict: Verdict,
        p: Presentation,
        retention: Retention,
    ) -> Result<crate::model::Timestamp, StoreError> {
        let (id, generation) = (p.id, Some(p.generation));
        let mut at = self.moment.now;
        let happened = match verdict {
            Verdict::Unavailable(_) => return Ok(at),
            Verdict::Refused(refusal) => return self.note_refusal(p, refusal).map(|()| at),
            Verdict::Close(cause) => {
                family.lineage.apply(verdict, p.generation, self.moment, &p.lives);
                let access_until = Some(family.lineage.access_until);
                self.deny_session(id, Some(family.subject), access_until, retention, None)?;
                let cause = reuse_told(&family.lineage, cause, p.generation, self.moment.served);
                Happened {
                    event: Event::Reused,
                    outcome: Outcome::Closed,
                    session: Some(id),
                    generation,
                    cause: Some(cause),
                }
            }
            Verdict::Rotate | Verdict::Retry | Verdict::Heal => {
                at = self.fresh_stamp(p.subject, &p.client)?;
                let first = verdict != Verdict::Retry || family.lineage.stamps[0].rotated == Served::NOT_YET;
                family.lineage.apply(verdict, p.generation, Moment { now: at, ..self.moment }, &p.lives);
                self.first_answer = first.then_some((id, family.lineage.head));
                let event = match verdict {
                    Verdict::Rotate => Event::Refreshed,
                    Verdict::Retry => Event::Retried,
                    _ => Event::Healed,
                };
                done(event, id, generation, None)
            }
        };
        self.put_family(family)?;
        self.note(p.audit, happened)?;
        Ok(at)
    }

    /// A rotation that was made but whose first answer never left: its window begins when one does.
    pub(super) fn unanswered(&mut self, id: SessionId, head: Generation) -> Result<(), StoreError> {
        match self.family(id) {
            Err(StoreError::Failed(why)) => Err(StoreError::Failed(why)),
            // Another head: the rotation was not durable after all.
            Ok(Some(mut family)) if family.lineage.head == head => {
                family.lineage.unanswered();
                self.put_family(&family)
            }
            _ => Ok(()),
        }
    }

    fn note_refusal(&mut self, p: Presentation, refusal: Refusal) -> Result<(), StoreError> {
        let now = self.moment.now;
        if self.clerk.noted.refusals.get(&p.id).is_some_and(|at| now.since(*at) < REFUSALS_NOTED_EVERY) {
            return Ok(());
        }
        if self.clerk.noted.refusals.len() >= NOTED_CAP {
            self.clerk.noted.refusals.clear();
        }
        self.clerk.noted.refusals.insert(p.id, now);
        let cause = serde_json::to_value(refusal).ok().and_then(|v| v.as_str().map(Into::into));
        self.note(
            p.audit,
            Happened {
                event: Event::Refused,
                outcome: Outcome::Refused,
                session: Some(p.id),
                generation: Some(p.generation),
                cause,
            },
        )
    }

    pub(super) fn amend(
        &mut self,
        id: SessionId,
        seen: &[u8],
        sealed: Vec<u8>,
        audit: Draft,
    ) -> Result<Amended, StoreError> {
        let Some(mut family) = self.family(id)? else { return Ok(Amended::Ended) };
        if family.lineage.ended(self.moment.now, false).is_some() {
            return Ok(Amended::Ended);
        }
        if family.sealed != seen {
            return Ok(Amended::Stale);
        }
        family.sealed = sealed;
        self.put_family(&family)?;
        self.note(audit, done(Event::SessionAmended, id, None, None))?;
        Ok(Amended::Done)
    }

    pub(super) fn close(
        &mut self,
        id: SessionId,
        cause: Closure,
        reason: Option<Box<str>>,
        audit: Draft,
        retention: Retention,
    ) -> Result<ClosedFamily, StoreError> {
        let family = self.family(id)?;
        let expires = family.as_ref().map(|f| f.lineage.access_until);
        let subject = family.as_ref().map(|f| f.subject);
        let mut was_open = false;
        if let Some(mut family) = family
            && family.lineage.close(cause, self.moment)
        {
            was_open = true;
            self.put_family(&family)?;
        }
        let held = self.dirty;
        let entry: Option<Entry> = self.deny_session(id, subject, expires, retention, reason.clone())?;
        // Closing again what is closed and denied leaves no trace: otherwise it would be a way to fill the log.
        if was_open || (self.dirty && !held) {
            let word = if cause == Closure::LoggedOut { "logged_out" } else { "session" };
            let cause = reason.map_or_else(|| word.into(), |r| format!("{word}: {r}").into());
            self.note(audit, done(Event::Revoked, id, None, Some(cause)))?;
        }
        Ok(ClosedFamily { was_open, entry })
    }
}

/// For the event that tells of a closing: what came, and how long ago it had been spent.
pub(in crate::store) fn reuse_told(lineage: &Lineage, cause: Closure, presented: Generation, now: Served) -> Box<str> {
    let head = lineage.head.0;
    let spent = lineage.spent_for(presented, now).map_or_else(
        || "not spent".to_owned(),
        |(least, time)| format!("spent {}{} s ago", if least { "at least " } else { "" }, time.as_secs()),
    );
    format!("{cause:?}: generation {} of {head}, {spent}", presented.0).into()
}

pub(in crate::store) fn done(
    event: Event,
    session: SessionId,
    generation: Option<Generation>,
    cause: Option<Box<str>>,
) -> Happened {
    Happened { event, outcome: Outcome::Done, session: Some(session), generation, cause }
}

//! Presenting a refresh token: the rule of [`crate::model::family`] is applied, and what it says is written.
//!
//! Two trips: a look (at the bucket and at the hub, at once), and a change (beside which the hub is looked at again). The
//! look is made before the token's secret can be checked, because what it is checked by is in the record; what is decided
//! by it is written only if nothing of it has moved. A session that was left here as the token says it is need not be looked
//! at: then it is one trip.

use std::fmt;

use super::{
    Core,
    hub::{Debt, HubCuts},
    layout::Bucket,
    life::Began,
    moved::Lead,
    node::Unsure,
    record::Record,
    step::{Footing, Made, Step, TRIES},
    subjects::Cuts,
};
use crate::{
    model::{
        ClientId, SessionId,
        audit::{Event, Outcome},
        denial::Ends,
        family::{Facts, Generation, Lineage, Moment, Refusal, Served, Standing, Verdict, judge},
    },
    store::{
        Family, HeldBack, Presentation, Presented, StoreError,
        embedded::{Happened, done, reuse_told},
    },
};

/// What one look has seen of a family and of whatever cuts it off.
#[derive(Clone)]
pub struct Sight {
    footing: Footing,
    family: Option<(Record, Cuts)>,
    basis: Basis,
    hub: HubCuts,
    /// Whose cut-offs the hub was asked for.
    client: ClientId,
    /// Where it went, if it was asked for by the id that it had elsewhere.
    lead: Option<Lead>,
}

/// What of it was looked at. Whatever was not, the change depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// All.
    Seen,
    /// Not whether the subject is cut off: it is supposed not to be.
    Supposed,
    /// Nothing: the session is supposed to be as this node left it.
    Remembered,
}

impl Sight {
    /// If the session was asked for by the id that it had in another store: its newest generation there. Tokens up to that
    /// were handed out under that id.
    #[must_use]
    pub fn moved_at(&self) -> Option<Generation> {
        self.lead.map(|lead| lead.head)
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sight")
    }
}

impl Core {
    /// Looks at a family for this client to present a token of this generation next.
    pub(super) async fn sight(
        &self,
        id: SessionId,
        generation: Generation,
        client: ClientId,
    ) -> Result<Option<(Family, Sight)>, StoreError> {
        let began = self.begin().await?;
        let mut sight = match self.remember(began, id, generation, &client) {
            Some(sight) => sight,
            None => self.sight_of(began, id, client).await?,
        };
        if sight.family.is_none()
            && let Some(lead) = self.lead(began, id).await?
        {
            sight = Sight { lead: Some(lead), ..self.sight_of(began, lead.id, sight.client).await? };
        }
        self.life.current(&sight.footing.began)?;
        Ok(sight.family.as_ref().map(|(record, _)| record.family.clone()).map(|family| (family, sight)))
    }

    /// As it was left here, if it may be so still.
    fn remember(&self, began: Began, id: SessionId, generation: Generation, client: &ClientId) -> Option<Sight> {
        if began.standing() != Standing::Whole || self.node.knows_of_cuts(id) {
            return None;
        }
        let hub = self.hub.cuts_of_late(&began, client, self.clock.monotonic())?;
        let record = self.life.heads.left_at(id, generation)?;
        let nothing = Cuts::none(record.family.subject);
        let footing = Footing { began, stamped: self.node.stamped() };
        let (family, client) = (Some((record, nothing)), client.clone());
        Some(Sight { footing, family, basis: Basis::Remembered, hub, client, lead: None })
    }

    async fn sight_of(&self, began: Began, id: SessionId, client: ClientId) -> Result<Sight, StoreError> {
        match self.node.knows_of_cuts(id) {
            false => self.glance_at_family(began, id, client).await,
            true => self.look_at_family(began, id, client).await,
        }
    }

    /// As if nothing cut its subject off, which is what the change depends on then.
    async fn glance_at_family(&self, began: Began, id: SessionId, client: ClientId) -> Result<Sight, StoreError> {
        let seen = tokio::try_join!(self.record_alone(began, id), self.hub_cuts(began, &client));
        let ((footing, record), hub) = seen?;
        let family = record.map(|record| {
            let nothing = Cuts::none(record.family.subject);
            (record, nothing)
        });
        Ok(Sight { footing, family, basis: Basis::Supposed, hub, client, lead: None })
    }

    async fn look_at_family(&self, began: Began, id: SessionId, client: ClientId) -> Result<Sight, StoreError> {
        let ((found, family), hub) = tokio::try_join!(self.family_and_cuts(began, id), self.hub_cuts(began, &client))?;
        if family.as_ref().is_some_and(|(_, cuts)| !cuts.is_empty()) {
            self.node.learn_of_cuts(id);
        }
        Ok(Sight { footing: found.footing, family, basis: Basis::Seen, hub, client, lead: None })
    }

    pub(super) async fn present(&self, mut p: Presentation) -> Result<Presented, StoreError> {
        let bucket = Bucket::of_session(p.id);
        let seen = p.sight.take().filter(|sight| sight.client == p.client);
        let turn = self.node.turn_now(bucket);
        // Whoever has the turn changes what was seen.
        if let Some(sight) = seen.filter(|_| turn.is_some()) {
            let remembered = sight.basis == Basis::Remembered;
            if let Some((made, unsure)) = self.try_present(sight, bucket, &p).await? {
                drop(turn);
                return self.acknowledge(bucket, made, unsure).await;
            }
            if remembered {
                self.life.heads.moved_elsewhere(p.id);
            }
        }
        let turn = match turn {
            Some(turn) => turn,
            None => self.node.turn(bucket).await?,
        };
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let sight = match self.begin().await {
                Ok(began) => self.look_at_family(began, p.id, p.client.clone()).await?,
                Err(error) => return self.in_doubt(&p).ok_or(error),
            };
            let Some((made, unsure)) = self.try_present(sight, bucket, &p).await? else { continue };
            drop(turn);
            return self.acknowledge(bucket, made, unsure).await;
        }
        Err(StoreError::Busy)
    }

    async fn acknowledge(
        &self,
        bucket: Bucket,
        made: Made<Presented>,
        unsure: Unsure<'_>,
    ) -> Result<Presented, StoreError> {
        let Made { began, outcome, debts } = made;
        match outcome.verdict {
            Verdict::Close(_) => drop(self.settle(bucket, debts).await?),
            _ => self.hand_over(bucket, debts),
        }
        self.life.current(&began)?;
        unsure.answered();
        Ok(outcome)
    }

    /// The rule's word where nothing that the store says is to be trusted, and nothing may be written to it.
    fn in_doubt(&self, p: &Presentation) -> Option<Presented> {
        let (standing, moment) = (self.life.standing(), self.life.moment(self.clock.now()));
        let verdict = self.verdict(p, standing, None, false, moment);
        (standing != Standing::Whole).then_some(Presented { verdict, held_back: None, family: None, at: moment.now })
    }

    fn verdict(
        &self,
        p: &Presentation,
        standing: Standing,
        lineage: Option<&Lineage>,
        cut_off: bool,
        moment: Moment,
    ) -> Verdict {
        judge(&Facts {
            tag: true,
            key: true,
            standing,
            lineage,
            secret: p.secret,
            cut_off,
            holder: p.holder,
            generation: p.generation,
            moment,
            window: p.lives.retry_window,
        })
    }

    async fn try_present(
        &self,
        sight: Sight,
        bucket: Bucket,
        p: &Presentation,
    ) -> Result<Option<(Made<Presented>, Unsure<'_>)>, StoreError> {
        let Sight { footing, family, basis, hub, .. } = sight;
        let began = footing.began;
        let step = Step::on(self, bucket, footing);
        let at = step.moment.now;
        let done =
            |presented| Ok(Some((Made { began, outcome: presented, debts: Vec::new() }, self.node.unsure(None))));
        let Some((mut record, cuts)) = family else {
            let verdict = self.verdict(p, began.standing(), None, false, step.moment);
            return done(Presented { verdict, held_back: None, family: None, at });
        };
        let seen = if basis == Basis::Remembered { record.encode() } else { record.begins().to_vec() };
        self.node.recall(p.id, &mut record.family.lineage);
        let lineage = &record.family.lineage;
        let cut_off = p.id.stamp() < cuts.before(Ends::Sessions).max(hub.sessions);
        let verdict = self.verdict(p, began.standing(), Some(lineage), cut_off, step.moment);
        let success = matches!(verdict, Verdict::Rotate | Verdict::Retry | Verdict::Heal);
        let held_back = match () {
            () if success && record.family.sealed != p.seen => Some(HeldBack::Stale),
            () if success && p.wide => Some(HeldBack::Wide),
            () => None,
        };
        // It depends on what it was decided by only where something is written.
        if basis != Basis::Seen && !(success && held_back.is_none()) {
            return Ok(None);
        }
        match verdict {
            _ if held_back.is_some() => done(Presented { verdict, held_back, family: Some(record.family), at }),
            Verdict::Unavailable(_) => done(Presented { verdict, held_back, family: Some(record.family), at }),
            Verdict::Refused(refusal) => {
                let debts = self.note_refusal(step, p, refusal).await?;
                let outcome = Presented { verdict, held_back, family: Some(record.family), at };
                Ok(debts.map(|debts| (Made { began, outcome, debts }, self.node.unsure(None))))
            }
            _ => self.carry_out(step, p, (&seen, record), &cuts, hub, verdict).await,
        }
    }

    async fn carry_out(
        &self,
        mut step: Step<'_>,
        p: &Presentation,
        (seen, mut record): (&[u8], Record),
        cuts: &Cuts,
        hub: HubCuts,
        verdict: Verdict,
    ) -> Result<Option<(Made<Presented>, Unsure<'_>)>, StoreError> {
        let mut at = step.moment.now;
        let mut first = None;
        let happened = if let Verdict::Close(cause) = verdict {
            let lineage = &mut record.family.lineage;
            lineage.apply(verdict, p.generation, step.moment, &p.lives);
            let told = reuse_told(lineage, cause, p.generation, step.moment.served);
            self.list_as_ended(&mut step, &record).await?;
            step.deny_session(p.id, Some(cuts), Some(record.family.lineage.access_until), None);
            let (event, outcome) = (Event::Reused, Outcome::Closed);
            Happened { event, outcome, session: Some(p.id), generation: Some(p.generation), cause: Some(told) }
        } else {
            at = step.next_stamp(cuts, hub);
            let lineage = &mut record.family.lineage;
            let is_first = verdict != Verdict::Retry || lineage.stamps[0].rotated == Served::NOT_YET;
            lineage.apply(verdict, p.generation, Moment { now: at, ..step.moment }, &p.lives);
            first = is_first.then_some((p.id, lineage.head));
            let event = match verdict {
                Verdict::Rotate => Event::Refreshed,
                Verdict::Retry => Event::Retried,
                _ => Event::Healed,
            };
            done(event, p.id, Some(p.generation), None)
        };
        step.note(p.audit.clone(), happened);
        // From here on it may have happened, whatever we hear.
        let unsure = self.node.unsure(first);
        let (began, bucket) = (step.began, step.bucket);
        let (made, hub) = match verdict {
            Verdict::Close(_) => {
                step.put(&record);
                (step.make().await, Ok(hub))
            }
            // A cut-off of the client or of everyone that was acknowledged before the change was made wins. One of the
            // subject lies in the bucket, and the change itself depends on it. One that comes later denies what is handed
            // out here: it is stamped already.
            _ => {
                let change = step.make_rotation((seen, record.next()), cuts, at);
                tokio::join!(change, self.hub_cuts(began, &p.client))
            }
        };
        let Some(debts) = made? else {
            unsure.answered();
            return Ok(None);
        };
        self.node.settled(p.id);
        let outcome = Presented { verdict, held_back: None, family: Some(record.family), at };
        let hub = match hub {
            Ok(hub) => hub,
            Err(error) => {
                self.hand_over(bucket, debts);
                return Err(error);
            }
        };
        let outcome = match outcome.is_success() {
            true if p.id.stamp() < hub.sessions => outcome.cut_off(),
            // What would be handed out is denied already. It is stamped anew, and nobody has had an answer.
            true if at < hub.tokens => {
                self.hand_over(bucket, debts);
                return Ok(None);
            }
            _ => outcome,
        };
        Ok(Some((Made { began, outcome, debts }, unsure)))
    }

    /// What nobody has ended is listed apart: this one leaves that list.
    pub(super) async fn list_as_ended(&self, step: &mut Step<'_>, record: &Record) -> Result<(), StoreError> {
        let subject = record.family.subject;
        let mut sessions =
            self.seen(step.began, self.look_at_sessions(self.look(step.bucket), subject)).await?.sessions(subject)?;
        sessions.end(record.family.id);
        sessions.put(step);
        Ok(())
    }

    async fn note_refusal(
        &self,
        mut step: Step<'_>,
        p: &Presentation,
        refusal: Refusal,
    ) -> Result<Option<Vec<Debt>>, StoreError> {
        let now = step.moment.now;
        if self.node.has_noted(p.id, now) {
            return Ok(Some(Vec::new()));
        }
        let cause = serde_json::to_value(refusal).ok().and_then(|v| v.as_str().map(Into::into));
        let (session, generation) = (Some(p.id), Some(p.generation));
        let (event, outcome) = (Event::Refused, Outcome::Refused);
        step.note(p.audit.clone(), Happened { event, outcome, session, generation, cause });
        let debts = step.make().await?;
        self.node.noted(p.id, now);
        Ok(debts)
    }
}

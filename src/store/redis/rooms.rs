//! How many sessions a subject has. Those that nobody has ended are listed apart, so that counting them takes no longer
//! for a subject that has opened and ended thousands.

use std::collections::HashMap;

use super::{Core, hub::HubCuts, index::Sessions, record::Record, step::Step, subjects::Cuts};
use crate::{
    model::{
        ClientId, SessionId, Timestamp,
        audit::{Draft, Event},
        denial::Ends,
        family::Closure,
        session::{OnFull, SessionCap},
    },
    store::{
        StoreError,
        embedded::{ENDED_PER_OPENING, done},
    },
};

/// How many of those that do not count any more one opening takes off the list, at most.
const TAKEN_OFF: usize = 1024;

/// Those of a subject that were found to go on, the oldest first, and those that are over.
#[derive(Default)]
struct Sitting {
    counted: Vec<Record>,
    over: Vec<SessionId>,
}

impl Core {
    /// Whether one more fits in, perhaps because the oldest are ended for it by the same step.
    pub(super) async fn make_room(
        &self,
        step: &mut Step<'_>,
        sessions: &mut Sessions,
        cuts: &Cuts,
        cap: SessionCap,
        (client, hub): (&ClientId, HubCuts),
        audit: &Draft,
    ) -> Result<bool, StoreError> {
        let most = cap.most.max(1);
        let mut known = HashMap::from([(client.clone(), hub.sessions)]);
        let sitting = self.sitting(step, sessions, cuts, most + ENDED_PER_OPENING, &mut known).await?;
        for id in sitting.over.into_iter().take(TAKEN_OFF) {
            sessions.end(id);
        }
        let too_many = (sitting.counted.len() + 1).saturating_sub(most);
        if too_many > 0 && cap.on_full == OnFull::Refuse {
            return Ok(false);
        }
        for mut oldest in sitting.counted.into_iter().take(too_many) {
            let (id, access_until) = (oldest.family.id, oldest.family.lineage.access_until);
            oldest.family.lineage.close(Closure::Displaced, step.moment);
            step.put(&oldest);
            sessions.end(id);
            step.deny_session(id, Some(cuts), Some(access_until), None);
            let cause = format!("displaced: the subject has {most} sessions");
            let draft = Draft { client: Some(oldest.client), ..audit.clone() };
            step.note(draft, done(Event::Revoked, id, None, Some(cause.into())));
        }
        Ok(true)
    }

    /// The oldest of the subject's sessions that go on, so many at most.
    async fn sitting(
        &self,
        step: &Step<'_>,
        sessions: &Sessions,
        cuts: &Cuts,
        most: usize,
        known: &mut HashMap<ClientId, Timestamp>,
    ) -> Result<Sitting, StoreError> {
        let mut sitting = Sitting::default();
        let mut after = None;
        loop {
            let ids = self.listed(step.began, sessions, true, after, most.max(64)).await?;
            let Some(last) = ids.last() else { return Ok(sitting) };
            after = Some(*last);
            for (id, record) in self.records(step.began, step.bucket, &ids).await? {
                let Some(record) = record else {
                    sitting.over.push(id);
                    continue;
                };
                let before = match known.get(&record.client) {
                    Some(before) => *before,
                    None => {
                        let before = self.hub_cuts(step.began, &record.client).await?.sessions;
                        known.insert(record.client.clone(), before);
                        before
                    }
                };
                // Cut off is for ever, so nobody need look at it again. Expired may be a clock that is ahead: it only does
                // not count.
                if id.stamp() < before.max(cuts.before(Ends::Sessions)) {
                    sitting.over.push(id);
                } else if record.family.lineage.ended(step.moment.now, false).is_none() {
                    sitting.counted.push(record);
                    if sitting.counted.len() == most {
                        return Ok(sitting);
                    }
                }
            }
        }
    }
}

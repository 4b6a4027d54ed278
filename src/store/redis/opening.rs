//! Opening a family.

use super::{
    Core,
    hub::Owed,
    layout::Bucket,
    record::Record,
    step::{Made, Step, TRIES},
};
use crate::{
    model::{
        SessionId,
        audit::Event,
        family::{Generation, Lineage, Moment},
    },
    store::{Family, Opened, Opening, StoreError, embedded::done},
};

impl Core {
    pub(super) async fn open(&self, opening: &Opening) -> Result<Opened, StoreError> {
        let bucket = Bucket::of_subject(opening.subject);
        let turn = self.node.turn(bucket).await?;
        for attempt in 0..TRIES {
            self.give_way(attempt).await;
            let Some(Made { began, outcome, debts }) = self.try_open(bucket, opening).await? else { continue };
            drop(turn);
            let revokes = debts.iter().any(|(_, owed)| matches!(owed, Owed::Deny(_)));
            match revokes {
                true => drop(self.settle(bucket, debts).await?),
                false => self.hand_over(bucket, debts),
            }
            self.life.current(&began)?;
            return Ok(outcome);
        }
        Err(StoreError::Busy)
    }

    async fn try_open(&self, bucket: Bucket, opening: &Opening) -> Result<Option<Made<Opened>>, StoreError> {
        let subject = opening.subject;
        let began = self.begin().await?;
        let look = self.look_at_sessions(self.look_at_cuts(self.look(bucket), subject), subject);
        let (mut found, hub) = tokio::try_join!(self.seen(began, look), self.hub_cuts(began, &opening.client))?;
        let (cuts, mut sessions) = (found.cuts(subject)?, found.sessions(subject)?);
        let mut step = Step::new(self, bucket, &found);
        if let Some(cap) = opening.cap {
            let whose = (&opening.client, hub);
            if !self.make_room(&mut step, &mut sessions, &cuts, cap, whose, &opening.audit).await? {
                // What does not count any more leaves the list all the same; if somebody else was quicker, next time.
                sessions.put(&mut step);
                return Ok(step.make().await?.map(|debts| Made { began, outcome: Opened::Full, debts }));
            }
        }
        let at = step.fresh_stamp(&cuts, hub);
        let mut random = opening.random;
        bucket.take_in(&mut random);
        let id = SessionId::new(at, &random);
        let lineage = Lineage::open(Moment { now: at, ..step.moment }, &opening.lives);
        let sealed = (opening.seal)(id, lineage.absolute_until);
        let family = Family { id, lineage, key: opening.key, subject, sealed };
        let record = Record { version: 0, client: opening.client.clone(), family };
        sessions.enter(id);
        sessions.put(&mut step);
        let families = self.layout.families(bucket);
        step.also(|commit| {
            commit.field_is(families.clone(), id.as_bytes(), None).hset(families, id.as_bytes(), &record.encode())
        });
        step.moves(record.clone());
        step.note(opening.audit.clone(), done(Event::SessionOpened, id, Some(Generation(0)), None));
        if let Some(debts) = step.make().await? {
            return Ok(Some(Made { began, outcome: Opened::Family(record.family), debts }));
        }
        match self.records(began, bucket, &[id]).await?.pop() {
            Some((_, Some(_))) => Err(StoreError::Failed("this session id is taken; random numbers repeat".into())),
            _ => Ok(None),
        }
    }
}

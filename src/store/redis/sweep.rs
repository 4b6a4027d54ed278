//! Expiry: each node goes through the buckets in turn and removes what is of no more use. Nothing that is needed has a TTL,
//! which a server short of memory might take for leave to drop it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Core, RedisStore, commit::number, index::session_of, layout::Bucket, step::Step, subjects::Cut};
use crate::{
    model::{SessionId, SubjectRef, Timestamp},
    store::{StoreError, embedded::family_due},
};

/// How long a node rests before the next bucket: a round takes seven minutes and more.
const BETWEEN_BUCKETS: Duration = Duration::from_millis(100);
/// How long within a large one.
const WITHIN_BUCKET: Duration = Duration::from_millis(5);
/// How often the hub is looked at, in buckets.
const HUB_EVERY: u16 = 64;

/// Sweeps until the store is closed.
pub(super) async fn sweep(core: Weak<Core>) {
    for number in (0..super::layout::BUCKETS).cycle() {
        tokio::time::sleep(BETWEEN_BUCKETS).await;
        let Some(core) = core.upgrade() else { return };
        let swept = core.sweep_bucket(Bucket(number)).await;
        let hub = if number % HUB_EVERY == 0 { core.sweep_hub().await } else { Ok(()) };
        core.write_unanswered().await;
        // What cannot be swept now is swept in the next round. One record that cannot be read stays where it is.
        if let Err(error) = swept.and(hub) {
            tracing::debug!(%error, bucket = number, "a bucket cannot be swept");
        }
    }
}

impl Core {
    async fn sweep_hub(&self) -> Result<(), StoreError> {
        self.say_lives().await?;
        self.expire_assertions().await
    }

    /// Removes from a bucket what is of no more use.
    async fn sweep_bucket(self: &Arc<Self>, bucket: Bucket) -> Result<(), StoreError> {
        let mut cursor = b"0".to_vec();
        loop {
            let (began, by) = (self.begin().await?, self.node.expired_by(&*self.clock));
            let seconds = u32::try_from(by.seconds()).unwrap_or(u32::MAX);
            let look = self.look(bucket).records_due(self.layout.families(bucket), &cursor, seconds);
            let mut found = self.seen(began, look).await?.list()?.into_iter();
            cursor = found.next().ok_or(super::commit::UNREADABLE)?;
            for id in found {
                // One record that cannot be read must not keep all others from going. It stays.
                match self.expire_family(bucket, session_of(&id)?, by).await {
                    Err(error @ StoreError::Damaged(_)) => tracing::error!(%error, bucket = bucket.0, "it stays"),
                    other => other?,
                }
            }
            if cursor == b"0" {
                break;
            }
            tokio::time::sleep(WITHIN_BUCKET).await;
        }
        self.expire_cuts(bucket).await
    }

    async fn expire_family(&self, bucket: Bucket, id: SessionId, by: Timestamp) -> Result<(), StoreError> {
        let _turn = self.node.turn(bucket).await?;
        let (found, family) = self.family_and_cuts(self.begin().await?, id).await?;
        let Some((record, _)) = family.filter(|(record, _)| family_due(&record.family) <= by) else { return Ok(()) };
        let subject = record.family.subject;
        let mut step = Step::new(self, bucket, &found);
        step.as_seen(&record);
        self.remove(&mut step, subject, &[id]).await?;
        // Used or swept meanwhile: then it is looked at again in the next round.
        step.make().await.map(drop)
    }

    /// Removes families of one subject, and their places in its list.
    async fn remove(&self, step: &mut Step<'_>, subject: SubjectRef, ids: &[SessionId]) -> Result<(), StoreError> {
        let look = self.look_at_sessions(self.look(step.bucket), subject);
        let mut sessions = self.seen(step.began, look).await?.sessions(subject)?;
        let left = self.listed(step.began, &sessions, false, None, ids.len() + 1).await?;
        let is_last = left.iter().all(|id| ids.contains(id));
        let families = self.layout.families(step.bucket);
        for id in ids {
            sessions.remove(*id, is_last);
            step.also(|commit| commit.hdel(families.clone(), id.as_bytes()));
        }
        sessions.put(step);
        Ok(())
    }

    async fn expire_cuts(&self, bucket: Bucket) -> Result<(), StoreError> {
        let (began, by, key) = (self.begin().await?, self.node.expired_by(&*self.clock), self.layout.cuts(bucket));
        let look = self.look(bucket).hall(key.clone()).exists(self.layout.moved(bucket));
        let mut found = self.seen(began, look).await?;
        let (rows, some_came) = (found.list()?, number(&found.part()?)? > 0);
        let mut step = Step::new(self, bucket, &found);
        let mut any = false;
        for row in rows.chunks_exact(2) {
            if Cut::decode(&row[1])?.kept_until <= by {
                any = true;
                let key = key.clone();
                step.also(|commit| commit.field_is(key.clone(), &row[0], Some(&row[1])).hdel(key, &row[0]));
            }
        }
        if any {
            step.make().await?;
        }
        if some_came { self.expire_moved(bucket).await } else { Ok(()) }
    }

    /// Where sessions went that are over by now.
    async fn expire_moved(&self, bucket: Bucket) -> Result<(), StoreError> {
        let (key, mut cursor) = (self.layout.moved(bucket), b"0".to_vec());
        loop {
            let (began, by) = (self.begin().await?, self.node.expired_by(&*self.clock));
            let seconds = u32::try_from(by.seconds()).unwrap_or(u32::MAX);
            let mut found = self.seen(began, self.look(bucket).records_due(key.clone(), &cursor, seconds)).await?;
            let mut due = found.list()?.into_iter();
            cursor = due.next().ok_or(super::commit::UNREADABLE)?;
            if due.len() > 0 {
                let mut step = Step::new(self, bucket, &found);
                due.for_each(|id| step.also(|commit| commit.hdel(key.clone(), &id)));
                step.make().await?;
            }
            if cursor == b"0" {
                return Ok(());
            }
        }
    }

    /// Writes down which rotations were never answered, so that every node knows. What fails is tried again.
    async fn write_unanswered(&self) {
        for (id, head) in self.node.unanswered() {
            if let Err(error) = self.write_one_unanswered(id, head).await {
                tracing::debug!(%error, "that a rotation was not answered cannot be written yet");
                return;
            }
        }
    }

    async fn write_one_unanswered(
        &self,
        id: SessionId,
        head: crate::model::family::Generation,
    ) -> Result<(), StoreError> {
        let bucket = Bucket::of_session(id);
        let _turn = self.node.turn(bucket).await?;
        let (found, family) = self.family_and_cuts(self.begin().await?, id).await?;
        let Some((mut record, _)) = family else {
            self.node.settled(id);
            return Ok(());
        };
        match record.family.lineage.head.cmp(&head) {
            // Its successor has been used since.
            std::cmp::Ordering::Greater => {
                self.node.settled(id);
                return Ok(());
            }
            // It was not made, or is still on its way.
            std::cmp::Ordering::Less => return Ok(()),
            std::cmp::Ordering::Equal => {}
        }
        record.family.lineage.unanswered();
        let mut step = Step::new(self, bucket, &found);
        step.put(&record);
        if step.make().await?.is_some() {
            self.node.settled(id);
        }
        Ok(())
    }

    /// Removes the sessions of a subject that have been cut off, so many at most; says which.
    pub(super) async fn forget_sessions(&self, subject: SubjectRef, most: usize) -> Result<Vec<SessionId>, StoreError> {
        let bucket = Bucket::of_subject(subject);
        let _turn = self.node.turn(bucket).await?;
        for attempt in 0..super::step::TRIES {
            self.give_way(attempt).await;
            let began = self.begin().await?;
            let mut found = self.seen(began, self.look_at_sessions(self.look(bucket), subject)).await?;
            let sessions = found.sessions(subject)?;
            let ids = self.listed(began, &sessions, false, None, most).await?;
            if ids.is_empty() {
                return Ok(ids);
            }
            let mut step = Step::new(self, bucket, &found);
            self.remove(&mut step, subject, &ids).await?;
            if step.make().await?.is_some() {
                ids.iter().for_each(|id| self.life.heads.forget(*id));
                self.life.current(&began)?;
                return Ok(ids);
            }
        }
        Err(StoreError::Busy)
    }
}

impl RedisStore {
    /// Removes now what is of no more use and lies with this subject, in the hub, or in this node's journal: its turn in the
    /// sweep would come by itself.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_of(&self, subject: SubjectRef) -> Result<(), StoreError> {
        self.core.write_unanswered().await;
        self.core.sweep_bucket(Bucket::of_subject(subject)).await?;
        self.core.sweep_hub().await?;
        self.core.mirror.tidy().await
    }
}

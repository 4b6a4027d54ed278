//! What the rest asks of families: changes are steps, looks are answered by whoever may speak for the store.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Core, RedisStore, index::session_of, layout::Bucket, life::Began};
use crate::{
    model::{
        ClientId, SessionId, SubjectRef, Timestamp,
        audit::Draft,
        denial::Ends,
        family::{Closure, Generation, Moment, Standing},
    },
    store::{
        Amended, ClosedFamily, ClosedOthers, Family, FamilyStore, Opened, Opening, Others, Presentation, Presented,
        Sight, StoreError,
    },
};

/// Buckets that are looked at together where all are.
const TOGETHER: usize = 64;

impl Core {
    async fn find(&self, id: SessionId) -> Result<Option<Family>, StoreError> {
        let began = self.begin().await?;
        let mut record = self.record_alone(began, id).await?.1;
        if record.is_none()
            && let Some(lead) = self.lead(began, id).await?
        {
            record = self.record_alone(began, lead.id).await?.1;
        }
        self.life.current(&began)?;
        Ok(record.map(|record| record.family))
    }

    async fn of_subject(
        &self,
        subject: SubjectRef,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Family>, StoreError> {
        let bucket = Bucket::of_subject(subject);
        let began = self.begin().await?;
        let sessions = self.seen(began, self.look_at_sessions(self.look(bucket), subject)).await?.sessions(subject)?;
        let ids = self.listed(began, &sessions, false, after, limit).await?;
        let records = self.records(began, bucket, &ids).await?;
        self.life.current(&began)?;
        Ok(records.into_iter().filter_map(|(_, record)| Some(record?.family)).collect())
    }

    async fn count_of_subject(&self, subject: SubjectRef, cap: usize) -> Result<usize, StoreError> {
        let (began, bucket) = (self.begin().await?, Bucket::of_subject(subject));
        let look = self.look_at_sessions(self.look(bucket), subject);
        let sessions = self.seen(began, look).await?.sessions(subject)?;
        let ids = self.listed(began, &sessions, false, None, cap).await?;
        self.life.current(&began)?;
        Ok(ids.len())
    }

    async fn cut_off(&self, subject: SubjectRef, client: &ClientId, opened: Timestamp) -> Result<bool, StoreError> {
        let (began, bucket) = (self.begin().await?, Bucket::of_subject(subject));
        let look = self.look_at_cuts(self.look(bucket), subject);
        let (mut found, hub) = tokio::try_join!(self.seen(began, look), self.hub_cuts(began, client))?;
        let ours = found.cuts(subject)?.before(Ends::Sessions);
        self.life.current(&began)?;
        Ok(opened < ours.max(hub.sessions))
    }

    /// The ids of a bucket's families, in their order.
    async fn ids_in(&self, began: Began, bucket: Bucket) -> Result<Vec<SessionId>, StoreError> {
        let fields = self.seen(began, self.look(bucket).hkeys(self.layout.families(bucket))).await?.list()?;
        let mut ids: Vec<_> = fields.iter().map(|field| session_of(field)).collect::<Result<_, _>>()?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// Bucket by bucket, and in each in the order of their opening.
    async fn all(self: &Arc<Self>, after: Option<SessionId>, limit: usize) -> Result<Vec<Family>, StoreError> {
        let began = self.begin().await?;
        let first = after.map_or(Bucket(0), Bucket::of_session);
        let rest: Vec<_> = Bucket::all().filter(|bucket| *bucket >= first).collect();
        let mut families = Vec::new();
        for buckets in rest.chunks(TOGETHER) {
            for (bucket, ids) in self.ids_of(began, buckets).await? {
                let ids = ids.into_iter().filter(|id| bucket > first || after.is_none_or(|after| *id > after));
                let ids: Vec<_> = ids.take(limit - families.len()).collect();
                let records = self.records(began, bucket, &ids).await?;
                families.extend(records.into_iter().filter_map(|(_, record)| Some(record?.family)));
                if families.len() == limit {
                    self.life.current(&began)?;
                    return Ok(families);
                }
            }
        }
        self.life.current(&began)?;
        Ok(families)
    }

    async fn ids_of(
        self: &Arc<Self>,
        began: Began,
        buckets: &[Bucket],
    ) -> Result<Vec<(Bucket, Vec<SessionId>)>, StoreError> {
        let mut looks = JoinSet::new();
        for bucket in buckets.iter().copied() {
            let core = self.clone();
            looks.spawn(async move { core.ids_in(began, bucket).await.map(|ids| (bucket, ids)) });
        }
        let mut all: Vec<_> = looks.join_all().await.into_iter().collect::<Result<_, _>>()?;
        all.sort_unstable_by_key(|(bucket, _)| *bucket);
        Ok(all)
    }

    async fn oldest(self: &Arc<Self>) -> Result<Option<Timestamp>, StoreError> {
        let buckets: Vec<_> = Bucket::all().collect();
        let (began, mut oldest): (_, Option<SessionId>) = (self.begin().await?, None);
        for buckets in buckets.chunks(TOGETHER) {
            let firsts = self.ids_of(began, buckets).await?.into_iter().filter_map(|(_, ids)| ids.first().copied());
            oldest = firsts.chain(oldest).min();
        }
        self.life.current(&began)?;
        Ok(oldest.map(SessionId::stamp))
    }
}

impl FamilyStore for RedisStore {
    async fn open(&self, opening: Opening) -> Result<Opened, StoreError> {
        self.core.open(&opening).await
    }

    async fn present(&self, presentation: Presentation) -> Result<Presented, StoreError> {
        self.core.present(presentation).await
    }

    async fn sight(
        &self,
        id: SessionId,
        generation: Generation,
        client: ClientId,
    ) -> Result<Option<(Family, Option<Sight>)>, StoreError> {
        Ok(self.core.sight(id, generation, client).await?.map(|(family, sight)| (family, Some(sight))))
    }

    async fn amend(&self, id: SessionId, seen: Vec<u8>, sealed: Vec<u8>, audit: Draft) -> Result<Amended, StoreError> {
        self.core.amend(id, &seen, &sealed, audit).await
    }

    async fn close(
        &self,
        id: SessionId,
        cause: Closure,
        reason: Option<Box<str>>,
        audit: Draft,
    ) -> Result<ClosedFamily, StoreError> {
        self.core.close(id, cause, reason, audit).await
    }

    async fn close_others(&self, others: Others) -> Result<ClosedOthers, StoreError> {
        let keep = self.core.lead(self.core.begin().await?, others.keep).await?.map_or(others.keep, |lead| lead.id);
        self.core.close_others(&Others { keep, ..others }).await
    }

    async fn find(&self, id: SessionId) -> Result<Option<Family>, StoreError> {
        self.core.find(id).await
    }

    async fn of_subject(
        &self,
        subject: SubjectRef,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Family>, StoreError> {
        self.core.of_subject(subject, after, limit).await
    }

    async fn all(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<Family>, StoreError> {
        self.core.all(after, limit).await
    }

    async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.core.oldest().await
    }

    async fn count_of_subject(&self, subject: SubjectRef, cap: usize) -> Result<usize, StoreError> {
        self.core.count_of_subject(subject, cap).await
    }

    async fn cut_off(&self, subject: SubjectRef, client: ClientId, opened: Timestamp) -> Result<bool, StoreError> {
        self.core.cut_off(subject, &client, opened).await
    }

    fn standing(&self) -> Standing {
        self.core.life.standing()
    }

    fn moment(&self) -> Moment {
        self.core.life.moment(self.core.clock.now())
    }

    fn stamped(&self) -> Result<Timestamp, StoreError> {
        Ok(self.core.node.stamped())
    }
}

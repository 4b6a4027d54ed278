//! The denylist: what is denied is written in a bucket, or in the hub if it lies in none; what is asked is answered by this
//! node's mirror, once that is abreast of the hub.

use super::{
    Core, RedisStore,
    hub::{Answer, NewEntry, Order},
    life::Began,
};
use crate::{
    model::{
        ClientId, Kid, SubjectRef, Timestamp,
        audit::Draft,
        denial::{Bearer, Entry, Target},
        feed::{Epoch, Mark},
    },
    store::{Denial, DenyStore, LogPage, LogTail, Page, StoreError},
};

impl DenyStore for RedisStore {
    async fn deny(&self, denial: Denial) -> Result<Option<Entry>, StoreError> {
        self.core.deny(denial, None).await
    }

    async fn deny_of(&self, subject: SubjectRef, most: u32, denial: Denial) -> Result<Option<Entry>, StoreError> {
        self.core.deny(denial, Some((subject, most))).await
    }

    async fn denied(&self, bearer: Bearer) -> Result<bool, StoreError> {
        let began = self.core.abreast().await?;
        let denied = self.core.mirror.denied(bearer).await?;
        self.core.life.current(&began)?;
        Ok(denied)
    }

    async fn denied_key(&self, kid: &Kid) -> Result<bool, StoreError> {
        let began = self.core.abreast().await?;
        let denied = self.core.mirror.denied_key(kid).await?;
        self.core.life.current(&began)?;
        Ok(denied)
    }

    async fn entries(&self, after: u64, limit: usize) -> Result<Page, StoreError> {
        let began = self.core.abreast().await?;
        let page = self.core.mirror.entries(after, limit).await?;
        let entries = self.core.with_reasons(page.entries).await?;
        self.core.life.current(&began)?;
        Ok(Page { entries, ..page })
    }

    async fn tail(&self, after: Option<(Epoch, Mark)>, limit: u64) -> Result<LogTail, StoreError> {
        // The mirror is brought on by another connection, which may be behind while this node holds its lease.
        let began = self.core.begin().await?;
        self.core.come_abreast_together(&began).await?;
        let tail = self.core.mirror.tail(after, limit).await?;
        self.core.life.current(&began)?;
        Ok(tail)
    }

    async fn page(&self, page: u64) -> Result<Option<LogPage>, StoreError> {
        let began = self.core.readable().await?;
        let page = self.core.mirror.page(page).await?;
        self.core.life.current(&began)?;
        Ok(page)
    }

    async fn appended(&self, position: u64) -> u64 {
        self.core.mirror.appended(position).await
    }

    fn expired_by(&self) -> Timestamp {
        self.core.mirror.expired_by()
    }

    async fn stamp(&self, subject: SubjectRef, client: ClientId, audit: Draft) -> Result<Timestamp, StoreError> {
        self.core.fresh_stamp(subject, &client, audit).await
    }
}

impl Core {
    /// The mirror holds what the log held when this was asked.
    async fn abreast(&self) -> Result<Began, StoreError> {
        let began = self.begin().await?;
        self.come_abreast_together(&began).await?;
        Ok(began)
    }

    /// There is a log to be read.
    async fn readable(&self) -> Result<Began, StoreError> {
        let began = self.begin().await?;
        self.mirror.place()?.map(|_| began).ok_or(StoreError::Busy)
    }

    async fn deny(&self, denial: Denial, of: Option<(SubjectRef, u32)>) -> Result<Option<Entry>, StoreError> {
        match denial.target {
            Target::Subject(subject) => self.cut_subject(subject, denial).await,
            Target::Token(_) | Target::Session(_) => self.deny_unless_denied(denial, of).await,
            Target::Client(_) | Target::Key(_) | Target::All => {
                let began = self.begin().await?;
                let entry = match self.hub.order(Order::Deny(denial)).await? {
                    Answer::Entries(mut entries) => entries.pop(),
                    _ => None,
                };
                self.life.current(&began)?;
                Ok(entry)
            }
        }
    }

    /// Denying again what is denied as long leaves no trace: otherwise it would be a way to push others out of the log.
    async fn deny_unless_denied(
        &self,
        denial: Denial,
        of: Option<(SubjectRef, u32)>,
    ) -> Result<Option<Entry>, StoreError> {
        let began = self.begin().await?;
        // Tokens were minted until then, wherever it was.
        let stamped = self.come_abreast_together(&began).await?;
        self.node.stamp(stamped);
        let at = self.clock.now();
        let latest = at.max(self.node.stamped());
        let before = denial.before.unwrap_or(latest);
        let (feed_until, kept_until) = self.until(&denial.target, denial.ends, before, denial.expires, latest);
        let Denial { target, ends, reason, .. } = denial.clone();
        match self.mirror.standing(&NewEntry { target, ends, before, at, feed_until, kept_until, reason })? {
            Some(standing) => {
                let entry = self.with_reasons(vec![standing]).await?.pop();
                self.life.current(&began)?;
                Ok(entry)
            }
            None => self.deny_single(denial, of).await,
        }
    }
}

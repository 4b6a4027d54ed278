//! The feed as its readers see it: parts of it between marks, as of the last commit.

use redb::ReadOnlyTable;

use super::{
    EmbeddedStore, feed,
    tables::{FEED, META, SEALS, failed},
    verbs::table,
};
use crate::{
    model::{
        Timestamp,
        feed::{Digest, Epoch, Item, Mark, PAGE},
    },
    store::{LogPage, LogTail, StoreError},
};

/// One commit's feed, and the time by which it is complete.
struct Feed {
    rows: ReadOnlyTable<u64, &'static [u8]>,
    seals: ReadOnlyTable<u64, [u8; 32]>,
    epoch: Epoch,
    head: Mark,
    now: Timestamp,
}

impl EmbeddedStore {
    fn feed(&self) -> Result<Feed, StoreError> {
        self.whole()?;
        let txn = self.read()?;
        let missing = || StoreError::Damaged("feed");
        let meta = table(&txn, META)?.ok_or_else(missing)?;
        let epoch = Epoch(feed::epoch_of(&meta)?.to_be_bytes());
        let head = Mark { position: feed::head_position(&meta)?, digest: feed::head_digest(&meta)? };
        let rows = table(&txn, FEED)?.ok_or_else(missing)?;
        let seals = table(&txn, SEALS)?.ok_or_else(missing)?;
        // Read after the snapshot was taken: whatever a sweep has taken out of it had expired by then.
        Ok(Feed { rows, seals, epoch, head, now: self.shared.sweep_time() })
    }

    pub(super) fn tail_after(&self, after: Option<(Epoch, Mark)>, limit: u64) -> Result<LogTail, StoreError> {
        let feed = self.feed()?;
        let epoch = feed.epoch;
        let from = match after {
            Some((of, mark)) if of == epoch && feed.digest_at(mark.position)? == Some(mark.digest) => mark,
            _ => feed.last_seal()?,
        };
        let (entries, to) = feed.live_after(from, limit.min(PAGE))?;
        let Feed { head: Mark { position: head, .. }, now, .. } = feed;
        Ok(LogTail { epoch, from, to, head, first_page: feed.first_page()?, now, entries })
    }

    pub(super) fn history(&self, page: u64) -> Result<Option<LogPage>, StoreError> {
        let feed = self.feed()?;
        let last = feed.head.position / PAGE;
        if page >= last {
            return Ok(None);
        }
        // Pages without entries have no marks of their own: this one reaches to the next that has.
        let next = feed.first_row((page + 1) * PAGE)?.map_or(last, |position| feed::page_of(position).min(last));
        let (Some(from), Some(to)) = (feed.seal(page)?, feed.seal(next)?) else { return Ok(None) };
        let entries = feed.live(from.position, (page + 1) * PAGE)?.collect::<Result<_, _>>()?;
        Ok(Some(LogPage { epoch: feed.epoch, from, to, entries }))
    }
}

impl Feed {
    fn seal(&self, page: u64) -> Result<Option<Mark>, StoreError> {
        let digest = self.seals.get(page).map_err(failed)?;
        Ok(digest.map(|digest| Mark { position: page * PAGE, digest: Digest(digest.value()) }))
    }

    fn last_seal(&self) -> Result<Mark, StoreError> {
        self.seal(self.head.position / PAGE)?.ok_or(StoreError::Damaged("seal"))
    }

    /// What lies before the place after this position, if that is still known.
    fn digest_at(&self, position: u64) -> Result<Option<Digest>, StoreError> {
        if position >= self.head.position {
            return Ok((position == self.head.position).then_some(self.head.digest));
        }
        if let Some(row) = self.rows.get(position).map_err(failed)? {
            return feed::beyond(row.value()).map(Some);
        }
        if let Some(row) = self.rows.get(position + 1).map_err(failed)? {
            return feed::before(row.value()).map(Some);
        }
        if !position.is_multiple_of(PAGE) {
            return Ok(None);
        }
        Ok(self.seal(position / PAGE)?.map(|mark| mark.digest))
    }

    /// The first position after this one that has a row.
    fn first_row(&self, after: u64) -> Result<Option<u64>, StoreError> {
        let row = self.rows.range(after + 1..).map_err(failed)?.next().transpose().map_err(failed)?;
        Ok(row.map(|(position, _)| position.value()))
    }

    fn first_page(&self) -> Result<u64, StoreError> {
        let whole = self.head.position / PAGE;
        Ok(self.first_row(0)?.map_or(whole, |position| feed::page_of(position).min(whole)))
    }

    /// What denies something between two positions. What has expired and is not swept yet is passed over.
    fn live(&self, after: u64, to: u64) -> Result<impl Iterator<Item = Result<Item, StoreError>>, StoreError> {
        let rows = self.rows.range(after + 1..=to).map_err(failed)?;
        let items = rows.map(|row| {
            let (position, bytes) = row.map_err(failed)?;
            feed::item(position.value(), bytes.value())
        });
        Ok(items.filter(|item| item.as_ref().map_or(true, |item| item.until > self.now)))
    }

    /// The next entries, and how far they cover the feed.
    fn live_after(&self, from: Mark, limit: u64) -> Result<(Vec<Item>, Mark), StoreError> {
        let mut entries = Vec::new();
        for item in self.live(from.position, self.head.position)? {
            if entries.len() as u64 == limit {
                let Some(Item { position, .. }) = entries.last() else { return Ok((entries, from)) };
                let digest = self.digest_at(*position)?.ok_or(StoreError::Damaged("feed"))?;
                let to = Mark { position: *position, digest };
                return Ok((entries, to));
            }
            entries.push(item?);
        }
        Ok((entries, self.head))
    }
}

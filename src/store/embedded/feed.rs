//! The feed as the writer keeps it: what verifiers must know, chained by digests, apart from the log, which the issuer
//! keeps for longer.
//!
//! Each row holds the digest of all that lies before it, so a place in the feed can be checked as long as the entry at
//! it or the one after it is there. The boundaries of pages are sealed: their digests outlive the entries, for as long
//! as a page on either side has some, or nothing but the tail follows.

use std::collections::BTreeMap;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    expiry::Due,
    tables::{Bytes, Character, Step, decode, encode, failed},
};
use crate::{
    model::{
        Timestamp,
        denial::{Ends, Entry, Target},
        feed::{Digest, Item, PAGE},
    },
    store::StoreError,
};

/// What lies before the first position.
pub(in crate::store) const NOTHING: Digest = Digest([0; 32]);
/// Where [`super::tables::META`] holds the digest of the whole feed.
pub(super) const DIGEST: &str = "digest";

/// What follows the digest in a row. The digest of the next row covers these bytes, so their form never changes within
/// a schema.
#[derive(Serialize, Deserialize)]
struct Body {
    target: Target,
    ends: Ends,
    before: Timestamp,
    until: Timestamp,
}

pub(in crate::store) fn body_of(entry: &Entry) -> Vec<u8> {
    let Item { target, ends, before, until, .. } = Item::from(entry);
    encode(&Body { target, ends, before, until })
}

fn parts(row: &[u8]) -> Result<(Digest, &[u8]), StoreError> {
    let (digest, body) = row.split_first_chunk().ok_or(StoreError::Damaged("feed"))?;
    Ok((Digest(*digest), body))
}

/// What lies before a row.
pub(super) fn before(row: &[u8]) -> Result<Digest, StoreError> {
    Ok(parts(row)?.0)
}

/// What lies before whatever follows a row.
pub(super) fn beyond(row: &[u8]) -> Result<Digest, StoreError> {
    let (digest, body) = parts(row)?;
    Ok(chain(digest, body))
}

pub(in crate::store) fn chain(before: Digest, body: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update(before.0).chain_update(body).finalize().into())
}

/// What a row denies.
pub(super) fn item(position: u64, row: &[u8]) -> Result<Item, StoreError> {
    let Body { target, ends, before, until } = decode(parts(row)?.1, "feed")?;
    Ok(Item { position, target, ends, before, until })
}

/// The page that a position lies on.
pub(super) const fn page_of(position: u64) -> u64 {
    position.saturating_sub(1) / PAGE
}

/// The digest of the whole feed.
pub(super) fn head_digest(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<Digest, StoreError> {
    let row = meta.get(DIGEST).map_err(failed)?.ok_or(StoreError::Damaged(DIGEST))?;
    row.value().try_into().map(Digest).map_err(|_| StoreError::Damaged(DIGEST))
}

/// The last position given out.
pub(super) fn head_position(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<u64, StoreError> {
    meta.get("position").map_err(failed)?.map_or(Ok(0), |bytes| decode(bytes.value(), "position"))
}

/// Which life of the log this is.
pub(super) fn epoch_of(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<u128, StoreError> {
    let row = meta.get("character").map_err(failed)?.ok_or(StoreError::Damaged("character"))?;
    Ok(decode::<Character>(row.value(), "character")?.epoch)
}

impl Step<'_> {
    /// Appends to the feed what has just been appended to the log, behind what has this digest.
    pub(super) fn feed_on(&mut self, entry: &Entry, before: Digest) -> Result<(), StoreError> {
        let digest = self.put_row(entry, before)?;
        self.meta.insert(DIGEST, &digest.0[..]).map_err(failed)?;
        if entry.position.is_multiple_of(PAGE) {
            // The boundary before keeps its seal: this entry, at least, lies between the two.
            self.seals.insert(entry.position / PAGE, digest.0).map_err(failed)?;
        }
        self.head = Some(entry.position);
        Ok(())
    }

    /// One row, and when it leaves. Gives the digest that covers it.
    pub(super) fn put_row(&mut self, entry: &Entry, before: Digest) -> Result<Digest, StoreError> {
        let body = body_of(entry);
        self.feed.insert(entry.position, &[&before.0, &body[..]].concat()[..]).map_err(failed)?;
        // What leaves the log at the same time leaves both in one go.
        if entry.feed_until < entry.kept_until {
            self.schedule(entry.feed_until, Due::Feed(entry.position))?;
        }
        Ok(chain(before, &body))
    }

    /// Takes an entry out, and the seals that served it alone.
    pub(super) fn leave_feed(&mut self, position: u64) -> Result<(), StoreError> {
        if self.feed.remove(position).map_err(failed)?.is_none() {
            return Ok(());
        }
        self.feed_left += 1;
        let (page, last) = (page_of(position), head_position(&self.meta)? / PAGE);
        for seal in [page, page + 1] {
            let serves = seal == last || self.has_rows(seal)? || (seal > 0 && self.has_rows(seal - 1)?);
            if !serves {
                self.seals.remove(seal).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn has_rows(&self, page: u64) -> Result<bool, StoreError> {
        let positions = page * PAGE + 1..=(page + 1) * PAGE;
        Ok(self.feed.range(positions).map_err(failed)?.next().is_some())
    }

    /// Lays the feed out from the log: in a new store, and in one from before there was a feed. What has left the log
    /// since is passed over: nobody has followed yet.
    pub(super) fn lay_feed(&mut self) -> Result<(), StoreError> {
        let (now, head) = (self.moment.now, head_position(&self.meta)?);
        let mut live = Vec::new();
        for row in self.log.iter().map_err(failed)? {
            let entry: Entry = decode(row.map_err(failed)?.1.value(), "entry")?;
            if entry.feed_until > now {
                live.push(entry);
            }
        }
        let (mut digest, mut seals) = (NOTHING, BTreeMap::new());
        for entry in &live {
            let page = page_of(entry.position);
            seals.entry(page).or_insert(digest);
            digest = self.put_row(entry, digest)?;
            seals.insert(page + 1, digest);
        }
        seals.entry(head / PAGE).or_insert(digest);
        for (seal, digest) in seals.into_iter().filter(|(seal, _)| *seal <= head / PAGE) {
            self.seals.insert(seal, digest.0).map_err(failed)?;
        }
        self.meta.insert(DIGEST, &digest.0[..]).map_err(failed)?;
        Ok(())
    }
}

//! The parts of a store that lies on several servers: each can come back as of a time of its own, while the hub, which says
//! which store it is, lies on one of them alone. A single server, or one that Sentinels name, has no such parts.
//!
//! *Whether* a part has lost anything, the hub knows: it has taken over what each bucket's changes owe, by their numbers,
//! and no bucket has ever owed less than that. *Since when*, the part itself says: nodes write into one bucket of each
//! server how far the time served has come, as the hub holds it for its own. A part in which nothing happened, or that nobody
//! could write to, has lost nothing, however long ago that was.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::task::JoinSet;

use super::{
    super::{
        Core,
        commit::{Commit, Look, Seen, UNREADABLE, maybe, number},
        hub::drained_numbers,
        layout::Bucket,
    },
    push::{AT_ONCE, each},
};
use crate::{
    model::{
        Timestamp,
        family::Served,
        reign::{self, Parts},
    },
    store::StoreError,
};

/// Beats within the time of a lease.
const BEATS: u32 = 4;
/// Where a bucket's meta holds how far the time served had come, and at which time of day: as the hub's does.
const SERVED: &[u8] = b"served";
const RAISED: &[u8] = b"raised";

/// What a bucket says of itself.
#[derive(Clone, Copy, Debug)]
struct Said {
    place: usize,
    bucket: Bucket,
    is_marked: bool,
    owed: u64,
    beat: (Served, Timestamp),
}

/// What became of the parts. Before anything is marked: whoever comes after that finds nothing any more.
pub(super) async fn look(core: &Arc<Core>, life: &reign::Life) -> Result<Parts, StoreError> {
    // Only what has been whole was marked all over; and what an operator knows need not be told again.
    if life.dated == Timestamp::default() || life.doubt.is_some() {
        return Ok(Parts::default());
    }
    let drained = Look::default().hall(core.layout.hub("drained")).ask(&core.link.urgent()).await?;
    let drained = drained_numbers(drained.parts.first().ok_or(UNREADABLE)?)?;
    let (places, said) = (core.places(), Arc::new(Mutex::new(Vec::new())));
    each(AT_ONCE, core, Bucket::all().zip(places.buckets), |core, (bucket, place)| {
        let said = said.clone();
        async move {
            let (meta, look) = (core.layout.meta(bucket), Look::default());
            let look = look.hget(meta.clone(), b"life").hget(meta.clone(), b"owed");
            let seen = look.hget(meta.clone(), SERVED).hget(meta, RAISED).ask(&core.link.urgent()).await?;
            said.lock().unwrap_or_else(PoisonError::into_inner).push(Said::read(bucket, place, &seen)?);
            Ok(())
        }
    })
    .await?;
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(judge(&said, &drained, places.hub))
}

/// `hub`: where the hub is. How far that one reaches, the life says.
fn judge(said: &[Said], drained: &HashMap<Bucket, u64>, hub: usize) -> Parts {
    let mut parts: HashMap<usize, (bool, (Served, Timestamp))> = HashMap::new();
    for Said { place, bucket, is_marked, owed, beat } in said {
        let (lacks, newest) = parts.entry(*place).or_default();
        *lacks |= *is_marked && drained.get(bucket).is_some_and(|drained| drained > owed);
        *newest = (*newest).max(*beat);
    }
    let behind = parts.iter().filter(|(place, (lacks, _))| *lacks && **place != hub);
    let reached = behind.map(|(_, (_, newest))| *newest).min();
    Parts { emptied: said.iter().any(|said| !said.is_marked), reached }
}

impl Said {
    fn read(bucket: Bucket, place: usize, seen: &Seen) -> Result<Self, StoreError> {
        let [life, owed, served, raised] = &seen.parts[..] else { return Err(UNREADABLE) };
        let read = |part| maybe(part).and_then(|some| some.map_or(Ok(0), |_| number(part)));
        let beat = (Served(read(served)?), Timestamp::from_millis(read(raised)?));
        Ok(Self { place, bucket, is_marked: maybe(life)?.is_some(), owed: read(owed)?, beat })
    }
}

/// Which buckets are on the same server: alike where they are.
struct Places {
    hub: usize,
    buckets: Vec<usize>,
}

impl Core {
    fn places(&self) -> Places {
        let metas = Bucket::all().map(|bucket| self.layout.meta(bucket));
        let mut buckets = self.link.places(&metas.chain([self.layout.hub("meta")]).collect::<Vec<_>>());
        Places { hub: buckets.pop().unwrap_or_default(), buckets }
    }

    /// Says in a bucket how far the time served has come, unless somebody has said so a moment ago.
    async fn beat_in(&self, bucket: Bucket) -> Result<(), StoreError> {
        let (began, meta) = (self.begin().await?, self.layout.meta(bucket));
        let seen = self.seen(began, self.look(bucket).hget(meta.clone(), SERVED)).await?.value()?;
        // It is a server of this life that has answered. Should another take its place from here on, with what was saved
        // before this, then nothing is written: or that was saved a moment ago.
        self.life.current(&began)?;
        let last = seen.as_deref().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or(0);
        let served = began.moment().served;
        if served.since(Served(last)) < self.options.lease / BEATS / 2 {
            return Ok(());
        }
        let commit = Commit::new(began.moment().now).life(meta.clone(), began.mark());
        let commit = commit.field_is(meta.clone(), SERVED, seen.as_deref()).raise(meta.clone(), SERVED, served.0);
        commit.raise(meta, RAISED, began.moment().now.millis()).make(&self.link).await.map(drop)
    }
}

/// Says on every server but the hub's how far the time served has come, until the store is closed.
pub(crate) async fn beat(core: Weak<Core>) {
    let (mut way, mut buckets) = (None, Vec::new());
    loop {
        let Some(core) = core.upgrade() else { return };
        if way != Some(core.link.way()) {
            way = Some(core.link.way());
            buckets = firsts(&core.places());
        }
        let mut beating = JoinSet::new();
        for bucket in buckets.iter().copied() {
            let core = core.clone();
            beating.spawn(async move {
                // It is said again in a moment. A part of which it was not said is taken for older than it is.
                if let Err(error) = core.beat_in(bucket).await {
                    tracing::debug!(%error, bucket = bucket.0, "how far the time served has come cannot be said there");
                }
            });
        }
        beating.join_all().await;
        let pause = core.options.lease / BEATS;
        drop(core);
        tokio::time::sleep(pause).await;
    }
}

/// The first bucket of each server but the hub's.
fn firsts(Places { hub, buckets }: &Places) -> Vec<Bucket> {
    let mut firsts = HashMap::new();
    for (bucket, place) in Bucket::all().zip(buckets).filter(|(_, place)| *place != hub) {
        firsts.entry(place).or_insert(bucket);
    }
    firsts.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUB: usize = 0;
    const PART: usize = 1;

    fn said(n: u16, place: usize, owed: u64, beat: u64) -> Said {
        let beat = (Served(beat), Timestamp::from_millis(beat));
        Said { place, bucket: Bucket(n), is_marked: true, owed, beat }
    }

    fn reached(said: &[Said]) -> Option<u64> {
        let drained = HashMap::from([(Bucket(1), 10), (Bucket(2), 20)]);
        judge(said, &drained, HUB).reached.map(|(served, _)| served.0)
    }

    #[test]
    fn a_part_that_lacks_something_reaches_as_far_as_any_of_its_buckets_says() {
        assert_eq!(reached(&[said(1, PART, 10, 0), said(2, PART, 20, 500), said(3, PART, 7, 400)]), None);
        assert_eq!(reached(&[said(1, PART, 9, 0), said(2, PART, 20, 500), said(3, PART, 7, 400)]), Some(500));
        assert_eq!(reached(&[said(1, 2, 9, 300), said(2, PART, 19, 500)]), Some(300), "the oldest of them");
        assert_eq!(reached(&[said(1, PART, 9, 0)]), Some(0), "nobody knows how old it is");
        assert_eq!(reached(&[said(1, PART, 11, 0)]), None, "what nobody has taken over yet");
        assert_eq!(reached(&[said(1, HUB, 9, 0)]), None, "the life says that");
    }

    #[test]
    fn a_part_without_markers_is_empty() {
        let empty = Said { is_marked: false, ..said(1, PART, 0, 0) };
        assert_eq!(judge(&[empty], &HashMap::from([(Bucket(1), 10)]), HUB), Parts { emptied: true, reached: None });
    }
}

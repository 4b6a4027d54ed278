//! Token buckets by the dozen thousand, in bounded memory.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::rates::Quota;

const SHARDS: usize = 16;
/// How many neighbours a newcomer is compared with when there is no room.
const SAMPLE: usize = 8;

/// A bucket per key, each kept as one instant: when it would be full again (the generic cell rate algorithm). A key that
/// is not here has a full bucket, so forgetting a full one changes nothing.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    shards: [Mutex<HashMap<K, Duration>>; SHARDS],
    hasher: RandomState,
    cap: usize,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// For so many keys. Beyond it, those who owe least are forgiven: memory stays bounded, and what an attacker with
    /// that many addresses gains is no more than the many addresses give anyway.
    pub(super) fn new(cap: usize) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), cap: cap.div_ceil(SHARDS) }
    }

    /// Takes `cost` out of a bucket, or says how long it takes until there is as much.
    pub(super) fn take(&self, key: &K, quota: Quota, cost: u32, now: Duration) -> Result<(), Duration> {
        let mut shard = self.shard(key);
        let full_at = shard.get(key).copied().unwrap_or_default().max(now) + quota.each() * cost.min(quota.count);
        if let Some(wait) = full_at.checked_sub(now + quota.per).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        self.put(&mut shard, key, full_at, now);
        Ok(())
    }

    /// Whether one could be taken; takes nothing.
    pub(super) fn look(&self, key: &K, quota: Quota, now: Duration) -> Result<(), Duration> {
        let full_at = self.shard(key).get(key).copied().unwrap_or_default().max(now) + quota.each();
        full_at.checked_sub(now + quota.per).filter(|wait| !wait.is_zero()).map_or(Ok(()), Err)
    }

    /// Takes `cost` out, or all that is in it.
    pub(super) fn drain(&self, key: &K, quota: Quota, cost: u32, now: Duration) {
        let mut shard = self.shard(key);
        let full_at = shard.get(key).copied().unwrap_or_default().max(now) + quota.each() * cost.min(quota.count);
        self.put(&mut shard, key, full_at.min(now + quota.per), now);
    }

    /// How many buckets are not known to be full.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Duration>> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, shard: &mut HashMap<K, Duration>, key: &K, full_at: Duration, now: Duration) {
        if shard.len() >= self.cap && !shard.contains_key(key) {
            self.make_room(shard, now);
        }
        shard.insert(key.clone(), full_at);
    }

    /// One pass frees all that is full; if nothing is, one of a few goes. A pass that frees nothing is not repeated by
    /// each newcomer: only while half of the room could be regained is it worth its time.
    fn make_room(&self, shard: &mut HashMap<K, Duration>, now: Duration) {
        let few = || shard.iter().take(SAMPLE);
        if few().any(|(_, full_at)| *full_at <= now) {
            shard.retain(|_, full_at| *full_at > now);
            return;
        }
        if let Some(key) = few().min_by_key(|(_, full_at)| **full_at).map(|(key, _)| key.clone()) {
            shard.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { count: 10, per: Duration::from_secs(5) };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_bucket_gives_its_count_at_once_and_then_by_its_rate() {
        let buckets = Buckets::new(100);
        for _ in 0..10 {
            buckets.take(&1, QUOTA, 1, seconds(100)).unwrap();
        }
        assert_eq!(buckets.take(&1, QUOTA, 1, seconds(100)), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take(&2, QUOTA, 1, seconds(100)), Ok(()), "another key has its own");
        assert_eq!(buckets.take(&1, QUOTA, 2, seconds(101)), Ok(()));
        assert!(buckets.take(&1, QUOTA, 1, seconds(101)).is_err());
        assert_eq!(buckets.take(&1, QUOTA, 10, seconds(106)), Ok(()), "full again after its time");
    }

    #[test]
    fn a_cost_beyond_the_count_is_the_whole_bucket() {
        let buckets = Buckets::new(100);
        assert_eq!(buckets.take(&1, QUOTA, 1000, seconds(1)), Ok(()));
        assert_eq!(buckets.take(&1, QUOTA, 1, seconds(1)), Err(Duration::from_millis(500)));
    }

    #[test]
    fn looking_takes_nothing_and_draining_is_never_refused() {
        let buckets = Buckets::new(100);
        for _ in 0..100 {
            assert_eq!(buckets.look(&1, QUOTA, seconds(1)), Ok(()));
        }
        for _ in 0..100 {
            buckets.drain(&1, QUOTA, 3, seconds(1));
        }
        assert_eq!(buckets.look(&1, QUOTA, seconds(1)), Err(Duration::from_millis(500)), "debt has an end");
    }

    #[test]
    fn memory_is_bounded_and_the_indebted_are_remembered_longest() {
        let buckets = Buckets::new(1000);
        for _ in 0..10 {
            buckets.take(&u64::MAX, QUOTA, 1, seconds(1)).unwrap();
        }
        for key in 0..100_000 {
            let _ = buckets.take(&key, QUOTA, 1, seconds(1));
        }
        assert!(buckets.len() <= 1008, "{}", buckets.len());
        assert!(buckets.take(&u64::MAX, QUOTA, 1, seconds(1)).is_err(), "a flood of others bought it nothing");
        let _ = buckets.take(&1, QUOTA, 1, seconds(100));
    }
}

//! A part of a cluster, the slots of one master, that is put back as of another time than the rest.

use std::sync::Arc;

use rescind::{
    clock::{ManualClock, SystemRandom},
    model::{
        audit::Draft,
        family::{Closure, Doubt, Refusal, Standing, Verdict},
    },
    store::{Family, FamilyStore, embedded::Acceptance, redis::RedisStore},
};
use tempfile::TempDir;

use crate::{
    common::{START, open, secs, subject, verdict},
    life::{has_ended, rotated, serves},
    losses::by_hand,
    servers::{cluster::Cluster, wait_for},
};

/// A cluster with one node, and one of its masters, which has no replica and not the hub.
struct Site {
    journals: TempDir,
    cluster: Cluster,
    clock: Arc<ManualClock>,
    store: Option<Arc<RedisStore>>,
    part: usize,
    /// Whose sessions lie there.
    n: u8,
}

impl Site {
    async fn new() -> Self {
        let (journals, mut cluster) = (TempDir::new().unwrap(), Cluster::start(&[]));
        let hub = cluster.master_of("rescind:{hub}:head").unwrap();
        let master =
            |n: u8| cluster.master_of(&format!("rescind:{{{:03x}}}:meta", u16::from_be_bytes([n, n]) % 4096)).unwrap();
        let n = (1..).find(|n| master(*n) != hub).unwrap();
        let part = master(n);
        cluster.servers[part + 3].kill();
        let clock = Arc::new(ManualClock::new(START));
        let store = Some(by_hand(&cluster.url(), "a", journals.path(), &clock).await);
        Self { journals, cluster, clock, store, part, n }
    }

    fn store(&self) -> &RedisStore {
        self.store.as_ref().unwrap()
    }

    async fn open(&self) -> Family {
        open(self.store(), subject(self.n)).await
    }

    /// What the part holds now is what it comes back with.
    fn save(&self) {
        self.cluster.servers[self.part].ask::<String>(&["SAVE"]);
    }

    /// The store serves for so long, and its node remembers it.
    async fn pass(&self, seconds: u64) {
        let hub = self.cluster.master_of("rescind:{hub}:head").unwrap();
        let held = || -> Option<String> { self.cluster.servers[hub].ask(&["HGET", "rescind:{hub}:meta", "served"]) };
        let held = || held().map_or(0, |served| served.parse::<u64>().unwrap());
        wait_for("it has begun to serve", || async { held() > 0 }).await;
        let until = self.store().moment().served.0 + seconds * 1000;
        self.clock.advance(secs(seconds));
        wait_for("it has served for so long", || async { held() >= until }).await;
        // The node remembers that with the renewal that made it so.
        let renewed = held();
        wait_for("the lease is renewed", || async { held() > renewed }).await;
    }

    /// It comes back as it was saved.
    fn put_back(&mut self) {
        self.cluster.servers[self.part].restart();
    }

    async fn node_restarts(&mut self) {
        self.store = None;
        has_ended(self.journals.path(), "a");
        self.store = Some(by_hand(&self.cluster.url(), "a", self.journals.path(), &self.clock).await);
    }

    async fn has_come_back(&self) {
        wait_for("it has come back", || async { self.store().life().incarnation > 0 }).await;
        serves(self.store()).await;
    }

    async fn waits_for_a_word(&self) {
        let asks = || async { self.store().life().why.is_some_and(|why| why.contains("rescind store restored")) };
        wait_for("an operator is asked", asks).await;
        assert_eq!(self.store().standing(), Standing::NotWhole);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_put_back_from_long_ago_waits_for_an_operator() {
    let mut site = Site::new().await;
    let family = site.open().await;
    site.save();
    rotated(site.store(), &family, 0).await;
    site.pass(700).await;
    site.put_back();
    site.waits_for_a_word().await;
    assert_eq!(verdict(site.store(), &family, 0).await, Verdict::Unavailable(Doubt::StoreNotWhole), "it was spent");
    site.store().declare(Acceptance::EndSessions, Arc::new(SystemRandom), Draft::default()).await.unwrap();
    serves(site.store()).await;
    assert_eq!(verdict(site.store(), &family, 0).await, Verdict::Refused(Refusal::CutOff));
    let later = site.open().await;
    rotated(site.store(), &later, 0).await;
    // What was lost is lost: it is not found missing again.
    site.save();
    site.pass(700).await;
    let before = site.store().life().incarnation;
    site.put_back();
    wait_for("it has come back", || async { site.store().life().incarnation > before }).await;
    serves(site.store()).await;
    rotated(site.store(), &later, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_part_lost_of_late_is_given_back() {
    let mut site = Site::new().await;
    let family = site.open().await;
    site.save();
    rotated(site.store(), &family, 0).await;
    site.pass(500).await;
    rotated(site.store(), &family, 1).await;
    site.put_back();
    site.has_come_back().await;
    rotated(site.store(), &family, 2).await;
    assert_eq!(verdict(site.store(), &family, 0).await, Verdict::Close(Closure::Reused), "it was spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_there_does_not_know_what_a_part_lost() {
    let mut site = Site::new().await;
    let family = site.open().await;
    site.save();
    rotated(site.store(), &family, 0).await;
    site.pass(100).await;
    site.node_restarts().await;
    site.pass(10).await;
    site.put_back();
    site.waits_for_a_word().await;
    assert_eq!(verdict(site.store(), &family, 0).await, Verdict::Unavailable(Doubt::StoreNotWhole), "it was spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_knew_that_has_left_nobody_knows() {
    let mut site = Site::new().await;
    let other = by_hand(&site.cluster.url(), "b", site.journals.path(), &site.clock).await;
    serves(&other).await;
    let family = site.open().await;
    site.save();
    rotated(&other, &family, 0).await;
    site.pass(100).await;
    assert!(other.leave().await);
    drop(other);
    site.pass(10).await;
    site.put_back();
    site.waits_for_a_word().await;
    assert_eq!(verdict(site.store(), &family, 0).await, Verdict::Unavailable(Doubt::StoreNotWhole), "it was spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_in_which_nothing_happened_for_long_has_lost_nothing() {
    let mut site = Site::new().await;
    let family = site.open().await;
    rotated(site.store(), &family, 0).await;
    site.save();
    site.pass(3000).await;
    site.put_back();
    site.has_come_back().await;
    rotated(site.store(), &family, 1).await;
    // Nor has it while nobody was there.
    site.save();
    site.store = None;
    has_ended(site.journals.path(), "a");
    site.put_back();
    site.store = Some(by_hand(&site.cluster.url(), "a", site.journals.path(), &site.clock).await);
    serves(site.store()).await;
    rotated(site.store(), &family, 2).await;
}

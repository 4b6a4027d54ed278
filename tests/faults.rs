//! Every verb of the embedded store on a disk that fails at every operation in turn, in two columns: *failed*, and
//! *failed but persisted*; and on one that loses its power at every operation, keeping any part of what was not
//! synced. What was acknowledged is there afterwards, what was not is there as a whole or not at all, and the client's
//! token works.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/store/mod.rs"]
mod common;

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use rescind::{
    model::{
        SessionId,
        audit::{Draft, Event, Outcome, Record},
        denial::{Ends, Entry, Target},
        family::{Closure, Stamp, Verdict},
        feed::{Item, Mark, PAGE},
    },
    store::{
        AuditQuery, AuditStore, DenyStore, Family, FamilyStore, Opening, StoreError,
        embedded::{EmbeddedStore, Options},
    },
};

use self::common::{
    Bed, Disk, RETENTION, Seeded, app, denial,
    disk::{Fault, Verb, torn},
    head, is_unavailable, open, opening, secs, session, show, showing, subject, verdict,
};

/// Everything that can be seen of the store, but for the stamps, which say when an answer left and not that it did.
#[derive(Clone, PartialEq, Debug)]
struct Sight {
    families: Vec<Family>,
    entries: Vec<Entry>,
    feed: Vec<Item>,
    /// Where the feed ends, and where those who wait were told that it does.
    heads: (Mark, u64),
    audit: Vec<Record>,
}

async fn look(store: &EmbeddedStore) -> Sight {
    let mut families = Vec::new();
    for n in 1..4 {
        families.extend(store.of_subject(subject(n), None, 100).await.unwrap());
    }
    for family in &mut families {
        family.lineage.stamps = [Stamp::default(); _];
        assert_eq!(store.find(family.id).await.unwrap().unwrap().lineage.head, family.lineage.head);
    }
    let entries = store.entries(0, 1000).await.unwrap().entries;
    let audit = store.audit(AuditQuery { limit: 1000, ..AuditQuery::default() }).await.unwrap().records;
    let tail = store.tail(None, PAGE).await.unwrap();
    let heads = (tail.to, store.appended(u64::MAX).await);
    assert_eq!(heads.0.position, heads.1, "who waits hears of what the disk holds");
    Sight { families, entries, feed: tail.entries, heads, audit }
}

/// The store's verbs, in an order in which each has something to do.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Deed {
    Open,
    Rotate(u32),
    Retry,
    Reuse,
    Close,
    CloseUnknown,
    DenyToken,
    CutOff,
    Amend,
    Stamp,
    Record,
}

const SCRIPT: [Deed; 14] = [
    Deed::Open,
    Deed::Rotate(2),
    Deed::Retry,
    Deed::DenyToken,
    Deed::Rotate(3),
    Deed::Amend,
    Deed::Stamp,
    Deed::Close,
    Deed::Record,
    Deed::CloseUnknown,
    Deed::Rotate(4),
    Deed::CutOff,
    Deed::Rotate(5),
    Deed::Reuse,
];

/// A store with two sessions in it, and the disk's bytes: where every run begins.
struct Scene {
    bytes: Vec<u8>,
    /// Its generations 0 and 1 are spent a minute ago.
    main: Family,
    other: Family,
    /// Its generation 0 was spent a minute ago.
    victim: Family,
}

impl Scene {
    async fn new() -> Self {
        let mut bed = Bed::new();
        let main = open(bed.store(), subject(1)).await;
        let other = open(bed.store(), subject(2)).await;
        show(bed.store(), &main, 0).await;
        show(bed.store(), &main, 1).await;
        let victim = open(bed.store(), subject(3)).await;
        show(bed.store(), &victim, 0).await;
        bed.clock.advance(secs(60));
        Self { bytes: bed.backup(), main, other, victim }
    }

    fn bed(&self) -> Bed {
        self.bed_on(self.bytes.clone())
    }

    fn bed_on(&self, bytes: Vec<u8>) -> Bed {
        let mut bed = Bed::with(|options| {
            options.witness = None;
            drop(common::listen(options));
        });
        bed.clock.advance(secs(60));
        bed.stop();
        bed.disk.replace(bytes);
        bed.reopen();
        bed
    }

    async fn act(&self, store: &EmbeddedStore, deed: Deed) -> Result<(), StoreError> {
        let audit = Draft::default;
        // As the service does: it presents what it has just read.
        let now = store.find(self.main.id).await?.unwrap_or_else(|| self.main.clone());
        match deed {
            Deed::Open => store.open(Opening { random: [9; 10], ..opening(subject(3)) }).await.map(drop),
            Deed::Rotate(g) => store.present(showing(&now, g)).await.map(|p| assert_eq!(p.verdict, Verdict::Rotate)),
            Deed::Retry => store.present(showing(&now, 2)).await.map(|p| assert_eq!(p.verdict, Verdict::Retry)),
            Deed::Reuse => {
                let reused = |p: rescind::store::Presented| assert_eq!(p.verdict, Verdict::Close(Closure::Reused));
                store.present(showing(&self.victim, 0)).await.map(reused)
            }
            Deed::Close => store.close(self.other.id, Closure::LoggedOut, None, audit()).await.map(drop),
            Deed::CloseUnknown => {
                store.close(session(common::START, 8), Closure::Revoked, None, audit()).await.map(drop)
            }
            Deed::DenyToken => {
                let token = Target::Token(rescind::model::TokenId::new(common::START, &[4; 10]));
                store.deny(denial(token, Ends::Sessions)).await.map(drop)
            }
            Deed::CutOff => store.deny(denial(Target::Subject(subject(2)), Ends::Sessions)).await.map(drop),
            Deed::Amend => store.amend(self.main.id, b"sealed".to_vec(), b"amended".to_vec(), audit()).await.map(drop),
            Deed::Stamp => store.stamp(subject(1), app(), audit()).await.map(drop),
            Deed::Record => store.record(Event::KeyRotated, Outcome::Done, None, audit()).await,
        }
    }

    /// What is seen before the script, and after each of its deeds.
    async fn sights(&self) -> Vec<Sight> {
        let bed = self.bed();
        let mut sights = vec![look(bed.store()).await];
        for deed in SCRIPT {
            self.act(bed.store(), deed).await.unwrap();
            sights.push(look(bed.store()).await);
        }
        sights
    }

    /// A bed on which the first `n` deeds have been done.
    async fn after(&self, n: usize) -> Bed {
        let bed = self.bed();
        for deed in &SCRIPT[..n] {
            self.act(bed.store(), *deed).await.unwrap();
        }
        bed
    }

    /// How many operations the disk sees for each deed.
    async fn operations(&self) -> Vec<Vec<Verb>> {
        let bed = self.bed();
        let mut all = Vec::new();
        for deed in SCRIPT {
            bed.disk.hook(|_, _| None);
            self.act(bed.store(), deed).await.unwrap();
            all.push(bed.disk.log());
        }
        all
    }
}

/// The client shows the newest token that it has been given; the answer is that token's one successor.
async fn token_works(store: &EmbeddedStore, family: &Family, newest: u32) {
    let family = loop {
        // Readers are turned away while the store is being reopened.
        match store.find(family.id).await {
            Ok(found) => break found.unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let shown = show(store, &family, newest).await;
    assert!(matches!(shown.verdict, Verdict::Rotate | Verdict::Retry), "{:?}", shown.verdict);
    assert_eq!(shown.family.unwrap().lineage.head.0, newest + 1);
}

#[tokio::test]
async fn a_failing_disk_loses_nothing_acknowledged_and_shows_nothing_half() {
    let scene = Scene::new().await;
    let (sights, operations) = (scene.sights().await, scene.operations().await);
    let (mut runs, mut persisted, mut acknowledged) = (0, 0, 0);
    for (n, deed) in SCRIPT.into_iter().enumerate() {
        for operation in 0..operations[n].len() as u64 {
            for fault in [Fault::Failed, Fault::FailedButPersisted] {
                let mut bed = scene.after(n).await;
                bed.disk.fail(operation, fault);
                let answer = scene.act(bed.store(), deed).await;
                bed.disk.heal();
                assert!(answer.is_ok() || is_unavailable(&answer), "{answer:?}");
                let seen = look(bed.store()).await;
                let after = seen == sights[n + 1];
                assert!(after || seen == sights[n], "{deed:?}: {fault:?} at {operation}: half a change");
                assert!(after || answer.is_err(), "{deed:?}: {fault:?} at {operation}: acknowledged and lost");
                // What it says now it says after a restart.
                bed.reopen();
                let again = look(bed.store()).await;
                assert_eq!(again, seen, "{deed:?}: {fault:?} at {operation}: not durable");
                if let Deed::Rotate(newest) = deed
                    && answer.is_err()
                {
                    token_works(bed.store(), &scene.main, newest).await;
                }
                runs += 1;
                persisted += u32::from(after && answer.is_err());
                acknowledged += u32::from(answer.is_ok());
            }
        }
    }
    println!("{runs} faults: {persisted} answered 503 and were durable, {acknowledged} were acknowledged all the same");
    assert!(runs > 100 && persisted > 10);
}

/// Runs the script until the power fails at an operation. Gives how many deeds were acknowledged and what the disk
/// holds.
async fn lose_power(scene: &Scene, at: u64, kept: Kept) -> (usize, Vec<u8>) {
    let bed = scene.bed();
    let found = Arc::new(Mutex::new(None));
    let (disk, sink, count) = (Arc::downgrade(&bed.disk), found.clone(), Arc::new(Seeded::new(at)));
    bed.disk.hook(move |_, operation| {
        if operation == at {
            let disk = disk.upgrade().unwrap();
            *sink.lock().unwrap() = Some(match kept {
                Kept::Nothing => disk.crash(|_| false),
                Kept::Everything => disk.crash(|_| true),
                Kept::Something => disk.crash(torn(&count)),
            });
        }
        None
    });
    let mut acknowledged = 0;
    for deed in SCRIPT {
        if scene.act(bed.store(), deed).await.is_err() {
            break;
        }
        acknowledged += 1;
    }
    let found = found.lock().unwrap().take();
    (acknowledged, found.unwrap_or_else(|| bed.disk.crash(|_| false)))
}

#[derive(Clone, Copy, Debug)]
enum Kept {
    Nothing,
    Everything,
    Something,
}

#[tokio::test]
async fn a_power_failure_at_any_operation_loses_nothing_acknowledged() {
    let scene = Scene::new().await;
    let sights = scene.sights().await;
    let total: usize = scene.operations().await.iter().map(Vec::len).sum();
    for at in 0..=total as u64 {
        for kept in [Kept::Nothing, Kept::Everything, Kept::Something] {
            let (acknowledged, found) = lose_power(&scene, at, kept).await;
            let bed = scene.bed_on(found);
            let seen = look(bed.store()).await;
            let next = sights.get(acknowledged + 1);
            let as_promised = seen == sights[acknowledged] || Some(&seen) == next;
            assert!(as_promised, "{kept:?} at {at}: {acknowledged} deeds were acknowledged, the disk holds others");
            let rotated = SCRIPT[..acknowledged].iter().filter(|d| matches!(d, Deed::Rotate(_))).count() as u32;
            token_works(bed.store(), &scene.main, 2 + rotated).await;
        }
    }
    println!("{} power failures", 3 * (total + 1));
}

/// The harness above would see it if a sync were missing: here one is, each in turn.
#[tokio::test]
async fn removing_one_fsync_is_seen() {
    let scene = Scene::new().await;
    let (sights, operations) = (scene.sights().await, scene.operations().await);
    for (n, deed) in SCRIPT.into_iter().enumerate() {
        let syncs = operations[n].iter().filter(|v| **v == Verb::Sync).count();
        assert!(syncs >= 1, "{deed:?} is acknowledged without a sync");
        let bed = scene.after(n).await;
        assert!(bed.disk.is_settled(), "acknowledged, so synced");
        bed.disk.hook(|verb, _| (verb == Verb::Sync).then_some(Fault::Ignored));
        scene.act(bed.store(), deed).await.unwrap();
        let found = bed.disk.crash(|_| false);
        let seen = look(scene.bed_on(found).store()).await;
        assert_ne!(seen, sights[n + 1], "{deed:?} survives without its sync: the crash test proves nothing");
        assert_eq!(seen, sights[n]);
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_until_there_is_room() {
    let bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    bed.disk.room(Some(bed.disk.bytes().len() as u64));
    let bulky = || Opening { seal: Box::new(|_, _| vec![7; 60_000]), ..opening(subject(2)) };
    let mut opened: Vec<SessionId> = Vec::new();
    let error = loop {
        match bed.store().open(bulky()).await {
            Ok(family) => opened.push(family.family().unwrap().id),
            Err(error) => break error,
        }
        assert!(opened.len() < 1000);
    };
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    // Readers read on; nothing acknowledged is gone.
    let found = bed.store().of_subject(subject(2), None, 2000).await.unwrap();
    assert_eq!(found.iter().map(|f| f.id).collect::<Vec<_>>(), opened);
    for _ in 0..5 {
        assert!(bed.store().open(bulky()).await.is_err());
    }
    bed.disk.room(None);
    bed.store().open(bulky()).await.unwrap();
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Rotate);
    assert_eq!(head(bed.store(), &family).await, 1);
}

#[tokio::test]
async fn a_step_that_panics_takes_nobody_with_it() {
    let bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    let bad = Opening { seal: Box::new(|_, _| panic!("a bug in a caller's closure")), ..opening(subject(2)) };
    assert!(is_unavailable(&bed.store().open(bad).await));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Rotate);
    assert_eq!(bed.store().of_subject(subject(2), None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_sync_is_told_to_the_hook() {
    let mut heard = None;
    let bed = Bed::with(|options| heard = Some(common::listen(options)));
    let family = open(bed.store(), subject(1)).await;
    bed.disk.hook(|verb, _| (verb == Verb::Sync).then_some(Fault::Failed));
    assert!(bed.store().present(showing(&family, 0)).await.is_err());
    bed.disk.heal();
    let heard = heard.unwrap().lock().unwrap().clone();
    assert!(!heard.is_empty() && heard.iter().all(|e| e == "the disk says no"), "{heard:?}");
    token_works(bed.store(), &family, 0).await;
}

#[test]
#[ignore = "a program for the test below"]
fn child_whose_sync_fails() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let disk = Arc::new(Disk::default());
        let clock = Arc::new(rescind::clock::ManualClock::new(common::START));
        let store = EmbeddedStore::with_backing(disk.clone(), Options::new(RETENTION), clock, &Seeded::new(1)).unwrap();
        if std::env::var_os("RESCIND_TEST_FAIL_SYNC").is_some() {
            disk.hook(|verb, _| (verb == Verb::Sync).then_some(Fault::Failed));
        }
        drop(store.open(opening(subject(1))).await);
    });
}

#[test]
fn a_failed_sync_ends_the_process_unless_a_test_wants_to_look() {
    use std::os::unix::process::ExitStatusExt;
    let run = |fail: bool| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_whose_sync_fails", "--ignored"]).env_remove("RESCIND_TEST_FAIL_SYNC");
        if fail {
            child.env("RESCIND_TEST_FAIL_SYNC", "1");
        }
        child.output().unwrap().status
    };
    assert!(run(false).success());
    assert_eq!(run(true).signal(), Some(rustix::process::Signal::ABORT.as_raw()));
}

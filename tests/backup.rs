//! Backups: one instant of the store while it goes on; what is cut, damaged or unknown is refused; what is restored is
//! what was there.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/store/mod.rs"]
mod store;

use std::{fs, path::Path, sync::Arc};

use harness::{APP, Harness, POWERLESS, answer};
use redb::TableDefinition;
use rescind::{
    clock::{Clock, ManualClock},
    model::{
        audit::Draft,
        denial::{Ends, Target},
        family::{Closure, Standing},
    },
    store::{
        DenyStore, FamilyStore, StoreError,
        embedded::{Acceptance, BackupError, EmbeddedStore, Options, Order, Snapshot, check, compact, restore},
    },
};
use serde_json::json;
use store::{RETENTION, START, Seeded, denial, open, secs, subject};

fn options() -> Options {
    Options { cache: 1 << 20, audit_cap: 1000, ..Options::new(RETENTION) }
}

fn at(path: &Path, clock: &Arc<ManualClock>) -> EmbeddedStore {
    EmbeddedStore::open(path, options(), clock.clone(), &Seeded::new(3)).unwrap()
}

fn all(mut snapshot: Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = snapshot.next_piece().unwrap() {
        bytes.extend(piece);
    }
    let summary = snapshot.summary().unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    bytes
}

/// Puts a backup in the place of a store at `path`, and opens it.
fn put_back(backup: &Path, path: &Path, acceptance: Acceptance, clock: &Arc<ManualClock>) -> EmbeddedStore {
    let order = Order { backup, store: path, replace: true, dry_run: false };
    let options = Options { acceptance, ..options() };
    let clock_of_all: Arc<dyn Clock> = clock.clone();
    restore(&order, &options, &clock_of_all, &Seeded::new(9)).unwrap();
    at(path, clock)
}

#[tokio::test]
async fn a_backup_shows_one_instant_while_writes_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let (path, copy) = (temp.path().join("store"), temp.path().join("copy"));
    let clock = Arc::new(ManualClock::new(START));
    let store = at(&path, &clock);
    let mut before = Vec::new();
    for n in 0..200 {
        before.push(open(&store, subject(n)).await);
    }
    store.close(before[0].id, Closure::Revoked, None, Draft::default()).await.unwrap();
    store.deny(denial(Target::Subject(subject(1)), Ends::Sessions)).await.unwrap();
    let rows = store.report().unwrap().rows;

    let mut snapshot = store.snapshot().unwrap();
    let mut bytes = Vec::new();
    let mut after = Vec::new();
    while let Some(piece) = snapshot.next_piece().unwrap() {
        bytes.extend(piece);
        after.push(open(&store, subject(7)).await);
        store.close(before[2 + after.len()].id, Closure::Revoked, None, Draft::default()).await.unwrap();
    }
    assert!(after.len() > 5);
    fs::write(&copy, bytes).unwrap();
    // Whoever reads a snapshot holds the file.
    drop((snapshot, store));

    let restored = put_back(&copy, &path, Acceptance::DangerouslyKeepSessions, &clock);
    for family in &before {
        assert!(restored.find(family.id).await.unwrap().is_some_and(|f| f.sealed == family.sealed));
    }
    for (n, family) in before.iter().enumerate().skip(1) {
        let closed = restored.find(family.id).await.unwrap().unwrap().lineage.closed;
        assert_eq!(closed, None, "family {n} was closed after that instant");
    }
    for family in after {
        assert_eq!(restored.find(family.id).await.unwrap(), None, "opened after it");
    }
    // The declaration adds an entry of the denylist and two records; all else is row for row what it was.
    let mut expected = rows;
    for (table, more) in [("log", 1), ("feed", 1), ("denied", 1), ("audit", 2)] {
        *expected.get_mut(table).unwrap() += more;
    }
    let mut have = restored.report().unwrap().rows;
    for bookkeeping in ["meta", "due", "seals"] {
        expected.remove(bookkeeping);
        have.remove(bookkeeping);
    }
    assert_eq!(have, expected);
}

#[tokio::test]
async fn what_is_cut_or_changed_anywhere_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(START));
    let store = at(&temp.path().join("store"), &clock);
    for n in 0..20 {
        open(&store, subject(n)).await;
    }
    let good = all(store.snapshot().unwrap());
    let (head, summary) = check(&good[..]).unwrap();
    assert_eq!((head.taken_at, summary.bytes), (START, good.len() as u64));
    for length in 0..good.len() {
        let cut = check(&good[..length]);
        assert!(matches!(cut, Err(BackupError::Cut | BackupError::NotOne)), "{length}: {cut:?}");
    }
    for place in 0..good.len() {
        let mut changed = good.clone();
        changed[place] ^= 1 << (place % 8);
        assert!(check(&changed[..]).is_err(), "a bit at {place}");
    }
}

#[tokio::test]
async fn a_restored_backup_that_nobody_declared_is_not_whole() {
    let temp = tempfile::tempdir().unwrap();
    let (path, copy, fresh) = (temp.path().join("store"), temp.path().join("copy"), temp.path().join("fresh"));
    let clock = Arc::new(ManualClock::new(START));
    let store = at(&path, &clock);
    let family = open(&store, subject(1)).await;
    fs::write(&copy, all(store.snapshot().unwrap())).unwrap();
    // As if the command had been killed after the import and before the word.
    let order = Order { backup: &copy, store: &fresh, replace: false, dry_run: false };
    let clock_of_all: Arc<dyn Clock> = clock.clone();
    restore(&order, &options(), &clock_of_all, &Seeded::new(9)).unwrap();
    let undeclared = at(&fresh, &clock);
    assert_eq!(undeclared.standing(), Standing::NotWhole);
    assert!(matches!(undeclared.find(family.id).await, Err(StoreError::NotWhole)));
    assert!(matches!(undeclared.snapshot(), Err(StoreError::NotWhole)));
    undeclared.declare(Acceptance::EndSessions, Arc::new(Seeded::new(4)), Draft::default()).await.unwrap();
    assert_eq!(undeclared.standing(), Standing::Whole);
    assert!(undeclared.cut_off(subject(1), store::app(), family.id.stamp()).await.unwrap());
    drop(undeclared);
    assert_eq!(at(&fresh, &clock).standing(), Standing::Whole, "said once is enough");
}

#[tokio::test]
async fn a_table_that_backups_do_not_know_is_not_left_out_silently() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let clock = Arc::new(ManualClock::new(START));
    drop(at(&path, &clock));
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<u64, u64>::new("novelty")).unwrap();
    txn.commit().unwrap();
    drop(database);
    assert!(matches!(at(&path, &clock).snapshot(), Err(StoreError::Damaged(_))));
}

#[tokio::test]
async fn a_store_that_was_much_larger_gives_its_room_back() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let clock = Arc::new(ManualClock::new(START));
    let mut store = at(&path, &clock);
    let long = std::env::var_os("LONG_TESTS").is_some();
    for _ in 0..if long { 200 } else { 20 } {
        let opened = (0..250).map(|n| open(&store, subject(n)));
        futures(opened).await;
    }
    let full = store.size().unwrap();
    clock.advance(secs(7300));
    // A clock that leaps ahead is doubted; a restart believes it.
    drop(store);
    store = at(&path, &clock);
    for _ in 0..1000 {
        if store.report().unwrap().rows["families"] == 0 {
            break;
        }
        // What has expired leaves with the commits that others ask for.
        futures((0..250).map(|_| store.stamp(subject(1), store::app(), Draft::default()))).await;
    }
    assert_eq!(store.report().unwrap().rows["families"], 0);
    let kept = open(&store, subject(1)).await;
    drop(store);
    let done = compact(&path).unwrap();
    assert!(done.after * 2 < full, "{done:?} of {full}");
    if long {
        say(&format!("full {full}, swept {}, compacted {}", done.before, done.after));
    }
    assert!(at(&path, &clock).find(kept.id).await.unwrap().is_some());
}

#[expect(clippy::print_stdout, reason = "a figure for docs/how-to/back-up.md")]
fn say(figure: &str) {
    println!("{figure}");
}

/// All of them at once, as requests come: one commit carries many.
async fn futures<F: Future>(many: impl Iterator<Item = F>) {
    let mut many: Vec<_> = many.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        many.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if many.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_may_fetch_it_and_one_at_a_time() {
    let harness = Harness::on_disk().await;
    harness.open("alice").await;
    let get = |path: &str, client| {
        let request = harness.http.get(format!("{}{path}", harness.base));
        request.basic_auth(client, Some(&harness.secret))
    };
    for path in ["/v1/backup", "/v1/store"] {
        let (status, problem) = answer(get(path, POWERLESS)).await;
        assert_eq!((status, &problem["code"]), (403, &"insufficient_permission".into()));
    }
    let (status, _) = harness.post("/v1/store/restored", POWERLESS, &json!({})).await;
    assert_eq!(status, 403);
    let (status, problem) = harness.post("/v1/store/restored", APP, &json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &"store_whole".into()));

    let service = harness.service.clone();
    let ctx = harness.let_in_by_secret(APP).await;
    let running = service.backup(&ctx).await.unwrap();
    let (status, problem) = answer(get("/v1/backup", APP)).await;
    assert_eq!((status, &problem["code"]), (409, &"backup_running".into()));
    drop(running);
    let fetched = get("/v1/backup", APP).send().await.unwrap().bytes().await.unwrap();
    check(&fetched[..]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_store_is_declared_only_by_who_means_it_and_verifiers_read_another_log() {
    let harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    let epoch = harness.store.epoch();
    let order = json!({"although_whole": true});
    let (status, body) = harness.post("/v1/store/restored", APP, &order).await;
    assert_eq!((status, &body["incarnation"]), (200, &1.into()), "{body}");
    assert_ne!(harness.store.epoch(), epoch);
    assert!(!harness.active(harness::text(&opened, "access_token")).await);
    assert_eq!(harness.refresh(harness::text(&opened, "refresh_token"), APP).await.0, 400);
    harness.clock.advance(secs(1));
    let fresh = harness.open("alice").await;
    assert_eq!(harness.refresh(harness::text(&fresh, "refresh_token"), APP).await.0, 200);
}

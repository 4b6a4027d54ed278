//! What the embedded store promises beyond the contract of all stores: its file, its witness, its time served.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/store/mod.rs"]
mod common;

use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
};

use rescind::{
    clock::{Clock, ManualClock},
    model::{
        Timestamp, TokenId,
        audit::{Draft, Event, Outcome, Record},
        chain::{Line, Walk},
        denial::{Ends, Target},
        family::{Closure, Doubt, Refusal, Standing, Verdict},
        feed::{Item, PAGE},
    },
    store::{
        AuditQuery, AuditStore, Denial, DenyStore, EvidenceStore, FamilyStore, Opening, StoreError,
        embedded::{Acceptance, EmbeddedStore, OpenError, Options},
    },
};

use self::common::{
    Bed, LIVES, RETENTION, START, Seeded, bearer, denial,
    disk::{Fault, Verb},
    eventually, head, millis, open, secs, session, show, showing, subject, verdict,
};

fn file(path: &Path, clock: &Arc<ManualClock>, options: Options) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(path, options, clock.clone(), &Seeded::new(3))
}

// ---- the file

#[tokio::test]
async fn reopening_keeps_everything() {
    let mut bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    let closed = open(bed.store(), subject(2)).await;
    let minted = show(bed.store(), &family, 0).await.at;
    bed.store().close(closed.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    bed.store().deny(denial(Target::Subject(subject(1)), Ends::Tokens)).await.unwrap();
    let page = bed.store().entries(0, 10).await.unwrap();
    let audit = bed.store().audit(AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap();
    let kept = bed.store().find(family.id).await.unwrap();
    for _ in 0..3 {
        bed.reopen();
        let store = bed.store();
        assert_eq!(store.entries(0, 10).await.unwrap(), page, "epoch, head and entries");
        let kept_audit = store.audit(AuditQuery { limit: 5, ..AuditQuery::default() }).await.unwrap();
        assert_eq!(kept_audit.records, audit.records);
        assert_eq!(store.find(family.id).await.unwrap(), kept);
        assert!(store.denied(bearer(&family, minted)).await.unwrap());
        assert_eq!(verdict(store, &closed, 0).await, Verdict::Refused(Refusal::Closed));
    }
    let next = bed.store().deny(denial(Target::All, Ends::Tokens)).await.unwrap().unwrap();
    assert_eq!(next.position, page.head + 1, "positions go on");
    assert_eq!(verdict(bed.store(), &family, 1).await, Verdict::Rotate);
}

#[tokio::test]
async fn only_the_owner_can_read_the_file() {
    let (place, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START)));
    let path = place.path().join("store.redb");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(file(&path, &clock, Options::new(RETENTION)).unwrap());
    assert_eq!(mode(), 0o600);
    // A copy put back by hand has whatever the copying gave it.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(file(&path, &clock, Options::new(RETENTION)).unwrap());
    assert_eq!(mode(), 0o600);
}

#[tokio::test]
async fn a_second_process_is_told_who_has_it() {
    let (place, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START)));
    let path = place.path().join("store.redb");
    let first = file(&path, &clock, Options::new(RETENTION)).unwrap();
    let error = file(&path, &clock, Options::new(RETENTION)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    open(&first, subject(1)).await;
    drop(first);
    file(&path, &clock, Options::new(RETENTION)).unwrap();
}

#[test]
fn a_store_of_another_version_is_left_alone() {
    let (place, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START)));
    let path = place.path().join("store.redb");
    drop(file(&path, &clock, Options::new(RETENTION)).unwrap());
    let newer = redb::Database::open(&path).unwrap();
    let txn = newer.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    txn.open_table(meta).unwrap().insert("schema", &postcard::to_stdvec(&77_u32).unwrap()[..]).unwrap();
    txn.commit().unwrap();
    drop(newer);
    let error = file(&path, &clock, Options::new(RETENTION)).unwrap_err();
    assert!(matches!(error, OpenError::Schema { found: 77 }), "{error}");
}

/// Takes out of the file what schema 1 did not have.
fn put_back_to_schema_1(path: &Path) {
    let database = redb::Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    let bytes = redb::TableDefinition::<u64, &[u8]>::new("feed");
    let seals = redb::TableDefinition::<u64, [u8; 32]>::new("seals");
    assert!(txn.delete_table(bytes).unwrap() && txn.delete_table(seals).unwrap());
    {
        let mut meta = txn.open_table(redb::TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
        meta.remove("digest").unwrap().unwrap();
        meta.insert("schema", &postcard::to_stdvec(&1_u32).unwrap()[..]).unwrap();
        let mut due = txn.open_table(redb::TableDefinition::<[u8; 25], ()>::new("due")).unwrap();
        due.retain(|key, ()| key[8] < 2).unwrap();
        unchain(&txn, &mut meta);
    }
    txn.commit().unwrap();
}

/// Audit records as they were before they were chained.
fn unchain(txn: &redb::WriteTransaction, meta: &mut redb::Table<'_, &'static str, &'static [u8]>) {
    meta.remove("audit_chain").unwrap().unwrap();
    meta.remove("audit_statement").unwrap();
    use redb::ReadableTable;
    let mut audit = txn.open_table(redb::TableDefinition::<u64, &[u8]>::new("audit")).unwrap();
    let rows: Vec<(u64, Vec<u8>)> =
        audit.iter().unwrap().map(|r| r.map(|(k, v)| (k.value(), v.value().to_vec())).unwrap()).collect();
    for (sequence, bytes) in rows {
        let (_, r): (Timestamp, Record) = postcard::from_bytes(&bytes).unwrap();
        let about = (r.sequence, r.at, r.event, r.outcome, r.actor, r.client, r.subject, r.session);
        let old = (about, r.generation, r.origin, r.cause);
        audit.insert(sequence, &postcard::to_stdvec(&old).unwrap()[..]).unwrap();
    }
}

#[tokio::test]
async fn records_from_before_the_chain_are_tied_together_as_they_stand() {
    let (place, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START)));
    let path = place.path().join("store.redb");
    let store = file(&path, &clock, Options::new(RETENTION)).unwrap();
    for n in 1..=5 {
        let audit = Draft { subject: Some("alice".parse().unwrap()), ..Draft::default() };
        store.open(rescind::store::Opening { audit, ..common::opening(subject(n)) }).await.unwrap();
    }
    let query = || AuditQuery { limit: 100, ..AuditQuery::default() };
    let before = store.audit(query()).await.unwrap().records;
    drop(store);
    {
        let database = redb::Database::open(&path).unwrap();
        let txn = database.begin_write().unwrap();
        {
            let mut meta = txn.open_table(redb::TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
            meta.insert("schema", &postcard::to_stdvec(&2_u32).unwrap()[..]).unwrap();
            unchain(&txn, &mut meta);
        }
        txn.commit().unwrap();
    }
    for reopened in 0..2 {
        let store = file(&path, &clock, Options::new(RETENTION)).unwrap();
        store.record(Event::KeyRotated, Outcome::Done, None, Draft::default()).await.unwrap();
        let (records, head) = (store.audit(query()).await.unwrap().records, store.audit_head().await.unwrap().head);
        let told = |r: &Record| (r.sequence, r.at, r.event, r.subject.clone(), r.session);
        assert!(records.iter().zip(&before).all(|(now, then)| told(now) == told(then)));
        assert_eq!(records.len(), 6 + reopened);
        let mut walk = Walk::default();
        records.iter().for_each(|r| walk.step(&Line::from(r)).unwrap());
        assert_eq!((walk.began_at(&head), walk.meets(&head)), (Ok(()), Ok(())));
    }
}

#[tokio::test]
async fn a_store_from_before_the_feed_gets_one_with_all_that_is_denied() {
    let (place, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START)));
    let path = place.path().join("store.redb");
    let options = || Options { cache: 1 << 20, ..Options::new(RETENTION) };
    let store = Arc::new(file(&path, &clock, options()).unwrap());
    let key = store.deny(denial(Target::Key("k".parse().unwrap()), Ends::Tokens)).await.unwrap().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..3 * PAGE {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        let expires = Some(START.plus(secs(if n < 2 * PAGE { 0 } else { 500 })));
        let token = Denial { expires, ..denial(Target::Token(TokenId::new(START, &random)), Ends::Tokens) };
        let store = store.clone();
        tasks.spawn(async move { store.deny(token).await.unwrap() });
        // One after the other would take long, all at once would mix up which of them last.
        if n % 100 == 99 {
            while tasks.join_next().await.is_some() {}
        }
    }
    let cut_off = store.deny(denial(Target::All, Ends::Sessions)).await.unwrap().unwrap();
    clock.advance(cut_off.feed_until.since(START) - millis(1));
    let live = store.entries(0, usize::MAX).await.unwrap();
    drop(store);
    put_back_to_schema_1(&path);
    for _ in 0..2 {
        let store = file(&path, &clock, options()).unwrap();
        assert_eq!(store.entries(0, usize::MAX).await.unwrap(), live);
        let tail = store.tail(None, PAGE).await.unwrap();
        assert_eq!((tail.head, tail.first_page, tail.from.position), (live.head, 0, 3 * PAGE));
        let (first, second) = (store.page(0).await.unwrap().unwrap(), store.page(2).await.unwrap().unwrap());
        assert_eq!(first.entries, [Item::from(&key)]);
        assert_eq!((first.to, second.to), (second.from, tail.from), "the page between is empty and passed over");
        let seen: Vec<Item> = [first.entries, second.entries, tail.entries].concat();
        let needed = live.entries.iter().filter(|e| e.feed_until > clock.now());
        assert!(seen == needed.map(Item::from).collect::<Vec<_>>(), "{} are too many to print", seen.len());
    }
    // It goes on from there, and forgets in time.
    let store = file(&path, &clock, options()).unwrap();
    let head = tokio::time::timeout(secs(5), store.appended(0)).await;
    assert_eq!(head, Ok(live.head), "who has read nothing need not wait for the next entry");
    let at = store.tail(None, PAGE).await.unwrap();
    clock.advance(millis(1));
    let next = store.deny(denial(Target::Session(common::session(START, 1)), Ends::Tokens)).await.unwrap().unwrap();
    assert_eq!(next.position, live.head + 1);
    let tail = store.tail(Some((at.epoch, at.to)), PAGE).await.unwrap();
    assert_eq!((tail.from, tail.entries), (at.to, vec![Item::from(&next)]));
    let whole = store.tail(None, PAGE).await.unwrap();
    assert!(!whole.entries.contains(&Item::from(&cut_off)), "verifiers need it no longer, refreshes do");
    assert!(store.entries(0, usize::MAX).await.unwrap().entries.contains(&cut_off));
}

#[test]
fn garbage_is_no_store() {
    let (place, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START)));
    let path = place.path().join("store.redb");
    fs::write(&path, [0x5a; 20_000]).unwrap();
    assert!(matches!(file(&path, &clock, Options::new(RETENTION)), Err(OpenError::Damaged(_))));
    assert_eq!(fs::read(&path).unwrap(), [0x5a; 20_000], "and is left as it is");
}

#[tokio::test]
async fn a_lowered_audit_cap_is_reached_and_the_log_stays_readable() {
    let mut bed = Bed::new();
    for _ in 0..100 {
        open(bed.store(), subject(1)).await;
        bed.clock.advance(millis(1));
    }
    bed.options.audit_cap = 10;
    bed.reopen();
    for _ in 0..20 {
        open(bed.store(), subject(1)).await;
        bed.clock.advance(millis(1));
    }
    let all = bed.store().audit(AuditQuery { limit: 1000, ..AuditQuery::default() }).await.unwrap().records;
    let sequences: Vec<_> = all.iter().map(|r| r.sequence).collect();
    assert!(sequences.len() <= 10 && sequences.windows(2).all(|w| w[0] + 1 == w[1]), "{sequences:?}");
    assert_eq!(all.iter().rfind(|r| r.session.is_some()).unwrap().at, START.plus(millis(119)));
    let since = AuditQuery { since: Some(START.plus(millis(117))), limit: 1000, ..AuditQuery::default() };
    let since = bed.store().audit(since).await.unwrap().records;
    assert_eq!(since.iter().filter(|r| r.session.is_some()).count(), 3);
}

#[tokio::test]
async fn tokens_of_an_earlier_longer_life_stay_deniable_until_they_expire() {
    let mut bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    bed.options.retention.access = secs(60);
    bed.reopen();
    let entry = bed.store().deny(denial(Target::Subject(subject(1)), Ends::Tokens)).await.unwrap().unwrap();
    assert!(entry.feed_until >= family.lineage.access_until);
}

// ---- the witness

#[tokio::test]
async fn an_older_copy_put_back_answers_503_to_everything() {
    let mut bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    let copy = bed.backup();
    bed.store().close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    bed.put_back(copy, Acceptance::Wait);
    let store = bed.store();
    assert_eq!(store.standing(), Standing::NotWhole);
    assert_eq!(verdict(store, &family, 0).await, Verdict::Unavailable(Doubt::StoreNotWhole));
    let not_whole = |e: StoreError| assert!(matches!(e, StoreError::NotWhole), "{e}");
    not_whole(store.open(common::opening(subject(1))).await.unwrap_err());
    not_whole(store.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap_err());
    not_whole(store.deny(denial(Target::All, Ends::Sessions)).await.unwrap_err());
    not_whole(store.denied(bearer(&family, START)).await.unwrap_err());
    not_whole(store.entries(0, 1).await.unwrap_err());
    not_whole(store.stamp(subject(1), common::app(), Draft::default()).await.unwrap_err());
    not_whole(store.amend(family.id, vec![], vec![], Draft::default()).await.unwrap_err());
}

#[tokio::test]
async fn doubt_does_not_wear_off() {
    let mut bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    let copy = bed.backup();
    show(bed.store(), &family, 0).await;
    bed.stop();
    let right = bed.disk.bytes();
    bed.put_back(copy.clone(), Acceptance::Wait);
    // However often it is started, and whatever is asked of it, it does not catch up with what was remembered.
    for _ in 0..20 {
        bed.reopen();
        assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Unavailable(Doubt::StoreNotWhole));
        drop(bed.store().record(Event::KeyRotated, rescind::model::audit::Outcome::Done, None, Draft::default()).await);
    }
    assert_eq!(bed.store().standing(), Standing::NotWhole);
    // The right one put back needs nobody's word.
    bed.put_back(right, Acceptance::Wait);
    assert_eq!(bed.store().standing(), Standing::Whole);
    assert_eq!(verdict(bed.store(), &family, 1).await, Verdict::Rotate);
}

#[tokio::test]
async fn a_deleted_store_is_a_wiped_one_until_somebody_decides() {
    let mut bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    bed.put_back(Vec::new(), Acceptance::Wait);
    for _ in 0..3 {
        assert_eq!(bed.store().standing(), Standing::Wiped);
        assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Unavailable(Doubt::WipeUndecided));
        assert!(bed.store().open(common::opening(subject(1))).await.is_err());
        bed.reopen();
    }
    bed.reopen_accepting(Acceptance::EndSessions);
    assert_eq!(bed.store().standing(), Standing::Whole);
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Refused(Refusal::Unknown));
    // Its access tokens are out there still.
    assert!(bed.store().denied(bearer(&family, START)).await.unwrap());
    bed.reopen();
    assert_eq!(bed.store().standing(), Standing::Whole, "said once is enough");
    let next = open(bed.store(), subject(1)).await;
    assert_eq!(verdict(bed.store(), &next, 0).await, Verdict::Rotate);
}

#[tokio::test]
async fn a_foreign_store_is_not_the_one_that_was() {
    let mut foreign = Bed::with(|o| o.witness = None);
    foreign.random.next();
    for _ in 0..20 {
        open(foreign.store(), subject(1)).await;
    }
    let bytes = foreign.backup();
    let mut bed = Bed::new();
    bed.random.next();
    bed.put_back(Vec::new(), Acceptance::EndSessions);
    bed.put_back(bytes, Acceptance::Wait);
    assert_eq!(bed.store().standing(), Standing::NotWhole);
}

#[tokio::test]
async fn accepting_a_loss_ends_every_session_that_the_copy_knows() {
    let mut bed = Bed::new();
    let families = [open(bed.store(), subject(1)).await, open(bed.store(), subject(2)).await];
    let epoch = bed.store().entries(0, 1).await.unwrap().epoch;
    let copy = bed.backup();
    let minted = show(bed.store(), &families[0], 0).await.at;
    bed.store().close(families[1].id, Closure::Revoked, None, Draft::default()).await.unwrap();
    bed.put_back(copy, Acceptance::EndSessions);
    assert_eq!(bed.store().standing(), Standing::Whole);
    for family in &families {
        assert_eq!(verdict(bed.store(), family, 0).await, Verdict::Refused(Refusal::CutOff));
        assert!(bed.store().denied(bearer(family, minted)).await.unwrap());
    }
    let page = bed.store().entries(0, 10).await.unwrap();
    assert_ne!(page.epoch, epoch, "verifiers read the new log from its start");
    let log = bed.store().audit(AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap().records;
    assert!(log.iter().any(|r| r.event == Event::StoreAccepted));
    let fresh = open(bed.store(), subject(1)).await;
    assert_eq!(verdict(bed.store(), &fresh, 0).await, Verdict::Rotate);
}

#[tokio::test]
async fn keeping_sessions_denies_all_tokens_and_closes_what_is_ahead_of_the_backup() {
    let mut bed = Bed::new();
    let ahead = open(bed.store(), subject(1)).await;
    let level = open(bed.store(), subject(2)).await;
    let overtaken = open(bed.store(), subject(3)).await;
    let copy = bed.backup();
    let minted = show(bed.store(), &ahead, 0).await.at;
    show(bed.store(), &overtaken, 0).await;
    show(bed.store(), &overtaken, 1).await;
    bed.put_back(copy, Acceptance::DangerouslyKeepSessions);
    let store = bed.store();
    assert!(store.denied(bearer(&ahead, minted)).await.unwrap());
    let refreshed = show(store, &level, 0).await;
    assert_eq!(refreshed.verdict, Verdict::Rotate);
    assert!(!store.denied(bearer(&level, refreshed.at)).await.unwrap());
    assert_eq!(verdict(store, &ahead, 1).await, Verdict::Close(Closure::AheadOfBackup));
    // Somebody uses a token that the backup takes for unspent, then the rightful one comes: no 503 for ever.
    assert_eq!(verdict(store, &overtaken, 0).await, Verdict::Rotate);
    assert_eq!(verdict(store, &overtaken, 2).await, Verdict::Close(Closure::AheadOfBackup));
}

#[tokio::test]
async fn a_crash_is_no_rollback() {
    for torn in [false, true] {
        let mut bed = Bed::new();
        let family = open(bed.store(), subject(1)).await;
        let before = fs::read(bed.witness()).unwrap();
        bed.clock.advance(secs(2));
        show(bed.store(), &family, 0).await;
        eventually("the witness is told", || async { fs::read(bed.witness()).unwrap() != before }).await;
        let found = bed.disk.crash(|_| torn);
        bed.stop();
        bed.disk = Arc::default();
        bed.disk.replace(found);
        bed.reopen();
        assert_eq!(bed.store().standing(), Standing::Whole);
        assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    }
}

#[tokio::test]
async fn the_witness_is_told_within_a_second_or_two() {
    let bed = Bed::new();
    let before = fs::read(bed.witness()).unwrap();
    open(bed.store(), subject(1)).await;
    bed.clock.advance(secs(2));
    eventually("the witness is written", || async { fs::read(bed.witness()).unwrap() != before }).await;
}

// ---- time served

/// Every write fails, for as long as the guard says.
fn cut_disk(bed: &Bed) {
    bed.disk.hook(|verb, _| (verb != Verb::Sync).then_some(Fault::Failed));
}

#[tokio::test]
async fn an_outage_does_not_use_up_the_retry_window() {
    let bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Rotate);
    bed.clock.advance(secs(29));
    let served = bed.store().moment().served;
    cut_disk(&bed);
    for _ in 0..5 {
        assert!(bed.store().present(showing(&family, 0)).await.is_err());
        // Whatever the writer does when nobody asks proves nothing about the disk.
        tokio::time::sleep(millis(1100)).await;
        bed.clock.advance(secs(60));
    }
    bed.disk.heal();
    assert_eq!(bed.store().moment().served, served);
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    bed.clock.advance(secs(30));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Close(Closure::Reused));
}

#[tokio::test]
async fn downtime_does_not_use_up_the_retry_window() {
    let mut bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    show(bed.store(), &family, 0).await;
    bed.clock.advance(secs(29));
    bed.stop();
    bed.clock.advance(secs(3000));
    bed.reopen();
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    bed.clock.advance(secs(30));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Close(Closure::Reused));
}

#[tokio::test]
async fn a_clock_set_forward_or_back_does_not_use_up_the_retry_window() {
    let bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    show(bed.store(), &family, 0).await;
    bed.clock.jump(secs(1800));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    bed.clock.jump_back(secs(3600));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    bed.clock.advance(secs(30));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Close(Closure::Reused));
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_use_up_the_retry_window() {
    let bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    let clock = bed.clock.clone();
    bed.disk.hook(move |verb, _| {
        if verb == Verb::Sync {
            clock.advance(secs(60));
        }
        None
    });
    // The rotation is durable a minute or more after it was asked for: its client has long given up.
    show(bed.store(), &family, 0).await;
    bed.disk.heal();
    bed.clock.advance(secs(29));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    assert!(bed.clock.now() >= START.plus(secs(89)));
}

#[tokio::test]
async fn a_retry_after_a_rotation_answered_503_comes_as_late_as_it_likes() {
    let bed = Bed::with(|options| drop(common::listen(options)));
    let family = open(bed.store(), subject(1)).await;
    // The sync that makes the rotation durable says that it failed: after that of the grown file and that of the
    // pages comes that of the second phase.
    let syncs = std::sync::atomic::AtomicUsize::new(0);
    bed.disk.hook(move |verb, _| {
        let earlier = syncs.fetch_add(usize::from(verb == Verb::Sync), std::sync::atomic::Ordering::SeqCst);
        (verb == Verb::Sync && earlier == 2).then_some(Fault::FailedButPersisted)
    });
    assert!(bed.store().present(showing(&family, 0)).await.is_err());
    bed.disk.heal();
    // Others are served for an hour; the client that heard 503 comes back at its leisure.
    for _ in 0..10 {
        open(bed.store(), subject(2)).await;
        bed.clock.advance(secs(300));
    }
    assert_eq!(head(bed.store(), &family).await, 1, "it was durable after all");
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    // From the first 2xx on the window counts.
    bed.clock.advance(millis(29_999));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
    bed.clock.advance(secs(30));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Close(Closure::Reused));
}

#[tokio::test]
async fn a_client_that_went_away_before_its_answer_comes_as_late_as_it_likes() {
    let bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    // The disk takes its time, so that the connection breaks before there is an answer.
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let waits_for = broken.clone();
    bed.disk.hook(move |_, _| {
        while !waits_for.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::yield_now();
        }
        None
    });
    {
        // Polled once: the request is queued. Then the connection breaks.
        let mut request = std::pin::pin!(bed.store().present(showing(&family, 0)));
        let waker = std::task::Waker::noop();
        drop(request.as_mut().poll(&mut std::task::Context::from_waker(waker)));
    }
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    bed.disk.heal();
    eventually("it is carried out all the same", || async { head(bed.store(), &family).await == 1 }).await;
    open(bed.store(), subject(2)).await;
    bed.clock.advance(secs(600));
    assert_eq!(verdict(bed.store(), &family, 0).await, Verdict::Retry);
}

#[tokio::test]
async fn what_was_queued_is_finished_before_the_store_closes() {
    let mut bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    for generation in 0..20 {
        let mut request = std::pin::pin!(bed.store().present(showing(&family, generation)));
        drop(request.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())));
    }
    bed.reopen();
    assert_eq!(head(bed.store(), &family).await, 20);
}

// ---- expiry

#[tokio::test]
async fn expiry_keeps_up_with_opening() {
    let bed = Bed::new();
    // Many at once, so that a batch carries more openings than an idle one would sweep.
    for round in 0..6 {
        let mut waiting = Vec::new();
        for _ in 0..500 {
            let mut request = Box::pin(bed.store().open(common::opening(subject(round))));
            let waker = std::task::Waker::noop();
            if request.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending() {
                waiting.push(request);
            }
        }
        for request in waiting {
            request.await.unwrap();
        }
        bed.clock.advance(LIVES.idle);
    }
    open(bed.store(), subject(9)).await;
    let mut left = 0;
    for round in 0..5 {
        left += bed.store().of_subject(subject(round), None, 1000).await.unwrap().len();
    }
    assert_eq!(left, 0, "five of six rounds have expired long ago");
}

// ---- a queue that is full

/// What becomes of a request at first sight; none if it waits.
fn at_once<F: Future>(request: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match request.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn what_grants_access_is_refused_before_what_takes_it_back() {
    let bed = Bed::new();
    let family = open(bed.store(), subject(1)).await;
    // The writer is held up in the middle of a step, as by a disk.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let seal = Box::new(move |_, _| {
        let _ = held.lock().unwrap().recv();
        b"sealed".to_vec()
    });
    let mut first = Box::pin(bed.store().open(Opening { seal, ..common::opening(subject(2)) }));
    assert!(at_once(first.as_mut()).is_none());
    let mut waiting = Vec::new();
    loop {
        let mut request = Box::pin(bed.store().open(common::opening(subject(3))));
        match at_once(request.as_mut()) {
            None => waiting.push(request),
            Some(refused) => break assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}"),
        }
        assert!(waiting.len() < 100_000, "the queue has no end");
    }
    let refresh = at_once(std::pin::pin!(bed.store().present(showing(&family, 0))));
    assert!(matches!(refresh, Some(Err(StoreError::Busy))));
    let mut revocations = Vec::new();
    for n in 0..500 {
        let target = Target::Session(session(START, u8::try_from(n % 256).unwrap()));
        let mut request = Box::pin(bed.store().deny(denial(target, Ends::Sessions)));
        assert!(at_once(request.as_mut()).is_none(), "revocation {n} is refused");
        revocations.push(request);
    }
    let mut closing = Box::pin(bed.store().close(family.id, Closure::LoggedOut, None, Draft::default()));
    assert!(at_once(closing.as_mut()).is_none());
    drop(release);
    for request in revocations {
        request.await.unwrap().unwrap();
    }
    assert!(closing.await.unwrap().was_open);
    for request in waiting {
        request.await.unwrap();
    }
}

//! A store of the layout before this one, kept as a file (tests/fixtures/make.py made it), opens and holds what it held.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/store/mod.rs"]
mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, sync::Arc, time::Duration};

use redb::{ReadableDatabase, TableDefinition};
use rescind::{
    clock::ManualClock,
    model::{
        Timestamp,
        audit::Draft,
        denial::{Bearer, Retention},
        family::{Closure, Generation, Standing, Verdict},
    },
    store::{
        AuditQuery, AuditStore, DenyStore, FamilyStore,
        embedded::{EmbeddedStore, OpenError, Options},
    },
};
use serde_json::Value;

use self::common::{Seeded, disk::Disk, kid, show, showing};

/// The kept file, unpacked.
fn kept() -> Vec<u8> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schema-2.redb.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
    assert!(unpacked.status.success());
    unpacked.stdout
}

fn facts() -> Value {
    serde_json::from_str(include_str!("fixtures/schema-2.json")).unwrap()
}

fn at(facts: &Value) -> Timestamp {
    Timestamp::from_rfc3339(facts["at"].as_str().unwrap()).unwrap()
}

fn options() -> Options {
    let days = |n: u64| Duration::from_secs(n * 86400);
    Options::new(Retention { access: Duration::from_secs(300), session: days(90) })
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(at(&facts())))
}

fn open(path: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(path, options(), clock(), &Seeded::new(3))
}

/// Everything that the facts tell of, as the store has it now.
async fn holds_what_it_held(store: &EmbeddedStore) {
    let facts = facts();
    assert_eq!(store.standing(), Standing::Whole);
    let session = |name: &str| facts["sessions"][name].as_str().unwrap().parse().unwrap();
    let mut found = Vec::new();
    for (name, head, closed) in [
        ("live", 3, None),
        ("logged_out", 0, Some(Closure::LoggedOut)),
        ("reused", 2, Some(Closure::Reused)),
        ("cut_off", 0, None),
        ("token_denied", 0, None),
        ("ended", 0, Some(Closure::Revoked)),
    ] {
        let family = store.find(session(name)).await.unwrap().unwrap_or_else(|| panic!("{name} is lost"));
        assert_eq!((family.lineage.head, family.lineage.closed.map(|c| c.cause)), (Generation(head), closed), "{name}");
        assert!(!family.sealed.is_empty());
        let listed = store.of_subject(family.subject, None, 10).await.unwrap();
        assert!(listed.iter().any(|f| f.id == family.id), "{name} is found by its subject");
        found.push(family);
    }
    let entries = store.entries(0, 200).await.unwrap().entries;
    let told = facts["revocations"].as_array().unwrap();
    let kinds = |of: &[Value]| of.iter().map(|r| (r["position"].as_u64(), r["kind"].clone())).collect::<Vec<_>>();
    let have: Vec<_> = entries.iter().map(|e| (Some(e.position), Value::from(e.target.kind()))).collect();
    assert_eq!(have[..told.len()], kinds(told), "all that was denied, in its place");
    let denied = |family: usize, token: Option<&str>| Bearer {
        token: token.map_or_else(|| rescind::model::TokenId::new(at(&facts), &[9; 10]), |t| t.parse().unwrap()),
        session: Some(found[family].id),
        subject: found[family].subject,
        client: "app".parse().unwrap(),
        key: kid("k"),
    };
    for (family, is) in [(0, false), (1, true), (2, true), (3, true), (5, true)] {
        assert_eq!(store.denied(denied(family, None)).await.unwrap(), is, "family {family}");
    }
    assert!(store.denied(denied(4, facts["denied_token"].as_str())).await.unwrap());
    assert!(!store.denied(denied(4, None)).await.unwrap(), "minted after that cut-off of tokens");

    let log = store.audit(AuditQuery { limit: 200, ..AuditQuery::default() }).await.unwrap().records;
    for told in facts["audit"].as_array().unwrap() {
        let record = log.iter().find(|r| told["sequence"] == r.sequence).unwrap_or_else(|| panic!("{told} is lost"));
        assert_eq!(serde_json::to_value(record.event).unwrap(), told["event"]);
        assert_eq!(record.at.to_rfc3339(), told["at"]);
        assert_eq!(record.subject.as_ref().map(ToString::to_string).as_deref(), told["subject"].as_str());
    }
}

/// And it goes on: the live session rotates, another is opened, something is denied.
async fn goes_on(store: &EmbeddedStore) {
    let facts = facts();
    let live = store.find(facts["sessions"]["live"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(show(store, &live, 3).await.verdict, Verdict::Rotate);
    let again = store.present(showing(&live, 3)).await.unwrap().verdict;
    assert_eq!(again, Verdict::Retry);
    let fresh = common::open(store, live.subject).await;
    store.close(fresh.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    let tail = store.tail(None, 1000).await.unwrap();
    assert!(tail.entries.iter().any(|e| e.position == tail.head), "the feed goes on");
}

#[tokio::test]
async fn a_store_of_the_layout_before_is_upgraded_and_a_copy_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    fs::write(&path, kept()).unwrap();
    let store = open(&path).unwrap();
    holds_what_it_held(&store).await;
    goes_on(&store).await;
    drop(store);
    let store = open(&path).unwrap();
    let live = facts()["sessions"]["live"].as_str().unwrap().parse().unwrap();
    assert_eq!(store.find(live).await.unwrap().unwrap().lineage.head, Generation(4));
    drop(store);
    assert!(schema(&fs::read(&path).unwrap()) > 2);
    let copy = temp.path().join("store.schema-2");
    assert_eq!(schema(&fs::read(&copy).unwrap()), 2, "the copy is as it was");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn an_upgrade_that_is_cut_off_anywhere_ends_whole_at_the_next_start() {
    let bytes = kept();
    // How many operations an undisturbed upgrade has.
    let disk = Arc::new(Disk::default());
    disk.replace(bytes.clone());
    disk.hook(|_, _| None);
    drop(on(&disk).unwrap());
    let operations = disk.log().len() as u64;
    assert!(operations > 5);
    for cut in 0..operations {
        for torn in [false, true] {
            let disk = Arc::new(Disk::default());
            disk.replace(bytes.clone());
            disk.hook(move |_, n| (n >= cut).then_some(common::disk::Fault::Failed));
            drop(on(&disk));
            // What of the unsynced sectors reached the disk: none, or every other one.
            let found = disk.crash(|sector| torn && sector % 2 == 0);
            let disk = Arc::new(Disk::default());
            disk.replace(found);
            let store = on(&disk).unwrap_or_else(|e| panic!("cut at {cut}, torn {torn}: {e}"));
            holds_what_it_held(&store).await;
            goes_on(&store).await;
        }
    }
}

/// The store on this disk. A sync that fails is told, and ends nothing.
fn on(disk: &Arc<Disk>) -> Result<EmbeddedStore, OpenError> {
    let options = Options { on_sync_failure: Arc::new(|_| {}), cache: 1 << 20, ..options() };
    EmbeddedStore::with_backing(disk.clone(), options, clock(), &Seeded::new(3))
}

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

fn schema(bytes: &[u8]) -> u8 {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("copy");
    fs::write(&path, bytes).unwrap();
    let database = redb::Database::open(path).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    meta.get("schema").unwrap().unwrap().value()[0]
}

#[tokio::test]
async fn a_store_of_a_newer_layout_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    drop(open(&path).unwrap());
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("schema", &[99_u8][..]).unwrap();
    txn.commit().unwrap();
    drop(database);
    let refused = open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Schema { found: 99 }), "{refused}");
    assert!(refused.to_string().contains("the store has schema 99"), "{refused}");
    assert_eq!(schema(&fs::read(&path).unwrap()), 99);
}

/// The program before this one wrote store, keys and refresh tokens; this one takes over. PREVIOUS_PROGRAM names that
/// program: `tests/run --long` builds it.
#[test]
fn tokens_of_the_program_before_are_good_after_the_upgrade() {
    let previous = std::env::var_os("PREVIOUS_PROGRAM").expect("tests/run --long names the program before");
    let temp = tempfile::tempdir().unwrap();
    let node = temp.path().join("node");
    let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/make.py");
    assert!(Command::new("python3").arg(make).arg(previous).arg(&node).status().unwrap().success());
    let token = fs::read_to_string(node.join("newest")).unwrap();
    let mut service = Command::new(env!("CARGO_BIN_EXE_rescind"));
    let mut service = service.arg("serve").arg("--config").arg(node.join("rescind.toml")).spawn().unwrap();
    let config = fs::read_to_string(node.join("rescind.toml")).unwrap();
    let listen = config.lines().find_map(|l| l.strip_prefix("listen = ")).unwrap().trim_matches('"').to_owned();
    let body = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let sent = || async {
            let head = format!("Host: t\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
            let form = "Content-Type: application/x-www-form-urlencoded\r\n";
            talk(&listen, &format!("POST /oauth2/token HTTP/1.1\r\n{head}{form}\r\n{body}")).await
        };
        common::eventually("it serves", || async { talk(&listen, "").await.is_some() }).await;
        sent().await.unwrap()
    });
    service.kill().unwrap();
    service.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(node.join("store.schema-2").exists());
}

async fn talk(to: &str, request: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(to).await.ok()?;
    if request.is_empty() {
        return Some(String::new());
    }
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

#[tokio::test]
async fn sessions_of_the_layout_before_count_where_a_subject_may_have_so_many() {
    use rescind::{
        model::session::{OnFull, SessionCap},
        store::{Opened, Opening},
    };
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    fs::write(&path, kept()).unwrap();
    let store = open(&path).unwrap();
    let live = facts()["sessions"]["live"].as_str().unwrap().parse().unwrap();
    let live = store.find(live).await.unwrap().unwrap();
    let cap = Some(SessionCap { most: 1, on_full: OnFull::Refuse });
    let opening = || Opening { cap, ..common::opening(live.subject) };
    assert_eq!(store.open(opening()).await.unwrap(), Opened::Full);
    store.close(live.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    for id in store.of_subject(live.subject, None, 100).await.unwrap().into_iter().map(|f| f.id) {
        store.close(id, Closure::Revoked, None, Draft::default()).await.unwrap();
    }
    assert!(store.open(opening()).await.unwrap().family().is_some());
}

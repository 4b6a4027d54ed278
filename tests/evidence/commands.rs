//! `rescind audit verify|export`, `rescind subject`, `rescind webhook test`, as an auditor runs them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use super::support::remove_log;
use crate::harness::{APP, Harness, text};

fn rescind(harness: &Harness, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
    command.args(args).env("RESCIND_CLIENT_SECRET", &harness.secret);
    command.env("RESCIND_SERVER", &harness.base).env("RESCIND_CLIENT_ID", APP);
    ended(command.output().unwrap())
}

/// Without a service.
fn alone(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
    ended(command.args(args).env_remove("RESCIND_SERVER").env_remove("RESCIND_CLIENT_ID").output().unwrap())
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn verify(file: &Path) -> (i32, Value) {
    let (code, out, err) = alone(&["audit", "verify", "--json", "--file", file.to_str().unwrap()]);
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_is_verified_and_its_key_can_be_pinned() {
    let harness = Harness::start().await;
    for n in 0..30 {
        harness.open(&format!("user-{n}")).await;
    }
    let (code, out, err) = rescind(&harness, &["audit", "verify", "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!((code, &found["whole"], &found["records"]), (0, &json!(true), &json!(30)), "{found}");
    let kid = text(&found, "key");
    assert_eq!(rescind(&harness, &["audit", "verify", "--key", kid]).0, 0);
    let (code, out, _) = rescind(&harness, &["audit", "verify", "--key", "another"]);
    assert_eq!(code, 1);
    assert!(out.contains("which is not the --key"), "{out}");
    assert_eq!(alone(&["audit", "verify"]).0, 2, "of nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_named_by_verify_and_by_the_doctor() {
    let mut harness = Harness::on_disk().await;
    harness.open("alice").await;
    let audit = |harness: &Harness| {
        let (code, out, err) = rescind(harness, &["doctor", "--json"]);
        let found: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        let check = found["checks"].as_array().unwrap().iter().find(|c| c["name"] == "audit").unwrap().clone();
        (code, text(&check, "status").to_owned(), check)
    };
    assert_eq!(audit(&harness).1, "ok");
    harness = harness.restart(|_, path| remove_log(&path.unwrap().join("store.redb"))).await;
    harness.open("bob").await;
    let (code, out, _) = rescind(&harness, &["audit", "verify"]);
    assert!(code == 1 && out.contains("the service found another log than its own"), "{out}");
    let (code, status, check) = audit(&harness);
    assert_eq!((code, &*status), (1, "fail"), "{check}");
    assert!(text(&check, "remedy").contains("rescind audit verify"), "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_verified_by_itself_and_one_changed_letter_breaks_it() {
    let (harness, dir) = (Harness::start().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("audit.jsonl");
    for n in 0..5 {
        harness.open(&format!("user-{n}")).await;
    }
    let (code, out, err) = rescind(&harness, &["audit", "export"]);
    assert_eq!((code, out.lines().count()), (0, 6), "{err}");
    fs::write(&file, &out).unwrap();
    let (code, found) = verify(&file);
    assert_eq!((code, &found["records"]), (0, &json!(5)), "{found}");
    fs::write(&file, out.replace("user-2", "user-3")).unwrap();
    let (code, found) = verify(&file);
    assert_eq!((code, &found["first_broken"]), (1, &json!(3)), "{found}");
    let without = |n: usize| -> String {
        out.lines().enumerate().filter(|(i, _)| *i != n).map(|(_, line)| format!("{line}\n")).collect()
    };
    for n in 0..5 {
        fs::write(&file, without(n)).unwrap();
        assert_eq!(verify(&file).0, 1, "without record {}", n + 1);
    }
    // Without the head nothing vouches for the end.
    fs::write(&file, without(5)).unwrap();
    assert_eq!(verify(&file).0, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_broke_off_is_made_whole_by_the_same_command() {
    let (harness, dir) = (Harness::start().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("audit.jsonl");
    let export = || rescind(&harness, &["audit", "export", "--output", file.to_str().unwrap()]);
    harness.open("alice").await;
    harness.open("bob").await;
    assert_eq!(export().0, 0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // Cut in the middle of the second record.
    let text = fs::read(&file).unwrap();
    let first = text.iter().position(|b| *b == b'\n').unwrap();
    fs::write(&file, &text[..first + 40]).unwrap();
    assert_eq!(verify(&file).0, 5);
    harness.open("carol").await;
    let (code, _, err) = export();
    assert_eq!(code, 0, "{err}");
    let (code, found) = verify(&file);
    assert_eq!((code, &found["records"]), (0, &json!(3)), "{found}");
    assert_eq!(export().0, 0, "with nothing new");
    assert_eq!(verify(&file).0, 0);
}

/// A store that was put back older, or another's: the export is what it can be compared with, so it must not be touched.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_knows_more_or_other_than_the_log_is_left_as_it_is() {
    let (harness, dir) = (Harness::start().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("audit.jsonl");
    for name in ["alice", "bob", "carol"] {
        harness.open(name).await;
    }
    assert_eq!(rescind(&harness, &["audit", "export", "--output", file.to_str().unwrap()]).0, 0);
    let before = fs::read(&file).unwrap();
    for records in [0, 2, 3, 5] {
        let other = Harness::start().await;
        for _ in 0..records {
            other.open("dave").await;
        }
        let (code, _, err) = rescind(&other, &["audit", "export", "--output", file.to_str().unwrap()]);
        assert_eq!(code, 1, "{records}: {err}");
        assert!(err.contains("knows more, or other"), "{err}");
        assert!(fs::read(&file).unwrap() == before, "{records}: not a byte is changed");
    }
    assert_eq!(verify(&file).0, 0, "and it is still proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_one_person_can_be_read_and_not_vouched_for() {
    let (harness, dir) = (Harness::start().await, tempfile::tempdir().unwrap());
    for name in ["alice", "bob", "alice"] {
        harness.open(name).await;
    }
    let (_, out, _) = rescind(&harness, &["audit", "export", "--subject", "alice"]);
    assert_eq!(out.lines().count(), 2);
    let file = dir.path().join("alice.jsonl");
    fs::write(&file, &out).unwrap();
    assert_eq!(verify(&file).0, 5);
    fs::write(&file, out.replace("session_opened", "session_closed")).unwrap();
    assert_eq!(verify(&file).0, 1, "each record by itself can be checked");
    let (code, _, err) = rescind(&harness, &["audit", "export", "--since", "yesterday"]);
    assert_eq!(code, 2, "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_exported_and_erased_by_command() {
    let (harness, dir) = (Harness::start().await, tempfile::tempdir().unwrap());
    harness.open("alice").await;
    let file = dir.path().join("alice.json");
    let export = ["subject", "export", "alice", "--output", file.to_str().unwrap()];
    assert_eq!(rescind(&harness, &export).0, 0);
    assert_eq!(rescind(&harness, &export).0, 2, "nothing is overwritten");
    let dossier: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(dossier["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(dossier["records"].as_array().unwrap().len(), 2);
    assert_eq!(rescind(&harness, &["subject", "erase", "alice"]).0, 2, "nobody was there to agree");
    let (code, out, _) = rescind(&harness, &["subject", "erase", "alice", "--dry-run"]);
    assert!(code == 0 && out.starts_with("This would erase all that is kept about alice: 1 sessions end"), "{out}");
    let (code, out, err) = rescind(&harness, &["subject", "erase", "alice", "--yes", "--json"]);
    let done: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!((code, &done["sessions"], &done["records"]), (0, &json!(1), &json!(2)), "{done}");
    let (code, out, err) = rescind(&harness, &["audit", "verify"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("erased: the personal part of 2 records"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_webhook_its_test_says_how_to_get_one() {
    let harness = Harness::start().await;
    let (code, _, err) = rescind(&harness, &["webhook", "test"]);
    assert_eq!(code, 1);
    assert!(err.contains("[webhook]"), "{err}");
}

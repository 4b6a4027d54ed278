//! `rescind backup`, `restore` and `store`: a node's store is copied while it serves, lost, and put back.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::Value;

use super::{
    serve::{Place, snapshot},
    support::{Ended, JSON, end_of, get, post, rescind},
};

impl Place {
    fn asked(&self, args: &[&str]) -> Ended {
        end_of(&mut self.ask(args), "")
    }
    fn backup(&self, to: &Path) -> Ended {
        self.asked(&["backup", "--json", "--to", to.to_str().unwrap()])
    }
    fn restore(&self, backup: &Path, args: &[&str]) -> Ended {
        let mut command = rescind();
        command.arg("restore").arg(backup).arg("--config").arg(self.file()).args(args);
        end_of(&mut command, "")
    }
    fn revoke(&self, kind: &str, id: &Value) {
        let order = format!(r#"{{"kind":"{kind}","id":{id}}}"#);
        let (status, answer) = post(&self.issuer, "/v1/revocations", Some(&self.operator), JSON, &order);
        assert_eq!(status, 201, "{answer}");
    }
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn ok(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.stdout))
}

/// A node with a session, its backup, and what came after it: the session revoked, and another one opened.
fn backed_up() -> (Place, std::path::PathBuf, [Value; 2]) {
    let place = Place::new();
    let server = place.start(&[], 200);
    let alice = place.open();
    let backup = place.dir.join("copy");
    ok(&place.backup(&backup));
    place.revoke("session", &alice["session_id"]);
    assert_eq!(place.refresh(&alice).0, 400);
    let later = place.open();
    assert_eq!(server.end().code, 0);
    (place, backup, [alice, later])
}

#[test]
fn a_backup_is_whole_private_audited_and_overwrites_nothing() {
    let place = Place::new();
    let server = place.start(&[], 200);
    let session = place.open();
    let to = place.dir.join("copy");
    let never = ok(&place.asked(&["store", "show", "--json"]));
    assert_eq!((&never["standing"], &never["last_backup"]), (&"whole".into(), &Value::Null));
    let (_, metrics) = get(&place.operations, "/metrics");
    assert!(metrics.as_str().unwrap().contains("store_last_backup_timestamp_seconds 0.0"), "{metrics}");

    let made = ok(&place.backup(&to));
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(made["bytes"], fs::metadata(&to).unwrap().len());
    let bytes = fs::read(&to).unwrap();
    for secret in ["refresh_token", "access_token"] {
        let secret = session[secret].as_str().unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret), "a token is in the backup");
    }

    let again = place.backup(&to);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("is there already; --force replaces it"), "{}", again.stderr);
    assert_eq!(fs::read(&to).unwrap(), bytes);
    ok(&place.asked(&["backup", "--json", "--force", "--to", to.to_str().unwrap()]));

    let show = ok(&place.asked(&["store", "show", "--json"]));
    assert_eq!(show["last_backup"]["bytes"], fs::metadata(&to).unwrap().len());
    let (_, metrics) = get(&place.operations, "/metrics");
    assert!(!metrics.as_str().unwrap().contains("store_last_backup_timestamp_seconds 0.0"), "{metrics}");
    let (_, log) = audit_of(&place);
    let events: Vec<&str> =
        log.iter().filter_map(|r| r["event"].as_str()).filter(|e| e.starts_with("backup")).collect();
    assert_eq!(events, ["backup_started", "backup_finished"].repeat(2));
    assert!(log.iter().filter(|r| r["event"] == "backup_started").all(|r| r["actor"] == "operator"));
    assert_eq!(server.end().code, 0);
    assert!(!place.names().iter().any(|n| n.contains("tmp")), "{:?}", place.names());
}

fn audit_of(place: &Place) -> (u16, Vec<Value>) {
    let (status, page) = super::support::get_as(&place.issuer, "/v1/audit?limit=200", &place.operator);
    (status, page["records"].as_array().unwrap().clone())
}

#[test]
fn a_restore_ends_every_session_and_says_what_is_lost() {
    let (place, backup, [alice, later]) = backed_up();
    let refused = place.restore(&backup, &[]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("a store is there already"), "{}", refused.stderr);
    assert!(refused.stderr.contains("1 revocations, 1 sessions opened"), "{}", refused.stderr);
    let dry = ok(&place.restore(&backup, &["--dry-run", "--json"]));
    assert_eq!((&dry["restored"], &dry["lost"]["sessions"]), (&false.into(), &1.into()));
    let before = place.names();

    let done = ok(&place.restore(&backup, &["--yes", "--json"]));
    assert_eq!((&done["sessions"], &done["lost"]["revocations"]), (&"ended".into(), &1.into()));
    let aside = Path::new(done["put_aside"].as_str().unwrap());
    assert!(aside.exists());
    assert_eq!(place.names().len(), before.len() + 1, "nothing but the old store is left behind");

    let server = place.start(&[], 200);
    assert_eq!(place.refresh(&alice).0, 400, "revoked after the backup, and stays ended");
    assert_eq!(place.refresh(&later).0, 400);
    assert_eq!(place.refresh(&place.open()).0, 200);
    let (_, log) = audit_of(&place);
    let accepted = log.iter().find(|r| r["event"] == "store_accepted").unwrap();
    let cause = accepted["cause"].as_str().unwrap();
    let (who, lost) = cause.split_once("; of the audit log records ").unwrap_or_else(|| panic!("{cause}"));
    assert!(who.starts_with("sessions ended, by ") && lost.ends_with(" are lost"), "{cause}");
    assert_eq!(server.end().code, 0);

    // The store that was put aside is another one by now, however far it had come.
    fs::copy(aside, place.dir.join("store")).unwrap();
    assert_eq!(place.start(&[], 503).end().code, 0);
}

#[test]
fn sessions_that_are_kept_go_on_and_what_is_ahead_of_the_backup_closes() {
    let place = Place::new();
    let server = place.start(&[], 200);
    let (level, ahead) = (place.open(), place.open());
    let backup = place.dir.join("copy");
    ok(&place.backup(&backup));
    let (_, next) = place.refresh(&ahead);
    let (status, newest) = place.refresh(&next);
    assert_eq!(status, 200);
    assert_eq!(server.end().code, 0);
    ok(&place.restore(&backup, &["--yes", "--json", "--dangerous-keep-sessions"]));
    let server = place.start(&[], 200);
    assert_eq!(place.refresh(&level).0, 200);
    assert_eq!(place.refresh(&newest).0, 400, "never healed after a restore");
    let id = ahead["session_id"].as_str().unwrap();
    let (_, session) = super::support::get_as(&place.issuer, &format!("/v1/sessions/{id}"), &place.operator);
    assert_eq!(session["closed"]["cause"], "ahead_of_backup", "{session}");
    assert_eq!(server.end().code, 0);
}

#[test]
fn what_is_no_whole_backup_changes_nothing() {
    let (place, backup, _) = backed_up();
    let (good, bad) = (fs::read(&backup).unwrap(), place.dir.join("bad"));
    let before = fs::read(place.dir.join("store")).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let longer = [&good[..], b"\n"].concat();
    for (bytes, says) in [
        (&good[..good.len() - 1], "is cut: its end is missing"),
        (&good[..good.len() / 2], "is cut: its end is missing"),
        (&flipped[..], "is damaged"),
        (&longer[..], "something follows its end"),
        (&good[1..], "is not a backup of a Rescind store"),
        (b"", "is not a backup of a Rescind store"),
    ] {
        fs::write(&bad, bytes).unwrap();
        let refused = place.restore(&bad, &["--yes"]);
        assert_eq!(refused.code, 2, "{says}: {}", refused.stderr);
        assert!(refused.stderr.contains(says) && refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    }
    assert_eq!(fs::read(place.dir.join("store")).unwrap(), before);
    let gone = place.restore(Path::new("/nowhere/copy"), &["--yes"]);
    assert_eq!(gone.code, 2, "{}", gone.stderr);
    assert_eq!(gone.stderr.matches("No such file").count(), 1, "said once: {}", gone.stderr);
    assert_eq!(place.start(&[], 200).end().code, 0, "the store is the one it was");
}

#[test]
fn a_store_in_use_is_neither_replaced_nor_compacted() {
    let (place, backup, _) = backed_up();
    let server = place.start(&[], 200);
    let refused = place.restore(&backup, &["--yes"]);
    assert_eq!(refused.code, 5);
    assert!(refused.stderr.contains("another process has this store open"), "{}", refused.stderr);
    let mut compact = rescind();
    let refused = end_of(compact.args(["store", "compact", "--config"]).arg(place.file()), "");
    assert_eq!(refused.code, 5);
    assert!(refused.stderr.contains("another process has this store open"), "{}", refused.stderr);
    assert_eq!(server.end().code, 0);
}

#[test]
fn a_restore_where_the_configuration_lies_says_that_it_is_done() {
    let (place, ..) = backed_up();
    let mut command = rescind();
    command.current_dir(&place.dir).args(["restore", "copy", "--config", "rescind.toml", "--yes", "--json"]);
    assert_eq!(ok(&end_of(&mut command, ""))["restored"], true);
}

#[test]
fn a_restore_without_the_keys_is_refused() {
    let (place, backup, _) = backed_up();
    fs::rename(place.dir.join("keys"), place.dir.join("away")).unwrap();
    let refused = place.restore(&backup, &["--yes"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("the keys are not there"), "{}", refused.stderr);
}

#[test]
fn a_backup_of_another_installation_is_refused_before_anything_is_written() {
    let ((_theirs, foreign, _), (ours, own, _)) = (backed_up(), backed_up());
    let before = snapshot(&ours.dir);
    for args in [&["--yes"][..], &["--dry-run"], &[]] {
        let refused = ours.restore(&foreign, args);
        assert_eq!((refused.code, &*refused.stdout), (2, ""), "{args:?}: {}", refused.stderr);
        for part in ["nothing was changed", "is a backup of installation", "keys.dir", "--dangerous-other-keys"] {
            assert!(refused.stderr.contains(part), "{args:?}: {part} is not in {}", refused.stderr);
        }
        assert_eq!(snapshot(&ours.dir), before, "{args:?}");
    }
    // One's own is taken, also after the store became another by a restore.
    for _ in 0..2 {
        ok(&ours.restore(&own, &["--yes", "--json"]));
        assert_eq!(ours.start(&[], 200).end().code, 0);
    }
    let kept = ours.restore(&foreign, &["--yes", "--dangerous-other-keys", "--dangerous-keep-sessions"]);
    assert_eq!(kept.code, 2, "nobody can read them");
    let [of, keys] =
        [&foreign, &own].map(|copy| ok(&ours.restore(copy, &["--dry-run", "--json", "--dangerous-other-keys"])));
    assert_ne!(of["installation"], keys["installation"]);
}

#[test]
fn a_backup_of_another_installation_is_taken_by_who_means_it_and_nobody_stays_logged_in() {
    let ((theirs, foreign, [alice, _]), (ours, ..)) = (backed_up(), backed_up());
    ok(&ours.restore(&foreign, &["--yes", "--json", "--dangerous-other-keys"]));
    let server = ours.start(&[], 200);
    let (_, log) = audit_of(&ours);
    assert!(log.iter().any(|r| r["event"] == "session_opened" && r["session_id"] == alice["session_id"]), "{log:?}");
    let accepted = log.iter().find(|r| r["event"] == "store_accepted").unwrap();
    assert!(accepted["cause"].as_str().unwrap().contains("other keys"), "{accepted}");
    assert_ne!(ours.refresh(&alice).0, 200);
    assert_eq!(ours.refresh(&ours.open()).0, 200);
    assert_eq!(server.end().code, 0);
    assert_eq!(ours.start(&[], 200).end().code, 0, "said once is enough");
    drop(theirs);
}

#[test]
fn a_restore_that_was_killed_is_begun_anew() {
    let (place, backup, _) = backed_up();
    // What a kill leaves behind: half a store, and half a witness.
    fs::write(place.dir.join("store.restoring"), b"half").unwrap();
    fs::write(place.dir.join("keys/witness.json.restoring"), b"{").unwrap();
    assert_eq!(place.start(&[], 200).end().code, 0, "the old store does not mind");
    ok(&place.restore(&backup, &["--yes", "--json"]));
    assert_eq!(place.start(&[], 200).end().code, 0);
}

#[test]
fn a_store_put_back_by_other_means_serves_again_once_it_is_declared() {
    let place = Place::new();
    let server = place.start(&[], 200);
    let session = place.open();
    let whole = place.asked(&["store", "restored", "--yes"]);
    assert_eq!(whole.code, 1);
    assert!(whole.stderr.contains("store_whole"), "{}", whole.stderr);
    assert_eq!(server.end().code, 0);
    let copy = fs::read(place.dir.join("store")).unwrap();
    let server = place.start(&[], 200);
    place.open();
    assert_eq!(server.end().code, 0);
    fs::write(place.dir.join("store"), copy).unwrap();

    let server = place.start(&[], 503);
    let show = place.asked(&["store", "show"]);
    assert_eq!(show.code, 1);
    assert!(show.stdout.contains("standing     not_whole"), "{}", show.stdout);
    assert_eq!(place.refresh(&session).0, 503);
    assert_eq!(place.backup(&place.dir.join("copy")).code, 5, "what is in doubt is not backed up");
    let asked = place.asked(&["store", "restored"]);
    assert_eq!(asked.code, 2);
    assert!(asked.stderr.contains("say --yes"), "{}", asked.stderr);
    assert_eq!(place.refresh(&session).0, 503);

    let done = ok(&place.asked(&["store", "restored", "--yes", "--json"]));
    assert_eq!((&done["standing"], &done["incarnation"]), (&"whole".into(), &1.into()));
    assert_eq!(get(&place.operations, "/readyz").0, 200, "without a restart");
    assert_eq!(place.refresh(&session).0, 400);
    assert_eq!(place.refresh(&place.open()).0, 200);
    let (_, log) = audit_of(&place);
    let accepted = log.iter().find(|r| r["event"] == "store_accepted").unwrap();
    assert_eq!(accepted["actor"], "operator", "and who said so");
    assert!(
        accepted["cause"].as_str().unwrap().contains("; of the audit log records "),
        "and what is lost: {accepted}"
    );
    assert_eq!(server.end().code, 0);
    assert_eq!(place.start(&[], 200).end().code, 0, "said once is enough");
}

#[test]
fn a_compacted_store_is_smaller_and_the_same() {
    let place = Place::new();
    let server = place.start(&[], 200);
    let session = place.open();
    assert_eq!(server.end().code, 0);
    let mut compact = rescind();
    let done = ok(&end_of(compact.args(["store", "compact", "--json", "--config"]).arg(place.file()), ""));
    assert!(done["bytes_after"].as_u64() <= done["bytes_before"].as_u64(), "{done}");
    let server = place.start(&[], 200);
    assert_eq!(place.refresh(&session).0, 200);
    assert_eq!(server.end().code, 0);
}

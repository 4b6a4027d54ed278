//! `rescind init` and `rescind serve`: from nothing to a node, and back after a loss.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use serde_json::Value;

use super::support::{Basic, Ended, JSON, Server, edit, end_of, get, get_as, post, rescind};

pub(super) struct Place {
    _dir: tempfile::TempDir,
    pub(super) dir: PathBuf,
    pub(super) issuer: String,
    pub(super) operations: String,
    pub(super) operator: Basic,
}

/// Two addresses on a loopback of this test's own: nobody takes a port between its choice and its use.
pub fn free() -> [String; 2] {
    static TESTS: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high | 1, low, TESTS.fetch_add(1, Ordering::Relaxed));
    [(); 2].map(|()| TcpListener::bind((ip, 0)).unwrap()).map(|bound| bound.local_addr().unwrap().to_string())
}

fn init(dir: &Path, listen: &str, operations: &str, args: &[&str]) -> Ended {
    let mut command = rescind();
    command.arg("init").arg(dir).args(["--listen", listen, "--operations-listen", operations]).args(args);
    end_of(&mut command, "")
}

impl Place {
    pub(super) fn new() -> Self {
        Self::over("http")
    }
    /// Found by http or https at the address where it listens.
    pub(super) fn over(scheme: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("node");
        let [listen, operations] = free();
        let issuer = format!("{scheme}://{listen}");
        let made = init(&dir, &listen, &operations, &["--issuer", &issuer]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let lines: Vec<&str> = made.stdout.lines().collect();
        let [id, secret] = lines[..] else { panic!("{}", made.stdout) };
        let operator =
            Basic(id.strip_prefix("client_id=").unwrap().into(), secret.strip_prefix("client_secret=").unwrap().into());
        Self { _dir: temp, dir, issuer, operations: format!("http://{operations}"), operator }
    }
    /// Writes more at the end of its configuration.
    pub(super) fn append(&self, more: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        fs::write(self.file(), format!("{text}\n{more}")).unwrap();
    }
    /// Changes one thing in its configuration, which must be there.
    pub(super) fn change(&self, from: &str, to: &str) {
        let text = edit(&self.file(), from, to);
        fs::write(self.file(), text).unwrap();
    }
    /// A command that asks this node as its operator.
    pub(super) fn ask(&self, args: &[&str]) -> Command {
        let mut command = rescind();
        command.args(args).env("RESCIND_SERVER", &self.issuer).env("RESCIND_CLIENT_ID", &self.operator.0);
        command.env("RESCIND_CLIENT_SECRET", &self.operator.1);
        command
    }
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join("rescind.toml")
    }
    pub fn serve(&self) -> Command {
        self.command(&["serve"])
    }
    /// A command that is told by its configuration what to do.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = rescind();
        command.args(words).arg("--config").arg(self.file());
        command
    }
    /// Serves, and returns once /readyz says `ready` (200 or 503).
    pub(super) fn start(&self, args: &[&str], ready: u16) -> Server {
        let mut server = Server::start(self.serve().args(args));
        for _ in 0..500 {
            let at = self.operations.strip_prefix("http://").unwrap();
            if std::net::TcpStream::connect(at).is_ok() {
                let (status, why) = get(&self.operations, "/readyz");
                assert_eq!(status, ready, "{why}");
                return server;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        server.terminate();
        panic!("it does not serve: {}", server.ended().stderr);
    }
    pub(super) fn open(&self) -> Value {
        let body = r#"{"subject":"alice","audience":["api"],"scope":"read"}"#;
        let (status, session) = post(&self.issuer, "/v1/sessions", Some(&self.operator), JSON, body);
        assert_eq!(status, 201, "{session}");
        session
    }
    pub(super) fn refresh(&self, session: &Value) -> (u16, Value) {
        let form = format!("grant_type=refresh_token&refresh_token={}", session["refresh_token"].as_str().unwrap());
        post(&self.issuer, "/oauth2/token", Some(&self.operator), super::support::FORM, &form)
    }
}

#[test]
fn what_init_writes_serves() {
    let place = Place::new();
    let text = fs::read_to_string(place.file()).unwrap();
    assert!(!text.contains(&place.operator.1), "the secret is in the configuration");
    let server = place.start(&[], 200);
    assert_eq!(place.refresh(&place.open()).0, 200);
    let ended = server.end();
    assert_eq!((ended.code, &*ended.stdout), (0, ""));
    for line in ended.stderr.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(record["level"].is_string());
    }
    assert!(!ended.stderr.contains(&place.operator.1));
}

#[test]
fn init_overwrites_nothing() {
    let place = Place::new();
    let before: Vec<_> = snapshot(&place.dir);
    let again = init(&place.dir, "127.0.0.1:1", "127.0.0.1:2", &[]);
    assert_eq!((again.code, &*again.stdout), (2, ""));
    assert!(again.stderr.contains("is there already; nothing was changed"), "{}", again.stderr);
    assert_eq!(snapshot(&place.dir), before);
}

/// Every file, and what is in it.
pub(super) fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(snapshot(&path));
        } else {
            all.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn keys_under_a_passphrase_need_it_again() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, pass) = (temp.path().join("node"), temp.path().join("passphrase"));
    fs::write(&pass, "correct horse\n").unwrap();
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o600)).unwrap();
    let [listen, operations] = free();
    let mut command = rescind();
    command.arg("init").arg(&dir).args(["--listen", &listen, "--operations-listen", &operations]);
    assert_eq!(end_of(command.env("RESCIND_KEYS__PASSPHRASE", "correct horse"), "").code, 0);
    let serve = || {
        let mut command = rescind();
        command.arg("serve").arg("--config").arg(dir.join("rescind.toml"));
        command
    };
    let without = end_of(&mut serve(), "");
    assert_eq!(without.code, 2);
    assert!(without.stderr.contains("is encrypted"), "{}", without.stderr);
    let wrong = end_of(serve().env("RESCIND_KEYS__PASSPHRASE", "wrong horse"), "");
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("does not open with this passphrase"), "{}", wrong.stderr);
    let server = Server::start(serve().env("RESCIND_KEYS__PASSPHRASE_FILE", &pass));
    let up = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        std::net::TcpStream::connect(&listen).is_ok()
    });
    assert!(up);
    assert_eq!(server.end().code, 0);
}

/// A node that has served, with a session, and a client that was disabled while it ran.
fn served() -> (Place, Value) {
    let place = Place::new();
    place.append("[[clients]]\nid = \"phone\"\n");
    let server = place.start(&[], 200);
    let session = place.open();
    let disabled = end_of(&mut place.ask(&["client", "disable", "phone", "--yes"]), "");
    assert_eq!(disabled.code, 0, "{}", disabled.stderr);
    assert_eq!(server.end().code, 0);
    (place, session)
}

#[test]
fn keys_that_are_not_the_stores_are_refused_and_neither_is_touched() {
    let (place, _) = served();
    let other = Place::new();
    let mistyped = place.dir.join("kyes");
    let says = ["keys.dir", "put those back from their backup", "--dangerous-other-keys"];
    for (dir, what) in [(&mistyped, "no keys are here"), (&other.dir.join("keys"), "the keys of installation")] {
        let before = [snapshot(&place.dir), snapshot(&other.dir)];
        let named = format!("keys.dir={}", dir.display());
        for mut command in [place.serve(), place.command(&["config", "check"])] {
            let refused = end_of(command.args(["--set", &named]), "");
            assert_eq!((refused.code, &*refused.stdout), (2, ""), "{}", refused.stderr);
            for part in says.iter().chain([&what, &dir.to_str().unwrap()]) {
                assert!(refused.stderr.contains(part), "{part} is not in {}", refused.stderr);
            }
        }
        assert!(!mistyped.exists(), "keys were made");
        assert_eq!(snapshot(&other.dir), before[1]);
        let names = |all: &[(PathBuf, Vec<u8>)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&snapshot(&place.dir)), names(&before[0]));
    }
    let server = place.start(&[], 200);
    assert_eq!(place.refresh(&place.open()).0, 200, "with its own it serves as before");
    assert_eq!(server.end().code, 0);
}

#[test]
fn who_begins_anew_beside_an_old_store_says_so_once_and_everyone_logs_in_again() {
    let (place, session) = served();
    let named = format!("keys.dir={}", place.dir.join("fresh").display());
    let server = place.start(&["--set", &named, "--dangerous-other-keys"], 200);
    assert_ne!(place.refresh(&session).0, 200);
    assert_eq!(place.refresh(&place.open()).0, 200);
    let (_, log) = get_as(&place.issuer, "/v1/audit?limit=200", &place.operator);
    let records = log["records"].as_array().unwrap();
    assert!(records.iter().any(|r| r["session_id"] == session["session_id"]), "the log goes on: {log}");
    let accepted = records.iter().find(|r| r["event"] == "store_accepted").unwrap();
    assert!(accepted["cause"].as_str().unwrap().contains("other keys"), "{accepted}");
    assert!(!log.to_string().contains("audit_broken"), "what others signed is no alarm: {log}");
    let verified = end_of(&mut place.ask(&["audit", "verify"]), "");
    assert_eq!(verified.code, 0, "{}", verified.stdout);
    let phone = end_of(&mut place.ask(&["client", "show", "phone", "--json"]), "");
    assert!(phone.stdout.contains("\"enabled\""), "who was disabled cannot be read any more: {}", phone.stdout);
    assert_eq!(server.end().code, 0);
    let server = place.start(&["--set", &named], 200);
    let opened = place.open();
    assert_eq!(server.end().code, 0);
    // The flag is about other keys, and ends nothing where there are none.
    let server = place.start(&["--set", &named, "--dangerous-other-keys"], 200);
    assert_eq!(place.refresh(&opened).0, 200);
    assert_eq!(server.end().code, 0);
    let refused = end_of(&mut place.serve(), "");
    assert_eq!(refused.code, 2, "the old keys are the others now: {}", refused.stderr);
}

#[test]
fn a_lost_store_is_served_only_after_an_operator_has_accepted_the_loss() {
    let place = Place::new();
    let server = place.start(&[], 200);
    let session = place.open();
    assert_eq!(server.end().code, 0);
    fs::remove_file(place.dir.join("store")).unwrap();

    let server = place.start(&[], 503);
    let (_, why) = get(&place.operations, "/readyz");
    assert!(why.as_str().unwrap().contains("--accept-store-loss"), "{why}");
    assert_eq!(place.refresh(&session).0, 503, "nobody knows whether that session may go on");
    let ended = server.end();
    assert!(ended.stderr.contains("serving 503 until this is mended"), "{}", ended.stderr);

    let server = place.start(&["--accept-store-loss", "end-sessions"], 200);
    let (status, refused) = place.refresh(&session);
    assert_eq!((status, &refused["error"]), (400, &"invalid_grant".into()));
    assert_eq!(place.refresh(&place.open()).0, 200);
    assert_eq!(server.end().code, 0);
}

#[test]
fn a_secret_goes_into_a_file_if_it_is_asked_to() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("operator");
    let mut command = rescind();
    command.arg("init").arg(temp.path().join("node")).arg("--secret-file").arg(&file);
    let made = end_of(&mut command, "");
    assert_eq!((made.code, &*made.stdout), (0, ""), "{}", made.stderr);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("client_secret=rescind_cs_") && !made.stderr.contains("rescind_cs_"));
    let changed = edit(&file, "client_id=operator", "kept");
    fs::write(&file, &changed).unwrap();
    let mut command = rescind();
    command.arg("init").arg(temp.path().join("other")).arg("--secret-file").arg(&file);
    assert_eq!(end_of(&mut command, "").code, 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), changed, "nothing is overwritten");
    assert!(!temp.path().join("other").exists());
}

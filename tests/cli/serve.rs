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

use super::support::{Basic, Ended, JSON, Server, edit, end_of, get, post, rescind};

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

fn init(dir: &Path, listen: &str, operations: &str) -> Ended {
    let mut command = rescind();
    command.arg("init").arg(dir).args(["--listen", listen, "--operations-listen", operations]);
    end_of(&mut command, "")
}

impl Place {
    pub(super) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("node");
        let [listen, operations] = free();
        let made = init(&dir, &listen, &operations);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let lines: Vec<&str> = made.stdout.lines().collect();
        let [id, secret] = lines[..] else { panic!("{}", made.stdout) };
        let operator =
            Basic(id.strip_prefix("client_id=").unwrap().into(), secret.strip_prefix("client_secret=").unwrap().into());
        let url = |at: &str| format!("http://{at}");
        Self { _dir: temp, dir, issuer: url(&listen), operations: url(&operations), operator }
    }
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join("rescind.toml")
    }
    pub fn serve(&self) -> Command {
        let mut command = rescind();
        command.arg("serve").arg("--config").arg(self.file());
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
    let again = init(&place.dir, "127.0.0.1:1", "127.0.0.1:2");
    assert_eq!((again.code, &*again.stdout), (2, ""));
    assert!(again.stderr.contains("is there already; nothing was changed"), "{}", again.stderr);
    assert_eq!(snapshot(&place.dir), before);
}

fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
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
    assert!(ended.stderr.contains("serving 503 until an operator decides"), "{}", ended.stderr);

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

//! Bad input of the operator's commands: each gets one message that says what, where and how to mend it, and the exit
//! code by which scripts tell them apart. Nothing is half-done.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, process::Command};

use sha2::{Digest, Sha256};

use super::{
    mask::Mask,
    serve::Place,
    support::{JSON, Server, end_of, get, post, rescind},
    transcripts::check,
};

const WATCHER: &str = "rescind_cs_only-for-this-test";

/// A node with an operator, and a client that may read the audit log, open sessions for one audience, and no more; and
/// files with secrets, good and bad.
struct Node {
    secrets: tempfile::TempDir,
    place: Place,
    _server: Server,
}

impl Node {
    fn start() -> Self {
        let (secrets, place) = (tempfile::tempdir().unwrap(), Place::new());
        let hash: String = Sha256::digest(WATCHER).iter().map(|b| format!("{b:02x}")).collect();
        place.append(&format!(
            "[[clients]]\nid = \"watcher\"\nsecret_sha256 = [\"{hash}\"]\naudience = [\"api\"]\n\
             permissions = [\"audit:read\", \"sessions:open\"]\n"
        ));
        let server = place.start(&[], 200);
        let secret = |name: &str, secret: &[u8], mode| {
            let path = secrets.path().join(name);
            fs::write(&path, secret).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        secret("good", place.operator.1.as_bytes(), 0o600);
        secret("watcher", WATCHER.as_bytes(), 0o600);
        secret("wrong", b"rescind_cs_wrong", 0o600);
        secret("exposed", place.operator.1.as_bytes(), 0o644);
        secret("empty", b"\n", 0o600);
        secret("lines", b"one\ntwo\n", 0o600);
        secret("long", "x".repeat(5000).as_bytes(), 0o600);
        secret("array.json", b"[]", 0o600);
        secret("binary", &[0xff, 0xfe], 0o600);
        Self { secrets, place, _server: server }
    }

    /// `args`, where SERVICE, DIR, SID, KID stand for what is there.
    fn command(&self, args: &str, sid: &str, kid: &str, nobody: &str) -> Command {
        let args = args.replace("SERVICE", &self.place.issuer).replace("DIR", self.dir()).replace("NOBODY", nobody);
        let args = args.replace("SID", sid).replace("KID", kid);
        let mut command = rescind();
        command.args(args.split(' '));
        command
    }

    fn dir(&self) -> &str {
        self.secrets.path().to_str().unwrap()
    }
}

/// Who asks, unless the case says it: the operator, at the service.
const OPERATOR: &str = "--server SERVICE --client-id operator --client-secret-file DIR/good";

/// Exit code, and arguments; `@` at the end stands for the operator.
const CASES: &[(i32, &str)] = &[
    // Which service.
    (2, "keys list --client-id operator --client-secret-file DIR/good"),
    (2, "keys list --server auth.example --client-id operator --client-secret-file DIR/good"),
    (2, "keys list --server http://auth.example --client-id operator --client-secret-file DIR/good"),
    (2, "keys list --server ftp://auth.example --client-id operator --client-secret-file DIR/good"),
    (2, "keys list --server https://me:secret@auth.example --client-id operator --client-secret-file DIR/good"),
    (2, "keys list --server SERVICE/?x=1 --client-id operator --client-secret-file DIR/good"),
    (5, "keys list --server http://NOBODY --client-id operator --client-secret-file DIR/good"),
    (5, "keys list --server https://NOBODY --client-id operator --client-secret-file DIR/good"),
    (5, "keys list --server SERVICE/elsewhere --client-id operator --client-secret-file DIR/good"),
    // Who asks.
    (2, "keys list --server SERVICE --client-secret-file DIR/good"),
    (2, "keys list --server SERVICE --client-id operator"),
    (2, "keys list --server SERVICE --client-id operator --client-secret rescind_cs_public"),
    (2, "keys list --server SERVICE --client-id operator --client-secret-file DIR/none"),
    (2, "keys list --server SERVICE --client-id operator --client-secret-file DIR"),
    (2, "keys list --server SERVICE --client-id operator --client-secret-file DIR/exposed"),
    (2, "keys list --server SERVICE --client-id operator --client-secret-file DIR/empty"),
    (2, "keys list --server SERVICE --client-id operator --client-secret-file DIR/lines"),
    (2, "keys list --server SERVICE --client-id operator --client-secret-file DIR/long"),
    (2, "keys list --server SERVICE --client-id operator --client-secret-file DIR/binary"),
    (4, "keys list --server SERVICE --client-id operator --client-secret-file DIR/wrong"),
    (4, "keys list --server SERVICE --client-id nobody --client-secret-file DIR/good"),
    // What it may.
    (4, "keys list --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    (4, "keys rotate --yes --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    (4, "session list alice --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    (4, "session revoke SID --yes --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    (4, "revoke --all --yes --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    (4, "revoke --all --dry-run --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    // What is asked.
    (2, "revoke @"),
    (2, "revoke --all --subject alice @"),
    (2, "revoke --subject alice --yes --dry-run @"),
    (2, "revoke --subject alice --yes --before yesterday @"),
    (2, "revoke --subject alice --yes --before 2999-01-01T00:00:00Z @"),
    (2, "revoke --session SID --tokens-only --yes @"),
    (2, "revoke --token-id eyJhbGciOiJFZERTQSJ9.e30.AAAA --yes @"),
    (2, "revoke --session 1 --yes @"),
    (1, "revoke --key KID --yes @"),
    (3, "revoke --key AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA --yes @"),
    (2, "session show 1 @"),
    (3, "session show 019ab5c0-0000-7000-8000-000000000000 @"),
    (3, "session revoke 019ab5c0-0000-7000-8000-000000000000 --yes @"),
    (2, "session open alice --audience api @"),
    (2, "session open alice --json @"),
    (2, "session open alice --audience api --claims-file DIR/none --json @"),
    (2, "session open alice --audience api --claims-file DIR/array.json --json @"),
    (2, "session open alice --audience api --tokens-file DIR/good @"),
    (2, "session open alice --audience api --tokens-file DIR/none/tokens @"),
    (2, "session open alice --audience api --scope \" --json @"),
    (
        4,
        "session open alice --audience elsewhere --json --server SERVICE --client-id watcher --client-secret-file \
         DIR/watcher",
    ),
    (2, "session list alice --limit 0 @"),
    (1, "keys rotate --yes @"),
    (1, "keys rotate --dry-run --json @"),
    (1, "keys rotate --yes --json @"),
    (2, "keys rotate --dangerous-before-published --yes @"),
    (1, "keys rollback --yes @"),
    (1, "keys activate KID --yes @"),
    (1, "keys retire KID --yes @"),
    (1, "keys retire KID --dangerous-without-waiting --yes @"),
    (1, "keys destroy KID --yes @"),
    (2, "keys show AAAA @"),
    (2, "keys show @"),
    (2, "keys compromise --yse @"),
    (3, "keys show AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA @"),
    (3, "keys compromise AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA --yes @"),
    (2, "keys generate --algorithm RS256 @"),
    (2, "keys import DIR/none @"),
    (2, "keys import DIR/exposed @"),
    (2, "keys import DIR/good @"),
    (2, "keys import DIR/array.json @"),
    (2, "keys import DIR/empty @"),
    (2, "keys import - --server SERVICE --client-id operator --client-secret-file -"),
    (2, "keys export KID --dangerous-private @"),
    (2, "keys export KID --dangerous-private --output DIR/none/key @"),
    (2, "keys export KID --dangerous-private --passphrase-file DIR/exposed --output DIR/key @"),
    (2, "keys export KID --dangerous-private --passphrase-file DIR/good --output DIR/good @"),
    (2, "keys export KID --format der @"),
    (2, "keys export KID --output DIR/good @"),
    (4, "keys compromise KID --yes --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    (4, "keys import DIR/good --server SERVICE --client-id watcher --client-secret-file DIR/watcher"),
    (2, "audit list --session 1 @"),
    (2, "audit list --since yesterday @"),
    (2, "audit tail -n -1 @"),
    (2, "doctor --server auth.example"),
    (2, "doctor --server SERVICE --client-id operator"),
    (2, "completions tcsh"),
    (2, "man DIR/good"),
];

#[test]
fn each_bad_input_gets_one_message_and_its_exit_code() {
    let node = Node::start();
    let (status, session) = post(
        &node.place.issuer,
        "/v1/sessions",
        Some(&node.place.operator),
        JSON,
        r#"{"subject":"alice","audience":["api"]}"#,
    );
    assert_eq!(status, 201, "{session}");
    let sid = session["session_id"].as_str().unwrap();
    let (_, keys) = get(&node.place.issuer, "/.well-known/jwks.json");
    let listed = end_of(&mut node.command(&format!("keys list --json {OPERATOR}"), "", "", ""), "");
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap_or_else(|e| panic!("{e}: {keys}"));
    let active = listed["keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut mask = Mask::default();
    mask.hide(&node.place.issuer, "http://SERVICE");
    mask.hide(&nobody, "NOBODY");
    mask.hide(node.dir(), "DIR");
    let audit = || end_of(&mut node.command(&format!("audit list --json {OPERATOR}"), "", "", ""), "").stdout;
    let before = audit();
    let mut text = String::new();
    for (code, args) in CASES {
        let shown = args.strip_suffix('@').map_or((*args).to_owned(), |args| format!("{args}{OPERATOR}"));
        let mut command = node.command(&shown, sid, active["kid"].as_str().unwrap(), &nobody);
        let ended = end_of(&mut command, "");
        assert_eq!(ended.code, *code, "{args}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stdout, "", "{args}: data on stdout, talk on stderr");
        let told = ended.stderr.lines().filter(|line| line.starts_with("rescind: ") || line.starts_with("error: "));
        assert_eq!(told.count(), 1, "{args}: one message: {}", ended.stderr);
        for secret in [&*node.place.operator.1, WATCHER, "rescind_cs_wrong"] {
            assert!(!ended.stderr.contains(secret), "{args}");
        }
        text += &mask.apply(&format!("$ rescind {args}\n{}{}[{}]\n\n", ended.stdout, ended.stderr, ended.code));
    }
    assert_eq!(audit(), before, "nothing was done, and nobody was logged out");
    for made in ["none", "key"] {
        assert!(!Path::new(&format!("{}/{made}", node.dir())).exists(), "{made}");
    }
    check("refused", &text);
}

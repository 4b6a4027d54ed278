//! An installation moves from the embedded store to a Redis: what was taken away stays taken away.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    nodes::{Node, program, rescind},
    servers::{Server, spare_port},
};

const LAYOUT: &str = "rescind:{hub}:layout";

/// An installation with an embedded store, and the Redis that it is to move to.
struct Site {
    server: Server,
    dir: TempDir,
    base: String,
    secret: String,
}

impl Site {
    fn new() -> Self {
        let (server, dir, base) =
            (Server::start(&[]), TempDir::new().unwrap(), format!("http://127.0.0.1:{}", spare_port()));
        let old = dir.path().join("old");
        let said = rescind(&["init", old.to_str().unwrap(), "--issuer", &base]);
        let secret = said.lines().find_map(|line| line.strip_prefix("client_secret=")).unwrap().to_owned();
        let file = old.join("rescind.toml");
        let apps = "\n[[clients]]\nid = \"app\"\n\n[[clients]]\nid = \"web\"\n";
        let text = fs::read_to_string(&file).unwrap() + apps;
        let quick = text.replace("# retry_window = \"30s\"", "retry_window = \"8s\"");
        assert_ne!(quick, text);
        fs::write(&file, quick).unwrap();
        Self { server, dir, base, secret }
    }

    fn old(&self) -> PathBuf {
        self.dir.path().join("old")
    }

    fn serve(&self, dir: PathBuf) -> Node {
        Node::at(dir, self.base.clone(), self.secret.clone())
    }

    /// Two nodes on what was moved.
    async fn two(&self, new: &Path) -> [Node; 2] {
        let first = self.serve(new.to_owned());
        first.is_ready().await;
        [first, self.second(new).await]
    }

    /// One that brings nothing but the configuration and the shared key.
    async fn second(&self, new: &Path) -> Node {
        let other = self.dir.path().join("other");
        fs::create_dir(&other).unwrap();
        for file in ["rescind.toml", "shared.key"] {
            fs::copy(new.join(file), other.join(file)).unwrap();
        }
        let second = Node::at(other, format!("http://127.0.0.1:{}", spare_port()), self.secret.clone());
        second.is_ready().await;
        second
    }

    /// A directory for a node to come: the configuration, and the keys made ready to be shared.
    fn prepared(&self) -> PathBuf {
        let (old, new) = (self.old(), self.dir.path().join("new"));
        fs::create_dir_all(new.join("keys")).unwrap();
        for entry in fs::read_dir(old.join("keys")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), new.join("keys").join(entry.file_name())).unwrap();
        }
        let permissions = fs::metadata(old.join("keys")).unwrap().permissions();
        fs::set_permissions(new.join("keys"), permissions).unwrap();
        let text = fs::read_to_string(old.join("rescind.toml")).unwrap();
        let named = text.replace("url = \"embedded:store\"", &format!("url = \"{}\"", self.server.url()));
        let named = named.replace("dir = \"keys\"", "dir = \"keys\"\nshared_key_file = \"shared.key\"");
        assert!(named.contains(&self.server.url()) && named.contains("shared_key_file = \"shared.key\""), "{named}");
        fs::write(new.join("rescind.toml"), named).unwrap();
        rescind(&["keys", "share", "--config", new.join("rescind.toml").to_str().unwrap()]);
        new
    }

    fn migrate(&self, new: &Path, more: &[&str]) -> Output {
        let (from, config) = (format!("embedded:{}", self.old().join("store").display()), new.join("rescind.toml"));
        let mut migrate = program();
        migrate.args(["store", "migrate", "--from", &from, "--to", &self.server.url(), "--config"]).arg(config);
        migrate.args(more).stdin(Stdio::null()).output().unwrap()
    }

    fn refused(&self, new: &Path, more: &[&str], why: &str) {
        let before = self.all();
        let output = self.migrate(new, more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{:?}: {said}", output.status);
        assert_eq!(self.all(), before, "nothing was written");
    }

    /// Stands for every key and its value.
    fn all(&self) -> (String, String) {
        (self.server.cli(&["dbsize"]), self.server.cli(&["debug", "digest"]))
    }

    /// The source, byte for byte.
    fn source(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for dir in [self.old(), self.old().join("keys")] {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() && path.file_name().unwrap() != "log" {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// Adds to an export what has come since; it is held to the end of the file.
    fn export(&self, file: &Path) -> String {
        let mut export = program();
        export.args(["audit", "export", "--output"]).arg(file).args([
            "--server",
            &self.base,
            "--client-id",
            "operator",
        ]);
        let output = export.env("RESCIND_CLIENT_SECRET", &self.secret).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(file).unwrap()
    }

    fn verifies(&self) {
        let mut verify = program();
        verify.args(["audit", "verify", "--server", &self.base, "--client-id", "operator"]);
        let output = verify.env("RESCIND_CLIENT_SECRET", &self.secret).stdin(Stdio::null()).output().unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

fn claim(token: &Value, name: &str) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let body = token.as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    claims[name].clone()
}

/// What is denied, in its order; where it lies in which log is another matter.
async fn denied_by(node: &Node) -> Vec<Value> {
    let (status, mut list) = node.list("/v1/revocations").await;
    assert_eq!(status, 200, "{list}");
    let mut entries = std::mem::take(list["revocations"].as_array_mut().unwrap());
    for entry in &mut entries {
        let entry = entry.as_object_mut().unwrap();
        assert!(entry.remove("position").is_some() && entry.remove("epoch").is_some());
    }
    entries
}

async fn revoke(node: &Node, what: Value) -> Value {
    let (status, entry) = node.post("/v1/revocations", &what).await;
    assert_eq!(status, 201, "{entry}: {}", node.log());
    entry
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_stays_revoked_and_the_audit_log_goes_on() {
    let site = Site::new();
    let mut node = site.serve(site.old());
    node.is_ready().await;
    let kept = node.open("alice").await;
    let (status, refreshed) = node.refresh(&kept["refresh_token"]).await;
    assert_eq!(status, 200, "{refreshed}");
    let (single, gone, mallory) = (node.open("bob").await, node.open("carol").await, node.open("mallory").await);
    revoke(&node, json!({"kind": "token", "id": claim(&single["access_token"], "jti")})).await;
    revoke(&node, json!({"kind": "session", "id": claim(&gone["access_token"], "sid"), "reason": "lost"})).await;
    revoke(&node, json!({"kind": "subject", "id": "mallory", "reason": "left"})).await;
    revoke(&node, json!({"kind": "subject", "id": "bob", "ends": "tokens"})).await;
    revoke(&node, json!({"kind": "client", "id": "web", "ends": "tokens"})).await;
    let cut_key = node.kids().await[0].clone();
    node.rotate().await;
    revoke(&node, json!({"kind": "key", "id": cut_key})).await;
    assert_eq!(node.post("/v1/clients/web/disable", &json!({})).await.0, 200);
    let (kids, export) = (node.kids().await, site.dir.path().join("audit.jsonl"));
    let before = site.export(&export);
    let entries = denied_by(&node).await;
    let denied = [&single, &gone, &mallory, &kept];
    node.stop();

    let (new, source) = (site.prepared(), site.source());
    let printed = site.migrate(&new, &["--dry-run", "--json"]);
    let foreseen: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!((&foreseen["moved"], &foreseen["sessions"]), (&json!(false), &json!(4)), "{foreseen}");
    let said = site.migrate(&new, &["--dry-run"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("would be moved: 4 sessions, "));
    assert_eq!(site.all().0, "0", "a dry run writes nothing");
    site.refused(&new, &[], "Every access token ends by this");
    let output = site.migrate(&new, &["--yes", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let moved: Value = serde_json::from_slice(&output.stdout).unwrap();
    let same = ["assertions", "sessions", "sessions_over", "sessions_unreadable"].map(|name| (name, 0));
    for (name, more) in [("entries", 1), ("records", 2)].into_iter().chain(same) {
        let count = |of: &Value| of[name].as_u64().unwrap();
        assert_eq!(count(&moved), count(&foreseen) + more, "{name}: one entry more, and two records that tell of this");
    }
    assert!(foreseen["entries"].as_u64().unwrap() >= 6, "{foreseen}");
    assert_eq!(site.source(), source, "the source is as it was");
    // For those who ask Redis itself.
    let sid = claim(&gone["access_token"], "sid").as_str().unwrap().to_owned();
    let key = format!("rescind:{{{}}}:denied:{sid}", &sid[sid.len() - 3..]);
    assert_eq!(site.server.cli(&["exists", &key]), "1");
    // By which steps decide: the cut-offs of subjects in their buckets, the others in the hub.
    let buckets = site.server.cli(&["--scan", "--pattern", "rescind:*:cuts"]);
    assert_eq!(buckets.lines().map(|key| site.server.cli(&["hlen", key])).collect::<Vec<_>>(), ["1", "1"]);
    let hub = entries.iter().filter(|entry| ["client", "key"].contains(&entry["kind"].as_str().unwrap())).count() + 1;
    assert_eq!(site.server.cli(&["hlen", "rescind:{hub}:denied"]), hub.to_string());

    let [node, second] = site.two(&new).await;
    assert_eq!(node.kids().await, kids, "the keys are the same");
    let mut there = denied_by(&node).await;
    let last = there.pop().unwrap();
    assert_eq!((&last["kind"], &last["ends"]), (&json!("all"), &json!("tokens")), "{last}");
    assert_eq!(there, entries, "each as it was, in its order, with what operators wrote");
    for session in denied {
        assert!(!node.active(&session["access_token"]).await, "{session}");
    }
    assert!(!node.active(&refreshed["access_token"]).await, "it names a session that has another id by now");
    for session in [&gone, &mallory] {
        let (status, refused) = node.refresh(&session["refresh_token"]).await;
        assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")), "{refused}");
    }
    for session in [&refreshed, &single] {
        let (status, next) = node.refresh(&session["refresh_token"]).await;
        assert_eq!(status, 200, "{next}: {}", node.log());
        assert!(node.active(&next["access_token"]).await && second.active(&next["access_token"]).await);
    }
    let (status, clients) = node.list("/v1/clients/web").await;
    assert_eq!((status, &clients["state"]), (200, &json!("disabled")), "{clients}");
    let fresh = node.open("mallory").await;
    assert!(node.active(&fresh["access_token"]).await, "what is opened afterwards is not hit");
    assert_eq!(node.refresh(&fresh["refresh_token"]).await.0, 200);
    let after = site.export(&export);
    // The signed head is its last line, and another by now.
    let records = before.trim_end().rsplit_once('\n').unwrap().0;
    assert!(after.len() > before.len() && after.starts_with(records), "the export goes on where it was");
    assert!(after.contains("moved from an embedded store with 4 sessions"), "{after}");
    assert!(!after.contains("audit_broken"), "{after}");
    site.verifies();
    assert_eq!(second.kids().await, kids);
    assert!(!second.active(&gone["access_token"]).await && second.active(&fresh["access_token"]).await);
    // And it is not done twice.
    site.refused_now(&new, "the target is not empty");
}

impl Site {
    /// While nodes serve, Redis does not stand still.
    fn refused_now(&self, new: &Path, why: &str) {
        let output = self.migrate(new, &["--yes"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{:?}: {said}", output.status);
    }
}

/// A session that was refreshed so often, one token after the other: all its answers.
async fn chain(node: &Node, subject: &str, refreshes: usize) -> Vec<Value> {
    let mut answers = vec![node.open(subject).await];
    for _ in 0..refreshes {
        let (status, next) = node.refresh(&answers.last().unwrap()["refresh_token"]).await;
        assert_eq!(status, 200, "{next}: {}", node.log());
        answers.push(next);
    }
    answers
}

fn sid(answer: &Value) -> String {
    claim(&answer["access_token"], "sid").as_str().unwrap().to_owned()
}

/// Shows a spent token until it is not merely late any more: then it is reuse.
async fn is_reuse_at_last(node: &Node, token: &Value) {
    for _ in 0..1500 {
        match node.refresh(token).await.0 {
            503 => tokio::time::sleep(crate::common::millis(20)).await,
            status => return assert_eq!(status, 400),
        }
    }
    panic!("it is late for ever: {}", node.log());
}

async fn refreshes(node: &Node, answer: &Value) -> Value {
    let (status, next) = node.refresh(&answer["refresh_token"]).await;
    assert_eq!(status, 200, "{next}: {}", node.log());
    next
}

async fn is_refused(node: &Node, answer: &Value) {
    let (status, refused) = node.refresh(&answer["refresh_token"]).await;
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_logged_out_and_no_spent_token_comes_alive() {
    let site = Site::new();
    let mut node = site.serve(site.old());
    node.is_ready().await;
    let (stolen, measure) = (chain(&node, "carol", 2).await, chain(&node, "carol", 2).await);
    is_reuse_at_last(&node, &measure[0]["refresh_token"]).await;
    let (idle, gone, cut) =
        (chain(&node, "erin", 0).await, chain(&node, "erin", 1).await, chain(&node, "eve", 1).await);
    revoke(&node, json!({"kind": "session", "id": sid(&gone[0])})).await;
    revoke(&node, json!({"kind": "subject", "id": "eve"})).await;
    let (late, raced, lost) =
        (chain(&node, "dave", 2).await, chain(&node, "bob", 1).await, chain(&node, "alice", 1).await);
    assert_eq!(refreshes(&node, &raced[0]).await["refresh_token"], raced[1]["refresh_token"]);
    let before = [&stolen, &idle, &gone, &cut, &late, &raced, &lost];
    node.stop();
    let new = site.prepared();
    let output = site.migrate(&new, &["--yes", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let moved: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = ["sessions", "sessions_over", "sessions_unreadable"].map(|name| moved[name].as_u64().unwrap());
    assert_eq!(counts, [8, 0, 0], "{moved}");
    let first = site.serve(new.clone());
    first.is_ready().await;
    // A window that was open is open still, and a token that was handed out before is the one that is handed out again.
    assert_eq!(refreshes(&first, &lost[0]).await["refresh_token"], lost[1]["refresh_token"]);
    assert_eq!(refreshes(&first, &raced[0]).await["refresh_token"], raced[1]["refresh_token"]);
    assert_eq!(first.refresh(&late[0]["refresh_token"]).await.0, 503, "late, and no more than that yet");
    // One that was closed is not opened again.
    is_refused(&first, &stolen[0]).await;
    let second = site.second(&new).await;
    is_refused(&second, &stolen[2]).await;
    for chain in before {
        for answer in chain {
            assert!(!first.active(&answer["access_token"]).await && !second.active(&answer["access_token"]).await);
        }
    }
    for (here, there, chain) in [(&first, &second, &lost), (&second, &first, &raced)] {
        let next = refreshes(here, &chain[1]).await;
        let again = refreshes(there, &chain[1]).await;
        assert_eq!(again["refresh_token"], next["refresh_token"], "one successor");
        for node in [here, there] {
            assert!(node.active(&next["access_token"]).await && node.active(&next["refresh_token"]).await);
            assert!(!node.active(&chain[1]["refresh_token"]).await, "it is spent");
        }
        let (was, is) = (sid(&chain[0]), sid(&next));
        assert_eq!(was[..33], is[..33], "but for the digits that say where it lies");
        let third = refreshes(there, &next).await;
        assert_eq!(sid(&third), is);
        assert_ne!(here.refresh(&chain[0]["refresh_token"]).await.0, 200);
    }
    assert!(first.active(&idle[0]["refresh_token"]).await);
    refreshes(&second, &idle[0]).await;
    for ended in [&gone, &cut] {
        for answer in ended {
            is_refused(&first, answer).await;
            is_refused(&second, answer).await;
        }
    }
    is_reuse_at_last(&second, &late[0]["refresh_token"]).await;
    is_refused(&first, &late[2]).await;
    let said = rescind_of(&site, &["session", "list", "erin", "--json"]);
    let list: Value = serde_json::from_str(&said).unwrap();
    let listed: Vec<_> = list["sessions"].as_array().unwrap().iter().map(|s| (&s["state"], &s["generation"])).collect();
    assert_eq!(listed, [(&json!("open"), &json!(1)), (&json!("closed"), &json!(1))], "{list}");
    site.verifies();
}

/// The program, asked as the operator.
fn rescind_of(site: &Site, arguments: &[&str]) -> String {
    let mut command = program();
    command.args(arguments).args(["--server", &site.base, "--client-id", "operator"]);
    let output = command.env("RESCIND_CLIENT_SECRET", &site.secret).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_that_a_session_had_finds_it_and_ends_it() {
    let site = Site::new();
    let mut node = site.serve(site.old());
    node.is_ready().await;
    // More than lie in one field.
    let mut crowd = Vec::new();
    for _ in 0..70 {
        crowd.push(node.open("crowd").await);
    }
    revoke(&node, json!({"kind": "session", "id": sid(&crowd[5])})).await;
    let (erin, gina) = (node.open("erin").await, node.open("gina").await);
    let frank = [node.open("frank").await, node.open("frank").await, node.open("frank").await];
    node.stop();
    let new = site.prepared();
    assert!(site.migrate(&new, &["--yes"]).status.success());
    let [first, second] = site.two(&new).await;

    let next = refreshes(&first, &erin).await;
    assert!(first.active(&next["access_token"]).await && second.active(&next["access_token"]).await);
    let entry = revoke(&second, json!({"kind": "session", "id": sid(&erin)})).await;
    assert_eq!(entry["id"], json!(sid(&next)), "what verifiers hear is what its tokens say: {entry}");
    for node in [&first, &second] {
        assert!(!node.active(&next["access_token"]).await);
        is_refused(node, &next).await;
        is_refused(node, &erin).await;
        for id in [sid(&erin), sid(&next)] {
            let (status, shown) = node.list(&format!("/v1/sessions/{id}")).await;
            assert_eq!((status, &shown["state"], &shown["session_id"]), (200, &json!("closed"), &json!(sid(&next))));
        }
    }
    assert_eq!(first.give_back(&gina["refresh_token"]).await, 200);
    is_refused(&second, &gina).await;
    // All others of its subject, by the id that it had.
    let path = format!("/v1/sessions/{}/revoke", sid(&frank[1]));
    let (status, foreseen) = first.post(&path, &json!({"others": true, "dry_run": true})).await;
    assert_eq!((status, &foreseen["sessions"]), (200, &json!(2)), "{foreseen}");
    let (status, done) = first.post(&path, &json!({"others": true})).await;
    assert_eq!((status, &done["sessions"]), (200, &json!(2)), "{done}");
    is_refused(&second, &frank[0]).await;
    is_refused(&second, &frank[2]).await;
    refreshes(&second, &frank[1]).await;

    let (status, list) = second.list("/v1/sessions?subject=crowd&limit=200").await;
    assert_eq!((status, &list["total"]), (200, &json!(70)), "{list}");
    let listed: Vec<_> = list["sessions"].as_array().unwrap().iter().map(|s| (&s["session_id"], &s["state"])).collect();
    assert!(
        crowd.iter().zip(&listed).any(|(session, (id, _))| *id != &json!(sid(session))),
        "each has its subject's digits"
    );
    assert!(listed.is_sorted_by_key(|(id, _)| id.as_str()), "in the order of their opening");
    for (n, (session, (id, state))) in crowd.iter().zip(listed).enumerate() {
        assert_eq!(id.as_str().unwrap()[..33], sid(session)[..33]);
        assert_eq!(state, if n == 5 { "closed" } else { "open" });
        if n == 5 { is_refused(&first, session).await } else { drop(refreshes(&first, session).await) }
    }
    let (status, done) = second.post("/v1/revocations", &json!({"kind": "subject", "id": "crowd"})).await;
    assert_eq!(status, 201, "{done}");
    is_refused(&first, &crowd[69]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_moved_is_refused_and_nothing_is_written() {
    let site = Site::new();
    let mut node = site.serve(site.old());
    node.is_ready().await;
    node.open("alice").await;
    let new = site.prepared();
    site.refused(&new, &["--yes"], "another process has this store open");
    node.stop();
    // Something is there, be it of a node or a remainder.
    for key in ["rescind:{hub}:head", "rescind:{abc}:cuts", "rescind:{000}:moved", "rescind:{fff}:meta"] {
        site.server.cli(&["hset", key, "field", "value"]);
        site.refused(&new, &["--yes"], "the target is not empty");
        site.refused(&new, &["--dry-run"], key);
        site.server.cli(&["del", key]);
    }
    // A witness that remembers more, or is gone: revocations may be missing from the store.
    let witness = new.join("keys/witness.json");
    let mine = fs::read_to_string(&witness).unwrap();
    let ahead = mine.replace("\"commits\":", "\"commits\":99999");
    assert_ne!(ahead, mine);
    fs::write(&witness, ahead).unwrap();
    site.refused(&new, &["--yes"], "the store is not whole");
    fs::remove_file(&witness).unwrap();
    site.refused(&new, &["--yes"], "the store is not whole");
    fs::write(&witness, mine).unwrap();
    // Another installation's keys.
    let keys = new.join("keys/keyring.sealed");
    let sealed = fs::read(&keys).unwrap();
    fs::remove_file(&keys).unwrap();
    site.refused(&new, &["--yes"], "no keys are here");
    rescind(&["keys", "share", "--config", new.join("rescind.toml").to_str().unwrap()]);
    site.refused(&new, &["--yes"], "the store was made with the keys of installation");
    fs::write(&keys, sealed).unwrap();
    // A Redis that the configuration does not name.
    let (from, config) = (format!("embedded:{}", site.old().join("store").display()), new.join("rescind.toml"));
    let mut elsewhere = program();
    elsewhere
        .args(["store", "migrate", "--yes", "--from", &from, "--to", "redis://127.0.0.1:1", "--config"])
        .arg(config);
    assert_eq!(elsewhere.output().unwrap().status.code(), Some(2));
    assert!(site.migrate(&new, &["--yes"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_broke_off_is_served_by_nobody_and_begun_anew() {
    let site = Site::new();
    let mut node = site.serve(site.old());
    node.is_ready().await;
    let session = node.open("alice").await;
    revoke(&node, json!({"kind": "subject", "id": "alice"})).await;
    for n in 0..1500 {
        revoke(&node, json!({"kind": "subject", "id": format!("nobody-{n}")})).await;
    }
    node.stop();
    let new = site.prepared();
    // Killed as soon as it has begun.
    let (from, config) = (format!("embedded:{}", site.old().join("store").display()), new.join("rescind.toml"));
    let mut child = program()
        .args(["store", "migrate", "--yes", "--from", &from, "--to", &site.server.url(), "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    crate::servers::wait("it has begun", || site.server.cli(&["exists", "rescind:{hub}:log"]) == "1");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(site.server.cli(&["get", LAYOUT]).contains("being filled"), "it was killed before its end");
    site.refused(&new, &["--yes"], "a move into this store was begun");
    site.refused(&new, &["--dry-run"], "delete every key that begins with `rescind:`");
    let before = site.all();
    let mut serve = program();
    serve.args(["serve", "--config", new.join("rescind.toml").to_str().unwrap()]).stdin(Stdio::null());
    let served = serve.output().unwrap();
    let said = String::from_utf8_lossy(&served.stderr).into_owned();
    assert!(served.status.code() == Some(2) && said.contains("being filled"), "{:?}: {said}", served.status);
    assert_eq!(site.all(), before, "and nothing was written");
    site.server.cli(&["flushall"]);
    assert!(site.migrate(&new, &["--yes"]).status.success());
    let node = site.serve(new);
    node.is_ready().await;
    assert!(!node.active(&session["access_token"]).await);
}

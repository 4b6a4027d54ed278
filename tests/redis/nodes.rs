//! Several `rescind serve` on one Redis: what one of them does, all of them know; and none is special.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    common::{eventually, millis},
    servers::{Server, spare_port},
};

/// What all nodes have in common: a Redis, a configuration, a key.
struct Site {
    server: Server,
    dir: tempfile::TempDir,
    secret: String,
    issuer: String,
}

/// One node, with a directory of its own.
pub(super) struct Node {
    dir: PathBuf,
    base: String,
    operations: String,
    child: Option<Child>,
    http: reqwest::Client,
    secret: String,
}

pub(super) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rescind"))
}

pub(super) fn rescind(arguments: &[&str]) -> String {
    let output = program().args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Site {
    fn new() -> Self {
        let (server, dir) = (Server::start(&[]), tempfile::tempdir().unwrap());
        let (first, issuer) = (dir.path().join("a"), format!("http://127.0.0.1:{}", spare_port()));
        let store = format!("redis://127.0.0.1:{}/0", server.port);
        let said = rescind(&["init", first.to_str().unwrap(), "--store", &store, "--issuer", &issuer]);
        let secret = said.lines().find_map(|line| line.strip_prefix("client_secret=")).unwrap().to_owned();
        let file = first.join("rescind.toml");
        let app = "\n[[clients]]\nid = \"app\"\n";
        fs::write(&file, fs::read_to_string(&file).unwrap() + app).unwrap();
        Self { server, dir, secret, issuer }
    }

    /// A node: the first one is where the keys were made, others have a copy of the configuration and of the shared key.
    fn node(&self, name: &str) -> Node {
        let (dir, first) = (self.dir.path().join(name), self.dir.path().join("a"));
        if dir != first && !dir.exists() {
            fs::create_dir(&dir).unwrap();
            for file in ["rescind.toml", "shared.key"] {
                fs::copy(first.join(file), dir.join(file)).unwrap();
            }
        }
        // The first one is where the issuer says, as a proxy would be.
        let base = if dir == first { self.issuer.clone() } else { format!("http://127.0.0.1:{}", spare_port()) };
        Node::at(dir, base, self.secret.clone())
    }

    async fn two(&self) -> (Node, Node) {
        let a = self.node("a");
        a.is_ready().await;
        let b = self.node("b");
        b.is_ready().await;
        (a, b)
    }

    fn keys(&self) -> String {
        self.server.cli(&["--raw", "get", "rescind:{hub}:keys"])
    }
}

/// No TLS is spoken here, but a client cannot be built without a provider.
fn no_tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
}

impl Node {
    /// One with this directory and this address.
    pub(super) fn at(dir: PathBuf, base: String, secret: String) -> Self {
        let operations = format!("http://127.0.0.1:{}", spare_port());
        let http = reqwest::Client::builder().tls_backend_preconfigured(no_tls()).build().unwrap();
        let mut node = Self { dir, base, operations, child: None, http, secret };
        node.start();
        node
    }

    fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let at = |base: &str| base.trim_start_matches("http://").to_owned();
        let child = program()
            .args(["serve", "--config", self.dir.join("rescind.toml").to_str().unwrap()])
            .args(["--listen", &at(&self.base), "--operations-listen", &at(&self.operations)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Asks it to stop, and waits.
    pub(super) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(asked.success() && child.wait().unwrap().success(), "{}", self.log());
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    fn copy_of_keys(&self) -> PathBuf {
        self.dir.join("keys/keyring.sealed")
    }

    pub(super) async fn is_ready(&self) {
        for _ in 0..1000 {
            let answer = self.http.get(format!("{}/readyz", self.operations)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(millis(20)).await;
        }
        panic!("{} is not ready: {}", self.base, self.log());
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).basic_auth("operator", Some(&self.secret));
        self.ask(request.json(body)).await
    }

    pub(super) async fn list(&self, path: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}{path}", self.base)).basic_auth("operator", Some(&self.secret));
        self.ask(request).await
    }

    pub(super) async fn open(&self, subject: &str) -> Value {
        let body = json!({"subject": subject, "audience": ["api"], "client_id": "app"});
        let (status, session) = self.post("/v1/sessions", &body).await;
        assert_eq!(status, 201, "{session}: {}", self.log());
        session
    }

    pub(super) async fn refresh(&self, token: &Value) -> (u16, Value) {
        let form = [("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", token.as_str().unwrap())];
        self.ask(self.http.post(format!("{}/oauth2/token", self.base)).form(&form)).await
    }

    /// As a client that logs out (RFC 7009).
    pub(super) async fn give_back(&self, token: &Value) -> u16 {
        let form = [("client_id", "app"), ("token", token.as_str().unwrap())];
        self.ask(self.http.post(format!("{}/oauth2/revoke", self.base)).form(&form)).await.0
    }

    pub(super) async fn active(&self, token: &Value) -> bool {
        let request = self.http.post(format!("{}/oauth2/introspect", self.base));
        let request = request.basic_auth("operator", Some(&self.secret)).form(&[("token", token.as_str().unwrap())]);
        let (status, answer) = self.ask(request).await;
        assert_eq!(status, 200, "{answer}");
        answer["active"] == true
    }

    /// The `kid`s of its key set, in their order.
    pub(super) async fn kids(&self) -> Vec<String> {
        let (status, set) = self.ask(self.http.get(format!("{}/.well-known/jwks.json", self.base))).await;
        assert_eq!(status, 200);
        set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) async fn rotate(&self) -> String {
        let (status, change) = self.post("/v1/keys/rotate", &json!({"dangerous_without_waiting": true})).await;
        assert_eq!(status, 200, "{change}: {}", self.log());
        change["active"].as_str().unwrap().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The `kid` in the header of a token.
fn signed_by(token: &Value) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let header = token.as_str().unwrap().split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// Longer than a node may take to hear of the others.
async fn within_a_second<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    let began = Instant::now();
    eventually(what, condition).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{what}: only after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_one_node_goes_on_at_another_and_ends_everywhere() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let opened = a.open("alice").await;
    let (status, next) = b.refresh(&opened["refresh_token"]).await;
    assert_eq!(status, 200, "{next}: {}", b.log());
    assert!(b.active(&opened["access_token"]).await && a.active(&next["access_token"]).await);
    // A retry goes to the other node, and gets the same successor.
    let (status, again) = a.refresh(&opened["refresh_token"]).await;
    assert_eq!((status, &again["refresh_token"]), (200, &next["refresh_token"]), "{again}");
    let (status, entry) = a.post("/v1/revocations", &json!({"kind": "subject", "id": "alice"})).await;
    assert_eq!(status, 201, "{entry}");
    let (status, refused) = b.refresh(&next["refresh_token"]).await;
    assert_eq!((status, refused["error"].as_str()), (400, Some("invalid_grant")), "{refused}");
    assert!(!b.active(&next["access_token"]).await && !a.active(&opened["access_token"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_rotates_the_others_publish_and_sign_with() {
    let site = Site::new();
    let (a, b) = site.two().await;
    assert_eq!(a.kids().await, b.kids().await);
    for (rotating, other) in [(&a, &b), (&b, &a)] {
        let active = rotating.rotate().await;
        within_a_second("the other publishes it", async || other.kids().await == rotating.kids().await).await;
        let session = other.open("alice").await;
        assert_eq!(signed_by(&session["access_token"]), active);
    }
    // A symmetric key that the other has not heard of yet fails nobody.
    let (status, made) = a.post("/v1/keys/secrets/derivation/rotate", &json!({})).await;
    assert_eq!(status, 200, "{made}");
    let session = a.open("bob").await;
    let (status, next) = b.refresh(&session["refresh_token"]).await;
    assert_eq!(status, 200, "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_one_node_disables_is_refused_by_the_others() {
    let site = Site::new();
    let (a, b) = site.two().await;
    let session = a.open("alice").await;
    let (status, next) = b.refresh(&session["refresh_token"]).await;
    assert_eq!(status, 200, "{next}");
    let (status, disabled) = a.post("/v1/clients/app/disable", &json!({})).await;
    assert_eq!(status, 200, "{disabled}");
    within_a_second("it is refused", async || b.refresh(&next["refresh_token"]).await.0 == 401).await;
    let (status, enabled) = b.post("/v1/clients/app/enable", &json!({})).await;
    assert_eq!(status, 200, "{enabled}");
    within_a_second("it is let in again", async || a.refresh(&next["refresh_token"]).await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_restart_in_turn_lose_nothing() {
    let site = Site::new();
    let (mut a, mut b) = site.two().await;
    let session = a.open("alice").await;
    let ended = a.open("mallory").await;
    a.post("/v1/revocations", &json!({"kind": "subject", "id": "mallory"})).await;
    a.stop();
    let (status, second) = b.refresh(&session["refresh_token"]).await;
    assert_eq!(status, 200, "{second}");
    let active = b.rotate().await;
    a.start();
    a.is_ready().await;
    assert_eq!(a.kids().await, b.kids().await);
    b.stop();
    let (status, third) = a.refresh(&second["refresh_token"]).await;
    assert_eq!(status, 200, "{third}");
    assert_eq!(signed_by(&third["access_token"]), active);
    b.start();
    b.is_ready().await;
    assert_eq!(b.refresh(&third["refresh_token"]).await.0, 200);
    for node in [&a, &b] {
        assert_eq!(node.refresh(&ended["refresh_token"]).await.0, 400);
        assert!(!node.active(&ended["access_token"]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_node_or_the_store_has_lost_come_back_and_older_ones_do_not() {
    let site = Site::new();
    let (a, mut b) = site.two().await;
    // A node without its directory.
    b.stop();
    let old = fs::read(b.copy_of_keys()).unwrap();
    fs::remove_dir_all(b.dir.join("keys")).unwrap();
    b.start();
    b.is_ready().await;
    assert_eq!(fs::read(b.copy_of_keys()).unwrap(), old, "it is the very same");
    // A node whose directory is put back from before a rotation.
    let active = a.rotate().await;
    within_a_second("it is copied", async || fs::read(b.copy_of_keys()).unwrap() != old).await;
    let newest = site.keys();
    b.stop();
    fs::write(b.copy_of_keys(), &old).unwrap();
    b.start();
    b.is_ready().await;
    assert_eq!(signed_by(&b.open("alice").await["access_token"]), active);
    assert_eq!(site.keys(), newest, "the store's were not touched");
    // A store that has lost them, or has older ones.
    site.server.cli(&["del", "rescind:{hub}:keys"]);
    within_a_second("the store has them again", async || site.keys() == newest).await;
    let put_back = site.dir.path().join("old");
    fs::write(&put_back, &old).unwrap();
    put_into_store(&site.server, &put_back);
    within_a_second("the store has the newest again", async || site.keys() == newest).await;
    assert_eq!(signed_by(&b.open("alice").await["access_token"]), active);
    assert!(!newest.contains(&active), "what lies in the store tells nothing of the keys");
}

fn put_into_store(server: &Server, file: &Path) {
    let port = server.port.to_string();
    let mut set = Command::new("redis-cli");
    set.args(["-p", &port, "-x", "set", "rescind:{hub}:keys"]).stdin(fs::File::open(file).unwrap());
    assert!(set.output().unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_is_told_why() {
    let site = Site::new();
    let a = site.node("a");
    a.is_ready().await;
    // Another shared key; other keys; keys of one node alone.
    let refused = |name: &str, spoil: &dyn Fn(&Path)| {
        let (dir, first) = (site.dir.path().join(name), site.dir.path().join("a"));
        fs::create_dir(&dir).unwrap();
        for file in ["rescind.toml", "shared.key"] {
            fs::copy(first.join(file), dir.join(file)).unwrap();
        }
        spoil(&dir);
        let listen = format!("127.0.0.1:{}", spare_port());
        let mut serve = program();
        serve.args(["serve", "--config", dir.join("rescind.toml").to_str().unwrap(), "--listen", &listen]);
        let output = serve.args(["--operations-listen", "127.0.0.1:0"]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let other_key = |dir: &Path| fs::write(dir.join("shared.key"), [b'A'; 43]).unwrap();
    assert!(refused("c", &other_key).contains("keys.shared_key_file"));
    let other_keys = |dir: &Path| {
        rescind(&["keys", "share", "--config", dir.join("rescind.toml").to_str().unwrap()]);
    };
    let said = refused("d", &other_keys);
    assert!(said.contains("the store holds the keys of installation"), "{said}");
    let alone = |dir: &Path| {
        let embedded = dir.join("embedded");
        rescind(&["init", embedded.to_str().unwrap()]);
        fs::rename(embedded.join("keys"), dir.join("keys")).unwrap();
    };
    let said = refused("e", &alone);
    assert!(said.contains("rescind keys share"), "{said}");
}

/// `rescind dev`, and what it says first.
struct Dev {
    child: Child,
    said: Value,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let mut child = program()
            .args(["dev", "--json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, said: serde_json::from_str(&line).expect("it says where it serves") }
    }

    fn says(&self, member: &str) -> &str {
        self.said[member].as_str().unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As docs/how-to/many-nodes.md starts them.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_without_any_set_up_are_one_service() {
    let (server, [a, b]) = (Server::start(&[]), [(); 2].map(|()| format!("127.0.0.1:{}", spare_port())));
    let (store, issuer) = (format!("redis://127.0.0.1:{}", server.port), format!("http://{a}"));
    let first = Dev::start(&["--store", &store, "--listen", &a]);
    let second = Dev::start(&["--store", &store, "--listen", &b, "--issuer", &issuer]);
    for same in ["issuer", "client_id", "client_secret", "public_client_id"] {
        assert_eq!(first.says(same), second.says(same), "{same}");
    }
    let http = reqwest::Client::builder().tls_backend_preconfigured(no_tls()).build().unwrap();
    let post = |at: &str, path: &str| {
        http.post(format!("http://{at}{path}")).basic_auth(first.says("client_id"), Some(first.says("client_secret")))
    };
    let opened = post(&a, "/v1/sessions").json(&json!({"subject": "alice", "audience": ["api"]})).send().await.unwrap();
    let opened: Value = serde_json::from_str(&opened.text().await.unwrap()).unwrap();
    let refresh = async |at: &str, token: &Value| {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap())];
        let answer = post(at, "/oauth2/token").form(&form).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap())
    };
    let (status, next) = refresh(&b, &opened["refresh_token"]).await;
    assert_eq!(status, 200, "{next}");
    let ended = post(&b, "/v1/revocations").json(&json!({"kind": "subject", "id": "alice"})).send().await.unwrap();
    assert_eq!(ended.status(), 201);
    let (status, refused) = refresh(&a, &next["refresh_token"]).await;
    assert_eq!((status, refused["error"].as_str()), (400, Some("invalid_grant")), "{refused}");
}

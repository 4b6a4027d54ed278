//! Two nodes of the service, real processes with a configuration and a directory each, kept up by a supervisor as a
//! machine's would; and clients that ask either.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    deployment::own_address,
    harness::{self, random_secret},
    redis_servers::{Host, wait_for},
};

pub const CLIENT: &str = "app";
pub const PUBLIC: &str = "public";
/// A client that has waited this long has lost the answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How the nodes are set up, where it differs.
#[derive(Clone)]
pub struct Settings {
    /// How many replicas must have a change: `durability`.
    pub replicas: u16,
    /// Whether each has a journal on its disk.
    pub journal: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { replicas: 0, journal: true }
    }
}

/// One node, and all that is needed to start it again.
pub struct Node {
    pub base: String,
    pub operations: String,
    host: Host,
    directory: PathBuf,
    child: Option<Child>,
    /// Whether it is to run.
    wanted: bool,
}

impl Node {
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.host.command(env!("CARGO_BIN_EXE_rescind"));
        let ours = std::env::vars_os().map(|(name, _)| name).filter(|n| n.to_string_lossy().starts_with("RESCIND_"));
        for name in ours {
            command.env_remove(name);
        }
        command.arg("serve").arg("--config").arg(self.directory.join("rescind.toml"));
        // Without a line for each request.
        command.env("RUST_LOG", "info,rescind::http=warn");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        self.wanted = true;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.wanted = false;
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// As systemd does for a service that has ended by itself.
    fn supervise(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
        let Some(status) = ended.filter(|_| self.wanted) else { return };
        assert_ne!(status.code(), Some(2), "nothing that is configured is wrong: {}", self.log());
        self.start();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("it runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// All that it has ever logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// How it refuses to serve, if it does so in time: it ends, or says 503.
    pub async fn ends_or_refuses(&mut self) -> Refusal {
        let http = harness::client();
        loop {
            if let Some(status) = self.child.as_mut().expect("it was started").try_wait().unwrap() {
                return Refusal::Ended(status.code());
            }
            if let Some((503, why)) = readyz(&http, &self.operations).await {
                return Refusal::Says(why);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(400).collect();
            println!("---- {}:\n{}", self.base, tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// How a node refuses to serve.
#[derive(Debug)]
#[expect(dead_code, reason = "shown by whoever fails")]
pub enum Refusal {
    Ended(Option<i32>),
    Says(String),
}

async fn readyz(http: &reqwest::Client, operations: &str) -> Option<(u16, String)> {
    let answer = http.get(format!("{operations}/readyz")).timeout(ANSWER).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

/// Both of them.
pub struct Nodes {
    pub both: [Node; 2],
    secret: String,
    _root: tempfile::TempDir,
}

impl Nodes {
    /// Where a node lives unless it is said otherwise.
    pub fn host(n: u8) -> Host {
        Host { address: own_address(100 + n).to_string(), namespace: None }
    }

    pub fn new(issuer: &str, urls: [&str; 2], settings: &Settings) -> Self {
        Self::on([Self::host(0), Self::host(1)], issuer, urls, settings)
    }

    /// Written down, and not started. `urls`: where each finds the store.
    pub fn on(hosts: [Host; 2], issuer: &str, urls: [&str; 2], settings: &Settings) -> Self {
        let (root, secret) = (tempfile::tempdir().unwrap(), random_secret());
        let shared = root.path().join("shared.key");
        let [first, second] = hosts;
        let node = |n: usize, host: Host| {
            let directory = root.path().join(format!("node-{n}"));
            fs::create_dir(&directory).unwrap();
            let ip = &host.address;
            let place = Place { directory: &directory, listen: format!("{ip}:8080"), operations: format!("{ip}:9090") };
            let text = place.configuration(issuer, urls[n], &shared, &secret, settings);
            fs::write(directory.join("rescind.toml"), text).unwrap();
            let (base, operations) = (format!("http://{}", place.listen), format!("http://{}", place.operations));
            Node { base, operations, host, directory, child: None, wanted: false }
        };
        let both = [node(0, first), node(1, second)];
        // The keys begin with one of them.
        let mut share = Command::new(env!("CARGO_BIN_EXE_rescind"));
        let said =
            share.args(["keys", "share", "--config"]).arg(both[0].directory.join("rescind.toml")).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Self { both, secret, _root: root }
    }

    /// The one that has the keys gives them to the store; then the other.
    pub async fn start(&mut self) {
        self.both[0].start();
        wait_for("the first node serves", async || matches!(self.readyz(0).await, Some((200, _)))).await;
        self.both[1].start();
    }

    pub fn start_killed(&mut self) {
        self.both.iter_mut().filter(|node| node.child.is_none()).for_each(Node::start);
    }

    pub fn supervise(&mut self) {
        self.both.iter_mut().for_each(Node::supervise);
    }

    pub fn clients(&self) -> Clients {
        let http = harness::client();
        Clients { http, bases: self.both.each_ref().map(|node| node.base.clone()), secret: self.secret.clone() }
    }

    /// None: it does not answer.
    pub async fn readyz(&self, node: usize) -> Option<(u16, String)> {
        readyz(&harness::client(), &self.both[node].operations).await
    }

    /// As an operator at its shell.
    pub fn command(&self, node: usize, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.args(arguments).env("RESCIND_SERVER", &self.both[node].base).env("RESCIND_CLIENT_ID", CLIENT);
        command.env("RESCIND_CLIENT_SECRET", &self.secret).stdin(Stdio::null()).output().unwrap()
    }

    /// `rescind doctor` on the configuration of a node.
    pub fn doctor(&self, node: usize) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.arg("doctor").args(["--server", &self.both[node].base]);
        command.arg("--config").arg(self.both[node].directory.join("rescind.toml"));
        command.stdin(Stdio::null()).output().unwrap()
    }
}

struct Place<'a> {
    directory: &'a Path,
    listen: String,
    operations: String,
}

impl Place<'_> {
    fn configuration(&self, issuer: &str, url: &str, shared: &Path, secret: &str, settings: &Settings) -> String {
        let Self { directory, listen, operations } = self;
        let hash: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
        let durability = match settings.replicas {
            0 => String::new(),
            n => format!("durability = \"replicas:{n}\"\n"),
        };
        let journal = if settings.journal { "journal" } else { "off" };
        let (directory, shared) = (directory.display(), shared.display());
        format!(
            r#"
issuer = "{issuer}"
listen = "{listen}"
behind_tls_proxy = true
operations_listen = "{operations}"
[store]
url = "{url}"
journal = "{journal}"
{durability}
[keys]
dir = "{directory}/keys"
shared_key_file = "{shared}"
publish_ahead = "2s"
jwks_max_age = "1s"
client_cache = "1s"
[rates]
enabled = false
[lifetimes]
access = "10m"
[[clients]]
id = "{CLIENT}"
secret_sha256 = ["{hash}"]
permissions = ["sessions:open", "sessions:revoke", "revoke", "verifiers:report", "store:restore"]
audience = ["api"]
[[clients]]
id = "{PUBLIC}"
audience = ["api"]
"#
        )
    }
}

/// What is to be taken back.
pub enum Order {
    /// Of this token, whichever kind (RFC 7009).
    Revoke { token: String, public: bool },
    /// By an operator.
    End { session: String },
    /// A subject's sessions, or its tokens alone.
    CutOff { subject: String, ends: &'static str },
}

/// Whoever asks either node. None: there was no answer, nobody knows.
#[derive(Clone)]
pub struct Clients {
    http: reqwest::Client,
    pub bases: [String; 2],
    pub secret: String,
}

impl Clients {
    async fn send(&self, request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
        let response = request.timeout(ANSWER).send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub async fn post(&self, node: usize, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.http.post(format!("{}{path}", self.bases[node])).basic_auth(CLIENT, Some(&self.secret));
        self.send(request.json(body)).await
    }

    async fn form(&self, node: usize, path: &str, form: &[(&str, &str)], public: bool) -> Option<(u16, Value)> {
        let request = self.http.post(format!("{}{path}", self.bases[node]));
        let request = if public {
            request.form(&[form, &[("client_id", PUBLIC)]].concat())
        } else {
            request.basic_auth(CLIENT, Some(&self.secret)).form(form)
        };
        self.send(request).await
    }

    pub async fn refresh(&self, node: usize, token: &str, public: bool) -> Option<(u16, Value)> {
        self.form(node, "/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)], public).await
    }

    pub async fn order(&self, node: usize, order: &Order) -> Option<(u16, Value)> {
        match order {
            Order::Revoke { token, public } => self.form(node, "/oauth2/revoke", &[("token", token)], *public).await,
            Order::End { session } => self.end(node, session).await,
            Order::CutOff { subject, ends } => {
                self.post(node, "/v1/revocations", &json!({"kind": "subject", "id": subject, "ends": ends})).await
            }
        }
    }

    pub async fn open(&self, node: usize, subject: &str, public: bool) -> Option<(u16, Value)> {
        let client = if public { PUBLIC } else { CLIENT };
        self.post(node, "/v1/sessions", &json!({"subject": subject, "audience": ["api"], "client_id": client})).await
    }

    pub async fn end(&self, node: usize, session: &str) -> Option<(u16, Value)> {
        let url = format!("{}/v1/sessions/{session}", self.bases[node]);
        self.send(self.http.delete(url).basic_auth(CLIENT, Some(&self.secret))).await
    }
}

//! What the operator sets up: a configuration with two clients more, an authority of their own, nginx, the service.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{Ended, Server, edit, end_of, get, rescind};

/// nginx as root would give its workers up to somebody who cannot read this directory.
const NGINX: &str = "daemon off; pid nginx.pid; error_log stderr; user root; worker_processes 1; events {}
http { client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
include rescind.conf; }";

pub struct Site {
    dir: tempfile::TempDir,
    /// Where clients find it: `https://…`, at nginx.
    pub issuer: String,
    pub(super) operations: String,
    nginx: Child,
    service: Option<Server>,
}

impl Site {
    /// As docs/how-to/install.md and docs/how-to/behind-nginx.md have it.
    pub fn set_up() -> Self {
        Self::with(|_| {})
    }

    /// The same, after something was done to the configuration.
    pub fn with(change: impl FnOnce(&Path)) -> Self {
        Self::made(|dir| {
            add_clients(dir);
            change(&dir.join("node/rescind.toml"));
            check(dir);
        })
    }

    /// Before there is anybody but the operator.
    pub fn without_clients() -> Self {
        Self::made(|_| {})
    }

    fn made(configure: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [front, listen, operations] = addresses();
        let issuer = format!("https://{front}");
        init(dir.path(), &issuer, &listen, &operations);
        trust_nginx(dir.path());
        configure(dir.path());
        authority(dir.path(), &front);
        let nginx = nginx(dir.path(), &front, &listen);
        let mut site = Self { dir, issuer, operations: format!("http://{operations}"), nginx, service: None };
        site.start();
        site
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn config(&self) -> String {
        self.path("node/rescind.toml").display().to_string()
    }

    /// Serves, until it says that it is ready.
    pub fn start(&mut self) {
        let server = Server::start(rescind().args(["serve", "--config", &self.config()]));
        self.service = Some(server);
        let ready = || TcpStream::connect(&self.operations[7..]).is_ok() && get(&self.operations, "/readyz").0 == 200;
        assert!(soon(ready), "it does not get ready: {}", self.service.take().unwrap().end().stderr);
    }

    pub fn stop(&mut self) {
        let ended = self.service.take().unwrap().end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }

    pub fn sighup(&self) {
        self.service.as_ref().unwrap().sighup();
    }

    /// Lines of a document in the shell of an operator of this site: its paths and its address instead of the documents'.
    pub fn shell(&self, lines: &str) -> Command {
        let node = format!("{}/", self.path("node").display());
        let here = lines
            .replace("https://issuer.example", &self.issuer)
            .replace("https://auth.example.com", &self.issuer)
            .replace("/root/rescind-operator", "operator.secret")
            .replace("/root/", "")
            .replace("/etc/rescind/", &node)
            .replace("/var/lib/rescind/", &node);
        let bin = Path::new(env!("CARGO_BIN_EXE_rescind")).parent().unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &here]).current_dir(self.dir()).env_clear().env("PATH", path);
        bash.env("SSL_CERT_FILE", self.path("ca.pem")).env("CURL_CA_BUNDLE", self.path("ca.pem"));
        bash
    }

    /// A command, in the environment of whoever trusts this authority and has this client's secret.
    pub fn command(&self, client: &str, arguments: &[&str]) -> Command {
        let mut command = rescind();
        command.args(arguments).current_dir(self.dir.path()).env("SSL_CERT_FILE", self.path("ca.pem"));
        command.env("RESCIND_SERVER", &self.issuer).env("RESCIND_CLIENT_ID", client);
        command.env("RESCIND_CLIENT_SECRET_FILE", self.path(&format!("{client}.secret")));
        command
    }

    pub fn run(&self, client: &str, arguments: &[&str]) -> Ended {
        end_of(&mut self.command(client, arguments), "")
    }

    /// What a command says with `--json`; it must end well.
    pub fn ask(&self, client: &str, arguments: &[&str]) -> Value {
        let ended = self.run(client, &[arguments, &["--json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", ended.stdout))
    }

    /// An OAuth request as a client sends it, through nginx. What is secret comes on stdin.
    pub fn form(&self, path: &str, arguments: &[&str], secret: &str) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert"]).arg(self.path("ca.pem")).arg(format!("{}{path}", self.issuer)).args(arguments);
        let ended = end_of(curl.args(["--data-urlencode", &format!("{}@-", field_of(path))]), secret);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.stdout))
    }

    pub fn secret(&self, client: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{client}.secret"))).unwrap();
        text.lines().find_map(|line| line.strip_prefix("client_secret=")).unwrap_or(&text).to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.nginx), rustix::process::Signal::TERM);
        let _ = self.nginx.wait();
    }
}

/// Which parameter of an endpoint is the token.
fn field_of(path: &str) -> &'static str {
    if path == "/oauth2/token" { "refresh_token" } else { "token" }
}

/// Waits for a condition, within bounds.
pub fn soon(mut condition: impl FnMut() -> bool) -> bool {
    (0..1000).any(|_| {
        let holds = condition();
        if !holds {
            std::thread::sleep(Duration::from_millis(20));
        }
        holds
    })
}

/// Free ones, on a loopback address of this process's own, so that nobody takes them in between.
fn addresses() -> [String; 3] {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high | 1, low, 77);
    let bound = [(); 3].map(|()| TcpListener::bind((ip, 0)).unwrap());
    bound.map(|bound| bound.local_addr().unwrap().to_string())
}

fn init(dir: &Path, issuer: &str, listen: &str, operations: &str) {
    let mut command = rescind();
    command.arg("init").arg(dir.join("node")).args(["--issuer", issuer, "--listen", listen]);
    command.args(["--operations-listen", operations, "--secret-file"]).arg(dir.join("operator.secret"));
    let made = end_of(&mut command, "");
    assert_eq!(made.code, 0, "{}", made.stderr);
}

/// nginx is on this machine, so its word about addresses is taken.
fn trust_nginx(dir: &Path) {
    let file = dir.join("node/rescind.toml");
    let text = edit(&file, "# trusted = []", "trusted = [\"127.0.0.0/8\"]");
    fs::write(file, text).unwrap();
}

/// A login application, and the app that its people use.
fn add_clients(dir: &Path) {
    let secret = dir.join("login.secret");
    let made = end_of(rescind().args(["client", "generate-secret", "--json", "--secret-file"]).arg(&secret), "");
    let made: Value = serde_json::from_str(&made.stdout).unwrap_or_else(|e| panic!("{e}: {}", made.stderr));
    let tables = format!(
        "[[clients]]\nid = \"login\"\nsecret_sha256 = [\"{}\"]\npermissions = [\"sessions:open\"]\n\
         scope = \"orders:read\"\naudience = [\"api\"]\n\n[[clients]]\nid = \"app\"\n",
        made["secret_sha256"].as_str().unwrap()
    );
    let file = dir.join("node/rescind.toml");
    let text = fs::read_to_string(&file).unwrap() + "\n" + &tables;
    fs::write(&file, text).unwrap();
}

/// Nothing is wrong with it, and both clients are in it.
fn check(dir: &Path) {
    let config = |what| {
        let mut command = rescind();
        command.args(["config", what, "--json", "--config"]).arg(dir.join("node/rescind.toml"));
        let ended = end_of(&mut command, "");
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        ended.stdout
    };
    config("check");
    let shown = config("print");
    assert!(shown.contains("\"login\"") && shown.contains("\"app\""), "{shown}");
}

/// An authority, and a certificate of it for nginx.
fn authority(dir: &Path, front: &str) {
    let ip = front.split(':').next().unwrap();
    let shell = format!(
        "new() {{ openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \"$@\"; }}
         new -keyout ca.key -out ca.pem -subj /CN=authority
         new -CA ca.pem -CAkey ca.key -keyout tls.key -out tls.pem -subj /CN=rescind \\
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:{ip}"
    );
    let made = end_of(Command::new("bash").args(["-euc", &shell]).current_dir(dir), "");
    assert_eq!(made.code, 0, "{}", made.stderr);
}

/// With the file that the documents give, but for its addresses and paths.
fn nginx(dir: &Path, front: &str, listen: &str) -> Child {
    let file = dir.join("rescind.conf");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nginx/rescind.conf"), &file).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    let ip = front.split(':').next().unwrap();
    let edits = [
        ("server 127.0.0.1:8080", format!("server {listen}")),
        ("listen 443 ssl", format!("listen {front} ssl")),
        ("auth.example.com", ip.to_owned()),
        ("/etc/ssl/rescind/fullchain.pem", path("tls.pem")),
        ("/etc/ssl/rescind/key.pem", path("tls.key")),
        ("/var/log/nginx/rescind.log", path("nginx.log")),
    ];
    for (from, to) in edits {
        let text = edit(&file, from, &to);
        fs::write(&file, text).unwrap();
    }
    fs::write(dir.join("nginx.conf"), NGINX).unwrap();
    let mut command = Command::new("nginx");
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
    command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).env("PATH", path);
    let output = fs::File::create(dir.join("nginx.err")).unwrap();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn();
    let child = child.expect("there is nginx; tests/run installs it");
    let up = soon(|| TcpStream::connect(front).is_ok());
    assert!(up, "{}", fs::read_to_string(dir.join("nginx.err")).unwrap());
    child
}

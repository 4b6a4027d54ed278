//! Clients and verifiers that others wrote, against the real server: see `tests/foreign/`, set up by `tests/run`.

#![allow(clippy::print_stdout, reason = "what the scripts checked is worth reading")]
#![cfg(feature = "server")]

#[path = "foreign/interpreter.rs"]
mod interpreter;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use interpreter::client;

const POLL: Duration = Duration::from_millis(50);
/// Short, because the reuse of a refresh token is told from a retry only after it.
const RETRY_WINDOW: &str = "1";

#[test]
fn foreign_authlib_refreshes_introspects_and_revokes() {
    Server::start("authlib_client").passes("python", &["authlib_client.py"], 60);
}

#[test]
fn foreign_authlib_pyjwt_and_oauth4webapi_prove_themselves_by_a_key() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let script = |interpreter: &str, script: &[&str], issuer: &str, name: &str| {
        let mut client = client(interpreter);
        client.env("RESCIND_PLACE", place.path()).env("RESCIND_ISSUER", issuer).args(script);
        passes(&mut client, name, 60);
    };
    script("python", &["private_key_jwt.py", "make"], "", "private_key_jwt_make");
    let serves = Configured::start(
        &place.path().join("node"),
        "\n[[clients]]\nid = \"worker\"\njwks_file = \"../worker.json\"\naudience = [\"api\"]\n\
         permissions = [\"client_credentials\", \"introspect\", \"keys:read\"]\n",
    );
    script("python", &["private_key_jwt.py"], &serves.issuer, "private_key_jwt_py");
    script("node", &["private_key_jwt.mjs"], &serves.issuer, "private_key_jwt_mjs");
}

#[test]
fn foreign_requests_oauthlib_refreshes_and_revokes() {
    Server::start("requests_oauthlib_client").passes("python", &["requests_oauthlib_client.py"], 60);
}

#[test]
fn foreign_oauth4webapi_discovers_refreshes_introspects_and_revokes() {
    Server::start("oauth4webapi").passes("node", &["oauth4webapi.mjs"], 60);
}

#[test]
fn foreign_python_verifiers_accept_our_tokens() {
    Server::start("verify_py").passes("python", &["verify.py"], 60);
}

#[test]
fn foreign_node_verifiers_accept_our_tokens() {
    Server::start("verify_mjs").passes("node", &["verify.mjs"], 60);
}

#[test]
fn foreign_verifiers_follow_a_change_of_the_algorithm_s_name_as_documented() {
    Server::start("algorithm").passes("python", &["algorithm.py"], 60);
}

#[test]
fn foreign_verifiers_accept_no_forgery_and_diverge_as_documented() {
    let vectors = output("hostile_vectors.json");
    let made = cargo()
        .args(["run", "--quiet", "--example", "hostile_vectors"])
        .stdout(File::create(&vectors).expect("the target directory is writable"))
        .status()
        .expect("cargo runs");
    assert!(made.success(), "the example hostile_vectors failed");
    let vectors = vectors.to_str().expect("a UTF-8 path");
    passes(client("python").args(["divergences.py", vectors]), "divergences", 120);
}

#[test]
fn foreign_migration_from_simplejwt_runs_as_the_guide_has_it() {
    Server::start("migrate_simplejwt").passes("python", &["migrate_simplejwt.py"], 60);
}

#[test]
fn foreign_migration_from_flask_jwt_extended_oauth_and_cookies_runs_as_the_guide_has_it() {
    Server::start("migrate_flask").passes("python", &["migrate_flask.py"], 60);
}

#[test]
fn foreign_schemathesis_finds_no_difference_between_the_routes_and_their_description() {
    let long = std::env::var_os("LONG_TESTS").is_some();
    Server::start("schemathesis").passes("python", &["openapi.py"], if long { 1500 } else { 240 });
}

/// `rescind dev`, ended with the test.
struct Server {
    process: Child,
    name: &'static str,
    address: serde_json::Value,
}

impl Server {
    fn start(name: &'static str) -> Self {
        let log = File::create(output(&format!("{name}.server.log"))).expect("the target directory is writable");
        let mut process = Command::new(env!("CARGO_BIN_EXE_rescind"))
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0"])
            .args(["--store", "memory:", "--retry-window", &format!("{RETRY_WINDOW}s")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server says where it listens");
        let address = serde_json::from_str(&line).expect("its first line is one JSON object");
        Self { process, name, address }
    }

    fn says(&self, member: &str) -> &str {
        self.address[member].as_str().unwrap_or_else(|| panic!("`rescind dev --json` says no {member}"))
    }

    fn passes(&self, interpreter: &str, script: &[&str], seconds: u32) {
        let mut client = client(interpreter);
        for member in ["issuer", "token_endpoint", "jwks_uri", "operations", "client_id", "client_secret"] {
            client.env(format!("RESCIND_{}", member.to_uppercase()), self.says(member));
        }
        client.env("RESCIND_PROGRAM", env!("CARGO_BIN_EXE_rescind"));
        client.env("RESCIND_RETRY_WINDOW_SECONDS", RETRY_WINDOW).args(script);
        passes(&mut client, self.name, seconds);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `rescind serve` with a configuration of its own, ended with the test.
struct Configured {
    process: Child,
    issuer: String,
}

impl Configured {
    fn start(place: &Path, more: &str) -> Self {
        let listen = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string();
        let rescind = || Command::new(env!("CARGO_BIN_EXE_rescind"));
        let mut made = rescind();
        made.arg("init").arg(place).args(["--listen", &listen, "--operations-listen", "127.0.0.1:0"]);
        assert!(made.stdout(Stdio::null()).status().expect("it runs").success(), "`rescind init` failed");
        let file = place.join("rescind.toml");
        let text = std::fs::read_to_string(&file).expect("init wrote it");
        std::fs::write(&file, text + more).expect("it is ours");
        let log = File::create(output("configured.server.log")).expect("the target directory is writable");
        let process = rescind().args(["serve", "--config"]).arg(file).stderr(log).spawn().expect("the server starts");
        let serves = Self { process, issuer: format!("http://{listen}") };
        let waited = (0..200).find(|_| {
            thread::sleep(POLL);
            TcpStream::connect(&listen).is_ok()
        });
        assert!(waited.is_some(), "the server does not listen: see configured.server.log");
        serves
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Cargo as a shell would start it: with the variables that it set for this test, it would build `ring` anew.
fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

fn output(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs to the end within a bound; shows what the client said when it fails.
fn passes(command: &mut Command, name: &str, seconds: u32) {
    let said = output(&format!("{name}.log"));
    let log = File::create(&said).expect("the target directory is writable");
    let mut process = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("the client starts");
    let mut left = seconds * 20;
    let ended = loop {
        match process.try_wait().expect("it is our own child") {
            Some(status) => break Some(status),
            None if left == 0 => break None,
            None => left -= 1,
        }
        thread::sleep(POLL);
    };
    let _ = process.kill();
    let said = std::fs::read_to_string(said).expect("the log was just written");
    let status = ended.unwrap_or_else(|| panic!("{name} was not done within {seconds} s:\n{said}"));
    assert!(status.success(), "{name} failed:\n{said}");
}

//! `rescind verifier` as a process: what it promises to whoever starts it, and to a proxy that asks it.

use std::{io::Write, time::Duration};

use serde_json::Value;

use super::support::{Dev, Server, answer, connect, end_of, get, rescind};

/// Nobody listens there.
const ISSUER: &str = "http://127.0.0.1:1";

pub struct Sidecar {
    pub server: Server,
    said: Value,
}

impl Sidecar {
    pub fn start(issuer: &str, args: &[&str]) -> Self {
        Self::start_with(issuer, args, &[])
    }
    pub fn start_with(issuer: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = rescind();
        command.envs(environment.iter().copied());
        command.args(["verifier", "--json", "--issuer", issuer, "--audience", "api", "--listen", "127.0.0.1:0"]);
        command.args(["--operations-listen", "127.0.0.1:0"]).args(args).env("RUST_LOG", "trace");
        let mut server = Server::start(&mut command);
        let line = server.line();
        let said = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}; {}", server.ended().stderr));
        Self { server, said }
    }
    pub fn at(&self, which: &str) -> &str {
        self.said[which].as_str().unwrap()
    }
    /// What it says to a proxy about this token.
    fn says(&self, token: &str) -> u16 {
        let mut stream = connect(self.at("listen"));
        let head = format!("Host: test\r\nConnection: close\r\nAuthorization: Bearer {token}");
        write!(stream, "GET / HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
        answer(stream).0
    }
}

#[test]
fn it_listens_at_once_and_says_503_until_it_knows() {
    let sidecar = Sidecar::start(ISSUER, &[]);
    assert_eq!(sidecar.said.as_object().unwrap().len(), 2, "{}", sidecar.said);
    let mut stream = connect(sidecar.at("listen"));
    let token = "eyJ0eXAiOiJhdCtqd3QifQ.e30.c2VjcmV0";
    let head = format!("Host: test\r\nConnection: close\r\nAuthorization: Bearer {token}");
    write!(stream, "GET /orders?access_token={token} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
    let (status, problem) = answer(stream);
    assert_eq!((status, &problem["code"]), (503, &Value::from("unavailable")), "{problem}");
    assert_eq!(get(sidecar.at("operations"), "/livez").0, 200);
    assert_eq!(get(sidecar.at("operations"), "/readyz").0, 503);
    let (status, state) = get(sidecar.at("operations"), "/state");
    assert_eq!((status, &state["issuers"][0]["issuer"]), (200, &Value::from(ISSUER)));
    let ended = sidecar.server.end();
    assert_eq!((ended.code, &*ended.stdout), (0, ""));
    let why = ["no token can be judged", "answering 503 until then"].iter().any(|why| ended.stderr.contains(why));
    assert!(why, "the log does not say why: {}", ended.stderr);
    assert!(ended.stderr.contains("\"status\":503"), "the request is not in the log: {}", ended.stderr);
    assert!(!ended.stderr.contains(token), "the token is in the log");
}

pub fn soon(what: &str, is_so: impl Fn() -> bool) {
    let so = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        is_so()
    });
    assert!(so, "not within ten seconds: {what}");
}

#[test]
fn a_revocation_reaches_it_and_so_does_silence() {
    let dev = Dev::start(&[]);
    let sidecar = Sidecar::start(dev.says("issuer"), &["--max-staleness", "1s", "--scope", "read"]);
    soon("it is ready", || get(sidecar.at("operations"), "/readyz").0 == 200);
    let [alice, bob] = ["alice", "bob"].map(|subject| dev.open(subject)["access_token"].as_str().unwrap().to_owned());
    assert_eq!([&alice, &bob].map(|token| sidecar.says(token)), [200, 200]);
    dev.revoke_subject("alice");
    soon("alice is refused", || sidecar.says(&alice) == 401);
    assert_eq!(sidecar.says(&bob), 200);
    let (_, state) = get(sidecar.at("operations"), "/state");
    let issuer = &state["issuers"][0];
    assert_eq!((&issuer["available"], &issuer["entries"], &issuer["position"]), (&true.into(), &1.into(), &1.into()));
    dev.server.end();
    soon("it cannot tell any more", || sidecar.says(&bob) == 503);
    assert_eq!(sidecar.says(&alice), 503, "nor of bad ones");
    assert_eq!(get(sidecar.at("operations"), "/state").1["issuers"][0]["unavailable"], "stale");
    let logs = sidecar.server.end().stderr;
    assert!(!logs.contains(&alice) && !logs.contains(&bob), "a token is in the log");
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let refused = end_of(rescind().args(["verifier", "--issuer", ISSUER, "--audience", "api", "--listen", &at]), "");
    assert_eq!(refused.code, 5);
    assert!(refused.stderr.contains(&at) && refused.stderr.contains("port 0"), "{}", refused.stderr);
}

#[test]
fn an_address_that_others_reach_is_taken_with_a_warning() {
    let mut command = rescind();
    command.args(["verifier", "--issuer", ISSUER, "--audience", "api", "--listen", "0.0.0.0:0"]);
    let mut server = Server::start(&mut command);
    assert!(server.line().starts_with("answering a proxy at http://0.0.0.0:"));
    let ended = server.end();
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("tokens come here in the clear"), "{}", ended.stderr);
}

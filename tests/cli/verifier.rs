//! `rescind verifier` as a process: what it promises to whoever starts it, before any issuer has answered.

use std::io::Write;

use serde_json::Value;

use super::support::{Server, answer, connect, end_of, get, rescind};

/// Nobody listens there.
const ISSUER: &str = "http://127.0.0.1:1";

struct Sidecar {
    server: Server,
    said: Value,
}

impl Sidecar {
    fn start() -> Self {
        let mut command = rescind();
        command.args(["verifier", "--json", "--issuer", ISSUER, "--audience", "api", "--listen", "127.0.0.1:0"]);
        let mut server = Server::start(command.args(["--operations-listen", "127.0.0.1:0"]).env("RUST_LOG", "trace"));
        let line = server.line();
        let said = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}; {}", server.ended().stderr));
        Self { server, said }
    }
    fn at(&self, which: &str) -> &str {
        self.said[which].as_str().unwrap()
    }
}

#[test]
fn it_listens_at_once_and_says_503_until_it_knows() {
    let sidecar = Sidecar::start();
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
    assert!(ended.stderr.contains("no token can be judged"), "the log does not say why: {}", ended.stderr);
    assert!(ended.stderr.contains("\"status\":503"), "the request is not in the log: {}", ended.stderr);
    assert!(!ended.stderr.contains(token), "the token is in the log");
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

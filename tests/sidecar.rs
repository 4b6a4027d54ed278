//! What a proxy is told, and what operators are told beside it.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/forge.rs"]
mod forge;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use forge::{AUDIENCE, At, Forge, ISSUER};
use rescind::{
    http::{Limits, Listeners},
    model::Timestamp,
    sidecar::{self, Metrics, Sidecar},
    verifier::{Requirement, Verifier},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

const NOW: u64 = 1_795_374_805;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    listen: String,
    operations: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn start(verifiers: Vec<Verifier>, requirement: Requirement, metrics: Metrics) -> Running {
    let (public, operations) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let at = |l: &TcpListener| l.local_addr().unwrap().to_string();
    let (listen, operations_at) = (at(&public), at(&operations));
    let sidecar = Sidecar::new(verifiers, requirement, Duration::from_secs(30), metrics).unwrap();
    let (stop, stopped) = oneshot::channel();
    let listeners = Listeners { public, operations: Some(operations) };
    let limits = Limits { drain: PATIENCE, ..sidecar::limits() };
    let served = tokio::spawn(sidecar::serve(listeners, Arc::new(sidecar), limits, async {
        let _ = stopped.await;
    }));
    Running { listen, operations: operations_at, stop, served }
}

/// Knows this forge's keys; what is revoked is not asked.
fn knowing(f: &Forge, issuer: &str, metrics: &Metrics) -> Verifier {
    let builder = Verifier::builder(issuer).audience(AUDIENCE).keys(f.jwks()).metrics(metrics.of(issuer));
    builder.clock(At(Timestamp::from_seconds(f.now))).dangerous_allow_stale().build().unwrap()
}

/// Follows an issuer that is not there.
fn deaf(metrics: &Metrics) -> Verifier {
    let issuer = "http://127.0.0.1:1";
    Verifier::builder(issuer).audience(AUDIENCE).metrics(metrics.of(issuer)).follow().unwrap()
}

async fn one(f: &Forge, requirement: Requirement) -> Running {
    let metrics = Metrics::default();
    start(vec![knowing(f, ISSUER, &metrics)], requirement, metrics).await
}

/// Sends bytes and reads until the other side closes.
async fn talk(at: &str, bytes: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it does not end").unwrap();
    String::from_utf8(answer).unwrap()
}

/// The answer without the date, in one line, header names in their order.
fn line(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut headers: Vec<&str> = head.lines().skip(1).filter(|l| !is_of_transport(l)).collect();
    headers.sort_unstable();
    let mut line = head.lines().next().unwrap()["HTTP/1.1 ".len()..].to_owned();
    for header in headers {
        write!(line, " | {header}").unwrap();
    }
    if let Ok(body) = serde_json::from_str::<Value>(body) {
        write!(line, " | {}: {}", body["code"], body["status"]).unwrap();
    }
    line
}

fn is_of_transport(line: &str) -> bool {
    ["date:", "content-length:", "connection:", "content-type:"].iter().any(|name| line.starts_with(name))
}

async fn ask(at: &str, start: &str, headers: &str) -> String {
    talk(at, &format!("{start} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n")).await
}

async fn get(at: &str, path: &str) -> (u16, String) {
    let answer = ask(at, &format!("GET {path}"), "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn what_a_proxy_is_told() {
    let f = Forge::new(NOW);
    let asked = Requirement::none().scope("orders:read").unwrap();
    let sidecar = one(&f, asked).await;
    let mint = |claims: forge::Members| f.mint(&f.header(), &claims);
    let good = f.token();
    let strange = f.claims().text("sub", "Zoë %41\u{202e} -").text("scope", "orders:read 100% -");
    let cases = [
        ("good", "GET /orders?x=1", format!("Authorization: Bearer {good}\r\n")),
        ("method_and_path_do_not_matter", "PROPFIND *", format!("Authorization: Bearer {good}\r\n")),
        ("head", "HEAD /", format!("Authorization: Bearer {good}\r\n")),
        ("connect", "CONNECT orders.example:443", format!("Authorization: Bearer {good}\r\n")),
        ("not_a_probe_here", "GET /livez", String::new()),
        ("not_the_state_here", "GET /state", String::new()),
        ("not_the_metrics_here", "GET /metrics", String::new()),
        ("strange_subject", "GET /", format!("Authorization: Bearer {}\r\n", mint(strange))),
        (
            "subject_that_looks_like_none",
            "GET /",
            format!("Authorization: Bearer {}\r\n", mint(f.claims().text("sub", "-"))),
        ),
        (
            "own_token_of_a_client_and_forged_headers",
            "GET /",
            format!(
                "X-Auth-Session: forged\r\nX-Auth-Subject: admin\r\nAuthorization: Bearer {}\r\n",
                mint(f.claims().without("sid").text("sub", "web"))
            ),
        ),
        ("no_token", "GET /", String::new()),
        ("token_in_query", "GET /?access_token=GOOD", String::new()),
        ("two_tokens", "GET /", format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n")),
        ("no_token_in_it", "GET /", "Authorization: Bearer\r\n".into()),
        ("forged", "GET /", format!("Authorization: Bearer {}\r\n", Forge::new(NOW).token())),
        ("scope_lacks", "GET /", format!("Authorization: Bearer {}\r\n", mint(f.claims().text("scope", "x")))),
    ];
    let mut table = String::new();
    for (name, start, headers) in cases {
        let answer = ask(&sidecar.listen, &start.replace("GOOD", &good), &headers).await;
        let shown = line(&answer).replace(&forge::uuid(NOW - 60), "SESSION");
        assert!(!answer.contains(&good), "{name}: the token is in the answer");
        writeln!(table, "{name}: {shown}").unwrap();
    }
    insta::assert_snapshot!(table, @r#"
    good: 200 OK | cache-control: no-store | x-auth-client: web | x-auth-issuer: https://issuer.example | x-auth-scope: orders:read orders:write | x-auth-session: SESSION | x-auth-subject: alice
    method_and_path_do_not_matter: 200 OK | cache-control: no-store | x-auth-client: web | x-auth-issuer: https://issuer.example | x-auth-scope: orders:read orders:write | x-auth-session: SESSION | x-auth-subject: alice
    head: 200 OK | cache-control: no-store | x-auth-client: web | x-auth-issuer: https://issuer.example | x-auth-scope: orders:read orders:write | x-auth-session: SESSION | x-auth-subject: alice
    connect: 200 OK | cache-control: no-store | x-auth-client: web | x-auth-issuer: https://issuer.example | x-auth-scope: orders:read orders:write | x-auth-session: SESSION | x-auth-subject: alice
    not_a_probe_here: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api" | "no_token": 401
    not_the_state_here: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api" | "no_token": 401
    not_the_metrics_here: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api" | "no_token": 401
    strange_subject: 200 OK | cache-control: no-store | x-auth-client: web | x-auth-issuer: https://issuer.example | x-auth-scope: %2D 100%25 orders:read | x-auth-session: SESSION | x-auth-subject: Zo%C3%AB%20%2541%E2%80%AE%20-
    subject_that_looks_like_none: 200 OK | cache-control: no-store | x-auth-client: web | x-auth-issuer: https://issuer.example | x-auth-scope: orders:read orders:write | x-auth-session: SESSION | x-auth-subject: %2D
    own_token_of_a_client_and_forged_headers: 200 OK | cache-control: no-store | x-auth-client: web | x-auth-issuer: https://issuer.example | x-auth-scope: orders:read orders:write | x-auth-session: - | x-auth-subject: web
    no_token: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api" | "no_token": 401
    token_in_query: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api" | "no_token": 401
    two_tokens: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api", error="invalid_request" | "invalid_request": 401
    no_token_in_it: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api", error="invalid_request" | "invalid_request": 401
    forged: 401 Unauthorized | cache-control: no-store | www-authenticate: Bearer realm="api", error="invalid_token" | "invalid_token": 401
    scope_lacks: 403 Forbidden | cache-control: no-store | www-authenticate: Bearer realm="api", error="insufficient_scope", scope="orders:read" | "insufficient_scope": 403
    "#);
}

#[tokio::test]
async fn the_own_token_of_a_client_has_no_scope_either() {
    let f = Forge::new(NOW);
    let sidecar = one(&f, Requirement::none()).await;
    let token = f.mint(&f.header(), &f.claims().without("sid").without("scope"));
    let answer = ask(&sidecar.listen, "GET /", &format!("Authorization: Bearer {token}\r\n")).await;
    assert!(answer.contains("\r\nx-auth-session: -\r\n") && answer.contains("\r\nx-auth-scope: -\r\n"), "{answer}");
}

#[tokio::test]
async fn it_cannot_tell_until_it_has_heard_of_its_issuer() {
    let metrics = Metrics::default();
    let sidecar = start(vec![deaf(&metrics)], Requirement::none(), metrics).await;
    let token = format!("Authorization: Bearer {}\r\n", Forge::new(NOW).token());
    let answer = line(&ask(&sidecar.listen, "GET /", &token).await);
    let expected = "503 Service Unavailable | cache-control: no-store | retry-after: 1 | \"unavailable\": 503";
    assert_eq!(answer, expected);
    assert_eq!(get(&sidecar.operations, "/livez").await.0, 200);
    let (status, why) = get(&sidecar.operations, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.starts_with("http://127.0.0.1:1: the revocation feed has not been read yet"), "{why}");
    let (_, state) = get(&sidecar.operations, "/state").await;
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["max_staleness_ms"], 30_000);
    let issuer = &state["issuers"][0];
    assert_eq!(issuer["issuer"], "http://127.0.0.1:1");
    assert_eq!((&issuer["available"], &issuer["unavailable"]), (&Value::Bool(false), &Value::from("not_synced")));
    assert_eq!((&issuer["position"], &issuer["entries"]), (&Value::Null, &Value::from(0)));
}

#[tokio::test]
async fn with_several_issuers_one_that_is_away_takes_only_its_own_tokens_along() {
    let f = Forge::new(NOW);
    let metrics = Metrics::default();
    let verifiers = vec![knowing(&f, ISSUER, &metrics), deaf(&metrics)];
    let sidecar = start(verifiers, Requirement::none(), metrics).await;
    let of =
        |issuer: &str| format!("Authorization: Bearer {}\r\n", f.mint(&f.header(), &f.claims().text("iss", issuer)));
    let known = line(&ask(&sidecar.listen, "GET /", &of(ISSUER)).await);
    assert!(known.contains("| x-auth-issuer: https://issuer.example |"), "{known}");
    for (issuer, status) in [("http://127.0.0.1:1", "503"), ("https://elsewhere.example", "401")] {
        let answer = line(&ask(&sidecar.listen, "GET /", &of(issuer)).await);
        assert!(answer.starts_with(status), "{issuer}: {answer}");
    }
    assert_eq!(get(&sidecar.operations, "/readyz").await.0, 200);
    let state: Value = serde_json::from_str(&get(&sidecar.operations, "/state").await.1).unwrap();
    let available: Vec<_> = state["issuers"].as_array().unwrap().iter().map(|i| i["available"] == true).collect();
    assert_eq!(available, [false, true], "in the order of their names: {state}");
}

#[tokio::test]
async fn outcomes_are_counted_and_no_label_names_anybody() {
    let f = Forge::new(NOW);
    let sidecar = one(&f, Requirement::none()).await;
    let (good, forged) = (f.token(), Forge::new(NOW).token());
    for authorization in [&format!("Bearer {good}"), &format!("Bearer {good}"), &format!("Bearer {forged}"), "Bearer"] {
        ask(&sidecar.listen, "GET /", &format!("Authorization: {authorization}\r\n")).await;
    }
    ask(&sidecar.listen, "GET /", "").await;
    let (_, metrics) = get(&sidecar.operations, "/metrics").await;
    for expected in [
        "rescind_verifier_answers_total{outcome=\"accepted\"} 2",
        "rescind_verifier_answers_total{outcome=\"no_token\"} 1",
        "rescind_verifier_answers_total{outcome=\"malformed\"} 1",
        "rescind_verifier_verifications_total{issuer=\"https://issuer.example\",outcome=\"key_unknown\"} 1",
        "rescind_verifier_available{issuer=\"https://issuer.example\"} 1",
        "rescind_verifier_denied{issuer=\"https://issuer.example\"} 0",
        "rescind_verifier_fresh_seconds{issuer=\"https://issuer.example\"} 0",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in\n{metrics}");
    }
    assert!(!metrics.contains("alice") && !metrics.contains(&forge::uuid(NOW)), "{metrics}");
}

#[tokio::test]
async fn a_body_is_not_waited_for_and_not_taken_for_a_request() {
    let f = Forge::new(NOW);
    let sidecar = one(&f, Requirement::none()).await;
    let by = format!("Host: test\r\nAuthorization: Bearer {}\r\n", f.token());
    let inner = format!("GET /inner HTTP/1.1\r\n{by}\r\n");
    let long = "x".repeat(12 << 10);
    for (name, rest) in [
        ("announced_and_not_sent", "Content-Length: 1000\r\n\r\n".to_owned()),
        ("sent_in_part", "Content-Length: 1000\r\n\r\nabc".into()),
        ("chunked_without_end", "Transfer-Encoding: chunked\r\n\r\n5\r\nab".into()),
        ("expecting_a_go_ahead", "Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n".into()),
        ("another_request_as_body", format!("Content-Length: {}\r\n\r\n{inner}", inner.len())),
        ("a_long_one", format!("Content-Length: {}\r\n\r\n{long}", long.len())),
    ] {
        // No `Connection: close` of the proxy's: it would reuse the connection.
        let answer = talk(&sidecar.listen, &format!("POST / HTTP/1.1\r\n{by}{rest}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_carries_many_questions_each_with_its_own_answer() {
    let f = Forge::new(NOW);
    let sidecar = one(&f, Requirement::none()).await;
    let good = format!("Authorization: Bearer {}\r\n", f.token());
    let questions: String = [&*good, "", "Authorization: Bearer x\r\n", &good]
        .iter()
        .map(|headers| format!("GET / HTTP/1.1\r\nHost: test\r\n{headers}\r\n"))
        .collect();
    let last = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let answers = talk(&sidecar.listen, &format!("{questions}{last}")).await;
    // A body may stand right before the next answer.
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(statuses, ["200", "401", "401", "200", "401"], "{answers}");
    assert_eq!(answers.matches("x-auth-subject").count(), 2, "{answers}");
}

#[tokio::test]
async fn it_speaks_the_http_1_0_of_nginx() {
    let f = Forge::new(NOW);
    let sidecar = one(&f, Requirement::none()).await;
    let answer = talk(&sidecar.listen, &format!("GET / HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", f.token())).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let f = Forge::new(NOW);
    let sidecar = one(&f, Requirement::none()).await;
    let mut idle = TcpStream::connect(&sidecar.listen).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
    sidecar.stop.send(()).unwrap();
    timeout(PATIENCE, sidecar.served).await.expect("it does not end").unwrap();
    assert!(TcpStream::connect(&sidecar.listen).await.is_err(), "it still takes connections");
}

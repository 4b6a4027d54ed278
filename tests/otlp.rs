//! Spans of requests reach an OpenTelemetry collector, as children of the callers' and without a secret. Built with the
//! feature `otlp`.
#![cfg(feature = "otlp")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

#[path = "common/process.rs"]
mod process;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that takes everything. Gives path and body of each request.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let (give, got) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let (give, mut from) = (give.clone(), BufReader::new(stream));
            std::thread::spawn(move || {
                while let Some(request) = take(&mut from) {
                    if give.send(request).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (at, got)
}

fn take(from: &mut BufReader<std::net::TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    from.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    Some((head.split(' ').nth(1)?.to_owned(), body))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|w| w == part)
}

#[test]
fn a_request_becomes_a_span_of_the_callers_trace_and_its_log_lines_name_it() {
    let (endpoint, got) = collector();
    let place = tempfile::tempdir().unwrap();
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "200"), ("RUST_LOG", "info")];
    let dev = process::Dev::start_with(&place.path().join("store"), &[], &environment);
    let (issuer, id, secret) = (dev.text("issuer").to_owned(), dev.text("client_id"), dev.text("client_secret"));
    let body = r#"{"subject":"alice-of-the-span","audience":["api"],"scope":"read"}"#;
    let stream = std::net::TcpStream::connect(issuer.strip_prefix("http://").unwrap()).unwrap();
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("{id}:{secret}"));
    write!(
        &stream,
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {basic}\r\n\
         traceparent: 00-{TRACE}-{PARENT}-01\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    (&stream).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let tokens: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let (path, span) = loop {
        let (path, body) = got.recv_timeout(Duration::from_secs(20)).expect("a batch comes");
        if holds(&body, b"POST /v1/sessions") {
            break (path, body);
        }
    };
    assert_eq!(path, "/v1/traces");
    assert!(holds(&span, &hex(TRACE)) && holds(&span, &hex(PARENT)), "it is a child of the caller's span");
    for secret in [secret, "alice-of-the-span", tokens["refresh_token"].as_str().unwrap()] {
        assert!(!holds(&span, secret.as_bytes()), "{secret}");
    }
    let (status, output) = dev.stop();
    assert!(status.success(), "a collector does not hold up the end");
    let output = String::from_utf8(output).unwrap();
    assert!(output.lines().any(|line| line.contains("/v1/sessions") && line.contains(TRACE)), "{output}");
}

#[test]
fn a_collector_in_the_clear_on_another_machine_is_refused() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rescind"));
    command.args(["dev", "--json"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318");
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("OTEL_EXPORTER_OTLP_ENDPOINT"));
}

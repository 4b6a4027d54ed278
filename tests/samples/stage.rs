//! What every sample needs beside it: an issuer, and a sidecar that follows it.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::wire::{Answer, send, until};
use crate::process::{Dev, Sidecar};

/// Short, so that the tests need not wait for long; see [`crate::samples::story::outage_is_503`].
pub const MAX_STALENESS: Duration = Duration::from_secs(2);
/// For a process to start and to fetch what it needs, on a busy machine.
pub const START: Duration = Duration::from_secs(30);

pub struct Stage {
    pub dev: Dev,
    pub sidecar: Sidecar,
    _store: TempDir,
}

impl Stage {
    pub fn start() -> Self {
        let store = tempfile::tempdir().unwrap();
        let dev = Dev::start(&store.path().join("store.redb"), &[]);
        let sidecar = follow(dev.text("issuer"), "api", &[]);
        let stage = Self { dev, sidecar, _store: store };
        stage.wait_for(&stage.sidecar, 200);
        stage
    }

    pub fn issuer(&self) -> &str {
        self.dev.text("issuer")
    }

    pub fn sidecar(&self) -> &str {
        self.sidecar.address()
    }

    /// One that asks for more than the first does; ready when it says `verdict` of a token with the scope `orders:read`.
    pub fn another_sidecar(&self, audience: &str, arguments: &[&str], verdict: u16) -> Sidecar {
        let sidecar = follow(self.issuer(), audience, arguments);
        self.wait_for(&sidecar, verdict);
        sidecar
    }

    fn wait_for(&self, sidecar: &Sidecar, verdict: u16) {
        let bearer = format!("Bearer {}", self.open("nobody", Some("orders:read")));
        let ask = || send(sidecar.address(), "GET /", &[("Authorization", &bearer)], "").unwrap();
        until(verdict, &[503], START, ask);
    }

    /// Opens a session and gives its access token.
    pub fn open(&self, subject: &str, scope: Option<&str>) -> String {
        let mut order = json!({"subject": subject, "audience": ["api"]});
        if let Some(scope) = scope {
            order["scope"] = scope.into();
        }
        self.open_as(&order)
    }

    /// The same, by an order of its own.
    pub fn open_as(&self, order: &Value) -> String {
        let answer = self.order("POST /v1/sessions", order);
        assert_eq!(answer.status, 201, "{}", answer.body);
        let opened: Value = serde_json::from_str(&answer.body).unwrap();
        opened["access_token"].as_str().unwrap().to_owned()
    }

    pub fn revoke(&self, kind: &str, id: &str) {
        let answer = self.order("POST /v1/revocations", &json!({"kind": kind, "id": id}));
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    fn order(&self, line: &str, order: &Value) -> Answer {
        let (id, secret) = (self.dev.text("client_id"), self.dev.text("client_secret"));
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
        let headers = [("Authorization", &*basic), ("Content-Type", "application/json")];
        send(self.issuer(), line, &headers, &order.to_string()).unwrap()
    }
}

fn follow(issuer: &str, audience: &str, arguments: &[&str]) -> Sidecar {
    let staleness = format!("{}s", MAX_STALENESS.as_secs());
    let mut all = vec!["--issuer", issuer, "--audience", audience, "--max-staleness", &staleness];
    all.extend(arguments);
    Sidecar::start(&all)
}

//! Probes, state and metrics, on a listener of their own; and the log line when a verifier's state changes.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Sidecar;
use crate::{
    model::report::Reported,
    verifier::{Health, Unavailable},
};

pub(super) fn router(sidecar: Arc<Sidecar>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/state", get(state))
        .route("/metrics", get(metrics))
        .with_state(sidecar)
}

/// One issuer that is away must not take the others' callers with it: ready means that somebody's tokens can be judged.
async fn readyz(State(sidecar): State<Arc<Sidecar>>) -> Response {
    let verifiers = sidecar.health();
    if verifiers.iter().any(|(_, health)| health.available.is_ok()) {
        return "ok\n".into_response();
    }
    let why: String = verifiers.iter().map(|(issuer, health)| format!("{issuer}: {}\n", why(health))).collect();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], why).into_response()
}

fn why(health: &Health) -> String {
    let unavailable = health.available.err().map(|u| u.to_string()).unwrap_or_default();
    health.last_error.as_ref().map_or(unavailable.clone(), |error| format!("{unavailable} ({error})"))
}

async fn state(State(sidecar): State<Arc<Sidecar>>) -> Json<Value> {
    let issuers: Vec<_> = sidecar.health().into_iter().map(|(issuer, health)| described(issuer, &health)).collect();
    Json(json!({"max_staleness_ms": millis(sidecar.max_staleness), "issuers": issuers}))
}

fn described(issuer: &str, health: &Health) -> Value {
    json!({
        "issuer": issuer,
        "available": health.available.is_ok(),
        "unavailable": health.available.err().map(Unavailable::code),
        "fresh_for_ms": health.fresh_for.map(millis),
        "epoch": health.epoch,
        "position": health.position,
        "entries": health.entries,
        "keys": health.keys,
        "keys_current": health.keys_current,
        "last_error": health.last_error,
        "reported": health.reported.map(Reported::name),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn metrics(State(sidecar): State<Arc<Sidecar>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], sidecar.metrics.render(&sidecar.health())).into_response()
}

/// What was said last of a verifier. At first, nothing.
#[derive(Clone, Default)]
struct Told {
    /// Why no token can be judged, and empty if they can.
    judges: Option<String>,
    reported: Option<Reported>,
}

/// Says when tokens can be judged, when they no longer can, and why; and whether the issuer takes reports.
pub(super) async fn tell_changes(sidecar: Arc<Sidecar>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let mut told: Vec<Told> = Vec::new();
    loop {
        // What came about in the last moments is told, too.
        let stopping = tokio::select! {
            _ = tick.tick() => false,
            _ = stopped.changed() => true,
        };
        let verifiers = sidecar.health();
        told.resize(verifiers.len(), Told::default());
        for ((issuer, health), told) in verifiers.iter().zip(&mut told) {
            told.judges(issuer, health);
            told.reported(issuer, health);
        }
        if stopping {
            return;
        }
    }
}

impl Told {
    fn judges(&mut self, issuer: &str, health: &Health) {
        let now = health.available.err().map(|_| why(health)).unwrap_or_default();
        if self.judges.as_ref() == Some(&now) {
            return;
        }
        if health.available.is_ok() {
            tracing::info!(issuer, entries = health.entries, "tokens can be judged");
        } else if health.available == Err(Unavailable::NotSynced) && health.last_error.is_none() {
            // What every start begins with is no news.
            tracing::info!(issuer, "reading the issuer's keys and revocations: answering 503 until then");
        } else {
            tracing::warn!(issuer, why = now, "no token can be judged: answering 503");
        }
        self.judges = Some(now);
    }

    fn reported(&mut self, issuer: &str, health: &Health) {
        if self.reported == health.reported {
            return;
        }
        self.reported = health.reported;
        match health.reported {
            Some(Reported::Taken) => tracing::info!(issuer, "the issuer takes the reports"),
            Some(why) => {
                tracing::warn!(issuer, %why, "the issuer does not take the reports; nothing else is the matter")
            }
            None => {}
        }
    }
}

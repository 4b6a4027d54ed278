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
use crate::verifier::{Health, Unavailable};

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
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn metrics(State(sidecar): State<Arc<Sidecar>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], sidecar.metrics.render(&sidecar.health())).into_response()
}

/// Says when tokens can be judged, when they no longer can, and why.
pub(super) async fn tell_changes(sidecar: Arc<Sidecar>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let mut told: Vec<Option<String>> = Vec::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.changed() => return,
        }
        let verifiers = sidecar.health();
        // Nothing has been said yet of any of them.
        told.resize(verifiers.len(), Some(String::new()));
        for ((issuer, health), told) in verifiers.iter().zip(&mut told) {
            let now = health.available.err().map(|_| why(health));
            if now != *told {
                match &now {
                    None => tracing::info!(issuer, entries = health.entries, "tokens can be judged"),
                    // What every start begins with is no news.
                    Some(_) if health.available == Err(Unavailable::NotSynced) && health.last_error.is_none() => {
                        tracing::info!(issuer, "reading the issuer's keys and revocations: answering 503 until then");
                    }
                    Some(why) => tracing::warn!(issuer, why, "no token can be judged: answering 503"),
                }
                *told = now;
            }
        }
    }
}

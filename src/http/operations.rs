//! Probes and metrics, on a listener of their own.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::App;

/// The process runs.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// It can serve; else why not.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    match app.service.ready().await {
        Ok(notes) => notes.iter().fold("ok\n".to_owned(), |all, note| all + note + "\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], format!("{why}\n")).into_response(),
    }
}

pub(super) async fn metrics(State(app): State<App>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    app.service.measure().await;
    app.edge.measure(&*app.service.clock);
    ([(header::CONTENT_TYPE, kind)], app.service.metrics().render()).into_response()
}

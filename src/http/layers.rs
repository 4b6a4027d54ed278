//! What stands around every request, from the outside to the inside: the answer to scripts of other sites; a name, a time
//! limit, a log line, a measurement, the headers that always go; the gate; and the whole body.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use tracing::Instrument;

use super::{
    App, FEED,
    caller::{check_query, whole_body},
    edge::{Script, gate},
    error::{ApiError, OAuthError},
    trace::{self, TraceParent},
};
use crate::service::Error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(script) = Script::of(&app.edge.settings.cors, &request) else { return named(&app, request, next).await };
    let mut response =
        if script.only_asks() { StatusCode::NO_CONTENT.into_response() } else { named(&app, request, next).await };
    script.allow(response.headers_mut());
    response
}

async fn named(app: &App, request: Request, next: Next) -> Response {
    let began = app.service.clock.monotonic();
    let id = request_id(request.headers(), app);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".into(), |p| p.as_str().to_owned());
    let trace = TraceParent::of(request.headers()).map(|parent| parent.trace_id.to_owned());
    let span = trace::span(request.headers(), &id, method.as_str(), &route);
    let answer = inside(app, request, next).instrument(span.clone());
    let answer = tokio::time::timeout(app.limits.request_timeout, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(too_slow()));
    let mut response = answer.unwrap_or_else(|error| refuse(&route, error));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).expect("checked, or made of digits"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // RFC 6749 §5.1; whoever wants to be cached says so itself.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    }
    let seconds = app.service.clock.monotonic().saturating_sub(began).as_secs_f64();
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    app.service.metrics().request(&route, status, seconds);
    // Each follower asks all the time: nothing else could be found among that.
    if route == FEED && response.status().is_success() {
        tracing::debug!(request_id = %id, trace_id = trace, %method, route, status, seconds, "request");
    } else {
        tracing::info!(request_id = %id, trace_id = trace, %method, route, status, seconds, "request");
    }
    response
}

async fn inside(app: &App, mut request: Request, next: Next) -> Result<Response, Error> {
    check_query(request.uri())?;
    let _room = gate(app, &mut request)?;
    let request = whole_body(app, request).await?;
    Ok(next.run(request).await)
}

/// The step may still be carried out; a retry finds what it did.
fn too_slow() -> Error {
    Error::Unavailable {
        code: "too_slow",
        why: "no answer in time; your token still works afterwards".into(),
        retry_after: std::time::Duration::from_secs(2),
    }
}

pub(super) fn refuse(route: &str, error: Error) -> Response {
    if route.starts_with("/oauth2/") { OAuthError(error).into_response() } else { ApiError(error).into_response() }
}

/// The caller's own id, if it is harmless, so that logs can be joined; else one of ours.
fn request_id(headers: &HeaderMap, app: &App) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let given = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let harmless = |s: &&str| {
        (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    given.filter(harmless).map_or_else(
        || format!("{:x}-{:x}", app.service.clock.now().millis(), NEXT.fetch_add(1, Ordering::Relaxed)),
        ToOwned::to_owned,
    )
}

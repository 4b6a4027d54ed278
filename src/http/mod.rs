//! The HTTP face of a node. Handlers are a few lines each: who asks and what is asked is settled by the extractors in
//! `caller.rs`, what it means by [`crate::service`], what an error looks like by `error.rs`.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::IntoResponse,
    routing::{delete, get, post},
};
use tokio::sync::watch;
use utoipa::OpenApi;

use self::edge::Edge;
use crate::service::Service;

mod answers;
mod audit;
mod caller;
mod clients;
mod credentials;
pub mod edge;
mod effect;
mod error;
mod feed;
mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod keys;
mod layers;
mod oauth;
mod operate;
mod operations;
#[cfg(test)]
mod reference;
mod secret_keys;
mod server;
mod sessions;
mod store;
mod subjects;
mod trace;
mod values;
mod verifiers;
mod webhook;
mod wellknown;

pub(crate) use error::bare_problem;
pub(crate) use server::listen;
pub use server::{Listeners, serve, serve_with};

/// What a request may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections held open at once, on each listener.
    pub connections: usize,
    /// Time for the head of a request, and how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Time that a peer may take to receive some of an answer.
    pub write_timeout: Duration,
    /// Time for its body.
    pub body_timeout: Duration,
    /// Time for its answer; beyond it 503.
    pub request_timeout: Duration,
    /// Bytes of its body.
    pub body: usize,
    /// Time that a graceful stop allows for what has begun.
    pub drain: Duration,
    /// Followers of the feed that may wait for news; beyond it they are answered at once and asked to come less often.
    pub followers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            body: 16 << 10,
            drain: Duration::from_secs(20),
            followers: 2048,
        }
    }
}

/// What the handlers share. Every request has several of it.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: Arc<Service>,
    pub(crate) limits: Limits,
    pub(crate) edge: Arc<Edge>,
    /// True once the node is to stop: what has begun is finished, and nothing is waited for.
    pub(crate) stopped: watch::Receiver<bool>,
}

/// Where verifiers wait for news.
const FEED: &str = "/v1/feed";

/// The public face.
pub(crate) fn router(app: &App) -> Router {
    let routes = Router::new()
        .route("/oauth2/token", post(oauth::token))
        .route("/oauth2/revoke", post(oauth::revoke))
        .route("/oauth2/introspect", post(oauth::introspect))
        .route("/.well-known/oauth-authorization-server", get(wellknown::metadata))
        .route("/.well-known/oauth-authorization-server/{*path}", get(wellknown::metadata_of_path))
        .route("/.well-known/jwks.json", get(wellknown::jwks))
        .route("/v1/sessions", get(sessions::list).post(sessions::open))
        .route("/v1/sessions/{session_id}", get(sessions::show).patch(sessions::amend).delete(sessions::end))
        .route("/v1/sessions/{session_id}/revoke", post(effect::end_sessions))
        .route("/v1/revocations", get(operate::revocations).post(operate::revoke))
        .route("/v1/keys", get(keys::list).post(keys::generate))
        .route("/v1/keys/rotate", post(keys::rotate))
        .route("/v1/keys/rollback", post(keys::roll_back))
        .route("/v1/keys/schedule", get(keys::schedule))
        .route("/v1/keys/import", post(keys::import))
        .route("/v1/keys/secrets", get(secret_keys::list))
        .route("/v1/keys/secrets/forget-unknown", post(secret_keys::forget_unknown))
        .route("/v1/keys/secrets/{kind}/rotate", post(secret_keys::rotate))
        .route("/v1/keys/secrets/{kind}/compromise", post(secret_keys::compromise))
        .route("/v1/keys/{kid}", get(keys::show))
        .route("/v1/keys/{kid}/activate", post(keys::activate))
        .route("/v1/keys/{kid}/retire", post(keys::retire))
        .route("/v1/keys/{kid}/destroy", post(keys::destroy))
        .route("/v1/keys/{kid}/compromise", post(keys::compromise))
        .route("/v1/keys/{kid}/dangerous-export", post(keys::dangerous_export))
        .route("/v1/audit", get(audit::list))
        .route("/v1/audit/head", get(audit::head))
        .route("/v1/subjects/{subject}", get(subjects::export).delete(subjects::erase))
        .route("/v1/webhook/test", post(webhook::test))
        .route("/v1/clients", get(clients::list))
        .route("/v1/clients/{client_id}", get(clients::show))
        .route("/v1/clients/{client_id}/disable", post(clients::disable))
        .route("/v1/clients/{client_id}/enable", post(clients::enable))
        .route("/v1/clients/{client_id}/secrets", post(clients::rotate_secret))
        .route("/v1/clients/{client_id}/secrets/{secret_id}", delete(clients::drop_secret))
        .route("/v1/backup", get(store::backup))
        .route("/v1/store", get(store::store))
        .route("/v1/store/restored", post(store::restored))
        .route("/v1/store/waive", post(store::waive))
        .route(FEED, get(feed::tail))
        .route("/v1/feed/{epoch}/{page}", get(feed::page))
        .route("/v1/verifiers", get(verifiers::list))
        .route("/openapi.json", get(openapi));
    let no_route = || async { error::bare_problem(StatusCode::NOT_FOUND, "no_such_path", "see /openapi.json") };
    let no_method = || async {
        error::bare_problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "the Allow header names those that are",
        )
    };
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        // One layer, not one for each thing that it does: each request copies all layers that lie below each.
        .layer(middleware::from_fn_with_state(app.clone(), layers::around))
        .with_state(app.clone())
}

/// The operations face: no client authentication, so it belongs on a listener of its own.
pub(crate) fn operations_router(app: &App) -> Router {
    Router::new()
        .route("/livez", get(operations::livez))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .with_state(app.clone())
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Rescind", description = "Stateless tokens that you can take back."),
    paths(
        oauth::token, oauth::revoke, oauth::introspect, wellknown::metadata, wellknown::jwks,
        sessions::open, sessions::list, sessions::show, sessions::amend, sessions::end,
        effect::end_sessions,
        operate::revoke, operate::revocations, audit::list, audit::head,
        keys::list, keys::show, keys::generate, keys::rotate, keys::roll_back, keys::schedule, keys::import,
        keys::activate, keys::retire, keys::destroy, keys::compromise, keys::dangerous_export,
        secret_keys::list, secret_keys::rotate, secret_keys::compromise, secret_keys::forget_unknown,
        subjects::export, subjects::erase, webhook::test,
        clients::list, clients::show, clients::disable, clients::enable, clients::rotate_secret, clients::drop_secret,
        feed::tail, feed::page, verifiers::list,
        store::backup, store::store, store::restored,
    ),
    components(schemas(error::Problem, error::OAuthErrorBody)),
    modifiers(&ClientAuthentication)
)]
struct Description;

struct ClientAuthentication;

impl utoipa::Modify for ClientAuthentication {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("client", scheme);
    }
}

async fn openapi(State(_): State<App>) -> impl IntoResponse {
    Json(Description::openapi())
}

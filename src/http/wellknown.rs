//! What anyone may read: the issuer's metadata (RFC 8414) and its keys (RFC 7517).

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{App, FEED, error::bare_problem};
use crate::model::{Algorithm, JwkSet};

/// RFC 8414 §2.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Metadata {
    issuer: String,
    token_endpoint: String,
    jwks_uri: String,
    revocation_endpoint: String,
    introspection_endpoint: String,
    grant_types_supported: [&'static str; 2],
    /// Required by RFC 8414 and empty: there is no authorization endpoint.
    response_types_supported: [&'static str; 0],
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    token_endpoint_auth_signing_alg_values_supported: [&'static str; 2],
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    revocation_endpoint_auth_signing_alg_values_supported: [&'static str; 2],
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    introspection_endpoint_auth_signing_alg_values_supported: [&'static str; 2],
    /// The denylist, for whoever verifies tokens.
    rescind_feed_uri: String,
    /// The keys that sign it, and nothing else: a JWK set by value.
    #[schema(value_type = Object)]
    rescind_feed_jwks: JwkSet,
}

/// The issuer's metadata (RFC 8414).
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "discovery",
    responses((status = 200, body = Metadata)))]
pub(super) async fn metadata(State(app): State<App>) -> Response {
    let issuer = app.service.settings().issuer.to_string();
    let base = issuer.trim_end_matches('/').to_owned();
    let mut proofs = vec!["client_secret_basic", "client_secret_post", "private_key_jwt"];
    if app.edge.asks_for_certificates() {
        proofs.push("self_signed_tls_client_auth");
    }
    let or_none = [&proofs[..], &["none"]].concat();
    // Both names of Ed25519, for `private_key_jwt`.
    let algorithms = [Algorithm::EdDSA.name(), Algorithm::Ed25519.name()];
    let metadata = Metadata {
        token_endpoint: format!("{base}/oauth2/token"),
        jwks_uri: format!("{base}/.well-known/jwks.json"),
        revocation_endpoint: format!("{base}/oauth2/revoke"),
        introspection_endpoint: format!("{base}/oauth2/introspect"),
        rescind_feed_uri: format!("{base}{FEED}"),
        rescind_feed_jwks: app.service.keyring.feed_jwks(),
        issuer,
        grant_types_supported: ["refresh_token", "client_credentials"],
        response_types_supported: [],
        token_endpoint_auth_methods_supported: or_none.clone(),
        token_endpoint_auth_signing_alg_values_supported: algorithms,
        revocation_endpoint_auth_methods_supported: or_none,
        revocation_endpoint_auth_signing_alg_values_supported: algorithms,
        introspection_endpoint_auth_methods_supported: proofs,
        introspection_endpoint_auth_signing_alg_values_supported: algorithms,
    };
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(metadata)).into_response()
}

/// The same where RFC 8414 §3.1 puts it for an issuer with a path.
pub(super) async fn metadata_of_path(state: State<App>, Path(path): Path<String>) -> Response {
    let issuer = state.0.service.settings().issuer.to_string();
    let own = issuer.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    if own.is_some_and(|own| own.trim_end_matches('/') == path.trim_end_matches('/')) {
        return metadata(state).await;
    }
    bare_problem(StatusCode::NOT_FOUND, "no_such_path", "no issuer of this path is served here")
}

/// The keys that sign, will sign, or have signed what may still be alive.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "discovery",
    responses(
        (status = 200, description = "A JWK set (RFC 7517 §5)", body = Object),
        (status = 304, description = "Unchanged since the ETag in If-None-Match"),
    ))]
pub(super) async fn jwks(State(app): State<App>, headers: HeaderMap) -> Response {
    let published = app.service.keyring.jwks();
    let cache = format!("public, max-age={}", app.service.keyring.jwks_max_age().as_secs());
    let caching = [
        (header::ETAG, HeaderValue::from_str(&published.etag).expect("a quoted hash is a header value")),
        (header::CACHE_CONTROL, HeaderValue::from_str(&cache).expect("digits are a header value")),
    ];
    let unchanged = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == published.etag)
    });
    if unchanged {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, "application/json")], published.json.clone()).into_response()
}

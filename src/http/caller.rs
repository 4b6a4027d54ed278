//! Who sends a request: the extractors that stand before every handler.

use std::net::SocketAddr;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, Uri, header, request::Parts},
};
use serde::de::DeserializeOwned;

use super::{
    App, credentials,
    edge::{Room, Visit},
    error::{ApiError, OAuthError},
    form::Form,
    values::id,
};
use crate::{
    model::{Kid, SessionId, audit::Origin},
    service::{Caller, Context, Credentials, Error},
};

/// Parameters that must never travel in a URL, where logs and proxies keep them (RFC 6749 §2.3.1, RFC 9700 §4.3).
const NEVER_IN_URLS: [&str; 5] = ["client_secret", "refresh_token", "token", "client_assertion", "access_token"];

/// The address of the peer, put there by the listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A request to an OAuth endpoint: its form, and who sent it.
pub(super) struct OAuthCall {
    pub(super) form: Form,
    pub(super) visit: Visit,
    pub(super) ctx: Context,
}

impl FromRequest<App> for OAuthCall {
    type Rejection = OAuthError;

    async fn from_request(request: Request, app: &App) -> Result<Self, OAuthError> {
        let (parts, body) = request.into_parts();
        if !is_type(&parts.headers, "application/x-www-form-urlencoded") {
            return Err(Error::request("Content-Type", "must be application/x-www-form-urlencoded").into());
        }
        let body = read_body(&parts, body, app).await?;
        let mut form = Form::read(&body)?;
        let credentials = credentials::of_form(&parts, &mut form);
        let (visit, origin) = (visit(&parts), origin(&parts));
        let caller = identify(app, credentials, visit, &origin).await?;
        Ok(Self { form, visit, ctx: Context { caller, origin } })
    }
}

/// A caller of `/v1`: a secret by HTTP Basic or an assertion in a header, so always proven.
pub(super) struct ApiCall(pub(super) Context);

impl FromRequestParts<App> for ApiCall {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let origin = origin(parts);
        let caller = identify(app, credentials::of_headers(parts), visit(parts), &origin).await?;
        Ok(Self(Context { caller, origin }))
    }
}

/// Who it is, if there is still room for them; whoever is nobody has used up some of it. Whoever there is no room for has
/// used up nothing: the same assertion is good when there is.
async fn identify(
    app: &App,
    credentials: Result<Credentials, Error>,
    visit: Visit,
    origin: &Origin,
) -> Result<Caller, Error> {
    let admit = |who: Result<&Caller, &Error>| app.edge.admit(visit, who, &*app.service.clock);
    match credentials {
        Ok(credentials) => app.service.authenticate(&credentials, origin, admit).await,
        Err(error) => {
            admit(Err(&error))?;
            Err(error)
        }
    }
}

/// A JSON body with its errors as problems.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        if !is_type(&parts.headers, "application/json") {
            return Err(Error::request("Content-Type", "must be application/json").into());
        }
        let body = read_body(&parts, body, app).await?;
        // An array would be read as well, member by member in their order.
        if body.trim_ascii_start().starts_with(b"[") {
            return Err(Error::request("body", "expected an object").into());
        }
        let value = serde_json::from_slice(&body).map_err(|e| Error::request("body", json_hint(&e)))?;
        Ok(Self(value))
    }
}

/// A JSON body that may be left out.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let empty = request.headers().get(header::CONTENT_TYPE).is_none()
            && request.headers().get(header::TRANSFER_ENCODING).is_none()
            && request.headers().get(header::CONTENT_LENGTH).is_none_or(|n| n == "0");
        if empty {
            return Ok(Self(T::default()));
        }
        JsonBody::from_request(request, app).await.map(|JsonBody(value)| Self(value))
    }
}

/// What serde says, without the input that it quotes: that could be a secret in the wrong place.
fn json_hint(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let place = format!("line {} column {}", e.line(), e.column());
    match e.classify() {
        serde_json::error::Category::Data if text.starts_with("missing field") || text.starts_with("unknown field") => {
            text
        }
        serde_json::error::Category::Data if text.starts_with("duplicate field") => text,
        serde_json::error::Category::Data => {
            // `invalid type: string "…", expected a sequence`: keep what was expected.
            let expected = text.rsplit_once("expected ").map_or_else(|| text.clone(), |(_, e)| format!("expected {e}"));
            if text.contains("invalid type") || text.contains("invalid value") { expected } else { text }
        }
        _ => format!("is not JSON, at {place}"),
    }
}

/// A query with its errors as problems; unknown and repeated parameters are refused.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|e| Error::request("query", e.body_text()).into())
    }
}

/// Asked of every request, before anything else looks at it.
pub(super) fn check_query(uri: &Uri) -> Result<(), Error> {
    let query = uri.query().unwrap_or_default();
    let leaked = form_urlencoded::parse(query.as_bytes()).any(|(name, _)| NEVER_IN_URLS.contains(&&*name));
    if leaked {
        return Err(Error::request("query", "credentials and tokens belong in the body, never in the URL"));
    }
    Ok(())
}

/// The session that a path names.
pub(super) struct SessionPath(pub(super) SessionId);

impl FromRequestParts<App> for SessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = path.map_err(|e| Error::request("session_id", e.body_text()))?;
        Ok(Self(id("session_id", &text)?))
    }
}

/// The key that a path names.
pub(super) struct KidPath(pub(super) Kid);

impl FromRequestParts<App> for KidPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = path.map_err(|e| Error::request("kid", e.body_text()))?;
        Ok(Self(id("kid", &text)?))
    }
}

fn is_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(expected))
}

/// Waits for the whole body before anybody asks who sends it. Otherwise a client could be let in, keep its last byte back
/// until it has been disabled, and be served by what it was.
pub(super) async fn whole_body(app: &App, request: Request) -> Result<Request, Error> {
    // The OAuth endpoints read their form first by themselves: who asks may be named in it.
    if !request.uri().path().starts_with("/v1/") {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let body = read_body(&parts, body, app).await?;
    Ok(Request::from_parts(parts, body.into()))
}

async fn read_body(parts: &Parts, body: axum::body::Body, app: &App) -> Result<Bytes, Error> {
    let (limit, within) = (app.limits.body, app.limits.body_timeout);
    let room: &Room = parts.extensions.get().expect("the gate puts it there");
    match room.outside(tokio::time::timeout(within, axum::body::to_bytes(body, limit))).await? {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Error::request("body", format!("is longer than {limit} bytes, or broke off"))),
        Err(_) => Err(Error::request("body", "came too slowly")),
    }
}

pub(super) fn visit(parts: &Parts) -> Visit {
    *parts.extensions.get().expect("the gate puts it there")
}

pub(super) fn origin(parts: &Parts) -> Origin {
    let ip = Some(visit(parts).address.to_string().into());
    let agent = parts.headers.get(header::USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let user_agent = agent.map(|a| a.chars().filter(|c| !c.is_control()).take(256).collect::<String>().into());
    Origin { ip, user_agent }
}

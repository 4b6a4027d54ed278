//! `/v1/sessions` for trusted clients.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::{ApiErrors, Conflict, NotFound},
    caller::{ApiCall, JsonBody, Query, SessionPath},
    error::ApiError,
    values::{id_if_any, page_size},
};
use crate::{
    families::Session,
    model::{
        Audience, ClientId, Scope, SessionId, Subject, Timestamp,
        claims::CustomClaims,
        family::{Closed, Refusal},
        session::Device,
    },
    service::{Amendment, NewSession, Tokens},
};

/// Sessions that one page holds at most.
const PAGE: usize = 200;

/// A session to be opened.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenBody {
    /// Whose: `sub`.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    subject: Subject,
    /// For whom its tokens are: `aud`.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 16)]
    audience: Vec<Audience>,
    /// What they allow.
    #[schema(value_type = Option<String>)]
    scope: Option<Scope>,
    /// Which client will refresh it; the caller by default.
    #[schema(value_type = Option<String>)]
    client_id: Option<ClientId>,
    #[schema(value_type = Option<Object>)]
    device: Option<Device>,
    /// When the subject authenticated, in seconds since the epoch; now by default.
    auth_time: Option<u64>,
    #[schema(value_type = Option<String>)]
    acr: Option<Box<str>>,
    /// RFC 8176.
    #[schema(value_type = Option<Vec<String>>)]
    amr: Option<Vec<Box<str>>>,
    /// Custom claims.
    #[schema(value_type = Option<Object>)]
    claims: Option<CustomClaims>,
}

/// A new session's tokens.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OpenedBody {
    #[schema(value_type = Option<String>)]
    session_id: Option<SessionId>,
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    refresh_token: String,
    /// Seconds until the session ends without use.
    refresh_expires_in: u64,
    scope: String,
}

impl From<Tokens> for OpenedBody {
    fn from(tokens: Tokens) -> Self {
        let (refresh_token, refresh_life) =
            tokens.refresh.as_ref().map_or_else(Default::default, |(t, life)| (t.expose().to_owned(), *life));
        Self {
            session_id: tokens.session,
            access_token: tokens.access.expose().to_owned(),
            token_type: "Bearer",
            expires_in: tokens.expires_in.as_secs(),
            refresh_token,
            refresh_expires_in: refresh_life.as_secs(),
            scope: tokens.scope.to_string(),
        }
    }
}

/// A session.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SessionBody {
    #[schema(value_type = String)]
    session_id: SessionId,
    /// `open`, `closed`, `expired` or `cut_off`.
    state: &'static str,
    #[schema(value_type = String)]
    subject: Subject,
    #[schema(value_type = String)]
    client_id: ClientId,
    #[schema(value_type = Vec<String>)]
    audience: Vec<Audience>,
    #[schema(value_type = String)]
    scope: Scope,
    /// Custom claims.
    #[schema(value_type = Object)]
    claims: serde_json::Value,
    #[schema(value_type = Object)]
    device: Device,
    /// Seconds since the epoch.
    auth_time: Option<u64>,
    #[schema(value_type = Option<String>)]
    acr: Option<Box<str>>,
    #[schema(value_type = Vec<String>)]
    amr: Vec<Box<str>>,
    /// RFC 3339.
    opened_at: String,
    /// RFC 3339.
    last_used_at: String,
    /// How often it has been refreshed.
    generation: u32,
    /// When it ends without use (RFC 3339).
    expires_at: String,
    /// When it ends in any case (RFC 3339).
    absolute_expires_at: String,
    /// Why and when it was closed.
    #[schema(value_type = Option<Object>)]
    closed: Option<ClosedBody>,
}

/// Why and when a session was closed.
#[derive(Serialize)]
pub(super) struct ClosedBody {
    cause: crate::model::family::Closure,
    at: String,
}

impl From<Session> for SessionBody {
    fn from(session: Session) -> Self {
        let Session { lineage, id, identity, ended, .. } = session;
        let state = match ended {
            None => "open",
            Some(Refusal::Closed) => "closed",
            Some(Refusal::CutOff) => "cut_off",
            Some(_) => "expired",
        };
        Self {
            session_id: id,
            state,
            subject: identity.subject,
            client_id: identity.client,
            audience: identity.audience,
            scope: identity.scope,
            claims: serde_json::from_str(&identity.claims).unwrap_or_default(),
            device: identity.device,
            auth_time: identity.auth_time.map(Timestamp::seconds),
            acr: identity.acr,
            amr: identity.amr,
            opened_at: id.stamp().to_rfc3339(),
            last_used_at: lineage.last_used.to_rfc3339(),
            generation: lineage.head.0,
            expires_at: lineage.idle_until.to_rfc3339(),
            absolute_expires_at: lineage.absolute_until.to_rfc3339(),
            closed: lineage.closed.map(|Closed { cause, at }| ClosedBody { cause, at: at.to_rfc3339() }),
        }
    }
}

/// Opens a session for a subject that the caller has authenticated.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions", request_body = OpenBody, security(("client" = [])),
    responses((status = 201, body = OpenedBody), ApiErrors, Conflict)
)]
pub(super) async fn open(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    JsonBody(body): JsonBody<OpenBody>,
) -> Result<(StatusCode, Json<OpenedBody>), ApiError> {
    let now = app.service.clock.now();
    let new = NewSession {
        subject: body.subject,
        audience: body.audience,
        scope: body.scope.unwrap_or_default(),
        client: body.client_id,
        device: body.device.unwrap_or_default(),
        auth_time: Some(body.auth_time.map_or(now, Timestamp::from_seconds)),
        acr: body.acr,
        amr: body.amr.unwrap_or_default(),
        claims: body.claims.unwrap_or_default(),
    };
    let tokens = app.service.open_session(&ctx, new).await?;
    Ok((StatusCode::CREATED, Json(tokens.into())))
}

/// Whose sessions.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Whose.
    #[param(value_type = String)]
    subject: Subject,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<String>,
    /// 50 by default, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A page of sessions.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ListBody {
    sessions: Vec<SessionBody>,
    /// How many the subject has in all, open or not; counted up to 10,000.
    total: usize,
    /// For `after` of the next page.
    #[schema(value_type = Option<String>)]
    next: Option<SessionId>,
}

/// A subject's sessions, the oldest first.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", params(ListQuery), security(("client" = [])),
    responses((status = 200, body = ListBody), ApiErrors)
)]
pub(super) async fn list(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    Query(query): Query<ListQuery>,
) -> Result<Json<ListBody>, ApiError> {
    let (after, limit) = (id_if_any("after", query.after.as_deref())?, page_size(query.limit, PAGE)?);
    let page = app.service.sessions(&ctx, &query.subject, after, limit).await?;
    let sessions = page.sessions.into_iter().map(Into::into).collect();
    Ok(Json(ListBody { sessions, total: page.total, next: page.next }))
}

/// One session.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}", tag = "sessions", security(("client" = [])),
    params(("session_id" = String, Path)),
    responses((status = 200, body = SessionBody), ApiErrors, NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    SessionPath(id): SessionPath,
) -> Result<Json<SessionBody>, ApiError> {
    Ok(Json(app.service.session(&ctx, id).await?.into()))
}

/// What is to change.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AmendBody {
    /// New custom claims, all of them.
    #[schema(value_type = Option<Object>)]
    claims: Option<CustomClaims>,
    #[schema(value_type = Option<String>)]
    acr: Option<Box<str>>,
    #[schema(value_type = Option<Vec<String>>)]
    amr: Option<Vec<Box<str>>>,
    /// Seconds since the epoch.
    auth_time: Option<u64>,
    /// Only narrower.
    #[schema(value_type = Option<String>)]
    scope: Option<Scope>,
    /// Only narrower.
    #[schema(value_type = Option<Vec<String>>)]
    audience: Option<Vec<Audience>>,
}

/// Changes what a session's tokens will say from the next refresh on.
#[utoipa::path(
    patch, path = "/v1/sessions/{session_id}", tag = "sessions", request_body = AmendBody, security(("client" = [])),
    params(("session_id" = String, Path)),
    responses((status = 200, body = SessionBody), ApiErrors, NotFound, Conflict)
)]
pub(super) async fn amend(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    SessionPath(id): SessionPath,
    JsonBody(body): JsonBody<AmendBody>,
) -> Result<Json<SessionBody>, ApiError> {
    let change = Amendment {
        claims: body.claims,
        acr: body.acr,
        amr: body.amr,
        auth_time: body.auth_time.map(Timestamp::from_seconds),
        scope: body.scope,
        audience: body.audience,
    };
    Ok(Json(app.service.amend_session(&ctx, id, &change).await?.into()))
}

/// Ends a session: its refresh, and its live access tokens.
#[utoipa::path(
    delete, path = "/v1/sessions/{session_id}", tag = "sessions", security(("client" = [])),
    params(("session_id" = String, Path)),
    responses((status = 204, description = "It has ended, now or before"), ApiErrors, NotFound)
)]
pub(super) async fn end(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    SessionPath(id): SessionPath,
) -> Result<StatusCode, ApiError> {
    app.service.end_session(&ctx, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

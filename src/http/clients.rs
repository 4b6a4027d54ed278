//! `/v1/clients`: who they are, and what can be changed about them at run time.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::{ApiErrors, Conflict, NotFound},
    caller::{ApiCall, JsonBody, OptionalJson},
    error::ApiError,
    operate::{RevokedBody, reason, revoked_body},
};
use crate::{
    model::{Audience, ClientId, Scope, Timestamp, ids::IdError, time::parse_duration},
    service::{ClientView, DisabledSince, Error, Method, NewSecret, OldSecrets, SecretView},
};

/// A client.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ClientBody {
    #[schema(value_type = String)]
    client_id: ClientId,
    /// `enabled` or `disabled`.
    state: &'static str,
    /// Since when it is disabled, by whose word, and why; null if the configuration says so.
    disabled: Option<DisabledBody>,
    /// How it can prove itself: `secret`, `private_key_jwt`, `self_signed_tls_client_auth`. Empty: it is public.
    methods: Vec<&'static str>,
    /// Its live secrets.
    secrets: Vec<SecretBody>,
    /// The `kid` of its keys.
    #[schema(value_type = Vec<String>)]
    keys: Vec<crate::model::Kid>,
    permissions: Vec<&'static str>,
    /// null: not bounded, as for the two below.
    #[schema(value_type = Option<String>)]
    scope: Option<Scope>,
    #[schema(value_type = Option<Vec<String>>)]
    audience: Option<Vec<Audience>>,
    #[schema(value_type = Option<Vec<String>>)]
    introspect_audience: Option<Vec<Audience>>,
}

/// Since when a client is disabled.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct DisabledBody {
    /// RFC 3339.
    since: String,
    /// The client that asked for it.
    #[schema(value_type = String)]
    by: ClientId,
    #[schema(value_type = Option<String>)]
    reason: Option<Box<str>>,
}

/// A live secret; of the secret itself it says nothing.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SecretBody {
    /// The first 12 hexadecimal digits of its SHA-256.
    secret_id: String,
    /// `configuration`, or `rotated` for one that was made at run time.
    origin: &'static str,
    /// RFC 3339; null: until it is dropped.
    valid_until: Option<String>,
}

impl From<ClientView> for ClientBody {
    fn from(view: ClientView) -> Self {
        let ClientView { client, disabled, secrets, methods } = view;
        let disabled_body = |d: DisabledSince| DisabledBody { since: d.since.to_rfc3339(), by: d.by, reason: d.reason };
        Self {
            client_id: client.id.clone(),
            state: if disabled.is_some() || client.disabled { "disabled" } else { "enabled" },
            disabled: disabled.map(disabled_body),
            methods: methods.into_iter().map(Method::name).collect(),
            secrets: secrets.into_iter().map(Into::into).collect(),
            keys: client.keys.iter().map(|key| key.kid.clone()).collect(),
            permissions: client.permissions.iter().map(|p| p.name()).collect(),
            scope: client.scope.clone(),
            audience: client.audience.clone(),
            introspect_audience: client.introspect_audience.clone(),
        }
    }
}

impl From<SecretView> for SecretBody {
    fn from(view: SecretView) -> Self {
        let origin = if view.rotated { "rotated" } else { "configuration" };
        Self { secret_id: view.id, origin, valid_until: view.until.map(Timestamp::to_rfc3339) }
    }
}

/// The client that a path names.
pub(super) struct ClientPath(ClientId);

impl FromRequestParts<App> for ClientPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = Path::<Vec<(String, String)>>::from_request_parts(parts, app).await;
        let Path(members) = path.map_err(|e| Error::request("client_id", e.body_text()))?;
        let text = members.first().map(|(_, value)| value.as_str()).unwrap_or_default();
        let id = text.parse().map_err(|e: IdError| Error::request("client_id", e.to_string()))?;
        Ok(Self(id))
    }
}

/// All clients.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ClientsBody {
    clients: Vec<ClientBody>,
}

/// All clients that are configured, by name.
#[utoipa::path(
    get, path = "/v1/clients", tag = "clients", security(("client" = [])),
    responses((status = 200, body = ClientsBody), ApiErrors)
)]
pub(super) async fn list(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Json<ClientsBody>, ApiError> {
    let clients = app.service.list_clients(&ctx)?.into_iter().map(Into::into).collect();
    Ok(Json(ClientsBody { clients }))
}

/// One client.
#[utoipa::path(
    get, path = "/v1/clients/{client_id}", tag = "clients", params(("client_id" = String, Path)),
    security(("client" = [])),
    responses((status = 200, body = ClientBody), ApiErrors, NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    ClientPath(id): ClientPath,
) -> Result<Json<ClientBody>, ApiError> {
    Ok(Json(app.service.show_client(&ctx, &id)?.into()))
}

/// How to disable.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DisableBody {
    /// End its sessions and its tokens, too, in the same step. Without it, access tokens that are out live to their end.
    end_sessions: Option<bool>,
    /// Why, up to 256 bytes, for the audit log.
    reason: Option<String>,
}

/// What disabling did.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct DisabledClientBody {
    client: ClientBody,
    /// The cut-off that ended its sessions, if that was asked for.
    revocation: Option<RevokedBody>,
}

/// Refuses a client everywhere from now on.
#[utoipa::path(
    post, path = "/v1/clients/{client_id}/disable", tag = "clients", params(("client_id" = String, Path)),
    request_body = Option<DisableBody>, security(("client" = [])),
    responses((status = 200, body = DisabledClientBody), ApiErrors, NotFound, Conflict)
)]
pub(super) async fn disable(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    ClientPath(id): ClientPath,
    OptionalJson(body): OptionalJson<DisableBody>,
) -> Result<Json<DisabledClientBody>, ApiError> {
    let reason = body.reason.map(reason).transpose()?;
    let (client, entry) = app.service.disable_client(&ctx, &id, body.end_sessions.unwrap_or(false), reason).await?;
    let revocation = entry.map(|entry| revoked_body(&app, entry));
    Ok(Json(DisabledClientBody { client: client.into(), revocation }))
}

/// How to enable.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EnableBody {
    /// Why, up to 256 bytes, for the audit log.
    reason: Option<String>,
}

/// Lets a disabled client in again. What was ended with it stays ended.
#[utoipa::path(
    post, path = "/v1/clients/{client_id}/enable", tag = "clients", params(("client_id" = String, Path)),
    request_body = Option<EnableBody>, security(("client" = [])),
    responses((status = 200, body = ClientBody), ApiErrors, NotFound, Conflict)
)]
pub(super) async fn enable(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    ClientPath(id): ClientPath,
    OptionalJson(body): OptionalJson<EnableBody>,
) -> Result<Json<ClientBody>, ApiError> {
    let reason = body.reason.map(reason).transpose()?;
    Ok(Json(app.service.enable_client(&ctx, &id, reason).await?.into()))
}

/// What becomes of the secrets before the new one. Without either they stay good until they are dropped.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateSecretBody {
    /// They end after that time: `12h` or `7d`, 90 days at most.
    drop_old_after: Option<String>,
    /// They end at once.
    drop_old: Option<bool>,
}

impl RotateSecretBody {
    fn old(&self) -> Result<OldSecrets, Error> {
        match (&self.drop_old_after, self.drop_old) {
            (Some(_), Some(true)) => Err(Error::request("drop_old", "at once, or after a time: not both")),
            (Some(after), _) => {
                let after = parse_duration(after).map_err(|e| Error::request("drop_old_after", e))?;
                Ok(OldSecrets::DropAfter(after))
            }
            (None, Some(true)) => Ok(OldSecrets::Drop),
            (None, _) => Ok(OldSecrets::Keep),
        }
    }
}

/// A new secret. It is told this once, and only its hash is kept.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct NewSecretBody {
    #[schema(value_type = String)]
    client_id: ClientId,
    client_secret: String,
    secret_id: String,
    /// All live secrets, the new one among them.
    secrets: Vec<SecretBody>,
}

impl From<NewSecret> for NewSecretBody {
    fn from(new: NewSecret) -> Self {
        Self {
            client_id: new.client.client.id.clone(),
            client_secret: new.secret.to_string(),
            secret_id: new.id,
            secrets: new.client.secrets.into_iter().map(Into::into).collect(),
        }
    }
}

/// Makes a new secret for a client.
#[utoipa::path(
    post, path = "/v1/clients/{client_id}/secrets", tag = "clients", params(("client_id" = String, Path)),
    request_body = RotateSecretBody, security(("client" = [])),
    responses((status = 201, body = NewSecretBody), ApiErrors, NotFound, Conflict)
)]
pub(super) async fn rotate_secret(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    ClientPath(id): ClientPath,
    JsonBody(body): JsonBody<RotateSecretBody>,
) -> Result<(StatusCode, Json<NewSecretBody>), ApiError> {
    let new = app.service.rotate_secret(&ctx, &id, body.old()?).await?;
    Ok((StatusCode::CREATED, Json(new.into())))
}

/// Drops one secret of a client at once. The last one of a client that has neither key nor certificate stays: disable
/// the client instead.
#[utoipa::path(
    delete, path = "/v1/clients/{client_id}/secrets/{secret_id}", tag = "clients",
    params(("client_id" = String, Path), ("secret_id" = String, Path)), security(("client" = [])),
    responses((status = 200, body = ClientBody), ApiErrors, NotFound, Conflict)
)]
pub(super) async fn drop_secret(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    ClientPath(id): ClientPath,
    Path((_, secret)): Path<(String, String)>,
) -> Result<Json<ClientBody>, ApiError> {
    Ok(Json(app.service.drop_secret(&ctx, &id, &secret).await?.into()))
}

//! `/v1/keys/secrets`: the feed, derivation and sealing keys, for operators. No answer holds one.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::{ApiErrors, Conflict},
    caller::{ApiCall, OptionalJson},
    error::ApiError,
    operate::{EntryBody, entry_body, reason},
};
use crate::{
    keyring::{Exposure, SecretInfo, SecretKind, UnknownKind},
    model::{Kid, Timestamp},
    service::{Error, SecretChange, SecretCompromise},
};

/// The kind of key that the path names.
pub(super) struct KindPath(SecretKind);

impl FromRequestParts<App> for KindPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, app: &App) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let text = path.map_err(|e| Error::request("kind", e.body_text()))?;
        Ok(Self(text.parse().map_err(|e: UnknownKind| Error::request("kind", e.to_string()))?))
    }
}

/// A symmetric key.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SymmetricKeyBody {
    /// `feed`, `derivation` or `sealing`.
    kind: &'static str,
    /// Its name: eight hexadecimal digits.
    id: String,
    /// What is new is made with it. The others open and verify what they made.
    in_use: bool,
    /// RFC 3339; null: before this was written down.
    created_at: Option<String>,
    /// When a newer one took its place; null: it is in use.
    superseded_at: Option<String>,
    /// It was said to be compromised, and is kept for the sessions that are older than that.
    given_up: bool,
    /// Of a feed key: its `kid` in the feed.
    #[schema(value_type = Option<String>)]
    kid: Option<Kid>,
    /// Of a feed key: the `kid` in the heads of the audit log, which auditors pin.
    #[schema(value_type = Option<String>)]
    audit_kid: Option<Kid>,
}

impl From<SecretInfo> for SymmetricKeyBody {
    fn from(info: SecretInfo) -> Self {
        let text = |at: Option<Timestamp>| at.map(Timestamp::to_rfc3339);
        Self {
            kind: info.kind.name(),
            id: info.name(),
            in_use: info.superseded.is_none(),
            created_at: text(info.created),
            superseded_at: text(info.superseded),
            given_up: info.given_up,
            kid: info.feed,
            audit_kid: info.audit,
        }
    }
}

/// What somebody can do who has a key of a kind, and what is left of that after a compromise.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ExposureBody {
    /// With the key alone.
    alone: &'static str,
    /// With the key, and reading the store.
    store_read: &'static str,
    /// With the key, and writing the store.
    store_write: &'static str,
    /// What a compromise does about it.
    done: &'static str,
    /// What remains after that; null if `end_sessions` leaves nothing of it.
    remains: Option<&'static str>,
    /// What `end_sessions` does, or would do; null: sessions do not depend on the key.
    with_end_sessions: Option<&'static str>,
}

impl ExposureBody {
    fn of(exposure: Exposure, end_sessions: bool) -> Self {
        let Exposure { alone, store_read, store_write, done, remains, with_end_sessions } = exposure;
        let remains = (!end_sessions).then_some(remains);
        Self { alone, store_read, store_write, done, remains, with_end_sessions }
    }
}

/// All symmetric keys that can be replaced.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SymmetricKeysBody {
    /// Kind by kind, the one in use last.
    secrets: Vec<SymmetricKeyBody>,
    /// What was made until then under keys that are not here is refused; null: it is answered 503, since they may only be
    /// missing.
    forgotten_until: Option<String>,
}

/// The feed, derivation and sealing keys: their names and ages, never the keys.
#[utoipa::path(
    get, path = "/v1/keys/secrets", tag = "keys", security(("client" = [])),
    responses((status = 200, body = SymmetricKeysBody), ApiErrors)
)]
pub(super) async fn list(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Json<SymmetricKeysBody>, ApiError> {
    let secrets = app.service.secret_keys(&ctx).await?.into_iter().map(Into::into).collect();
    let forgotten_until = app.service.keyring.forgotten_until().map(Timestamp::to_rfc3339);
    Ok(Json(SymmetricKeysBody { secrets, forgotten_until }))
}

/// How to replace a symmetric key.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateSymmetricKeyBody {
    /// Say whether it may be done, and do nothing.
    dry_run: Option<bool>,
}

/// What was done to the symmetric keys, or with `dry_run` what would be.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SymmetricKeyChangeBody {
    dry_run: bool,
    /// `feed`, `derivation` or `sealing`.
    kind: &'static str,
    /// In use from now on; null in a dry run.
    made: Option<SymmetricKeyBody>,
    /// Dropped; null in a dry run.
    gone: Option<Vec<SymmetricKeyBody>>,
    /// The cut-off that ends the sessions, if that was asked for; null in a dry run.
    sessions: Option<EntryBody>,
    /// Of a compromise.
    exposure: Option<ExposureBody>,
}

impl SymmetricKeyChangeBody {
    fn planned(kind: SecretKind, exposure: Option<ExposureBody>) -> Self {
        Self { dry_run: true, kind: kind.name(), made: None, gone: None, sessions: None, exposure }
    }
    fn done(app: &App, change: SecretChange, exposure: Option<ExposureBody>) -> Self {
        Self {
            dry_run: false,
            kind: change.made.kind.name(),
            gone: Some(change.gone.into_iter().map(Into::into).collect()),
            sessions: change.sessions.map(|entry| entry_body(app.service.epoch(), entry)),
            made: Some(change.made.into()),
            exposure,
        }
    }
}

/// Puts a new key in use. The one before goes on opening and verifying what it made, so nobody is refused for it.
#[utoipa::path(
    post, path = "/v1/keys/secrets/{kind}/rotate", tag = "keys", request_body = Option<RotateSymmetricKeyBody>,
    security(("client" = [])), params(("kind" = String, Path)),
    responses((status = 200, body = SymmetricKeyChangeBody), ApiErrors, Conflict)
)]
pub(super) async fn rotate(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    KindPath(kind): KindPath,
    OptionalJson(body): OptionalJson<RotateSymmetricKeyBody>,
) -> Result<Json<SymmetricKeyChangeBody>, ApiError> {
    if body.dry_run.unwrap_or(false) {
        app.service.permit_rotation(&ctx)?;
        return Ok(Json(SymmetricKeyChangeBody::planned(kind, None)));
    }
    let change = app.service.rotate_secret_key(&ctx, kind).await?;
    Ok(Json(SymmetricKeyChangeBody::done(&app, change, None)))
}

/// A symmetric key that is in other hands.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompromiseSymmetricKeyBody {
    /// End all sessions as well, and destroy the old key; not for the feed's, on which no session depends.
    end_sessions: Option<bool>,
    /// Why, up to 256 bytes, for the audit log.
    reason: Option<String>,
    /// Say what it would do, and do nothing.
    dry_run: Option<bool>,
}

/// Gives up a key that is in other hands: a new one is in use, and the answer says what a thief can still do with the old
/// one. Asking again completes what a 503 has left.
#[utoipa::path(
    post, path = "/v1/keys/secrets/{kind}/compromise", tag = "keys", request_body = Option<CompromiseSymmetricKeyBody>,
    security(("client" = [])), params(("kind" = String, Path)),
    responses((status = 200, body = SymmetricKeyChangeBody), ApiErrors, Conflict)
)]
pub(super) async fn compromise(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    KindPath(kind): KindPath,
    OptionalJson(body): OptionalJson<CompromiseSymmetricKeyBody>,
) -> Result<Json<SymmetricKeyChangeBody>, ApiError> {
    let end_sessions = body.end_sessions.unwrap_or(false);
    let order = SecretCompromise { kind, end_sessions, reason: body.reason.map(reason).transpose()? };
    let exposure = Some(ExposureBody::of(kind.exposure(), end_sessions));
    if body.dry_run.unwrap_or(false) {
        app.service.permit_secret_compromise(&ctx, &order)?;
        return Ok(Json(SymmetricKeyChangeBody::planned(kind, exposure)));
    }
    let change = app.service.compromise_secret_key(&ctx, order).await?;
    Ok(Json(SymmetricKeyChangeBody::done(&app, change, exposure)))
}

/// Why what is unknown is over.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgetBody {
    /// Why, up to 256 bytes, for the audit log.
    reason: Option<String>,
    /// Say whether it may be done, and do nothing.
    dry_run: Option<bool>,
}

/// Up to when what is unknown is over.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ForgottenBody {
    dry_run: bool,
    /// Sessions opened until then, under keys that are not here, are refused (RFC 3339); in a dry run as it stands.
    forgotten_until: Option<String>,
}

/// Says that the keys directory was replaced on purpose: refresh tokens made until now under keys that are not here are
/// refused (`invalid_grant`) instead of answered 503, as one is whose key may only be missing. Sessions whose key is here are not
/// touched.
#[utoipa::path(
    post, path = "/v1/keys/secrets/forget-unknown", tag = "keys", request_body = Option<ForgetBody>,
    security(("client" = [])),
    responses((status = 200, body = ForgottenBody), ApiErrors)
)]
pub(super) async fn forget_unknown(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    OptionalJson(body): OptionalJson<ForgetBody>,
) -> Result<Json<ForgottenBody>, ApiError> {
    let (dry_run, reason) = (body.dry_run.unwrap_or(false), body.reason.map(reason).transpose()?);
    let until = if dry_run {
        app.service.permit_forgetting(&ctx)?;
        app.service.keyring.forgotten_until()
    } else {
        Some(app.service.forget_unknown_keys(&ctx, reason).await?)
    };
    Ok(Json(ForgottenBody { dry_run, forgotten_until: until.map(Timestamp::to_rfc3339) }))
}

//! `/v1/revocations` for operators.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::{ApiErrors, Conflict, NotFound},
    caller::{ApiCall, JsonBody, Query},
    effect::{EffectBody, ImpactBody},
    error::ApiError,
    values::{id, instant_if_any, page_size},
};
use crate::{
    model::{
        Subject, SubjectRef, Timestamp,
        denial::{Ends, Entry, Target},
        feed::Epoch,
    },
    service::{EXAMINED, Error, Revocation},
};

/// Revocations that one page holds at most.
const PAGE: usize = 200;

/// A revocation that is asked for. null equals absent.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    /// `token` (id: a jti), `session` (a sid), `subject`, `client`, `key` (a kid), `all` (no id).
    kind: String,
    id: Option<String>,
    /// What a cut-off (subject, client, all) ends: `sessions` opened before it, the default, or `tokens` minted before it.
    ends: Option<String>,
    /// RFC 3339; now by default; a later instant is refused.
    before: Option<String>,
    /// Why, up to 256 bytes, for the audit log.
    reason: Option<String>,
    /// Count only: 200 with what it would do.
    dry_run: Option<bool>,
}

/// A revocation that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct RevokedBody {
    #[serde(flatten)]
    entry: EntryBody,
    effect: EffectBody,
}

/// A live entry of the denylist.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct EntryBody {
    /// Which life of the log; positions of different epochs do not compare.
    epoch: String,
    position: u64,
    kind: &'static str,
    /// jti, sid, client_id or kid. Subjects are named by `subject_ref` alone.
    id: Option<String>,
    /// The opaque reference that stands for a subject, equal to the tokens' `sub_ref`.
    #[schema(value_type = Option<String>)]
    subject_ref: Option<SubjectRef>,
    /// For cut-offs.
    #[schema(value_type = Option<String>)]
    ends: Option<Ends>,
    /// For cut-offs: what is stamped before this instant is covered (RFC 3339).
    before: Option<String>,
    /// RFC 3339.
    recorded_at: String,
    /// Until when verifiers must know it (RFC 3339); null: for ever.
    feed_until: Option<String>,
    /// Until when refresh and introspection ask it (RFC 3339); null: for ever.
    kept_until: Option<String>,
    #[schema(value_type = Option<String>)]
    reason: Option<Box<str>>,
}

pub(super) fn entry_body(epoch: u128, entry: Entry) -> EntryBody {
    let cut_off = entry.target.is_cut_off();
    let (id, subject_ref) = match &entry.target {
        Target::Token(id) => (Some(id.to_string()), None),
        Target::Session(id) => (Some(id.to_string()), None),
        Target::Client(id) => (Some(id.to_string()), None),
        Target::Key(id) => (Some(id.to_string()), None),
        Target::Subject(reference) => (None, Some(*reference)),
        Target::All => (None, None),
    };
    let until = |t: Timestamp| (t < Timestamp::MAX).then(|| t.to_rfc3339());
    EntryBody {
        epoch: Epoch(epoch.to_be_bytes()).to_string(),
        position: entry.position,
        kind: entry.target.kind(),
        id,
        subject_ref,
        ends: cut_off.then_some(entry.ends),
        before: cut_off.then(|| entry.before.to_rfc3339()),
        recorded_at: entry.at.to_rfc3339(),
        feed_until: until(entry.feed_until),
        kept_until: until(entry.kept_until),
        reason: entry.reason,
    }
}

/// Revokes a token, a session, or by one record everything of a subject, a client, a key, or everyone.
#[utoipa::path(
    post, path = "/v1/revocations", tag = "revocations", request_body = RevokeBody, security(("client" = [])),
    responses(
        (status = 201, body = RevokedBody),
        (status = 200, body = ImpactBody, description = "With `dry_run`: what it would do; nothing was written"),
        ApiErrors, NotFound, Conflict,
    )
)]
pub(super) async fn revoke(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    JsonBody(body): JsonBody<RevokeBody>,
) -> Result<Response, ApiError> {
    let (target, subject) = target(&app, &body)?;
    let revocation = Revocation {
        target,
        subject,
        ends: body.ends.as_deref().map(ends).transpose()?,
        before: instant_if_any("before", body.before.as_deref())?,
        reason: body.reason.map(reason).transpose()?,
    };
    if body.dry_run.unwrap_or(false) {
        let impact = app.service.weigh(&ctx, &revocation, EXAMINED).await?;
        return Ok(Json(ImpactBody::from(impact)).into_response());
    }
    let entry = app.service.revoke(&ctx, revocation).await?;
    Ok((StatusCode::CREATED, Json(revoked_body(&app, entry))).into_response())
}

/// What is denied now, and from when on for whom.
pub(super) fn revoked_body(app: &App, entry: Entry) -> RevokedBody {
    let effect = app.service.effect(&entry).into();
    RevokedBody { entry: entry_body(app.service.epoch(), entry), effect }
}

/// What is denied; a subject also by its name.
fn target(app: &App, body: &RevokeBody) -> Result<(Target, Option<Subject>), Error> {
    let named = body.id.as_deref();
    if body.kind == "all" {
        let ok = named.is_none().then_some((Target::All, None));
        return ok.ok_or_else(|| Error::request("id", "kind all takes no id"));
    }
    let needed = || named.ok_or_else(|| Error::request("id", format!("is missing; kind {} needs one", body.kind)));
    let target = match &*body.kind {
        "token" => Target::Token(id("id", needed()?)?),
        "session" => Target::Session(id("id", needed()?)?),
        "subject" => {
            let subject = id("id", needed()?)?;
            return Ok((Target::Subject(app.service.families.refer(&subject)), Some(subject)));
        }
        "client" => Target::Client(id("id", needed()?)?),
        "key" => Target::Key(id("id", needed()?)?),
        _ => return Err(Error::request("kind", "one of token, session, subject, client, key, all")),
    };
    Ok((target, None))
}

fn ends(text: &str) -> Result<Ends, Error> {
    match text {
        "sessions" => Ok(Ends::Sessions),
        "tokens" => Ok(Ends::Tokens),
        _ => Err(Error::request("ends", "sessions or tokens")),
    }
}

pub(super) fn reason(text: String) -> Result<Box<str>, Error> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(Error::request("reason", "1 to 256 bytes without control characters"));
    }
    Ok(text.into())
}

/// Where to go on in the denylist.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EntriesQuery {
    /// Entries after this position.
    after: Option<u64>,
    /// 50 by default, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// A part of the denylist.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct EntriesBody {
    epoch: String,
    /// The last position given out.
    head: u64,
    revocations: Vec<EntryBody>,
}

/// Live entries in the order of their acknowledgement.
#[utoipa::path(
    get, path = "/v1/revocations", tag = "revocations", params(EntriesQuery), security(("client" = [])),
    responses((status = 200, body = EntriesBody), ApiErrors)
)]
pub(super) async fn revocations(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    Query(query): Query<EntriesQuery>,
) -> Result<Json<EntriesBody>, ApiError> {
    let page = app.service.revocations(&ctx, query.after.unwrap_or(0), page_size(query.limit, PAGE)?).await?;
    let revocations = page.entries.into_iter().map(|e| entry_body(page.epoch, e)).collect();
    Ok(Json(EntriesBody { epoch: Epoch(page.epoch.to_be_bytes()).to_string(), head: page.head, revocations }))
}

//! `/v1/audit`: who had access and when, and who took it away; and what vouches for it.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::ApiErrors,
    caller::{ApiCall, Query},
    error::ApiError,
    values::{id_if_any, instant_if_any, page_size},
};
use crate::{
    model::{Jwk, chain::Line},
    service::Error,
    store::AuditQuery,
};

/// Records of one page, at most.
const PAGE: usize = 1000;

/// Which audit records.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    subject: Option<String>,
    /// A session id.
    session: Option<String>,
    /// RFC 3339. Everything from the first record of that instant on, whatever the clock said later.
    since: Option<String>,
    /// `next` of the page before, or the last sequence that is known. With `order=newest`, records before this place.
    after: Option<u64>,
    /// `oldest` first, the default, or `newest` first.
    order: Option<String>,
    /// 50 by default, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

fn newest_first(order: &str) -> Result<bool, Error> {
    match order {
        "oldest" => Ok(false),
        "newest" => Ok(true),
        _ => Err(Error::request("order", "oldest or newest")),
    }
}

/// A part of the audit log.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AuditBody {
    records: Vec<Line>,
    /// For `after` of the next page. A page may be short, even empty, and still have a next one.
    next: Option<u64>,
}

/// Who had access and when, and who took it away.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", params(AuditParams), security(("client" = [])),
    responses((status = 200, body = AuditBody), ApiErrors)
)]
pub(super) async fn list(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    Query(query): Query<AuditParams>,
) -> Result<Json<AuditBody>, ApiError> {
    let query = AuditQuery {
        subject: id_if_any("subject", query.subject.as_deref())?,
        session: id_if_any("session", query.session.as_deref())?,
        since: instant_if_any("since", query.since.as_deref())?,
        after: query.after.unwrap_or(0),
        newest_first: query.order.as_deref().map_or(Ok(false), newest_first)?,
        limit: page_size(query.limit, PAGE)?,
    };
    let page = app.service.audit(&ctx, query).await?;
    Ok(Json(AuditBody { records: page.records.iter().map(Line::from).collect(), next: page.next }))
}

/// The head of the log, and the service's word on it.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct HeadBody {
    /// The oldest record that is kept.
    first: u64,
    /// The newest; `first - 1` if there is none.
    sequence: u64,
    /// Its digest, base64url.
    digest: String,
    /// A compact JWS (`typ` `rescind-audit-head+jwt`) over `iss`, `iat`, `first`, `anchor`, `sequence` and `digest`.
    statement: Option<String>,
    /// The record that tells that the service found another log than its own. Null: it did not, or an operator has
    /// accepted a loss since.
    broken: Option<u64>,
    /// What it is verified with. Pin its `kid`: who can change the store cannot sign.
    #[schema(value_type = Object)]
    key: Jwk,
}

/// What vouches for the log: its newest digest, signed.
#[utoipa::path(
    get, path = "/v1/audit/head", tag = "audit", security(("client" = [])),
    responses((status = 200, body = HeadBody), ApiErrors)
)]
pub(super) async fn head(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Json<HeadBody>, ApiError> {
    let signed = app.service.audit_head(&ctx).await?;
    let head = signed.head;
    Ok(Json(HeadBody {
        first: head.first,
        sequence: head.sequence,
        digest: head.digest.to_string(),
        statement: signed.statement,
        broken: signed.broken,
        key: app.service.keyring.audit_key().jwk(),
    }))
}

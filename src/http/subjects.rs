//! `/v1/subjects`: what is kept about a person, handed out and removed.

use axum::{Json, extract::State, http::request::Parts};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::ApiErrors,
    caller::{ApiCall, Query},
    error::ApiError,
    operate::{EntryBody, entry_body},
    sessions::SessionBody,
    values::id,
};
use crate::{
    model::{Subject, chain::Line},
    service::Error,
};

/// Audit records of one part, at most.
const PART: usize = 1000;

/// The subject that a path names.
pub(super) struct SubjectPath(Subject);

impl axum::extract::FromRequestParts<App> for SubjectPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        let text = path.map_err(|e| Error::request("subject", e.body_text()))?;
        Ok(Self(id("subject", &text)?))
    }
}

/// Which part.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PartQuery {
    /// `next` of the part before. Only the first part has sessions and revocations.
    after: Option<u64>,
}

/// What is kept about a subject.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct DossierBody {
    #[schema(value_type = String)]
    subject: Subject,
    /// The pseudonym: what tokens and the denylist have instead of the name.
    subject_ref: String,
    sessions: Vec<SessionBody>,
    /// Whether there are more sessions, beyond 10,000.
    more_sessions: bool,
    /// Live entries of the denylist about the subject or its sessions.
    revocations: Vec<EntryBody>,
    /// Audit records about the subject.
    records: Vec<Line>,
    /// For `after` of the next part. A part may be short, even empty, and still have a next one.
    next: Option<u64>,
}

/// All that is kept about a subject, in parts. Recorded in the audit log.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}", tag = "subjects", params(("subject" = String, Path), PartQuery),
    security(("client" = [])),
    responses((status = 200, body = DossierBody), ApiErrors)
)]
pub(super) async fn export(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    SubjectPath(subject): SubjectPath,
    Query(query): Query<PartQuery>,
) -> Result<Json<DossierBody>, ApiError> {
    let dossier = app.service.dossier(&ctx, &subject, query.after.unwrap_or(0), PART).await?;
    let epoch = app.service.epoch();
    Ok(Json(DossierBody {
        subject,
        subject_ref: dossier.reference.to_string(),
        sessions: dossier.sessions.into_iter().map(Into::into).collect(),
        more_sessions: dossier.more_sessions,
        revocations: dossier.entries.into_iter().map(|e| entry_body(epoch, e)).collect(),
        records: dossier.records.iter().map(Line::from).collect(),
        next: dossier.next,
    }))
}

/// What an erasure did.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ErasureBody {
    /// The pseudonym under which the audit log goes on speaking of the subject.
    subject_ref: String,
    /// Sessions that were ended and removed.
    sessions: usize,
    /// Audit records that lost name, address, user agent and operators' words.
    records: usize,
    /// Denylist entries that lost an operator's words.
    reasons: usize,
}

/// Ends a subject's sessions and removes what is kept about it, as far as can be. Doing it again is fine.
#[utoipa::path(
    delete, path = "/v1/subjects/{subject}", tag = "subjects", params(("subject" = String, Path)),
    security(("client" = [])),
    responses((status = 200, body = ErasureBody), ApiErrors)
)]
pub(super) async fn erase(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    SubjectPath(subject): SubjectPath,
) -> Result<Json<ErasureBody>, ApiError> {
    let done = app.service.erase_subject(&ctx, &subject).await?;
    let subject_ref = app.service.families.refer(&subject).to_string();
    Ok(Json(ErasureBody { subject_ref, sessions: done.sessions, records: done.records, reasons: done.reasons }))
}

//! What a revocation does: counted before it is made, and from when on it holds once it is.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::{ApiErrors, NotFound},
    caller::{ApiCall, JsonBody, SessionPath},
    error::ApiError,
    operate::reason,
};
use crate::{
    model::{SessionId, Subject, Timestamp},
    service::{Effect, Ended, Ending, Impact},
};

/// From when on a revocation holds, for whom.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct EffectBody {
    /// Refresh and introspection refuse from here on (RFC 3339, as all below); connected verifiers follow within
    /// moments.
    here_from: String,
    /// Verifiers that hear nothing refuse from here on at the latest, each by its own `max_staleness`.
    disconnected_from: String,
    /// Whoever verifies without the feed accepts until this `exp`; null: no access token of it is alive, or it is a key,
    /// which they accept until they fetch the key set again.
    without_feed_from: Option<String>,
}

impl From<Effect> for EffectBody {
    fn from(effect: Effect) -> Self {
        Self {
            here_from: effect.here.to_rfc3339(),
            disconnected_from: effect.disconnected.to_rfc3339(),
            without_feed_from: effect.without_feed.map(Timestamp::to_rfc3339),
        }
    }
}

/// What a revocation would do. Nothing was written.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ImpactBody {
    /// Always true.
    dry_run: bool,
    /// Open sessions that would end.
    sessions: usize,
    /// Sessions that may hold live access tokens which would be refused. Tokens themselves are counted nowhere.
    sessions_with_live_tokens: usize,
    /// How many subjects these belong to.
    subjects: usize,
    /// When the last of these access tokens expires (RFC 3339).
    tokens_until: Option<String>,
    /// Only a part was looked at: there are at least so many.
    capped: bool,
}

impl From<Impact> for ImpactBody {
    fn from(impact: Impact) -> Self {
        Self {
            dry_run: true,
            sessions: impact.sessions,
            sessions_with_live_tokens: impact.with_live_tokens,
            subjects: impact.subjects,
            tokens_until: impact.tokens_until.map(Timestamp::to_rfc3339),
            capped: impact.capped,
        }
    }
}

/// Which sessions are to end. null equals absent.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndBody {
    /// All other sessions of its subject instead of this one.
    others: Option<bool>,
    /// Why, up to 256 bytes, for the audit log.
    reason: Option<String>,
    /// Count only: 200 with what it would do.
    dry_run: Option<bool>,
}

/// What became of it.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct EndedBody {
    /// The session that was named.
    #[schema(value_type = String)]
    session_id: SessionId,
    /// Whether its subject's others have ended instead.
    others: bool,
    #[schema(value_type = String)]
    subject: Subject,
    /// How many were open until now.
    sessions: usize,
    effect: EffectBody,
}

/// The answer: what was done, or with `dry_run` what would be.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum EndAnswer {
    Ended(EndedBody),
    Counted(ImpactBody),
}

/// Ends a session, or all others of its subject that were opened before this request: they and their live access
/// tokens. Up to 128 sessions end in one durable step; beyond that, asking again after a 503 ends the rest.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/revoke", tag = "sessions", request_body = EndBody,
    security(("client" = [])), params(("session_id" = String, Path)),
    responses((status = 200, body = EndAnswer), ApiErrors, NotFound)
)]
pub(super) async fn end_sessions(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<EndBody>,
) -> Result<Json<EndAnswer>, ApiError> {
    let ending = Ending { session, others: body.others.unwrap_or(false), reason: body.reason.map(reason).transpose()? };
    if body.dry_run.unwrap_or(false) {
        let (_, impact) = app.service.weigh_ending(&ctx, &ending).await?;
        return Ok(Json(EndAnswer::Counted(impact.into())));
    }
    let others = ending.others;
    let Ended { subject, sessions, effect } = app.service.end_sessions(&ctx, ending).await?;
    let body = EndedBody { session_id: session, others, subject, sessions, effect: effect.into() };
    Ok(Json(EndAnswer::Ended(body)))
}

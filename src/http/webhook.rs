//! `/v1/webhook/test`.

use axum::{Json, extract::State};
use serde::Serialize;

use super::{
    App,
    answers::{ApiErrors, Conflict},
    caller::ApiCall,
    error::ApiError,
};
use crate::service::Attempt;

/// How an attempt ended.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AttemptBody {
    /// Whether the receiver took it: any 2xx.
    delivered: bool,
    /// The receiver's status, if it answered.
    status: Option<u16>,
    /// What went wrong.
    problem: Option<String>,
}

/// Sends one message of type `webhook.test` to the webhook, at once and once.
#[utoipa::path(
    post, path = "/v1/webhook/test", tag = "webhook", security(("client" = [])),
    responses((status = 200, body = AttemptBody), ApiErrors, Conflict)
)]
pub(super) async fn test(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Json<AttemptBody>, ApiError> {
    let Attempt { delivered, status, problem } = app.service.test_webhook(&ctx).await?;
    Ok(Json(AttemptBody { delivered, status, problem }))
}

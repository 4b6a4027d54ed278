//! What a route may answer instead of what it is for, written down once for `/openapi.json`.

use super::error::{OAuthErrorBody, Problem};

/// Any call of `/v1` by a client that has to say who it is.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "describes answers in /openapi.json; `error.rs` makes them")]
pub(super) enum ApiErrors {
    /// The request makes no sense: `field` and `detail` say where.
    #[response(status = 400, content_type = "application/problem+json")]
    Request(Problem),
    /// Nobody whom the service knows, or not proven.
    #[response(status = 401, content_type = "application/problem+json")]
    Client(Problem),
    /// The client lacks a permission, or may not go that far.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// Too often. Nothing was changed.
    #[response(
        status = 429,
        content_type = "application/problem+json",
        headers(("Retry-After" = u64, description = "Seconds"))
    )]
    TooMany(Problem),
    /// The service cannot tell.
    #[response(
        status = 503,
        content_type = "application/problem+json",
        headers(("Retry-After" = u64, description = "Seconds"))
    )]
    Unavailable(Problem),
}

/// A call that names something.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "describes an answer in /openapi.json")]
#[response(status = 404, description = "There is no such thing.", content_type = "application/problem+json")]
pub(super) struct NotFound(Problem);

/// A call that may come at the wrong time.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "describes an answer in /openapi.json")]
#[response(
    status = 409,
    description = "It cannot be done as things stand: `code` and `detail` say why.",
    content_type = "application/problem+json"
)]
pub(super) struct Conflict(Problem);

/// Any call of an OAuth endpoint (RFC 6749 §5.2).
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "describes answers in /openapi.json; `error.rs` makes them")]
pub(super) enum OAuthErrors {
    /// The request makes no sense, or the grant is no good.
    #[response(status = 400)]
    Request(OAuthErrorBody),
    /// `invalid_client`.
    #[response(status = 401)]
    Client(OAuthErrorBody),
    /// Too often. Nothing was changed.
    #[response(status = 429, headers(("Retry-After" = u64, description = "Seconds")))]
    TooMany(OAuthErrorBody),
    /// The service cannot tell; a token that was sent still works afterwards.
    #[response(status = 503, headers(("Retry-After" = u64, description = "Seconds")))]
    Unavailable(OAuthErrorBody),
}

//! Where an error becomes a status. Three forms: RFC 6749 §5.2 at the OAuth endpoints, RFC 9457 at `/v1`, and for
//! both the same table.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use crate::service::Error;

/// An error of an OAuth endpoint (RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 7662 §2.3).
#[derive(Debug)]
pub(super) struct OAuthError(pub(super) Error);

/// An error of a `/v1` endpoint (RFC 9457).
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Error);

impl From<Error> for OAuthError {
    fn from(e: Error) -> Self {
        Self(e)
    }
}
impl From<Error> for ApiError {
    fn from(e: Error) -> Self {
        Self(e)
    }
}

/// Status and stable code.
fn table(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::Client | Error::Assertion(_) => (StatusCode::UNAUTHORIZED, "invalid_client"),
        Error::Grant(_) => (StatusCode::BAD_REQUEST, "invalid_grant"),
        Error::Scope(_) => (StatusCode::BAD_REQUEST, "invalid_scope"),
        Error::GrantType => (StatusCode::BAD_REQUEST, "unauthorized_client"),
        Error::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        Error::Request { .. } => (StatusCode::BAD_REQUEST, "invalid_request"),
        Error::Forbidden(_) => (StatusCode::FORBIDDEN, "insufficient_permission"),
        Error::Beyond(_) => (StatusCode::FORBIDDEN, "beyond_permission"),
        Error::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        Error::Conflict { code, .. } => (StatusCode::CONFLICT, code),
        Error::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
        Error::Unavailable { code, .. } => (StatusCode::SERVICE_UNAVAILABLE, code),
    }
}

/// RFC 9457 §3, with a stable `code` and the member that was wrong.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// `urn:rescind:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    status: u16,
    /// What was wrong and how to mend it.
    detail: String,
    /// Stable.
    code: String,
    /// Which member was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    /// From when it will be possible (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest: Option<String>,
}

/// RFC 6749 §5.2.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct OAuthErrorBody {
    /// Stable.
    error: String,
    /// For people.
    error_description: Option<String>,
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let (status, code) = table(&self.0);
        // The token endpoint has no word for "come again"; this one is that of RFC 6749 §4.1.2.1.
        let error = if status == StatusCode::SERVICE_UNAVAILABLE { "temporarily_unavailable" } else { code };
        let body = Json(json!({"error": error, "error_description": self.0.to_string()}));
        finish((status, body).into_response(), &self.0)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = table(&self.0);
        problem(status, code, &self.0)
    }
}

fn problem(status: StatusCode, code: &str, error: &Error) -> Response {
    let field = if let Error::Request { field, .. } = error { Some(*field) } else { None };
    let earliest = if let Error::Conflict { earliest, .. } = error { *earliest } else { None };
    let body = Problem {
        kind: format!("urn:rescind:problem:{code}"),
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: error.to_string(),
        code: code.into(),
        field,
        earliest: earliest.map(|t| t.to_rfc3339()),
    };
    finish(problem_response(status, &body), error)
}

fn problem_response(status: StatusCode, body: &Problem) -> Response {
    let mut response = (status, Json(body)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A problem that no handler raised: an unknown path, a method that is not there.
pub(crate) fn bare_problem(status: StatusCode, code: &'static str, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let kind = format!("urn:rescind:problem:{code}");
    let (detail, code) = (detail.to_owned(), code.to_owned());
    let body = Problem { kind, title, status: status.as_u16(), detail, code, field: None, earliest: None };
    problem_response(status, &body)
}

/// The headers that go with an error wherever it appears.
fn finish(mut response: Response, error: &Error) -> Response {
    let headers = response.headers_mut();
    match error {
        // RFC 6749 §5.2, RFC 9110 §11.6.1.
        Error::Client | Error::Assertion(_) => {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Basic realm="rescind", charset="UTF-8""#),
            );
        }
        Error::Unavailable { retry_after, .. } | Error::TooMany { retry_after, .. } => {
            // Rounded up: whoever comes as told must not be sent away again.
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        _ => {}
    }
    response
}

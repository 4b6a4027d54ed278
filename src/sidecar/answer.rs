//! What the proxy is answered.

use std::sync::Arc;

use axum::{
    Router,
    body::HttpBody,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Sidecar, identity};
use crate::{guard::Refusal, http::bare_problem};

/// Every method and every path is the same question.
pub(super) fn router(sidecar: Arc<Sidecar>) -> Router {
    Router::new().fallback(answer).with_state(sidecar)
}

async fn answer(State(sidecar): State<Arc<Sidecar>>, request: Request) -> Response {
    let admitted = sidecar.gate.admit(request.headers());
    let mut response = match &admitted {
        Ok(verified) => (identity::headers(verified), StatusCode::OK).into_response(),
        Err(refusal) => sidecar.refuse(refusal),
    };
    let outcome = admitted.as_ref().map_or_else(Refusal::code, |_| "accepted");
    sidecar.metrics.answered(outcome);
    // Neither the path nor a header: a token may be in any of them.
    tracing::debug!(method = %request.method(), status = response.status().as_u16(), outcome, "request");
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A body is left where it is, so what follows on this connection is not the next request. Announced ones that never
    // come (nginx without `proxy_set_header Content-Length ""`) are not waited for.
    if !request.body().is_end_stream() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Sidecar {
    fn refuse(&self, refusal: &Refusal) -> Response {
        let bare: Response = self.gate.answer(refusal);
        let (code, detail) = match refusal {
            Refusal::NoToken => ("no_token", "a bearer token is needed"),
            Refusal::Malformed => ("invalid_request", "one Authorization header with one bearer token is needed"),
            Refusal::Token(refused) => match refused.error() {
                Some(error) => (error, "the token does not do; see WWW-Authenticate"),
                None => ("unavailable", "whether a token is good cannot be told now; come again"),
            },
        };
        // nginx knows 401 and 403 for "no"; it would make 500 of a 400.
        let status = if bare.status() == StatusCode::BAD_REQUEST { StatusCode::UNAUTHORIZED } else { bare.status() };
        let mut response = bare_problem(status, code, detail);
        copy(bare.headers(), response.headers_mut());
        response
    }
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    to.extend(from.iter().map(|(name, value)| (name.clone(), value.clone())));
}

//! What the layer found good, as an argument of an axum handler.

use axum_core::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;

use crate::{
    model::claims::Claims,
    verifier::{Refused, Requirement, Verified},
};

/// Why a handler gets no [`Verified`] claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotExtracted {
    /// No [`RequireToken`](super::RequireToken) layer stands around the handler: 500, a mistake of the program.
    #[error("the handler asks for a verified token, and no RequireToken layer stands around it")]
    NoLayer,
    /// The claims beyond the profile are not what the handler asks for: 401, as for a token that is no good.
    #[error(transparent)]
    Refused(Refused),
}

/// `Verified<Claims>`, or `Verified<Claims<C>>` with the claims beyond the profile read as `C`.
///
/// There is no way to ask for it optionally: it would look the same to leave out the token and to leave out the layer.
impl<S, C> FromRequestParts<S> for Verified<Claims<C>>
where
    S: Sync,
    C: DeserializeOwned + Send + Sync + 'static,
{
    type Rejection = NotExtracted;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotExtracted> {
        if let Some(verified) = parts.extensions.get::<Self>() {
            return Ok(verified.clone());
        }
        let verified = parts.extensions.get::<Verified<Claims>>().ok_or(NotExtracted::NoLayer)?;
        verified.clone().read_custom().map_err(|rejection| NotExtracted::Refused(rejection.into()))
    }
}

impl IntoResponse for NotExtracted {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::NoLayer => {
                tracing::error!("{self}");
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            Self::Refused(refused) => {
                tracing::debug!(reason = refused.code(), "a request does not pass");
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                let challenge = refused.challenge(&Requirement::none()).and_then(|c| c.try_into().ok());
                challenge
                    .map(|challenge: HeaderValue| response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge));
            }
        }
        response
    }
}

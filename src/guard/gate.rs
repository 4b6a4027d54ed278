//! Who passes, and what the others are told.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    Judge,
    bearer::{Credentials, credentials},
};
use crate::{
    model::claims::Claims,
    verifier::{Refused, Requirement, Verified},
};

/// What is asked of a request.
#[derive(Clone)]
pub(crate) struct Gate {
    judge: Arc<dyn Judge>,
    pub(crate) requirement: Requirement,
    /// Visible ASCII and spaces.
    pub(super) realm: Box<str>,
}

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It brings no token.
    NoToken,
    /// What it brings cannot be told to be one.
    Malformed,
    /// Its token does not do.
    Token(Refused),
}

impl Refusal {
    /// A stable name for logs and metrics.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::Malformed => "malformed",
            Self::Token(refused) => refused.code(),
        }
    }
    /// The error code of RFC 6750 §3.1 or RFC 9470 §3, if there is one for it.
    pub(crate) const fn error(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => None,
            Self::Malformed => Some("invalid_request"),
            Self::Token(refused) => refused.error(),
        }
    }
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Token(refused) => StatusCode::from_u16(refused.status()).expect("401, 403 or 503"),
        }
    }
}

impl Gate {
    pub(crate) fn new(judge: Arc<dyn Judge>) -> Self {
        Self { judge, requirement: Requirement::none(), realm: "api".into() }
    }

    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Verified<Claims>, Refusal> {
        match credentials(headers) {
            Credentials::None => Err(Refusal::NoToken),
            Credentials::Malformed => Err(Refusal::Malformed),
            Credentials::Token(token) => self.judge.judge(token, &self.requirement).map_err(Refusal::Token),
        }
    }

    /// The refusal as an answer without a body.
    pub(crate) fn answer<R: Default>(&self, refusal: &Refusal) -> Response<R> {
        let mut answer = Response::new(R::default());
        *answer.status_mut() = refusal.status();
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match refusal {
            Refusal::Token(Refused::Unavailable(why)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(why.retry_after().as_secs().max(1)));
            }
            other => {
                headers.insert(header::WWW_AUTHENTICATE, self.challenge(other));
            }
        }
        answer
    }

    /// RFC 6750 §3: the scheme and at least one parameter, hence always the realm.
    fn challenge(&self, refusal: &Refusal) -> HeaderValue {
        let more = match refusal {
            Refusal::Token(refused) => refused.parameters(&self.requirement),
            other => other.error().map(|error| format!("error=\"{error}\"")),
        };
        let realm = quoted(&self.realm);
        let challenge = more.map_or_else(|| format!("Bearer realm={realm}"), |m| format!("Bearer realm={realm}, {m}"));
        HeaderValue::try_from(challenge).expect("the realm, the scope and the acr values are visible ASCII and spaces")
    }
}

/// RFC 9110 §5.6.4.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("requirement", &self.requirement).field("realm", &self.realm).finish()
    }
}

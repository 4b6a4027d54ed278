//! `/v1/feed`: the denylist for whoever verifies tokens, without client authentication. Who says beside its question who
//! it is (`verifiers.rs`) is answered as everyone is.

use std::{str::FromStr, time::Duration};

use axum::{
    Extension,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    App, Limits,
    caller::Query,
    edge::Visit,
    error::{ApiError, Problem, bare_problem},
    verifiers::Introduction,
};
use crate::{
    feed::{Answer, Ask, MAX_WAIT},
    model::{
        feed::{Epoch, Mark},
        report,
    },
    service::Error,
};

/// What a follower asks. Its place is given by `epoch`, `position` and `digest` together, or not at all.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TailParams {
    /// 16 random bytes in base64url, echoed in the answer: proof that it is no older one.
    #[param(required = true, nullable = false, pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    nonce: Option<String>,
    /// The `epoch` of the answer before.
    #[param(nullable = false, pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    epoch: Option<String>,
    /// `to.position` of the answer before.
    #[param(nullable = false, value_type = Option<u64>)]
    position: Option<String>,
    /// `to.digest` of the answer before.
    #[param(nullable = false, pattern = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
    digest: Option<String>,
    /// The `keys` of the answer before: if the key set is another by now, that is news.
    #[param(nullable = false, pattern = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
    keys: Option<String>,
    /// Milliseconds that the answer may wait for news, 0 by default.
    #[param(nullable = false, value_type = Option<u64>, maximum = 10_000)]
    wait: Option<String>,
}

/// One parameter, if it is there.
fn read<T: FromStr>(name: &'static str, text: Option<&str>, hint: &str) -> Result<Option<T>, Error> {
    text.map(|text| text.parse().map_err(|_| Error::request(name, hint))).transpose()
}

impl TailParams {
    fn ask(&self, limits: &Limits) -> Result<Ask, Error> {
        let bytes = "16 bytes of unpadded base64url";
        let nonce = read("nonce", self.nonce.as_deref(), bytes)?.ok_or_else(|| Error::request("nonce", bytes))?;
        let epoch = read("epoch", self.epoch.as_deref(), bytes)?;
        let position = read("position", self.position.as_deref(), "an integer from 0 up")?;
        let digest = read("digest", self.digest.as_deref(), "32 bytes of unpadded base64url")?;
        let at = match (epoch, position, digest) {
            (Some(epoch), Some(position), Some(digest)) => Some((epoch, Mark { position, digest })),
            (None, None, None) => None,
            _ => return Err(Error::request("position", "epoch, position and digest go together")),
        };
        let keys = read("keys", self.keys.as_deref(), "32 bytes of unpadded base64url")?;
        let hint = format!("milliseconds, {} at most", MAX_WAIT.as_millis());
        let wait = read("wait", self.wait.as_deref(), &hint)?.map_or(Duration::ZERO, Duration::from_millis);
        if wait > MAX_WAIT {
            return Err(Error::request("wait", hint));
        }
        Ok(Ask { nonce, at, keys, wait: wait.min(longest_wait(limits)) })
    }
}

/// Waiting must end before the request's own time does: that would be an error, and an answer that came early is none.
fn longest_wait(limits: &Limits) -> Duration {
    limits.request_timeout * 2 / 3
}

fn jwt(answer: Answer) -> Response {
    ([(header::CONTENT_TYPE, "application/jwt")], answer.jws).into_response()
}

/// The end of the denylist's log as a JWS (`typ: rescind-feed-tail+jwt`), by a key of `rescind_feed_jwks`.
///
/// A follower that stands at its end is answered when something is denied or the key set changes, or after `wait`.
///
/// With `Verifier-Name` and client authentication (HTTP Basic or a certificate; permission `verifiers:report`) the place
/// that the question names is remembered for `GET /v1/verifiers`. Whatever comes of that, the question is answered.
#[utoipa::path(
    get, path = "/v1/feed", tag = "feed",
    params(
        TailParams,
        ("Verifier-Name" = Option<String>, Header, description = "Under which name a verifier reports its place, 1 to 64 \
            visible ASCII characters: each process by one of its own"),
        ("Verifier-Keys" = Option<String>, Header, description = "Which key set it verifies with: the SHA-256 of the JWKS \
            as it was served, in unpadded base64url"),
    ),
    responses(
        (status = 200, body = String, content_type = "application/jwt", headers(
            ("Verifier-Report" = Option<String>, description = "With `Verifier-Name`: what became of the report: `taken`, \
                `unauthenticated`, `forbidden`, `malformed`, `full` or `later`")
        )),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn tail(
    State(app): State<App>,
    Extension(visit): Extension<Visit>,
    Introduction(report): Introduction,
    Query(params): Query<TailParams>,
) -> Result<Response, ApiError> {
    let arrival = app.service.feed_asked(params.ask(&app.limits)?).await?;
    let reported = report.map(|report| app.service.take_report(report, &arrival));
    let mut stopped = app.stopped.clone();
    // Whoever waits would hold up a graceful stop.
    let stop = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
    let answer = app.service.feed_tail(arrival, app.limits.followers, stop).await?;
    app.edge.sent(visit, answer.entries, &*app.service.clock);
    let mut response = jwt(answer);
    if let Some(reported) = reported {
        response.headers_mut().insert(report::OUTCOME, HeaderValue::from_static(reported.name()));
    }
    Ok(response)
}

/// A page of the log's history as a JWS (`typ: rescind-feed-page+jwt`), for caches to keep.
#[utoipa::path(
    get, path = "/v1/feed/{epoch}/{page}", tag = "feed",
    params(
        ("epoch" = String, Path, description = "The `epoch` of a tail"),
        ("page" = u64, Path, description = "The `first_page` of a tail, or `to.position` of a page divided by 1000"),
    ),
    responses(
        (status = 200, body = String, content_type = "application/jwt"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn page(
    State(app): State<App>,
    Extension(visit): Extension<Visit>,
    Path((epoch, number)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let no_such_page = || bare_problem(StatusCode::NOT_FOUND, "no_such_page", "it is not whole yet, or all expired");
    // One spelling per page: each other one would be another place in a cache.
    let named = number.parse().ok().filter(|n: &u64| n.to_string() == number);
    let (Ok(epoch), Some(number)) = (epoch.parse::<Epoch>(), named) else { return Ok(no_such_page()) };
    let Some(answer) = app.service.feed_page(epoch, number).await? else { return Ok(no_such_page()) };
    app.edge.sent(visit, answer.entries, &*app.service.clock);
    let mut response = jwt(answer);
    let caching = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, caching);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_fits_into_a_request() {
        let default = Limits::default();
        assert!(longest_wait(&default) >= MAX_WAIT);
        for millis in [100, 15_000, 3_600_000] {
            let request_timeout = Duration::from_millis(millis);
            assert!(longest_wait(&Limits { request_timeout, ..default }) < request_timeout);
        }
    }
}

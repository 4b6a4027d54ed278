//! `/v1/verifiers`: who follows the feed and says so, and how far they are.

use std::convert::Infallible;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    answers::ApiErrors,
    caller::{ApiCall, Query, origin, visit},
    credentials,
    error::ApiError,
    values::page_size,
};
use crate::{
    model::{
        ClientId, Timestamp, VerifierName,
        feed::KeysVersion,
        report::{self, Reported},
    },
    service::{Applied, Caller, Credentials, Error, Report, VerifierPage, VerifierQuery, VerifierStates, VerifierView},
};

/// What a follower says of itself beside its question: nothing, or something that may be no good. Never a reason not to
/// answer it.
pub(super) struct Introduction(pub(super) Option<Result<Report, Reported>>);

/// The most verifiers on a page.
const MAX_PAGE: usize = 200;

impl FromRequestParts<App> for Introduction {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        if !parts.headers.contains_key(report::NAME) {
            return Ok(Self(None));
        }
        Ok(Self(Some(introduce(parts, app).await)))
    }
}

async fn introduce(parts: &Parts, app: &App) -> Result<Report, Reported> {
    let name = one::<VerifierName>(&parts.headers, report::NAME)?.ok_or(Reported::Malformed)?;
    let keys = one::<KeysVersion>(&parts.headers, report::KEYS)?;
    let caller = identify(parts, app).await?;
    Ok(Report { caller, name, address: visit(parts).address, keys })
}

/// A header that may be left out.
fn one<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Reported> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or(Reported::Malformed)
        }
        (Some(_), Some(_)) => Err(Reported::Malformed),
    }
}

/// Who reports. What fails here counts as it does elsewhere, so nobody can try secrets here that have no more tries there;
/// what succeeds is measured by its address, as all that followers ask.
async fn identify(parts: &Parts, app: &App) -> Result<Caller, Reported> {
    let credentials = credentials::of_headers(parts).map_err(|_| Reported::Unauthenticated)?;
    // An assertion is good once, durably: with each question, that would be a write for each.
    if matches!(credentials, Credentials::Assertion { .. }) {
        return Err(Reported::Unauthenticated);
    }
    let admit = |who: Result<&Caller, &Error>| match who {
        Ok(_) => Ok(()),
        Err(_) => app.edge.admit(visit(parts), who, &*app.service.clock),
    };
    match app.service.authenticate(&credentials, &origin(parts), admit).await {
        Ok(caller) => Ok(caller),
        Err(Error::Client) => Err(Reported::Unauthenticated),
        Err(_) => Err(Reported::Later),
    }
}

/// A verifier that reports.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct VerifierBody {
    /// The client by which it reports.
    #[schema(value_type = String)]
    client_id: ClientId,
    #[schema(value_type = String)]
    name: VerifierName,
    /// From where it asked last.
    address: String,
    /// `current`: it has applied all that was acknowledged more than 5 s ago. `behind`: it has not. `silent`: it has asked
    /// nothing for 30 s; after 15 minutes it is forgotten.
    state: &'static str,
    /// Whether it follows this life of the log.
    epoch_current: bool,
    /// Up to where it has applied the log; null: it has not said so, or the log does not know that place.
    position: Option<u64>,
    /// How many entries lie beyond that.
    behind: Option<u64>,
    /// When the first of those was acknowledged (RFC 3339, as all below).
    behind_since: Option<String>,
    /// Whether it verifies with the key set that is published now.
    keys_current: bool,
    /// When it first said to be at this position.
    confirmed_at: Option<String>,
    /// When it asked last.
    seen_at: String,
}

impl From<VerifierView> for VerifierBody {
    fn from(view: VerifierView) -> Self {
        Self {
            client_id: view.client,
            name: view.name,
            address: view.address.to_string(),
            state: view.state.name(),
            epoch_current: view.epoch_current,
            position: view.position,
            behind: view.behind,
            behind_since: view.behind_since.map(Timestamp::to_rfc3339),
            keys_current: view.keys_current,
            confirmed_at: view.confirmed.map(Timestamp::to_rfc3339),
            seen_at: view.seen.to_rfc3339(),
        }
    }
}

/// How many verifiers are in each state, of all that report.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct StatesBody {
    current: usize,
    behind: usize,
    silent: usize,
}

impl From<VerifierStates> for StatesBody {
    fn from(states: VerifierStates) -> Self {
        Self { current: states.current, behind: states.behind, silent: states.silent }
    }
}

/// How many verifiers have applied the log up to a position, of all that report.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AppliedBody {
    position: u64,
    /// Those that have fallen silent since among them: what a verifier has applied it keeps.
    applied: usize,
    /// How many have not, and are heard of.
    missing: usize,
    /// How many have not, and are silent: they are gone, or answer 503 once their `max_staleness` is over.
    silent: usize,
    /// When the last of those that have had said so, or that it was further (RFC 3339); null: none has.
    confirmed_at: Option<String>,
}

impl From<Applied> for AppliedBody {
    fn from(applied: Applied) -> Self {
        let Applied { position, applied, missing, silent, confirmed } = applied;
        Self { position, applied, missing, silent, confirmed_at: confirmed.map(Timestamp::to_rfc3339) }
    }
}

/// Which verifiers.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VerifiersQuery {
    /// Those after this one: the `next` of the page before.
    #[param(nullable = false)]
    after: Option<String>,
    /// 50 by default, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// Counts those that have applied the log up to here, as `position` of a revocation in this life of the log.
    position: Option<u64>,
}

/// A page of the verifiers, by client and name.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct VerifiersBody {
    /// Which life of the log; positions of different epochs do not compare.
    epoch: String,
    /// The last position given out.
    head: u64,
    states: StatesBody,
    /// With `position`.
    applied: Option<AppliedBody>,
    verifiers: Vec<VerifierBody>,
    /// For `after` of the next page.
    next: Option<String>,
}

/// Verifiers that report how far they are: by their own word, which is a help and no evidence.
#[utoipa::path(
    get, path = "/v1/verifiers", tag = "feed", params(VerifiersQuery), security(("client" = [])),
    responses((status = 200, body = VerifiersBody), ApiErrors)
)]
pub(super) async fn list(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    Query(query): Query<VerifiersQuery>,
) -> Result<Json<VerifiersBody>, ApiError> {
    let after = query.after.as_deref().map(after).transpose()?;
    let query = VerifierQuery { after, limit: page_size(query.limit, MAX_PAGE)?, position: query.position };
    let VerifierPage { epoch, head, states, applied, verifiers, next } = app.service.verifiers(&ctx, query).await?;
    Ok(Json(VerifiersBody {
        epoch: epoch.to_string(),
        head,
        states: states.into(),
        applied: applied.map(Into::into),
        verifiers: verifiers.into_iter().map(Into::into).collect(),
        // Neither has a blank in it.
        next: next.map(|(client, name)| format!("{client} {name}")),
    }))
}

fn after(text: &str) -> Result<(ClientId, VerifierName), Error> {
    let (client, name) = text.split_once(' ').unwrap_or_default();
    match (client.parse(), name.parse()) {
        (Ok(client), Ok(name)) => Ok((client, name)),
        _ => Err(Error::request("after", "the `next` of the page before")),
    }
}

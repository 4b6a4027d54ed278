//! A verifier as a process beside a proxy, for services in any language: nginx `auth_request`, Caddy `forward_auth`,
//! Traefik `ForwardAuth`, Envoy `ext_authz` over HTTP.
//!
//! The proxy asks before it passes a request on, by any method and path, and with the request's own `Authorization`;
//! nothing else of the request is looked at, its body is not read. The answer is
//!
//! - 200 for a token that is good and enough, with who it speaks of in `X-Auth-…` headers for the proxy to copy;
//! - 401 or 403 with a challenge (RFC 6750 §3, RFC 9470 §3). What the layer of [`crate::guard`] calls a 400 is a 401
//!   with `error="invalid_request"` here: nginx knows 401 and 403 for *no*, and makes 500 of anything else;
//! - 503 with `Retry-After` where we cannot tell. nginx makes 500 of it and Envoy 403 unless they are told otherwise
//!   (`error_page 500 =503`, `status_on_error`): not accepted in any case.
//!
//! # Identity headers
//!
//! `X-Auth-Issuer`, `X-Auth-Subject`, `X-Auth-Client`, `X-Auth-Session` and `X-Auth-Scope` are in every 200, and in no
//! other answer. Whatever is not visible ASCII, and `%`, is percent-encoded; the words of a scope have spaces between
//! them. What there is none of (a client's own token has no session) is `-`, and not an empty value: to Caddy before
//! 2.11.2 an empty header is none, and it would pass on the one that the client has sent. A value that *is* `-` is
//! written `%2D`. So each of them always replaces what came in, if the proxy is told to copy it.
//!
//! It speaks plain HTTP, so it belongs on loopback or a network of the proxy's own: tokens travel to it in the clear, and
//! whoever reaches it may try tokens on it.

mod answer;
mod identity;
mod metrics;
mod operations;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::watch;

pub use self::metrics::Metrics;
use crate::{
    guard::{Gate, Judge},
    http::{Limits, Listeners, listen},
    model::claims::Claims,
    verifier::{Health, Misuse, Refused, Requirement, Verified, Verifier, Verifiers},
};

/// Answers a proxy who may pass.
#[derive(Debug)]
pub struct Sidecar {
    gate: Gate,
    issuers: Arc<Issuers>,
    max_staleness: Duration,
    metrics: Metrics,
}

/// With one issuer, no token has to be read before its signature has been checked to learn whose it is.
#[derive(Debug)]
enum Issuers {
    One(Verifier),
    Several(Verifiers),
}

impl Judge for Issuers {
    fn judge(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused> {
        match self {
            Self::One(verifier) => verifier.verify_for(token, requirement),
            Self::Several(verifiers) => verifiers.verify_for(token, requirement),
        }
    }
}

impl Sidecar {
    /// Accepts what these verifiers accept and what is enough for `requirement`. `max_staleness` is only told to whoever
    /// asks the operations listener; `metrics` are those that the verifiers were built with.
    ///
    /// # Errors
    /// [`Misuse::IssuerTwice`].
    pub fn new(
        mut verifiers: Vec<Verifier>,
        requirement: Requirement,
        max_staleness: Duration,
        metrics: Metrics,
    ) -> Result<Self, Misuse> {
        let issuers = Arc::new(match (verifiers.pop(), verifiers.is_empty()) {
            (Some(one), true) => Issuers::One(one),
            (last, _) => Issuers::Several(Verifiers::new(verifiers.into_iter().chain(last))?),
        });
        let mut gate = Gate::new(Arc::new(issuers.clone()));
        gate.requirement = requirement;
        Ok(Self { gate, issuers, max_staleness, metrics })
    }

    /// How each verifier is, by its issuer.
    fn health(&self) -> Vec<(&str, Health)> {
        let mut all: Vec<_> = match &*self.issuers {
            Issuers::One(verifier) => vec![(verifier.issuer(), verifier.health())],
            Issuers::Several(verifiers) => verifiers.iter().map(|v| (v.issuer(), v.health())).collect(),
        };
        all.sort_by_key(|(issuer, _)| *issuer);
        all
    }
}

/// Limits that suit a proxy's connections: idle ones are kept for longer than nginx, Traefik and Caddy keep theirs (60 s
/// to 2 min), so that they are the ones to end them and none is ended under a request.
#[must_use]
pub fn limits() -> Limits {
    Limits { header_timeout: Duration::from_secs(130), ..Limits::default() }
}

/// Serves until `shutdown`, then finishes what has begun. On the public listener every path is a question; what is for
/// operators is on the other one.
pub async fn serve(
    listeners: Listeners,
    sidecar: Arc<Sidecar>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let (stop, stopped) = watch::channel(false);
    let teller = tokio::spawn(operations::tell_changes(sidecar.clone(), stopped.clone()));
    let public = tokio::spawn(listen(listeners.public, answer::router(sidecar.clone()), limits, stopped.clone()));
    let operations =
        listeners.operations.map(|l| tokio::spawn(listen(l, operations::router(sidecar), limits, stopped)));
    shutdown.await;
    tracing::info!("stopping: no new connections, what has begun is finished");
    // Nobody receives if all have ended already, which is as good.
    let _ = stop.send(true);
    let _ = public.await;
    if let Some(operations) = operations {
        let _ = operations.await;
    }
    let _ = teller.await;
}

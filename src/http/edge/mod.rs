//! The edge: whatever stands between the network and the handlers, and knows nothing of tokens.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
};

pub(super) use self::{
    cors::Script,
    metrics::EdgeMetrics,
    places::{Place, Places},
    shed::Room,
};
pub use self::{
    cors::{Cors, Origin},
    proxies::{AddressHeader, Proxies},
    rates::{Quota, Rates},
    tls::{PeerCertificate, Tls, TlsError, TlsFiles},
};
use self::{rates::Limiter, shed::Shed};
use super::{App, FEED, caller::Peer};
use crate::{
    clock::Clock,
    service::{Caller, Error},
};

mod buckets;
mod cors;
mod forwarded;
mod metrics;
mod places;
mod proxies;
mod rates;
mod shed;
mod tls;

/// How a node meets the network. By default as on a desk: no TLS, no proxies, no limits, no browsers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// TLS of the public listener.
    pub tls: Option<Arc<Tls>>,
    /// TLS of the operations listener.
    pub operations_tls: Option<Arc<Tls>>,
    /// Whose word about the client's address is taken.
    pub proxies: Proxies,
    /// What each address and client may ask. None: as much as they like.
    pub rates: Option<Rates>,
    /// Which sites' scripts may ask.
    pub cors: Cors,
}

/// The settings at work.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(super) settings: Settings,
    pub(super) metrics: EdgeMetrics,
    limiter: Option<Limiter>,
    shed: Shed,
}

/// What a request is for. In times of need, what comes first here is refused first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Class {
    /// Opens a session, or exchanges a grant.
    Grant,
    /// Whatever else takes client authentication.
    Api,
    /// Metadata, keys, the description; and what is not there.
    Discovery,
    /// The revocation feed.
    Feed,
    /// Takes back.
    Revocation,
}

impl Class {
    fn of(method: &Method, route: &str) -> Self {
        match route {
            "/oauth2/token" => Self::Grant,
            "/v1/sessions" if method == Method::POST => Self::Grant,
            "/v1/revocations" if method == Method::POST => Self::Revocation,
            "/oauth2/revoke" | "/v1/sessions/{session_id}/revoke" | "/v1/clients/{client_id}/disable" => {
                Self::Revocation
            }
            // Sessions and secrets end by it.
            _ if method == Method::DELETE => Self::Revocation,
            FEED | "/v1/feed/{epoch}/{page}" => Self::Feed,
            // A key that leaked is taken back by a rotation.
            "/v1/keys/rotate" => Self::Revocation,
            other if other.starts_with("/v1/") || other.starts_with("/oauth2/") => Self::Api,
            _ => Self::Discovery,
        }
    }
}

/// What is asked for, and from where, by the word of the proxies that are trusted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) address: IpAddr,
    pub(super) class: Class,
}

impl Edge {
    pub(super) fn new(settings: Settings, metrics: EdgeMetrics) -> Self {
        let limiter = settings.rates.map(Limiter::new);
        let shed = Shed::new(settings.rates.map_or(usize::MAX, |r| r.in_flight));
        Self { settings, metrics, limiter, shed }
    }

    /// A request of somebody whose name, if any, has been checked. Whoever proved itself is measured by its own name,
    /// everyone else by where they come from.
    pub(super) fn admit(&self, visit: Visit, who: Result<&Caller, &Error>, clock: &dyn Clock) -> Result<(), Error> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.admit(visit, who, clock.monotonic()).map_err(|over| self.metrics.limited(over))
    }

    /// A grant that was no good, by somebody who proved nothing, counts as a failure of its address.
    pub(super) fn failed(&self, visit: Visit, clock: &dyn Clock) {
        if let Some(limiter) = &self.limiter {
            limiter.failed(visit.address, clock.monotonic());
        }
    }

    /// What a follower got beyond the least that an answer costs.
    pub(super) fn sent(&self, visit: Visit, entries: usize, clock: &dyn Clock) {
        if let Some(limiter) = &self.limiter {
            limiter.sent(visit.address, entries, clock.monotonic());
        }
    }

    /// Whether clients can prove themselves by a certificate.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.settings.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates())
    }

    /// Takes the measurements that stand for an instant.
    pub(super) fn measure(&self, clock: &dyn Clock) {
        self.metrics.in_flight(self.shed.in_flight(), self.limiter.as_ref().map_or(0, Limiter::tracked));
        let listeners = [("public", &self.settings.tls), ("operations", &self.settings.operations_tls)];
        for (name, tls) in listeners.into_iter().filter_map(|(name, tls)| tls.as_ref().map(|tls| (name, tls))) {
            self.metrics.certificate(name, tls.expires(), clock.now());
        }
    }

    /// Reads the certificates again; what is broken leaves the old in use. Done on a signal, and every minute.
    pub(super) fn reload_certificates(&self, clock: &dyn Clock) {
        let listeners = [("public", &self.settings.tls), ("operations", &self.settings.operations_tls)];
        for (listener, tls) in listeners.into_iter().filter_map(|(name, tls)| tls.as_ref().map(|tls| (name, tls))) {
            match tls.reload(clock.now()) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(listener, expires = tls.expires().to_rfc3339(), "a new certificate is in use");
                    self.metrics.reloaded("done");
                }
                Err(error) => {
                    tracing::error!(listener, %error, "the new certificate is no good; the old one stays in use");
                    self.metrics.reloaded("failed");
                }
            }
        }
    }
}

/// How often the files of certificates are looked at.
pub(super) const CERTIFICATES_EVERY: Duration = Duration::from_secs(60);

/// Stands before every handler: says where the request comes from, and whether there is room for it.
/// Gives that room.
pub(super) fn gate(app: &App, request: &mut Request) -> Result<Room, Error> {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let class = Class::of(request.method(), route);
    let peer = request.extensions().get::<Peer>().expect("the listener puts it there").0.ip();
    let address = app.edge.settings.proxies.client(peer, request.headers());
    let visit = Visit { address, class };
    let room = app.edge.shed.enter(class).inspect_err(|_| app.edge.metrics.shed(class))?;
    // Those who need no name are measured here; the rest once it is known who they are.
    if let Some(limiter) = app.edge.limiter.as_ref().filter(|_| matches!(class, Class::Discovery | Class::Feed))
        && let Err(over) = limiter.anonymous(visit, app.service.clock.monotonic())
    {
        return Err(app.edge.metrics.limited(over));
    }
    request.extensions_mut().insert(visit);
    // Not the only one who has it: those who read the request are done with it before it is answered.
    request.extensions_mut().insert(room.clone());
    Ok(room)
}

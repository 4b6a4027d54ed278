//! What the edge counts. No label ever holds an address or a client.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Class, rates::Over};
use crate::{model::Timestamp, service::Error};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Budget {
    budget: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    class: &'static str,
}

#[derive(Clone, Debug, Default)]
pub(in crate::http) struct EdgeMetrics {
    limited: Family<Budget, Counter>,
    shed: Family<What, Counter>,
    refused: Family<Reason, Counter>,
    handshakes: Family<Outcome, Counter>,
    reloads: Family<Outcome, Counter>,
    expires: Family<Listener, Gauge>,
    in_flight: Gauge,
    tracked: Gauge,
}

impl EdgeMetrics {
    pub(in crate::http) fn register(&self, registry: &mut Registry) {
        // From the first scrape on: a counter that begins at one has risen by nothing.
        for budget in ["failures", "public", "client", "revocations", "discovery", "feed"] {
            drop(self.limited.get_or_create(&Budget { budget }));
        }
        for class in ["grant", "api", "discovery", "feed", "revocation"] {
            drop(self.shed.get_or_create(&What { class }));
        }
        for reason in ["connections", "handshakes"] {
            drop(self.refused.get_or_create(&Reason { reason }));
        }
        for outcome in ["done", "failed"] {
            drop(self.reloads.get_or_create(&Outcome { outcome }));
            drop(self.handshakes.get_or_create(&Outcome { outcome }));
        }
        registry.register("rate_limited", "Requests over a limit, by budget", self.limited.clone());
        registry.register("requests_shed", "Requests refused in overload, by class", self.shed.clone());
        registry.register("connections_refused", "Connections refused, by reason", self.refused.clone());
        registry.register("tls_handshakes", "TLS handshakes, by outcome", self.handshakes.clone());
        registry.register("tls_reloads", "Certificates read again, by outcome", self.reloads.clone());
        registry.register(
            "tls_certificate_expires_in_seconds",
            "Time until the certificate in use expires, by listener",
            self.expires.clone(),
        );
        registry.register("requests_in_flight", "Requests that are being answered", self.in_flight.clone());
        registry.register("rate_limit_buckets", "Addresses and clients that are counted", self.tracked.clone());
    }

    /// Counted and told.
    pub(super) fn limited(&self, over: Over) -> Error {
        self.limited.get_or_create(&Budget { budget: over.budget }).inc();
        over.into()
    }
    pub(super) fn shed(&self, class: Class) {
        let class = match class {
            Class::Grant => "grant",
            Class::Api => "api",
            Class::Discovery => "discovery",
            Class::Feed => "feed",
            Class::Revocation => "revocation",
        };
        self.shed.get_or_create(&What { class }).inc();
    }
    pub(in crate::http) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
    pub(in crate::http) fn handshake(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&Outcome { outcome }).inc();
    }
    pub(super) fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&Outcome { outcome }).inc();
    }
    /// Below zero once it has expired.
    pub(super) fn certificate(&self, listener: &'static str, expires: Timestamp, now: Timestamp) {
        let signed = |t: Timestamp| i64::try_from(t.seconds()).unwrap_or(i64::MAX);
        self.expires.get_or_create(&Listener { listener }).set(signed(expires) - signed(now));
    }
    pub(super) fn in_flight(&self, requests: usize, tracked: usize) {
        self.in_flight.set(i64::try_from(requests).unwrap_or(i64::MAX));
        self.tracked.set(i64::try_from(tracked).unwrap_or(i64::MAX));
    }
}

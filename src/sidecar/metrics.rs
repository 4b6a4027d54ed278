//! Counters of the sidecar. No label ever holds a subject, a session or a token.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::verifier::{self, Health, Refused};

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Whose.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Issuer {
    issuer: Arc<str>,
}

/// Whose, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerOutcome {
    issuer: Arc<str>,
    outcome: &'static str,
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Mutex<Registry>,
    answers: Family<Outcome, Counter>,
    verifications: Family<IssuerOutcome, Counter>,
    feed_answers: Family<Issuer, Counter>,
    feed_entries: Family<Issuer, Counter>,
    feed_failures: Family<Issuer, Counter>,
    key_fetches: Family<IssuerOutcome, Counter>,
    available: Family<Issuer, Gauge>,
    fresh: Family<Issuer, Gauge<f64, AtomicU64>>,
    entries: Family<Issuer, Gauge>,
    position: Family<Issuer, Gauge>,
}

impl Default for Shared {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rescind_verifier");
        let new = Self {
            registry: Mutex::default(),
            answers: Family::default(),
            verifications: Family::default(),
            feed_answers: Family::default(),
            feed_entries: Family::default(),
            feed_failures: Family::default(),
            key_fetches: Family::default(),
            available: Family::default(),
            fresh: Family::default(),
            entries: Family::default(),
            position: Family::default(),
        };
        registry.register("answers", "Answers to the proxy, by outcome", new.answers.clone());
        registry.register("verifications", "Tokens judged, by outcome", new.verifications.clone());
        registry.register("feed_answers", "Good answers of the feed", new.feed_answers.clone());
        registry.register("feed_entries", "Entries that came with them", new.feed_entries.clone());
        registry.register("feed_failures", "Times that the feed did not answer well", new.feed_failures.clone());
        registry.register("key_fetches", "Fetches of the issuer's keys, by outcome", new.key_fetches.clone());
        registry.register("available", "Whether tokens can be judged now", new.available.clone());
        registry.register("fresh_seconds", "For how much longer, if the feed is silent from now on", new.fresh.clone());
        registry.register("denied", "Entries held: tokens, sessions and cut-offs", new.entries.clone());
        registry.register("feed_position", "Up to where the feed has been read", new.position.clone());
        Self { registry: Mutex::new(registry), ..new }
    }
}

impl Metrics {
    /// What a verifier of this issuer is built with.
    #[must_use]
    pub fn of(&self, issuer: &str) -> impl verifier::Metrics + use<> {
        OfIssuer { issuer: issuer.into(), shared: self.0.clone() }
    }

    pub(super) fn answered(&self, outcome: &'static str) {
        self.0.answers.get_or_create(&Outcome { outcome }).inc();
    }

    /// The text exposition (OpenMetrics 1.0).
    pub(super) fn render(&self, verifiers: &[(&str, Health)]) -> String {
        for (issuer, health) in verifiers {
            self.0.look_at(&Issuer { issuer: (*issuer).into() }, health);
        }
        let mut out = String::new();
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut out, &registry).expect("writing to a string does not fail");
        out
    }
}

impl Shared {
    fn look_at(&self, issuer: &Issuer, health: &Health) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.available.get_or_create(issuer).set(i64::from(health.available.is_ok()));
        self.fresh.get_or_create(issuer).set(health.fresh_for.unwrap_or_default().as_secs_f64());
        self.entries.get_or_create(issuer).set(gauge(health.entries as u64));
        self.position.get_or_create(issuer).set(gauge(health.position.unwrap_or(0)));
    }
}

struct OfIssuer {
    issuer: Arc<str>,
    shared: Arc<Shared>,
}

impl OfIssuer {
    fn label(&self) -> Issuer {
        Issuer { issuer: self.issuer.clone() }
    }
    fn outcome(&self, outcome: &'static str) -> IssuerOutcome {
        IssuerOutcome { issuer: self.issuer.clone(), outcome }
    }
}

impl verifier::Metrics for OfIssuer {
    fn verified(&self, outcome: Result<(), &Refused>) {
        let outcome = outcome.map_or_else(Refused::code, |()| "accepted");
        self.shared.verifications.get_or_create(&self.outcome(outcome)).inc();
    }
    fn feed_heard(&self, entries: usize) {
        self.shared.feed_answers.get_or_create(&self.label()).inc();
        self.shared.feed_entries.get_or_create(&self.label()).inc_by(entries as u64);
    }
    fn feed_failed(&self) {
        self.shared.feed_failures.get_or_create(&self.label()).inc();
    }
    fn keys_fetched(&self, ok: bool) {
        let outcome = self.outcome(if ok { "ok" } else { "failed" });
        self.shared.key_fetches.get_or_create(&outcome).inc();
    }
}

//! Counters for `/metrics`. No label ever holds a subject, a session or a token.

use std::sync::{Mutex, PoisonError, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::model::Timestamp;

use super::{evidence_metrics::EvidenceMetrics, verifiers::metrics::VerifierMetrics};

/// One label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Which kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Which route, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    status: u16,
}

/// Which route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    refreshes: Family<Outcome, Counter>,
    introspections: Family<Outcome, Counter>,
    revocations: Family<Kind, Counter>,
    sessions: Counter,
    client_tokens: Counter,
    refused_clients: Counter,
    rotations: Counter,
    rollbacks: Counter,
    requests: Family<Request, Counter>,
    seconds: Family<Route, Histogram>,
    queue: Gauge,
    store_bytes: Gauge,
    last_backup: Gauge<f64, AtomicU64>,
    key_age: Gauge<f64, AtomicU64>,
    key_next_step: Gauge<f64, AtomicU64>,
    key_overdue: Gauge<f64, AtomicU64>,
    feed_followers: Gauge,
    feed_answers: Family<Kind, Counter>,
    feed_entries: Counter,
    pub(super) evidence: EvidenceMetrics,
    pub(super) verifiers: VerifierMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rescind");
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        let new = Self {
            registry: Mutex::default(),
            refreshes: Family::default(),
            introspections: Family::default(),
            revocations: Family::default(),
            sessions: Counter::default(),
            client_tokens: Counter::default(),
            refused_clients: Counter::default(),
            rotations: Counter::default(),
            rollbacks: Counter::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            queue: Gauge::default(),
            store_bytes: Gauge::default(),
            last_backup: Gauge::default(),
            key_age: Gauge::default(),
            key_next_step: Gauge::default(),
            key_overdue: Gauge::default(),
            feed_followers: Gauge::default(),
            feed_answers: Family::default(),
            feed_entries: Counter::default(),
            evidence: EvidenceMetrics::default(),
            verifiers: VerifierMetrics::default(),
        };
        registry.register("refreshes", "Refresh tokens presented, by outcome", new.refreshes.clone());
        registry.register("introspections", "Tokens introspected, by outcome", new.introspections.clone());
        registry.register("revocations", "Revocations acknowledged, by kind", new.revocations.clone());
        registry.register("sessions_opened", "Sessions opened", new.sessions.clone());
        registry.register("client_tokens", "Tokens issued to clients themselves", new.client_tokens.clone());
        registry.register(
            "client_authentication_failures",
            "Requests of unproven clients",
            new.refused_clients.clone(),
        );
        registry.register("key_rotations", "Rotations of the signing key", new.rotations.clone());
        registry.register("store_rollbacks", "Starts on a store older than its witness", new.rollbacks.clone());
        registry.register("http_requests", "HTTP requests, by route and status", new.requests.clone());
        registry.register("http_request_duration_seconds", "Time to answer, by route", new.seconds.clone());
        registry.register("store_queue", "Requests that wait for the store's writer", new.queue.clone());
        registry.register("store_bytes", "Size of the store", new.store_bytes.clone());
        registry.register(
            "store_last_backup_timestamp_seconds",
            "The instant that the last backup shows; 0 if there was none",
            new.last_backup.clone(),
        );
        registry.register("key_age_seconds", "Since when the active key has signed", new.key_age.clone());
        registry.register(
            "key_next_step_seconds",
            "Until the next step of the schedule of keys; +Inf if there is none",
            new.key_next_step.clone(),
        );
        registry.register(
            "key_overdue_seconds",
            "By how much the next step of the schedule of keys is late; 0 if it is not",
            new.key_overdue.clone(),
        );
        registry.register("feed_followers", "Followers of the feed that wait for news", new.feed_followers.clone());
        registry.register("feed_answers", "Answers to followers, by kind", new.feed_answers.clone());
        registry.register("feed_entries", "Denylist entries sent to followers", new.feed_entries.clone());
        new.evidence.register(&mut registry);
        new.verifiers.register(&mut registry);
        // From the start on: a counter that begins at one has risen by nothing, and no rule would see the first event.
        for outcome in ["rotated", "retried", "healed", "reused", "refused", "scope", "unavailable"] {
            drop(new.refreshes.get_or_create(&Outcome { outcome }));
        }
        for outcome in ["active", "inactive"] {
            drop(new.introspections.get_or_create(&Outcome { outcome }));
        }
        for kind in ["token", "session", "subject", "client", "key", "all"] {
            drop(new.revocations.get_or_create(&Kind { kind }));
        }
        for kind in ["tail", "page", "full"] {
            drop(new.feed_answers.get_or_create(&Kind { kind }));
        }
        Self { registry: Mutex::new(registry), ..new }
    }
}

impl Metrics {
    pub(crate) fn refresh(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&Outcome { outcome }).inc();
    }
    pub(crate) fn introspection(&self, active: bool) {
        self.introspections.get_or_create(&Outcome { outcome: if active { "active" } else { "inactive" } }).inc();
    }
    pub(crate) fn revocation(&self, kind: &'static str) {
        self.revocations.get_or_create(&Kind { kind }).inc();
    }
    pub(crate) fn session_opened(&self) {
        self.sessions.inc();
    }
    pub(crate) fn client_token(&self) {
        self.client_tokens.inc();
    }
    pub(crate) fn client_refused(&self) {
        self.refused_clients.inc();
    }
    pub(crate) fn key_rotated(&self) {
        self.rotations.inc();
    }
    pub(crate) fn rolled_back(&self) {
        self.rollbacks.inc();
    }
    pub(crate) fn request(&self, route: &str, status: u16, seconds: f64) {
        let route = route.to_owned();
        self.seconds.get_or_create(&Route { route: route.clone() }).observe(seconds);
        self.requests.get_or_create(&Request { route, status }).inc();
    }
    pub(crate) fn store(&self, queue: usize, bytes: u64) {
        self.queue.set(i64::try_from(queue).unwrap_or(i64::MAX));
        self.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn backed_up(&self, at: Option<Timestamp>) {
        self.last_backup.set(at.map_or(0.0, |at| at.millis() as f64 / 1000.0));
    }

    /// Seconds each.
    pub(crate) fn keys(&self, age: f64, next_step: f64, overdue: f64) {
        self.key_age.set(age);
        self.key_next_step.set(next_step);
        self.key_overdue.set(overdue);
    }

    pub(crate) fn followers(&self, waiting: usize) {
        self.feed_followers.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
    pub(crate) fn feed_answer(&self, kind: &'static str, entries: usize) {
        self.feed_answers.get_or_create(&Kind { kind }).inc();
        self.feed_entries.inc_by(entries as u64);
    }

    /// Adds what others count.
    pub(crate) fn extend(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The text exposition (OpenMetrics 1.0).
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut out, &registry).expect("writing to a string does not fail");
        out
    }
}

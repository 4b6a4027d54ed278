//! Counters of what watches the service.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Alerts, the webhook, the audit log.
#[derive(Debug, Default)]
pub(crate) struct EvidenceMetrics {
    alerts: Family<Kind, Counter>,
    uncounted: Counter,
    deliveries: Family<Outcome, Counter>,
    behind: Gauge,
    failing: Gauge,
    audit_records: Gauge,
    audit_broken: Gauge,
}

impl EvidenceMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        // From the start on, so that the first event is a rise.
        for kind in ["rapid_renewals", "session_failures", "client_failures", "mass_revocation"] {
            drop(self.alerts.get_or_create(&Kind { kind }));
        }
        for outcome in ["delivered", "failed", "given_up"] {
            drop(self.deliveries.get_or_create(&Outcome { outcome }));
        }
        registry.register("alerts", "What happened too often, by kind", self.alerts.clone());
        registry.register(
            "alerts_uncounted",
            "Events that no alert could count, too many sessions and clients being counted",
            self.uncounted.clone(),
        );
        registry.register(
            "webhook_deliveries",
            "Attempts to deliver to the webhook, by outcome",
            self.deliveries.clone(),
        );
        registry.register("webhook_behind", "Audit records that the webhook has not passed yet", self.behind.clone());
        registry.register(
            "webhook_failing_seconds",
            "For how long the oldest event has waited for a webhook that does not take it",
            self.failing.clone(),
        );
        registry.register("audit_records", "Records in the audit log", self.audit_records.clone());
        registry.register(
            "audit_broken",
            "1 if the audit log was found to be another than the one that this service wrote",
            self.audit_broken.clone(),
        );
    }
    pub(super) fn alert(&self, kind: &'static str) {
        self.alerts.get_or_create(&Kind { kind }).inc();
    }
    pub(super) fn uncounted(&self) {
        self.uncounted.inc();
    }
    pub(super) fn delivery(&self, outcome: &'static str) {
        self.deliveries.get_or_create(&Outcome { outcome }).inc();
    }
    pub(super) fn webhook(&self, behind: u64, failing: u64) {
        self.behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        self.failing.set(i64::try_from(failing).unwrap_or(i64::MAX));
    }
    pub(super) fn audit(&self, records: u64, broken: bool) {
        self.audit_records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.audit_broken.set(broken.into());
    }
}

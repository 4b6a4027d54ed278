//! What is told of verifiers that report. No label ever holds a client, a name or an address.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{VerifierState, VerifierStates};
use crate::model::report::Reported;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Verifiers and their reports.
#[derive(Debug, Default)]
pub(in crate::service) struct VerifierMetrics {
    states: Family<State, Gauge>,
    lag: Gauge<f64, AtomicU64>,
    reports: Family<Outcome, Counter>,
}

impl VerifierMetrics {
    pub(in crate::service) fn register(&self, registry: &mut Registry) {
        // From the start on: a counter that begins at one has risen by nothing.
        for outcome in Reported::SAID {
            drop(self.reports.get_or_create(&Outcome { outcome: outcome.name() }));
        }
        self.measure(VerifierStates::default(), Duration::ZERO);
        registry.register("verifiers", "Verifiers that report how far they are, by state", self.states.clone());
        registry.register(
            "verifiers_lag_seconds",
            "How long ago the oldest entry was acknowledged that a verifier which reports has not applied, silent ones \
             left out",
            self.lag.clone(),
        );
        registry.register("verifier_reports", "Reports of verifiers, by outcome", self.reports.clone());
    }

    pub(super) fn reported(&self, outcome: Reported) {
        self.reports.get_or_create(&Outcome { outcome: outcome.name() }).inc();
    }

    pub(super) fn measure(&self, states: VerifierStates, lag: Duration) {
        let states = [
            (VerifierState::Current, states.current),
            (VerifierState::Behind, states.behind),
            (VerifierState::Silent, states.silent),
        ];
        for (state, number) in states {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.states.get_or_create(&State { state: state.name() }).set(number);
        }
        self.lag.set(lag.as_secs_f64());
    }
}

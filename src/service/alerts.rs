//! What happens too often: renewals of one session, failures of one session or client, revocations by one client. It is
//! counted, and told once in a window as an audit event; it decides nothing. A thief who renews inside every retry
//! window, and a guesser of secrets, are seen here or not at all.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Service, evidence_metrics::EvidenceMetrics};
use crate::{
    model::{
        ClientId, SessionId,
        audit::{Draft, Event},
        time::format_duration,
    },
    store::EvidenceStore,
};

/// Sessions and clients that are counted at once. Beyond it those are counted that were there first: an alert may be
/// missed then, which the metrics tell.
const CAP: usize = 20_000;
/// Alerts that wait to be written. Beyond it the metrics alone tell of them.
const QUEUE: usize = 1000;

/// From when on something is too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// The time in which is counted, and in which the same is told once.
    pub window: Duration,
    /// Renewals of one session, retries among them.
    pub renewals: u32,
    /// Refused refresh tokens of one session; failed authentications of one client.
    pub failures: u32,
    /// Revocations by one client.
    pub revocations: u32,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { window: Duration::from_secs(600), renewals: 20, failures: 20, revocations: 100 }
    }
}

/// What is counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Often {
    Renewed(SessionId),
    RefusedSession(SessionId),
    /// None: a name that no client has. All of them count as one.
    FailedClient(Option<ClientId>),
    Revoked(ClientId),
}

impl Often {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Renewed(_) => "rapid_renewals",
            Self::RefusedSession(_) => "session_failures",
            Self::FailedClient(_) => "client_failures",
            Self::Revoked(_) => "mass_revocation",
        }
    }
}

#[derive(Clone, Copy)]
struct Count {
    since: Duration,
    times: u32,
}

/// An alert that is to be written.
struct Raised {
    what: Often,
    cause: Box<str>,
}

#[derive(Default)]
pub(super) struct Alerts {
    pub(super) settings: AlertSettings,
    counts: Mutex<HashMap<Often, Count>>,
    raised: Mutex<VecDeque<Raised>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are whole whenever they are let go of.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alerts {
    fn limit(&self, what: &Often) -> u32 {
        match what {
            Often::Renewed(_) => self.settings.renewals,
            Often::RefusedSession(_) | Often::FailedClient(_) => self.settings.failures,
            Often::Revoked(_) => self.settings.revocations,
        }
    }

    /// Counts. In constant time but for the moment when the map is full and those whose window is over leave.
    pub(super) fn count(&self, what: Often, now: Duration, metrics: &EvidenceMetrics) {
        let (window, limit) = (self.settings.window, self.limit(&what));
        let mut counts = lock(&self.counts);
        if counts.len() >= CAP && !counts.contains_key(&what) {
            counts.retain(|_, count| now.saturating_sub(count.since) < window);
            if counts.len() >= CAP {
                metrics.uncounted();
                return;
            }
        }
        let count = counts.entry(what.clone()).or_insert(Count { since: now, times: 0 });
        if now.saturating_sub(count.since) >= window {
            *count = Count { since: now, times: 0 };
        }
        count.times = count.times.saturating_add(1);
        // Once: what comes after is the same alert.
        let crossed = limit > 0 && count.times == limit.saturating_add(1);
        drop(counts);
        if crossed {
            metrics.alert(what.kind());
            self.raise(what, limit);
        }
    }

    fn raise(&self, what: Often, limit: u32) {
        let kind = what.kind();
        let window = format_duration(self.settings.window);
        let cause = match &what {
            Often::FailedClient(None) => format!("{kind}: more than {limit} in {window}, under names of no client"),
            _ => format!("{kind}: more than {limit} in {window}"),
        };
        tracing::warn!(kind, limit, window, "too often");
        let mut raised = lock(&self.raised);
        if raised.len() < QUEUE {
            raised.push_back(Raised { what, cause: cause.into() });
        }
    }

    fn take(&self) -> Option<Raised> {
        lock(&self.raised).pop_front()
    }
}

impl Service {
    pub(super) fn count(&self, what: Often) {
        self.alerts.count(what, self.clock.monotonic(), &self.metrics.evidence);
    }

    /// Writes the alerts that were raised since the last time. No request waits for it.
    pub(super) async fn write_alerts(&self) {
        while let Some(Raised { what, cause }) = self.alerts.take() {
            let (session, client) = match what.clone() {
                Often::Renewed(session) | Often::RefusedSession(session) => (Some(session), None),
                Often::FailedClient(client) => (None, client),
                Often::Revoked(client) => (None, Some(client)),
            };
            let about = self.draft_of(session).await;
            let draft = Draft { client: client.or(about.client), subject: about.subject, ..Draft::default() };
            if let Err(error) = self.store.witness(Event::Alert, session, cause.clone(), draft).await {
                tracing::warn!(%error, "an alert could not be written yet");
                lock(&self.alerts.raised).push_front(Raised { what, cause });
                return;
            }
        }
    }

    /// Whose session it is, if that can be told.
    async fn draft_of(&self, session: Option<SessionId>) -> Draft {
        let Some(id) = session else { return Draft::default() };
        let found = self.families.find(id).await.ok().flatten();
        found.map_or_else(Draft::default, |s| Draft {
            subject: Some(s.identity.subject),
            client: Some(s.identity.client),
            ..Draft::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn session(n: u32) -> Often {
        let mut random = [0; 10];
        random[6..].copy_from_slice(&n.to_be_bytes());
        Often::Renewed(SessionId::new(Timestamp::from_millis(1), &random))
    }

    #[test]
    fn a_flood_of_sessions_takes_no_more_room_than_the_cap_and_those_counted_stay_so() {
        let (alerts, metrics) = (Alerts::default(), EvidenceMetrics::default());
        for n in 0..u32::try_from(CAP).unwrap() + 500 {
            alerts.count(session(n), Duration::ZERO, &metrics);
        }
        assert_eq!(lock(&alerts.counts).len(), CAP);
        for _ in 0..20 {
            alerts.count(session(0), Duration::ZERO, &metrics);
        }
        assert!(alerts.take().is_some(), "the first one was being counted");
        // A window later there is room again.
        alerts.count(session(1_000_000), Duration::from_secs(600), &metrics);
        assert_eq!(lock(&alerts.counts).len(), 1);
    }

    #[test]
    fn the_same_is_told_once_in_a_window() {
        let (alerts, metrics) = (Alerts::default(), EvidenceMetrics::default());
        for _ in 0..200 {
            alerts.count(session(1), Duration::from_secs(1), &metrics);
        }
        assert!(alerts.take().is_some() && alerts.take().is_none());
        for _ in 0..21 {
            alerts.count(session(1), Duration::from_secs(601), &metrics);
        }
        assert!(alerts.take().is_some());
    }
}

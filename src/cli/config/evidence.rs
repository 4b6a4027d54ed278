//! The tables of what watches the service: `[audit]`, `[webhook]`, `[alerts]`.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::args::between,
    Config,
    check::Findings,
    layers::Problem,
    schema::{default, secret, settings, unset},
    secret::Source,
    values::{Reads, Written},
};
use crate::service::{AlertSettings, Kind, WebhookSecret, WebhookSettings, check_webhook_url};

settings! {
    /// How much of the audit log is kept. What goes is recorded in it.
    pub(crate) struct AuditTable {
        /// Records at most; the oldest go first.
        pub(crate) max_records: u64 = default("1000000");
        /// For how long; the records go up to an hour later.
        pub(crate) keep: Option<Written<Duration>> = unset("as long as `max_records` allows", "\"400d\"");
    }
}

settings! {
    /// Where security events are sent: see `docs/reference/webhook.md`.
    pub(crate) struct WebhookTable {
        /// An https URL; plain http to this machine only.
        pub(crate) url: Option<String> = unset("nothing is sent", "\"https://hooks.example/rescind\"");
        /// What signs the messages: `whsec_` and base64 of 24 to 64 bytes; two, apart by a space, while receivers change.
        pub(crate) secret: Option<Source> = secret("it must be there if `url` is", "\"webhook.secret\"");
        /// Which are sent.
        pub(crate) events: Option<Vec<Written<Kind>>> = unset("all", "[\"session.reused\", \"token.leaked\"]");
    }
}

settings! {
    /// From when on something is too often. It is told once in a window, in the audit log and by the webhook, and
    /// decides nothing; 0 never tells.
    pub(crate) struct AlertsTable {
        /// The time in which is counted.
        pub(crate) window: Written<Duration> = default("\"10m\"");
        /// Renewals of one session, retries among them.
        pub(crate) renewals: u32 = default("20");
        /// Refused refresh tokens of one session, failed authentications of one client.
        pub(crate) failures: u32 = default("20");
        /// Revocations by one client.
        pub(crate) revocations: u32 = default("100");
    }
}

/// Who watches the node.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) alerts: AlertSettings,
    pub(crate) webhook: Option<WebhookSettings>,
}

impl Config {
    /// What concerns the evidence alone.
    pub(super) fn check_evidence(&self, findings: &mut Findings<'_>) {
        let (day, century) = (Duration::from_secs(86_400), Duration::from_secs(36_500 * 86_400));
        if let Some(keep) = &self.audit.keep {
            findings.note(&["audit.keep"], between("audit.keep", keep.0, day, century));
        }
        if self.audit.max_records < 1000 {
            let what = "audit.max_records is less than 1000: a moment's requests would push out what they follow";
            findings.note(&["audit.max_records"], Err(what.into()));
        }
        let (minute, window) = (Duration::from_secs(60), self.alerts.window.0);
        findings.note(&["alerts.window"], between("alerts.window", window, minute, day));
        let webhook = match (&self.webhook.url, &self.webhook.secret) {
            (Some(url), Some(_)) => check_webhook_url(url).map_err(|e| e.to_string()),
            (Some(_), None) => {
                Err("webhook.url is given without a secret: nobody could tell our messages from others'; \
                                    write `secret_file`, a file made with: (umask 077; echo \"whsec_$(openssl rand \
                                    -base64 32)\" > webhook.secret)"
                    .into())
            }
            (None, Some(_)) => Err("webhook.secret is given without webhook.url; say where to send".into()),
            (None, None) => Ok(()),
        };
        findings.note(&["webhook.url", "webhook.secret"], webhook);
    }

    /// Who watches the node. Reads the webhook's secret.
    pub(crate) fn evidence(&self) -> Result<Evidence, Problem> {
        let table = &self.alerts;
        let alerts = AlertSettings {
            window: table.window.0,
            renewals: table.renewals,
            failures: table.failures,
            revocations: table.revocations,
        };
        let (Some(url), Some(source)) = (&self.webhook.url, &self.webhook.secret) else {
            return Ok(Evidence { alerts, webhook: None });
        };
        let text = source.read().map_err(|problem| problem.about("webhook.secret"))?;
        let secret = WebhookSecret::read(text.expose());
        let secret = secret.map_err(|e| Problem::of(format!("webhook.secret: {source}: {e}")))?;
        let all = || Kind::ALL.iter().copied().collect();
        let kinds: BTreeSet<Kind> =
            self.webhook.events.as_ref().map_or_else(all, |events| events.iter().map(|w| w.0).collect());
        Ok(Evidence { alerts, webhook: Some(WebhookSettings { url: url.clone(), secret, kinds }) })
    }
}

impl Reads for Kind {
    const EXAMPLE: &str = "session.reused";
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

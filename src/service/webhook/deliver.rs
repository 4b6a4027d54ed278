//! Reads along the audit log and delivers what is to be told.

use std::time::Duration;

use serde_json::json;

use super::{Attempt, Kind, Webhook};
use crate::{
    model::{audit::Record, chain::Line},
    service::{Context, Error, Permission, Service},
    store::{AuditQuery, AuditStore, EvidenceStore, SignedHead, StoreError},
};

/// The name of its cursor.
const CURSOR: &str = "webhook";
/// How often the log is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Records read at once.
const PAGE: usize = 200;
/// Records that are passed over before the cursor is moved for them alone.
const PASSED: u64 = 5000;
/// Between attempts: this, then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What nobody took in this time is given up: what comes after it must not wait for ever.
const GIVE_UP: Duration = Duration::from_secs(3 * 86_400);

/// Where it stands in the log.
struct Reader {
    position: u64,
    /// As the store has it: what lies between is read again after a restart.
    kept: u64,
}

impl Service {
    /// Delivers to the webhook, if there is one, for as long as it is polled. Dropping it loses nothing.
    pub async fn tell(&self) {
        let Some(webhook) = &self.webhook else { return std::future::pending().await };
        let mut reader = loop {
            match self.begin().await {
                Ok(reader) => break reader,
                Err(_) => tokio::time::sleep(TICK).await,
            }
        };
        loop {
            match self.pass(webhook, &mut reader).await {
                // A full page: there is more.
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(TICK).await,
                Err(error) => {
                    tracing::warn!(%error, "the webhook cannot read the audit log");
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }

    /// The first time it begins at the end: what was before nobody had asked for. A cursor may also be gone with what the
    /// store has lost; that something was lost is told.
    async fn begin(&self) -> Result<Reader, StoreError> {
        let SignedHead { head, alarm, .. } = self.store.audit_head().await?;
        if let Some(kept) = self.store.cursor(CURSOR).await? {
            // Never beyond the end: what comes next nobody has read.
            let kept = kept.min(head.sequence);
            return Ok(Reader { position: kept, kept });
        }
        let kept = alarm.map_or(head.sequence, |first| first.saturating_sub(1).min(head.sequence));
        self.store.move_cursor(CURSOR, kept).await?;
        Ok(Reader { position: kept, kept })
    }

    /// One page of the log. Says whether there is more of it.
    async fn pass(&self, webhook: &Webhook, reader: &mut Reader) -> Result<bool, StoreError> {
        let query = AuditQuery { after: reader.position, limit: PAGE, ..AuditQuery::default() };
        let page = self.store.audit(query).await?;
        for record in &page.records {
            if let Some(kind) = Kind::of(record).filter(|kind| webhook.kinds.contains(kind)) {
                self.deliver(webhook, kind, record).await;
                self.store.move_cursor(CURSOR, record.sequence).await?;
                reader.kept = record.sequence;
            }
            reader.position = record.sequence;
        }
        if reader.position - reader.kept >= PASSED {
            self.store.move_cursor(CURSOR, reader.position).await?;
            reader.kept = reader.position;
        }
        let head = self.store.audit_head().await?.head.sequence;
        self.metrics.evidence.webhook(head.saturating_sub(reader.position), 0);
        Ok(page.next.is_some())
    }

    /// Returns once the message has been taken, or is given up.
    async fn deliver(&self, webhook: &Webhook, kind: Kind, record: &Record) {
        // The same at each attempt, and after a restart: by it a receiver knows a message that comes twice.
        let id = format!("msg_{:032x}_{}", self.store.id(), record.sequence);
        let body = json!({
            "type": kind.name(),
            "timestamp": record.at.to_rfc3339(),
            "data": {"issuer": &*self.settings.issuer, "record": Line::from(record)},
        });
        let mut pause = FIRST_PAUSE;
        loop {
            let waited = self.clock.now().since(record.at);
            if waited > GIVE_UP {
                self.metrics.evidence.delivery("given_up");
                tracing::error!(
                    kind = kind.name(),
                    sequence = record.sequence,
                    "given up: the webhook took it for days not"
                );
                return;
            }
            let attempt = webhook.send(&id, self.clock.now().seconds(), &body).await;
            if attempt.delivered {
                self.metrics.evidence.delivery("delivered");
                return;
            }
            self.metrics.evidence.delivery("failed");
            let head = self.store.audit_head().await.map_or(0, |signed| signed.head.sequence);
            self.metrics.evidence.webhook(head.saturating_sub(record.sequence - 1), waited.as_secs().max(1));
            let Attempt { status, problem, .. } = attempt;
            tracing::warn!(
                status,
                problem,
                kind = kind.name(),
                sequence = record.sequence,
                "the webhook did not take it"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends one message that says nothing, at once and once.
    ///
    /// # Errors
    /// The caller may not, or there is no webhook.
    pub async fn test_webhook(&self, ctx: &Context) -> Result<Attempt, Error> {
        ctx.require(Permission::WebhookTest)?;
        let Some(webhook) = &self.webhook else {
            let hint = "no webhook is configured: write `url` and `secret_file` under [webhook]".into();
            return Err(Error::Conflict { code: "no_webhook", hint, earliest: None });
        };
        let now = self.clock.now();
        let body = json!({
            "type": "webhook.test",
            "timestamp": now.to_rfc3339(),
            "data": {"issuer": &*self.settings.issuer, "by": ctx.caller.client.id},
        });
        let id = format!("msg_{:032x}_test_{}", self.store.id(), now.millis());
        Ok(webhook.send(&id, now.seconds(), &body).await)
    }
}

//! An operator's words, and a node's own when it leaves.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    super::{
        Core, RedisStore,
        commit::{Look, Outcome, maybe},
        hub::{Head, NewRecord, Order},
        step::TRIES,
    },
    Now,
    keeper::reign_of,
    record::{Told, seal},
    report::LifeReport,
};
use crate::{
    clock::Random,
    model::{
        audit::{Draft, Event, Outcome as AuditOutcome},
        denial::Ends,
        reign::{self, Change, NodeId, Refused},
    },
    store::{
        StoreError,
        embedded::{Acceptance, Happened},
    },
};

/// A node that takes part and is to be waived must have been silent for so long.
const SILENT: Duration = Duration::from_secs(60);
/// How often it is looked whether somebody has followed.
const LOOKS_EVERY: Duration = Duration::from_millis(50);
/// How long the record of a word is tried to be written, and then how long it is waited for its taking effect.
const DECLARED_WITHIN: Duration = Duration::from_secs(5);

/// Why an operator's word is not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WordError {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store cannot tell.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// That is no node's id.
    #[error("`{0}` is no node's id: 32 hexadecimal digits, as the report of a node shows them")]
    NoId(String),
}

impl RedisStore {
    /// What this node knows of the life of the store.
    #[must_use]
    pub fn life(&self) -> LifeReport {
        self.core.life.report()
    }

    /// Nobody waits for this node any more: what it alone knows of acknowledged changes is lost.
    ///
    /// # Errors
    /// [`WordError`].
    pub async fn waive(&self, node: &str, audit: Draft) -> Result<(), WordError> {
        let id = id_of(node).ok_or_else(|| WordError::NoId(node.into()))?;
        let vouched = self.core.link.urgent().vouched().await?;
        let waived = |told: &Told| {
            // Those that were vouched for, and not others that came after them, have said it.
            if self.core.link.way() != vouched.way {
                return Err(Refused::Early);
            }
            reign::waive(NodeId(id), reign_of(&vouched), &told.seen(), SILENT)
        };
        self.core.say(waived).await?;
        Ok(self.core.put_on_record(audit, format!("node {node} waived"), |_| true).await?)
    }

    /// Declares that what the store holds is what there is, whatever its nodes remember: it is another life from here on, no
    /// record is healed, and what lay ahead of it closes. With [`Acceptance::Wait`] nothing is declared.
    ///
    /// # Errors
    /// [`StoreError`]. The word may stand all the same: `rescind store status` shows it.
    pub async fn declare(&self, acceptance: Acceptance, _: Arc<dyn Random>, audit: Draft) -> Result<(), StoreError> {
        let (ends, cause) = match acceptance {
            Acceptance::Wait => return Ok(()),
            Acceptance::EndSessions => (Ends::Sessions, "sessions ended"),
            Acceptance::DangerouslyKeepSessions => (Ends::Tokens, "sessions kept"),
        };
        let (core, seal) = (&self.core, seal(&*self.core.random));
        let memory = core.life.memories().memory().cloned();
        let said = core.say(|told| reign::declare(ends, seal, memory.as_ref(), &told.seen())).await;
        said.map_err(|error| match error {
            WordError::Store(error) => error,
            other => StoreError::Failed(other.to_string()),
        })?;
        core.put_on_record(audit, cause.into(), |life| life.is(seal)).await?;
        // The cut-off is written before anybody serves again; who is still waited for, the report says.
        for _ in 0..DECLARED_WITHIN.as_millis() / LOOKS_EVERY.as_millis() {
            if core.begin_now().is_ok_and(|began| began.moment().restored > 0) {
                break;
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
        Ok(())
    }

    /// Stops serving, and leaves what this node knows to the others. Where nobody can take it over, it stays registered, and
    /// is waited for if the store should come back as another. Whether it could leave.
    pub async fn leave(&self) -> bool {
        let left = self.core.leave().await;
        if let Err(error) = &left {
            tracing::warn!(%error, "this node stops without having left what it knows to another");
        }
        left.unwrap_or(false)
    }
}

/// As [`super::report::name_of`] writes it.
fn id_of(node: &str) -> Option<u128> {
    let digits = node.len() == 32 && node.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u128::from_str_radix(node, 16).ok() } else { None }
}

impl Core {
    async fn leave(&self) -> Result<bool, StoreError> {
        self.life.stop();
        let node = self.life.memories().node();
        // As long as others take to follow.
        for _ in 0..self.options.lease.as_millis() / LOOKS_EVERY.as_millis() {
            let head = Look::default().get(self.layout.hub("head")).ask(&self.link).await?;
            let Some(head) = head.parts.first().map_or(Ok(None), maybe)? else { return Ok(false) };
            let position = Head::read(head)?.place().mark.position;
            let told = Told::read(&Told::look(&self.layout).ask(&self.link).await?)?;
            if let Some(change) = reign::leave(node, position, &told.seen())
                && matches!(
                    told.change(&self.layout, &change, self.clock.now()).make(&self.link).await?,
                    Outcome::Done(_)
                )
            {
                return Ok(true);
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
        Ok(false)
    }

    /// An operator's word is in the audit log, also while nobody serves. It stands whatever becomes of its record.
    async fn put_on_record(
        &self,
        audit: Draft,
        cause: String,
        is_time: impl Fn(&super::Life) -> bool,
    ) -> Result<(), StoreError> {
        let (event, outcome, cause) = (Event::StoreAccepted, AuditOutcome::Done, Some(cause.into()));
        let happened = Happened { event, outcome, session: None, generation: None, cause };
        for _ in 0..DECLARED_WITHIN.as_millis() / LOOKS_EVERY.as_millis() {
            if is_time(&self.life)
                && let Ok(began) = self.begin_repair()
            {
                let record = NewRecord::of(began.moment().now, audit.clone(), happened.clone());
                if self.hub.order(Order::Record(Box::new(record))).await.is_ok() {
                    return Ok(());
                }
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
        Err(StoreError::Failed("the word stands, and could not be written into the audit log".into()))
    }

    async fn say(&self, word: impl Fn(&Told) -> Result<Change, Refused>) -> Result<(), WordError> {
        for _ in 0..TRIES {
            let told = Told::read(&Told::look(&self.layout).ask(&self.link.urgent()).await?)?;
            let change = word(&told)?;
            if matches!(
                told.change(&self.layout, &change, self.clock.now()).make(&self.link.urgent()).await?,
                Outcome::Done(_)
            ) {
                tracing::warn!(incarnation = change.life.incarnation, "an operator has spoken about the store");
                self.life.wake.notify_one();
                return Ok(());
            }
        }
        Err(StoreError::Busy.into())
    }
}

impl super::Life {
    /// No lease is held any more, nor asked for.
    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let state = self.now.load_full();
        self.tell(Now { lease: None, ..(*state).clone() });
    }
}

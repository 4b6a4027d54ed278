//! The signing keys, by an operator's word and by the schedule; and what the log and the feed hear of it.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{Context, Error, Permission, Service, error::whole};
use crate::{
    keyring::{Change, ChangeError, KeyInfo, KeyState, Keyring, Order, Passphrase, Planned, Step, StepError},
    model::{
        Algorithm, Kid, Timestamp,
        audit::{Draft, Event, Outcome},
        denial::{Ends, Entry, Target},
        family::Standing,
    },
    store::{AuditStore, Denial, DenyStore as _, FamilyStore, StoreError},
};

/// A key that is said to be compromised.
#[derive(Debug, Clone)]
pub struct Compromise {
    /// Which.
    pub kid: Kid,
    /// Whether all sessions end as well: for who could read one key may have read more.
    pub end_sessions: bool,
    /// Why, in the operator's words.
    pub reason: Option<Box<str>>,
}

/// What was done about it.
#[derive(Debug, Clone)]
pub struct Compromised {
    /// Which keys are in another state.
    pub change: Change,
    /// What refuses the key's tokens.
    pub entry: Entry,
    /// What ends the sessions.
    pub sessions: Option<Entry>,
}

/// What is said where the keyring has done its part, and the store would not.
fn only_here(error: Error) -> Error {
    match error {
        Error::Unavailable { code, why, retry_after } => {
            let why = format!("the key is given up here, but the feed does not deny it yet: repeat this; {why}");
            Error::Unavailable { code, why, retry_after }
        }
        other => other,
    }
}

impl Service {
    /// The signing keys, their states and times.
    ///
    /// # Errors
    /// The caller may not.
    pub fn keys(&self, ctx: &Context) -> Result<Vec<KeyInfo>, Error> {
        ctx.require(Permission::KeysRead)?;
        Ok(self.keyring.list())
    }

    /// What will happen to them by itself, in the order of its time.
    ///
    /// # Errors
    /// The caller may not.
    pub fn key_plan(&self, ctx: &Context) -> Result<Vec<Planned>, Error> {
        ctx.require(Permission::KeysRead)?;
        Ok(self.keyring.plan())
    }

    /// What an order would do now. Nothing is written.
    ///
    /// # Errors
    /// As [`Service::change_keys`].
    pub async fn preview_keys(&self, ctx: &Context, order: Order, force: bool) -> Result<Change, Error> {
        ctx.require(Permission::KeysRead)?;
        let keyring = self.keyring.clone();
        let preview = tokio::task::spawn_blocking(move || keyring.preview(&order, force));
        Ok(preview.await.map_err(|e| Error::broke_off(&e))??)
    }

    /// Carries an order out, as far as the rule allows it; `force` does not wait for what the rule waits for.
    ///
    /// # Errors
    /// 409 with the earliest instant, 404, 503.
    pub async fn change_keys(self: &Arc<Self>, ctx: &Context, order: Order, force: bool) -> Result<Change, Error> {
        ctx.require(Permission::KeysRotate)?;
        if let Order::Step(Step::Compromise, _) = order {
            return Err(Error::request("step", "a compromise is an order of its own"));
        }
        let forced = if force { ", forced" } else { "" };
        self.with_keys(ctx.draft(), forced, move |keyring| keyring.change(&order, force)).await
    }

    /// Takes a private key in, PKCS#8 as PEM or a JWK, as one more that stands by.
    ///
    /// # Errors
    /// What is wrong with it, 409, 503.
    pub async fn import_key(
        self: &Arc<Self>,
        ctx: &Context,
        key: Zeroizing<String>,
        passphrase: Option<Passphrase>,
        algorithm: Option<Algorithm>,
    ) -> Result<Change, Error> {
        ctx.require(Permission::KeysImport)?;
        let import = move |keyring: &Keyring| keyring.import(key.as_bytes(), passphrase.as_ref(), algorithm);
        self.with_keys(ctx.draft(), IMPORTED, import).await
    }

    /// The private half of a published key, PKCS#8 under the caller's passphrase, as PEM. In the audit log before it
    /// leaves.
    ///
    /// # Errors
    /// 404, 409 if it is not here, 503.
    pub async fn dangerous_export_key(
        &self,
        ctx: &Context,
        kid: Kid,
        passphrase: Passphrase,
    ) -> Result<Zeroizing<String>, Error> {
        ctx.require(Permission::KeysExport)?;
        let (keyring, name) = (self.keyring.clone(), kid.to_string());
        let export = tokio::task::spawn_blocking(move || keyring.dangerous_export(&kid, &passphrase));
        let pem = export.await.map_err(|e| Error::broke_off(&e))??;
        self.store.record(Event::KeyExported, Outcome::Done, Some(name.into()), ctx.draft()).await?;
        Ok(pem)
    }

    /// A key is in other hands: the standby signs if it did, it leaves the JWKS, its private half is destroyed, and the
    /// feed denies it for ever. What of it is durable stays so if the rest cannot be done; asking again does the rest, and
    /// so does the service by itself. Idempotent.
    ///
    /// # Errors
    /// 404, 503.
    pub async fn compromise_key(self: &Arc<Self>, ctx: &Context, order: Compromise) -> Result<Compromised, Error> {
        self.permit_compromise(ctx, &order)?;
        // On a task of its own: a caller that hangs up must not leave half of it.
        let (service, draft) = (self.clone(), ctx.draft());
        let work = tokio::spawn(async move { service.give_up(order, draft).await });
        work.await.map_err(|e| Error::broke_off(&e))?
    }

    /// What that would do to the keys. Nothing is written.
    ///
    /// # Errors
    /// As [`Service::compromise_key`].
    pub async fn preview_compromise(&self, ctx: &Context, order: &Compromise) -> Result<Change, Error> {
        self.permit_compromise(ctx, order)?;
        if self.keyring.state_of(&order.kid) == Some(KeyState::Compromised) {
            return Ok(Change { active: self.keyring.signer().kid().clone(), moved: Vec::new() });
        }
        let (keyring, order) = (self.keyring.clone(), Order::Step(Step::Compromise, order.kid.clone()));
        let preview = tokio::task::spawn_blocking(move || keyring.preview(&order, true));
        Ok(preview.await.map_err(|e| Error::broke_off(&e))??)
    }

    fn permit_compromise(&self, ctx: &Context, order: &Compromise) -> Result<(), Error> {
        ctx.require(Permission::KeysCompromise)?;
        if order.end_sessions {
            ctx.require(Permission::RevokeAll)?;
        }
        Ok(())
    }

    async fn give_up(self: &Arc<Self>, order: Compromise, draft: Draft) -> Result<Compromised, Error> {
        let Compromise { kid, end_sessions, reason } = order;
        // First another key signs: were this one denied first, what is minted in between would be refused.
        let change = self.give_up_key(kid.clone(), draft.clone()).await?;
        let entry = self.deny_key(kid, change.is_empty(), reason.clone(), draft.clone()).await.map_err(only_here)?;
        let sessions = if end_sessions { Some(self.end_all_sessions(reason, draft).await?) } else { None };
        Ok(Compromised { change, entry, sessions })
    }

    /// For who could read one key may have read more.
    pub(super) async fn end_all_sessions(&self, reason: Option<Box<str>>, audit: Draft) -> Result<Entry, Error> {
        let (target, ends) = (Target::All, Ends::Sessions);
        let entry = self.denylist.deny(Denial { target, ends, before: None, expires: None, reason, audit }).await?;
        self.metrics.revocation("all");
        Ok(entry)
    }

    async fn give_up_key(self: &Arc<Self>, kid: Kid, draft: Draft) -> Result<Change, Error> {
        let order = Order::Step(Step::Compromise, kid);
        let compromise = move |keyring: &Keyring| match keyring.change(&order, true) {
            // Whoever asked first has done it, perhaps at this very moment.
            Err(ChangeError::Refused(StepError::Illegal { state: KeyState::Compromised, .. })) => {
                Ok(Change { active: keyring.signer().kid().clone(), moved: Vec::new() })
            }
            other => other,
        };
        self.change_and_tell(draft, "", compromise).await
    }

    /// `again`: the key had been given up before.
    async fn deny_key(&self, kid: Kid, again: bool, reason: Option<Box<str>>, audit: Draft) -> Result<Entry, Error> {
        let told = self.denylist.denies_key(&kid).await?;
        let (target, ends) = (Target::Key(kid.clone()), Ends::Tokens);
        let denial = Denial { target, ends, before: None, expires: None, reason, audit: audit.clone() };
        let entry = self.denylist.deny(denial).await?;
        if !told {
            self.metrics.revocation("key");
        }
        if again && !told {
            // The store would not have it when the key was given up.
            self.note_key_event(Event::KeyCompromised, kid.to_string(), audit).await;
        }
        self.denied_keys.lock().unwrap_or_else(PoisonError::into_inner).insert(kid);
        Ok(entry)
    }

    /// A denied key also leaves the keyring, so that it stays out even if the store should lose the entry.
    pub(super) async fn give_up_denied(self: &Arc<Self>, kid: Kid, draft: Draft) -> Result<(), Error> {
        let service = self.clone();
        let work = tokio::spawn(async move { service.give_up_key(kid, draft).await });
        work.await.map_err(|e| Error::broke_off(&e))?.map(drop)
    }

    /// Does it on a task of its own: a caller that hangs up must not leave a change without its record.
    async fn with_keys(
        self: &Arc<Self>,
        draft: Draft,
        note: &'static str,
        work: impl FnOnce(&Keyring) -> Result<Change, ChangeError> + Send + 'static,
    ) -> Result<Change, Error> {
        if self.store.standing() != Standing::Whole {
            return Err(StoreError::NotWhole.into());
        }
        let service = self.clone();
        let work = tokio::spawn(async move { service.change_and_tell(draft, note, work).await });
        work.await.map_err(|e| Error::broke_off(&e))?
    }

    async fn change_and_tell(
        &self,
        draft: Draft,
        note: &'static str,
        work: impl FnOnce(&Keyring) -> Result<Change, ChangeError> + Send + 'static,
    ) -> Result<Change, Error> {
        let keyring = self.keyring.clone();
        let changed = tokio::task::spawn_blocking(move || work(&keyring)).await;
        // Whatever became of it: the feed must not name another key set than the one that is served.
        self.follow_keys();
        let change = changed.map_err(|e| Error::broke_off(&e))??;
        self.tell_of_keys(&change, note, draft).await;
        Ok(change)
    }

    /// Done every second or so: what the schedule asks for, and denials that are owed.
    pub(super) async fn tend_keys(self: &Arc<Self>) {
        let (keyring, expired_by) = (self.keyring.clone(), self.store.expired_by());
        // It may write to disk, which must not hold up requests.
        match tokio::task::spawn_blocking(move || keyring.sweep_until(expired_by)).await {
            Ok(Ok(change)) => self.tell_of_keys(&change, "", Draft::default()).await,
            Ok(Err(error)) => {
                tracing::error!(error = whole(&error), "keys could not be retired; they verify a little longer");
            }
            Err(error) => tracing::error!(%error, "housekeeping broke off"),
        }
        if self.store.standing() == Standing::Whole {
            let keyring = self.keyring.clone();
            match tokio::task::spawn_blocking(move || keyring.rotate_if_due()).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(change))) => self.tell_of_keys(&change, ", by the schedule", Draft::default()).await,
                Ok(Err(error)) => {
                    tracing::error!(error = whole(&error), "the keys could not be rotated as scheduled; tried again");
                }
                Err(error) => tracing::error!(%error, "housekeeping broke off"),
            }
            self.give_up_what_is_denied().await;
            self.deny_what_is_owed().await;
        }
        self.warn_of_delay();
        // Whatever became of the one who changed the keys: the node's own verifiers are never far behind.
        self.follow_keys();
    }

    /// Says once that a step of the schedule is late, by more than a program that has only just started may be.
    fn warn_of_delay(&self) {
        let ahead = self.keyring.settings().timing.publish_ahead;
        let grace = ahead + Duration::from_secs(60);
        let late = self.keyring.plan().into_iter().next().filter(|next| self.clock.now().since(next.at) > grace);
        let told = self.keys_late.swap(late.is_some(), Ordering::Relaxed);
        if let Some(Planned { at, step, kid }) = late.filter(|_| !told) {
            let at = at.to_rfc3339();
            tracing::warn!(%kid, %step, at, "a step of the keys' schedule is late; `rescind doctor` and this log say why");
        }
    }

    /// Keys that were put back, as they were before a compromise, come back with the key that was given up.
    async fn give_up_what_is_denied(self: &Arc<Self>) {
        for key in self.keyring.list().into_iter().filter(|key| key.state.is_kept()) {
            let kid = key.kid;
            match self.denylist.denies_key(&kid).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::error!(%kid, state = %key.state, "a key is here again that is denied for ever; it is given up");
                    if let Err(error) = self.give_up_denied(kid.clone(), Draft::default()).await {
                        tracing::error!(%error, %kid, "a key that is denied could not be given up; tried again");
                    }
                }
                Err(error) => tracing::error!(%error, %kid, "whether a key is denied cannot be told; tried again"),
            }
        }
    }

    /// A compromise that was cut off between keyring and store is completed by whoever comes next.
    async fn deny_what_is_owed(&self) {
        let owed: Vec<Kid> = {
            let denied = self.denied_keys.lock().unwrap_or_else(PoisonError::into_inner);
            let compromised = self.keyring.list().into_iter().filter(|k| k.state == KeyState::Compromised);
            compromised.map(|k| k.kid).filter(|kid| !denied.contains(kid)).collect()
        };
        for kid in owed {
            // Denying what is denied leaves no trace.
            if let Err(error) = self.deny_key(kid.clone(), true, None, Draft::default()).await {
                tracing::error!(%error, %kid, "a compromised key could not be denied; tried again");
            }
        }
    }

    /// What happened to the keys stands whether or not the log can be written; the program's own log tells of it then.
    pub(super) async fn tell_of_keys(&self, change: &Change, note: &str, draft: Draft) {
        for moved in &change.moved {
            let kid = &moved.kid;
            let event = match (moved.from, moved.to) {
                // The standby that a rotation makes is told of with it.
                (None, _) if change.moved.len() > 1 => continue,
                (None, _) if note == IMPORTED => Event::KeyImported,
                (None, _) => Event::KeyGenerated,
                (Some(KeyState::Retiring), KeyState::Active) => Event::KeyRolledBack,
                (_, KeyState::Active) => {
                    self.metrics.key_rotated();
                    Event::KeyRotated
                }
                (_, KeyState::Retired) => Event::KeyRetired,
                (_, KeyState::Destroyed) => {
                    // Retired and destroyed in one step.
                    if moved.from == Some(KeyState::Retiring) {
                        self.note_key_event(Event::KeyRetired, kid.to_string(), draft.clone()).await;
                    }
                    Event::KeyDestroyed
                }
                (_, KeyState::Compromised) => Event::KeyCompromised,
                (_, KeyState::Pending | KeyState::Retiring) => continue,
            };
            let cause = match (event, change.now(KeyState::Retiring).next()) {
                (Event::KeyRotated | Event::KeyRolledBack, Some(old)) => format!("{kid} signs, {old} retires{note}"),
                (Event::KeyRotated, None) => format!("{kid} signs{note}"),
                _ => kid.to_string(),
            };
            tracing::info!(%kid, state = %moved.to, note, "signing key moved on");
            self.note_key_event(event, cause, draft.clone()).await;
        }
    }

    async fn note_key_event(&self, event: Event, cause: String, draft: Draft) {
        if let Err(error) = self.store.record(event, Outcome::Done, Some(cause.into()), draft).await {
            tracing::error!(%error, ?event, "a key event is not in the audit log");
        }
    }

    /// Takes the measurements of keys that stand for an instant.
    pub(super) fn measure_keys(&self) {
        let (now, active) = (self.clock.now(), self.keyring.active());
        let next = self.keyring.plan().first().map(|planned| planned.at);
        let seconds = |d: Duration| d.as_secs_f64();
        let age = active.activated.map_or(0.0, |at| seconds(now.since(at)));
        let overdue = next.map_or(0.0, |at: Timestamp| seconds(now.since(at)));
        self.metrics.keys(age, next.map_or(f64::INFINITY, |at| seconds(at.since(now))), overdue);
    }
}

/// Tells a key that was brought in from one that was made here.
const IMPORTED: &str = ", brought in";

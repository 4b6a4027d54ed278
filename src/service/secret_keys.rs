//! The symmetric keys, by an operator's word: replaced, given up, and what is owed to the store for it.
//!
//! Each order goes the same way, so that it may be cut off anywhere: first a new key is in use; then what must be in the
//! store is there; only then the old one goes. Asking again does the rest.

use std::sync::Arc;

use super::{Context, Error, Permission, Service};
use crate::{
    keyring::{ChangeError, Keyring, Renewal, SecretInfo, SecretKind},
    model::{
        Timestamp,
        audit::{Draft, Event, Outcome},
        denial::Entry,
        family::Standing,
    },
    store::{AuditStore, FamilyStore, StoreError},
};

/// A symmetric key that is said to be compromised.
#[derive(Debug, Clone)]
pub struct SecretCompromise {
    /// What it is for.
    pub kind: SecretKind,
    /// Whether all sessions end as well.
    pub end_sessions: bool,
    /// Why, in the operator's words.
    pub reason: Option<Box<str>>,
}

/// What was done to the symmetric keys.
#[derive(Debug, Clone)]
pub struct SecretChange {
    /// In use from now on.
    pub made: SecretInfo,
    /// Dropped.
    pub gone: Vec<SecretInfo>,
    /// What ends the sessions.
    pub sessions: Option<Entry>,
}

impl Service {
    /// What may be told of the symmetric keys, kind by kind, the one in use last.
    ///
    /// # Errors
    /// The caller may not.
    pub async fn secret_keys(&self, ctx: &Context) -> Result<Vec<SecretInfo>, Error> {
        ctx.require(Permission::KeysRead)?;
        self.on_disk(|keyring| Ok(keyring.secrets())).await
    }

    /// Puts a new key in use; the one before goes on opening and verifying what it made.
    ///
    /// # Errors
    /// 409 if too many are kept, 503.
    pub async fn rotate_secret_key(self: &Arc<Self>, ctx: &Context, kind: SecretKind) -> Result<SecretChange, Error> {
        self.permit_rotation(ctx)?;
        let draft = ctx.draft();
        self.in_turn(move |service| async move { service.renew(kind, draft).await }).await
    }

    /// A key is in other hands: another is in use, and the old one is trusted only with what [`SecretKind::exposure`] says
    /// remains. Asking again is harmless.
    ///
    /// # Errors
    /// 400 if sessions do not depend on it and are to end, 503.
    pub async fn compromise_secret_key(
        self: &Arc<Self>,
        ctx: &Context,
        order: SecretCompromise,
    ) -> Result<SecretChange, Error> {
        self.permit_secret_compromise(ctx, &order)?;
        let draft = ctx.draft();
        self.in_turn(move |service| async move { service.give_up_secret(order, draft).await }).await
    }

    /// Says that the keys directory was replaced on purpose: what was made until now under keys that are not here is over,
    /// and refused instead of doubted.
    ///
    /// # Errors
    /// 503.
    pub async fn forget_unknown_keys(
        self: &Arc<Self>,
        ctx: &Context,
        reason: Option<Box<str>>,
    ) -> Result<Timestamp, Error> {
        self.permit_forgetting(ctx)?;
        let draft = ctx.draft();
        let forget = async move |service: Arc<Self>| {
            service.store.record(Event::UnknownKeysForgotten, Outcome::Done, reason, draft).await?;
            let until = service.latest()?;
            service.on_disk(move |keyring| Ok(keyring.forget_unknown(until)?)).await?;
            Ok(until)
        };
        self.in_turn(forget).await
    }

    /// Whether the caller may have a symmetric key replaced.
    ///
    /// # Errors
    /// It may not.
    pub fn permit_rotation(&self, ctx: &Context) -> Result<(), Error> {
        ctx.require(Permission::KeysRotate)
    }

    /// Whether the caller may have this done.
    ///
    /// # Errors
    /// It may not, or it makes no sense.
    pub fn permit_secret_compromise(&self, ctx: &Context, order: &SecretCompromise) -> Result<(), Error> {
        ctx.require(Permission::KeysCompromise)?;
        if !order.end_sessions {
            return Ok(());
        }
        ctx.require(Permission::RevokeAll)?;
        match order.kind.exposure().with_end_sessions {
            Some(_) => Ok(()),
            None => Err(Error::request("end_sessions", "no session depends on this key")),
        }
    }

    /// Whether the caller may have what is unknown refused.
    ///
    /// # Errors
    /// It may not.
    pub fn permit_forgetting(&self, ctx: &Context) -> Result<(), Error> {
        ctx.require(Permission::KeysCompromise)?;
        ctx.require(Permission::RevokeAll)
    }

    async fn renew(self: &Arc<Self>, kind: SecretKind, draft: Draft) -> Result<SecretChange, Error> {
        let (latest, oldest) = (self.latest()?, self.families.oldest().await?);
        let made = self.on_disk(move |keyring| keyring.renew_secret(kind, latest, oldest, Renewal::Rotation)).await?;
        self.tell_of_secret(Event::SecretKeyRotated, &made, None, draft).await?;
        let gone = self.on_disk(move |keyring| Ok(keyring.drop_unneeded_secrets(kind, oldest)?)).await?;
        Ok(SecretChange { made, gone, sessions: None })
    }

    async fn give_up_secret(self: &Arc<Self>, order: SecretCompromise, draft: Draft) -> Result<SecretChange, Error> {
        let SecretCompromise { kind, end_sessions, reason } = order;
        let (latest, oldest) = (self.latest()?, self.families.oldest().await?);
        let what_for = if end_sessions { Renewal::LastResort } else { Renewal::Compromise };
        let made = self.on_disk(move |keyring| keyring.renew_secret(kind, latest, oldest, what_for)).await?;
        // The head of the audit log is signed by the new key with this record, the book of clients is sealed under it: what
        // the old one signed and sealed is not needed by the next start.
        self.tell_of_secret(Event::SecretKeyCompromised, &made, reason.clone(), draft.clone()).await?;
        let sessions = if end_sessions { Some(self.end_all_sessions(reason, draft).await?) } else { None };
        // By the store's stamps: the clock may have been put back since sessions were opened.
        let ended = sessions.as_ref().map(|entry| entry.before.max(self.clock.now()));
        let give_up = move |keyring: &Keyring| {
            let mut gone = keyring.give_up_secrets(kind, ended)?;
            gone.extend(keyring.drop_unneeded_secrets(kind, oldest)?);
            Ok(gone)
        };
        let gone = self.on_disk(give_up).await?;
        Ok(SecretChange { made, gone, sessions })
    }

    /// The record, in one step with the book of clients if that is sealed anew.
    async fn tell_of_secret(
        self: &Arc<Self>,
        event: Event,
        made: &SecretInfo,
        reason: Option<Box<str>>,
        draft: Draft,
    ) -> Result<(), Error> {
        let mut cause = match (&made.feed, &made.audit) {
            (Some(feed), Some(audit)) => format!("feed: {feed} signs it, {audit} the audit log"),
            _ => format!("{}: {} is in use", made.kind, made.name()),
        };
        if let Some(reason) = reason {
            cause.push_str(": ");
            cause.push_str(&reason);
        }
        tracing::info!(kind = %made.kind, id = made.name(), ?event, "a symmetric key was replaced");
        match made.kind {
            SecretKind::Sealing => self.reseal_book(event, cause.into(), draft).await,
            _ => Ok(self.store.record(event, Outcome::Done, Some(cause.into()), draft).await?),
        }
    }

    /// No session was opened later, by whatever clock.
    fn latest(&self) -> Result<Timestamp, Error> {
        Ok(self.clock.now().max(self.store.stamped()?))
    }

    /// One order after the other, each on a task of its own: a caller that hangs up must not leave half of it.
    async fn in_turn<T: Send + 'static, F: Future<Output = Result<T, Error>> + Send>(
        self: &Arc<Self>,
        order: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T, Error> {
        if self.store.standing() != Standing::Whole {
            return Err(StoreError::NotWhole.into());
        }
        let service = self.clone();
        let work = tokio::spawn(async move {
            let turn = service.secret_orders.clone().lock_owned().await;
            let done = order(service).await;
            drop(turn);
            done
        });
        work.await.map_err(|e| Error::broke_off(&e))?
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Keyring) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, Error> {
        let keyring = self.keyring.clone();
        let done = tokio::task::spawn_blocking(move || work(&keyring)).await;
        Ok(done.map_err(|e| Error::broke_off(&e))??)
    }
}

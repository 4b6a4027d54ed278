//! What operators do: revoke, rotate, look back.

use std::sync::Arc;

use super::{Context, Error, Permission, Service, alerts::Often};
use crate::{
    keyring::{KeyInfo, RotateError, Rotated},
    model::{
        Kid, Subject, Timestamp,
        audit::{Draft, Event, Outcome},
        denial::{Ends, Entry, Target},
        family::Standing,
    },
    store::{AuditPage, AuditQuery, AuditStore, Denial, EvidenceStore, FamilyStore, Page, SignedHead, StoreError},
};

/// A revocation that is asked for.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// What.
    pub target: Target,
    /// The subject by its name, for the audit log: the target holds only its reference.
    pub subject: Option<Subject>,
    /// What a cut-off ends; by default sessions.
    pub ends: Option<Ends>,
    /// Up to when; by default now.
    pub before: Option<Timestamp>,
    /// Why, in the operator's words.
    pub reason: Option<Box<str>>,
}

fn broke_off(e: tokio::task::JoinError) -> Error {
    let retry_after = std::time::Duration::from_secs(5);
    Error::Unavailable { code: "keys_unavailable", why: format!("the work on the keys broke off: {e}"), retry_after }
}

/// A part of the denylist.
pub type RevocationPage = Page;

impl Service {
    /// Revokes. Acknowledged means durable, and refused by introspection and refresh from here on.
    ///
    /// # Errors
    /// What is wrong with it, 409 for the key that signs, 503.
    pub async fn revoke(self: &Arc<Self>, ctx: &Context, revocation: Revocation) -> Result<Entry, Error> {
        let ends = self.permit(ctx, &revocation)?;
        let Revocation { target, subject, before, reason, .. } = revocation;
        let kind = target.kind();
        let entry = match target {
            Target::Session(id) => self.revoke_session(ctx, id, reason).await?,
            target => {
                let mut audit = ctx.draft();
                audit.subject = subject;
                if let Target::Client(client) = &target {
                    audit.client = Some(client.clone());
                }
                let key = if let Target::Key(kid) = &target { Some(kid.clone()) } else { None };
                let entry = self.denylist.deny(Denial { target, ends, before, expires: None, reason, audit }).await?;
                if let Some(kid) = key {
                    let service = self.clone();
                    tokio::spawn(async move { service.retire_denied(kid).await }).await.map_err(broke_off)??;
                }
                entry
            }
        };
        self.metrics.revocation(kind);
        self.count(Often::Revoked(ctx.caller.client.id.clone()));
        Ok(entry)
    }

    /// A session's revocation answers with an entry also when none of its tokens can be alive any more.
    async fn revoke_session(
        &self,
        ctx: &Context,
        id: crate::model::SessionId,
        reason: Option<Box<str>>,
    ) -> Result<Entry, Error> {
        let mut draft = ctx.draft();
        if let Some(session) = self.families.find(id).await? {
            (draft.client, draft.subject) = (Some(session.identity.client), Some(session.identity.subject));
        }
        let closed = self.families.close(id, reason.clone(), draft.clone()).await?;
        match closed.entry {
            Some(entry) => Ok(entry),
            None => {
                let (target, ends) = (Target::Session(id), Ends::Sessions);
                let denial = Denial { target, ends, before: None, expires: None, reason, audit: draft };
                Ok(self.denylist.deny(denial).await?)
            }
        }
    }

    /// Live entries of the denylist, in order.
    ///
    /// # Errors
    /// 503.
    pub async fn revocations(&self, ctx: &Context, after: u64, limit: usize) -> Result<RevocationPage, Error> {
        ctx.require(Permission::RevocationsRead)?;
        Ok(self.denylist.entries(after, limit).await?)
    }

    /// The signing keys, their states and times.
    ///
    /// # Errors
    /// The caller may not.
    pub fn keys(&self, ctx: &Context) -> Result<Vec<KeyInfo>, Error> {
        ctx.require(Permission::KeysRead)?;
        Ok(self.keyring.list())
    }

    /// Makes the standby sign. Refused before it has been published long enough, unless forced.
    ///
    /// # Errors
    /// 409 with the earliest instant, 503.
    pub async fn rotate(self: &Arc<Self>, ctx: &Context, force: bool) -> Result<Rotated, Error> {
        ctx.require(Permission::KeysRotate)?;
        if self.store.standing() != Standing::Whole {
            return Err(StoreError::NotWhole.into());
        }
        // On a task of its own: a caller that hangs up must not leave a rotation without its record.
        let (service, draft) = (self.clone(), ctx.draft());
        tokio::spawn(async move { service.rotate_and_tell(force, draft).await }).await.map_err(broke_off)?
    }

    async fn rotate_and_tell(&self, force: bool, draft: Draft) -> Result<Rotated, Error> {
        let keyring = self.keyring.clone();
        let rotated = tokio::task::spawn_blocking(move || keyring.rotate(force)).await.map_err(broke_off)?;
        self.follow_keys();
        let rotated = rotated?;
        self.metrics.key_rotated();
        let forced = if force { ", forced" } else { "" };
        let cause = format!("{} signs, {} retires{forced}", rotated.active, rotated.retiring);
        tracing::info!(active = %rotated.active, retiring = %rotated.retiring, force, "signing key rotated");
        self.note_key_event(Event::KeyRotated, cause, draft).await;
        Ok(rotated)
    }

    /// A denied key also leaves the keyring, so that it stays out even if the store should lose the entry.
    async fn retire_denied(&self, kid: Kid) -> Result<(), Error> {
        let keyring = self.keyring.clone();
        let retired = tokio::task::spawn_blocking(move || keyring.retire(&kid)).await.map_err(broke_off)?;
        let retired = retired.map_err(RotateError::Failed)?;
        self.keys_retired(&retired).await;
        Ok(())
    }

    pub(super) async fn keys_retired(&self, retired: &[Kid]) {
        self.follow_keys();
        for kid in retired {
            tracing::info!(%kid, "signing key retired");
            self.note_key_event(Event::KeyRetired, kid.to_string(), Draft::default()).await;
        }
    }

    /// What happened to the key stands whether or not the log can be written; the program's own log tells of it then.
    async fn note_key_event(&self, event: Event, cause: String, draft: Draft) {
        if let Err(error) = self.store.record(event, Outcome::Done, Some(cause.into()), draft).await {
            tracing::error!(%error, ?event, "a key event is not in the audit log");
        }
    }

    /// The audit log.
    ///
    /// # Errors
    /// 503.
    pub async fn audit(&self, ctx: &Context, query: AuditQuery) -> Result<AuditPage, Error> {
        ctx.require(Permission::AuditRead)?;
        Ok(self.store.audit(query).await?)
    }

    /// The audit log's head, signed.
    ///
    /// # Errors
    /// 503.
    pub async fn audit_head(&self, ctx: &Context) -> Result<SignedHead, Error> {
        ctx.require(Permission::AuditRead)?;
        Ok(self.store.audit_head().await?)
    }
}

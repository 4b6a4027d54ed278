//! What operators do: revoke, look back.

use std::sync::Arc;

use super::{Context, Error, Permission, Service, alerts::Often};
use crate::{
    model::{
        Subject, Timestamp,
        denial::{Ends, Entry, Target},
    },
    store::{AuditPage, AuditQuery, AuditStore, Denial, EvidenceStore, Page, SignedHead},
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
                    self.give_up_denied(kid, ctx.draft()).await?;
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

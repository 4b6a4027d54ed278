//! What operators do: revoke, rotate, look back.

use super::{Context, Error, Permission, Service};
use crate::{
    keyring::{KeyInfo, Rotated},
    model::{
        Kid, Timestamp,
        audit::{Draft, Event, Outcome},
        denial::{Ends, Entry, Target},
    },
    store::{AuditPage, AuditQuery, AuditStore, Denial, Page},
};

/// A revocation that is asked for.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// What.
    pub target: Target,
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
    pub async fn revoke(&self, ctx: &Context, revocation: Revocation) -> Result<Entry, Error> {
        let Revocation { target, ends, before, reason } = revocation;
        ctx.require(Permission::Revoke)?;
        let kind = target.kind();
        if !target.is_cut_off() && before.is_some() {
            return Err(Error::request("before", "only a cut-off (subject, client, all) has an instant"));
        }
        // A key signs tokens, not sessions: those who hold refresh tokens fetch new ones from the new key.
        let fixed = match target {
            Target::Token(_) | Target::Key(_) => Some(Ends::Tokens),
            Target::Session(_) => Some(Ends::Sessions),
            _ => None,
        };
        if let (Some(fixed), Some(asked)) = (fixed, ends)
            && fixed != asked
        {
            return Err(Error::request("ends", format!("cannot be chosen for kind {kind}; leave it out")));
        }
        let ends = ends.or(fixed).unwrap_or_default();
        let entry = match target {
            Target::Session(id) => self.revoke_session(ctx, id, reason).await?,
            target => {
                let mut audit = ctx.draft();
                if let Target::Client(client) = &target {
                    audit.client = Some(client.clone());
                }
                self.denylist.deny(Denial { target, ends, before, expires: None, reason, audit }).await?
            }
        };
        self.metrics.revocation(kind);
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
        ctx.require(Permission::Revoke)?;
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
    pub async fn rotate(&self, ctx: &Context, force: bool) -> Result<Rotated, Error> {
        ctx.require(Permission::KeysRotate)?;
        let keyring = self.keyring.clone();
        let rotated = tokio::task::spawn_blocking(move || keyring.rotate(force)).await;
        let rotated = rotated.map_err(|e| Error::Unavailable {
            code: "keys_unavailable",
            why: e.to_string(),
            retry_after: std::time::Duration::from_secs(5),
        })??;
        self.follow_keys();
        self.metrics.key_rotated();
        let cause =
            format!("{} signs, {} retires{}", rotated.active, rotated.retiring, if force { ", forced" } else { "" });
        tracing::info!(active = %rotated.active, retiring = %rotated.retiring, force, "signing key rotated");
        self.note_key_event(Event::KeyRotated, cause, ctx.draft()).await;
        Ok(rotated)
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
}

//! Changing clients at run time: disable, enable, replace secrets. Each change is one durable step, and counts
//! everywhere before it is acknowledged.

use std::{sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{
    Client, LiveSecret, MAX_PROOFS, Method, SecretHash, Standing, generate_secret,
    overrides::{AT_ONCE, Disabled, Override, Overrides},
};
use crate::{
    keyring::ChangeError,
    model::{
        Audience, ClientId, Timestamp,
        audit::{Draft, Event},
        denial::{Ends, Entry, Target},
        time::format_duration,
    },
    service::{Context, Error, Permission, Service},
    store::{BookChange, BookChanged, ClientStore, Denial},
};

/// For how long old secrets may go on beside a new one.
const LONGEST_OVERLAP: Duration = Duration::from_secs(90 * 86_400);

/// A client as it stands.
#[derive(Clone, Debug)]
pub struct ClientView {
    /// As it is configured.
    pub client: Arc<Client>,
    /// None: it may come in.
    pub disabled: Option<DisabledSince>,
    /// By which ways it can prove itself; by none if it is public.
    pub methods: Vec<Method>,
    /// Its live secrets: no more than their names.
    pub secrets: Vec<SecretView>,
}

/// Since when a client is disabled, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisabledSince {
    /// When.
    pub since: Timestamp,
    /// The client that asked for it.
    pub by: ClientId,
    /// Why.
    pub reason: Option<Box<str>>,
}

/// A live secret, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretView {
    /// The first digits of its hash.
    pub id: String,
    /// Whether it was made at run time; else it is in the configuration.
    pub rotated: bool,
    /// None: until it is dropped.
    pub until: Option<Timestamp>,
}

/// What becomes of the secrets before a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OldSecrets {
    /// They stay good until they are dropped.
    #[default]
    Keep,
    /// They end after that time.
    DropAfter(Duration),
    /// They end at once.
    Drop,
}

/// A new secret. It is told once.
pub struct NewSecret {
    /// The secret.
    pub secret: Zeroizing<String>,
    /// Its name.
    pub id: String,
    /// How the client stands with it.
    pub client: ClientView,
}

impl ClientView {
    fn of(standing: &Standing, now: Timestamp) -> Self {
        let secret = |s: &LiveSecret| SecretView { id: s.hash.id(), rotated: s.rotated, until: s.until };
        let disabled = |d: &Disabled| DisabledSince { since: d.since, by: d.by.clone(), reason: d.reason.clone() };
        Self {
            client: standing.client.clone(),
            disabled: standing.disabled.as_ref().map(disabled),
            methods: standing.methods(now),
            secrets: standing.live(now).map(secret).collect(),
        }
    }
}

/// A change that is to be written: the client's new page, and what the audit log says of it.
struct Change {
    page: Override,
    event: Event,
    cause: Option<Box<str>>,
    denial: Option<Denial>,
}

impl Service {
    /// All clients, by name.
    ///
    /// # Errors
    /// The caller may not, or 503.
    pub fn list_clients(&self, ctx: &Context) -> Result<Vec<ClientView>, Error> {
        ctx.require(Permission::ClientsRead)?;
        let now = self.clock.now();
        Ok(self.known_clients()?.all().map(|s| ClientView::of(s, now)).collect())
    }

    /// One client.
    ///
    /// # Errors
    /// The caller may not, 404, or 503.
    pub fn show_client(&self, ctx: &Context, id: &ClientId) -> Result<ClientView, Error> {
        ctx.require(Permission::ClientsRead)?;
        Ok(ClientView::of(&self.standing_of(id)?, self.clock.now()))
    }

    /// Refuses a client from now on, everywhere. With `end_sessions`, its sessions and its tokens end in the same step.
    ///
    /// # Errors
    /// The caller may not, 404, 409 for the caller itself, or 503.
    pub async fn disable_client(
        self: &Arc<Self>,
        ctx: &Context,
        id: &ClientId,
        end_sessions: bool,
        reason: Option<Box<str>>,
    ) -> Result<(ClientView, Option<Entry>), Error> {
        ctx.require(Permission::ClientsWrite)?;
        if end_sessions {
            // It is a cut-off of the client.
            ctx.require(Permission::RevokeClient)?;
        }
        if *id == ctx.caller.client.id {
            let hint = "a client cannot disable itself: nobody might be left to enable it; ask with another".into();
            return Err(Error::Conflict { code: "own_client", hint, earliest: None });
        }
        let now = self.clock.now();
        let mut audit = ctx.draft();
        audit.client = Some(id.clone());
        let denial = end_sessions.then(|| Denial {
            target: Target::Client(id.clone()),
            ends: Ends::Sessions,
            before: None,
            expires: None,
            reason: reason.clone(),
            audit,
        });
        let (standing, entry) = self
            .change_client(ctx, id, |standing, mut page| {
                if standing.disabled.is_some() && denial.is_none() {
                    return Ok(None);
                }
                let by = ctx.caller.client.id.clone();
                // Disabling again does not move the instant since when it is refused.
                page.disabled = page.disabled.or_else(|| Some(Disabled { since: now, by, reason: reason.clone() }));
                Ok(Some(Change { page, event: Event::ClientDisabled, cause: reason, denial }))
            })
            .await?;
        if entry.is_some() {
            self.metrics.revocation("client");
        }
        Ok((ClientView::of(&standing, now), entry))
    }

    /// Lets a client in again. What has been ended stays so.
    ///
    /// # Errors
    /// The caller may not, 404, 409 if the configuration disables it, or 503.
    pub async fn enable_client(
        self: &Arc<Self>,
        ctx: &Context,
        id: &ClientId,
        reason: Option<Box<str>>,
    ) -> Result<ClientView, Error> {
        ctx.require(Permission::ClientsWrite)?;
        let (standing, _) = self
            .change_client(ctx, id, |standing, mut page| {
                if standing.client.disabled {
                    let hint = "the configuration disables it: change it there".into();
                    return Err(Error::Conflict { code: "disabled_in_configuration", hint, earliest: None });
                }
                if standing.disabled.is_none() {
                    return Ok(None);
                }
                page.disabled = None;
                Ok(Some(Change { page, event: Event::ClientEnabled, cause: reason, denial: None }))
            })
            .await?;
        Ok(ClientView::of(&standing, self.clock.now()))
    }

    /// Makes a new secret for a client, and tells it this once.
    ///
    /// # Errors
    /// The caller may not, or may less than that client; 404; 409 for a client without secrets, or with two; 503.
    pub async fn rotate_secret(
        self: &Arc<Self>,
        ctx: &Context,
        id: &ClientId,
        old: OldSecrets,
    ) -> Result<NewSecret, Error> {
        ctx.require(Permission::ClientsWrite)?;
        if matches!(old, OldSecrets::DropAfter(after) if after > LONGEST_OVERLAP) {
            let hint = format!("at most {}", format_duration(LONGEST_OVERLAP));
            return Err(Error::request("drop_old_after", hint));
        }
        let secret = generate_secret(&*self.random);
        let hash = SecretHash::of(&secret);
        let now = self.clock.now();
        let ends = match old {
            OldSecrets::Keep => None,
            OldSecrets::DropAfter(after) => Some(now.plus(after)),
            OldSecrets::Drop => Some(AT_ONCE),
        };
        let (standing, _) = self
            .change_client(ctx, id, |standing, mut page| {
                check_rotation(standing, old, now)?;
                no_more_than_the_caller(&ctx.caller.client, &standing.client)?;
                for live in standing.live(now) {
                    ends.into_iter().for_each(|from| page.drop_secret(live.hash, from));
                }
                page.secrets.push(hash);
                page.tidy(&standing.client.secrets, now);
                let cause = Some(format!("secret {} is new", hash.id()).into());
                Ok(Some(Change { page, event: Event::ClientSecretRotated, cause, denial: None }))
            })
            .await?;
        Ok(NewSecret { id: hash.id(), secret, client: ClientView::of(&standing, now) })
    }

    /// Drops one secret of a client at once, for good, whatever the clock says later.
    ///
    /// # Errors
    /// The caller may not, 404, 409 for the last one of a client that has nothing else, or 503.
    pub async fn drop_secret(
        self: &Arc<Self>,
        ctx: &Context,
        id: &ClientId,
        secret: &str,
    ) -> Result<ClientView, Error> {
        ctx.require(Permission::ClientsWrite)?;
        let now = self.clock.now();
        let (standing, _) = self
            .change_client(ctx, id, |standing, mut page| {
                let live: Vec<_> = standing.live(now).collect();
                let Some(found) = live.iter().find(|l| l.hash.id() == secret) else {
                    return Err(Error::NotFound("no live secret of this id"));
                };
                if live.len() == 1 && standing.methods(now) == [Method::Secret] {
                    let hint = "it is the last one, and the client has neither key nor certificate; make another first, \
                                or disable the client";
                    return Err(Error::Conflict { code: "last_secret", hint: hint.into(), earliest: None });
                }
                page.drop_secret(found.hash, AT_ONCE);
                page.tidy(&standing.client.secrets, now);
                let cause = Some(format!("secret {secret} is dropped").into());
                Ok(Some(Change { page, event: Event::ClientSecretDropped, cause, denial: None }))
            })
            .await?;
        Ok(ClientView::of(&standing, now))
    }

    fn standing_of(&self, id: &ClientId) -> Result<Standing, Error> {
        let clients = self.known_clients()?;
        clients.standing(id).cloned().ok_or(Error::NotFound("no client of this id is configured"))
    }

    /// One change after the other. `plan` is given how the client stands and its page of the book; `None` from it says
    /// that there is nothing to change.
    async fn change_client(
        self: &Arc<Self>,
        ctx: &Context,
        id: &ClientId,
        plan: impl FnOnce(&Standing, Override) -> Result<Option<Change>, Error>,
    ) -> Result<(Standing, Option<Entry>), Error> {
        let writer = self.clients.writer.clone().lock_owned().await;
        // Whoever was let in by what a change before this one has dropped changes nothing any more.
        self.still_let_in(&ctx.caller)?;
        let state = self.clients.now().clone();
        let (standing, book) = (self.standing_of(id)?, state.book().ok_or_else(Error::clients_unknown)?);
        let page = book.of(id).cloned().unwrap_or_default();
        let Some(Change { page, event, cause, denial }) = plan(&standing, page)? else {
            return Ok((standing, None));
        };
        let Some(next) = book.amended(id, page) else {
            let hint = "too many clients have been changed at run time; write changes into the configuration".into();
            return Err(Error::Conflict { code: "book_full", hint, earliest: None });
        };
        let sealed = next.seal(&self.keyring.sealer(), &*self.random);
        let mut audit = ctx.draft();
        audit.client = Some(id.clone());
        let change = BookChange { seen: state.stored.clone(), sealed, denial, event, cause, audit };
        // On a task of its own: a caller that hangs up must not leave a change that is durable and does not count.
        let service = self.clone();
        let written = tokio::spawn(async move {
            let _writer = writer;
            service.write_book(next, change).await
        });
        let entry = written.await.map_err(|e| Error::broke_off(&e))??;
        tracing::info!(client = %id, ?event, by = %ctx.caller.client.id, "a client was changed");
        Ok((self.standing_of(id)?, entry))
    }

    /// Seals the book anew, in the store and beside the keys: after this the sealing key in use opens it, and no other is
    /// needed.
    pub(in crate::service) async fn reseal_book(
        self: &Arc<Self>,
        event: Event,
        cause: Box<str>,
        audit: Draft,
    ) -> Result<(), Error> {
        let _writer = self.clients.writer.clone().lock_owned().await;
        let state = self.clients.now().clone();
        let next = state.book().ok_or_else(Error::clients_unknown)?.next();
        let sealed = next.seal(&self.keyring.sealer(), &*self.random);
        let (seen, cause) = (state.stored.clone(), Some(cause));
        let change = BookChange { seen, sealed: sealed.clone(), denial: None, event, cause, audit };
        self.write_book(next, change).await?;
        let keyring = self.keyring.clone();
        let copied = tokio::task::spawn_blocking(move || keyring.keep_client_book(&sealed)).await;
        Ok(copied.map_err(|e| Error::broke_off(&e))?.map_err(ChangeError::from)?)
    }

    async fn write_book(self: &Arc<Self>, next: Overrides, change: BookChange) -> Result<Option<Entry>, Error> {
        let sealed = change.sealed.clone();
        match self.store.amend_book(change).await {
            Ok(BookChanged::Done(entry)) => {
                // Durable. From here on it counts, and only then is it acknowledged.
                self.clients.take_up(next, sealed.clone());
                self.copy_book(sealed).await;
                Ok(entry.map(|entry| *entry))
            }
            Ok(BookChanged::Stale) => {
                self.read_book_again().await;
                let hint = "another node has changed clients; try again".into();
                Err(Error::Conflict { code: "concurrent_change", hint, earliest: None })
            }
            // It may have been written all the same.
            Err(error) => {
                self.read_book_again().await;
                Err(error.into())
            }
        }
    }

    /// Takes up what other nodes have changed about clients.
    pub(in crate::service) async fn hear_of_clients(self: &Arc<Self>) {
        match self.store.client_book() {
            // One that does not open yet may do so with the next version of the keys.
            Ok(stored) if self.clients.is_behind(stored.as_ref()) => self.read_book_again().await,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the store's book of clients cannot be read; tried again"),
        }
    }

    async fn read_book_again(self: &Arc<Self>) {
        let service = self.clone();
        let read = tokio::task::spawn_blocking(move || service.clients.read_again(&*service.store, &service.keyring));
        if let Err(error) = read.await {
            tracing::error!(%error, "the book of clients could not be read again");
        }
    }

    /// The store has it; the copy is for the day on which the store comes back older, or altered.
    async fn copy_book(&self, sealed: Vec<u8>) {
        let keyring = self.keyring.clone();
        let copied = tokio::task::spawn_blocking(move || keyring.keep_client_book(&sealed)).await;
        if let Ok(Err(error)) = copied {
            tracing::error!(%error, "the book of clients could not be copied beside the keys");
        }
    }
}

/// Whoever learns a client's secret can do what that client may.
fn no_more_than_the_caller(caller: &Client, target: &Client) -> Result<(), Error> {
    let bounded = |mine: &Option<Vec<Audience>>, its: &Option<Vec<Audience>>| match (mine, its) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(mine), Some(its)) => its.iter().all(|audience| mine.contains(audience)),
    };
    let scope = match (&caller.scope, &target.scope) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(mine), Some(its)) => mine.covers(its),
    };
    let reaches = scope
        && bounded(&caller.audience, &target.audience)
        && bounded(&caller.introspect_audience, &target.introspect_audience);
    if !reaches {
        return Err(Error::Beyond(format!(
            "client `{}` has a scope or audiences that this client lacks: it cannot have its secret",
            target.id
        )));
    }
    match target.permissions.iter().find(|p| !caller.may(**p)) {
        Some(more) => Err(Error::Beyond(format!(
            "client `{}` has the permission {}, which this client lacks: it cannot have its secret",
            target.id,
            more.name()
        ))),
        None => Ok(()),
    }
}

fn check_rotation(standing: &Standing, old: OldSecrets, now: Timestamp) -> Result<(), Error> {
    if standing.secrets.is_empty() {
        let hint = "it has no secret to replace: it is public, or proves itself by a key; see its configuration".into();
        return Err(Error::Conflict { code: "no_secret", hint, earliest: None });
    }
    if old != OldSecrets::Drop && standing.live(now).count() >= MAX_PROOFS {
        let hint = "two secrets are live; drop one of them first, or all old ones with drop_old".into();
        return Err(Error::Conflict { code: "two_secrets", hint, earliest: None });
    }
    Ok(())
}

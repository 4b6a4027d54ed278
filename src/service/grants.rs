//! Tokens for a grant: a refresh token, or a client's own credentials.

use std::time::Duration;

use super::{Context, Error, Permission, Service, alerts::Often};
use crate::{
    families::{Grant, Presenter, RefreshError, RefreshToken},
    issuer::{AccessToken, Order},
    model::{Scope, SessionId, Subject, claims::CustomClaims, family::Verdict},
};

/// What a successful exchange hands out.
#[derive(Debug)]
pub struct Tokens {
    /// The session, if there is one.
    pub session: Option<SessionId>,
    /// The access token.
    pub access: AccessToken,
    /// Its life.
    pub expires_in: Duration,
    /// The refresh token, if there is a session, and the life of the session without further use.
    pub refresh: Option<(RefreshToken, Duration)>,
    /// What the access token allows.
    pub scope: Scope,
}

impl Service {
    /// Exchanges a refresh token (RFC 6749 §6).
    ///
    /// # Errors
    /// `invalid_grant`, `invalid_scope`, 503.
    pub async fn refresh(&self, ctx: &Context, token: &str, scope: Option<&Scope>) -> Result<Tokens, Error> {
        let presenter = Presenter { client: ctx.caller.client.id.clone(), proven: ctx.caller.is_proven() };
        let mut outcome = self.families.refresh(token, presenter.clone(), scope, ctx.draft()).await;
        if self.has_heard_of_key(&outcome).await {
            outcome = self.families.refresh(token, presenter, scope, ctx.draft()).await;
        }
        self.metrics.refresh(match &outcome {
            Ok(grant) => match grant.verdict {
                Verdict::Retry => "retried",
                Verdict::Heal => "healed",
                _ => "rotated",
            },
            Err(RefreshError::Closed(_)) => "reused",
            Err(RefreshError::Refused(_)) => "refused",
            Err(RefreshError::Scope) => "scope",
            Err(_) => "unavailable",
        });
        match &outcome {
            Ok(grant) => self.count(Often::Renewed(grant.session)),
            Err(RefreshError::Refused(_) | RefreshError::Closed(_)) => {
                if let Some(session) = self.families.named(token) {
                    self.count(Often::RefusedSession(session));
                }
            }
            Err(_) => {}
        }
        match &outcome {
            Ok(grant) if grant.verdict == Verdict::Heal => {
                tracing::warn!(session = %grant.session, "the store had lost rotations; healed");
            }
            Err(error @ RefreshError::Closed(_)) => tracing::warn!(%error, "reuse: a family was closed"),
            _ => {}
        }
        let grant = outcome?;
        self.still_let_in(&ctx.caller)?;
        self.tokens(grant, scope)
    }

    /// A token for the client itself (RFC 6749 §4.4). It has no session and no refresh token.
    ///
    /// # Errors
    /// `unauthorized_client`, `invalid_scope`, 503.
    pub async fn client_credentials(&self, ctx: &Context, scope: Option<Scope>) -> Result<Tokens, Error> {
        let client = &ctx.caller.client;
        if !ctx.caller.is_proven() || !client.may(Permission::ClientCredentials) {
            return Err(Error::GrantType);
        }
        let scope = match (scope, &client.scope) {
            (Some(asked), Some(allowed)) if !allowed.covers(&asked) => {
                return Err(Error::Scope("the scope is wider than this client's"));
            }
            (Some(asked), _) => asked,
            (None, allowed) => allowed.clone().unwrap_or_default(),
        };
        let Some(audience) = client.audience.clone().filter(|a| !a.is_empty()) else {
            return Err(Error::Scope("no audience is configured for this client"));
        };
        let subject: Subject =
            client.id.as_str().parse().expect("a client id is a subject: shorter, and visible ASCII");
        let subject_ref = self.families.refer(&subject);
        let mut draft = ctx.draft();
        (draft.client, draft.subject) = (Some(client.id.clone()), Some(subject.clone()));
        let at = self.denylist.stamp(subject_ref, client.id.clone(), draft).await?;
        self.still_let_in(&ctx.caller)?;
        self.metrics.client_token();
        let access = self.mint(Order {
            subject,
            subject_ref,
            client: client.id.clone(),
            audience,
            scope: scope.clone(),
            session: None,
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            custom: CustomClaims::new(),
            at,
            until: at.plus(self.settings.lives.access),
        })?;
        Ok(Tokens { session: None, access, expires_in: self.settings.lives.access, refresh: None, scope })
    }

    pub(super) fn tokens(&self, grant: Grant, scope: Option<&Scope>) -> Result<Tokens, Error> {
        self.still_enabled(&grant.identity.client)?;
        let Grant { session, identity, refresh, refresh_until, at, access_until, .. } = grant;
        let scope = scope.unwrap_or(&identity.scope).clone();
        let access = self.mint(Order {
            subject_ref: self.families.refer(&identity.subject),
            subject: identity.subject,
            client: identity.client,
            audience: identity.audience,
            scope: scope.clone(),
            session: Some(session),
            auth_time: identity.auth_time,
            acr: identity.acr,
            amr: identity.amr,
            custom: serde_json::from_str(&identity.claims).unwrap_or_default(),
            at,
            until: access_until,
        })?;
        let refresh = Some((refresh, refresh_until.since(at)));
        Ok(Tokens { session: Some(session), access, expires_in: access_until.since(at), refresh, scope })
    }
}

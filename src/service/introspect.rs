//! What a token is worth now (RFC 7662), and handing tokens back (RFC 7009). Introspection changes nothing.

use super::{Context, Error, Permission, Service};
use crate::{
    families::{PREFIX, RefreshError, Session},
    model::{Audience, claims::Claims, family::Closure},
    store::DenyStore,
};

/// A token that is active.
#[derive(Debug)]
pub enum Introspection {
    /// An access token.
    Access(Box<Claims>),
    /// A refresh token that could be exchanged now.
    Refresh(Box<Session>),
}

impl Introspection {
    /// For whom it is.
    fn audience(&self) -> &[Audience] {
        match self {
            Self::Access(claims) => &claims.audience,
            Self::Refresh(session) => &session.identity.audience,
        }
    }
}

impl Service {
    /// The token's facts; `None` if it is not active, for whatever reason (RFC 7662 §2.2).
    ///
    /// # Errors
    /// The caller may not, or 503.
    pub async fn introspect(&self, ctx: &Context, token: &str) -> Result<Option<Introspection>, Error> {
        ctx.require(Permission::Introspect)?;
        let found = if token.starts_with(PREFIX) {
            self.introspect_refresh(token).await?
        } else {
            self.introspect_access(token).await?
        };
        // One that is for somebody else is none of its business (RFC 7662 §4).
        let found = found.filter(|found| ctx.caller.client.may_introspect(found.audience()));
        self.metrics.introspection(found.is_some());
        Ok(found)
    }

    async fn introspect_refresh(&self, token: &str) -> Result<Option<Introspection>, Error> {
        match self.families.look(token).await {
            Ok(session) => Ok(Some(Introspection::Refresh(Box::new(session)))),
            Err(RefreshError::Refused(_) | RefreshError::Closed(_)) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    async fn introspect_access(&self, token: &str) -> Result<Option<Introspection>, Error> {
        let Ok(verified) = self.checker.check(token, self.clock.now()) else { return Ok(None) };
        let denied = self.denylist.denies(verified.bearer().clone()).await?;
        Ok((!denied).then(|| Introspection::Access(Box::new(verified.into_inner()))))
    }

    /// Takes a token back at its client's word (RFC 7009): a refresh token ends its session, an access token ends that
    /// token. What is no token, or no longer one, is fine (§2.2).
    ///
    /// # Errors
    /// `invalid_grant` if it is another client's, 503.
    pub async fn revoke_own(&self, ctx: &Context, token: &str) -> Result<(), Error> {
        let client = &ctx.caller.client.id;
        let mut draft = ctx.draft();
        draft.client = Some(client.clone());
        if token.starts_with(PREFIX) {
            return match self.families.end(token, client, draft).await {
                Ok(_) => {
                    self.metrics.revocation("session");
                    Ok(())
                }
                Err(RefreshError::Closed(Closure::OtherClient)) => Err(Error::Grant("another client's")),
                Err(RefreshError::Refused(_) | RefreshError::Closed(_)) => Ok(()),
                Err(other) => Err(other.into()),
            };
        }
        // A clock that is ahead, or was when the token was minted, must not make us acknowledge what we do not do.
        let Ok(verified) = self.lenient.check_now_or_later(token, self.store.expired_by()) else { return Ok(()) };
        if verified.client != *client {
            return Err(Error::Grant("another client's"));
        }
        draft.subject = Some(verified.subject.clone());
        self.denylist.revoke_token(&verified, draft).await?;
        self.metrics.revocation("token");
        Ok(())
    }

    /// The node's own verifiers follow its keyring.
    pub(super) fn follow_keys(&self) {
        let jwks = self.keyring.jwks();
        // Preparing keys takes milliseconds, and this is asked for several times a second.
        for checker in [&self.checker, &self.lenient].into_iter().filter(|checker| !checker.has_keys(&jwks.set)) {
            checker.set_keys(jwks.set.clone());
        }
        self.feed.keys_changed();
    }
}

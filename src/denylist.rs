//! What is denied, and asking it: the meaning of a revocation on top of what a store can do.

use std::sync::Arc;

use crate::{
    keyring::{KeyState, Keyring},
    model::{
        Kid, Timestamp,
        audit::Draft,
        claims::Claims,
        denial::{Bearer, Ends, Entry, SINGLES_PER_CLIENT, SINGLES_PER_SUBJECT, Target},
    },
    store::{Denial, DenyStore, Page, StoreError},
};

/// Why a denial was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DenyError {
    /// The key signs: denying it would refuse every token that is issued from now on.
    #[error("this key signs: give it up instead, and another signs in the same step (`rescind keys compromise KID`)")]
    ActiveKey,
    /// The key stands by: it has signed nothing, and would refuse every token once it signs.
    #[error("this key stands by: give it up instead, and it never signs (`rescind keys compromise KID`)")]
    StandbyKey,
    /// No such key.
    #[error("no key of this kid is known here")]
    UnknownKey,
    /// A cut-off for a later instant would deny what is still to come.
    #[error("the instant lies in the future; leave it out to cut off at this one")]
    Future,
    /// We could not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The denylist of one issuer.
#[derive(Debug)]
pub struct Denylist<S> {
    store: Arc<S>,
    keyring: Arc<Keyring>,
}

impl<S: DenyStore> Denylist<S> {
    /// On this store.
    pub fn new(store: Arc<S>, keyring: Arc<Keyring>) -> Self {
        Self { store, keyring }
    }

    /// Denies a token, a key, or everything up to an instant. Acknowledged means durable.
    ///
    /// # Errors
    /// [`DenyError`].
    pub async fn deny(&self, denial: Denial) -> Result<Entry, DenyError> {
        if let Target::Key(kid) = &denial.target {
            self.permits_key(kid)?;
        }
        self.store.deny(denial).await?.ok_or(DenyError::Future)
    }

    /// Whether a key can be denied.
    ///
    /// # Errors
    /// [`DenyError`].
    pub fn permits_key(&self, kid: &Kid) -> Result<(), DenyError> {
        match self.keyring.state_of(kid) {
            None => Err(DenyError::UnknownKey),
            Some(KeyState::Active) => Err(DenyError::ActiveKey),
            Some(KeyState::Pending) => Err(DenyError::StandbyKey),
            Some(_) => Ok(()),
        }
    }

    /// Denies one token that its client hands back (RFC 7009).
    ///
    /// # Errors
    /// [`DenyError`].
    pub async fn revoke_token(&self, claims: &Claims, audit: Draft) -> Result<Entry, DenyError> {
        let target = Target::Token(claims.token);
        let expires = Some(claims.expires);
        let most = if claims.session.is_some() { SINGLES_PER_SUBJECT } else { SINGLES_PER_CLIENT };
        let denial = Denial { target, ends: Ends::Tokens, before: None, expires, reason: None, audit };
        self.store.deny_of(claims.subject_ref, most, denial).await?.ok_or(DenyError::Future)
    }

    /// Whether a token whose signature has been checked is denied.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn denies(&self, bearer: Bearer) -> Result<bool, StoreError> {
        self.store.denied(bearer).await
    }

    /// Whether a key is denied, for ever.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn denies_key(&self, kid: &Kid) -> Result<bool, StoreError> {
        self.store.denied_key(kid).await
    }

    /// Live entries after a position.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn entries(&self, after: u64, limit: usize) -> Result<Page, StoreError> {
        self.store.entries(after, limit).await
    }

    /// The instant for a client's own token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stamp(
        &self,
        subject: crate::model::SubjectRef,
        client: crate::model::ClientId,
        audit: Draft,
    ) -> Result<Timestamp, StoreError> {
        self.store.stamp(subject, client, audit).await
    }
}

//! Sessions and their refresh tokens: opens them, exchanges them by the family rule, ends them.

use std::sync::Arc;

use crate::{
    clock::{Random, random_bytes},
    keyring::{Keyring, SealError},
    model::{
        ClientId, Scope, SessionId, Subject, SubjectRef, Timestamp,
        audit::Draft,
        family::{Closure, Doubt, Facts, Holder, Lifetimes, Lineage, Refusal, Secret, Verdict, judge},
        session::{Identity, SessionCap},
    },
    store::{
        Amended, ClosedFamily, ClosedOthers, Family, FamilyStore, HeldBack, Opened, Opening, Others, Presentation,
        Sight, StoreError,
    },
};

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod leaked_tests;
mod token;

use token::Parsed;
pub use token::{PREFIX, RefreshToken};

/// How many sessions one step closes at most: others wait for it.
const CLOSED_PER_STEP: usize = 128;
/// How often an exchange that met an amendment looks again.
const STALE_TRIES: usize = 4;

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The subject has as many as it may.
    #[error("the subject has as many sessions as it may")]
    Full,
    /// We could not tell: 503.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a presented refresh token gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// It is no good: `invalid_grant`.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// It is no good, and its family has been closed for it: `invalid_grant`.
    #[error("closed: {0:?}")]
    Closed(Closure),
    /// More was asked for than was granted; nothing was spent: `invalid_scope` (RFC 6749 §6).
    #[error("the scope asked for is wider than the session's")]
    Scope,
    /// We could not tell: 503.
    #[error("unavailable: {0:?}")]
    Doubt(Doubt),
    /// We could not tell: 503.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A session with the tokens' facts of one exchange.
#[derive(Debug)]
pub struct Grant {
    /// Which session.
    pub session: SessionId,
    /// Whose it is and what it may do.
    pub identity: Identity,
    /// The newest refresh token.
    pub refresh: RefreshToken,
    /// When the session ends unless it is used.
    pub refresh_until: Timestamp,
    /// The instant that stamps the access token.
    pub at: Timestamp,
    /// When that access token expires.
    pub access_until: Timestamp,
    /// Whether the store had lost rotations that this exchange made good.
    pub verdict: Verdict,
}

/// One session, to be looked at.
#[derive(Debug, Clone)]
pub struct Session {
    /// The family's moving part.
    pub lineage: Lineage,
    /// Its name.
    pub id: SessionId,
    /// Whose it is and what it may do.
    pub identity: Identity,
    /// Why it has ended, if it has.
    pub ended: Option<Refusal>,
    // What an amendment compares with.
    sealed: Vec<u8>,
}

/// Who presents a token.
#[derive(Debug, Clone)]
pub struct Presenter {
    /// The client.
    pub client: ClientId,
    /// Whether it authenticated.
    pub proven: bool,
}

/// The sessions of one issuer.
#[derive(Debug)]
pub struct Families<S> {
    store: Arc<S>,
    keyring: Arc<Keyring>,
    random: Arc<dyn Random>,
    lives: Lifetimes,
    cap: Option<SessionCap>,
}

impl<S: FamilyStore> Families<S> {
    /// On this store, with these keys.
    pub fn new(store: Arc<S>, keyring: Arc<Keyring>, random: Arc<dyn Random>, lives: Lifetimes) -> Self {
        Self { store, keyring, random, lives, cap: None }
    }

    /// So many sessions for each subject.
    #[must_use]
    pub fn capped(self, cap: Option<SessionCap>) -> Self {
        Self { cap, ..self }
    }

    /// Opens a session. `identity.nonce` and `identity.absolute_until` are set here, whatever they were.
    ///
    /// # Errors
    /// [`OpenError`]. If we could not tell, the session may exist, but nobody holds a token of it.
    pub async fn open(&self, mut identity: Identity, audit: Draft) -> Result<Grant, OpenError> {
        // Before the store is asked: what would not be handed out need not be opened or spent.
        self.keyring.confirmed().map_err(StoreError::from)?;
        identity.nonce = random_bytes(&*self.random);
        let key = self.keyring.current_derivation();
        let subject = self.refer(&identity.subject);
        let (sealer, random, plain) = (self.keyring.sealer(), self.random.clone(), identity.clone());
        let seal = move |id: SessionId, absolute_until| {
            sealer.seal(&associated(id), &encode(&Identity { absolute_until, ..plain.clone() }), &*random)
        };
        let opening = Opening {
            random: random_bytes(&*self.random),
            key: key.id(),
            subject,
            client: identity.client.clone(),
            lives: self.lives,
            cap: self.cap,
            seal: Box::new(seal),
            audit,
        };
        let Opened::Family(family) = self.store.open(opening).await? else { return Err(OpenError::Full) };
        // Keys that were given up since: what they made is over before anybody has it.
        let serves = self.keyring.derivation(key.id()).is_some_and(|key| key.serves(family.id.stamp()));
        if !serves || !matches!(self.unseal(&family), Ok(Some(_))) {
            return Err(StoreError::Busy.into());
        }
        identity.absolute_until = family.lineage.absolute_until;
        let at = family.id.stamp();
        Ok(self.grant(&family, identity, at, &key, Verdict::Rotate))
    }

    /// Exchanges a refresh token by the family rule. `scope` narrows the access token, not the session.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn refresh(
        &self,
        token: &str,
        presenter: Presenter,
        scope: Option<&Scope>,
        mut audit: Draft,
    ) -> Result<Grant, RefreshError> {
        self.keyring.confirmed().map_err(StoreError::from)?;
        let (parsed, key) = self.read(token)?;
        for _ in 0..STALE_TRIES {
            let seen = self.store.sight(parsed.family, parsed.generation, presenter.client.clone()).await?;
            let Some((family, sight)) = seen else { return Err(self.unknown(&parsed)) };
            let moved_at = sight.as_ref().and_then(Sight::moved_at);
            let Some(identity) = self.unseal(&family)? else { return Err(RefreshError::Refused(Refusal::CutOff)) };
            if !parsed.is_secret_of(&key, &identity.nonce) || family.key != parsed.key {
                return Err(RefreshError::Refused(Refusal::Forged));
            }
            audit.subject = Some(identity.subject.clone());
            audit.client = Some(identity.client.clone());
            let presentation = Presentation {
                id: family.id,
                generation: parsed.generation,
                secret: Secret::Right,
                holder: holder(&presenter, &identity),
                seen: family.sealed,
                wide: scope.is_some_and(|s| !identity.scope.covers(s)),
                subject: family.subject,
                client: identity.client.clone(),
                lives: self.lives,
                audit: audit.clone(),
                sight,
            };
            let presented = self.store.present(presentation).await?;
            let after = match (presented.verdict, presented.held_back, presented.family) {
                // What was checked is no longer what would be signed: look again.
                (_, Some(HeldBack::Stale), _) => continue,
                (_, Some(HeldBack::Wide), _) => return Err(RefreshError::Scope),
                (Verdict::Rotate | Verdict::Retry | Verdict::Heal, None, Some(after)) => after,
                (Verdict::Refused(refusal), ..) => return Err(RefreshError::Refused(refusal)),
                (Verdict::Close(closure), ..) => return Err(RefreshError::Closed(closure)),
                (Verdict::Unavailable(doubt), ..) => return Err(RefreshError::Doubt(doubt)),
                (_, None, None) => return Err(self.unknown(&parsed)),
            };
            let mut grant = self.grant(&after, identity, presented.at, &key, presented.verdict);
            // The one successor of a token is the same also where it was handed out before the session had another id.
            if moved_at.is_some_and(|last| after.lineage.head <= last) {
                let head = after.lineage.head;
                grant.refresh = RefreshToken::compose(&key, parsed.family, head, &grant.identity.nonce);
            }
            return Ok(grant);
        }
        Err(StoreError::Busy.into())
    }

    /// The session of a refresh token that could be exchanged now. Changes nothing.
    ///
    /// # Errors
    /// [`RefreshError`]; a spent token is `Refused`.
    pub async fn look(&self, token: &str) -> Result<Session, RefreshError> {
        let (parsed, session) = self.session_of(token).await?;
        match session.ended {
            Some(refusal) => Err(RefreshError::Refused(refusal)),
            None if parsed.generation == session.lineage.head => Ok(session),
            None => Err(RefreshError::Refused(Refusal::Closed)),
        }
    }

    /// Ends the session of a refresh token, of whichever generation, if it is this client's (RFC 7009 §2.1).
    ///
    /// # Errors
    /// [`RefreshError`]; `Closed(OtherClient)` if it is another client's, which is left alone.
    pub async fn end(&self, token: &str, client: &ClientId, mut audit: Draft) -> Result<ClosedFamily, RefreshError> {
        let (_, session) = self.session_of(token).await?;
        if session.identity.client != *client {
            return Err(RefreshError::Closed(Closure::OtherClient));
        }
        audit.subject = Some(session.identity.subject);
        Ok(self.store.close(session.id, Closure::LoggedOut, None, audit).await?)
    }

    /// One session by its name. Without those that ended with the key that could read them, here and below.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        match self.store.find(id).await? {
            Some(family) => self.session(family).await,
            None => Ok(None),
        }
    }

    /// A subject's sessions in the order of their opening.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn of_subject(
        &self,
        subject: &Subject,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let (mut sessions, mut after) = (Vec::new(), after);
        while sessions.len() < limit {
            let asked = limit - sessions.len();
            let page = self.store.of_subject(self.refer(subject), after, asked).await?;
            let is_last = page.len() < asked;
            after = page.last().map(|family| family.id);
            for family in page {
                sessions.extend(self.session(family).await?);
            }
            if is_last {
                break;
            }
        }
        Ok(sessions)
    }

    /// When the oldest session was opened that is still kept, ended or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.oldest().await
    }

    /// How many sessions a subject has, ended ones that are still kept among them; counted up to `cap`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_of_subject(&self, subject: &Subject, cap: usize) -> Result<usize, StoreError> {
        self.store.count_of_subject(self.refer(subject), cap).await
    }

    /// Changes what a session's next tokens say. `Stale` if somebody else changed it since it was read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn amend(&self, seen: Session, identity: &Identity, audit: Draft) -> Result<Amended, StoreError> {
        let sealed = self.keyring.sealer().seal(&associated(seen.id), &encode(identity), &*self.random);
        self.store.amend(seen.id, seen.sealed, sealed, audit).await
    }

    /// Closes a session by its name; closing twice is fine.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close(
        &self,
        id: SessionId,
        reason: Option<Box<str>>,
        audit: Draft,
    ) -> Result<ClosedFamily, StoreError> {
        self.store.close(id, Closure::Revoked, reason, audit).await
    }

    /// Closes a subject's sessions but one: those that were opened before this.
    ///
    /// # Errors
    /// [`StoreError`]: some may be closed; asking again closes the rest.
    pub async fn close_others(
        &self,
        subject: &Subject,
        keep: SessionId,
        reason: Option<Box<str>>,
        audit: Draft,
    ) -> Result<ClosedOthers, StoreError> {
        let (subject, limit) = (self.refer(subject), CLOSED_PER_STEP);
        let mut others = Others { subject, keep, after: None, until: None, limit, reason, audit };
        let mut all = ClosedOthers::default();
        loop {
            let done = self.store.close_others(others.clone()).await?;
            all.closed += done.closed;
            all.feed_until = all.feed_until.max(done.feed_until);
            if done.next.is_none() {
                return Ok(all);
            }
            (others.after, others.until) = (done.next, done.until);
        }
    }

    /// All sessions, those that cannot be read left out: the part after `after`, in an order that stays, and where to go
    /// on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn all(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<(Vec<Session>, Option<SessionId>), StoreError> {
        let families = self.store.all(after, limit).await?;
        let next = families.last().map(|family| family.id).filter(|_| families.len() == limit);
        let mut sessions = Vec::new();
        for family in families {
            match self.session(family).await {
                Ok(session) => sessions.extend(session),
                Err(StoreError::Damaged(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok((sessions, next))
    }

    /// The opaque reference that stands for a subject.
    #[must_use]
    pub fn refer(&self, subject: &Subject) -> SubjectRef {
        self.keyring.subject_refs().refer(subject)
    }

    /// The session that a token is of, if it is one of ours: whether it is good is another question.
    pub fn named(&self, token: &str) -> Option<SessionId> {
        self.read(token).ok().map(|(parsed, _)| parsed.family)
    }

    /// What can be said of a token without asking the store.
    fn read(&self, token: &str) -> Result<(Parsed, Arc<crate::keyring::DerivationKey>), RefreshError> {
        let parsed = Parsed::read(token).ok_or(RefreshError::Refused(Refusal::Forged))?;
        let Some(key) = self.keyring.derivation(parsed.key) else {
            let over = self.keyring.has_forgotten(parsed.family.stamp());
            return Err(if over {
                RefreshError::Refused(Refusal::CutOff)
            } else {
                RefreshError::Doubt(Doubt::KeyMissing)
            });
        };
        if !key.serves(parsed.family.stamp()) || !parsed.is_tagged_by(&key) {
            return Err(RefreshError::Refused(Refusal::Forged));
        }
        Ok((parsed, key))
    }

    async fn session_of(&self, token: &str) -> Result<(Parsed, Session), RefreshError> {
        let (parsed, key) = self.read(token)?;
        let Some(family) = self.store.find(parsed.family).await? else { return Err(self.unknown(&parsed)) };
        let Some(session) = self.session(family).await? else { return Err(RefreshError::Refused(Refusal::CutOff)) };
        if !parsed.is_secret_of(&key, &session.identity.nonce) {
            return Err(RefreshError::Refused(Refusal::Forged));
        }
        Ok((parsed, session))
    }

    /// None: it has ended, with the key that could read it.
    async fn session(&self, family: Family) -> Result<Option<Session>, StoreError> {
        let Some(identity) = self.unseal(&family)? else { return Ok(None) };
        let cut_off = self.store.cut_off(family.subject, identity.client.clone(), family.id.stamp()).await?;
        let ended = family.lineage.ended(self.store.moment().now, cut_off);
        let Family { id, lineage, sealed, .. } = family;
        Ok(Some(Session { lineage, id, identity, ended, sealed }))
    }

    /// The rule's word on a family that the store does not know.
    fn unknown(&self, parsed: &Parsed) -> RefreshError {
        let verdict = judge(&Facts {
            tag: true,
            key: true,
            standing: self.store.standing(),
            lineage: None,
            secret: Secret::Unchecked,
            cut_off: false,
            holder: Holder::Named,
            generation: parsed.generation,
            moment: self.store.moment(),
            window: self.lives.retry_window,
        });
        match verdict {
            Verdict::Unavailable(doubt) => RefreshError::Doubt(doubt),
            _ => RefreshError::Refused(Refusal::Unknown),
        }
    }

    fn unseal(&self, family: &Family) -> Result<Option<Identity>, StoreError> {
        unseal(&self.keyring, family)
    }

    fn grant(
        &self,
        family: &Family,
        identity: Identity,
        at: Timestamp,
        key: &crate::keyring::DerivationKey,
        verdict: Verdict,
    ) -> Grant {
        Grant {
            session: family.id,
            refresh: RefreshToken::compose(key, family.id, family.lineage.head, &identity.nonce),
            refresh_until: family.lineage.idle_until,
            access_until: family.lineage.access_expiry(at, &self.lives),
            identity,
            at,
            verdict,
        }
    }
}

/// Opens the seal and holds what can be written in the store against it. None: the session ended with the key.
fn unseal(keyring: &Keyring, family: &Family) -> Result<Option<Identity>, StoreError> {
    let damaged = || StoreError::Damaged("the sealed part of a family does not belong to it");
    let opened_at = family.id.stamp();
    let plain = match keyring.sealer().open_of(opened_at, &associated(family.id), &family.sealed) {
        Ok(plain) => plain,
        Err(SealError::Destroyed(_)) => return Ok(None),
        Err(SealError::UnknownKey(_)) if keyring.has_forgotten(opened_at) => return Ok(None),
        Err(_) => return Err(damaged()),
    };
    let identity: Identity = postcard::from_bytes(&plain).map_err(|_| damaged())?;
    let subject = keyring.subject_refs().refer(&identity.subject);
    if subject != family.subject || family.lineage.absolute_until > identity.absolute_until {
        return Err(damaged());
    }
    Ok(Some(identity))
}

/// A family that has another id from here on, sealed for that, and its client. None: it ended with the key.
///
/// # Errors
/// [`StoreError::Damaged`]: what is sealed does not belong to it.
pub(crate) fn renamed(
    keyring: &Keyring,
    random: &dyn Random,
    family: Family,
    id: SessionId,
) -> Result<Option<(Family, ClientId)>, StoreError> {
    let Some(identity) = unseal(keyring, &family)? else { return Ok(None) };
    let sealed = keyring.sealer().seal(&associated(id), &encode(&identity), random);
    Ok(Some((Family { id, sealed, ..family }, identity.client)))
}

fn holder(presenter: &Presenter, identity: &Identity) -> Holder {
    match () {
        () if presenter.client != identity.client => Holder::OtherClient,
        () if presenter.proven => Holder::Proven,
        () => Holder::Named,
    }
}

/// What the seal is bound to: a sealed identity moved to another family does not open.
fn associated(id: SessionId) -> Vec<u8> {
    [b"rescind family 1", &id.as_bytes()[..]].concat()
}

fn encode(identity: &Identity) -> Vec<u8> {
    postcard::to_stdvec(identity).expect("an identity has no unsized maps, so it serialises")
}

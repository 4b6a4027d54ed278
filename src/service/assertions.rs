//! Client authentication: a name alone, a secret, a certificate (RFC 8705), or an assertion that the client signed (RFC
//! 7523). Who fails is told no more than that, unless it has proven itself to be the client: then it hears what is wrong
//! with its assertion.

use std::time::Duration;

use super::{Caller, Credentials, Error, Service, alerts::Often};
use crate::{
    model::{ClientId, Timestamp, audit::Origin},
    store::{AssertionId, AssertionUse, ClientStore},
    verifier::Assertion,
};

/// How far ahead the `exp` of an assertion may lie.
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);
/// By how much a client's clock may differ from ours.
const SKEW: Duration = Duration::from_secs(30);
/// How long beyond its last good instant it is remembered: our own clock may be set back a little.
const MARGIN: Duration = Duration::from_secs(5);
/// What is wrong with one that comes again.
const USED: &str = "jti: this assertion has been used; make a new one for each request";

/// A request that was refused because nobody knows who sent it.
#[derive(Debug)]
pub struct Refused<'a> {
    /// The registered client that it claimed to come from. Anyone can claim that.
    pub client: Option<&'a ClientId>,
    /// From where it came.
    pub origin: &'a Origin,
    /// What was wrong: for the log.
    pub why: &'static str,
}

/// Somebody who has shown who it is, and is let in once the assertion that showed it, if one did, is used up.
struct Recognised {
    caller: Caller,
    assertion: Option<Unspent>,
}

/// An assertion that is good and has not been seen.
struct Unspent {
    id: AssertionId,
    until: Timestamp,
}

impl Service {
    /// Who sends a request. An assertion is used up by it, durably.
    ///
    /// `admit` is asked in between, when it is known who it is and nothing has been written: what it refuses uses up
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Client`], [`Error::Assertion`], what `admit` says, 429 for a client with too many assertions, or 503 if
    /// nobody can tell.
    pub async fn authenticate(
        &self,
        credentials: &Credentials,
        origin: &Origin,
        admit: impl FnOnce(Result<&Caller, &Error>) -> Result<(), Error>,
    ) -> Result<Caller, Error> {
        let now = self.clock.now();
        let recognised = self.recognise(credentials, origin, now);
        admit(recognised.as_ref().map(|r| &r.caller))?;
        self.use_up(recognised?, origin, now).await
    }

    fn recognise(&self, credentials: &Credentials, origin: &Origin, now: Timestamp) -> Result<Recognised, Error> {
        let clients = self.known_clients()?;
        let (id, found) = match credentials {
            Credentials::Named(id) => {
                let id = id.parse::<ClientId>().ok();
                let found = id.as_ref().and_then(|id| clients.named(id, now)).ok_or("no public client of this name");
                (id, found)
            }
            Credentials::Secret(id, secret) => {
                let id = id.parse::<ClientId>().ok();
                let found = clients.by_secret(id.as_ref(), secret, now).ok_or("id or secret is wrong, or disabled");
                (id, found)
            }
            Credentials::Certificate { certificate, named } => {
                let id = named.as_ref().and_then(|id| id.parse::<ClientId>().ok());
                // Whoever gave a name that is none is nobody, not whoever the certificate belongs to.
                let found = match (&id, named) {
                    (None, Some(_)) => None,
                    // A public client may connect with a certificate that means nothing to us, as browsers do.
                    (Some(named), _) => {
                        clients.by_certificate(Some(named), certificate).or_else(|| clients.named(named, now))
                    }
                    (None, None) => clients.by_certificate(None, certificate),
                };
                (id, found.ok_or("no client of this name and certificate, or disabled"))
            }
            Credentials::Assertion { assertion, named } => match Assertion::parse(assertion) {
                Ok(assertion) if named.as_ref().is_some_and(|named| *named != assertion.client.as_str()) => {
                    return Err(Error::request("client_id", "names another client than the assertion"));
                }
                Ok(assertion) => {
                    let found = clients.by_key(&assertion.client, |keys| assertion.signer(keys));
                    if let Some(caller) = found {
                        return self.check_assertion(&assertion, caller, now, origin);
                    }
                    (Some(assertion.client), Err("unknown or disabled client, or no key of its own signed it"))
                }
                Err(rejection) => (None, Err(rejection.code())),
            },
        };
        found.map(|caller| Recognised { caller, assertion: None }).map_err(|why| {
            let client = id.as_ref().filter(|id| clients.find(id).is_some());
            self.refused(&Refused { client, origin, why });
            Error::Client
        })
    }

    /// Signed by the client, so it is told what is wrong.
    fn check_assertion(
        &self,
        assertion: &Assertion<'_>,
        caller: Caller,
        now: Timestamp,
        origin: &Origin,
    ) -> Result<Recognised, Error> {
        judge(assertion, &self.settings.issuer, now).map_err(|why| self.refuse_assertion(&caller, origin, why))?;
        let id = AssertionId::of(&assertion.client, &assertion.jti);
        // Before anyone is measured by it: one that was picked up on its way counts against whoever shows it again.
        if self.store.assertion_used(id)? {
            return Err(self.refuse_assertion(&caller, origin, USED));
        }
        let until = assertion.expires.plus(SKEW).plus(MARGIN);
        Ok(Recognised { caller, assertion: Some(Unspent { id, until }) })
    }

    async fn use_up(&self, recognised: Recognised, origin: &Origin, now: Timestamp) -> Result<Caller, Error> {
        let Recognised { caller, assertion } = recognised;
        let Some(Unspent { id, until }) = assertion else { return Ok(caller) };
        match self.store.use_assertion(id, until).await? {
            // Durable: whoever comes with it again is refused, also after a crash.
            AssertionUse::First => Ok(caller),
            AssertionUse::Again => Err(self.refuse_assertion(&caller, origin, USED)),
            AssertionUse::Unknown => Err(Error::assertion_unknown(until.since(now))),
            AssertionUse::Full => Err(Error::too_many_assertions()),
        }
    }

    fn refuse_assertion(&self, caller: &Caller, origin: &Origin, why: &'static str) -> Error {
        self.refused(&Refused { client: Some(&caller.client.id), origin, why });
        Error::Assertion(why)
    }

    /// The one place where failed authentication is heard of. It decides nothing.
    fn refused(&self, refused: &Refused<'_>) {
        self.metrics.client_refused();
        self.count(Often::FailedClient(refused.client.cloned()));
        // Not louder: anyone can make us say it.
        tracing::debug!(client = ?refused.client, ip = ?refused.origin.ip, why = refused.why, "not authenticated");
    }
}

/// RFC 7523 §3, with the audience narrowed to the issuer: an assertion made for another server that this client was
/// talked into must be good nowhere else (the audience injection of 2025, draft-ietf-oauth-rfc7523bis §4).
fn judge(assertion: &Assertion<'_>, issuer: &str, now: Timestamp) -> Result<(), &'static str> {
    let [audience] = &assertion.audience[..] else {
        return Err("aud: must be the issuer and nobody else");
    };
    if audience.as_str() != issuer {
        return Err("aud: must be the issuer, exactly as the metadata names it; not the token endpoint");
    }
    if assertion.expires.plus(SKEW) <= now {
        return Err("exp: the assertion has expired");
    }
    if assertion.expires > now.plus(MAX_AHEAD).plus(SKEW) {
        return Err("exp: lies more than 5 minutes ahead");
    }
    if assertion.not_before.is_some_and(|nbf| nbf > now.plus(SKEW)) {
        return Err("nbf: lies ahead; compare the clocks");
    }
    match assertion.issued {
        Some(issued) if issued > now.plus(SKEW) => Err("iat: lies ahead; compare the clocks"),
        Some(issued) if issued.plus(MAX_AHEAD).plus(SKEW) < now => Err("iat: lies more than 5 minutes back"),
        _ => Ok(()),
    }
}

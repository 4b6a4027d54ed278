//! Sessions for trusted clients: open, look, change, end.

use super::{Client, Context, Error, Permission, Service, Tokens};
use crate::{
    families::Session,
    model::{
        Audience, ClientId, Scope, SessionId, Subject, Timestamp,
        claims::{CustomClaims, RESERVED},
        session::{Device, Identity},
    },
    store::Amended,
};

/// Bytes of custom claims, as JSON.
const MAX_CLAIMS: usize = 2048;
/// Levels of nesting in them.
const MAX_DEPTH: usize = 8;
/// Members of `aud` and of `amr`.
const MAX_LIST: usize = 16;
/// How often an amendment that met another is tried again.
const AMEND_TRIES: usize = 4;
/// Beyond this a subject's sessions are no longer counted.
pub(crate) const COUNT_CAP: usize = 10_000;

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Whose.
    pub subject: Subject,
    /// For whom its tokens are.
    pub audience: Vec<Audience>,
    /// What they allow.
    pub scope: Scope,
    /// Which client will refresh it; the caller by default.
    pub client: Option<ClientId>,
    /// Where.
    pub device: Device,
    /// When the subject authenticated.
    pub auth_time: Option<Timestamp>,
    /// How strongly.
    pub acr: Option<Box<str>>,
    /// By which methods.
    pub amr: Vec<Box<str>>,
    /// Everything else.
    pub claims: CustomClaims,
}

/// What is to change in a session. What is not given stays.
#[derive(Debug, Clone, Default)]
pub struct Amendment {
    /// New custom claims, all of them.
    pub claims: Option<CustomClaims>,
    /// New `acr`.
    pub acr: Option<Box<str>>,
    /// New `amr`.
    pub amr: Option<Vec<Box<str>>>,
    /// New `auth_time`: the subject has authenticated again.
    pub auth_time: Option<Timestamp>,
    /// A narrower scope.
    pub scope: Option<Scope>,
    /// A narrower audience.
    pub audience: Option<Vec<Audience>>,
}

/// A part of a subject's sessions.
#[derive(Debug)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// How many there are in all, up to 10,000.
    pub total: usize,
    /// Where to go on.
    pub next: Option<SessionId>,
}

impl Service {
    /// Opens a session and hands out its first tokens.
    ///
    /// # Errors
    /// What is wrong with it, what the caller may not, or 503.
    pub async fn open_session(&self, ctx: &Context, new: NewSession) -> Result<Tokens, Error> {
        ctx.require(Permission::SessionsOpen)?;
        let client = new.client.unwrap_or_else(|| ctx.caller.client.id.clone());
        let clients = self.known_clients()?;
        let Some(holder) = clients.find(&client) else {
            return Err(Error::request("client_id", "no client of this name is registered"));
        };
        if !clients.is_enabled(&client) {
            return Err(Error::request("client_id", "this client is disabled"));
        }
        within(&ctx.caller.client, &new.scope, &new.audience)?;
        within(holder, &new.scope, &new.audience)?;
        // RFC 9068 §5: a client's own tokens have its id as their subject, and nobody else may pass for it.
        if new.subject.as_str().parse().is_ok_and(|id| clients.find(&id).is_some()) {
            return Err(Error::request("subject", "is the name of a registered client"));
        }
        self.check_claims(&new.claims)?;
        self.check_authentication(new.auth_time, new.acr.as_deref(), &new.amr)?;
        check_device(&new.device)?;
        let mut draft = ctx.draft();
        (draft.client, draft.subject) = (Some(client.clone()), Some(new.subject.clone()));
        let identity = Identity {
            subject: new.subject,
            client,
            audience: new.audience,
            scope: new.scope,
            claims: serde_json::Value::Object(new.claims).to_string().into(),
            device: new.device,
            auth_time: new.auth_time,
            acr: new.acr,
            amr: new.amr,
            absolute_until: Timestamp::default(),
            nonce: [0; 16],
        };
        self.check_size(&identity)?;
        let grant = self.families.open(identity, draft).await?;
        self.still_let_in(&ctx.caller)?;
        self.metrics.session_opened();
        self.tokens(grant, None)
    }

    /// One session.
    ///
    /// # Errors
    /// 404, 503.
    pub async fn session(&self, ctx: &Context, id: SessionId) -> Result<Session, Error> {
        ctx.require(Permission::SessionsRead)?;
        self.families.find(id).await?.ok_or(Error::NotFound("no session of this id; it may have expired long ago"))
    }

    /// A subject's sessions, the oldest first.
    ///
    /// # Errors
    /// 503.
    pub async fn sessions(
        &self,
        ctx: &Context,
        subject: &Subject,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<SessionPage, Error> {
        ctx.require(Permission::SessionsRead)?;
        let total = self.families.count_of_subject(subject, COUNT_CAP).await?;
        let sessions = self.families.of_subject(subject, after, limit).await?;
        let next = if sessions.len() == limit { sessions.last().map(|s| s.id) } else { None };
        Ok(SessionPage { sessions, total, next })
    }

    /// Changes what a session's next tokens say. Scope and audience only become narrower.
    ///
    /// # Errors
    /// What is wrong with it, 404, 409 if it has ended, 503.
    pub async fn amend_session(&self, ctx: &Context, id: SessionId, change: &Amendment) -> Result<Session, Error> {
        ctx.require(Permission::SessionsAmend)?;
        if let Some(claims) = &change.claims {
            self.check_claims(claims)?;
        }
        self.check_authentication(change.auth_time, change.acr.as_deref(), change.amr.as_deref().unwrap_or(&[]))?;
        for _ in 0..AMEND_TRIES {
            let session = self.families.find(id).await?.ok_or(Error::NotFound("no session of this id"))?;
            within(&ctx.caller.client, &session.identity.scope, &session.identity.audience)?;
            let identity = amended(session.identity.clone(), change)?;
            self.check_size(&identity)?;
            let mut draft = ctx.draft();
            draft.subject = Some(identity.subject.clone());
            draft.client = Some(identity.client.clone());
            match self.families.amend(session, &identity, draft).await? {
                Amended::Done => {
                    let now = self.families.find(id).await?;
                    return now.ok_or(Error::NotFound("no session of this id"));
                }
                Amended::Ended => {
                    let hint = "the session has ended; open a new one".into();
                    return Err(Error::Conflict { code: "session_ended", hint, earliest: None });
                }
                Amended::Stale => {}
            }
        }
        let hint = "others keep changing this session; try again".into();
        Err(Error::Conflict { code: "concurrent_change", hint, earliest: None })
    }

    /// Ends a session; ending it again is fine.
    ///
    /// # Errors
    /// 404 for one that never was, 503.
    pub async fn end_session(&self, ctx: &Context, id: SessionId) -> Result<(), Error> {
        ctx.require(Permission::SessionsRevoke)?;
        let session = self.families.find(id).await?.ok_or(Error::NotFound("no session of this id"))?;
        let mut draft = ctx.draft();
        (draft.client, draft.subject) = (Some(session.identity.client), Some(session.identity.subject));
        self.families.close(id, None, draft).await?;
        self.metrics.revocation("session");
        Ok(())
    }

    fn check_claims(&self, claims: &CustomClaims) -> Result<(), Error> {
        for name in claims.keys() {
            if RESERVED.contains(&name.as_str()) {
                return Err(Error::request(
                    "claims",
                    format!("`{name}` is set by the issuer and cannot be a custom claim"),
                ));
            }
            if self.settings.custom_claims.as_ref().is_some_and(|allowed| !allowed.contains(name.as_str())) {
                return Err(Error::request(
                    "claims",
                    format!("`{name}` is not among the custom claims of this issuer"),
                ));
            }
        }
        if claims.values().any(|v| depth(v) > MAX_DEPTH) {
            return Err(Error::request("claims", format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if serde_json::to_vec(claims).map_or(usize::MAX, |json| json.len()) > MAX_CLAIMS {
            return Err(Error::request("claims", format!("more than {MAX_CLAIMS} bytes of JSON")));
        }
        Ok(())
    }

    fn check_authentication(&self, at: Option<Timestamp>, acr: Option<&str>, amr: &[Box<str>]) -> Result<(), Error> {
        if at.is_some_and(|at| at > self.clock.now().plus(crate::model::denial::LEEWAY_AND_MARGIN)) {
            return Err(Error::request("auth_time", "lies in the future"));
        }
        let plain = |s: &str| !s.is_empty() && s.len() <= 255 && !s.chars().any(char::is_control);
        if !acr.is_none_or(plain) {
            return Err(Error::request("acr", "1 to 255 bytes without control characters"));
        }
        if amr.len() > MAX_LIST || !amr.iter().all(|m| plain(m)) {
            return Err(Error::request("amr", format!("at most {MAX_LIST} names of 1 to 255 bytes")));
        }
        Ok(())
    }

    /// A session whose tokens no verifier would read must not come to be.
    fn check_size(&self, identity: &Identity) -> Result<(), Error> {
        let lists: usize = identity.audience.iter().map(|a| a.as_str().len() + 8).sum::<usize>()
            + identity.amr.iter().map(|a| a.len() * 2 + 3).sum::<usize>();
        // JSON at its longest: every text escaped, ids and times at their full length; then base64url and the rest.
        let json = 512
            + identity.claims.len()
            + lists
            + 2 * (identity.subject.as_str().len() + identity.scope.to_string().len() + self.settings.issuer.len())
            + identity.client.as_str().len() * 2
            + identity.acr.as_ref().map_or(0, |a| a.len() * 2);
        if json.div_ceil(3) * 4 + 300 > crate::issuer::MAX_TOKEN {
            return Err(Error::request("claims", "the access token would be longer than 8 KiB; carry less in it"));
        }
        Ok(())
    }
}

/// A caller hands out no more than it has.
fn within(caller: &Client, scope: &Scope, audience: &[Audience]) -> Result<(), Error> {
    if audience.is_empty() || audience.len() > MAX_LIST {
        return Err(Error::request("audience", format!("1 to {MAX_LIST} audiences")));
    }
    distinct(audience)?;
    if caller.scope.as_ref().is_some_and(|allowed| !allowed.covers(scope)) {
        return Err(Error::Beyond("scope: this client may not open sessions with that scope".into()));
    }
    if let Some(allowed) = &caller.audience
        && let Some(foreign) = audience.iter().find(|a| !allowed.contains(a))
    {
        return Err(Error::Beyond(format!("audience: this client may not open sessions for `{foreign}`")));
    }
    Ok(())
}

fn distinct(audience: &[Audience]) -> Result<(), Error> {
    let repeated = audience.iter().enumerate().any(|(i, a)| audience[..i].contains(a));
    if repeated { Err(Error::request("audience", "names one twice")) } else { Ok(()) }
}

fn amended(mut identity: Identity, change: &Amendment) -> Result<Identity, Error> {
    if let Some(scope) = &change.scope {
        if !identity.scope.covers(scope) {
            return Err(Error::request("scope", "can only become narrower"));
        }
        identity.scope = scope.clone();
    }
    if let Some(audience) = &change.audience {
        if audience.is_empty() || !audience.iter().all(|a| identity.audience.contains(a)) {
            return Err(Error::request("audience", "can only become narrower, and not empty"));
        }
        distinct(audience)?;
        identity.audience = audience.clone();
    }
    if let Some(claims) = &change.claims {
        identity.claims = serde_json::Value::Object(claims.clone()).to_string().into();
    }
    if let Some(amr) = &change.amr {
        identity.amr = amr.clone();
    }
    identity.acr = change.acr.clone().or(identity.acr);
    identity.auth_time = change.auth_time.or(identity.auth_time);
    Ok(identity)
}

fn check_device(device: &Device) -> Result<(), Error> {
    let plain =
        |s: &Option<Box<str>>, max| s.as_ref().is_none_or(|s| s.len() <= max && !s.chars().any(char::is_control));
    if !plain(&device.label, 128) || !plain(&device.user_agent, 512) {
        return Err(Error::request("device", "label: 128 bytes, user_agent: 512 bytes, without control characters"));
    }
    if device.ip.as_ref().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
        return Err(Error::request("device", "ip: an IPv4 or IPv6 address"));
    }
    Ok(())
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

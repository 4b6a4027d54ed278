//! The claims of an access token (RFC 9068 §2.2).

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::{Audience, ClientId, Scope, SessionId, Subject, SubjectRef, Timestamp, TokenId};

/// Claims by name, beyond those that the profile defines.
pub type CustomClaims = Map<String, Value>;

/// The `typ` of an access token's header (RFC 9068 §2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// Names that custom claims may never take: they mean something to this or to other verifiers.
pub const RESERVED: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "client_id",
    "sid",
    "scope",
    "auth_time",
    "acr",
    "amr",
    "cnf",
    "sub_ref",
    "act",
    "may_act",
    "azp",
    "nonce",
    "typ",
    "events",
    "token_introspection",
];

/// What an access token says. Times in whole seconds, as on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims<C = CustomClaims> {
    /// Who issued it: `iss`.
    pub issuer: Box<str>,
    /// Whom it speaks of: `sub`.
    pub subject: Subject,
    /// The same, opaque to outsiders: `sub_ref`. Denylist entries name subjects by this.
    pub subject_ref: SubjectRef,
    /// For whom it is: `aud`, never empty.
    pub audience: Vec<Audience>,
    /// Until when: `exp`.
    pub expires: Timestamp,
    /// When it was issued: `iat`, which `nbf` equals.
    pub issued: Timestamp,
    /// From when: `nbf`.
    pub not_before: Timestamp,
    /// Its name: `jti`.
    pub token: TokenId,
    /// The client that it was issued to: `client_id`.
    pub client: ClientId,
    /// The session that it belongs to: `sid`. None for a client's own token.
    pub session: Option<SessionId>,
    /// What it allows: `scope`.
    pub scope: Scope,
    /// When the subject authenticated: `auth_time`.
    pub auth_time: Option<Timestamp>,
    /// How strongly: `acr`.
    pub acr: Option<Box<str>>,
    /// By which methods: `amr` (RFC 8176).
    pub amr: Vec<Box<str>>,
    /// Everything else.
    pub custom: C,
}

impl<C> Claims<C> {
    /// The same claims with `read` applied to the custom ones.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn try_map_custom<D, E>(self, read: impl FnOnce(C) -> Result<D, E>) -> Result<Claims<D>, E> {
        Ok(Claims {
            custom: read(self.custom)?,
            issuer: self.issuer,
            subject: self.subject,
            subject_ref: self.subject_ref,
            audience: self.audience,
            expires: self.expires,
            issued: self.issued,
            not_before: self.not_before,
            token: self.token,
            client: self.client,
            session: self.session,
            scope: self.scope,
            auth_time: self.auth_time,
            acr: self.acr,
            amr: self.amr,
        })
    }
}

impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("iss", &self.issuer)?;
        map.serialize_entry("sub", &self.subject)?;
        // One audience is a plain string: the form that every verifier reads (RFC 7519 §4.1.3).
        match &self.audience[..] {
            [one] => map.serialize_entry("aud", one)?,
            many => map.serialize_entry("aud", many)?,
        }
        map.serialize_entry("exp", &self.expires.seconds())?;
        map.serialize_entry("iat", &self.issued.seconds())?;
        map.serialize_entry("nbf", &self.not_before.seconds())?;
        map.serialize_entry("jti", &self.token)?;
        map.serialize_entry("client_id", &self.client)?;
        map.serialize_entry("sub_ref", &self.subject_ref)?;
        if let Some(session) = &self.session {
            map.serialize_entry("sid", session)?;
        }
        if !self.scope.is_empty() {
            map.serialize_entry("scope", &self.scope)?;
        }
        if let Some(at) = self.auth_time {
            map.serialize_entry("auth_time", &at.seconds())?;
        }
        if let Some(acr) = &self.acr {
            map.serialize_entry("acr", acr)?;
        }
        if !self.amr.is_empty() {
            map.serialize_entry("amr", &self.amr)?;
        }
        for (name, value) in &self.custom {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

//! The inside of a token: claims, read once and straight into their types.

use std::{fmt, marker::PhantomData};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{
    Rejection,
    json::{Blame, Fault, Name, Strict, text},
};
use crate::model::{
    Audience, ClientId, Scope, SessionId, Subject, SubjectRef, Timestamp, TokenId,
    claims::{Claims, CustomClaims},
};

/// Reads the claims of a token whose signature holds.
pub(super) fn parse(payload: &[u8]) -> Result<Claims, Rejection> {
    let blame = Blame::new();
    let draft = blame.read(payload, DraftSeed(&blame)).map_err(|fault| match fault {
        Fault::NotObject => Rejection::ClaimsNotObject,
        Fault::TooDeep => Rejection::ClaimsTooDeep,
        Fault::Duplicate => Rejection::ClaimsDuplicate,
        Fault::Mistyped(name) => Rejection::ClaimMistyped(name),
        Fault::NotATime(name) => Rejection::ClaimNotATime(name),
        Fault::NotUuidV7(name) => Rejection::ClaimNotUuidV7(name),
    })?;
    draft.finish()
}

/// Claims as they come in.
#[derive(Default)]
struct Draft {
    iss: Option<Box<str>>,
    sub: Option<Subject>,
    sub_ref: Option<SubjectRef>,
    aud: Option<Vec<Audience>>,
    exp: Option<Timestamp>,
    iat: Option<Timestamp>,
    nbf: Option<Timestamp>,
    jti: Option<TokenId>,
    client_id: Option<ClientId>,
    sid: Option<SessionId>,
    scope: Option<Scope>,
    auth_time: Option<Timestamp>,
    acr: Option<Box<str>>,
    amr: Option<Vec<Box<str>>>,
    custom: CustomClaims,
}

impl Draft {
    /// `nbf` and `sub_ref` are required beyond RFC 9068 §2.2: without the second, no cut-off of a subject would reach
    /// the token.
    fn finish(self) -> Result<Claims, Rejection> {
        let missing = Rejection::ClaimMissing;
        // RFC 7800 §3.1: whatever `cnf` holds, possession of the token alone must not be enough.
        if self.custom.contains_key("cnf") {
            return Err(Rejection::ProofRequired);
        }
        Ok(Claims {
            issuer: self.iss.ok_or(missing("iss"))?,
            subject: self.sub.ok_or(missing("sub"))?,
            subject_ref: self.sub_ref.ok_or(missing("sub_ref"))?,
            audience: self.aud.ok_or(missing("aud"))?,
            expires: self.exp.ok_or(missing("exp"))?,
            issued: self.iat.ok_or(missing("iat"))?,
            not_before: self.nbf.ok_or(missing("nbf"))?,
            token: self.jti.ok_or(missing("jti"))?,
            client: self.client_id.ok_or(missing("client_id"))?,
            session: self.sid,
            scope: self.scope.unwrap_or_default(),
            auth_time: self.auth_time,
            acr: self.acr,
            amr: self.amr.unwrap_or_default(),
            custom: self.custom,
        })
    }
}

struct DraftSeed<'a>(&'a Blame);

impl<'de> DeserializeSeed<'de> for DraftSeed<'_> {
    type Value = Draft;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Draft, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DraftSeed<'_> {
    type Value = Draft;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft, A::Error> {
        use Fault::{Mistyped, NotATime, NotUuidV7};
        let (blame, mut to, map) = (self.0, Draft::default(), &mut map);
        while let Some(name) = map.next_key_seed(Name)? {
            match &*name {
                "iss" => blame.fill(map, &mut to.iss, Mistyped("iss"), PhantomData)?,
                "sub" => blame.fill(map, &mut to.sub, Mistyped("sub"), text())?,
                "sub_ref" => blame.fill(map, &mut to.sub_ref, Mistyped("sub_ref"), text())?,
                "aud" => blame.fill(map, &mut to.aud, Mistyped("aud"), OneOrMany)?,
                "exp" => blame.fill(map, &mut to.exp, NotATime("exp"), Seconds)?,
                "iat" => blame.fill(map, &mut to.iat, NotATime("iat"), Seconds)?,
                "nbf" => blame.fill(map, &mut to.nbf, NotATime("nbf"), Seconds)?,
                "jti" => blame.fill(map, &mut to.jti, NotUuidV7("jti"), text())?,
                "client_id" => blame.fill(map, &mut to.client_id, Mistyped("client_id"), text())?,
                "sid" => blame.fill(map, &mut to.sid, NotUuidV7("sid"), text())?,
                "scope" => blame.fill(map, &mut to.scope, Mistyped("scope"), text())?,
                "auth_time" => blame.fill(map, &mut to.auth_time, NotATime("auth_time"), Seconds)?,
                "acr" => blame.fill(map, &mut to.acr, Mistyped("acr"), PhantomData)?,
                "amr" => blame.fill(map, &mut to.amr, Mistyped("amr"), PhantomData)?,
                _ => Strict::member(blame).insert(map, &mut to.custom, name)?,
            }
        }
        Ok(to)
    }
}

/// A `NumericDate` (RFC 7519 §2) without a fraction. JSON's `1.0` and `1e9` are other types to other readers.
pub(super) struct Seconds;

impl<'de> DeserializeSeed<'de> for Seconds {
    type Value = Timestamp;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Timestamp, D::Error> {
        d.deserialize_u64(self)
    }
}
impl Visitor<'_> for Seconds {
    type Value = Timestamp;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds")
    }
    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Timestamp, E> {
        // `Timestamp` would cap what it cannot hold; a verifier must not move an instant.
        if seconds > Timestamp::MAX.seconds() {
            return Err(E::custom("too late"));
        }
        Ok(Timestamp::from_seconds(seconds))
    }
}

/// `aud`: one string, or an array of at least one (RFC 7519 §4.1.3).
pub(super) struct OneOrMany;

impl<'de> DeserializeSeed<'de> for OneOrMany {
    type Value = Vec<Audience>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}
impl<'de> Visitor<'de> for OneOrMany {
    type Value = Vec<Audience>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }
    fn visit_str<E: Error>(self, one: &str) -> Result<Self::Value, E> {
        one.parse().map(|one| vec![one]).map_err(E::custom)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut many = Vec::new();
        while let Some(one) = seq.next_element_seed(text())? {
            many.push(one);
        }
        if many.is_empty() { Err(A::Error::custom("for nobody")) } else { Ok(many) }
    }
}

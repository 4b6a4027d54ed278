//! Reads client assertions (RFC 7523 §3) under the same strict rules as access tokens. Whose they are and whether they
//! are good is the service's business: here nothing is believed.

use std::{fmt, marker::PhantomData};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Map;

use super::{
    MAX_TOKEN, Rejection,
    claims::{OneOrMany, Seconds},
    json::{Blame, Fault, Name, Strict, text},
    jws::{Jws, RawHeader},
};
use crate::model::{Algorithm, Audience, ClientId, Jwk, PublicKey, Timestamp};

/// The `jti` of an assertion is at most so long, in bytes.
const MAX_JTI: usize = 256;
/// What an assertion may call itself: nothing, a JWT, or by its own name (draft-ietf-oauth-rfc7523bis). A JWT of another
/// kind, such as an access token, is not one (RFC 8725 §3.11).
const TYPES: [&str; 4] =
    ["JWT", "client-authentication+jwt", "application/jwt", "application/client-authentication+jwt"];

/// An assertion that has been taken apart.
pub(crate) struct Assertion<'t> {
    jws: Jws<'t>,
    kid: Option<Box<str>>,
    /// RFC 7523 §3: issuer and subject, both the client.
    pub(crate) client: ClientId,
    /// For whom.
    pub(crate) audience: Vec<Audience>,
    /// Its name: it is good once.
    pub(crate) jti: Box<str>,
    /// No longer good from then on.
    pub(crate) expires: Timestamp,
    /// When it was made, if it says so.
    pub(crate) issued: Option<Timestamp>,
    /// Not good before, if it says so.
    pub(crate) not_before: Option<Timestamp>,
}

impl<'t> Assertion<'t> {
    /// Reads one.
    pub(crate) fn parse(text: &'t str) -> Result<Self, Rejection> {
        let jws = Jws::parse(text, MAX_TOKEN)?;
        let header = RawHeader::parse(&jws.header)?;
        if !header.typ.is_none_or(|typ| TYPES.iter().any(|right| typ.eq_ignore_ascii_case(right))) {
            return Err(Rejection::Type);
        }
        // The key decides what its signatures are; both of its names are fine, and no other.
        if header.alg.is_none_or(|alg| alg.parse::<Algorithm>().is_err()) {
            return Err(Rejection::Algorithm);
        }
        let draft = Draft::parse(&jws.payload)?;
        let missing = Rejection::ClaimMissing;
        let (issuer, subject) = (draft.iss.ok_or(missing("iss"))?, draft.sub.ok_or(missing("sub"))?);
        if issuer != subject {
            return Err(Rejection::ClaimMistyped("iss"));
        }
        let jti = draft.jti.filter(|jti| !jti.is_empty()).ok_or(missing("jti"))?;
        if jti.len() > MAX_JTI {
            return Err(Rejection::TooLong);
        }
        Ok(Self {
            jws,
            kid: header.kid,
            client: subject,
            audience: draft.aud.ok_or(missing("aud"))?,
            jti,
            expires: draft.exp.ok_or(missing("exp"))?,
            issued: draft.iat,
            not_before: draft.nbf,
        })
    }

    /// Which of these keys signed it, if any did: the one that it names, or any if it names none.
    pub(crate) fn signer(&self, keys: &[Jwk]) -> Option<PublicKey> {
        let signature = self.jws.signature().ok()?;
        let named = |jwk: &&Jwk| self.kid.as_ref().is_none_or(|kid| jwk.kid.as_str() == &**kid);
        keys.iter().filter(named).map(|jwk| jwk.key).find(|key| key.verifies(self.jws.signed, signature))
    }
}

/// Claims as they come in.
#[derive(Default)]
struct Draft {
    iss: Option<ClientId>,
    sub: Option<ClientId>,
    aud: Option<Vec<Audience>>,
    jti: Option<Box<str>>,
    exp: Option<Timestamp>,
    iat: Option<Timestamp>,
    nbf: Option<Timestamp>,
}

impl Draft {
    fn parse(payload: &[u8]) -> Result<Self, Rejection> {
        let blame = Blame::new();
        blame.read(payload, Seed(&blame)).map_err(|fault| match fault {
            Fault::TooDeep => Rejection::ClaimsTooDeep,
            Fault::Duplicate => Rejection::ClaimsDuplicate,
            Fault::Mistyped(name) => Rejection::ClaimMistyped(name),
            Fault::NotATime(name) => Rejection::ClaimNotATime(name),
            _ => Rejection::ClaimsNotObject,
        })
    }
}

struct Seed<'a>(&'a Blame);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Draft;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Draft, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Draft;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft, A::Error> {
        use Fault::{Mistyped, NotATime};
        let (blame, mut to, mut others, map) = (self.0, Draft::default(), Map::new(), &mut map);
        while let Some(name) = map.next_key_seed(Name)? {
            match &*name {
                "iss" => blame.fill(map, &mut to.iss, Mistyped("iss"), text())?,
                "sub" => blame.fill(map, &mut to.sub, Mistyped("sub"), text())?,
                "aud" => blame.fill(map, &mut to.aud, Mistyped("aud"), OneOrMany)?,
                "jti" => blame.fill(map, &mut to.jti, Mistyped("jti"), PhantomData)?,
                "exp" => blame.fill(map, &mut to.exp, NotATime("exp"), Seconds)?,
                "iat" => blame.fill(map, &mut to.iat, NotATime("iat"), Seconds)?,
                "nbf" => blame.fill(map, &mut to.nbf, NotATime("nbf"), Seconds)?,
                // Of no meaning to us (RFC 7523 §3, point 6), and still not twice.
                _ => Strict::member(blame).insert(map, &mut others, name)?,
            }
        }
        Ok(to)
    }
}

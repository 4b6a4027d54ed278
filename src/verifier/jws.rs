//! The outside of a token: a compact JWS (RFC 7515 §7.1) in its one spelling, and its header.

use std::{fmt, marker::PhantomData};

use base64::{DecodeError, Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Map;

use super::{
    Rejection,
    json::{Blame, Fault, Name, Strict},
};
use crate::model::{Jwk, JwkSet, claims::ACCESS_TOKEN_TYPE};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8192;

/// A token taken apart. Nothing in it is believed yet.
pub(super) struct Jws<'t> {
    /// Header and payload as they were signed, with the dot between them.
    pub(super) signed: &'t [u8],
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    pub(super) fn parse(token: &'t str, longest: usize) -> Result<Self, Rejection> {
        // Before anything that walks over the token: its length bounds all that follows.
        if token.len() > longest {
            return Err(Rejection::TooLong);
        }
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(Rejection::SegmentCount);
        };
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        Ok(Self { signed, header: decode(header)?, payload: decode(payload)?, signature: decode(signature)? })
    }
    pub(super) fn signature(&self) -> Result<&[u8; 64], Rejection> {
        self.signature.as_slice().try_into().map_err(|_| Rejection::SignatureLength)
    }
}

fn decode(segment: &str) -> Result<Vec<u8>, Rejection> {
    BASE64_URL_SAFE_NO_PAD.decode(segment).map_err(|e| match e {
        DecodeError::InvalidByte(_, b'=') | DecodeError::InvalidPadding => Rejection::Padding,
        DecodeError::InvalidByte(..) => Rejection::Character,
        // The decoder looks at the length first.
        _ if segment.contains('=') => Rejection::Padding,
        _ if !segment.bytes().all(is_base64url) => Rejection::Character,
        _ => Rejection::NotCanonical,
    })
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// What a header says that we heed. Other members mean nothing to us and are ignored (RFC 7515 §4).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) alg: Box<str>,
    pub(super) kid: Box<str>,
}

/// Members that bring a key of the sender's choice (RFC 8725 §3.10), or extensions that change how a token is read:
/// we implement none, so `crit` can never be satisfied (RFC 7515 §4.1.11, RFC 7797 §6).
const FORBIDDEN: [&str; 6] = ["crit", "jwk", "jku", "x5u", "x5c", "b64"];

impl Header {
    /// Reads a header whose `typ` is `right`.
    pub(super) fn parse(json: &[u8], right: impl FnOnce(&str) -> bool) -> Result<Self, Rejection> {
        let read = RawHeader::parse(json)?;
        if !read.typ.is_some_and(|typ| right(&typ)) {
            return Err(Rejection::Type);
        }
        let kid = read.kid.ok_or(Rejection::KeyIdMissing)?;
        // An absent `alg` is as good as a wrong one: it is never the key's.
        Ok(Self { alg: read.alg.unwrap_or_default(), kid })
    }

    /// Returns the one key under which the signature may hold, and its place in the set.
    pub(super) fn key<'k>(&self, keys: &'k JwkSet) -> Result<(usize, &'k Jwk), Rejection> {
        // By name and by nothing else: trying each key would let a sender choose among them.
        let mut numbered = keys.keys.iter().enumerate();
        let found = numbered.find(|(_, jwk)| jwk.kid.as_str() == &*self.kid).ok_or(Rejection::KeyUnknown)?;
        if &*self.alg == found.1.algorithm.name() { Ok(found) } else { Err(Rejection::Algorithm) }
    }
}

/// `at+jwt` or `application/at+jwt` and nothing else (RFC 9068 §4), in any case, as media types are (RFC 7515 §4.1.9).
pub(super) fn is_access_token(typ: &str) -> bool {
    let long = "application/";
    let short = match typ.get(..long.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(long) => &typ[long.len()..],
        _ => typ,
    };
    short.eq_ignore_ascii_case(ACCESS_TOKEN_TYPE)
}

/// A header of any type, with nothing in it that we refuse in all of them.
#[derive(Default)]
pub(super) struct RawHeader {
    pub(super) alg: Option<Box<str>>,
    pub(super) kid: Option<Box<str>>,
    pub(super) typ: Option<Box<str>>,
    forbidden: Option<&'static str>,
}

impl RawHeader {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Rejection> {
        let blame = Blame::new();
        let read = blame.read(json, HeaderSeed(&blame)).map_err(|fault| match fault {
            Fault::TooDeep => Rejection::HeaderTooDeep,
            Fault::Duplicate => Rejection::HeaderDuplicate,
            Fault::Mistyped(name) => Rejection::HeaderMistyped(name),
            _ => Rejection::HeaderNotObject,
        })?;
        match read.forbidden {
            Some(name) => Err(Rejection::HeaderForbidden(name)),
            None => Ok(read),
        }
    }
}

struct HeaderSeed<'a>(&'a Blame);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = RawHeader;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<RawHeader, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = RawHeader;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let (blame, mut raw, mut others) = (self.0, RawHeader::default(), Map::new());
        while let Some(name) = map.next_key_seed(Name)? {
            match &*name {
                "alg" => blame.fill(&mut map, &mut raw.alg, Fault::Mistyped("alg"), PhantomData)?,
                "kid" => blame.fill(&mut map, &mut raw.kid, Fault::Mistyped("kid"), PhantomData)?,
                "typ" => blame.fill(&mut map, &mut raw.typ, Fault::Mistyped("typ"), PhantomData)?,
                other => {
                    let forbidden = FORBIDDEN.into_iter().find(|name| *name == other);
                    raw.forbidden = raw.forbidden.or(forbidden);
                    Strict::member(blame).insert(&mut map, &mut others, name)?;
                }
            }
        }
        Ok(raw)
    }
}

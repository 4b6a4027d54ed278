//! Identifiers: each parses once, at the edge, and is then known to be well formed.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::Timestamp;

/// Why a text is not an identifier. Holds what was expected, never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{expected}")]
pub struct IdError {
    expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Builds one from the instant and 10 random bytes (RFC 9562 §5.7).
            #[must_use]
            pub fn new(at: Timestamp, random: &[u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(at.millis(), random).into_uuid())
            }
            /// The instant stamped into it, to the millisecond. Cut-offs compare with this.
            #[must_use]
            pub fn stamp(self) -> Timestamp {
                let b = self.0.as_bytes();
                Timestamp::from_millis(u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]))
            }
            /// Its 16 bytes, which sort by time.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
            /// From 16 bytes; `None` unless they are a UUID of version 7.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
                let id = Uuid::from_bytes(bytes);
                (id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122).then_some(Self(id))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            /// Only the canonical spelling: 36 characters, lower case.
            fn from_str(text: &str) -> Result<Self, IdError> {
                let err = IdError { expected: "a UUID of version 7 in lower case" };
                if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(err);
                }
                Uuid::try_parse(text).ok().and_then(|id| Self::from_bytes(id.into_bytes())).ok_or(err)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let err = || serde::de::Error::custom("not a UUID of version 7");
                Self::from_bytes(Uuid::deserialize(d)?.into_bytes()).ok_or_else(err)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id! {
    /// Names one access token: its `jti` (RFC 7519 §4.1.7), a UUIDv7 that says when it was minted.
    TokenId
}
uuid_id! {
    /// Names one session and its family of refresh tokens: the `sid`, a UUIDv7 that says when it was opened.
    SessionId
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:literal, $allowed:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.chars().all(allowed) {
                    return Err(IdError { expected: $expected });
                }
                Ok(Self(text.into()))
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_id! {
    /// Whom a token speaks of: `sub` (RFC 7519 §4.1.2).
    Subject, 255, |c| !c.is_control(), "subject: 1 to 255 bytes without control characters"
}
text_id! {
    /// A client's identifier (RFC 6749 §2.2).
    ClientId, 128, |c| c.is_ascii_graphic(), "client_id: 1 to 128 visible ASCII characters"
}
text_id! {
    /// A key's identifier: `kid` (RFC 7517 §4.5). Ours are RFC 7638 thumbprints.
    Kid, 128, |c| c.is_ascii_graphic(), "kid: 1 to 128 visible ASCII characters"
}
text_id! {
    /// Under which a verifier reports how far it is: each process by one of its own.
    VerifierName, 64, |c| c.is_ascii_graphic(), "verifier: 1 to 64 visible ASCII characters"
}
text_id! {
    /// Who a token is for: one member of `aud` (RFC 7519 §4.1.3).
    Audience, 255, |c| !c.is_control(), "audience: 1 to 255 bytes without control characters"
}

/// Stands for a subject wherever an outsider may look: a keyed hash of it, so that it cannot be guessed backwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectRef(pub [u8; 16]);

impl FromStr for SubjectRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let err = IdError { expected: "subject reference: 22 characters of base64url" };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| err)?;
        bytes.try_into().map(Self).map_err(|_| err)
    }
}
impl fmt::Display for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}
impl fmt::Debug for SubjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Serialize for SubjectRef {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
    }
}
impl<'de> Deserialize<'de> for SubjectRef {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(d).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_instant() {
        let at = Timestamp::from_millis(1_795_374_805_007);
        let id = SessionId::new(at, &[0xff; 10]);
        assert_eq!(id.stamp(), at);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = TokenId::new(Timestamp::from_millis(1), &[0xab; 10]).to_string();
        for bad in [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!(" {id}"), String::new()] {
            assert!(bad.parse::<TokenId>().is_err(), "{bad}");
        }
        assert!("67e55044-10b1-426f-9247-bb680e5fe0c8".parse::<TokenId>().is_err(), "version 4");
    }
}

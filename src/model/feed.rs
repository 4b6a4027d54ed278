//! The revocation feed as it goes over the wire: the live denylist as an ordered log that anyone may follow.
//!
//! Positions count entries and are never given twice within an epoch. [`PAGE`] positions make a page of history, which
//! never changes in what it denies, so anyone may cache it; what lies after the last whole page is the tail. Both are
//! compact JWS (RFC 7515) by the feed key, which signs nothing else, each with a `typ` of its own. A tail echoes the
//! nonce of whoever asked: it cannot be an older answer. Each answer covers the log from one [`Mark`] to another, and a
//! mark's digest stands for all that came before it, so two answers that do not belong to one log do not join.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    ClientId, Kid, SessionId, SubjectRef, Timestamp, TokenId,
    denial::{Ends, Entry, Target},
};

/// The `typ` of a page of history.
pub const PAGE_TYPE: &str = "rescind-feed-page+jwt";
/// The `typ` of a tail.
pub const TAIL_TYPE: &str = "rescind-feed-tail+jwt";
/// Positions of one page of history, and the most entries that any answer carries.
pub const PAGE: u64 = 1000;
/// The longest answer, in bytes: [`PAGE`] of the longest entries, signed.
pub const MAX_ANSWER: usize = 1 << 20;

macro_rules! base64_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $len]);

        impl FromStr for $name {
            type Err = NotBytes;
            fn from_str(text: &str) -> Result<Self, NotBytes> {
                let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NotBytes($len))?;
                bytes.try_into().map(Self).map_err(|_| NotBytes($len))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

/// Not so many bytes of base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {0} bytes of unpadded base64url")]
pub struct NotBytes(usize);

base64_bytes! {
    /// Which life of the log: positions of different epochs do not compare.
    Epoch, 16
}
base64_bytes! {
    /// Stands for all of the log up to a position.
    Digest, 32
}
base64_bytes! {
    /// Chosen by the follower for one request, never twice.
    Nonce, 16
}
base64_bytes! {
    /// Which key set is current: SHA-256 over the JWKS as it is served.
    KeysVersion, 32
}

/// A place in the log, and what lies before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// How many entries lie before it, expired ones counted.
    pub position: u64,
    /// What they were.
    pub digest: Digest,
}

/// A place in a life of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which life.
    pub epoch: Epoch,
    /// Where in it.
    pub mark: Mark,
}

/// A page of history: all live entries between two marks. `from` is at a multiple of [`PAGE`], `to` at a later one:
/// pages without live entries are left out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Whose log.
    #[serde(rename = "iss")]
    pub issuer: Box<str>,
    /// Which life of it.
    pub epoch: Epoch,
    /// Where it begins.
    pub from: Mark,
    /// Where it ends.
    pub to: Mark,
    /// What is denied.
    pub entries: Vec<Item>,
}

/// The end of the log, or a part of it, and what is current beside it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Tail {
    /// Whose log.
    #[serde(rename = "iss")]
    pub issuer: Box<str>,
    /// Of the request that this answers.
    pub nonce: Nonce,
    /// Which life of the log.
    pub epoch: Epoch,
    /// Where it begins: at the mark that was asked for, if that is one of this log; else at the last whole page.
    pub from: Mark,
    /// Where it ends.
    pub to: Mark,
    /// Where the log ended when this was signed. If that is where `to` is, nothing is missing.
    pub head: u64,
    /// The first page of history that holds live entries; if there is none, the first that is not whole yet.
    pub first_page: u64,
    /// The issuer's time, in milliseconds. What expired by then has left the log.
    pub now: Timestamp,
    /// For how many milliseconds the request had been waiting when the log was read for this.
    pub waited: u64,
    /// Above the cap on waiting followers: how many milliseconds to let pass before asking again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<u64>,
    /// The key set that is current.
    pub keys: KeysVersion,
    /// What is denied.
    pub entries: Vec<Item>,
}

/// One entry of the feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its place in the log.
    pub position: u64,
    /// What is denied.
    pub target: Target,
    /// What a cut-off ends.
    pub ends: Ends,
    /// A cut-off covers what is stamped before this instant.
    pub before: Timestamp,
    /// Until when a verifier must know it. [`Timestamp::MAX`]: for ever.
    pub until: Timestamp,
}

impl From<&Entry> for Item {
    fn from(entry: &Entry) -> Self {
        let cut_off = entry.target.is_cut_off();
        Self {
            position: entry.position,
            target: entry.target.clone(),
            ends: if cut_off { entry.ends } else { Ends::default() },
            before: if cut_off { entry.before } else { Timestamp::default() },
            until: entry.feed_until,
        }
    }
}

/// An entry as JSON: the claim that it is about, by the name that the claim has in a token.
///
/// What is not known is refused: an entry that a follower cannot honour must not be skipped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    n: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub_ref: Option<SubjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<Kid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends: Option<Ends>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let cut_off = self.target.is_cut_off();
        let mut row = Row {
            n: self.position,
            jti: None,
            sid: None,
            sub_ref: None,
            client_id: None,
            kid: None,
            all: None,
            ends: cut_off.then_some(self.ends),
            before: cut_off.then_some(self.before),
            until: (self.until < Timestamp::MAX).then_some(self.until),
        };
        match &self.target {
            Target::Token(id) => row.jti = Some(*id),
            Target::Session(id) => row.sid = Some(*id),
            Target::Subject(id) => row.sub_ref = Some(*id),
            Target::Client(id) => row.client_id = Some(id.clone()),
            Target::Key(id) => row.kid = Some(id.clone()),
            Target::All => row.all = Some(true),
        }
        row.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let row = Row::deserialize(d)?;
        let targets = [
            row.jti.map(Target::Token),
            row.sid.map(Target::Session),
            row.sub_ref.map(Target::Subject),
            row.client_id.map(Target::Client),
            row.kid.map(Target::Key),
            row.all.filter(|all| *all).map(|_| Target::All),
        ];
        let mut targets = targets.into_iter().flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err(D::Error::custom("an entry denies one thing"));
        };
        let (ends, before) = match (target.is_cut_off(), row.ends, row.before) {
            (true, Some(ends), Some(before)) => (ends, before),
            (false, None, None) => (Ends::default(), Timestamp::default()),
            _ => return Err(D::Error::custom("a cut-off, and nothing else, has `ends` and `before`")),
        };
        let until = row.until.unwrap_or(Timestamp::MAX);
        Ok(Self { position: row.n, target, ends, before, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(target: Target) -> Item {
        let cut_off = target.is_cut_off();
        let before = Timestamp::from_millis(if cut_off { 77 } else { 0 });
        let ends = if cut_off { Ends::Tokens } else { Ends::default() };
        Item { position: 7, target, ends, before, until: Timestamp::from_millis(99) }
    }

    #[test]
    fn every_entry_reads_back() {
        let at = Timestamp::from_millis(1_795_374_805_007);
        let targets = [
            Target::Token(TokenId::new(at, &[1; 10])),
            Target::Session(SessionId::new(at, &[2; 10])),
            Target::Subject(SubjectRef([3; 16])),
            Target::Client("app".parse().unwrap()),
            Target::Key("k".parse().unwrap()),
            Target::All,
        ];
        for target in targets {
            let there = item(target);
            let json = serde_json::to_string(&there).unwrap();
            assert_eq!(serde_json::from_str::<Item>(&json).unwrap(), there, "{json}");
        }
        let for_ever = Item { until: Timestamp::MAX, ..item(Target::Key("k".parse().unwrap())) };
        assert_eq!(serde_json::to_string(&for_ever).unwrap(), r#"{"n":7,"kid":"k"}"#);
    }

    #[test]
    fn an_entry_that_cannot_be_honoured_is_refused() {
        for bad in [
            r#"{"n":1}"#,
            r#"{"n":1,"device":"x","until":9}"#,
            r#"{"n":1,"kid":"k","client_id":"c","ends":"tokens","before":1}"#,
            r#"{"n":1,"client_id":"c","until":9}"#,
            r#"{"n":1,"client_id":"c","ends":"tomorrow","before":1,"until":9}"#,
            r#"{"n":1,"kid":"k","before":1}"#,
            r#"{"n":1,"all":false,"ends":"tokens","before":1}"#,
            r#"{"n":1,"jti":"67e55044-10b1-426f-9247-bb680e5fe0c8","until":9}"#,
            r#"{"n":-1,"kid":"k"}"#,
        ] {
            assert!(serde_json::from_str::<Item>(bad).is_err(), "{bad}");
        }
    }
}

//! The symmetric secrets by their kind, and what follows when one is in other hands: one table, which the answers of the
//! service and the documents quote.

use std::{fmt, str::FromStr};

/// What a secret in `secrets.json` is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SecretKind {
    /// Signs the feed, and by way of a label the head of the audit log.
    Feed,
    /// Refresh tokens are made of it.
    Derivation,
    /// Seals what the store must not read or change: whose session it is, and the book of clients.
    Sealing,
}

impl SecretKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Feed, Self::Derivation, Self::Sealing];

    /// Its name on the wire, in the file and in the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Derivation => "derivation",
            Self::Sealing => "sealing",
        }
    }
    /// What follows when it is in other hands.
    #[must_use]
    pub const fn exposure(self) -> Exposure {
        match self {
            Self::Feed => FEED,
            Self::Derivation => DERIVATION,
            Self::Sealing => SEALING,
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No kind of secret has that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("feed, derivation or sealing")]
pub struct UnknownKind;

impl FromStr for SecretKind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownKind)
    }
}

/// What somebody can do who has a secret, and what is left of that once it has been said to be compromised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exposure {
    /// With the key alone.
    pub alone: &'static str,
    /// With the key, and reading the store.
    pub store_read: &'static str,
    /// With the key, and writing the store.
    pub store_write: &'static str,
    /// What a compromise does about it.
    pub done: &'static str,
    /// What remains after that.
    pub remains: &'static str,
    /// What ending all sessions adds; `None`: sessions do not depend on it.
    pub with_end_sessions: Option<&'static str>,
}

const FEED: Exposure = Exposure {
    alone: "whoever also stands between the issuer and a follower can hide revocations from it or invent them; no token can \
            be made",
    store_read: "no more than with the key alone",
    store_write: "the audit log can be written anew and its head be signed: compare it with an export of before",
    done: "the feed and the head of the audit log are signed by new keys; the old ones leave the metadata at once, and \
           followers that have read it since refuse whatever they sign",
    remains: "a follower that is kept from the new metadata believes the old key for 15 minutes after it last read the \
              metadata, and is unavailable from then on; who was given the feed's keys by hand trusts the old one until given \
              others; auditors note the new key of the audit log",
    with_end_sessions: None,
};

const DERIVATION: Exposure = Exposure {
    alone: "no token can be made: each takes a nonce that only the store holds; a forgery costs the store a look",
    store_read: "with the sealing key, which lies in the same file, the refresh tokens of all sessions opened under it; \
                 without it, nothing more",
    store_write: "as with reading it; spent tokens can be made good again",
    done: "new sessions use a new key, and the old one counts for none of them",
    remains: "a session keeps its key for life: the refresh tokens of those that were opened before can still be made, by \
              whoever also has the sealing key and the store, until they end",
    with_end_sessions: Some(
        "all sessions end, and the old key is destroyed: refresh tokens made with it are refused for good, also if the store \
         should lose the cut-off",
    ),
};

const SEALING: Exposure = Exposure {
    alone: "nothing: what it opens lies in the store",
    store_read: "subjects, scopes and claims of sessions can be read; with the derivation key, which lies in the same file, \
                 their refresh tokens can be made",
    store_write: "whose session it is and what it may do can be changed; clients can be enabled and given secrets",
    done: "the book of clients is sealed under a new key and opens under no other; new and amended sessions are sealed under \
           it, and the old one opens those alone that were opened before",
    remains: "sessions that were opened before can be read and changed by whoever also has the store, until they end; with the \
              derivation key others can be made that look as old, and only ending all sessions ends those",
    with_end_sessions: Some(
        "all sessions end, and the old key is destroyed: nothing that it sealed opens any more, whoever writes the store",
    ),
};

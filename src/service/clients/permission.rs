//! What a client may do, each thing by a name of its own.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::denial::Target;

macro_rules! permissions {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// Something that a client may do.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Permission {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in a configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it allows, in a sentence or two.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*),)*
                }
            }
        }
    };
}

permissions! {
    /// Open sessions, within the client's `scope` and `audience`.
    SessionsOpen = "sessions:open",
    /// Look at sessions.
    SessionsRead = "sessions:read",
    /// Change what a session's next tokens say, of sessions within the client's own `scope` and `audience`.
    SessionsAmend = "sessions:amend",
    /// End sessions by `/v1/sessions`.
    SessionsRevoke = "sessions:revoke",
    /// Deny anything: all the kinds below.
    Revoke = "revoke",
    /// Deny single access tokens.
    RevokeToken = "revoke:token",
    /// Deny sessions.
    RevokeSession = "revoke:session",
    /// Cut off subjects.
    RevokeSubject = "revoke:subject",
    /// Cut off clients.
    RevokeClient = "revoke:client",
    /// Deny signing keys.
    RevokeKey = "revoke:key",
    /// Cut off everyone.
    RevokeAll = "revoke:all",
    /// Read the denylist.
    RevocationsRead = "revocations:read",
    /// See which verifiers report, and how far they are.
    VerifiersRead = "verifiers:read",
    /// Report how far a verifier is.
    VerifiersReport = "verifiers:report",
    /// Introspect tokens (RFC 7662), those for the client's `introspect_audience`.
    Introspect = "introspect",
    /// Fetch tokens of its own (RFC 6749 §4.4).
    ClientCredentials = "client_credentials",
    /// Look at the keys: names, states and ages, and the public halves.
    KeysRead = "keys:read",
    /// Move signing keys on by the schedule's rules: generate, activate, roll back, retire, destroy; replace the feed,
    /// derivation and sealing keys.
    KeysRotate = "keys:rotate",
    /// Say that a key is compromised, and, with `revoke:all`, that all sessions end with it or that keys which are not here
    /// are gone on purpose.
    KeysCompromise = "keys:compromise",
    /// Bring signing keys in: whoever may do so can sign tokens of any content.
    KeysImport = "keys:import",
    /// Take private signing keys out, encrypted: whoever may do so can sign tokens of any content.
    KeysExport = "keys:export",
    /// Look at the clients: no secret can be read.
    ClientsRead = "clients:read",
    /// Disable and enable clients, whichever; replace the secrets of those that may do no more than the client itself.
    ClientsWrite = "clients:write",
    /// Read the audit log.
    AuditRead = "audit:read",
    /// Export what is kept about a subject.
    SubjectsExport = "subjects:export",
    /// Erase what is kept about a subject.
    SubjectsErase = "subjects:erase",
    /// Send a test message to the webhook.
    WebhookTest = "webhook:test",
    /// Look at the store: whether it is whole, how large it is.
    StoreRead = "store:read",
    /// Fetch a copy of the store.
    Backup = "backup",
    /// Declare that the store was put back from a copy.
    StoreRestore = "store:restore",
}

impl Permission {
    /// What it takes to deny this.
    #[must_use]
    pub const fn to_revoke(target: &Target) -> Self {
        match target {
            Target::Token(_) => Self::RevokeToken,
            Target::Session(_) => Self::RevokeSession,
            Target::Subject(_) => Self::RevokeSubject,
            Target::Client(_) => Self::RevokeClient,
            Target::Key(_) => Self::RevokeKey,
            Target::All => Self::RevokeAll,
        }
    }

    /// Those of which each one includes it.
    #[must_use]
    pub const fn included_in(self) -> &'static [Self] {
        match self {
            Self::RevokeToken
            | Self::RevokeSession
            | Self::RevokeSubject
            | Self::RevokeClient
            | Self::RevokeKey
            | Self::RevokeAll => &[Self::Revoke],
            Self::RevocationsRead => &[
                Self::Revoke,
                Self::RevokeToken,
                Self::RevokeSession,
                Self::RevokeSubject,
                Self::RevokeClient,
                Self::RevokeKey,
                Self::RevokeAll,
            ],
            Self::KeysRead => &[Self::KeysRotate, Self::KeysCompromise, Self::KeysImport, Self::KeysExport],
            Self::StoreRead => &[Self::Backup, Self::StoreRestore],
            _ => &[],
        }
    }
}

impl FromStr for Permission {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|p| p.name() == text);
        found.copied().ok_or_else(|| format!("`{text}` is not a permission; known are {}", known()))
    }
}
impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}
impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

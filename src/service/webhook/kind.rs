//! What can be told.

use std::{fmt, str::FromStr};

use crate::model::audit::{Event, Record};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// Something that a webhook can tell: the message's `type`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it tells.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*),)*
                }
            }
        }
    };
}

kinds! {
    /// A spent refresh token came again: its session was closed.
    SessionReused = "session.reused",
    /// The store had lost rotations; they were made good.
    SessionHealed = "session.healed",
    /// Another client, or another key, presented a refresh token: it has leaked, and its session was closed.
    TokenLeaked = "token.leaked",
    /// All sessions or tokens of a client, or of everyone, were cut off.
    RevocationMass = "revocation.mass",
    /// Another key signs.
    KeyRotated = "key.rotated",
    /// A key was retired.
    KeyRetired = "key.retired",
    /// A key was denied: also one that was said to be compromised.
    KeyRevoked = "key.revoked",
    /// A key was said to be compromised: it signs no more, and whatever it signed is refused; or it makes and seals nothing
    /// more.
    KeyCompromised = "key.compromised",
    /// A key was generated, brought in, rolled back to, destroyed, or handed out; a feed, derivation or sealing key was
    /// replaced.
    KeyChanged = "key.changed",
    /// A client was disabled, enabled, or got another secret.
    ClientChanged = "client.changed",
    /// An operator accepted what the store has lost, or declared that it was put back.
    StoreAccepted = "store.accepted",
    /// The audit log is not the one that the service wrote.
    AuditBroken = "audit.broken",
    /// Something happened too often: renewals, failures, revocations.
    Alert = "alert",
}

impl Kind {
    /// What a record is told as, if it is.
    #[must_use]
    pub fn of(record: &Record) -> Option<Self> {
        Self::told(record.event, record.cause.as_deref().unwrap_or_default())
    }

    pub(crate) fn told(event: Event, cause: &str) -> Option<Self> {
        Some(match event {
            Event::Reused if cause.starts_with("Other") => Self::TokenLeaked,
            Event::Reused => Self::SessionReused,
            Event::Healed => Self::SessionHealed,
            // What was revoked stands before the operator's words.
            Event::Revoked => match cause.split([':', ' ']).next().unwrap_or_default() {
                "all" | "client" => Self::RevocationMass,
                "key" => Self::KeyRevoked,
                _ => return None,
            },
            Event::KeyRotated => Self::KeyRotated,
            Event::KeyRetired => Self::KeyRetired,
            Event::KeyCompromised | Event::SecretKeyCompromised => Self::KeyCompromised,
            Event::KeyGenerated
            | Event::KeyImported
            | Event::KeyRolledBack
            | Event::KeyDestroyed
            | Event::KeyExported
            | Event::SecretKeyRotated
            | Event::UnknownKeysForgotten => Self::KeyChanged,
            Event::StoreAccepted => Self::StoreAccepted,
            Event::AuditBroken => Self::AuditBroken,
            Event::Alert => Self::Alert,
            other => match &*other.name() {
                "store_restored" => Self::StoreAccepted,
                name if name.starts_with("client_") && name != "client_token" => Self::ClientChanged,
                _ => return None,
            },
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.iter().map(|k| k.name()).collect::<Vec<_>>().join(", ");
        let found = Self::ALL.iter().find(|k| k.name() == text).copied();
        found.ok_or_else(|| format!("`{text}` is no kind of event; known are {}", known()))
    }
}

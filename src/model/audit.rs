//! Audit records: who had access and when, and who took it away. Never a token.

use serde::{Deserialize, Serialize};

use super::{ClientId, SessionId, Subject, SubjectRef, Timestamp, family::Generation};

macro_rules! events {
    ($($(#[doc = $doc:literal])* $variant:ident,)*) => {
        /// What happened.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Event {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Event {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// What it says, in a sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*),)*
                }
            }
        }
    };
}

events! {
    /// A session was opened.
    SessionOpened,
    /// A refresh token was exchanged.
    Refreshed,
    /// The answer to an exchange was given again.
    Retried,
    /// Rotations lost by the store were made good.
    Healed,
    /// A spent or foreign token came; the family was closed.
    Reused,
    /// A token of a known family was refused.
    Refused,
    /// A trusted client changed what the next token will say.
    SessionAmended,
    /// A client fetched a token of its own.
    ClientToken,
    /// Something was revoked.
    Revoked,
    /// The signing key changed.
    KeyRotated,
    /// A signing key was retired: the last token that it signed has expired.
    KeyRetired,
    /// An operator accepted what the store has lost.
    StoreAccepted,
    /// Something was seen too often: renewals of one session, failed authentications, revocations.
    Alert,
    /// All that is kept about a subject was handed out.
    SubjectExported,
    /// What can be forgotten about a subject was removed.
    SubjectErased,
    /// The oldest records were dropped, as the configuration says.
    AuditDropped,
    /// The log is not the one that this service wrote.
    AuditBroken,
    /// A client began to fetch a backup: from here on it may have what the store holds.
    BackupStarted,
    /// A backup was sent to its end.
    BackupFinished,
    /// A client was disabled: refused everywhere from then on.
    ClientDisabled,
    /// A client was enabled again.
    ClientEnabled,
    /// A client got a new secret.
    ClientSecretRotated,
    /// A secret of a client was dropped.
    ClientSecretDropped,
    /// A further key stands by.
    KeyGenerated,
    /// A key was brought in and stands by.
    KeyImported,
    /// A key that had signed before signs again.
    KeyRolledBack,
    /// The private half of a key was given up.
    KeyDestroyed,
    /// A key was said to be compromised: whatever it signed is refused, for ever.
    KeyCompromised,
    /// The private half of a key was handed out, encrypted.
    KeyExported,
    /// A new feed, derivation or sealing key is in use.
    SecretKeyRotated,
    /// The feed, derivation or sealing key was said to be compromised.
    SecretKeyCompromised,
    /// What was made under keys that are not here was said to be over.
    UnknownKeysForgotten,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As asked.
    Done,
    /// Refused.
    Refused,
    /// Refused, and the session was closed for it.
    Closed,
}

/// Where a request came from, as far as it is known.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// Address of the peer.
    pub ip: Option<Box<str>>,
    /// Its `User-Agent`, cut to 256 bytes.
    pub user_agent: Option<Box<str>>,
}

/// What the caller knows of an event before the step in which it happens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Draft {
    /// The authenticated client that asked.
    pub actor: Option<ClientId>,
    /// The client concerned.
    pub client: Option<ClientId>,
    /// The subject concerned.
    pub subject: Option<Subject>,
    /// From where.
    pub origin: Origin,
}

/// One record, written in the same step as the change that it tells of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the log.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// How it ended.
    pub outcome: Outcome,
    /// The authenticated client that asked.
    pub actor: Option<ClientId>,
    /// The client concerned.
    pub client: Option<ClientId>,
    /// The subject concerned.
    pub subject: Option<Subject>,
    /// The session concerned.
    pub session: Option<SessionId>,
    /// The generation presented.
    pub generation: Option<Generation>,
    /// From where.
    pub origin: Origin,
    /// Why, in a word or a sentence.
    pub cause: Option<Box<str>>,
    /// Stands for the subject once its name has been erased.
    pub subject_ref: Option<SubjectRef>,
    /// What ties the record to those before it.
    pub link: Link,
}

/// A record's place in the chain: see [`super::chain`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Link {
    /// The digest of the record before.
    pub previous: [u8; 32],
    /// Commits to the personal part: subject, origin, an operator's words.
    pub personal: [u8; 32],
    /// What the commitment is blinded with. Gone once the personal part has been erased.
    pub salt: Option<[u8; 16]>,
}

impl Event {
    /// Whether `cause` quotes what a person wrote, which may name somebody.
    #[must_use]
    pub const fn quotes(self) -> bool {
        matches!(self, Self::Revoked | Self::SecretKeyCompromised | Self::UnknownKeysForgotten)
    }
    /// Its name in `/v1/audit`.
    #[must_use]
    pub fn name(self) -> Box<str> {
        let name = serde_json::to_value(self).ok();
        name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().into()
    }
}

impl Record {
    /// Takes away what names a person. The chain still holds: it covers a commitment to it.
    pub fn erase(&mut self) {
        self.subject = None;
        self.origin = Origin::default();
        if self.event.quotes() {
            self.cause = None;
        }
        self.link.salt = None;
    }
}

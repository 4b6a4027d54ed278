//! What can be denied, and whom a denial covers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ClientId, Kid, SessionId, SubjectRef, Timestamp, TokenId};

/// What is denied.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Target {
    /// One access token.
    Token(TokenId),
    /// One session: its tokens; its family is closed in the same step.
    Session(SessionId),
    /// A subject, up to an instant.
    Subject(SubjectRef),
    /// A client, up to an instant.
    Client(ClientId),
    /// Everything that a key has signed, for ever.
    Key(Kid),
    /// Everyone, up to an instant.
    All,
}

impl Target {
    /// Its name in `/v1/revocations`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Session(_) => "session",
            Self::Subject(_) => "subject",
            Self::Client(_) => "client",
            Self::Key(_) => "key",
            Self::All => "all",
        }
    }
    /// Whether it is a cut-off: one record for however many tokens.
    #[must_use]
    pub const fn is_cut_off(&self) -> bool {
        matches!(self, Self::Subject(_) | Self::Client(_) | Self::All)
    }
}

/// What a cut-off ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// Sessions opened before it, with their tokens and their refresh.
    #[default]
    Sessions,
    /// Tokens minted before it; sessions go on.
    Tokens,
}

/// One live entry of the denylist.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the log; never given twice within an epoch.
    pub position: u64,
    /// What is denied.
    pub target: Target,
    /// What a cut-off ends.
    pub ends: Ends,
    /// A cut-off covers what is stamped before this instant. For other targets, when it was recorded.
    pub before: Timestamp,
    /// When it was recorded.
    pub at: Timestamp,
    /// Until when a verifier must know it.
    pub feed_until: Timestamp,
    /// Until when the issuer keeps it.
    pub kept_until: Timestamp,
    /// Why, in an operator's words.
    pub reason: Option<Box<str>>,
}

/// What a denial is asked about: the facts of one access token.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Its `jti`.
    pub token: TokenId,
    /// Its `sid`.
    pub session: Option<SessionId>,
    /// Its `sub_ref`.
    pub subject: SubjectRef,
    /// Its `client_id`.
    pub client: ClientId,
    /// Its `kid`.
    pub key: Kid,
}

impl Bearer {
    /// The stamp that a cut-off compares with: of the session's opening or of the token's minting. A client's own
    /// token has no session and stands for itself.
    #[must_use]
    pub fn stamp(&self, ends: Ends) -> Timestamp {
        match (ends, self.session) {
            (Ends::Sessions, Some(session)) => session.stamp(),
            _ => self.token.stamp(),
        }
    }
}

impl Entry {
    /// Whether it denies this token.
    #[must_use]
    pub fn denies(&self, bearer: &Bearer) -> bool {
        let before = || bearer.stamp(self.ends) < self.before;
        match &self.target {
            Target::Token(token) => *token == bearer.token,
            Target::Session(session) => Some(*session) == bearer.session,
            Target::Key(key) => *key == bearer.key,
            Target::Subject(subject) => *subject == bearer.subject && before(),
            Target::Client(client) => *client == bearer.client && before(),
            Target::All => before(),
        }
    }
}

/// How long entries are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// The longest life of an access token.
    pub access: Duration,
    /// The longest life of a session.
    pub session: Duration,
}

/// Entries about single sessions and tokens that one subject may have in the list. Beyond it, one cut-off of the
/// subject's tokens stands for all: its sessions go on, and fetch new tokens.
pub const SINGLES_PER_SUBJECT: u32 = 128;
/// The same for tokens that a client fetched for itself, and hands back.
pub const SINGLES_PER_CLIENT: u32 = 8192;

/// The greatest leeway that any verifier may allow, plus a margin for the time between a stamp and its comparison.
pub const LEEWAY_AND_MARGIN: Duration = Duration::from_secs(60 + 5);

impl Retention {
    /// Until when verifiers and the issuer keep an entry. `expires` is the `exp` of the last token that it can
    /// concern, where that is known.
    #[must_use]
    pub fn of(
        &self,
        target: &Target,
        ends: Ends,
        before: Timestamp,
        expires: Option<Timestamp>,
    ) -> (Timestamp, Timestamp) {
        let feed = expires.unwrap_or_else(|| before.plus(self.access)).plus(LEEWAY_AND_MARGIN);
        match target {
            Target::Key(_) => (Timestamp::MAX, Timestamp::MAX),
            // A refresh asks for these as long as a session opened before them can live.
            Target::Subject(_) | Target::Client(_) | Target::All if ends == Ends::Sessions => {
                (feed, feed.max(before.plus(self.session)))
            }
            _ => (feed, feed),
        }
    }
}

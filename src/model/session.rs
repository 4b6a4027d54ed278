//! What a session keeps about whom it belongs to. Sealed in the store, so that who can write there cannot change it.

use serde::{Deserialize, Serialize};

use super::{Audience, ClientId, Scope, Subject, Timestamp};

/// How many sessions a subject may have at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionCap {
    /// So many; at least one.
    pub most: usize,
    /// What becomes of one more.
    pub on_full: OnFull,
}

/// What becomes of a session that would be one too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It is not opened.
    #[default]
    Refuse,
    /// The oldest makes way for it.
    EndOldest,
}

/// The device that a session was opened on, as the login application saw it. Every member is always written: the
/// store's encoding does not name them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// What the person calls it.
    #[serde(default)]
    pub label: Option<Box<str>>,
    /// Address at the login.
    #[serde(default)]
    pub ip: Option<Box<str>>,
    /// `User-Agent` at the login.
    #[serde(default)]
    pub user_agent: Option<Box<str>>,
}

/// Whose session it is and what it may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Whose.
    pub subject: Subject,
    /// Which client refreshes it.
    pub client: ClientId,
    /// For whom its tokens are.
    pub audience: Vec<Audience>,
    /// What they allow at most.
    pub scope: Scope,
    /// Custom claims, a JSON object.
    pub claims: Box<str>,
    /// Where it was opened.
    pub device: Device,
    /// When the subject authenticated. Refreshing does not move it.
    pub auth_time: Option<Timestamp>,
    /// How strongly.
    pub acr: Option<Box<str>>,
    /// By which methods (RFC 8176).
    pub amr: Vec<Box<str>>,
    /// Its absolute end.
    pub absolute_until: Timestamp,
    /// Half of what its refresh secrets derive from; the other half is a server key.
    pub nonce: [u8; 16],
}

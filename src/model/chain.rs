//! The audit log as a chain: each record carries the digest of the one before it, and the service signs the newest.
//!
//! A digest covers every member of a record as `/v1/audit` and the export show it, so whoever has the lines can compute
//! it anew; the personal part (subject, address, user agent, an operator's words) it covers by a salted commitment, so
//! that it can be erased without a break. Whoever can write the store can change a record, but not so that the digests
//! still meet the one that was signed last.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Timestamp,
    audit::{Link, Record},
    feed::Digest,
};

mod erasure;
mod walk;

pub use erasure::erasure;
pub use walk::{Broken, Walk};

/// The `typ` of the signed head.
pub const HEAD_TYPE: &str = "rescind-audit-head+jwt";
/// What lies before the first record.
pub const NOTHING: Digest = Digest([0; 32]);

const RECORD: &str = "rescind audit record 1";
const PERSONAL: &str = "rescind audit personal 1";

/// A record as `/v1/audit` shows it and the export writes it, one JSON object on a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Line {
    /// Its place in the log, counted from 1 without gaps.
    pub sequence: u64,
    /// RFC 3339.
    pub at: String,
    /// What happened.
    pub event: String,
    /// `done`, `refused` or `closed`.
    pub outcome: String,
    /// The authenticated client that asked.
    pub actor: Option<String>,
    /// The client concerned.
    pub client_id: Option<String>,
    /// The subject concerned; null once it has been erased.
    pub subject: Option<String>,
    /// Stands for the subject, equal to the tokens' `sub_ref`.
    pub subject_ref: Option<String>,
    /// The session concerned.
    pub session_id: Option<String>,
    /// The generation presented.
    pub generation: Option<u32>,
    /// Address of the peer.
    pub ip: Option<String>,
    /// Its `User-Agent`, cut to 256 characters.
    pub user_agent: Option<String>,
    /// Why, in a word or a sentence.
    pub cause: Option<String>,
    /// 16 bytes, base64url: blinds `personal`; null once the personal part has been erased.
    pub salt: Option<String>,
    /// SHA-256 of the salt and the personal part, base64url.
    pub personal: String,
    /// The digest of the record before, base64url.
    pub previous: String,
    /// SHA-256 of `previous` and this record, base64url.
    pub digest: String,
}

/// What is signed: which records there are, first to last, and what stands for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The oldest record that is kept.
    pub first: u64,
    /// The digest of the record before that one.
    pub anchor: Digest,
    /// The newest record; `first - 1` if there is none.
    pub sequence: u64,
    /// Its digest.
    pub digest: Digest,
}

/// The signed head, read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Whose log it is.
    #[serde(rename = "iss")]
    pub issuer: Box<str>,
    /// Seconds since the epoch.
    pub iat: u64,
    /// What is stated.
    #[serde(flatten)]
    pub head: Head,
}

impl Head {
    /// Of a log without records.
    pub const EMPTY: Self = Self { first: 1, anchor: NOTHING, sequence: 0, digest: NOTHING };

    /// How many records are kept.
    #[must_use]
    pub const fn kept(&self) -> u64 {
        (self.sequence + 1).saturating_sub(self.first)
    }
}

/// Ties a record to the one before it. Gives its digest.
pub fn tie(record: &mut Record, previous: Digest, salt: [u8; 16]) -> Digest {
    record.link = Link { previous: previous.0, personal: [0; 32], salt: Some(salt) };
    let mut line = Line::from(&*record);
    record.link.personal = line.commitment(&salt).0;
    line.personal = Digest(record.link.personal).to_string();
    line.computed(previous, Digest(record.link.personal))
}

/// The digest of a record as the store holds it.
#[must_use]
pub fn digest_of(record: &Record) -> Digest {
    Line::bare(record).computed(Digest(record.link.previous), Digest(record.link.personal))
}

impl From<&Record> for Line {
    fn from(record: &Record) -> Self {
        let mut line = Self::bare(record);
        line.digest = line.computed(Digest(record.link.previous), Digest(record.link.personal)).to_string();
        line
    }
}

impl Line {
    /// Without its digest.
    fn bare(r: &Record) -> Self {
        let text = |t: &Option<Box<str>>| t.as_deref().map(str::to_owned);
        Self {
            sequence: r.sequence,
            at: r.at.to_rfc3339(),
            event: r.event.name().into(),
            outcome: serde_json::to_value(r.outcome).ok().and_then(|v| v.as_str().map(Into::into)).unwrap_or_default(),
            actor: r.actor.as_ref().map(ToString::to_string),
            client_id: r.client.as_ref().map(ToString::to_string),
            subject: r.subject.as_ref().map(ToString::to_string),
            subject_ref: r.subject_ref.map(|s| s.to_string()),
            session_id: r.session.map(|s| s.to_string()),
            generation: r.generation.map(|g| g.0),
            ip: text(&r.origin.ip),
            user_agent: text(&r.origin.user_agent),
            cause: text(&r.cause),
            salt: r.link.salt.map(|s| BASE64_URL_SAFE_NO_PAD.encode(s)),
            personal: Digest(r.link.personal).to_string(),
            previous: Digest(r.link.previous).to_string(),
            digest: String::new(),
        }
    }

    /// Whether `cause` may name somebody, and so belongs to the personal part.
    fn quotes(&self) -> bool {
        self.event == "revoked"
    }

    fn commitment(&self, salt: &[u8; 16]) -> Digest {
        let mut hash = Sha256::new().chain_update(PERSONAL).chain_update(salt);
        let quoted = self.cause.as_ref().filter(|_| self.quotes());
        for part in [self.subject.as_ref(), self.ip.as_ref(), self.user_agent.as_ref(), quoted] {
            absorb(&mut hash, part.map(String::as_str));
        }
        Digest(hash.finalize().into())
    }

    fn computed(&self, previous: Digest, personal: Digest) -> Digest {
        let mut hash = Sha256::new().chain_update(RECORD).chain_update(previous.0).chain_update(personal.0);
        let (sequence, generation) = (self.sequence.to_string(), self.generation.map(|g| g.to_string()));
        for part in [&sequence, &self.at, &self.event, &self.outcome] {
            absorb(&mut hash, Some(part));
        }
        let told = self.cause.as_ref().filter(|_| !self.quotes());
        for part in [&self.actor, &self.client_id, &self.subject_ref, &self.session_id, &generation] {
            absorb(&mut hash, part.as_deref());
        }
        absorb(&mut hash, told.map(String::as_str));
        Digest(hash.finalize().into())
    }

    /// Its instant.
    #[must_use]
    pub fn instant(&self) -> Option<Timestamp> {
        Timestamp::from_rfc3339(&self.at)
    }
}

/// Each part with its length before it, an absent one told from an empty one: no two records share an encoding.
fn absorb(hash: &mut Sha256, part: Option<&str>) {
    match part {
        None => hash.update([0]),
        Some(text) => {
            hash.update([1]);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
}

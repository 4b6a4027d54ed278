//! The tables, and one step's view of them.

use std::collections::HashMap;

use redb::{Key, ReadableTable, Table, TableDefinition, Value, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::clerk::{Chain, Clerk, stored_chain};
use super::singles::Singles;
use crate::{
    model::{
        SessionId, SubjectRef, Timestamp,
        audit::{Event, Outcome},
        family::{Generation, Lineage, Moment, Served},
    },
    store::{Family, StoreError},
};

/// Raised whenever the layout changes; an older one is upgraded or refused, a newer one refused.
pub(super) const SCHEMA: u32 = 3;

pub(super) type Bytes = &'static [u8];
pub(super) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("meta");
/// Where [`META`] says whose keys the store was made with.
pub(super) const INSTALLATION: &str = "installation";
/// Session id to family row.
pub(super) const FAMILIES: TableDefinition<'_, [u8; 16], Bytes> = TableDefinition::new("families");
/// Subject reference and session id.
pub(super) const SUBJECTS: TableDefinition<'_, [u8; 32], ()> = TableDefinition::new("subjects");
/// Subject reference and session id to the client, for sessions that nobody has ended: see `rooms.rs`.
pub(super) const OPEN: TableDefinition<'_, [u8; 32], Bytes> = TableDefinition::new("open");
/// When something must be looked at again, and what: see `expiry.rs`.
pub(super) const DUE: TableDefinition<'_, [u8; 25], ()> = TableDefinition::new("due");
/// Position to denylist entry, for as long as the issuer asks it.
pub(super) const LOG: TableDefinition<'_, u64, Bytes> = TableDefinition::new("log");
/// Position to the digest of what lies before it, and what verifiers must know: see `feed.rs`.
pub(super) const FEED: TableDefinition<'_, u64, Bytes> = TableDefinition::new("feed");
/// Page to the digest of what lies before it.
pub(super) const SEALS: TableDefinition<'_, u64, [u8; 32]> = TableDefinition::new("seals");
/// Target to where it stands in the log and until when it holds.
pub(super) const DENIED: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("denied");
/// Sequence to audit record.
pub(super) const AUDIT: TableDefinition<'_, u64, Bytes> = TableDefinition::new("audit");

/// Assertion of a client that has been used, to when it is of no more use.
pub(super) const ASSERTIONS: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("assertions");
/// The client's part of these to how many there are.
pub(super) const ASSERTIONS_BY: TableDefinition<'_, [u8; 8], u64> = TableDefinition::new("assertions_by");

/// Sees every table, each with its types.
pub(super) trait Visitor {
    fn visit<K: Key + Send + Sync + 'static, V: Value + Send + Sync + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError>;
}

/// All tables there are: what is not named here is in no backup, and a backup of a store that holds it is refused.
pub(super) fn each_table(visitor: &mut impl Visitor) -> Result<(), StoreError> {
    visitor.visit(META)?;
    visitor.visit(FAMILIES)?;
    visitor.visit(SUBJECTS)?;
    visitor.visit(OPEN)?;
    visitor.visit(DUE)?;
    visitor.visit(LOG)?;
    visitor.visit(FEED)?;
    visitor.visit(SEALS)?;
    visitor.visit(DENIED)?;
    visitor.visit(AUDIT)?;
    visitor.visit(ASSERTIONS)?;
    visitor.visit(ASSERTIONS_BY)
}

/// How far the store has come; written by every commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// How many commits. The witness remembers the greatest.
    pub(super) commits: u64,
    /// Time served.
    pub(super) served: Served,
    /// The latest instant that has been stamped into anything.
    pub(super) stamped: Timestamp,
}

/// What changes rarely.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Character {
    pub(super) schema: u32,
    /// This store, as opposed to any other.
    pub(super) id: u128,
    /// This life of the log.
    pub(super) epoch: u128,
    pub(super) incarnation: u32,
    pub(super) restored: u32,
    /// The longest access token life while `older_until` was last moved.
    pub(super) access_millis: u64,
    /// By then all tokens minted under an earlier, longer life have expired.
    pub(super) older_until: Timestamp,
    /// The same for the lives of sessions.
    pub(super) session_millis: u64,
    pub(super) older_sessions_until: Timestamp,
    /// Whether a witness has ever been written for this store: one that is missing is then a contradiction too.
    pub(super) witnessed: bool,
}

pub(in crate::store) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our records have no unsized maps, so they serialise")
}

pub(in crate::store) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|_| StoreError::Damaged(what))
}

/// The fixed head of a family row; the sealed identity follows it to the end.
#[derive(Serialize, Deserialize)]
struct Row {
    lineage: Lineage,
    key: u32,
    subject: SubjectRef,
}

pub(super) fn family_of(id: SessionId, bytes: &[u8]) -> Result<Family, StoreError> {
    let (row, sealed): (Row, _) = postcard::take_from_bytes(bytes).map_err(|_| StoreError::Damaged("family"))?;
    Ok(Family { id, lineage: row.lineage, key: row.key, subject: row.subject, sealed: sealed.to_vec() })
}

pub(super) fn subject_key(subject: SubjectRef, id: SessionId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&subject.0);
    key[16..].copy_from_slice(id.as_bytes());
    key
}

/// The session of a [`subject_key`].
pub(super) fn decode_id(key: &[u8; 32]) -> Result<SessionId, StoreError> {
    key[16..].try_into().ok().and_then(SessionId::from_bytes).ok_or(StoreError::Damaged("subject"))
}

/// Storage errors lose their type here: to those above, all of them mean "could not tell".
pub(super) fn failed(e: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed(e.into().to_string())
}

/// Kept by the writer between steps.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Refusals noted lately, so that repeating one costs no disk.
    pub(super) refusals: HashMap<SessionId, Timestamp>,
    /// How many entries each subject has got lately.
    pub(super) singles: Singles,
}

/// One step: all tables of one write transaction, and its instant.
pub(super) struct Step<'t> {
    pub(super) meta: Table<'t, &'static str, Bytes>,
    pub(super) families: Table<'t, [u8; 16], Bytes>,
    pub(super) subjects: Table<'t, [u8; 32], ()>,
    pub(super) open: Table<'t, [u8; 32], Bytes>,
    pub(super) due: Table<'t, [u8; 25], ()>,
    pub(super) log: Table<'t, u64, Bytes>,
    pub(super) feed: Table<'t, u64, Bytes>,
    pub(super) seals: Table<'t, u64, [u8; 32]>,
    pub(super) denied: Table<'t, Bytes, Bytes>,
    pub(super) audit: Table<'t, u64, Bytes>,
    pub(super) assertions: Table<'t, [u8; 16], u64>,
    pub(super) assertions_by: Table<'t, [u8; 8], u64>,
    pub(super) moment: Moment,
    /// What expires by then has expired; `moment.now` may be ahead of it by a leap that is doubted.
    pub(super) expired_by: Timestamp,
    pub(super) progress: Progress,
    pub(super) character: Character,
    /// The audit log's chain, as of the last record of this step.
    pub(super) chain: Chain,
    pub(super) clerk: &'t mut Clerk,
    /// Whether the chain is signed again although it has not grown.
    pub(super) signs: bool,
    pub(super) dirty: bool,
    /// How many entries have left the feed in this transaction.
    pub(super) feed_left: usize,
    /// The successor that the answer of the job at hand would be the first to carry, if there is one.
    pub(super) first_answer: Option<(SessionId, Generation)>,
    /// The position that was given out last, if this step gave out any.
    pub(super) head: Option<u64>,
}

impl<'t> Step<'t> {
    pub(super) fn begin(
        txn: &'t WriteTransaction,
        character: Character,
        moment: Moment,
        clerk: &'t mut Clerk,
    ) -> Result<Self, StoreError> {
        let meta = txn.open_table(META).map_err(failed)?;
        let progress = match meta.get("progress").map_err(failed)? {
            Some(bytes) => decode(bytes.value(), "progress")?,
            None => Progress::default(),
        };
        let chain = stored_chain(&meta)?;
        Ok(Self {
            meta,
            families: txn.open_table(FAMILIES).map_err(failed)?,
            subjects: txn.open_table(SUBJECTS).map_err(failed)?,
            open: txn.open_table(OPEN).map_err(failed)?,
            due: txn.open_table(DUE).map_err(failed)?,
            log: txn.open_table(LOG).map_err(failed)?,
            feed: txn.open_table(FEED).map_err(failed)?,
            seals: txn.open_table(SEALS).map_err(failed)?,
            denied: txn.open_table(DENIED).map_err(failed)?,
            audit: txn.open_table(AUDIT).map_err(failed)?,
            assertions: txn.open_table(ASSERTIONS).map_err(failed)?,
            assertions_by: txn.open_table(ASSERTIONS_BY).map_err(failed)?,
            moment,
            expired_by: moment.now,
            progress,
            character,
            chain,
            clerk,
            signs: false,
            dirty: false,
            feed_left: 0,
            first_answer: None,
            head: None,
        })
    }

    /// Marks an instant as stamped into something: no later cut-off that should cover it may lie before it.
    pub(super) fn stamp(&mut self, at: Timestamp) -> Timestamp {
        self.progress.stamped = self.progress.stamped.max(at);
        at
    }

    pub(super) fn family(&self, id: SessionId) -> Result<Option<Family>, StoreError> {
        let row = self.families.get(id.as_bytes()).map_err(failed)?;
        row.map(|bytes| family_of(id, bytes.value())).transpose()
    }

    pub(super) fn put_family(&mut self, family: &Family) -> Result<(), StoreError> {
        let row = Row { lineage: family.lineage.clone(), key: family.key, subject: family.subject };
        let mut bytes = encode(&row);
        bytes.extend_from_slice(&family.sealed);
        self.families.insert(family.id.as_bytes(), &bytes[..]).map_err(failed)?;
        if family.lineage.closed.is_some() {
            self.open.remove(subject_key(family.subject, family.id)).map_err(failed)?;
        }
        self.dirty = true;
        Ok(())
    }

    /// Writes how far the store has come. Called once, before the commit.
    pub(super) fn finish(mut self) -> Result<Progress, StoreError> {
        self.seal_chain()?;
        self.clerk.chain = self.clerk.chain.map(|_| self.chain);
        self.progress.commits += 1;
        self.progress.served = self.moment.served;
        self.meta.insert("progress", &encode(&self.progress)[..]).map_err(failed)?;
        Ok(self.progress)
    }
}

/// The part of an audit record that only the step knows.
#[derive(Clone)]
pub(in crate::store) struct Happened {
    pub(in crate::store) event: Event,
    pub(in crate::store) outcome: Outcome,
    pub(in crate::store) session: Option<SessionId>,
    pub(in crate::store) generation: Option<Generation>,
    pub(in crate::store) cause: Option<Box<str>>,
}

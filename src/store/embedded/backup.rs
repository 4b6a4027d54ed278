//! A backup: one commit of the store as a stream of frames, with a digest at its end.
//!
//! ```text
//! "rescind-backup 1\n"
//! head    'H'  length  JSON: Head
//! table   'T'  length  JSON: name and number of rows; one per table, before its rows
//! rows    'R'  length  rows of that table: length, key, length, value
//! end     'E'  length  number of all rows (u64), SHA-256 of every byte before it
//! ```
//!
//! Lengths are 32 bits; all numbers are big-endian. Without its last frame a backup is cut; with another digest it is
//! damaged. It is no proof of who made it: who can write a backup is as mighty as who can write the store.

use std::collections::{BTreeSet, VecDeque};

use redb::{Key, ReadTransaction, ReadableTableMetadata, TableDefinition, TableHandle, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    EmbeddedStore,
    tables::{Character, INSTALLATION, META, Progress, SCHEMA, Visitor, decode, each_table, failed},
    verbs::table,
};
use crate::{
    model::{Installation, Timestamp},
    store::StoreError,
};

/// What a backup begins with: its kind and the version of its form.
pub(super) const MAGIC: &[u8] = b"rescind-backup 1\n";
pub(super) const HEAD: u8 = b'H';
pub(super) const TABLE: u8 = b'T';
pub(super) const ROWS: u8 = b'R';
pub(super) const END: u8 = b'E';
/// Rows are gathered up to about this much, and then sent.
const GATHERED: usize = 256 << 10;

/// What a backup says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The layout of the store.
    pub schema: u32,
    /// Which store, in hexadecimal.
    pub store: String,
    /// Whose keys it was made with. Not in a backup of a store that was never opened beside any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<Installation>,
    /// How many commits it had made.
    pub commits: u64,
    /// The last position of its denylist's log.
    pub position: u64,
    /// The instant that it shows, in milliseconds since 1970.
    pub taken_at: Timestamp,
    /// The version of the program that made it.
    pub program: String,
}

/// A table, before its rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TableHead {
    pub(super) name: String,
    pub(super) rows: u64,
}

/// What a finished backup amounts to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The instant that it shows.
    pub taken_at: Timestamp,
    /// Rows of all tables.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// The digest at its end, in hexadecimal.
    pub sha256: String,
}

/// One commit of the store, given out piece by piece; what is written meanwhile is not in it. Until it is dropped the
/// store keeps the pages that it shows.
pub struct Snapshot {
    head: Head,
    opening: Option<Vec<u8>>,
    tables: VecDeque<Box<dyn Rows>>,
    digest: Sha256,
    rows: u64,
    bytes: u64,
    summary: Option<Summary>,
    // Tables keep the transaction alive as well; this one says so.
    _transaction: ReadTransaction,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({:?})", self.head)
    }
}

impl EmbeddedStore {
    /// The store as of its last commit, for a backup.
    ///
    /// # Errors
    /// [`StoreError`]; what is not whole is not backed up.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.whole()?;
        Snapshot::of(self.read()?, self.shared.clock.now())
    }
}

impl Snapshot {
    fn of(transaction: ReadTransaction, taken_at: Timestamp) -> Result<Self, StoreError> {
        let mut collected = Collected { transaction: &transaction, tables: VecDeque::new(), names: BTreeSet::new() };
        each_table(&mut collected)?;
        let Collected { tables, names, .. } = collected;
        for table in transaction.list_tables().map_err(failed)? {
            // Silently leaving a table out would be found out at the restore.
            if !names.contains(table.name()) {
                return Err(StoreError::Damaged("a table that no backup knows of"));
            }
        }
        let head = head_of(&transaction, taken_at)?;
        let json = serde_json::to_vec(&head).expect("strings and numbers serialise");
        let mut opening = MAGIC.to_vec();
        frame(&mut opening, HEAD, &json);
        Ok(Self {
            head,
            opening: Some(opening),
            tables,
            digest: Sha256::new(),
            rows: 0,
            bytes: 0,
            summary: None,
            _transaction: transaction,
        })
    }

    /// What it says of itself.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What it amounts to; only after its last piece.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// The next piece; `None` after the last. Reads the disk.
    ///
    /// # Errors
    /// [`StoreError`]: what was given out so far is no backup.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(opening) = self.opening.take() {
            return Ok(Some(self.account(opening)));
        }
        while let Some(table) = self.tables.front_mut() {
            let mut piece = Vec::new();
            match table.next_rows(&mut piece)? {
                Some(rows) => {
                    self.rows += rows;
                    return Ok(Some(self.account(piece)));
                }
                None => drop(self.tables.pop_front()),
            }
        }
        if self.summary.is_some() {
            return Ok(None);
        }
        Ok(Some(self.end()))
    }

    fn account(&mut self, piece: Vec<u8>) -> Vec<u8> {
        self.digest.update(&piece);
        self.bytes += piece.len() as u64;
        piece
    }

    fn end(&mut self) -> Vec<u8> {
        let mut piece = vec![END];
        piece.extend_from_slice(&40_u32.to_be_bytes());
        piece.extend_from_slice(&self.rows.to_be_bytes());
        let mut piece = self.account(piece);
        let digest: [u8; 32] = self.digest.clone().finalize().into();
        piece.extend_from_slice(&digest);
        self.bytes += digest.len() as u64;
        self.summary =
            Some(Summary { taken_at: self.head.taken_at, rows: self.rows, bytes: self.bytes, sha256: hex(&digest) });
        piece
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head_of(transaction: &ReadTransaction, taken_at: Timestamp) -> Result<Head, StoreError> {
    let meta = table(transaction, META)?.ok_or(StoreError::Damaged("meta"))?;
    let row = |name| meta.get(name).map_err(failed)?.ok_or(StoreError::Damaged("meta"));
    let character: Character = decode(row("character")?.value(), "character")?;
    let progress: Progress = decode(row("progress")?.value(), "progress")?;
    let installation = meta.get(INSTALLATION).map_err(failed)?;
    let installation = installation.map(|b| decode(b.value(), "installation")).transpose()?;
    Ok(Head {
        schema: SCHEMA,
        store: format!("{:032x}", character.id),
        installation: installation.map(Installation),
        commits: progress.commits,
        position: super::feed::head_position(&meta)?,
        taken_at,
        program: env!("CARGO_PKG_VERSION").into(),
    })
}

fn frame(into: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    into.push(kind);
    sized(into, payload);
}

fn sized(into: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("records and frames are far below 4 GiB");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(bytes);
}

/// The rows of one table that are still to be given out.
trait Rows: Send {
    /// Appends frames; `None` if there are no more.
    fn next_rows(&mut self, into: &mut Vec<u8>) -> Result<Option<u64>, StoreError>;
}

struct TableRows<K: Key + Send + Sync + 'static, V: Value + Send + Sync + 'static> {
    head: Option<TableHead>,
    rows: redb::Range<'static, K, V>,
}

impl<K: Key + Send + Sync + 'static, V: Value + Send + Sync + 'static> Rows for TableRows<K, V> {
    fn next_rows(&mut self, into: &mut Vec<u8>) -> Result<Option<u64>, StoreError> {
        if let Some(head) = self.head.take() {
            frame(into, TABLE, &serde_json::to_vec(&head).expect("a string and a number serialise"));
            return Ok(Some(0));
        }
        let (mut payload, mut count) = (Vec::new(), 0);
        while payload.len() < GATHERED
            && let Some(row) = self.rows.next()
        {
            let (key, value) = row.map_err(failed)?;
            sized(&mut payload, K::as_bytes(&key.value()).as_ref());
            sized(&mut payload, V::as_bytes(&value.value()).as_ref());
            count += 1;
        }
        if count == 0 {
            return Ok(None);
        }
        frame(into, ROWS, &payload);
        Ok(Some(count))
    }
}

struct Collected<'t> {
    transaction: &'t ReadTransaction,
    tables: VecDeque<Box<dyn Rows>>,
    names: BTreeSet<String>,
}

impl Visitor for Collected<'_> {
    fn visit<K: Key + Send + Sync + 'static, V: Value + Send + Sync + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        self.names.insert(definition.name().to_owned());
        let Some(table) = table(self.transaction, definition)? else { return Ok(()) };
        let head = TableHead { name: definition.name().to_owned(), rows: table.len().map_err(failed)? };
        let rows = table.range::<K::SelfType<'_>>(..).map_err(failed)?;
        self.tables.push_back(Box::new(TableRows { head: Some(head), rows }));
        Ok(())
    }
}

//! Reads a backup: first all of it, to see that it is whole, then once more, into a new database.

use std::{
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use redb::{Database, Key, TableDefinition, TableHandle, Value, WriteTransaction};
use sha2::{Digest, Sha256};

use super::{
    FileBacking, OnSyncFailure,
    backup::{END, HEAD, Head, MAGIC, ROWS, Summary, TABLE, TableHead, hex},
    tables::{META, SCHEMA, Visitor, each_table, encode, failed},
    writer::open_database,
};
use crate::store::StoreError;

/// The largest frame that is read. Ours have 256 KiB and the rest of one row.
const MAX_FRAME: u32 = 16 << 20;
/// Rows per transaction: what is not committed yet is held in memory.
const PER_COMMIT: u64 = 100_000;
/// Where [`META`] says that a store is a backup that nobody has declared yet.
pub(super) const UNDECLARED: &str = "undeclared";

/// Why a file is not a backup that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("is not a backup of a Rescind store, or of a version that this program does not know")]
    NotOne,
    /// Its end is missing.
    #[error("is cut: its end is missing; fetch it again")]
    Cut,
    /// Its digest is wrong.
    #[error("is damaged: {0}; take another backup")]
    Damaged(String),
    /// Made by a newer program.
    #[error("has schema {0}, this program knows up to {SCHEMA}; use the version that made it, or a newer one")]
    Newer(u32),
    /// The new store could not be written.
    #[error("could not be written into a store: {0}")]
    Store(String),
}

impl From<StoreError> for BackupError {
    fn from(e: StoreError) -> Self {
        Self::Store(e.to_string())
    }
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

/// A backup as it is read, with the digest of what has been read.
struct Reader<R> {
    from: R,
    digest: Sha256,
    bytes: u64,
}

impl<R: BufRead> Reader<R> {
    fn new(from: R) -> Result<(Self, Head), BackupError> {
        let mut reader = Self { from, digest: Sha256::new(), bytes: 0 };
        let mut magic = vec![0; MAGIC.len()];
        match reader.fill(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) | Err(BackupError::Cut) => return Err(BackupError::NotOne),
            Err(e) => return Err(e),
        }
        let Frame { kind: HEAD, payload } = reader.frame()? else { return Err(damaged("it has no head")) };
        let head: Head = serde_json::from_slice(&payload).map_err(|_| damaged("its head does not read"))?;
        if head.schema > SCHEMA {
            return Err(BackupError::Newer(head.schema));
        }
        Ok((reader, head))
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), BackupError> {
        match self.from.read_exact(out) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(BackupError::Cut),
            Err(e) => return Err(e.into()),
        }
        self.digest.update(&*out);
        self.bytes += out.len() as u64;
        Ok(())
    }

    /// The next frame. Of the last one the digest is left to be read.
    fn frame(&mut self) -> Result<Frame, BackupError> {
        let mut start = [0; 5];
        self.fill(&mut start)?;
        let [kind, length @ ..] = start;
        let length = u32::from_be_bytes(length);
        let length = match kind {
            END if length == 40 => 8,
            HEAD | TABLE | ROWS if length <= MAX_FRAME => length,
            _ => return Err(damaged("a frame is none")),
        };
        let mut payload = vec![0; length as usize];
        self.fill(&mut payload)?;
        Ok(Frame { kind, payload })
    }

    /// After the last frame: whether the digest is right, and nothing follows.
    fn finish(mut self) -> Result<(u64, String), BackupError> {
        let digest: [u8; 32] = self.digest.finalize_reset().into();
        let mut said = [0; 32];
        self.fill(&mut said)?;
        if digest != said {
            return Err(damaged("its digest is another"));
        }
        if !self.from.fill_buf()?.is_empty() {
            return Err(damaged("something follows its end"));
        }
        Ok((self.bytes, hex(&digest)))
    }
}

/// Key and value.
type Row<'a> = (&'a [u8], &'a [u8]);

/// Takes the rows of one frame apart.
fn rows(mut payload: &[u8]) -> Result<Vec<Row<'_>>, BackupError> {
    let mut rows = Vec::new();
    while !payload.is_empty() {
        let (key, rest) = sized(payload)?;
        let (value, rest) = sized(rest)?;
        rows.push((key, value));
        payload = rest;
    }
    Ok(rows)
}

fn sized(bytes: &[u8]) -> Result<(&[u8], &[u8]), BackupError> {
    let short = || damaged("a row is too short");
    let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(short)
}

/// Reads a backup through. What it says is then as it was sent.
///
/// # Errors
/// [`BackupError`].
pub fn check(backup: impl Read) -> Result<(Head, Summary), BackupError> {
    let (mut reader, head) = Reader::new(BufReader::with_capacity(1 << 20, backup))?;
    let (mut seen, mut announced) = (0, 0);
    let counted: [u8; 8] = loop {
        let Frame { kind, payload } = reader.frame()?;
        match kind {
            ROWS => seen += rows(&payload)?.len() as u64,
            TABLE => announced += table_head(&payload)?.rows,
            END => break payload.try_into().map_err(|_| damaged("its end does not read"))?,
            _ => return Err(damaged("it has two heads")),
        }
    };
    let (bytes, sha256) = reader.finish()?;
    if [seen, announced] != [u64::from_be_bytes(counted); 2] {
        return Err(damaged("it has not as many rows as it says"));
    }
    let taken_at = head.taken_at;
    Ok((head, Summary { taken_at, rows: seen, bytes, sha256 }))
}

fn table_head(payload: &[u8]) -> Result<TableHead, BackupError> {
    serde_json::from_slice(payload).map_err(|_| damaged("a table has no name"))
}

/// Makes a new store file of a backup that has been checked. Nobody has declared it yet: opened, it answers 503 until somebody does.
pub(super) fn import(
    mut backup: impl Read + Seek,
    file: std::fs::File,
    path: &Path,
    on_sync_failure: &OnSyncFailure,
) -> Result<(), BackupError> {
    backup.seek(SeekFrom::Start(0))?;
    let bytes: Arc<dyn super::Backing> = Arc::new(FileBacking(file));
    let opened = open_database(&bytes, on_sync_failure, 64 << 20);
    let (database, _fence) = opened.map_err(|e| BackupError::Store(format!("{}: {e}", path.display())))?;
    let (mut reader, _) = Reader::new(BufReader::with_capacity(1 << 20, backup))?;
    let (mut table, mut pending) = (String::new(), Vec::new());
    let mut pending_rows = 0;
    loop {
        let Frame { kind, payload } = reader.frame()?;
        match kind {
            TABLE => table = table_head(&payload)?.name,
            ROWS => {
                pending_rows += rows(&payload)?.len() as u64;
                pending.push((table.clone(), payload));
            }
            _ => break,
        }
        if pending_rows >= PER_COMMIT {
            write(&database, &std::mem::take(&mut pending), false)?;
            pending_rows = 0;
        }
    }
    // Read twice, and it must have been the same both times.
    reader.finish()?;
    write(&database, &pending, true)
}

fn write(database: &Database, frames: &[(String, Vec<u8>)], last: bool) -> Result<(), BackupError> {
    let transaction = database.begin_write().map_err(failed)?;
    for (table, payload) in frames {
        let mut put = Put { transaction: &transaction, table, rows: rows(payload)?, known: false };
        each_table(&mut put)?;
        if !put.known {
            return Err(damaged("it has a table that this program does not know"));
        }
    }
    if last {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        meta.insert(UNDECLARED, &encode(&true)[..]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(())
}

/// Puts rows into the one table that they are of.
struct Put<'a> {
    transaction: &'a WriteTransaction,
    table: &'a str,
    rows: Vec<(&'a [u8], &'a [u8])>,
    known: bool,
}

impl Visitor for Put<'_> {
    fn visit<K: Key + Send + Sync + 'static, V: Value + Send + Sync + 'static>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        if definition.name() != self.table {
            return Ok(());
        }
        self.known = true;
        let mut table = self.transaction.open_table(definition).map_err(failed)?;
        for (key, value) in &self.rows {
            let fits = K::fixed_width().is_none_or(|n| n == key.len())
                && V::fixed_width().is_none_or(|n| n == value.len())
                && (definition.name() != META.name() || std::str::from_utf8(key).is_ok());
            if !fits {
                return Err(StoreError::Damaged("backup"));
            }
            table.insert(K::from_bytes(key), V::from_bytes(value)).map_err(failed)?;
        }
        Ok(())
    }
}

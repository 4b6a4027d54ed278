//! A stopped store, read to its end by what takes its place. Nothing is written to it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    ops::Bound,
    path::{Path, PathBuf},
};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{
    OpenError,
    audit::row_of,
    clerk::{STATEMENT, broken_at, stored_alarm, stored_chain},
    clients::{BOOK, FORGOTTEN_BY as ASSERTIONS_FORGOTTEN_BY},
    denials::{Hold, look_up},
    evidence::CURSORS,
    expiry::{FORGOTTEN_BY, set_back},
    import::UNDECLARED,
    peek::open,
    tables::{
        ASSERTIONS, AUDIT, Character, DENIED, FAMILIES, INSTALLATION, LOG, META, OPEN, Progress, SCHEMA, SUBJECTS,
        decode, decode_id, failed, family_of, subject_key,
    },
    verbs::table,
    witness::Witness,
};
use crate::{
    model::{
        Installation, Timestamp, chain,
        denial::{Ends, Entry, Target},
        family::{Served, Standing},
    },
    store::{Family, StoreError},
};

/// Why a store cannot be left for another. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was not closed, or it does not read.
    #[error(
        "{path}: the store cannot be read as it lies there: {why}; start the service once with it, stop it with SIGTERM, and \
         try again"
    )]
    Unclosed {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Its layout is an earlier one.
    #[error(
        "{path}: the store has schema {found}; start this version of the service once with it, stop it, and try again"
    )]
    Older {
        /// Which.
        path: PathBuf,
        /// What was found.
        found: u32,
    },
    /// It is not the store that it was, and nobody has said that it is meant.
    #[error(
        "{path}: the store is not whole: {why}; start the service with it, decide it there (`rescind store restored`), stop it, \
         and try again"
    )]
    NotWhole {
        /// Which.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A part of it cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
}

/// The store, locked and open for reading alone.
pub struct Leaving {
    transaction: ReadTransaction,
    about: About,
    // Held for as long as it is read: no service may write to it meanwhile.
    _lock: File,
}

impl std::fmt::Debug for Leaving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaving({:032x})", self.about.character.id)
    }
}

/// How much there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Amount {
    /// Sessions that are kept, ended ones among them.
    pub sessions: u64,
    /// Entries of the denylist.
    pub entries: u64,
    /// Audit records.
    pub records: u64,
    /// Assertions that have been used.
    pub assertions: u64,
}

/// What there is one of.
pub(in crate::store) struct About {
    character: Character,
    progress: Progress,
    pub(in crate::store) chain: chain::Head,
    pub(in crate::store) latest: Timestamp,
    pub(in crate::store) broken: Option<u64>,
    pub(in crate::store) alarm: Option<(u64, Timestamp)>,
    pub(in crate::store) statement: Option<Vec<u8>>,
    pub(in crate::store) book: Option<Vec<u8>>,
    pub(in crate::store) assertions_forgotten_by: Timestamp,
    pub(in crate::store) cursors: Vec<(String, u64)>,
}

impl About {
    /// This store, as opposed to any other.
    pub(in crate::store) const fn id(&self) -> u128 {
        self.character.id
    }

    /// The latest instant that was stamped into anything.
    pub(in crate::store) const fn stamped(&self) -> Timestamp {
        self.progress.stamped
    }

    /// How long it has served: what the windows of its sessions count from.
    pub(in crate::store) const fn served(&self) -> Served {
        self.progress.served
    }

    /// The longest lives of access tokens and of sessions, in milliseconds, each with the instant by which everything has
    /// ended that was made under a longer one.
    pub(in crate::store) const fn lives(&self) -> [(u64, Timestamp); 2] {
        let Character { access_millis, older_until, session_millis, older_sessions_until, .. } = self.character;
        [(access_millis, older_until), (session_millis, older_sessions_until)]
    }

    /// How often it had come back as another, and the last time that this was accepted.
    pub(in crate::store) const fn incarnation(&self) -> (u32, u32) {
        (self.character.incarnation, self.character.restored)
    }
}

/// A session as it lies there.
pub(in crate::store) struct Kept {
    /// Where to go on after it.
    pub(in crate::store) key: [u8; 32],
    /// `None`: it cannot be read.
    pub(in crate::store) family: Option<Family>,
    /// Whether nobody has ended it.
    pub(in crate::store) open: bool,
}

impl Leaving {
    /// Takes hold of a store whose service is stopped. `installation`: whose keys go with it. `witness`: what remembers how
    /// far it had come.
    ///
    /// # Errors
    /// [`LeaveError`].
    pub fn at(path: &Path, installation: Installation, witness: &Path, now: Timestamp) -> Result<Self, LeaveError> {
        let lock = hold(path)?;
        let unclosed = |why: String| LeaveError::Unclosed { path: path.into(), why };
        let database = open(&lock).map_err(|e| unclosed(e.to_string()))?;
        let transaction = database.begin_read().map_err(|e| unclosed(e.to_string()))?;
        let meta = table(&transaction, META)?.ok_or_else(|| unclosed("it is no store of ours".into()))?;
        let row = |name: &str| meta.get(name).map(|row| row.map(|bytes| bytes.value().to_vec())).map_err(failed);
        match row("schema")?.map(|bytes| decode(&bytes, "schema")).transpose()? {
            Some(SCHEMA) => {}
            Some(found @ 1..SCHEMA) => return Err(LeaveError::Older { path: path.into(), found }),
            Some(found) => return Err(OpenError::Schema { found }.into()),
            None => return Err(unclosed("it is no store of ours".into())),
        }
        let made_by = row(INSTALLATION)?.map(|bytes| decode(&bytes, "installation")).transpose()?.map(Installation);
        if let Some(store) = made_by.filter(|store| *store != installation) {
            return Err(OpenError::OtherKeys { store, keys: installation }.into());
        }
        let needed = |name| row(name)?.ok_or(StoreError::Damaged("meta"));
        let character: Character = decode(&needed("character")?, "character")?;
        let progress: Progress = decode(&needed("progress")?, "progress")?;
        let not_whole = |why| LeaveError::NotWhole { path: path.into(), why };
        let standing = Witness::new(witness.into()).examine(character.id, progress.commits, false, character.witnessed);
        match standing.map_err(|source| OpenError::File { path: witness.into(), source })? {
            Standing::Whole => {}
            _ => {
                return Err(not_whole(
                    "its witness, which lies beside the keys, remembers more than it holds, or is gone",
                ));
            }
        }
        if row(UNDECLARED)?.is_some() {
            return Err(not_whole("a backup was put in its place, and what was lost has not been decided"));
        }
        let forgotten: Timestamp = row(FORGOTTEN_BY)?.map_or(Ok(Timestamp::default()), |b| decode(&b, "time"))?;
        if set_back(now, forgotten).is_some() {
            return Err(not_whole("the clock is behind the time by which it has forgotten revocations"));
        }
        let by = row(ASSERTIONS_FORGOTTEN_BY)?;
        let chain = stored_chain(&meta)?;
        let about = About {
            character,
            progress,
            chain: chain.head,
            latest: chain.latest,
            broken: broken_at(&meta, &chain.head)?,
            alarm: stored_alarm(&meta)?,
            statement: row(STATEMENT)?,
            book: row(BOOK)?,
            assertions_forgotten_by: by.map_or(Ok(Timestamp::default()), |bytes| decode(&bytes, "time"))?,
            cursors: cursors(&meta)?,
        };
        drop(meta);
        Ok(Self { transaction, about, _lock: lock })
    }

    pub(in crate::store) const fn about(&self) -> &About {
        &self.about
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn amount(&self) -> Result<Amount, StoreError> {
        let txn = &self.transaction;
        let rows =
            |count: Result<Option<u64>, redb::StorageError>| count.map(Option::unwrap_or_default).map_err(failed);
        Ok(Amount {
            sessions: rows(table(txn, FAMILIES)?.map(|t| t.len()).transpose())?,
            entries: rows(table(txn, LOG)?.map(|t| t.len()).transpose())?,
            records: rows(table(txn, AUDIT)?.map(|t| t.len()).transpose())?,
            assertions: rows(table(txn, ASSERTIONS)?.map(|t| t.len()).transpose())?,
        })
    }

    /// Entries from after a position, in order, each with all that is in force about its target; so many at most.
    pub(in crate::store) fn entries(&self, after: u64, limit: usize) -> Result<Vec<(Entry, Hold)>, StoreError> {
        let (Some(log), Some(denied)) = (table(&self.transaction, LOG)?, table(&self.transaction, DENIED)?) else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        for row in log.range(after + 1..).map_err(failed)?.take(limit) {
            let entry: Entry = decode(row.map_err(failed)?.1.value(), "entry")?;
            let hold = look_up(&denied, &entry.target, entry.ends)?;
            let hold = Hold::of(&entry).merged(hold);
            entries.push((entry, hold));
        }
        Ok(entries)
    }

    /// Sessions from after one, subject by subject and each subject's in the order of their opening; so many at most.
    pub(in crate::store) fn sessions(&self, after: Option<[u8; 32]>, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let txn = &self.transaction;
        let tables = (table(txn, SUBJECTS)?, table(txn, FAMILIES)?, table(txn, OPEN)?);
        let (Some(subjects), Some(families), Some(open)) = tables else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = subjects.range::<[u8; 32]>((from, Bound::Unbounded)).map_err(failed)?.take(limit);
        let mut sessions = Vec::new();
        for row in rows {
            let key = row.map_err(failed)?.0.value();
            let family = match decode_id(&key) {
                Ok(id) => {
                    let row = families.get(id.as_bytes()).map_err(failed)?;
                    let family = row.and_then(|row| family_of(id, row.value()).ok());
                    family.filter(|family| subject_key(family.subject, id) == key)
                }
                Err(_) => None,
            };
            sessions.push(Kept { key, family, open: open.get(key).map_err(failed)?.is_some() });
        }
        Ok(sessions)
    }

    /// All that is in force about a target.
    pub(in crate::store) fn hold(&self, target: &Target, ends: Ends) -> Result<Option<Hold>, StoreError> {
        table(&self.transaction, DENIED)?.map_or(Ok(None), |denied| look_up(&denied, target, ends))
    }

    /// Rows of the audit log from one record to before another, as they lie there. None is missing.
    pub(in crate::store) fn records(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let audit = table(&self.transaction, AUDIT)?.ok_or(StoreError::Damaged("audit"))?;
        let mut rows = Vec::new();
        for sequence in from..to {
            let row = audit.get(sequence).map_err(failed)?.ok_or(StoreError::Damaged("audit"))?;
            let row = row.value().to_vec();
            if row_of(&row)?.record.sequence != sequence {
                return Err(StoreError::Damaged("audit"));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// Assertions from after one, in order, each with when it is of no more use; so many at most.
    pub(in crate::store) fn assertions(
        &self,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Vec<([u8; 16], Timestamp)>, StoreError> {
        let Some(assertions) = table(&self.transaction, ASSERTIONS)? else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = assertions.range::<[u8; 16]>((from, Bound::Unbounded)).map_err(failed)?.take(limit);
        rows.map(|row| row.map(|(id, until)| (id.value(), Timestamp::from_millis(until.value()))).map_err(failed))
            .collect()
    }
}

fn cursors(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = meta.range(CURSORS).map_err(failed)?;
    rows.map(|row| {
        let (name, at) = row.map_err(failed)?;
        let name = name.value().strip_prefix(CURSORS.start).unwrap_or_default().to_owned();
        Ok((name, decode(at.value(), "cursor")?))
    })
    .collect()
}

/// Locked as by a service, but for reading.
fn hold(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::File { path: path.into(), source };
    let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.into() }),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

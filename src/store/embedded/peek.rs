//! A stopped store, looked at without a write to it: it may be wanted as evidence.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use redb::{ReadOnlyDatabase, ReadableDatabase, ReadableTable};

use super::{
    Backing, Fenced, FileBacking, Head, Lost,
    audit::row_of,
    tables::{AUDIT, Character, INSTALLATION, LOG, META, decode},
    verbs::table,
};
use crate::model::{Installation, audit::Event};

pub(super) fn open(file: &File) -> Result<ReadOnlyDatabase, redb::DatabaseError> {
    let bytes: Arc<dyn Backing> = Arc::new(FileBacking(file.try_clone().map_err(redb::StorageError::Io)?));
    let fenced = Fenced { bytes, fence: Arc::default(), on_sync_failure: Arc::new(|_| {}) };
    fenced.fence.store(true, Ordering::Release);
    redb::Builder::new().open_read_only_with_backend(fenced)
}

/// Whose keys a store was made with. `None` also where that cannot be told: a service has it open, it does not read, or
/// it was written by a program that did not say.
#[must_use]
pub fn made_by(path: &Path) -> Option<Installation> {
    let file = File::open(path).ok()?;
    file.try_lock_shared().ok()?;
    let transaction = open(&file).ok()?.begin_read().ok()?;
    let row = table(&transaction, META).ok()??.get(INSTALLATION).ok()??;
    decode(row.value(), "installation").ok().map(Installation)
}

/// What an old store knows and a backup of it does not.
pub(super) fn lost(old: &File, head: &Head) -> Option<Lost> {
    let transaction = open(old).ok()?.begin_read().ok()?;
    let meta = table(&transaction, META).ok()??;
    let character: Character = decode(meta.get("character").ok()??.value(), "character").ok()?;
    if format!("{:032x}", character.id) != head.store {
        return None;
    }
    let mut lost = Lost { revocations: 0, sessions: 0, records: 0 };
    if let Some(log) = table(&transaction, LOG).ok()? {
        lost.revocations = log.range(head.position + 1..).ok()?.count() as u64;
    }
    if let Some(log) = table(&transaction, AUDIT).ok()? {
        for row in log.iter().ok()?.rev() {
            let record = row_of(row.ok()?.1.value()).ok()?.record;
            if record.at <= head.taken_at {
                break;
            }
            lost.records += 1;
            lost.sessions += u64::from(record.event == Event::SessionOpened);
        }
    }
    Some(lost)
}

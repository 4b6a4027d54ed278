//! Gives the room of deleted records back to the file system. What is freed is used again without that, so a store that
//! stays as large as it is needs it never; one that was much larger once, or is to be copied, may.

use std::{path::Path, sync::Arc};

use redb::ReadableDatabase;

use super::{
    Backing, FileBacking, OpenError,
    options::Options,
    tables::{META, SCHEMA, decode},
    verbs::table,
    writer::open_database,
};
use crate::{model::denial::Retention, store::StoreError};

/// What it came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compacted {
    /// Bytes of the file before.
    pub before: u64,
    /// And after.
    pub after: u64,
}

/// Compacts a store that nobody has open. What it holds stays as it is, whenever this breaks off.
///
/// # Errors
/// [`OpenError`].
pub fn compact(path: &Path) -> Result<Compacted, OpenError> {
    let file = super::hold(path, false)?;
    let file_error = |source| OpenError::File { path: path.into(), source };
    let bytes: Arc<dyn Backing> = Arc::new(FileBacking(file.try_clone().map_err(file_error)?));
    let before = bytes.len().map_err(file_error)?;
    let damaged = |e: &dyn std::fmt::Display| OpenError::Damaged(e.to_string());
    let defaults = Options::new(Retention { access: std::time::Duration::ZERO, session: std::time::Duration::ZERO });
    let opened = open_database(&bytes, &defaults.on_sync_failure, defaults.cache);
    let (mut database, _fence) = opened.map_err(|e| damaged(&e))?;
    let found = schema_of(&database).map_err(|e| damaged(&e))?;
    if !found.is_some_and(|found| (1..=SCHEMA).contains(&found)) {
        return Err(found.map_or_else(
            || OpenError::Damaged("it is not a store of ours".into()),
            |found| OpenError::Schema { found },
        ));
    }
    // Each pass moves what it can; what has moved lets the next one move more.
    while database.compact().map_err(|e| damaged(&e))? {}
    drop(database);
    let after = bytes.len().map_err(file_error)?;
    Ok(Compacted { before, after })
}

/// The layout that a database has; none if it is no store yet.
pub(super) fn schema_of(database: &redb::Database) -> Result<Option<u32>, StoreError> {
    let transaction = database.begin_read().map_err(super::failed)?;
    let Some(meta) = table(&transaction, META)? else { return Ok(None) };
    let row = meta.get("schema").map_err(super::failed)?;
    row.map(|bytes| decode(bytes.value(), "schema")).transpose()
}

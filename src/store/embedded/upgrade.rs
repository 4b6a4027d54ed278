//! A store of an earlier layout. The first transaction of an opening brings it up to date, wholly or not at all; before
//! that a copy is kept beside it, for those who must go back to the program that wrote it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use super::{OpenError, compact::schema_of, tables::SCHEMA, witness::sync_directory_of};

/// A database, and what fences it off.
type Opened = (redb::Database, Arc<AtomicBool>);
type Reopened = Result<Opened, OpenError>;

/// Keeps a copy of the store if its layout is an earlier one; gives the database back as it was.
pub(super) fn keep_older(path: &Path, database: Opened, reopen: impl Fn() -> Reopened) -> Reopened {
    let found = schema_of(&database.0).map_err(|e| OpenError::Damaged(e.to_string()))?;
    let Some(found) = found.filter(|found| *found < SCHEMA) else { return Ok(database) };
    // Closed cleanly, so that the copy opens anywhere without a repair.
    drop(database);
    let kept = beside(path, &format!(".schema-{found}"));
    copy(path, &kept).map_err(|source| OpenError::NoCopy { path: kept.clone(), source })?;
    tracing::warn!(
        from = found,
        to = SCHEMA,
        kept = %kept.display(),
        "the store is brought to a newer layout, which the earlier program does not read; a copy was kept: delete it \
         once nobody needs it, it holds what the store held"
    );
    reopen()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A copy that is there is whole: it gets its name last.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let half = beside(to, ".half");
    // Keeps the permissions: for its owner alone.
    fs::copy(from, &half)?;
    File::open(&half)?.sync_all()?;
    fs::rename(&half, to)?;
    sync_directory_of(to)
}

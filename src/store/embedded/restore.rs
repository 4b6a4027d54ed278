//! Puts a backup in the place of a stopped store, and declares it: from then on nothing is healed, and by default every
//! session of the backup has ended, because what was revoked after it would come alive again.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    BackupError, EmbeddedStore, FileBacking, Head, OpenError, Options, Summary,
    import::import,
    peek::lost,
    witness::{Witness, sync_directory_of},
};
use crate::{
    clock::{Clock, Random},
    model::{Installation, Timestamp},
};

/// Why a backup was not put in the store's place. The store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup is no good.
    #[error("{path} {source}")]
    Backup {
        /// Which.
        path: PathBuf,
        /// Why.
        source: BackupError,
    },
    /// A file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is of an installation that other keys belong to.
    #[error("{path} {}, and the keys here are those of installation {keys}", of_whom(.of))]
    OtherKeys {
        /// Which backup.
        path: PathBuf,
        /// Whose keys it was made with. None: it does not say; an earlier program made it.
        of: Option<Installation>,
        /// Whose are here.
        keys: Installation,
    },
    /// There is a store already.
    #[error("{path}: a store is there already; what it knows since the backup would be lost")]
    Exists {
        /// Which.
        path: PathBuf,
        /// What would be lost.
        lost: Option<Lost>,
    },
    /// The store, or what the backup makes, does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

fn of_whom(installation: &Option<Installation>) -> String {
    installation.as_ref().map_or_else(
        || "does not say of which installation it is".into(),
        |of| format!("is a backup of installation {of}"),
    )
}

/// What a replaced store knew and the backup does not, as far as it can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Lost {
    /// Entries of the denylist.
    pub revocations: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Audit records, those two among them.
    pub records: u64,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub head: Head,
    /// What it amounts to.
    pub summary: Summary,
    /// Where the store lies that was replaced.
    pub aside: Option<PathBuf>,
    /// What that store knew and the backup does not. None: there was none, or it cannot be read.
    pub lost: Option<Lost>,
}

/// What to do.
pub struct Order<'a> {
    /// The backup.
    pub backup: &'a Path,
    /// Where the store lies.
    pub store: &'a Path,
    /// Whether a store that is there may be put aside.
    pub replace: bool,
    /// Whether to stop before anything is changed.
    pub dry_run: bool,
}

/// Restores. Nothing is changed before the new store is complete beside the old one; then names change.
///
/// # Errors
/// [`RestoreError`]; after each the old store is where it was. A crash between the changing of names leaves a service
/// that answers 503: restore again.
pub fn restore(
    order: &Order<'_>,
    options: &Options,
    clock: &Arc<dyn Clock>,
    random: &dyn Random,
) -> Result<Restored, RestoreError> {
    let Order { backup, store, .. } = *order;
    let opened = File::open(backup).map_err(|source| RestoreError::File { path: backup.into(), source })?;
    let bad = |source| RestoreError::Backup { path: backup.into(), source };
    let old = lock(store)?;
    let (head, summary) = super::check(&opened).map_err(bad)?;
    check_installation(backup, &head, options)?;
    let lost = old.as_ref().and_then(|old| lost(old, &head));
    if order.dry_run {
        return Ok(Restored { head, summary, aside: None, lost });
    }
    if old.is_some() && !order.replace {
        return Err(RestoreError::Exists { path: store.into(), lost });
    }
    let [new, new_witness] = [Some(store), options.witness.as_deref()].map(|p| p.map(|p| suffixed(p, ".restoring")));
    let new = new.expect("made of a path that is there");
    let file = fresh_file(&new)?;
    import(opened, file, &new, &options.on_sync_failure).map_err(bad)?;
    if let (Some(new), Some(old)) = (&new_witness, &options.witness) {
        remember(old, new)?;
    }
    // Opened once with the operator's word: declared, with a witness of its own, and closed cleanly.
    let declaring = Options { witness: new_witness.clone(), ..options.clone() };
    let file = OpenOptions::new().read(true).write(true).open(&new);
    let file = file.map_err(|source| RestoreError::File { path: new.clone(), source })?;
    drop(EmbeddedStore::with_backing(Arc::new(FileBacking(file)), declaring, clock.clone(), random)?);
    // Complete and durable beside the old one. From here on only names change.
    let aside = old.as_ref().map(|_| aside_of(store, clock.now()));
    if let Some(aside) = &aside {
        rename(store, aside)?;
    }
    rename(&new, store)?;
    if let (Some(witness), Some(place)) = (&new_witness, &options.witness) {
        rename(witness, place)?;
    }
    Ok(Restored { head, summary, aside, lost })
}

/// Under other keys a backup is a list of records that nobody can open.
fn check_installation(backup: &Path, head: &Head, options: &Options) -> Result<(), RestoreError> {
    match options.installation {
        Some(keys) if head.installation != Some(keys) && !options.other_keys => {
            Err(RestoreError::OtherKeys { path: backup.into(), of: head.installation, keys })
        }
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), RestoreError> {
    let done = fs::rename(from, to).and_then(|()| sync_directory_of(to));
    done.map_err(|source| RestoreError::File { path: to.into(), source })
}

fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RestoreError::File { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// The new store is declared in view of what the old one's witness remembers, so that its log tells what it has lost.
fn remember(old: &Path, new: &Path) -> Result<(), RestoreError> {
    remove(new)?;
    // One that is missing or cannot be read hinders no restore.
    if Witness::new(old.into()).audit().is_ok_and(|audit| audit.is_some()) {
        fs::copy(old, new).map_err(|source| RestoreError::File { path: new.into(), source })?;
    }
    Ok(())
}

/// What a broken-off restore left behind goes.
fn fresh_file(path: &Path) -> Result<File, RestoreError> {
    remove(path)?;
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|source| RestoreError::File { path: path.into(), source })
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A name that says what it is and when it was put there.
fn aside_of(store: &Path, now: Timestamp) -> PathBuf {
    let stamp: String = now.to_rfc3339().chars().filter(char::is_ascii_alphanumeric).collect();
    suffixed(store, &format!(".before-restore-{stamp}"))
}

/// The store that is there, held so that no service can open it.
fn lock(store: &Path) -> Result<Option<File>, RestoreError> {
    let file_error = |source| RestoreError::File { path: store.into(), source };
    let file = match OpenOptions::new().read(true).write(true).open(store) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(file_error(e)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: store.into() }.into()),
        Err(TryLockError::Error(e)) => Err(file_error(e)),
    }
}

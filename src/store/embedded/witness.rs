//! The witness: a small file beside the keys that remembers how far the store had come. A store that comes back
//! older than its witness, or not at all, has been rolled back or wiped (G10). It remembers the audit log as well: one
//! that was signed once and is gone or shorter, or ends otherwise, was tampered with.
//!
//! It is written after the commits that it tells of, so that it is never ahead of the truth; between two writings lies
//! a second at most, and an older copy from within that second goes unnoticed.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{chain::Head, family::Standing};

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Testimony {
    /// Which store.
    store: u128,
    /// How many commits it had made at least.
    commits: u64,
    /// How far its audit log had come, as it was signed. Not in a file from before it was chained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audit: Option<Head>,
}

#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
}

impl Witness {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn read(&self) -> io::Result<Option<Testimony>> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                io::Error::other(format!("{}: not a witness file ({e}); put back the right one", self.path.display()))
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Compares the store with what was remembered of it. `fresh`: it has just been created.
    pub(super) fn examine(&self, store: u128, commits: u64, fresh: bool, witnessed: bool) -> io::Result<Standing> {
        Ok(match self.read()? {
            // Keys put back without it, or somebody who would rather not have it heard.
            None if witnessed => Standing::NotWhole,
            None => Standing::Whole,
            // Nothing had been acknowledged yet when the first start broke off.
            Some(t) if fresh && t.commits == 0 => Standing::Whole,
            Some(_) if fresh => Standing::Wiped,
            Some(t) if t.store != store || t.commits > commits => Standing::NotWhole,
            Some(_) => Standing::Whole,
        })
    }

    /// How far it remembers the audit log, whichever store that was in.
    pub(super) fn audit(&self) -> io::Result<Option<Head>> {
        Ok(self.read()?.and_then(|t| t.audit))
    }

    /// Remembers. Durable when it returns.
    pub(super) fn write(&self, store: u128, commits: u64, audit: Option<Head>) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory_of(&self.path))?;
        file.write_all(&serde_json::to_vec(&Testimony { store, commits, audit })?)?;
        file.as_file().sync_data()?;
        file.persist(&self.path).map_err(|e| e.error)?;
        sync_directory_of(&self.path)
    }
}

/// Makes the name of a new file durable: syncing the file itself does not promise that.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    fs::File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

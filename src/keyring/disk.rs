//! A directory that only its owner can reach, whose files are replaced whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::error::KeyringError;

/// No file here is longer; what is longer is not ours.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
}

impl Dir {
    /// Makes the directory if it is missing. It may be one that a checkout brought along, readable by others.
    pub(super) fn create(path: &Path) -> Result<Self, KeyringError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(failed("create", path))?;
        Ok(Self { path: path.to_owned() })
    }
    /// The directory, if it is there.
    pub(super) fn existing(path: &Path) -> Result<Option<Self>, KeyringError> {
        let there = path.try_exists().map_err(failed("reach", path))?;
        Ok(there.then(|| Self { path: path.to_owned() }))
    }
    /// Takes reach from everyone but the owner.
    pub(super) fn close_to_others(&self) -> Result<(), KeyringError> {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&self.path, mode).map_err(failed("restrict", &self.path))
    }
    /// Refuses a directory that others can list or change.
    pub(super) fn check_owner_only(&self) -> Result<(), KeyringError> {
        let meta = fs::metadata(&self.path).map_err(failed("read", &self.path))?;
        owner_only(&self.path, meta.permissions().mode(), 0o700)
    }
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
    /// The file's bytes, `None` if there is no such file. Refused if others than its owner may read it.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyringError> {
        let path = self.path_of(name);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed("read", &path))?,
        };
        // The mode is asked of the open file, not of the path: nobody can swap it in between.
        let meta = file.metadata().map_err(failed("read", &path))?;
        owner_only(&path, meta.permissions().mode(), 0o600)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(KeyringError::garbled(path, "longer than 1 MiB"));
        }
        Ok(Some(bytes))
    }
    /// Puts `bytes` in the place of the file, whether there was one or not. After an error the old one is untouched;
    /// after success the new content is on disk, and after [`Dir::sync`] the new name too.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), KeyringError> {
        let (path, temp) = (self.path_of(name), self.path_of(&temp_of(name)));
        remove_if_there(&temp).map_err(failed("replace", &temp))?;
        let written = write_new(&temp, bytes).and_then(|()| fs::rename(&temp, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temp); // the next load removes it if this cannot
        }
        written.map_err(failed("write", &path))
    }
    pub(super) fn remove(&self, name: &str) -> Result<(), KeyringError> {
        let path = self.path_of(name);
        remove_if_there(&path).map_err(failed("remove", &path))
    }
    /// Makes names durable: files that were replaced or removed stay so after a crash.
    pub(super) fn sync(&self) -> Result<(), KeyringError> {
        File::open(&self.path).and_then(|d| d.sync_all()).map_err(failed("sync", &self.path))
    }
    pub(super) fn names(&self) -> Result<Vec<String>, KeyringError> {
        let entries = fs::read_dir(&self.path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(failed("list", &self.path))?;
        // A name that is not UTF-8 is not one of ours.
        Ok(entries.into_iter().filter_map(|e| e.file_name().into_string().ok()).collect())
    }
}

/// The name under which a file is written before it takes its place.
pub(super) fn temp_of(name: &str) -> String {
    format!(".{name}.tmp")
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn owner_only(path: &Path, mode: u32, wanted: u32) -> Result<(), KeyringError> {
    let mode = mode & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyringError::Exposed { path: path.to_owned(), mode, wanted }) }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyringError {
    let path = path.to_owned();
    move |source| KeyringError::Io { doing, path, source }
}

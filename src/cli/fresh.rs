//! Files for what must not be lost and is nobody else's to read: made before it exists, so that there is a place for it.

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{Exit, Failure, OrExit};

/// A new file that only its owner can read. Taken away again unless something is kept in it.
pub(super) struct Fresh<'a> {
    option: &'static str,
    path: &'a Path,
    file: Option<File>,
}

impl<'a> Fresh<'a> {
    /// `option` is what named it.
    pub(super) fn create(option: &'static str, path: &'a Path) -> Result<Self, Failure> {
        let named = format!("{option} {}", path.display());
        let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let what = "is there already, and nothing is overwritten; name a new file";
                return Err(Failure::usage(format!("{named}: {what}")));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Failure::usage(format!("{named}: its directory is not there; make it, or name another")));
            }
            made => made.or_exit(Exit::Usage, named)?,
        };
        Ok(Self { option, path, file: Some(file) })
    }

    /// Writes a text and the end of a line. `lost` says what becomes of what could not be written.
    pub(super) fn keep(mut self, text: impl Display, lost: &str) -> Result<&'a Path, Failure> {
        if let Some(mut file) = self.file.take() {
            let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
            written.or_exit(Exit::CannotTell, format!("{} {}: {lost}", self.option, self.path.display()))?;
        }
        Ok(self.path)
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(self.path);
        }
    }
}

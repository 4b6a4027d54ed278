//! A file for something that is told once: only its owner can read it, and it was not there before.

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{Exit, Failure, OrExit};

/// Taken away again unless something is kept in it.
pub(super) struct NewFile<'a> {
    option: &'static str,
    path: &'a Path,
    file: Option<File>,
}

impl<'a> NewFile<'a> {
    /// Makes it before there is anything that could be lost. `option` is what named it.
    pub(super) fn create(option: &'static str, path: &'a Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.or_exit(Exit::Usage, format!("{option} {} (it must not be there yet)", path.display()))?;
        Ok(Self { option, path, file: Some(file) })
    }

    /// `lost` says what became of what could not be written.
    pub(super) fn keep(mut self, text: impl Display, lost: &str) -> Result<&'a Path, Failure> {
        if let Some(mut file) = self.file.take() {
            let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
            written.or_exit(Exit::CannotTell, format!("{} {}: {lost}", self.option, self.path.display()))?;
        }
        Ok(self.path)
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(self.path);
        }
    }
}

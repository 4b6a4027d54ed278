//! Where a new secret goes: a file that nobody else can read and that was not there, or stdout.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::super::{Exit, Failure, OrExit};

/// An option of every command that makes a secret.
#[derive(Debug, clap::Args)]
pub(super) struct SecretFile {
    /// Write the secret, and nothing else, into this file, which only its owner can read. It must not be there yet.
    /// Without it the secret goes to stdout.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretFile {
    /// Makes the file before there is a secret that could be lost. None: stdout.
    pub(super) fn create(&self) -> Result<Option<Kept<'_>>, Failure> {
        self.secret_file.as_deref().map(Kept::create).transpose()
    }
}

/// Taken away again unless a secret is kept in it.
pub(super) struct Kept<'a> {
    path: &'a Path,
    file: Option<File>,
}

impl<'a> Kept<'a> {
    fn create(path: &'a Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.or_exit(Exit::Usage, format!("--secret-file {} (it must not be there yet)", path.display()))?;
        Ok(Self { path, file: Some(file) })
    }

    /// `lost` says what became of a secret that could not be written.
    pub(super) fn keep(mut self, secret: &str, lost: &str) -> Result<&'a Path, Failure> {
        if let Some(mut file) = self.file.take() {
            let written = writeln!(file, "{secret}").and_then(|()| file.sync_all());
            written.or_exit(Exit::CannotTell, format!("--secret-file {}: {lost}", self.path.display()))?;
        }
        Ok(self.path)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(self.path);
        }
    }
}

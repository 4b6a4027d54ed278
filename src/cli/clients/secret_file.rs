//! Where a new secret goes: a file of its own, or stdout.

use std::path::PathBuf;

use super::super::{Failure, fresh::Fresh};

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
    pub(super) fn create(&self) -> Result<Option<Fresh<'_>>, Failure> {
        self.secret_file.as_deref().map(|path| Fresh::create("--secret-file", path)).transpose()
    }
}

//! What goes wrong with keys on disk. Each message names the file and says how to mend it.

use std::{io, path::PathBuf};

use super::{exposure::SecretKind, rule::StepError, schedule::TimingError};

/// Why the keyring cannot be opened or changed. Nothing has changed when one of these is returned, but for
/// [`KeyringError::Io`] from the very last sync, after which either state is sound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The disk refused.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        /// A verb: what was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may reach it.
    #[error("{path} can be reached by others than its owner (mode {mode:04o}); mend it with: chmod {wanted:o} '{path}'",
        path = path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its mode now.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// A file that should be there is not.
    #[error("{path} is missing, yet the directory has served before; {mend}", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        mend: &'static str,
    },
    /// A file does not hold what it should.
    #[error("{path}: {what}; restore it from a backup", path = path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never any of its content.
        what: String,
    },
    /// The file is encrypted and no passphrase was given.
    #[error("{path} is encrypted; give the passphrase that it was written with, by keys.passphrase_file or \
        RESCIND_KEYS__PASSPHRASE_FILE, or start on a terminal, which asks for it", path = path.display())]
    PassphraseNeeded {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not open the file. A changed ciphertext looks the same.
    #[error("{path} does not open with this passphrase; give the one that it was written with, or restore it from a \
        backup if that is the one", path = path.display())]
    PassphraseWrong {
        /// The file.
        path: PathBuf,
    },
    /// A schedule that cannot be kept.
    #[error(transparent)]
    Unsound(#[from] TimingError),
}

impl KeyringError {
    pub(super) fn garbled(path: PathBuf, what: impl ToString) -> Self {
        Self::Garbled { path, what: what.to_string() }
    }
}

/// Why nothing was done to a key. The key that signed before still signs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The rule does not allow it, or not yet.
    #[error(transparent)]
    Refused(#[from] StepError),
    /// What was to be imported is no key, or not one of ours.
    #[error("{what}; {mend}")]
    NotAKey {
        /// Why, and nothing of its content.
        what: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// It is encrypted, and the passphrase is missing or another.
    #[error("{0}")]
    Locked(&'static str),
    /// The private half is not here: it has been given up, or lives elsewhere.
    #[error("the private half of this key is not here")]
    NotHere,
    /// So many replaced secrets are kept, because sessions may need each.
    #[error(
        "{kept} {kind} keys are kept for sessions that may need them; wait until the oldest sessions have ended, or end \
        them"
    )]
    TooManyKept {
        /// Of which kind.
        kind: SecretKind,
        /// How many.
        kept: usize,
    },
    /// It could not be made durable.
    #[error("the keys were not changed")]
    Failed(#[from] KeyringError),
}

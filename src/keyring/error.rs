//! What goes wrong with keys on disk. Each message names the file and says how to mend it.

use std::{io, path::PathBuf};

use super::{exposure::SecretKind, rule::StepError, schedule::TimingError, shared::Unshared};
use crate::model::Installation;

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
    /// Neither this node nor the store has any keys, and nobody said that they are to be made.
    #[error(
        "{path} is not there, and the store has no keys either: the first node begins with what `rescind init --store` or \
         `rescind keys share` has made. Where the store was emptied, start a node first that still has its copy",
        path = path.display()
    )]
    NoKeys {
        /// Where the copy would lie.
        path: PathBuf,
    },
    /// Keys of one node alone lie where shared ones are to be.
    #[error(
        "the keys in {dir} belong to one node alone: share them with `rescind keys share`, or, to join nodes that share \
         theirs, name an empty directory", dir = dir.display()
    )]
    NotShared {
        /// The directory.
        dir: PathBuf,
    },
    /// Shared keys lie where those of one node alone are to be.
    #[error(
        "the keys in {dir} are shared through a Redis: name it in store.url, or put back the keys that belong to the \
         embedded store", dir = dir.display()
    )]
    AreShared {
        /// The directory.
        dir: PathBuf,
    },
    /// A bundle is under another key, or was altered.
    #[error(
        "{place} does not open with this shared key: all nodes have the same file at keys.shared_key_file; while it is \
         replaced, the one before stands on its second line. If somebody altered what lies in the store, delete its key \
         `keys`: a node gives it again"
    )]
    SharedKeyWrong {
        /// Which bundle.
        place: String,
    },
    /// What lies in the store is no bundle of keys.
    #[error("the shared keys in the store: {0}; a node gives them again once the store's key `keys` is deleted")]
    InStore(String),
    /// What lies in the store belongs to another service.
    #[error(
        "the store holds the keys of installation {theirs}, and {path} those of {own}: name another store or another \
         store.prefix; to join that installation, move the file away", path = path.display()
    )]
    InStoreOthers {
        /// This node's copy.
        path: PathBuf,
        /// Whose it is.
        own: Installation,
        /// Whose the store's are.
        theirs: Installation,
    },
    /// Two nodes changed the same version while the store had lost the one's change.
    #[error(
        "this node's keys and those in the store have parted after version {version}: what only this node has is lost \
         once its copy, keyring.sealed, is moved away and it is started again"
    )]
    Parted {
        /// Which both have, and not alike.
        version: u64,
    },
    /// Other nodes were always faster.
    #[error("other nodes keep changing the keys; try again")]
    Moved,
    /// The store that the keys are shared through did not answer.
    #[error("the store that the keys are shared through: {0}")]
    Unshared(#[from] Unshared),
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

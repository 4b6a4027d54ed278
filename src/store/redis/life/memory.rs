//! What a node remembers of the store, beside its journal: who it is, and which store it was.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::{Random, random_bytes},
    model::reign::{Memory, NodeId},
    store::{
        StoreError,
        embedded::{decode, encode},
    },
};

/// Who this node is, and what it remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Page {
    node: NodeId,
    memory: Option<Memory>,
}

/// Kept in a file, or in memory.
#[derive(Debug)]
pub(crate) struct Memories {
    path: Option<PathBuf>,
    page: Page,
}

impl Memories {
    /// Those beside this journal.
    ///
    /// # Errors
    /// The file cannot be read, or is none of ours.
    pub(crate) fn open(journal: Option<&Path>, random: &dyn Random) -> Result<Self, StoreError> {
        let path = journal.map(|journal| journal.with_added_extension("node"));
        let stored = read(path.as_deref(), "the node's memory")?;
        let page =
            stored.unwrap_or_else(|| Page { node: NodeId(u128::from_be_bytes(random_bytes(random))), memory: None });
        Ok(Self { path, page })
    }

    pub(super) fn node(&self) -> NodeId {
        self.page.node
    }

    pub(super) fn memory(&self) -> Option<&Memory> {
        self.page.memory.as_ref()
    }

    /// Remembers this. Durable once it returns.
    ///
    /// # Errors
    /// The disk has not taken it.
    pub(super) fn remember(&mut self, memory: Memory) -> Result<(), StoreError> {
        let page = Page { node: self.page.node, memory: Some(memory) };
        if let Some(path) = &self.path {
            replace(path, &encode(&page)).map_err(|error| failed(Some(path), &error))?;
        }
        self.page = page;
        Ok(())
    }
}

/// What [`replace`] has written there, if anything.
pub(super) fn read<T: DeserializeOwned>(path: Option<&Path>, what: &'static str) -> Result<Option<T>, StoreError> {
    match path.map(std::fs::read) {
        None => Ok(None),
        Some(Ok(bytes)) => decode(&bytes, what).map(Some),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Some(Err(error)) => Err(failed(path, &error)),
    }
}

/// The file holds all of this or what it held before, whatever happens.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

pub(super) fn failed(path: Option<&Path>, error: &io::Error) -> StoreError {
    StoreError::Failed(format!("{}: {error}", path.unwrap_or(Path::new("journal")).display()))
}

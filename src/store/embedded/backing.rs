//! What the database lies on. A trait of our own, so that tests can put a disk beneath it that fails, or that forgets
//! what was not synced.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// A growable array of bytes that survives a crash up to its last `sync`.
pub trait Backing: fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the device has them; so for all methods.
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds nothing.
    ///
    /// # Errors
    /// As [`Backing::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`; too short is an error.
    ///
    /// # Errors
    /// As the device has them.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes at `offset`.
    ///
    /// # Errors
    /// As the device has them.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Grows with zeros, reserving the room, or shrinks.
    ///
    /// # Errors
    /// As the device has them; a full disk says so here.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when everything written is durable.
    ///
    /// # Errors
    /// After one, nobody can know what is durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file.
#[derive(Debug)]
pub struct FileBacking(pub(super) File);

impl Backing for FileBacking {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let now = self.len()?;
        if len > now {
            // Reserve the blocks: a full disk is then found here, where nothing is half written yet.
            let reserve = || rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), now, len - now);
            match rustix::io::retry_on_intr(reserve) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Memory: nothing survives, which is what `memory:` asks for.
#[derive(Debug, Default)]
pub struct MemoryBacking(Mutex<Vec<u8>>);

impl MemoryBacking {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The bytes of `range` out of a buffer, or the error that a short file gives.
fn window(len: usize, offset: u64, n: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    match start.checked_add(n) {
        Some(end) if end <= len => Ok(start..end),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Backing for MemoryBacking {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        out.copy_from_slice(&bytes[window(bytes.len(), offset, out.len())?]);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let range = window(bytes.len(), offset, data.len())?;
        bytes[range].copy_from_slice(data);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?, 0);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What to do when a sync fails. Whether acknowledged data is durable can then not be known by anyone, and trying
/// again lies on most kernels: the process ends, and what the disk really holds is found at the next start.
pub type OnSyncFailure = Arc<dyn Fn(&io::Error) + Send + Sync>;

/// One opening of the database. Once it has failed, that opening may neither write nor sync any more: the next one
/// has taken over the bytes.
pub(super) struct Fenced {
    pub(super) bytes: Arc<dyn Backing>,
    pub(super) fence: Arc<AtomicBool>,
    pub(super) on_sync_failure: OnSyncFailure,
}

impl fmt::Debug for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}

impl Fenced {
    fn pass(&self) -> io::Result<()> {
        if self.fence.load(Ordering::Acquire) {
            return Err(io::Error::other("this opening of the store has ended"));
        }
        Ok(())
    }
}

impl redb::StorageBackend for Fenced {
    fn len(&self) -> Result<u64, io::Error> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.pass()?;
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.pass()?;
        self.bytes.sync().inspect_err(|e| (self.on_sync_failure)(e))
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.pass()?;
        self.bytes.write(offset, data)
    }
}

//! A disk that fails when it is told to, and forgets in a crash what was not synced.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use rescind::store::embedded::Backing;

use super::Seeded;

/// The unit in which a crash keeps or loses what was not synced.
const SECTOR: u64 = 512;

/// What becomes of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing is done, an error is told.
    Failed,
    /// It is done, an error is told.
    FailedButPersisted,
    /// Nothing is done, success is told. Of a sync: what a lying disk does.
    Ignored,
}

/// Which operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Write,
    SetLen,
    Sync,
}

/// What a hook hears: one operation, before it is done.
pub type Hook = Arc<dyn Fn(Verb, u64) -> Option<Fault> + Send + Sync>;

#[derive(Default)]
struct State {
    /// As read back now.
    now: Vec<u8>,
    /// As of the last sync.
    durable: Vec<u8>,
    /// How many operations there have been, and of which kind.
    log: Vec<Verb>,
    hook: Option<Hook>,
    /// Bytes that there is room for.
    room: Option<u64>,
    /// The plug is pulled: nothing is done any more.
    off: bool,
}

/// A disk in memory.
#[derive(Default)]
pub struct Disk(Mutex<State>);

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
    pub fn bytes(&self) -> Vec<u8> {
        self.state().now.clone()
    }
    /// Other bytes take the place of these, durably.
    pub fn replace(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        state.durable.clone_from(&bytes);
        state.now = bytes;
    }
    /// Asks `hook` about every operation from now on; operations are counted from 0 anew.
    pub fn hook(&self, hook: impl Fn(Verb, u64) -> Option<Fault> + Send + Sync + 'static) {
        let mut state = self.state();
        state.log.clear();
        state.hook = Some(Arc::new(hook));
    }
    /// The operation with this number meets this fault.
    pub fn fail(&self, number: u64, fault: Fault) {
        self.hook(move |_, n| (n == number).then_some(fault));
    }
    pub fn heal(&self) {
        self.state().hook = None;
    }
    /// The operations since the hook was set.
    pub fn log(&self) -> Vec<Verb> {
        self.state().log.clone()
    }
    /// There is room for so many bytes in all.
    pub fn room(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }
    /// Whether nothing has been written since the last sync.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        state.now == state.durable
    }
    /// The power fails: of what was not synced, `keep` says for each sector whether it has reached the disk. Gives the
    /// bytes that the next start finds, and does nothing for anyone from here on.
    pub fn crash(&self, mut keep: impl FnMut(u64) -> bool) -> Vec<u8> {
        let mut state = self.state();
        state.off = true;
        let mut found = state.durable.clone();
        // Length is metadata: it survives as if the journal had been written, the new sectors read as zeros.
        found.resize(state.now.len().max(found.len()), 0);
        let sectors = changed(&state.durable, &state.now);
        for (sector, bytes) in sectors {
            if keep(sector) {
                let start = (sector * SECTOR) as usize;
                found[start..start + bytes.len()].copy_from_slice(&bytes);
            }
        }
        found
    }
    fn admit(&self, verb: Verb) -> (Option<Fault>, MutexGuard<'_, State>) {
        let (hook, number) = {
            let mut state = self.state();
            state.log.push(verb);
            (state.hook.clone(), state.log.len() as u64 - 1)
        };
        // Not under the lock: a hook may look at the disk.
        let fault = hook.and_then(|hook| hook(verb, number));
        let state = self.state();
        let fault = if state.off { Some(Fault::Failed) } else { fault };
        (fault, state)
    }
}

fn changed(before: &[u8], after: &[u8]) -> BTreeMap<u64, Vec<u8>> {
    let sectors = after.chunks(SECTOR as usize).enumerate();
    sectors
        .filter(|(n, bytes)| before.get(n * SECTOR as usize..n * SECTOR as usize + bytes.len()) != Some(*bytes))
        .map(|(n, bytes)| (n as u64, bytes.to_vec()))
        .collect()
}

fn broken() -> io::Error {
    io::Error::other("the disk says no")
}

fn perform(fault: Option<Fault>, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match fault {
        None => act(),
        Some(Fault::Failed) => Err(broken()),
        Some(Fault::FailedButPersisted) => act().and(Err(broken())),
        Some(Fault::Ignored) => Ok(()),
    }
}

impl Backing for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let start = offset as usize;
        let bytes = state.now.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (fault, mut state) = self.admit(Verb::Write);
        perform(fault, || {
            let start = offset as usize;
            let place = state.now.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            place.copy_from_slice(data);
            Ok(())
        })
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let (fault, mut state) = self.admit(Verb::SetLen);
        perform(fault, || {
            if state.room.is_some_and(|room| len > room.max(state.now.len() as u64)) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            state.now.resize(len as usize, 0);
            Ok(())
        })
    }
    fn sync(&self) -> io::Result<()> {
        let (fault, mut state) = self.admit(Verb::Sync);
        perform(fault, || {
            let State { now, durable, .. } = &mut *state;
            durable.clone_from(now);
            Ok(())
        })
    }
}

/// Keeps each sector with even odds.
pub fn torn(seeded: &Seeded) -> impl FnMut(u64) -> bool + '_ {
    |_| seeded.below(2) == 0
}

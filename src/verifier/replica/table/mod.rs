//! Denied ids, and when each may be forgotten. Readers wait for nobody and allocate nothing; writers take turns.
//!
//! Freed slots come back when the array is built anew, which is cheap: both arrays are in the order of the hash, so
//! each is gone through once, from its beginning to its end.

mod slots;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;

use self::slots::{Column, Entry, FEWEST_SLOTS, Id, Slots};

/// Ids that are denied.
#[derive(Debug)]
pub(crate) struct IdTable(Table);

impl IdTable {
    pub(crate) fn new() -> Self {
        Self(Table::new(Column::Absent))
    }
    /// Whether it was inserted, and not yet swept away.
    pub(crate) fn contains(&self, id: &[u8; 16]) -> bool {
        self.0.slots.load().find(Id::from(id)).is_ok()
    }
    /// Denies an id until then at least: an earlier second shortens nothing.
    pub(crate) fn insert(&self, id: &[u8; 16], until: u32) {
        self.0.insert(Id::from(id), Entry { until, before: 0 });
    }
    /// Forgets what is not denied at that second any more, and says how many.
    pub(crate) fn sweep(&self, now: u32) -> usize {
        self.0.sweep(now)
    }
    pub(crate) fn len(&self) -> usize {
        self.0.live.load(Relaxed)
    }
    /// What it takes up in memory.
    #[allow(dead_code, reason = "for tests, and for the bench that prints it")]
    pub(crate) fn bytes(&self) -> usize {
        self.0.slots.load().bytes()
    }
}

/// Ids of those who are cut off, and what they had before which instant.
#[derive(Debug)]
pub(crate) struct CutOffTable(Table);

impl CutOffTable {
    pub(crate) fn new() -> Self {
        Self(Table::new(Column::Present))
    }
    /// The instant, in milliseconds, before which everything of this id is denied.
    pub(crate) fn before(&self, id: &[u8; 16]) -> Option<u64> {
        let slots = self.0.slots.load();
        slots.find(Id::from(id)).ok().map(|slot| slots.before(slot))
    }
    /// Cuts off an id; of two cut-offs the later instant counts, and the later end.
    pub(crate) fn insert(&self, id: &[u8; 16], before_ms: u64, until: u32) {
        self.0.insert(Id::from(id), Entry { until, before: before_ms });
    }
    /// Forgets what is not denied at that second any more, and says how many.
    pub(crate) fn sweep(&self, now: u32) -> usize {
        self.0.sweep(now)
    }
    pub(crate) fn len(&self) -> usize {
        self.0.live.load(Relaxed)
    }
}

/// An array is built anew when more than 70 % of it are used, be it for growth or for what was freed, and when less
/// than 50 % of it live. What is built has the given part of it alive, so that the next time is far.
const FULLEST: usize = 70;
const EMPTIEST: usize = 50;
const AFTER_FILLING: usize = 52;
const AFTER_EMPTYING: usize = 60;

struct Table {
    slots: ArcSwap<Slots>,
    live: AtomicUsize,
    writer: Mutex<Writer>,
}

/// What only writers know.
#[derive(Default)]
struct Writer {
    /// Slots that are not empty.
    used: usize,
    /// Arrays that a reader may still be in. They are kept for it, so that no reader has to give back the memory.
    retired: Vec<Arc<Slots>>,
}

impl Table {
    fn new(column: Column) -> Self {
        let multiplier = RandomState::new().hash_one(0_u8) | 1;
        Self {
            slots: ArcSwap::from_pointee(Slots::new(0, column, multiplier)),
            live: AtomicUsize::new(0),
            writer: Mutex::default(),
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // Counters and spare arrays: every step leaves them whole.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.retired.retain(|slots| Arc::strong_count(slots) > 1);
        writer
    }

    fn insert(&self, id: Id, entry: Entry) {
        // At second zero everything has expired, and that is how a slot says that nothing lives there.
        if entry.until == 0 {
            return;
        }
        let mut writer = self.writer();
        let slots = self.slots.load_full();
        match slots.find(id) {
            Ok(slot) => slots.extend(slot, entry),
            Err(slot) => {
                // Denied from here on; building anew, which takes longer, comes after.
                slots.fill(slot, id, entry);
                self.live.fetch_add(1, Relaxed);
                writer.used += 1;
                if writer.used * 100 > slots.len() * FULLEST {
                    self.rebuild(&mut writer, &slots, AFTER_FILLING);
                }
            }
        }
    }

    fn sweep(&self, now: u32) -> usize {
        let mut writer = self.writer();
        let slots = self.slots.load_full();
        let freed = slots.free_due(now);
        let live = self.live.fetch_sub(freed, Relaxed) - freed;
        if slots.len() > FEWEST_SLOTS && live * 100 < slots.len() * EMPTIEST {
            self.rebuild(&mut writer, &slots, AFTER_EMPTYING);
        }
        freed
    }

    /// Moves everything into an array of which so many per cent will live. It is published when it is whole: who is
    /// still in the old one finds there all that was denied when it came.
    fn rebuild(&self, writer: &mut Writer, old: &Slots, percent: usize) {
        let live = self.live.load(Relaxed);
        let new = old.like(live * 100 / percent);
        for (id, entry) in old.live() {
            let (Ok(slot) | Err(slot)) = new.find(id);
            new.fill(slot, id, entry);
        }
        writer.used = live;
        writer.retired.push(self.slots.swap(Arc::new(new)));
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("live", &self.live).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

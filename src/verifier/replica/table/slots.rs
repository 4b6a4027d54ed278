//! The array that a table consists of.
//!
//! A slot is used once in the life of its array: empty, then an id's, then freed. So a reader that finds an id in a
//! slot finds there what was written with it or later, and never what belongs to another id.

use std::{
    mem,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// An id in two words. The topmost bit of the second is set: of a UUID it is anyway (RFC 9562 §4.1), and a keyed hash
/// has bits to spare. So no id looks like an empty or a freed slot.
#[derive(Clone, Copy)]
pub(super) struct Id {
    hi: u64,
    lo: u64,
}

impl From<&[u8; 16]> for Id {
    fn from(bytes: &[u8; 16]) -> Self {
        let whole = u128::from_be_bytes(*bytes);
        Self { hi: (whole >> 64) as u64, lo: whole as u64 | 1 << 63 }
    }
}

/// In the place of an id's second word.
const EMPTY: u64 = 0;
const FREED: u64 = 1;

#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// In seconds; [`FOR_EVER`] at most.
    pub(super) until: u32,
    pub(super) before: u64,
}

/// An expiry that never comes.
const FOR_EVER: u32 = u32::MAX;

/// Whether an array has the column of instants.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Absent,
    Present,
}

const LINE: usize = 4;

/// The least that an array has room for.
pub(super) const FEWEST_SLOTS: usize = 16 * LINE;

/// Four slots, which are one line of the processor's cache. A search mostly ends in the line where it began.
#[derive(Default)]
#[repr(align(64))]
struct Line {
    /// Where a search looks, and what publishes a slot: written last.
    lo: [AtomicU64; LINE],
    hi: [AtomicU64; LINE],
}

/// An open-addressing array, searched line by line. Part of it is always empty, so every search ends.
pub(super) struct Slots {
    lines: Box<[Line]>,
    /// Zero where nothing lives. For the writer: readers do not come here.
    until: Box<[AtomicU32]>,
    before: Box<[AtomicU64]>,
    /// Odd, and known to this process only: nobody can choose ids that crowd into one line.
    multiplier: u64,
}

impl Slots {
    /// With room for so many slots at least.
    pub(super) fn new(slots: usize, column: Column, multiplier: u64) -> Self {
        let lines = slots.max(FEWEST_SLOTS).div_ceil(LINE);
        let instants = match column {
            Column::Absent => 0,
            Column::Present => lines * LINE,
        };
        Self {
            lines: (0..lines).map(|_| Line::default()).collect(),
            until: (0..lines * LINE).map(|_| AtomicU32::new(0)).collect(),
            before: (0..instants).map(|_| AtomicU64::new(0)).collect(),
            multiplier,
        }
    }

    /// An empty array of the same kind, which keeps the same order.
    pub(super) fn like(&self, slots: usize) -> Self {
        let column = if self.before.is_empty() { Column::Absent } else { Column::Present };
        Self::new(slots, column, self.multiplier)
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }

    pub(super) fn bytes(&self) -> usize {
        mem::size_of_val(&*self.lines) + mem::size_of_val(&*self.until) + mem::size_of_val(&*self.before)
    }

    /// The line where the search for an id begins.
    fn home(&self, id: Id) -> usize {
        let hash = u128::from(id.lo.wrapping_mul(self.multiplier));
        ((hash * self.lines.len() as u128) >> 64) as usize
    }

    /// The slot of an id, or the slot where it would go.
    pub(super) fn find(&self, id: Id) -> Result<usize, usize> {
        let mut line = self.home(id);
        loop {
            let Line { lo, hi } = &self.lines[line];
            for n in 0..LINE {
                match lo[n].load(Acquire) {
                    EMPTY => return Err(line * LINE + n),
                    found if found == id.lo && hi[n].load(Relaxed) == id.hi => return Ok(line * LINE + n),
                    _ => {}
                }
            }
            line = if line + 1 == self.lines.len() { 0 } else { line + 1 };
        }
    }

    /// Fills an empty slot.
    pub(super) fn fill(&self, slot: usize, id: Id, entry: Entry) {
        let Line { lo, hi } = &self.lines[slot / LINE];
        hi[slot % LINE].store(id.hi, Relaxed);
        self.until[slot].store(entry.until, Relaxed);
        if let Some(before) = self.before.get(slot) {
            before.store(entry.before, Relaxed);
        }
        // Whoever sees the id sees all of the above.
        lo[slot % LINE].store(id.lo, Release);
    }

    /// The instant of a cut-off.
    pub(super) fn before(&self, slot: usize) -> u64 {
        self.before[slot].load(Relaxed)
    }

    /// Never shortens.
    pub(super) fn extend(&self, slot: usize, entry: Entry) {
        self.until[slot].fetch_max(entry.until, Relaxed);
        if let Some(before) = self.before.get(slot) {
            before.fetch_max(entry.before, Relaxed);
        }
    }

    /// Frees what is due by then, and says how many.
    pub(super) fn free_due(&self, now: u32) -> usize {
        let due = |until: u32| until != 0 && until <= now && until != FOR_EVER;
        let mut freed = 0;
        for slot in (0..self.len()).filter(|&slot| due(self.until[slot].load(Relaxed))) {
            // Not emptied: searches for others pass through here.
            self.lines[slot / LINE].lo[slot % LINE].store(FREED, Relaxed);
            self.until[slot].store(0, Relaxed);
            freed += 1;
        }
        freed
    }

    /// What lives here, in the order of the slots.
    pub(super) fn live(&self) -> impl Iterator<Item = (Id, Entry)> {
        self.until.iter().enumerate().filter_map(|(slot, until)| {
            let until = until.load(Relaxed);
            let Line { lo, hi } = &self.lines[slot / LINE];
            let before = self.before.get(slot).map_or(0, |before| before.load(Relaxed));
            let id = Id { hi: hi[slot % LINE].load(Relaxed), lo: lo[slot % LINE].load(Relaxed) };
            (until != 0).then_some((id, Entry { until, before }))
        })
    }
}

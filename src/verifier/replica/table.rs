//! Stand-in until the lock-free table is merged.
use std::{collections::HashMap, sync::Mutex};

#[derive(Default, Debug)]
pub(crate) struct IdTable(Mutex<HashMap<[u8; 16], u32>>);
impl IdTable {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn contains(&self, id: &[u8; 16]) -> bool {
        self.0.lock().expect("x").contains_key(id)
    }
    pub(crate) fn insert(&self, id: &[u8; 16], until: u32) {
        let mut map = self.0.lock().expect("x");
        let held = map.entry(*id).or_insert(until);
        *held = (*held).max(until);
    }
    pub(crate) fn sweep(&self, now: u32) -> usize {
        let mut map = self.0.lock().expect("x");
        let before = map.len();
        map.retain(|_, until| *until > now);
        before - map.len()
    }
    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("x").len()
    }
}
#[derive(Default, Debug)]
pub(crate) struct CutOffTable(Mutex<HashMap<[u8; 16], (u64, u32)>>);
impl CutOffTable {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn before(&self, id: &[u8; 16]) -> Option<u64> {
        self.0.lock().expect("x").get(id).map(|v| v.0)
    }
    pub(crate) fn insert(&self, id: &[u8; 16], before: u64, until: u32) {
        let mut map = self.0.lock().expect("x");
        let held = map.entry(*id).or_insert((before, until));
        *held = (held.0.max(before), held.1.max(until));
    }
    pub(crate) fn sweep(&self, now: u32) -> usize {
        let mut map = self.0.lock().expect("x");
        let before = map.len();
        map.retain(|_, held| held.1 > now);
        before - map.len()
    }
    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("x").len()
    }
}

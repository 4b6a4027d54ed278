//! Stand-in until the cache is merged.
use std::{marker::PhantomData, sync::Arc};

pub(super) struct Entry<V> {
    pub(super) value: V,
}
pub(super) struct Seen<V>(PhantomData<V>);
impl<V> Seen<V> {
    pub(super) fn new(_capacity: usize) -> Self {
        Self(PhantomData)
    }
    pub(super) fn get(&self, _token: &str) -> Option<Arc<Entry<V>>> {
        None
    }
    pub(super) fn put(&self, _token: &str, _value: V, _expires: u64) {}
}

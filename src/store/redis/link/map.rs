//! Which server has which key.

use std::sync::Arc;

use super::server::Server;
use crate::store::redis::url::Place;

/// How many slots a cluster has.
pub(super) const SLOTS: usize = 16384;

/// For each slot the place of its master among the masters, or [`NOBODY`].
pub(super) type Table = Box<[u16]>;
pub(super) const NOBODY: u16 = u16::MAX;

/// The masters, as they are known now.
#[derive(Default)]
pub(super) struct Map {
    pub(super) masters: Vec<Arc<Server>>,
    /// Of a cluster. Elsewhere all keys are with the one master.
    pub(super) table: Option<Table>,
}

impl Map {
    /// The master that has the key; none if none is known.
    pub(super) fn master(&self, key: &[u8]) -> Option<&Arc<Server>> {
        self.masters.get(self.place(key))
    }

    /// Its place among the masters.
    pub(super) fn place(&self, key: &[u8]) -> usize {
        usize::from(self.table.as_ref().map_or(0, |table| table[usize::from(slot(key))]))
    }

    pub(super) fn at(&self, place: &Place) -> Option<&Arc<Server>> {
        self.masters.iter().find(|server| server.place == *place)
    }

    /// How many slots nobody has.
    pub(super) fn uncovered(table: &[u16]) -> usize {
        table.iter().filter(|place| **place == NOBODY).count()
    }
}

/// The slot of a key: of what stands in its first braces, if anything does.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|b| *b == b'}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS as u16
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The specification's own example, and what CLUSTER KEYSLOT says.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, expected) in [
            ("somekey", 11058),
            ("foo{hash_tag}", 2515),
            ("rescind:{hub}:log", 2434),
            ("a{b}{c}", 3300),
            ("{{a}}", 10276),
            ("{}x", 10595),
            ("", 0),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }
}

//! How the life of the store and its nodes are written in the hub.

use super::super::{
    commit::{Commit, Look, Seen, UNREADABLE, maybe, number},
    layout::Layout,
};
use crate::{
    model::{
        Timestamp,
        edition::Edition,
        family::Served,
        reign::{self, Change, NodeId, Row, Seal},
    },
    store::{
        StoreError,
        embedded::{decode, encode},
    },
};

/// What the hub says, at one instant.
pub(super) struct Told {
    /// As it is written.
    bytes: Option<Vec<u8>>,
    /// The same of its layout.
    layout: Option<Vec<u8>>,
    pub(super) edition: Edition,
    pub(super) life: Option<reign::Life>,
    pub(super) rows: Vec<(NodeId, Row)>,
    pub(super) served: Served,
    pub(super) raised: Timestamp,
    pub(super) now: Timestamp,
}

impl Told {
    pub(super) fn look(layout: &Layout) -> Look {
        let meta = layout.hub("meta");
        let look = Look::default().get(layout.hub("life")).hall(layout.hub("nodes"));
        look.hget(meta.clone(), b"served").hget(meta, b"raised").get(layout.hub("layout"))
    }

    /// What is of a layout that this program may not touch is not even looked at.
    pub(super) fn read(seen: &Seen) -> Result<Self, StoreError> {
        let [life, nodes, served, raised, layout] = &seen.parts[..] else { return Err(UNREADABLE) };
        let layout = maybe(layout)?.map(<[u8]>::to_vec);
        let edition = Edition::read(layout.as_deref())?;
        let bytes = maybe(life)?.map(<[u8]>::to_vec);
        let life = bytes.as_deref().map(|bytes| decode(bytes, "life of the store")).transpose()?;
        let mut rows = Vec::new();
        for (id, row) in super::super::hub::pairs(nodes)? {
            let id = id.try_into().map_err(|_| StoreError::Damaged("node"))?;
            rows.push((NodeId(u128::from_be_bytes(id)), decode(&row, "node")?));
        }
        rows.sort_by_key(|(id, _)| *id);
        let read = |part| maybe(part).and_then(|some| some.map_or(Ok(0), |_| number(part)));
        let (served, raised) = (Served(read(served)?), Timestamp::from_millis(read(raised)?));
        Ok(Self { bytes, layout, edition, life, rows, served, raised, now: seen.now })
    }

    pub(super) fn seen(&self) -> reign::Seen<'_> {
        let Self { served, raised, now, .. } = *self;
        reign::Seen { life: self.life.as_ref(), rows: &self.rows, served, raised, now }
    }

    pub(super) fn row(&self, node: NodeId) -> Option<&Row> {
        self.rows.iter().find(|(id, _)| *id == node).map(|(_, row)| row)
    }

    /// A change that is made if life and layout are still those that were seen. `asked`: now, which may be long after the
    /// look.
    fn guarded(&self, layout: &Layout, asked: Timestamp) -> Commit {
        let commit = Commit::new(asked).value_is(layout.hub("life"), self.bytes.as_deref());
        commit.value_is(layout.hub("layout"), self.layout.as_deref())
    }

    /// The store moves on to this layout, if nobody has joined since.
    pub(super) fn raise(&self, layout: &Layout, edition: &Edition, asked: Timestamp) -> Commit {
        self.guarded(layout, asked).set(layout.hub("layout"), edition.text().as_bytes())
    }

    /// What a change of the life writes.
    pub(super) fn change(&self, layout: &Layout, change: &Change, asked: Timestamp) -> Commit {
        let (nodes, meta) = (layout.hub("nodes"), layout.hub("meta"));
        let mut commit = self.guarded(layout, asked).set(layout.hub("life"), &encode(&change.life));
        for (id, row) in &change.rows {
            commit = commit.hset(nodes.clone(), &id.0.to_be_bytes(), &encode(row));
        }
        // Whoever goes has said nothing since, and those who stay have not gone.
        for (id, row) in self.rows.iter().filter(|_| !change.gone.is_empty()) {
            commit = commit.field_is(nodes.clone(), &id.0.to_be_bytes(), Some(&encode(row)));
        }
        for id in &change.gone {
            commit = commit.hdel(nodes.clone(), &id.0.to_be_bytes());
        }
        if self.layout.is_none() {
            commit = commit.set(layout.hub("layout"), self.edition.text().as_bytes());
        }
        commit.raise(meta, b"served", change.served.0)
    }

    /// What this node says of itself, if its row is still the one that was seen.
    pub(super) fn say(&self, layout: &Layout, node: NodeId, row: &Row, asked: Timestamp) -> Commit {
        let (nodes, id) = (layout.hub("nodes"), node.0.to_be_bytes());
        let was = self.row(node).map(encode);
        self.guarded(layout, asked).field_is(nodes.clone(), &id, was.as_deref()).hset(nodes, &id, &encode(row))
    }

    /// Time served, with what has passed since it was last raised: nothing if nobody held a lease all along.
    pub(super) fn served_by_now(&self, lease: std::time::Duration) -> Served {
        let passed = self.now.since(self.raised);
        let passed = if passed <= lease { u64::try_from(passed.as_millis()).unwrap_or(0) } else { 0 };
        Served(self.served.0.saturating_add(passed))
    }
}

/// A seal that no other life has.
pub(in crate::store::redis) fn seal(random: &dyn crate::clock::Random) -> Seal {
    Seal(u64::from_be_bytes(crate::clock::random_bytes(random)))
}

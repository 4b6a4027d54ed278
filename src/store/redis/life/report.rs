//! What there is to say about it, for `/readyz` and for operators.

use super::{Life, Now, Why};
use crate::{
    clock::Clock as _,
    model::{
        Timestamp,
        family::Standing,
        reign::{Doubt, NodeId, Wait},
    },
};

/// What this node knows of the life of the store.
#[derive(Clone, Debug)]
pub struct LifeReport {
    /// Whether this node serves.
    pub standing: Standing,
    /// Why it does not, and what mends it.
    pub why: Option<String>,
    /// How often the store has come back as another.
    pub incarnation: u32,
    /// Since when it is this one.
    pub since: Timestamp,
    /// Who takes part.
    pub nodes: Vec<NodeReport>,
}

/// A node that takes part.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// Its id, by which an operator waives it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it last said something, by the store's clock.
    pub seen: Timestamp,
    /// Whether it has pushed what it knows; if not, it is waited for.
    pub pushed: bool,
    /// Whether it is the one that reports.
    pub this: bool,
}

impl Life {
    pub(in crate::store::redis) fn report(&self) -> LifeReport {
        let (state, standing) = (self.now.load_full(), self.standing());
        let node = self.memories().node();
        let seal = state.life.as_ref().map(|life| life.seal).unwrap_or_default();
        let nodes = state.rows.iter().map(|(id, row)| NodeReport {
            id: name_of(*id),
            name: row.name.to_string(),
            version: row.version.to_string(),
            seen: row.seen,
            pushed: row.pushed == seal,
            this: *id == node,
        });
        LifeReport {
            standing,
            why: if standing == Standing::NotWhole { state.sentence() } else { None },
            incarnation: state.life.as_ref().map_or(0, |life| life.incarnation),
            since: state.life.as_ref().map_or(Timestamp::default(), |life| life.since),
            nodes: nodes.collect(),
        }
    }

    /// The same, in one sentence that says what mends it. None: it serves.
    pub(in crate::store::redis) fn why(&self) -> Option<String> {
        let held = self.now.load().lease.is_some_and(|lease| self.machine.boottime() < lease.until);
        if held { None } else { self.now.load().sentence() }
    }
}

/// As operators write it.
pub(super) fn name_of(node: NodeId) -> String {
    format!("{:032x}", node.0)
}

impl Now {
    pub(super) fn sentence(&self) -> Option<String> {
        Some(match self.why.as_ref()? {
            Why::Failed(error) => error.to_string(),
            Why::Waits(Wait::Vouched) => "what this node knows is being pushed into the store".into(),
            Why::Waits(Wait::Leases(_)) => "leases of before the store came back are run out in a moment".into(),
            Why::Waits(Wait::Nodes(nodes)) => format!(
                "the store came back as another, and what only they know is waited for of {}; of one that is gone for \
                 ever, an operator says so: {}",
                self.named(nodes),
                nodes.iter().map(|id| format!("rescind store waive {}", name_of(*id))).collect::<Vec<_>>().join(", ")
            ),
            Why::Waits(Wait::Known(nodes)) => format!("{} must take note that this node takes part", self.named(nodes)),
            Why::Waits(Wait::Word(doubt)) => match doubt {
                Doubt::Wiped | Doubt::Older => {
                    "the store came back older than what it had acknowledged; an operator must decide: rescind store restored".into()
                }
                Doubt::Contested => {
                    "a node remembers another store made with the same keys; an operator must decide: rescind store restored"
                        .into()
                }
                Doubt::Declared(_) => "an operator's word is being carried out".into(),
            },
        })
    }

    fn named(&self, nodes: &[NodeId]) -> String {
        let name = |id: &NodeId| {
            let row = self.rows.iter().find(|(other, _)| other == id).map(|(_, row)| row);
            let name = row.map_or("a node", |row| &row.name);
            let seen = row.map(|row| format!(", last seen {}", row.seen.to_rfc3339())).unwrap_or_default();
            format!("{name} ({}{seen})", name_of(*id))
        };
        nodes.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

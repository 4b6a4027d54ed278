//! Whose word counts in a store that many nodes share and that may come back as another: who may acknowledge, who may
//! say "this is complete, now", and what must be done first. `docs/redis.md` says why it is safe.
//!
//! A *reign* is the servers that hold the store, as those who vouch for them name them. A *life* is the store under one
//! reign: whoever finds that the reign has changed begins a new one, and until every node has pushed what it knows into
//! it, nobody serves. A *lease* is what a node holds while it serves.
//!
//! All of it is pure: [`duty`] looks at what a node knows and at what the store says, and names the next thing to do.
//! `tests/reign/reign.rs` explores this very rule.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Timestamp,
    denial::Ends,
    family::{Served, Standing},
};

/// Stands for the servers that hold the store: their run ids and replication ids. One of them is another process, or
/// holds the data of another, and it is another reign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Reign(pub u128);

/// A node, for as long as it keeps its journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NodeId(pub u128);

/// Tells two lives apart that bear the same number: random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Seal(pub u64);

/// What the store says of itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Life {
    /// This store, as opposed to any other.
    pub store: u128,
    /// Other stores that an operator has taken for this one, or is asked about.
    pub also: Vec<u128>,
    /// How often it has come back as another.
    pub incarnation: u32,
    /// Which of that number.
    pub seal: Seal,
    /// The last incarnation that began with an operator's word that a loss is accepted; 0 if none did.
    pub restored: u32,
    /// Which servers hold it.
    pub reign: Reign,
    /// Every node has pushed what it knows, and no lease of an earlier life is left.
    pub whole: bool,
    /// What only an operator can decide.
    pub doubt: Option<Doubt>,
    /// How far the data reached that this life began with. [`Served::NOT_YET`]: an operator has said that it does not
    /// matter.
    pub found: Served,
    /// From which time of day that was: what is younger must be pushed again, what is older is there.
    pub dated: Timestamp,
    /// How often a node has been added.
    pub members: u32,
    /// Nodes that nobody waits for any more, by an operator's word.
    pub waived: Vec<NodeId>,
    /// For how long a lease is good. All nodes go by this.
    pub lease: Duration,
    /// When it began.
    pub since: Timestamp,
}

/// What the nodes cannot repair by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Doubt {
    /// It came back empty: what was revoked is refused, and new sessions work; of a session that it does not know,
    /// nobody can tell whether there ever was one.
    Wiped,
    /// It came back so old that no node remembers all that was spent since.
    Older,
    /// A node remembers another store, made by the same keys.
    Contested,
    /// An operator has accepted the loss, and the cut-off that follows from it is not written yet.
    Declared(Ends),
}

/// What the store says of a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The life into which it has pushed what it knows.
    pub pushed: Seal,
    /// The number under which it was added.
    pub added: u32,
    /// Up to which number it remembers who was added.
    pub knows: u32,
    /// Its name, for people.
    pub name: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// When it last said something.
    pub seen: Timestamp,
    /// Up to where its journal has followed the log.
    pub followed: u64,
}

/// What a node's journal remembers of the store.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Which it was.
    pub store: u128,
    /// How often it had come back.
    pub incarnation: u32,
    /// Its last life.
    pub seal: Seal,
    /// See [`Life::restored`].
    pub restored: u32,
    /// How far it had come.
    pub served: Served,
    /// Up to which number it is remembered who was added.
    pub members: u32,
    /// Who took part.
    pub nodes: Vec<(NodeId, Box<str>)>,
}

/// What a node knows.
#[derive(Clone, Copy, Debug)]
pub struct Me<'a> {
    /// Who it is.
    pub node: NodeId,
    /// Its name, for people.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What its journal remembers. None: it has never known a store.
    pub memory: Option<&'a Memory>,
    /// When it first saw the life that it sees, by its own clock.
    pub first_saw: Option<(Seal, Duration)>,
    /// Heads that moved within this time are remembered by those who moved them.
    pub heads: Duration,
    /// A new store and a new seal, should they be needed: random.
    pub random: (u128, Seal),
    /// For how long a lease is good in a store that this node makes.
    pub lease: Duration,
}

/// What the store says: all of it read at one instant.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its life. None: it is empty.
    pub life: Option<&'a Life>,
    /// Its nodes, in order.
    pub rows: &'a [(NodeId, Row)],
    /// How long it has served.
    pub served: Served,
    /// At which time of day that was last raised.
    pub raised: Timestamp,
    /// Its time of day.
    pub now: Timestamp,
}

/// What a node must do next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Duty {
    /// Write this, if the life is still the one that was looked at.
    Change(Box<Change>),
    /// Make it durable that this is the store. If it is another life than before, the lease ends first.
    Adopt(Memory),
    /// Mark every bucket, push the journal and the heads into it, then say so: [`Row::pushed`].
    Push,
    /// Append the cut-off of everything that is of before, then write this.
    CutOff(Ends, Box<Change>),
    /// Say who is remembered: [`Row::knows`].
    Tell,
    /// Renew the lease.
    Serve(Standing),
    /// Nothing but to look again.
    Wait(Wait),
}

/// What is written, in one step.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Change {
    /// Why.
    pub why: Why,
    /// The new life.
    pub life: Life,
    /// Nodes that are added.
    pub rows: Vec<(NodeId, Row)>,
    /// Nodes that are taken out.
    pub gone: Vec<NodeId>,
    /// The time served is at least this.
    pub served: Served,
}

/// Why a life is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Why {
    /// There was nothing.
    Created,
    /// Other servers hold it, or it is not what this node remembers.
    TakenOver,
    /// Nodes were added.
    Added,
    /// Every node has pushed what it knows.
    Confirmed,
    /// An operator has spoken.
    Word,
    /// A node has left after handing over.
    Left,
}

/// What is waited for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Wait {
    /// Those who vouch for the servers do not name one reign, or not the servers that this node speaks to.
    Vouched,
    /// Leases of an earlier life may still be held until then, by this node's clock.
    Leases(Duration),
    /// These nodes have not pushed what they know.
    Nodes(Vec<NodeId>),
    /// These nodes do not remember yet that this one takes part.
    Known(Vec<NodeId>),
    /// An operator's word.
    Word(Doubt),
}

/// Nodes that have been silent for this many leases need not remember who was added.
const SILENT: u32 = 5;

/// The rule: what a node must do next. `vouched`: the servers that it speaks to, if those who vouch for them say that they
/// hold the store. `now`: its own clock, that runs on in suspension.
#[must_use]
pub fn duty(me: &Me<'_>, vouched: Option<Reign>, seen: &Seen<'_>, now: Duration) -> Duty {
    let Some(reign) = vouched else { return Duty::Wait(Wait::Vouched) };
    let Some(life) = seen.life else { return Duty::Change(Box::new(me.begin(reign, seen))) };
    if let Some(doubt) = me.another(life, reign, seen) {
        return Duty::Change(Box::new(me.take_over(life, reign, doubt, seen)));
    }
    let remembered = me.remember(life, seen);
    if me.memory != Some(&remembered) {
        return Duty::Adopt(remembered);
    }
    let mine = seen.row(me.node);
    let missing = me.missing(life, seen);
    let Some(mine) = mine.filter(|_| missing.is_empty()) else {
        return Duty::Change(Box::new(me.add(life, missing, seen)));
    };
    if let Some(Doubt::Declared(ends)) = life.doubt {
        let decided = Life { doubt: None, ..life.clone() };
        return Duty::CutOff(ends, Box::new(Change::of(Why::Word, decided, seen)));
    }
    if mine.pushed != life.seal {
        return Duty::Push;
    }
    if mine.knows < remembered.members {
        return Duty::Tell;
    }
    if !life.whole {
        return me.confirm(life, seen, now);
    }
    let unaware: Vec<_> = seen.ids(|row| row.knows < mine.added && !seen.silent(row, life));
    if !unaware.is_empty() {
        return Duty::Wait(Wait::Known(unaware));
    }
    Duty::Serve(life.standing())
}

impl Me<'_> {
    /// A store for an empty dataset: the one that is remembered, or a new one.
    fn begin(&self, reign: Reign, seen: &Seen<'_>) -> Change {
        let (store, seal) = self.random;
        let fresh = Life {
            store,
            also: Vec::new(),
            incarnation: 0,
            seal,
            restored: 0,
            reign,
            whole: false,
            doubt: None,
            found: seen.served,
            dated: Timestamp::default(),
            members: 0,
            waived: Vec::new(),
            lease: self.lease,
            since: seen.now,
        };
        let Some(memory) = self.memory else {
            let change = Change::of(Why::Created, fresh, seen);
            return change.adding(vec![(self.node, self.name.into())], self.version, seen);
        };
        let rebuilt = Life {
            store: memory.store,
            incarnation: memory.incarnation + 1,
            restored: memory.restored,
            doubt: Some(Doubt::Wiped),
            members: memory.members,
            ..fresh
        };
        let mut change = Change::of(Why::TakenOver, rebuilt, seen);
        change.served = seen.served.max(memory.served);
        change.adding(memory.nodes.clone(), self.version, seen)
    }

    /// Whether this is not the life that it was; and if so, with which doubt a new one begins.
    fn another(&self, life: &Life, reign: Reign, seen: &Seen<'_>) -> Option<Option<Doubt>> {
        let elsewhere = life.reign != reign;
        let Some(memory) = self.memory else { return elsewhere.then_some(life.doubt) };
        if memory.store != life.store && !life.also.contains(&memory.store) {
            return Some(Some(Doubt::Contested));
        }
        let adopted = memory.seal == life.seal;
        // A failover may bring back a life from before the one that is remembered, or another with its number.
        let behind = !adopted && memory.incarnation >= life.incarnation;
        // What was found when this life began; and if it is taken over now, what is found now.
        let reached = if elsewhere || behind { life.reached(seen) } else { life.found };
        let undecided = life.doubt.is_none() && (elsewhere || behind || !adopted && !life.whole);
        let older = undecided && memory.served.since(reached) > self.heads;
        match (elsewhere || behind, older) {
            (_, true) => Some(Some(Doubt::Older)),
            (true, false) => Some(life.doubt),
            (false, false) => None,
        }
    }

    fn take_over(&self, life: &Life, reign: Reign, doubt: Option<Doubt>, seen: &Seen<'_>) -> Change {
        let memory = self.memory;
        let incarnation = life.incarnation.max(memory.map_or(0, |m| m.incarnation)) + 1;
        let mut next = Life {
            incarnation,
            seal: self.random.1,
            restored: life.restored.max(memory.map_or(0, |m| m.restored)),
            reign,
            whole: false,
            doubt,
            found: life.reached(seen),
            dated: if life.whole { seen.raised } else { life.dated.min(seen.raised) },
            since: seen.now,
            ..life.clone()
        };
        if let Some(other) = memory.map(|m| m.store).filter(|store| *store != life.store)
            && !next.also.contains(&other)
        {
            next.also.push(other);
        }
        let mut change = Change::of(Why::TakenOver, next, seen);
        change.served = seen.served.max(memory.map_or(seen.served, |m| m.served));
        change
    }

    /// What is to be remembered once this life is adopted.
    fn remember(&self, life: &Life, seen: &Seen<'_>) -> Memory {
        let mut nodes: Vec<_> = seen.rows.iter().map(|(id, row)| (*id, row.name.clone())).collect();
        let old = self.memory;
        // As long as it is not whole, rows may be missing that were lost.
        if let Some(memory) = old.filter(|_| !life.whole) {
            let lost = memory.nodes.iter().filter(|(id, _)| seen.row(*id).is_none() && !life.waived.contains(id));
            nodes.extend(lost.cloned());
            nodes.sort();
        }
        Memory {
            store: life.store,
            incarnation: life.incarnation,
            seal: life.seal,
            restored: life.restored,
            served: old.map_or(seen.served, |m| m.served),
            members: life.members,
            nodes,
        }
    }

    /// Nodes that are remembered and must be waited for, and whose rows were lost; this one among them.
    fn missing(&self, life: &Life, seen: &Seen<'_>) -> Vec<(NodeId, Box<str>)> {
        let others = self.memory.filter(|_| !life.whole).into_iter().flat_map(|m| &m.nodes).cloned();
        let me = (self.node, self.name.into());
        let mut missing: Vec<_> = others.filter(|(id, _)| *id != self.node).chain([me]).collect();
        missing.retain(|(id, _)| seen.row(*id).is_none() && (*id == self.node || !life.waived.contains(id)));
        missing
    }

    fn add(&self, life: &Life, nodes: Vec<(NodeId, Box<str>)>, seen: &Seen<'_>) -> Change {
        let mut life = life.clone();
        life.waived.retain(|id| *id != self.node);
        let known = life.members;
        let mut change = Change::of(Why::Added, life, seen).adding(nodes, self.version, seen);
        // Whoever takes part already is remembered here, durably: they need not wait for the newcomer to say so.
        for (_, row) in change.rows.iter_mut().filter(|(id, _)| *id == self.node) {
            row.knows = known;
        }
        change
    }

    fn confirm(&self, life: &Life, seen: &Seen<'_>, now: Duration) -> Duty {
        if let Some(doubt) = life.doubt.filter(|doubt| *doubt != Doubt::Wiped) {
            return Duty::Wait(Wait::Word(doubt));
        }
        let first_saw = self.first_saw.filter(|(seal, _)| *seal == life.seal).map_or(now, |(_, at)| at);
        let over = first_saw + life.outlasts();
        if now < over {
            return Duty::Wait(Wait::Leases(over));
        }
        let behind = seen.ids(|row| row.pushed != life.seal);
        if !behind.is_empty() {
            return Duty::Wait(Wait::Nodes(behind));
        }
        let whole = Life { whole: true, ..life.clone() };
        Duty::Change(Box::new(Change::of(Why::Confirmed, whole, seen)))
    }
}

impl Seen<'_> {
    fn row(&self, node: NodeId) -> Option<&Row> {
        self.rows.iter().find(|(id, _)| *id == node).map(|(_, row)| row)
    }

    fn ids(&self, which: impl Fn(&Row) -> bool) -> Vec<NodeId> {
        self.rows.iter().filter(|(_, row)| which(row)).map(|(id, _)| *id).collect()
    }

    fn silent(&self, row: &Row, life: &Life) -> bool {
        self.now.since(row.seen) > life.lease * SILENT
    }
}

impl Change {
    fn of(why: Why, life: Life, seen: &Seen<'_>) -> Self {
        Self { why, life, rows: Vec::new(), gone: Vec::new(), served: seen.served }
    }

    fn adding(mut self, nodes: Vec<(NodeId, Box<str>)>, version: &str, seen: &Seen<'_>) -> Self {
        self.life.members += 1;
        let row = |name| Row {
            pushed: Seal::default(),
            added: self.life.members,
            knows: 0,
            name,
            version: version.into(),
            seen: seen.now,
            followed: 0,
        };
        self.rows = nodes.into_iter().map(|(id, name)| (id, row(name))).collect();
        self
    }
}

impl Life {
    /// What marks every bucket of it: a change that was decided under another life changes nothing.
    #[must_use]
    pub fn mark(&self) -> [u8; 28] {
        let mut mark = [0; 28];
        mark[..16].copy_from_slice(&self.store.to_be_bytes());
        mark[16..20].copy_from_slice(&self.incarnation.to_be_bytes());
        mark[20..].copy_from_slice(&self.seal.0.to_be_bytes());
        mark
    }

    /// How long after its beginning no lease of an earlier life is left, whatever the clocks' rates.
    fn outlasts(&self) -> Duration {
        self.lease + self.lease / 8
    }

    /// What a node that serves says of it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.whole, self.doubt) {
            (true, None) => Standing::Whole,
            (true, Some(Doubt::Wiped)) => Standing::Wiped,
            _ => Standing::NotWhole,
        }
    }

    /// How far the data reached when it was last whole, as far as can be told now.
    fn reached(&self, seen: &Seen<'_>) -> Served {
        if self.whole { seen.served } else { self.found.min(seen.served) }
    }
}

/// An operator's word that cannot be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no store.
    #[error("the store is empty: there is nothing to decide about")]
    Empty,
    /// It is unknown, or was waived before.
    #[error("no such node takes part in this store")]
    NoSuchNode,
    /// It takes part, and spoke a moment ago.
    #[error("this node takes part and spoke a moment ago: stop it first")]
    Alive,
    /// It may still be serving by a lease of before.
    #[error(
        "the store came back a moment ago, and this node may still be serving by what it was told before: try again soon"
    )]
    Early,
}

/// Nobody waits for this node any more: what it alone knows is lost. `vouched`: the servers that hold the store, as for
/// [`duty`], asked before the store was.
///
/// # Errors
/// [`Refused`].
pub fn waive(node: NodeId, vouched: Reign, seen: &Seen<'_>, silent: Duration) -> Result<Change, Refused> {
    let life = seen.life.ok_or(Refused::Empty)?;
    let row = seen.row(node).ok_or(Refused::NoSuchNode)?;
    // Of what nobody has taken over yet, nothing tells when the leases of before end.
    if life.reign != vouched {
        return Err(Refused::Early);
    }
    if row.pushed == life.seal {
        if seen.now.since(row.seen) < silent.max(life.lease * 2) {
            return Err(Refused::Alive);
        }
    } else if !life.whole && seen.now.since(life.since) < life.outlasts() {
        // It holds no lease of this life. Under one of before it may go on acknowledging what nobody would wait for.
        return Err(Refused::Early);
    }
    let mut life = life.clone();
    life.waived.push(node);
    Ok(Change { gone: vec![node], ..Change::of(Why::Word, life, seen) })
}

/// A node leaves: it holds no lease any more, and others have followed the log as far as it has. `None`: it cannot be
/// done without, now.
#[must_use]
pub fn leave(node: NodeId, followed: u64, seen: &Seen<'_>) -> Option<Change> {
    let life = seen.life.filter(|life| life.whole)?;
    let heir = |(id, row): &(NodeId, Row)| {
        *id != node && row.pushed == life.seal && row.followed >= followed && !seen.silent(row, life)
    };
    (seen.row(node)?.pushed == life.seal && seen.rows.iter().any(heir))
        .then(|| Change { gone: vec![node], ..Change::of(Why::Left, life.clone(), seen) })
}

/// An operator's word that what the store holds is what there is. It is another life from here on; what lay ahead of it
/// closes. `ends`: what the cut-off ends that goes with it.
///
/// # Errors
/// [`Refused`].
pub fn declare(ends: Ends, seal: Seal, memory: Option<&Memory>, seen: &Seen<'_>) -> Result<Change, Refused> {
    let life = seen.life.ok_or(Refused::Empty)?;
    let incarnation = life.incarnation.max(memory.map_or(0, |m| m.incarnation)) + 1;
    let next = Life {
        incarnation,
        seal,
        restored: incarnation,
        whole: false,
        doubt: Some(Doubt::Declared(ends)),
        found: Served::NOT_YET,
        dated: Timestamp::default(),
        since: seen.now,
        ..life.clone()
    };
    let served = seen.served.max(memory.map_or(seen.served, |m| m.served));
    Ok(Change { served, ..Change::of(Why::Word, next, seen) })
}

/// What became of those parts of the store that lie elsewhere than what says which store it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    /// One came back empty.
    pub emptied: bool,
    /// One lacks what was written to it: how far it reaches, in time served, and at which time of day that was.
    pub reached: Option<(Served, Timestamp)>,
}

/// A part of the store came back empty, or as of another time, while what says which store it is did not: another life
/// begins, into which all that is remembered is pushed. Of what came back empty, whatever it does not know may be unknown
/// for being lost. Of what came back old, each node says for itself whether it remembers what was spent since. `None`:
/// nothing is lost that is not pushed in any case.
#[must_use]
pub fn lost_a_part(me: &Me<'_>, parts: Parts, seen: &Seen<'_>) -> Option<Change> {
    let life = seen.life?;
    // Losses of the last moments are pushed, and nobody is asked about them.
    let behind = parts.reached.filter(|(reached, _)| life.found.since(*reached) > life.lease);
    if !parts.emptied && behind.is_none() {
        return None;
    }
    let (found, dated) = behind.unwrap_or((life.found, life.dated));
    let too_old = behind.is_some() && me.memory.is_some_and(|memory| memory.served.since(found) > me.heads);
    let doubt = match () {
        () if too_old => Some(Doubt::Older),
        () if parts.emptied => Some(Doubt::Wiped),
        () => None,
    };
    let next = Life {
        incarnation: life.incarnation + 1,
        seal: me.random.1,
        whole: false,
        doubt: life.doubt.or(doubt),
        found: life.found.min(found),
        dated: if parts.emptied { Timestamp::default() } else { life.dated.min(dated) },
        since: seen.now,
        ..life.clone()
    };
    Some(Change::of(Why::TakenOver, next, seen))
}

/// Under which life a step began, and over which way to the servers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Term {
    /// Which life.
    pub seal: Seal,
    /// Counts how often this node has come to speak to other servers.
    pub way: u64,
}

/// What a node holds while it serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lease {
    /// Of which life, and of the servers at the end of which way.
    pub term: Term,
    /// Until when, by the node's clock.
    pub until: Duration,
}

impl Lease {
    /// What a round gives that began then: `asked` is read before anyone is asked who holds the store.
    #[must_use]
    pub fn granted(life: &Life, way: u64, asked: Duration) -> Self {
        Self { term: Term { seal: life.seal, way }, until: asked + life.lease }
    }

    /// Whether what was done since `began` may be acknowledged, and the feed that was read since may be signed. Asked
    /// after all of it is durable, here too. `way`: as it is now.
    #[must_use]
    pub fn covers(&self, began: Term, way: u64, now: Duration) -> bool {
        self.term == began && self.term.way == way && now < self.until
    }
}

#[cfg(test)]
mod tests;

//! The rule by which a store that many nodes share may be spoken for, explored exhaustively: nodes that go on talking to a
//! deposed master, masters that lost acknowledged writes, vouchers that learn of it one by one, nodes that crash or never
//! come back, a store that is emptied or put back, in every order that a bounded world allows, with the product's own
//! `reign::duty` and `Lease::covers` inside.
//!
//! A node takes one step of its duty at a time, on what it was told by those who vouch when its round began; a change, its
//! journal and its acknowledgement are three instants. Beside what happened, each state remembers what was promised.
//!
//! A state holds ages, not instants: time has no end here. What is told one by one is a majority from the second on; and who
//! asks them one after the other and hears of the old master from most has asked when most still named it.
//!
//! Protections are switched off one by one: the exploration then finds how a promise is broken.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rescind::model::{
    Timestamp,
    denial::Ends,
    family::{Served, Standing},
    reign::{
        Change, Doubt, Duty, Lease, Life, Me, Memory, NodeId, Reign, Row, Seal, Seen, Term, Wait, Why, declare, duty,
        leave, waive,
    },
};
use stateright::{Checker, Model, Property};

/// A lease lasts for one tick of these, or for two of the shorter ones.
const TICK: Duration = Duration::from_millis(16);
const SHORT_TICK: Duration = Duration::from_millis(8);
const LEASE: Duration = Duration::from_millis(16);
/// Heads are remembered for so much time served, counted in ticks.
const HEADS: u64 = 1;
/// Time served is not counted any further.
const SERVED: u64 = 3;

/// What can be revoked: the family, a token, and by a cut-off, everything.
const FAMILY: u8 = 1;
const TOKEN: u8 = 2;
const ALL: u8 = 4;
/// The one by the first node, the other by the second.
const BOTH: &[u8] = &[FAMILY, TOKEN];

/// The protections; the tests switch them off one by one.
#[derive(Clone, Copy)]
struct Guards {
    /// Only a majority of those who vouch names the servers.
    majority: bool,
    /// Leases of an earlier life are waited for.
    wait: bool,
    /// Nobody serves before every node has pushed.
    pushes: bool,
    /// A change is made only in the life that it was decided under.
    mark: bool,
    /// An acknowledgement needs a lease.
    lease: bool,
    /// It must be the lease under which the step began.
    term: bool,
    /// And the servers must be those at the end of the same way.
    way: bool,
    /// What is acknowledged is in the journal.
    journal: bool,
    /// Heads that moved are pushed again.
    heads: bool,
    /// Nodes are remembered by the others, and waited for although their rows were lost.
    nodes: bool,
    /// Nobody serves before the others remember it.
    known: bool,
    /// An empty store is compared with what the journal remembers.
    wiped: bool,
    /// So is one that came back old.
    older: bool,
    /// Marks of the log have digests.
    digest: bool,
    /// A node that stops hands over first.
    handover: bool,
    /// An operator's word ends what was before.
    cut_off: bool,
}

const ALL_GUARDS: Guards = Guards {
    majority: true,
    wait: true,
    pushes: true,
    mark: true,
    lease: true,
    term: true,
    way: true,
    journal: true,
    heads: true,
    nodes: true,
    known: true,
    wiped: true,
    older: true,
    digest: true,
    handover: true,
    cut_off: true,
};

#[derive(Clone)]
struct World {
    /// Kept beside the states, not in them: they would be many more.
    seen: Option<Arc<AtomicU32>>,
    guards: Guards,
    /// Other nodes come between any two things that a node does, not only between two rounds of them.
    fine: bool,
    tick: Duration,
    /// A node acts upon what it was told a while ago.
    stale: bool,
    /// Nodes that take part from the start, and nodes that come later.
    nodes: usize,
    late: usize,
    /// The first server is deposed, and the second one promoted.
    failover: bool,
    /// A node never comes back.
    gone: bool,
    /// An operator waives a node that holds the others up.
    waive: bool,
    /// A node crashes and comes back: with its journal, or without.
    crash: Option<bool>,
    /// A node is stopped.
    stop: bool,
    /// The store is emptied.
    wipe: bool,
    /// The store is put back as it was.
    snapshot: bool,
    /// An operator accepts a loss.
    word: bool,
    /// What is revoked.
    revoked: &'static [u8],
    /// How often the family is refreshed.
    generations: u8,
}

const CALM: World = World {
    seen: None,
    guards: ALL_GUARDS,
    fine: false,
    tick: TICK,
    stale: false,
    nodes: 2,
    late: 0,
    failover: false,
    gone: false,
    waive: false,
    crash: None,
    stop: false,
    wipe: false,
    snapshot: false,
    word: false,
    revoked: &[TOKEN],
    generations: 0,
};

/// What a server holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Data {
    life: Option<Life>,
    rows: Vec<(NodeId, Row)>,
    served: u64,
    /// How long ago that was last raised.
    raised: u8,
    /// How long ago its life began.
    age: u8,
    /// The marker of all buckets.
    mark: Option<Seal>,
    /// What was revoked, in order.
    log: Vec<u8>,
    /// The family's newest generation.
    head: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Server {
    run: u8,
    data: Data,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    id: NodeId,
    up: bool,
    /// It takes part, or will.
    started: bool,
    /// Which server it talks to, and how often that has changed.
    link: usize,
    way: u64,
    memory: Option<Memory>,
    journal: u8,
    /// The log as it was followed.
    mirror: Vec<u8>,
    /// The newest head that it moved, and when.
    heads: Option<(u8, u64)>,
    /// And how long ago.
    first_saw: Option<(Seal, u8)>,
    lease: Option<Lease>,
    round: Option<Round>,
    step: Option<Step>,
}

/// What it was told when it last asked who holds the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Round {
    age: u8,
    /// Which server most of them named.
    named: usize,
}

/// Something that has been done and is not acknowledged yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Step {
    what: What,
    began: Term,
    /// What had been acknowledged before it began.
    must: u8,
    /// And which generations had been exchanged.
    spent: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum What {
    Revoked(u8),
    /// From this generation on; false: the successor was given again.
    Refreshed(u8, bool),
    /// The feed, with this in it.
    Read(u8),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    servers: [Server; 2],
    /// How many of three who vouch name the second server; from two on it is not counted further.
    told: u8,
    nodes: Vec<Node>,
    snapshot: Option<Data>,
    seals: u64,
    /// Faults that have been.
    fell: Fell,
    truth: Truth,
    wrong: Wrong,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Fell {
    crashed: bool,
    gone: bool,
    waived: bool,
    wiped: bool,
    put_back: bool,
    stopped: bool,
}

/// What was promised.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Truth {
    /// Revocations that were acknowledged, and not declared lost since.
    acknowledged: u8,
    /// Generations below this one have been exchanged.
    spent: u8,
    /// The newest generation that was given.
    given: u8,
    /// Heads were lost with a node, or by an operator's word.
    lossy: bool,
    /// What only nodes knew that are no more.
    buried: Vec<(NodeId, u8)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Wrong {
    incomplete: bool,
    refreshed: bool,
    spent: bool,
    stuck: bool,
}

/// What a world must let come to pass, or it shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sight {
    AcknowledgedAfterwards,
    SignedAfterwards,
    RefreshedAfterwards,
    HeldBack,
    WaitedForLeases,
    WaitedForNodes,
    WaitedToBeKnown,
    Older,
    Wiped,
    ServesWiped,
    Contested,
    Left,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Tick,
    /// A node asks who holds the store.
    Ask(usize),
    /// It does what is next.
    Duty(usize),
    /// It comes to talk to the other server.
    Turn(usize),
    Revoke(usize, u8),
    Refresh(usize, u8),
    Read(usize),
    /// What it has done is journaled, and acknowledged if it may be.
    Acknowledge(usize),
    Replicate,
    /// One of those who vouch learns of the new master.
    Learn,
    Gone(usize),
    Crash(usize),
    Stop(usize),
    Start(usize),
    Waive(usize),
    Wipe,
    Snapshot,
    PutBack,
    Word(Ends),
}

/// Now, at every moment; other instants move away from it.
const NOW: Duration = Duration::from_secs(1);
/// What stands in a state instead of an instant.
const BEGAN: Timestamp = Timestamp::from_millis(0);
const SPOKE: Timestamp = Timestamp::from_millis(0);
/// What is older is equally old.
const OLD: u8 = 3;

fn bits(log: &[u8]) -> u8 {
    let bits = log.iter().fold(0, |all, bit| all | bit);
    if bits & ALL == 0 { bits } else { u8::MAX }
}

impl World {
    fn ago(&self, ticks: u8) -> Duration {
        NOW - self.tick * u32::from(ticks)
    }

    fn see(&self, sight: Sight) {
        if let Some(seen) = &self.seen {
            seen.fetch_or(1 << sight as u32, Ordering::Relaxed);
        }
    }

    fn covers(&self, node: &Node, began: Term) -> bool {
        let guards = self.guards;
        if !guards.lease {
            return true;
        }
        node.lease.is_some_and(|lease| {
            let began = Term {
                seal: if guards.term { began.seal } else { lease.term.seal },
                way: if guards.way { began.way } else { lease.term.way },
            };
            let way = if guards.way { node.way } else { lease.term.way };
            lease.covers(began, way, NOW)
        })
    }

    /// Under what a step of this node begins now, if it may.
    fn begins(&self, s: &State, n: usize) -> Option<Term> {
        let node = &s.nodes[n];
        let lease = node.lease?;
        let term = Term { seal: lease.term.seal, way: node.way };
        (node.up && node.step.is_none() && self.covers(node, term)).then_some(term)
    }

    /// One thing that is done and not acknowledged yet.
    fn step(&self, s: &mut State, n: usize, wanted: Wanted) -> Option<()> {
        let began = self.begins(s, n)?;
        let (must, spent) = (s.truth.acknowledged, s.truth.spent);
        let node = &mut s.nodes[n];
        let data = &mut s.servers[node.link].data;
        let marked = !self.guards.mark || data.mark == Some(began.seal);
        let what = match wanted {
            Wanted::Revoke(bit) => {
                if !marked {
                    return None;
                }
                if !data.log.contains(&bit) {
                    data.log.push(bit);
                }
                What::Revoked(bit)
            }
            Wanted::Refresh(generation) => {
                let life = data.life.as_ref()?;
                if !marked || bits(&data.log) & FAMILY != 0 {
                    return None;
                }
                let rotates = match generation.cmp(&data.head) {
                    std::cmp::Ordering::Less => generation + 1 < data.head,
                    // What lies ahead of a record is healed, unless an operator has declared it.
                    std::cmp::Ordering::Greater => life.restored > 0 || life.incarnation == 0,
                    std::cmp::Ordering::Equal => false,
                };
                if rotates {
                    return None;
                }
                let rotated = generation >= data.head;
                data.head = data.head.max(generation + 1);
                What::Refreshed(generation, rotated)
            }
            Wanted::Read => {
                if !marked {
                    return None;
                }
                follow(node, data, self.guards.digest);
                What::Read(bits(&node.mirror))
            }
        };
        node.step = Some(Step { what, began, must, spent });
        Some(())
    }

    fn acknowledge(&self, s: &mut State, n: usize) -> Option<()> {
        let node = &mut s.nodes[n];
        let Step { what, began, must, spent } = node.step.take()?;
        let served = s.servers[node.link].data.served;
        match what {
            What::Revoked(bit) if self.guards.journal => node.journal |= bit,
            What::Refreshed(generation, _) if self.guards.heads => node.heads = Some((generation + 1, served)),
            _ => {}
        }
        if !self.covers(&s.nodes[n], began) {
            self.see(Sight::HeldBack);
            return Some(());
        }
        let later = s.nodes[n].lease.is_some_and(|lease| lease.term.seal != Seal(1));
        // What was declared lost since is not asked for any more.
        let must = must & s.truth.acknowledged;
        match what {
            What::Revoked(bit) => s.truth.acknowledged |= bit,
            What::Read(got) => s.wrong.incomplete |= must & !got != 0,
            What::Refreshed(generation, rotated) => {
                s.wrong.refreshed |= must & FAMILY != 0;
                s.wrong.spent |= rotated && generation < spent && !s.truth.lossy;
                s.truth.spent = s.truth.spent.max(generation + 1);
                s.truth.given = s.truth.given.max(generation + 1);
            }
        }
        if later {
            self.see(match what {
                What::Revoked(_) => Sight::AcknowledgedAfterwards,
                What::Read(_) => Sight::SignedAfterwards,
                What::Refreshed(..) => Sight::RefreshedAfterwards,
            });
        }
        Some(())
    }

    /// A node does what is next: one thing, or a round of them.
    fn duty(&self, s: &mut State, n: usize) -> Option<()> {
        while self.next_duty(s, n)? && !self.fine {}
        Some(())
    }

    /// One thing. Gives whether there is more to do at once.
    fn next_duty(&self, s: &mut State, n: usize) -> Option<bool> {
        let guards = self.guards;
        let round = s.nodes[n].round.unwrap_or(Round { age: 0, named: s.named() });
        let link = s.nodes[n].link;
        let server = &s.servers[link];
        let named = if guards.majority { round.named } else { link };
        let vouched = (named == link).then_some(Reign(server.run.into()));
        let data = server.data.clone();
        let mut rows = heard(s, link);
        for (id, row) in &mut rows {
            let whole = data.life.as_ref().is_some_and(|life| life.whole);
            if !guards.pushes && !whole && *id != s.nodes[n].id {
                row.pushed = data.life.as_ref().map(|life| life.seal).unwrap_or_default();
            }
            if !guards.known {
                row.knows = u32::MAX;
            }
        }
        let node = &mut s.nodes[n];
        let mut memory = node.memory.clone();
        if !guards.nodes
            && let Some(memory) = &mut memory
        {
            memory.nodes = rows.iter().map(|(id, row)| (*id, row.name.clone())).collect();
        }
        if !guards.wiped && data.life.is_none() {
            (node.memory, memory) = (None, None);
        }
        if let Some(life) = &data.life
            && node.first_saw.is_none_or(|(seal, _)| seal != life.seal)
        {
            node.first_saw = Some((life.seal, 0));
        }
        let first_saw =
            node.first_saw.map(|(seal, tick)| (seal, if guards.wait { self.ago(tick) } else { Duration::ZERO }));
        let me = Me {
            node: node.id,
            name: "",
            version: "",
            memory: memory.as_ref(),
            first_saw,
            heads: Duration::from_millis(if guards.older { HEADS } else { 1000 }),
            random: (u128::from(s.seals + 1), Seal(s.seals + 1)),
            lease: LEASE,
        };
        let seen = Seen { rows: &rows, ..seen(&data) };
        match duty(&me, vouched, &seen, NOW) {
            Duty::Wait(wait) => {
                self.waits(&wait);
                node.round = None;
                return Some(false);
            }
            Duty::Serve(standing) => {
                s.nodes[n].round = None;
                self.serve(s, n, round, standing);
                return Some(false);
            }
            Duty::Adopt(memory) => {
                if node.lease.is_some_and(|lease| lease.term.seal != memory.seal) {
                    node.lease = None;
                }
                node.memory = Some(memory);
                return if self.fine { Some(true) } else { self.next_duty(s, n) };
            }
            Duty::Tell => {
                let knows = node.memory.as_ref()?.members;
                row_of(s, n)?.knows = knows;
                return self.next_duty(s, n);
            }
            Duty::Push => {
                let (journal, heads, seal) = (node.journal, node.heads, data.life?.seal);
                let data = &mut s.servers[link].data;
                data.mark = Some(seal);
                for bit in [FAMILY, TOKEN, ALL] {
                    if journal & bit != 0 && !data.log.contains(&bit) {
                        data.log.push(bit);
                    }
                }
                data.head = data.head.max(heads.map_or(0, |(head, _)| head));
                row_of(s, n)?.pushed = seal;
            }
            Duty::CutOff(ends, change) => {
                if ends == Ends::Sessions && guards.cut_off {
                    s.servers[link].data.log.push(ALL);
                }
                self.change(s, link, *change);
            }
            Duty::Change(change) => self.change(s, link, *change),
        }
        Some(true)
    }

    fn change(&self, s: &mut State, link: usize, change: Change) {
        let data = &mut s.servers[link].data;
        s.seals = s.seals.max(change.life.seal.0);
        match change.life.doubt {
            Some(Doubt::Older) => self.see(Sight::Older),
            Some(Doubt::Wiped) => self.see(Sight::Wiped),
            Some(Doubt::Contested) => self.see(Sight::Contested),
            _ => {}
        }
        if change.why == Why::Created || change.why == Why::TakenOver {
            data.raised = 0;
        }
        if data.life.as_ref().is_none_or(|life| life.seal != change.life.seal) {
            data.age = 0;
        }
        data.life = Some(Life { since: BEGAN, ..change.life });
        data.rows.retain(|(id, _)| !change.gone.contains(id));
        data.rows.extend(change.rows);
        data.rows.sort_by_key(|(id, _)| *id);
        data.rows.iter_mut().for_each(|(_, row)| row.seen = SPOKE);
        data.served = data.served.max(change.served.0);
    }

    fn serve(&self, s: &mut State, n: usize, round: Round, standing: Standing) {
        if standing == Standing::Wiped {
            self.see(Sight::ServesWiped);
        }
        let snapshot = self.snapshot;
        let node = &mut s.nodes[n];
        let data = &mut s.servers[node.link].data;
        if snapshot {
            data.served = (data.served + u64::from(data.raised)).min(SERVED);
            data.raised = 0;
            if let Some(memory) = &mut node.memory {
                memory.served = Served(memory.served.0.max(data.served));
            }
            node.heads = node.heads.filter(|(_, moved)| data.served - moved <= HEADS);
        }
        if self.stop {
            follow(node, data, true);
        }
        let followed = node.mirror.len() as u64;
        let life = data.life.as_ref().expect("it is what is served");
        node.lease = Some(Lease::granted(life, node.way, self.ago(round.age)));
        if let Some(row) = row_of(s, n) {
            row.followed = followed;
        }
    }

    fn waits(&self, wait: &Wait) {
        match wait {
            Wait::Leases(_) => self.see(Sight::WaitedForLeases),
            Wait::Nodes(_) => self.see(Sight::WaitedForNodes),
            Wait::Known(_) => self.see(Sight::WaitedToBeKnown),
            Wait::Vouched | Wait::Word(_) => {}
        }
    }

    fn crash(&self, s: &mut State, n: usize, keeps: bool) {
        let next = NodeId(s.nodes.iter().map(|node| node.id.0).max().unwrap_or(0) + 1);
        let node = &mut s.nodes[n];
        if !keeps {
            s.truth.buried.push((node.id, node.journal));
            (node.id, node.memory, node.journal) = (next, None, 0);
            node.mirror.clear();
        }
        s.truth.lossy |= node.heads.take().is_some();
        (node.lease, node.round, node.step, node.first_saw) = (None, None, None, None);
    }

    fn waive(&self, s: &mut State, n: usize) -> Option<()> {
        let server = s.named();
        let (data, rows) = (&s.servers[server].data, heard(s, server));
        let since = if self.guards.wait { self.ago(data.age) } else { Duration::ZERO };
        let life = Life { since: instant(since), ..data.life.clone()? };
        let seen = Seen { life: Some(&life), rows: &rows, ..seen(data) };
        // Whoever is in the way: this node, or what it was before it lost its journal.
        let id = data
            .rows
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| *id == s.nodes[n].id || s.nodes.iter().all(|node| node.id != *id));
        let id = id.filter(|id| data.rows.iter().any(|(other, row)| other == id && row.pushed != life.seal)).max()?;
        let vouched = Reign(s.servers[server].run.into());
        let change = waive(id, vouched, &seen, Duration::ZERO).ok()?;
        // What it alone knows is lost, and nothing else.
        let waited_for = |node: &&Node| node.id != id && rows.iter().any(|(other, _)| *other == node.id);
        let others = s.nodes.iter().filter(waited_for).fold(0, |all, node| all | node.journal);
        let known = s.nodes.iter().find(|node| node.id == id).map(|node| node.journal);
        let buried = s.truth.buried.iter().find(|(other, _)| *other == id).map(|(_, journal)| *journal);
        let lost = known.unwrap_or(0) | buried.unwrap_or(0);
        s.truth.acknowledged &= !lost | bits(&data.log) | others;
        s.truth.lossy = true;
        self.change(s, server, change);
        Some(())
    }

    fn word(&self, s: &mut State, ends: Ends) -> Option<()> {
        let server = s.named();
        let data = &s.servers[server].data;
        data.life.as_ref()?.doubt.filter(|doubt| !matches!(doubt, Doubt::Declared(_)))?;
        let memory = s.nodes.iter().find_map(|node| node.memory.clone());
        let change = declare(ends, Seal(s.seals + 1), memory.as_ref(), &seen(data)).ok()?;
        s.truth.lossy = true;
        if ends == Ends::Tokens {
            // Said to be lost, whatever the journals know.
            s.truth.acknowledged = 0;
        }
        self.change(s, server, change);
        Some(())
    }

    fn stop(&self, s: &mut State, n: usize) -> Option<()> {
        let node = &s.nodes[n];
        let data = &s.servers[node.link].data;
        let rows = heard(s, node.link);
        let change = leave(node.id, data.log.len() as u64, &Seen { rows: &rows, ..seen(data) });
        let change = match change {
            Some(change) => change,
            None if self.guards.handover => return None,
            None => {
                let life = data.life.clone()?;
                Change { why: Why::Left, life, rows: Vec::new(), gone: vec![node.id], served: Served(data.served) }
            }
        };
        // It speaks to the servers that hold the store; and what is under way is not acknowledged any more.
        if node.step.is_some() || node.link != s.named() {
            return None;
        }
        self.see(Sight::Left);
        let link = node.link;
        let node = &mut s.nodes[n];
        (node.up, node.lease, node.round) = (false, None, None);
        s.truth.lossy |= node.heads.is_some();
        s.fell.stopped = true;
        self.change(s, link, change);
        Some(())
    }

    /// Whether service comes back once faults end: all agree on the master, and who is gone is waived.
    fn recovers(&self, last: &State) -> bool {
        let world = Self { seen: None, ..self.clone() };
        let mut s = last.clone();
        let master = s.named();
        for _ in 0..24 {
            for n in 0..s.nodes.len() {
                if !s.nodes[n].up || !s.nodes[n].started {
                    continue;
                }
                if s.nodes[n].link != master {
                    turn(&mut s.nodes[n], self.guards.way);
                }
                s.nodes[n].round = None;
                for _ in 0..8 {
                    world.duty(&mut s, n);
                }
            }
            let mut up = s.nodes.iter().filter(|node| node.up && node.started);
            if up.all(|node| node.lease.is_some_and(|lease| lease.covers(lease.term, node.way, NOW))) {
                return true;
            }
            for n in 0..s.nodes.len() {
                world.waive(&mut s, n);
            }
            world.word(&mut s, Ends::Sessions);
            s.tick(self.tick);
        }
        false
    }

    fn start() -> State {
        let server = |run| Server { run, data: Data::default() };
        State {
            servers: [server(0), server(1)],
            told: 0,
            nodes: Vec::new(),
            snapshot: None,
            seals: 0,
            fell: Fell::default(),
            truth: Truth::default(),
            wrong: Wrong::default(),
        }
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Revoke(u8),
    Refresh(u8),
    Read,
}

impl State {
    /// Which server most of those who vouch name.
    fn named(&self) -> usize {
        usize::from(self.told >= 2)
    }

    fn tick(&mut self, tick: Duration) {
        for server in &mut self.servers {
            server.data.raised = 2.min(server.data.raised + 1);
            server.data.age = OLD.min(server.data.age + 1);
        }
        for node in &mut self.nodes {
            if let Some((_, ticks)) = &mut node.first_saw {
                *ticks = OLD.min(*ticks + 1);
            }
            if let Some(lease) = &mut node.lease {
                lease.until -= tick;
            }
            if let Some(round) = &mut node.round {
                round.age += 1;
            }
            node.lease = node.lease.filter(|lease| lease.until > NOW);
            // What it was told is no good for a lease any more: it asks anew.
            node.round = node.round.filter(|round| tick * u32::from(round.age) < LEASE);
        }
    }

    /// What cannot matter any more is not told apart.
    fn forget(&mut self) {
        if self.told >= 2 && self.nodes.iter().all(|node| node.link == 1 || !node.up) {
            self.servers[0].data = Data::default();
        }
        for server in &mut self.servers {
            if server.data.life.as_ref().is_none_or(|life| life.whole) {
                server.data.age = OLD;
            }
        }
        for node in &mut self.nodes {
            let life = self.servers[node.link].data.life.as_ref();
            if let Some((seal, ticks)) = &mut node.first_saw
                && life.is_some_and(|life| life.seal == *seal && life.whole)
            {
                *ticks = OLD;
            }
            // Whether it is still the same way is all that matters of one: only another can follow, never an earlier one.
            let same = |way: &mut u64, now: u64| *way = u64::from(*way == now);
            if let Some(lease) = &mut node.lease {
                same(&mut lease.term.way, node.way);
            }
            if let Some(step) = &mut node.step {
                same(&mut step.began.way, node.way);
            }
            node.way = 1;
        }
    }
}

/// It comes to talk to the other server: a lease of the way before, and what was asked then, is no good any more.
fn turn(node: &mut Node, guarded: bool) {
    node.link = 1 - node.link;
    turn_within(node, guarded);
}

fn turn_within(node: &mut Node, guarded: bool) {
    node.way += 1;
    node.round = None;
    node.lease = node.lease.filter(|_| !guarded);
}

fn instant(at: Duration) -> Timestamp {
    Timestamp::from_millis(at.as_millis() as u64)
}

fn seen(data: &Data) -> Seen<'_> {
    Seen {
        life: data.life.as_ref(),
        rows: &data.rows,
        served: Served(data.served),
        raised: Timestamp::default(),
        now: instant(NOW),
    }
}

/// The rows of a server, as of the last word of each node. Whoever is no more is silent at once, whoever is there never.
fn heard(s: &State, server: usize) -> Vec<(NodeId, Row)> {
    let mut rows = s.servers[server].data.rows.clone();
    for (id, row) in &mut rows {
        let speaks = s.nodes.iter().any(|node| node.id == *id && node.up);
        row.seen = if speaks { instant(NOW) } else { SPOKE };
    }
    rows
}

/// Follows the log; one that does not continue is read anew. What was seen is journaled.
fn follow(node: &mut Node, data: &Data, digests: bool) {
    let known = node.mirror.len().min(data.log.len());
    if digests && node.mirror[..known] != data.log[..known] || known < node.mirror.len() {
        node.mirror.clone_from(&data.log);
    }
    let known = node.mirror.len();
    node.mirror.extend_from_slice(&data.log[known..]);
    node.journal |= data.log.iter().fold(0, |all, bit| all | bit);
}

fn row_of(s: &mut State, n: usize) -> Option<&mut Row> {
    let node = &s.nodes[n];
    s.servers[node.link].data.rows.iter_mut().find(|(id, _)| *id == node.id).map(|(_, row)| row)
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut s = Self::start();
        for n in 0..self.nodes + self.late {
            s.nodes.push(Node {
                id: NodeId(n as u128 + 1),
                up: true,
                started: n < self.nodes,
                link: 0,
                way: 0,
                memory: None,
                journal: 0,
                mirror: Vec::new(),
                heads: None,
                first_saw: None,
                lease: None,
                round: None,
                step: None,
            });
        }
        let world = Self { seen: None, guards: ALL_GUARDS, ..self.clone() };
        // A new store: it is whole after a while, and has served for none.
        for _ in 0..6 {
            s.tick(self.tick);
            for n in 0..self.nodes {
                for _ in 0..8 {
                    world.duty(&mut s, n);
                }
            }
        }
        s.servers[0].data.served = 0;
        for memory in s.nodes.iter_mut().filter_map(|node| node.memory.as_mut()) {
            memory.served = Served(0);
        }
        s.servers[1].data = s.servers[0].data.clone();
        vec![s]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.wrong != Wrong::default() {
            // One counterexample is enough.
            return;
        }
        actions.push(Action::Tick);
        let promoted = s.told > 0;
        for (n, node) in s.nodes.iter().enumerate().filter(|(_, node)| node.up) {
            if !node.started {
                actions.push(Action::Start(n));
                continue;
            }
            actions.push(Action::Duty(n));
            // What it is told now it may act upon later, when others have been told otherwise.
            if self.stale && s.named() == 0 && node.round != Some(Round { age: 0, named: 0 }) {
                actions.push(Action::Ask(n));
            }
            // It resolves a name of its own, and may be told of the old master once more.
            if promoted && (node.link == 0 || s.named() == 0) {
                actions.push(Action::Turn(n));
            }
            if node.step.is_some() {
                actions.push(Action::Acknowledge(n));
            } else if self.begins(s, n).is_some() {
                // Nodes are alike: who revokes what is settled beforehand, the last one first, which may come late.
                let fresh = self.revoked.iter().rev().enumerate().filter(|(i, _)| (i + n + 1) % s.nodes.len() == 0);
                let fresh = fresh.filter(|(_, bit)| s.truth.acknowledged & **bit == 0);
                actions.extend(fresh.map(|(_, bit)| Action::Revoke(n, *bit)));
                if s.truth.acknowledged != 0 {
                    actions.push(Action::Read(n));
                }
                actions.extend((0..=s.truth.given).filter(|g| *g < self.generations).map(|g| Action::Refresh(n, g)));
            }
            if self.gone && !s.fell.gone {
                actions.push(Action::Gone(n));
            }
            if self.crash.is_some() && !s.fell.crashed {
                actions.push(Action::Crash(n));
            }
            if self.stop && !s.fell.stopped {
                actions.push(Action::Stop(n));
            }
        }
        if self.failover {
            if !promoted {
                actions.push(Action::Replicate);
            }
            if s.told < 2 {
                actions.push(Action::Learn);
            }
        }
        if self.waive && !s.fell.waived {
            actions.extend((0..s.nodes.len()).map(Action::Waive));
        }
        if self.wipe && !s.fell.wiped {
            actions.push(Action::Wipe);
        }
        if self.snapshot && s.snapshot.is_none() {
            actions.push(Action::Snapshot);
        }
        if s.snapshot.is_some() && !s.fell.put_back {
            actions.push(Action::PutBack);
        }
        if self.word {
            actions.extend([Action::Word(Ends::Sessions), Action::Word(Ends::Tokens)]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Tick => s.tick(self.tick),
            Action::Ask(n) => s.nodes[n].round = Some(Round { age: 0, named: s.named() }),
            Action::Duty(n) => self.duty(s, n)?,
            Action::Turn(n) => turn(&mut s.nodes[n], self.guards.way),
            Action::Revoke(n, bit) => self.step(s, n, Wanted::Revoke(bit))?,
            Action::Refresh(n, generation) => self.step(s, n, Wanted::Refresh(generation))?,
            Action::Read(n) => self.step(s, n, Wanted::Read)?,
            Action::Acknowledge(n) => self.acknowledge(s, n)?,
            Action::Replicate => s.servers[1].data = s.servers[0].data.clone(),
            Action::Learn => s.told += 1,
            Action::Gone(n) => {
                s.nodes[n].up = false;
                s.truth.lossy |= s.nodes[n].heads.is_some();
                s.fell.gone = true;
            }
            Action::Crash(n) => {
                s.fell.crashed = true;
                self.crash(s, n, self.crash?);
            }
            Action::Stop(n) => self.stop(s, n)?,
            Action::Start(n) => s.nodes[n].started = true,
            Action::Waive(n) => {
                s.fell.waived = true;
                self.waive(s, n)?;
            }
            Action::Wipe => {
                s.fell.wiped = true;
                s.servers[0].data = Data::default();
            }
            Action::Snapshot => s.snapshot = Some(s.servers[0].data.clone()),
            Action::PutBack => {
                s.fell.put_back = true;
                s.servers[0] = Server { run: 2, data: s.snapshot.clone()? };
                s.nodes.iter_mut().for_each(|node| turn_within(node, self.guards.way));
            }
            Action::Word(ends) => self.word(s, ends)?,
        }
        s.forget();
        if s.nodes.iter().all(|node| node.lease.is_none() && node.round.is_none() && node.step.is_none()) {
            s.wrong.stuck = !self.recovers(s);
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("a feed signed as complete is", |_, s| !s.wrong.incomplete),
            Property::<Self>::always("no refresh after a revocation", |_, s| !s.wrong.refreshed),
            Property::<Self>::always("nothing spent comes alive", |_, s| !s.wrong.spent),
            Property::<Self>::always("service comes back", |_, s| !s.wrong.stuck),
        ]
    }
}

/// Explores a world to its end: all promises are kept, all that makes it interesting happens.
fn explore(name: &str, world: World, at_least: usize, sights: &[Sight]) {
    let seen = Arc::new(AtomicU32::new(0));
    let world = World {
        seen: Some(seen.clone()),
        stale: world.failover,
        tick: if long() { SHORT_TICK } else { TICK },
        ..world
    };
    let checker = world.checker().threads(1).spawn_bfs().join();
    println!("{name}: {} unique states, {} deep", checker.unique_state_count(), checker.max_depth());
    for (property, path) in checker.discoveries() {
        println!("{property}: {:?}", path.into_actions());
    }
    checker.assert_properties();
    assert!(checker.is_done());
    assert!(checker.unique_state_count() > at_least, "{name} is a small world");
    for sight in sights {
        assert!(seen.load(Ordering::Relaxed) & 1 << *sight as u32 != 0, "{name}: {sight:?} never happens");
    }
}

/// Explores a world without a protection until a promise is found broken.
fn refute(world: World, promise: &'static str) {
    let broken = BTreeSet::from([promise]);
    let checker = world.checker().threads(1).finish_when(stateright::HasDiscoveries::AnyOf(broken)).spawn_bfs().join();
    let path = checker.discovery(promise).unwrap_or_else(|| panic!("`{promise}` holds even without that protection"));
    println!("{promise}: {} states, refuted by {:?}", checker.unique_state_count(), path.into_actions());
}

// ---- the worlds

/// With `LONG_TESTS`, finer.
fn long() -> bool {
    std::env::var_os("LONG_TESTS").is_some()
}

#[test]
fn a_failover_loses_no_acknowledged_revocation() {
    let world = World { failover: true, ..CALM };
    let sights = [Sight::AcknowledgedAfterwards, Sight::SignedAfterwards, Sight::HeldBack, Sight::WaitedForNodes];
    explore("failover", world, 10_000, &sights);
}

#[test]
fn positions_that_were_lost_and_given_again_deceive_nobody() {
    let world = World { failover: true, revoked: BOTH, ..CALM };
    explore("positions", world, 10_000, &[Sight::SignedAfterwards]);
}

#[test]
fn a_failover_brings_nothing_spent_alive() {
    let world = World { failover: true, revoked: &[FAMILY], generations: 2, ..CALM };
    explore("refreshes", world, 10_000, &[Sight::RefreshedAfterwards]);
}

#[test]
fn a_node_that_is_gone_for_ever_is_waited_for_until_it_is_waived() {
    let world = World { failover: true, waive: true, ..CALM };
    explore("waived alive", world, 10_000, &[Sight::WaitedForNodes, Sight::WaitedForLeases, Sight::SignedAfterwards]);
    let world = World { failover: true, waive: true, gone: true, ..CALM };
    explore("gone", world, 10_000, &[Sight::WaitedForNodes, Sight::SignedAfterwards]);
}

#[test]
fn a_node_that_crashes_comes_back_with_what_it_knew() {
    let world = World { failover: true, crash: Some(true), ..CALM };
    explore("crash", world, 10_000, &[Sight::SignedAfterwards, Sight::WaitedForNodes]);
}

#[test]
fn a_node_that_lost_its_journal_is_waited_for_as_the_one_that_it_was() {
    let world = World { failover: true, crash: Some(false), waive: true, ..CALM };
    explore("journal lost", world, 10_000, &[Sight::SignedAfterwards, Sight::WaitedForNodes]);
}

#[test]
fn a_node_that_has_just_come_is_not_forgotten() {
    let world = World { failover: true, nodes: 1, late: 1, ..CALM };
    explore("late", world, 10_000, &[Sight::SignedAfterwards, Sight::WaitedToBeKnown]);
}

#[test]
fn a_node_that_stops_leaves_what_it_knew_to_another() {
    let world = World { failover: true, stop: true, ..CALM };
    explore("stop", world, 10_000, &[Sight::SignedAfterwards, Sight::Left]);
}

#[test]
fn an_empty_store_is_not_taken_for_a_new_one() {
    let world = World { wipe: true, word: true, revoked: if long() { BOTH } else { &[TOKEN] }, generations: 1, ..CALM };
    explore("wiped", world, 10_000, &[Sight::Wiped, Sight::ServesWiped, Sight::SignedAfterwards]);
}

#[test]
fn a_store_put_back_from_long_ago_waits_for_an_operator() {
    let world = World { nodes: 1, snapshot: true, word: true, revoked: &[FAMILY], generations: 2, ..CALM };
    explore("put back", world, 10_000, &[Sight::Older, Sight::SignedAfterwards, Sight::RefreshedAfterwards]);
}

#[test]
fn two_faults_after_another_deceive_nobody() {
    let signs = &[Sight::SignedAfterwards];
    let stops = World { stop: true, wipe: true, fine: true, word: true, ..CALM };
    explore("stopped, wiped", stops, 10_000, &[Sight::Left, Sight::Wiped, Sight::SignedAfterwards]);
    explore("crash, wiped", World { crash: Some(true), wipe: true, word: true, ..CALM }, 10_000, signs);
    explore("crash, waived", World { failover: true, crash: Some(true), waive: true, ..CALM }, 10_000, signs);
    explore("late, waived", World { failover: true, nodes: 1, late: 1, waive: true, ..CALM }, 10_000, signs);
}

// ---- the rule without one of its protections

const FAILOVER: World = World { failover: true, ..CALM };
const COMPLETE: &str = "a feed signed as complete is";
const SPENT: &str = "nothing spent comes alive";

#[test]
fn model_refutes_a_rule_by_which_one_who_vouches_is_enough() {
    refute(World { guards: Guards { majority: false, ..ALL_GUARDS }, waive: true, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_a_rule_that_waits_for_no_lease() {
    refute(World { guards: Guards { wait: false, ..ALL_GUARDS }, waive: true, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_a_rule_that_serves_before_all_have_pushed() {
    refute(World { guards: Guards { pushes: false, ..ALL_GUARDS }, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_a_store_without_markers() {
    let guards = Guards { mark: false, ..ALL_GUARDS };
    refute(World { guards, wipe: true, ..CALM }, COMPLETE);
}

#[test]
fn model_refutes_acknowledging_without_a_lease() {
    refute(World { guards: Guards { lease: false, ..ALL_GUARDS }, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_acknowledging_under_another_lease_than_it_began_under() {
    refute(World { guards: Guards { term: false, ..ALL_GUARDS }, wipe: true, ..CALM }, COMPLETE);
}

#[test]
fn model_refutes_acknowledging_what_another_server_wrote() {
    refute(World { guards: Guards { way: false, ..ALL_GUARDS }, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_nodes_without_a_journal() {
    refute(World { guards: Guards { journal: false, ..ALL_GUARDS }, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_nodes_that_forget_which_heads_moved() {
    let guards = Guards { heads: false, ..ALL_GUARDS };
    refute(World { guards, generations: 2, ..FAILOVER }, SPENT);
}

#[test]
fn model_refutes_nodes_that_forget_each_other() {
    let guards = Guards { nodes: false, ..ALL_GUARDS };
    refute(World { guards, nodes: 1, late: 1, revoked: BOTH, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_a_node_that_serves_before_it_is_remembered() {
    let guards = Guards { known: false, ..ALL_GUARDS };
    refute(World { guards, nodes: 1, late: 1, revoked: BOTH, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_a_node_that_stops_without_handing_over() {
    let guards = Guards { handover: false, ..ALL_GUARDS };
    refute(World { guards, stop: true, wipe: true, fine: true, ..CALM }, COMPLETE);
}

#[test]
fn model_refutes_positions_without_digests() {
    let guards = Guards { digest: false, ..ALL_GUARDS };
    refute(World { guards, revoked: BOTH, ..FAILOVER }, COMPLETE);
}

#[test]
fn model_refutes_a_rule_that_takes_an_empty_store_for_a_new_one() {
    let guards = Guards { wiped: false, ..ALL_GUARDS };
    refute(World { guards, wipe: true, ..CALM }, COMPLETE);
}

#[test]
fn model_refutes_a_rule_that_takes_an_old_store_for_todays() {
    let guards = Guards { older: false, ..ALL_GUARDS };
    refute(World { guards, nodes: 1, snapshot: true, revoked: &[FAMILY], generations: 2, ..CALM }, SPENT);
}

//! The rule by which a store that many nodes share may be spoken for, explored exhaustively: nodes that go on talking to a
//! deposed master, masters that lost acknowledged writes, vouchers that learn of it one by one, nodes that crash or never
//! come back, a store that is emptied or put back, in every order that a bounded world allows, with the product's own
//! `reign::duty` and `Lease::covers` inside.
//!
//! A node takes one step of its duty at a time, on what it was told by those who vouch when its round began; a change, its
//! journal and its acknowledgement are three instants. Beside what happened, each state remembers what was promised.
//!
//! Each protection is switched off once: the exploration then finds how a promise is broken.

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
    reign::{Change, Doubt, Duty, Lease, Life, Me, Memory, NodeId, Reign, Row, Seal, Seen, Term, Wait, Why, declare, duty, leave, waive},
};
use stateright::{Checker, Model, Property};

const TICK: Duration = Duration::from_millis(8);
/// Two ticks.
const LEASE: Duration = Duration::from_millis(16);
/// Heads are remembered for so much time served, counted in ticks.
const HEADS: u64 = 1;

/// What can be revoked: the family, a token, and by a cut-off, everything.
const FAMILY: u8 = 1;
const TOKEN: u8 = 2;
const ALL: u8 = 4;

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
    /// How long the world lasts.
    ticks: u8,
    /// What is revoked.
    revoked: &'static [u8],
    /// How often the family is refreshed.
    generations: u8,
}

const CALM: World = World {
    seen: None,
    guards: ALL_GUARDS,
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
    ticks: 4,
    revoked: &[TOKEN],
    generations: 0,
};

/// What a server holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Data {
    life: Option<Life>,
    rows: Vec<(NodeId, Row)>,
    served: u64,
    /// When that was last raised.
    raised: u8,
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
    first_saw: Option<(Seal, u8)>,
    lease: Option<Lease>,
    round: Option<Round>,
    step: Option<Step>,
}

/// What it was told when it last asked who holds the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Round {
    asked: u8,
    way: u64,
    named: [u8; 3],
}

/// Something that has been done and is not acknowledged yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Step {
    what: What,
    began: Term,
    /// What had been acknowledged before it began.
    must: u8,
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
    now: u8,
    servers: [Server; 2],
    /// Which server each of those who vouch names.
    named: [u8; 3],
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
    Learn(usize),
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

fn at(tick: u8) -> Duration {
    Duration::from_secs(1) + TICK * u32::from(tick)
}

fn bits(log: &[u8]) -> u8 {
    let bits = log.iter().fold(0, |all, bit| all | bit);
    if bits & ALL == 0 { bits } else { u8::MAX }
}

fn majority(named: [u8; 3]) -> usize {
    usize::from(named.iter().filter(|n| **n == 1).count() >= 2)
}

impl World {
    fn see(&self, sight: Sight) {
        if let Some(seen) = &self.seen {
            seen.fetch_or(1 << sight as u32, Ordering::Relaxed);
        }
    }

    fn covers(&self, node: &Node, began: Term, now: u8) -> bool {
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
            lease.covers(began, way, at(now))
        })
    }

    /// Under what a step of this node begins now, if it may.
    fn begins(&self, s: &State, n: usize) -> Option<Term> {
        let node = &s.nodes[n];
        let lease = node.lease?;
        let term = Term { seal: lease.term.seal, way: node.way };
        (node.up && node.step.is_none() && self.covers(node, term, s.now)).then_some(term)
    }

    /// One thing that is done and not acknowledged yet.
    fn step(&self, s: &mut State, n: usize, wanted: Wanted) -> Option<()> {
        let began = self.begins(s, n)?;
        let must = s.truth.acknowledged;
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
                follow(node, data, self.guards.digest);
                What::Read(bits(&node.mirror))
            }
        };
        node.step = Some(Step { what, began, must });
        Some(())
    }

    fn acknowledge(&self, s: &mut State, n: usize) -> Option<()> {
        let node = &mut s.nodes[n];
        let Step { what, began, must } = node.step.take()?;
        let served = s.servers[node.link].data.served;
        match what {
            What::Revoked(bit) if self.guards.journal => node.journal |= bit,
            What::Refreshed(generation, _) if self.guards.heads => node.heads = Some((generation + 1, served)),
            _ => {}
        }
        if !self.covers(&s.nodes[n], began, s.now) {
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
                s.wrong.spent |= rotated && generation < s.truth.spent && !s.truth.lossy;
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

    /// The next thing that a node must do, done.
    fn duty(&self, s: &mut State, n: usize) -> Option<()> {
        let (now, guards) = (s.now, self.guards);
        let round = s.nodes[n].round?;
        let link = s.nodes[n].link;
        let server = &s.servers[link];
        let named = if guards.majority { majority(round.named) } else { link };
        let vouched = (named == link && round.way == s.nodes[n].way).then_some(Reign(server.run.into()));
        let data = server.data.clone();
        let mut rows = data.rows.clone();
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
        if !guards.nodes && let Some(memory) = &mut memory {
            memory.nodes = rows.iter().map(|(id, row)| (*id, row.name.clone())).collect();
        }
        if !guards.wiped && data.life.is_none() {
            memory = None;
        }
        if let Some(life) = &data.life
            && node.first_saw.is_none_or(|(seal, _)| seal != life.seal)
        {
            node.first_saw = Some((life.seal, now));
        }
        let first_saw = node.first_saw.map(|(seal, tick)| (seal, if guards.wait { at(tick) } else { Duration::ZERO }));
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
        let seen = Seen {
            life: data.life.as_ref(),
            rows: &rows,
            served: Served(data.served),
            now: Timestamp::default(),
        };
        match duty(&me, vouched, &seen, at(now)) {
            Duty::Wait(wait) => {
                self.waits(&wait);
                node.round = None;
            }
            Duty::Serve(standing) => {
                self.serve(s, n, round, standing);
                s.nodes[n].round = None;
            }
            Duty::Adopt(memory) => {
                if node.lease.is_some_and(|lease| lease.term.seal != memory.seal) {
                    node.lease = None;
                }
                node.memory = Some(memory);
            }
            Duty::Tell => {
                let knows = node.memory.as_ref()?.members;
                row_of(s, n)?.knows = knows;
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
        Some(())
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
            data.raised = s.now;
        }
        data.life = Some(change.life);
        data.rows.retain(|(id, _)| !change.gone.contains(id));
        data.rows.extend(change.rows);
        data.rows.sort_by_key(|(id, _)| *id);
        data.served = data.served.max(change.served.0);
    }

    fn serve(&self, s: &mut State, n: usize, round: Round, standing: Standing) {
        if standing == Standing::Wiped {
            self.see(Sight::ServesWiped);
        }
        let (snapshot, now) = (self.snapshot, s.now);
        let node = &mut s.nodes[n];
        let data = &mut s.servers[node.link].data;
        if snapshot {
            data.served += u64::from(now - data.raised).min(2);
            data.raised = now;
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
        node.lease = Some(Lease::granted(life, round.way, at(round.asked)));
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
        let server = majority(s.named);
        let data = &s.servers[server].data;
        let seen = seen(data);
        // Whoever is in the way: this node, or what it was before it lost its journal.
        let id = data.rows.iter().map(|(id, _)| *id).filter(|id| {
            *id == s.nodes[n].id || s.nodes.iter().all(|node| node.id != *id)
        });
        let behind = data.life.as_ref()?.seal;
        let id = id.filter(|id| data.rows.iter().any(|(other, row)| other == id && row.pushed != behind)).max()?;
        let change = waive(id, &seen, Duration::ZERO).ok()?;
        let here = bits(&data.log);
        let known = s.nodes.iter().find(|node| node.id == id).map(|node| node.journal);
        let buried = s.truth.buried.iter().find(|(other, _)| *other == id).map(|(_, journal)| *journal);
        let lost = known.unwrap_or(0) | buried.unwrap_or(0);
        s.truth.acknowledged &= !lost | here;
        s.truth.lossy = true;
        self.change(s, server, change);
        Some(())
    }

    fn word(&self, s: &mut State, ends: Ends) -> Option<()> {
        let server = majority(s.named);
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
        let change = leave(node.id, data.log.len() as u64, &seen(data));
        let change = match change {
            Some(change) => change,
            None if self.guards.handover => return None,
            None => {
                let life = data.life.clone()?;
                Change { why: Why::Left, life, rows: Vec::new(), gone: vec![node.id], served: Served(data.served) }
            }
        };
        // It speaks to the servers that hold the store; and what is under way is not acknowledged any more.
        if node.step.is_some() || node.link != majority(s.named) {
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
        let master = majority(s.named);
        s.named = [master as u8; 3];
        for _ in 0..24 {
            for n in 0..s.nodes.len() {
                if !s.nodes[n].up || !s.nodes[n].started {
                    continue;
                }
                if s.nodes[n].link != master {
                    (s.nodes[n].link, s.nodes[n].way) = (master, s.nodes[n].way + 1);
                }
                s.nodes[n].round = Some(Round { asked: s.now, way: s.nodes[n].way, named: s.named });
                for _ in 0..8 {
                    if s.nodes[n].round.is_some() {
                        world.duty(&mut s, n);
                    }
                }
            }
            let mut up = s.nodes.iter().filter(|node| node.up && node.started);
            if up.all(|node| node.lease.is_some_and(|lease| lease.covers(lease.term, node.way, at(s.now)))) {
                return true;
            }
            for n in 0..s.nodes.len() {
                world.waive(&mut s, n);
            }
            world.word(&mut s, Ends::Sessions);
            s.now += 1;
        }
        false
    }

    fn start() -> State {
        let server = |run| Server { run, data: Data::default() };
        State {
            now: 0,
            servers: [server(0), server(1)],
            named: [0; 3],
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

fn seen(data: &Data) -> Seen<'_> {
    Seen { life: data.life.as_ref(), rows: &data.rows, served: Served(data.served), now: Timestamp::default() }
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
            for n in 0..self.nodes {
                s.nodes[n].round = Some(Round { asked: s.now, way: 0, named: s.named });
                while s.nodes[n].round.is_some() {
                    world.duty(&mut s, n);
                }
            }
            s.now += 1;
        }
        s.now -= 1;
        let (now, served) = (s.now, s.servers[0].data.served);
        for server in &mut s.servers {
            (server.data.served, server.data.raised) = (0, 0);
        }
        assert!(served == 0 || self.snapshot);
        for node in &mut s.nodes {
            if let Some(memory) = &mut node.memory {
                memory.served = Served(0);
            }
            if let Some(lease) = &mut node.lease {
                lease.until -= at(now) - at(0);
            }
            node.first_saw = node.first_saw.map(|(seal, _)| (seal, 0));
        }
        s.now = 0;
        s.servers[1].data = s.servers[0].data.clone();
        vec![s]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.wrong != Wrong::default() {
            // One counterexample is enough.
            return;
        }
        if s.now < self.ticks {
            actions.push(Action::Tick);
        }
        let promoted = s.named.contains(&1);
        for (n, node) in s.nodes.iter().enumerate().filter(|(_, node)| node.up) {
            if !node.started {
                actions.push(Action::Start(n));
                continue;
            }
            actions.push(Action::Ask(n));
            if node.round.is_some() {
                actions.push(Action::Duty(n));
            }
            if promoted {
                actions.push(Action::Turn(n));
            }
            if node.step.is_some() {
                actions.push(Action::Acknowledge(n));
            } else if self.begins(s, n).is_some() {
                let fresh = self.revoked.iter().filter(|bit| s.truth.acknowledged & **bit == 0);
                actions.extend(fresh.map(|bit| Action::Revoke(n, *bit)));
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
            actions.extend((0..3).filter(|i| s.named[*i] == 0).take(1).map(Action::Learn));
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
            Action::Tick => s.now += 1,
            Action::Ask(n) => {
                let (asked, named) = (s.now, s.named);
                let node = &mut s.nodes[n];
                node.round = Some(Round { asked, way: node.way, named });
            }
            Action::Duty(n) => self.duty(s, n)?,
            Action::Turn(n) => {
                let node = &mut s.nodes[n];
                if node.way > 1 {
                    return None;
                }
                (node.link, node.way) = (1 - node.link, node.way + 1);
            }
            Action::Revoke(n, bit) => self.step(s, n, Wanted::Revoke(bit))?,
            Action::Refresh(n, generation) => self.step(s, n, Wanted::Refresh(generation))?,
            Action::Read(n) => self.step(s, n, Wanted::Read)?,
            Action::Acknowledge(n) => self.acknowledge(s, n)?,
            Action::Replicate => s.servers[1].data = s.servers[0].data.clone(),
            Action::Learn(i) => s.named[i] = 1,
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
                s.nodes.iter_mut().for_each(|node| node.way += 1);
            }
            Action::Word(ends) => self.word(s, ends)?,
        }
        if !s.nodes.iter().any(|node| node.lease.is_some()) {
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
    let world = World { seen: Some(seen.clone()), ..world };
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!("{name}: {} unique states, {} deep", checker.unique_state_count(), checker.max_depth());
    for (property, path) in checker.discoveries() {
        println!("{property}: {:#?} {:?}", path.last_state().clone(), path.into_actions());
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
    let checker = world.checker().threads(2).finish_when(stateright::HasDiscoveries::AnyOf(broken)).spawn_bfs().join();
    let path = checker.discovery(promise).unwrap_or_else(|| panic!("`{promise}` holds even without that protection"));
    println!("{promise}: {} states, refuted by {:?}", checker.unique_state_count(), path.into_actions());
}

// ---- the worlds

#[test]
fn a_failover_loses_no_acknowledged_revocation() {
    let world = World { failover: true, ticks: 4, ..CALM };
    explore("failover", world, 10_000, &[Sight::AcknowledgedAfterwards, Sight::SignedAfterwards, Sight::HeldBack]);
}

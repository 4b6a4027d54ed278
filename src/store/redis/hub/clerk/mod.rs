//! This node's clerk: takes what has queued up for the hub, carries it out in one commit, and only then answers. Other
//! nodes have clerks too; whoever's commit comes second looks again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use redis::Value;
use tokio::sync::mpsc::Receiver;

pub(super) use self::keeping::Sweep;
pub(in crate::store::redis) use self::taking::drained_numbers;
use self::{
    answers::{Entries, done, refuse, reply, set_aside},
    taking::{Drained, Handed, Taken, by_bucket, drained_to, field, take},
};
use super::{
    Ask, Head, Order, Owed,
    log::{be, pairs},
    pen::{Pen, Written, list, place_of},
};
use crate::{
    clock::random_bytes,
    model::{Timestamp, feed::Digest},
    store::{
        StoreError,
        embedded::{MOMENT, NOTHING, Row, Salts, decode},
        redis::{
            Core,
            commit::{Commit, Look, Outcome, UNREADABLE, bytes, maybe},
            layout::Bucket,
            life::Began,
            mirror::Abreast,
        },
    },
};

mod answers;
mod keeping;
mod taking;

/// How much one commit carries at most.
const BATCH: usize = 256;
/// How long what nobody waits for may wait for company: it stands in its bucket already.
const LINGERS: Duration = Duration::from_millis(20);
/// How often the hub is looked after besides: what has been done is said to the buckets, what has expired is let go of.
const PAYS_EVERY: Duration = Duration::from_millis(500);
/// How often a batch is tried before whoever waits is told to come again.
const TRIES: u32 = 200;
/// For how long a clerk that was late may keep the others waiting.
const TURN: u64 = 50;

/// This node's clerk.
pub(in crate::store::redis) struct Clerk {
    core: Weak<Core>,
    asked: Receiver<Ask>,
    salts: Salts,
    /// What other clerks know this one by.
    name: [u8; 8],
    /// The head that we wrote last, while nobody else has written one.
    known: Option<(Vec<u8>, Head)>,
    /// The audit log as we saw or left it last.
    vouched: Option<crate::model::chain::Head>,
    /// What the buckets have not been told yet.
    paid: BTreeMap<Bucket, u64>,
    paying: Option<tokio::task::JoinHandle<()>>,
    rounds: u64,
    /// Entries that leave before their time, and when.
    superseded: Vec<(u64, Timestamp)>,
    /// How far the entries that are kept for long have been looked through.
    kept_from: u64,
    sweeps: u64,
    /// When the mirror was last rid of what has expired.
    tidied: Option<tokio::time::Instant>,
}

/// What a commit is decided by.
struct Sight {
    /// The head as it is written.
    seen: Vec<u8>,
    head: Head,
    book: Option<Vec<u8>>,
    drained: HashMap<Bucket, Drained>,
    /// The time of the hub's server; if it was looked at.
    now: Timestamp,
    /// What is wrong with the audit log.
    fault: Option<&'static str>,
}

impl Sight {
    /// What must be so if nobody else has written: the commit does nothing unless it is.
    fn supposed(began: &Began, seen: &[u8], head: &Head, handed: &Handed) -> Self {
        let first = |debts: &BTreeMap<u64, Owed>| debts.keys().next().copied().unwrap_or(1);
        let drained = handed.iter().map(|(bucket, debts)| (*bucket, Drained::before(began, first(debts)))).collect();
        Self { seen: seen.to_vec(), head: head.clone(), book: None, drained, now: Timestamp::default(), fault: None }
    }
}

/// How one try went.
enum Tried {
    Done,
    Moved,
}

impl Clerk {
    pub(in crate::store::redis) fn new(core: &Arc<Core>, asked: Receiver<Ask>) -> Self {
        let (salts, name) = (Salts::new(&*core.random), random_bytes(&*core.random));
        Self {
            core: Arc::downgrade(core),
            asked,
            salts,
            name,
            known: None,
            vouched: None,
            paid: BTreeMap::new(),
            paying: None,
            rounds: 0,
            superseded: Vec::new(),
            kept_from: 0,
            sweeps: 0,
            tidied: None,
        }
    }

    /// Runs until nobody can ask any more.
    pub(in crate::store::redis) async fn run(mut self) {
        let mut pays = tokio::time::interval(PAYS_EVERY);
        loop {
            // Neither is preferred: under load there is always something to be done, and the house is kept all the same.
            let first = tokio::select! {
                ask = self.asked.recv() => match ask {
                    Some(ask) => Some(ask),
                    None => return,
                },
                _ = pays.tick() => None,
            };
            let Some(core) = self.core.upgrade() else { return };
            match first {
                Some(first) => {
                    let asks = self.gather(first).await;
                    self.work(&core, asks).await;
                }
                None => self.keep_house(&core).await,
            }
            self.tidy(&core).await;
        }
    }

    /// Whatever has queued up; and while nobody waits for any of it, what comes in a moment besides: each commit is signed,
    /// and takes a trip.
    async fn gather(&mut self, first: Ask) -> Vec<Ask> {
        let until = tokio::time::Instant::now() + LINGERS;
        let (mut weight, mut awaited) = (first.order.weight(), first.answer.is_some());
        let mut asks = vec![first];
        while weight < BATCH {
            let next = match self.asked.try_recv() {
                Ok(ask) => Some(ask),
                Err(_) if awaited => None,
                Err(_) => tokio::time::timeout_at(until, self.asked.recv()).await.ok().flatten(),
            };
            let Some(ask) = next else { break };
            weight += ask.order.weight();
            awaited |= ask.answer.is_some();
            asks.push(ask);
        }
        asks
    }

    async fn work(&mut self, core: &Core, mut asks: Vec<Ask>) {
        if asks.iter().any(|ask| matches!(ask.order, Order::Flush)) {
            let left = core.hub.left.take(BATCH).into_iter();
            asks.extend(left.map(|bucket| Ask { order: Order::Settle { bucket, debts: Vec::new() }, answer: None }));
        }
        for tried in 0..TRIES {
            match self.attempt(core, &mut asks, tried > 0).await {
                Ok(Tried::Done) if asks.is_empty() => return,
                Ok(Tried::Done) => {}
                Ok(Tried::Moved) => self.known = None,
                Err(error) => {
                    self.known = None;
                    return refuse(core, asks, &error);
                }
            }
        }
        refuse(core, asks, &StoreError::Busy);
    }

    /// One look, if need be, and one commit. What is done is taken out of `asks` and answered.
    async fn attempt(&mut self, core: &Core, asks: &mut Vec<Ask>, late: bool) -> Result<Tried, StoreError> {
        let (began, handed) = (core.begin_repair()?, by_bucket(asks));
        if late {
            self.ask_for_a_turn(core).await?;
        }
        let sight = match &self.known {
            Some((seen, head)) if !needs_a_look(asks) && self.has_vouched(core) => {
                Sight::supposed(&began, seen, head, &handed)
            }
            _ => self.look(core, &began, &handed).await?,
        };
        let before_this = sight.head.position;
        let taken = take_all(core, &began, asks, handed, &sight.drained).await?;
        let guards = self.guards(core, &began, &sight.seen, &taken);
        let mut pen = Pen::new(core, &mut self.salts, sight.head, sight.book, guards).at(sight.now);
        if let Some(why) = sight.fault {
            pen.tell_broken(why, &cursors(core).await?);
        }
        let entries = take_over(&mut pen, &began, &taken)?;
        let mut answers = Vec::new();
        for ask in asks.iter() {
            let hub_alone = !matches!(ask.order, Order::Settle { .. });
            answers.push(hub_alone.then(|| pen.carry_out(&ask.order)).transpose()?);
        }
        drop_surplus(core, &mut pen).await?;
        if pen.is_dirty() {
            let (commit, written) = pen.finish();
            let commit = if late { commit.del(core.layout.hub("turn")) } else { commit };
            match commit.make(&core.link.urgent()).await? {
                Outcome::Done(_) => self.written(core, written).await?,
                Outcome::Moved => return Ok(Tried::Moved),
                Outcome::NotTheSame => return Err(StoreError::NotWhole),
            }
        }
        // Step done: it is in the hub, and in this node's journal. Whoever waits may be told.
        for (bucket, Taken { upto, .. }) in taken.iter().filter(|(_, taken)| taken.upto > 0) {
            self.paid.insert(*bucket, *upto);
        }
        reply(core, done(core, asks, answers, &taken, &entries), before_this).await;
        Ok(Tried::Done)
    }

    async fn written(&mut self, core: &Core, written: Written) -> Result<(), StoreError> {
        let Written { head, bytes, placed, superseded } = written;
        let due = core.clock.now().plus(MOMENT);
        self.superseded.extend(superseded.into_iter().map(|position| (position, due)));
        self.vouched = core.hub.notary().map(|_| head.chain);
        let epoch = head.epoch;
        self.known = Some((bytes, head));
        if placed.is_empty() { Ok(()) } else { core.take_in(epoch, placed).await }
    }

    /// Whoever comes too late again and again says so, and the others wait for a moment.
    async fn ask_for_a_turn(&self, core: &Core) -> Result<(), StoreError> {
        let [random]: [u8; 1] = random_bytes(&*core.random);
        tokio::time::sleep(Duration::from_micros(u64::from(random) * 8)).await;
        let claim = Commit::new(core.clock.now()).claim(core.layout.hub("turn"), &self.name, TURN);
        claim.make(&core.link.urgent()).await.map(drop)
    }

    /// What all of it is decided by: the head, with the mirror abreast of it, and how far the buckets have been drained.
    async fn look(&mut self, core: &Core, began: &Began, handed: &Handed) -> Result<Sight, StoreError> {
        let layout = &core.layout;
        let more = |look: Look| {
            let look = look.get(layout.hub("statement")).get(layout.hub("book"));
            handed.keys().fold(look, |look, bucket| look.hget(layout.hub("drained"), &field(*bucket)))
        };
        let Abreast { seen, head, now, rest, .. } = core.come_abreast_with(more).await?;
        let mut rest = rest.iter();
        let (Some(statement), Some(book)) = (rest.next(), rest.next()) else { return Err(UNREADABLE) };
        let (statement, book) = (maybe(statement)?, maybe(book)?.map(<[u8]>::to_vec));
        let mut drained = HashMap::new();
        for (bucket, value) in handed.keys().zip(rest) {
            drained.insert(*bucket, Drained::read(began, maybe(value)?)?);
        }
        let fault = core.fault(self.vouched, &head.chain, statement).await?;
        if fault.is_none() && core.hub.notary().is_some() {
            self.vouched = Some(head.chain);
        }
        Ok(Sight { seen, head, book, drained, now, fault })
    }

    fn guards(&self, core: &Core, began: &Began, seen: &[u8], taken: &BTreeMap<Bucket, Taken>) -> Commit {
        let layout = &core.layout;
        let commit = Commit::new(core.clock.now())
            .life(layout.hub("meta"), began.mark())
            .value_is(layout.hub("head"), Some(seen))
            .turn(layout.hub("turn"), &self.name);
        taken.iter().filter(|(_, taken)| !taken.debts.is_empty()).fold(commit, |commit, (bucket, taken)| {
            commit.field_is(layout.hub("drained"), &field(*bucket), taken.was.as_deref())
        })
    }

    /// Whether the log is known to be the one that was signed, if there is anybody to say so.
    fn has_vouched(&self, core: &Core) -> bool {
        self.vouched.is_some() || core.hub.notary().is_none()
    }
}

/// Whether what was written last does not tell enough.
fn needs_a_look(asks: &[Ask]) -> bool {
    asks.iter().any(|ask| match &ask.order {
        Order::Settle { debts, .. } => debts.is_empty(),
        Order::Book(_) => true,
        // A cut-off goes by the hub's time.
        Order::Deny(_) => true,
        _ => false,
    })
}

/// What is taken over from each bucket.
async fn take_all(
    core: &Core,
    began: &Began,
    asks: &mut Vec<Ask>,
    handed: Handed,
    drained: &HashMap<Bucket, Drained>,
) -> Result<BTreeMap<Bucket, Taken>, StoreError> {
    let mut all = BTreeMap::new();
    for (bucket, debts) in handed {
        match take(core, began, bucket, debts, drained.get(&bucket)).await {
            // What cannot be read there is no reason to leave everybody else's undone.
            Err(error @ StoreError::Damaged(_)) => set_aside(core, asks, bucket, &error),
            found => drop(all.insert(bucket, found?)),
        }
    }
    Ok(all)
}

/// Writes what buckets owe. Gives the entries, by bucket and number.
fn take_over(pen: &mut Pen<'_>, began: &Began, taken: &BTreeMap<Bucket, Taken>) -> Result<Entries, StoreError> {
    let mut entries = Entries::new();
    for (bucket, number, owed) in in_order(taken) {
        entries.extend(pen.take_over(owed.clone())?.map(|entry| ((bucket, number), entry)));
    }
    for (bucket, Taken { upto, .. }) in taken.iter().filter(|(_, taken)| !taken.debts.is_empty()) {
        pen.drained(&field(*bucket), &drained_to(began, *upto));
    }
    Ok(entries)
}

/// What is owed in the order in which it happened: what came later must not stand before it in the audit log, which is read
/// by time. Of one bucket it stays in the order of its numbers, whatever the clock did meanwhile.
fn in_order(taken: &BTreeMap<Bucket, Taken>) -> Vec<(Bucket, u64, &Owed)> {
    let mut all = Vec::new();
    for (bucket, Taken { debts, .. }) in taken {
        let mut latest = Timestamp::default();
        for (number, owed) in debts {
            latest = latest.max(owed.at());
            all.push((latest, (*bucket, *number, owed)));
        }
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, owed)| owed).collect()
}

/// Lets go of the oldest records where there are too many.
async fn drop_surplus(core: &Core, pen: &mut Pen<'_>) -> Result<(), StoreError> {
    let Some((end, why)) = pen.surplus() else { return Ok(()) };
    let anchor = match pen.before(end) {
        Some(digest) => digest,
        None => before(core, end).await?,
    };
    pen.drop_to(end, anchor, &why);
    Ok(())
}

/// The digest of what lies before a record. If somebody has taken it out, nobody can say.
async fn before(core: &Core, sequence: u64) -> Result<Digest, StoreError> {
    let (number, place) = place_of(sequence);
    let place = i64::try_from(place).unwrap_or(i64::MAX);
    let seen = Look::default().range(list(core, number), place, place).ask(&core.link).await?;
    let Some(Value::Array(rows)) = seen.parts.first() else { return Err(UNREADABLE) };
    let Some(row) = rows.first().and_then(|row| decode::<Row>(bytes(row).ok()?, "audit").ok()) else {
        return Ok(NOTHING);
    };
    Ok(Digest(row.record.link.previous))
}

/// How far everybody has read the audit log.
async fn cursors(core: &Core) -> Result<Vec<(Vec<u8>, u64)>, StoreError> {
    let seen = Look::default().hall(core.layout.hub("cursors")).ask(&core.link).await?;
    let pairs = seen.parts.first().map_or(Ok(Vec::new()), pairs)?;
    pairs.into_iter().map(|(name, at)| Ok((name, be(&at)?))).collect()
}

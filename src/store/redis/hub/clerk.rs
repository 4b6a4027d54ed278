//! This node's clerk: takes what has queued up for the hub, carries it out in one commit, and only then answers. Other
//! nodes have clerks too; whoever's commit comes second looks again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use redis::Value;
use tokio::sync::mpsc::Receiver;

use super::{
    Answer, Ask, Debt, Head, Order, Owed,
    log::{be, entries, pairs},
    orders::Sweep,
    pen::{Pen, Written, list, place_of},
};
use crate::{
    clock::random_bytes,
    model::{Timestamp, denial::Entry, feed::Digest},
    store::{
        StoreError,
        embedded::{self, MOMENT, NOTHING, Row, Salts, decode},
        redis::{
            Core,
            commit::{Commit, Look, Outcome, UNREADABLE, bytes, maybe},
            layout::Bucket,
            life::Began,
            mirror::Abreast,
        },
    },
};

/// How much one commit carries at most.
const BATCH: usize = 256;
/// What a bucket's list gives at once.
const TAKES: u64 = 512;
/// How often a batch is tried before whoever waits is told to come again.
const TRIES: u32 = 200;
/// For how long a clerk that was late may keep the others waiting.
const TURN: u64 = 50;
/// How often the hub is looked after besides: what has been done is said to the buckets, what has expired is let go of.
const PAYS_EVERY: Duration = Duration::from_millis(500);
/// How often the mirror is rid of what has expired.
const TIDIES_EVERY: Duration = Duration::from_millis(100);
/// How much is looked at each time.
const SWEEPS: usize = 256;
/// How often letting go is tried each time.
const SWEEPS_TRY: u32 = 8;
/// Of how many times one looks at everything.
const RARELY: u64 = 60;
/// Buckets that are told at once.
const PAYS: usize = 64;

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
    /// Entries that leave before their time, and when.
    superseded: Vec<(u64, Timestamp)>,
    /// How far the entries that are kept for long have been looked through.
    kept_from: u64,
    sweeps: u64,
    /// When the mirror was last rid of what has expired.
    tidied: Option<Duration>,
}

/// An answer, and where it goes.
type Done = (tokio::sync::oneshot::Sender<Result<Answer, StoreError>>, Result<Answer, StoreError>);

/// What was handed over, in the order of its numbers.
type Handed = BTreeMap<Bucket, BTreeMap<u64, Owed>>;

/// What a commit is decided by.
struct Sight {
    /// The head as it is written.
    seen: Vec<u8>,
    head: Head,
    book: Option<Vec<u8>>,
    drained: HashMap<Bucket, Drained>,
    /// What is wrong with the audit log.
    fault: Option<&'static str>,
}

impl Sight {
    /// What must be so if nobody else has written: the commit does nothing unless it is.
    fn supposed(began: &Began, seen: &[u8], head: &Head, handed: &Handed) -> Self {
        let first = |debts: &BTreeMap<u64, Owed>| debts.keys().next().copied().unwrap_or(1);
        let drained = handed.iter().map(|(bucket, debts)| (*bucket, Drained::before(began, first(debts)))).collect();
        Self { seen: seen.to_vec(), head: head.clone(), book: None, drained, fault: None }
    }
}

/// What a bucket is known to have been drained to, by the hub, and how that is written.
enum Drained {
    /// Up to this number.
    To(u64, Vec<u8>),
    /// Nobody knows: never, or by the count of an earlier life.
    Unknown(Option<Vec<u8>>),
}

impl Drained {
    fn before(began: &Began, first: u64) -> Self {
        match first - 1 {
            0 => Self::Unknown(None),
            upto => Self::To(upto, drained_to(began, upto)),
        }
    }

    fn read(began: &Began, value: Option<&[u8]>) -> Result<Self, StoreError> {
        let Some(value) = value else { return Ok(Self::Unknown(None)) };
        let (upto, life) = value.split_first_chunk().ok_or(StoreError::Damaged("drained"))?;
        let counts = life == began.mark();
        Ok(if counts {
            Self::To(u64::from_be_bytes(*upto), value.to_vec())
        } else {
            Self::Unknown(Some(value.to_vec()))
        })
    }
}

/// What is taken over from a bucket.
struct Taken {
    debts: Vec<Debt>,
    /// Of its field in the hub, as it was.
    was: Option<Vec<u8>>,
    upto: u64,
    /// Whether the bucket has more.
    rest: bool,
}

/// What is to be let go of, by a head.
struct SweepDue {
    seen: Vec<u8>,
    head: Head,
    sweep: Sweep,
    /// The first audit record that is not too old, and why.
    records: Option<(u64, String)>,
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
            let first = tokio::select! {
                biased;
                ask = self.asked.recv() => match ask {
                    Some(ask) => Some(ask),
                    None => return,
                },
                _ = pays.tick() => None,
            };
            let Some(core) = self.core.upgrade() else { return };
            match first {
                Some(first) => {
                    let mut weight = first.order.weight();
                    let mut asks = vec![first];
                    while weight < BATCH
                        && let Ok(ask) = self.asked.try_recv()
                    {
                        weight += ask.order.weight();
                        asks.push(ask);
                    }
                    self.work(&core, asks).await;
                }
                None => self.keep_house(&core).await,
            }
            self.tidy(&core).await;
        }
    }

    /// What nobody asks for and must be done all the same. What fails is done the next time.
    async fn keep_house(&mut self, core: &Arc<Core>) {
        self.pay(core);
        for done in
            [self.vouch(core).await, self.push_again(core).await, self.make_up(core).await, self.sweep(core).await]
        {
            if let Err(error) = done {
                tracing::debug!(%error, "the hub is looked after later");
            }
        }
    }

    /// Whoever has just been employed is asked about the log as it is.
    async fn vouch(&mut self, core: &Core) -> Result<(), StoreError> {
        if !self.has_vouched(core) {
            self.attempt(core, &mut Vec::new(), false).await?;
        }
        Ok(())
    }

    async fn push_again(&mut self, core: &Core) -> Result<(), StoreError> {
        let entries = core.mirror.unplaced(BATCH)?;
        if !entries.is_empty() {
            self.work(core, vec![Ask { order: Order::Again(entries), answer: None }]).await;
        }
        Ok(())
    }

    /// A clock that ran ahead has let entries expire, and was set back: what they denied may live again. All tokens of that
    /// time are ended; their clients fetch new ones.
    async fn make_up(&mut self, core: &Core) -> Result<(), StoreError> {
        let (now, forgotten) = (core.clock.now(), core.mirror.forgotten_by()?);
        let Some(denial) = embedded::set_back(now, forgotten) else { return Ok(()) };
        let (answer, mut answered) = tokio::sync::oneshot::channel();
        self.work(core, vec![Ask { order: Order::Deny(denial), answer: Some(answer) }]).await;
        match answered.try_recv() {
            Ok(Ok(_)) => core.mirror.made_up_for(now).await,
            _ => Ok(()),
        }
    }

    /// Rids the mirror of what has expired, now and then.
    async fn tidy(&mut self, core: &Core) {
        let now = core.clock.monotonic();
        if self.tidied.is_some_and(|then| now.saturating_sub(then) < TIDIES_EVERY) {
            return;
        }
        self.tidied = Some(now);
        if let Err(error) = core.mirror.tidy().await {
            tracing::warn!(%error, "what has expired stays in the journal for a while");
        }
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
        let (mut taken, before_this) = (BTreeMap::new(), sight.head.position);
        for (bucket, debts) in handed {
            taken.insert(bucket, take(core, &began, bucket, debts, sight.drained.get(&bucket)).await?);
        }
        let guards = self.guards(core, &began, &sight.seen, &taken);
        let mut pen = Pen::new(core, &mut self.salts, sight.head, sight.book, guards);
        if let Some(why) = sight.fault {
            pen.tell_broken(why, &cursors(core).await?);
        }
        let mut entries = HashMap::new();
        for (bucket, Taken { debts, upto, .. }) in &taken {
            for (number, owed) in debts {
                if let Some(entry) = pen.take_over(owed.clone())? {
                    entries.insert((*bucket, *number), entry);
                }
            }
            if !debts.is_empty() {
                pen.drained(&field(*bucket), &drained_to(&began, *upto));
            }
        }
        let mut answers = Vec::new();
        for ask in asks.iter() {
            answers.push(match &ask.order {
                Order::Settle { .. } => None,
                order => Some(pen.carry_out(order)?),
            });
        }
        if let Some((end, why)) = pen.surplus() {
            let anchor = match pen.before(end) {
                Some(digest) => digest,
                None => before(core, end).await?,
            };
            pen.drop_to(end, anchor, &why);
        }
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
        let mut done = done(core, asks, answers, &taken, &entries);
        // What stood there before has its reason elsewhere.
        let answers = done.iter_mut().filter_map(|(_, answer)| answer.as_mut().ok());
        let standing =
            answers.filter_map(|answer| if let Answer::Entries(entries) = answer { Some(entries) } else { None });
        core.recall_reasons(standing.flatten().filter(|entry| entry.position <= before_this).collect()).await?;
        for (answer, done) in done {
            // Whoever asked may be gone; the change stands all the same.
            let _ = answer.send(done);
        }
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
        let Abreast { seen, head, rest } = core.come_abreast_with(more).await?;
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
        Ok(Sight { seen, head, book, drained, fault })
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

    /// Lets go of what is of no more use, a bit at a time.
    async fn sweep(&mut self, core: &Core) -> Result<(), StoreError> {
        self.sweeps += 1;
        for tried in 0..SWEEPS_TRY {
            let began = core.begin()?;
            if tried > 0 {
                self.ask_for_a_turn(core).await?;
            }
            let Some(due) = self.due(core).await? else { return Ok(()) };
            let commit = self.guards(core, &began, &due.seen, &BTreeMap::new());
            let mut pen = Pen::new(core, &mut self.salts, due.head, None, commit);
            if let Some((end, why)) = &due.records {
                pen.drop_to(*end, before(core, *end).await?, why);
            }
            pen.sweep(&due.sweep);
            let (commit, written) = pen.finish();
            let commit = if tried > 0 { commit.del(core.layout.hub("turn")) } else { commit };
            match commit.make(&core.link).await? {
                Outcome::Done(_) => {
                    self.superseded.retain(|(position, _)| !due.sweep.superseded.contains(position));
                    return self.written(core, written).await;
                }
                Outcome::Moved => self.known = None,
                Outcome::NotTheSame => return Err(StoreError::NotWhole),
            }
        }
        Ok(())
    }

    /// What is of no more use. Rarely looked at: what there is little of.
    async fn due(&mut self, core: &Core) -> Result<Option<SweepDue>, StoreError> {
        let (layout, rarely) = (&core.layout, self.sweeps % RARELY == 1);
        let kept_from = self.kept_from;
        let more = |look: Look| {
            let look = look.since(layout.hub("log"), 0, SWEEPS).since(layout.hub("kept"), kept_from, SWEEPS);
            if rarely { look.hall(layout.hub("denied")).hall(layout.hub("seals")) } else { look }
        };
        let Abreast { seen, head, rest } = core.come_abreast_with(more).await?;
        let [log, kept, rest @ ..] = &rest[..] else { return Err(UNREADABLE) };
        let (log, kept) = (entries(log)?, entries(kept)?);
        self.kept_from = kept.last().filter(|_| kept.len() == SWEEPS).map_or(0, |placed| placed.entry.position);
        let (now, expired_by) = (core.clock.now(), core.node.expired_by(&*core.clock));
        let mut sweep = Sweep::of(expired_by, &log, &kept);
        sweep.superseded =
            self.superseded.iter().filter(|(_, due)| *due <= now).map(|(position, _)| *position).collect();
        if let [denied, seals] = rest {
            sweep.denied_of(expired_by, pairs(denied)?)?;
            for (page, _) in pairs(seals)? {
                let page = be(&page)?;
                sweep.seals.extend((!core.mirror.has_seal(page)?).then_some(page));
            }
        }
        let records = if rarely { core.too_old(&head.chain).await? } else { None };
        let nothing = sweep == Sweep::default() && records.is_none();
        Ok((!nothing).then_some(SweepDue { seen, head, sweep, records }))
    }

    /// Whether the log is known to be the one that was signed, if there is anybody to say so.
    fn has_vouched(&self, core: &Core) -> bool {
        self.vouched.is_some() || core.hub.notary().is_none()
    }

    /// Tells the buckets what has been taken over, so that they need not keep it.
    fn pay(&mut self, core: &Arc<Core>) {
        if self.paid.is_empty() || self.paying.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (paid, core) = (std::mem::take(&mut self.paid), core.clone());
        self.paying = Some(tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for (bucket, upto) in paid {
                if tasks.len() >= PAYS {
                    tasks.join_next().await;
                }
                let core = core.clone();
                // What is not said now is said by whoever finds it owed and done.
                tasks.spawn(async move { pay(&core, &core.begin_repair()?, bucket, upto).await.map(drop) });
            }
            tasks.join_all().await;
        }));
    }
}

/// How the hub writes how far a bucket has been drained: a count is good for one life of the bucket.
fn drained_to(began: &Began, upto: u64) -> Vec<u8> {
    [&upto.to_be_bytes(), began.mark()].concat()
}

fn field(bucket: Bucket) -> [u8; 2] {
    bucket.0.to_be_bytes()
}

fn by_bucket(asks: &[Ask]) -> Handed {
    let mut handed = Handed::new();
    for ask in asks {
        if let Order::Settle { bucket, debts } = &ask.order {
            handed.entry(*bucket).or_default().extend(debts.iter().cloned());
        }
    }
    handed
}

/// Whether what was written last does not tell enough.
fn needs_a_look(asks: &[Ask]) -> bool {
    asks.iter().any(|ask| match &ask.order {
        Order::Settle { debts, .. } => debts.is_empty(),
        Order::Book(_) => true,
        _ => false,
    })
}

/// What is to be taken over from a bucket: what was handed over if that is what comes next, else what the bucket says.
async fn take(
    core: &Core,
    began: &Began,
    bucket: Bucket,
    mut debts: BTreeMap<u64, Owed>,
    drained: Option<&Drained>,
) -> Result<Taken, StoreError> {
    let (from, was) = match drained {
        Some(Drained::To(upto, was)) => (*upto, Some(was.clone())),
        Some(Drained::Unknown(was)) => (0, was.clone()),
        None => return Err(UNREADABLE),
    };
    let last = debts.keys().next_back().copied();
    debts.retain(|number, _| *number > from);
    if last.is_some() && debts.is_empty() {
        return Ok(Taken { debts: Vec::new(), was, upto: from, rest: false });
    }
    let joins = debts.keys().zip(from + 1..).all(|(number, next)| *number == next);
    let is_new = matches!(drained, Some(Drained::Unknown(Some(_))));
    if last.is_some() && joins && !is_new {
        let upto = last.unwrap_or(from);
        return Ok(Taken { debts: debts.into_iter().collect(), was, upto, rest: false });
    }
    let mut owed = owed(core, bucket).await?;
    if from > 0 && owed.first().is_some_and(|(number, _)| *number <= from) {
        // Done long ago, and nobody has said so.
        pay(core, began, bucket, from).await?;
        owed = self::owed(core, bucket).await?;
    }
    let rest = owed.len() as u64 == TAKES;
    owed.retain(|(number, _)| *number > from);
    // What was handed over and is not there any more has been done.
    let upto = owed.last().map_or(last.unwrap_or(from), |(number, _)| *number);
    Ok(Taken { debts: owed, was, upto, rest })
}

/// What stands in a bucket as owed, the oldest first.
async fn owed(core: &Core, bucket: Bucket) -> Result<Vec<Debt>, StoreError> {
    let last = i64::try_from(TAKES).unwrap_or(i64::MAX) - 1;
    let seen = Look::default().range(core.layout.owed(bucket), 0, last).ask(&core.link).await?;
    let Some(Value::Array(items)) = seen.parts.first() else { return Err(UNREADABLE) };
    items.iter().map(debt).collect()
}

fn debt(item: &Value) -> Result<Debt, StoreError> {
    let (number, owed) = bytes(item)?.split_first_chunk().ok_or(StoreError::Damaged("owed"))?;
    Ok((u64::from_be_bytes(*number), decode(owed, "owed")?))
}

async fn pay(core: &Core, began: &Began, bucket: Bucket, upto: u64) -> Result<Outcome, StoreError> {
    let commit = Commit::new(core.clock.now()).life(core.layout.meta(bucket), began.mark());
    commit.paid(core.layout.owed(bucket), upto).make(&core.link).await
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

/// What those are to be answered whose order is done; the others are left.
fn done(
    core: &Core,
    asks: &mut Vec<Ask>,
    answers: Vec<Option<Answer>>,
    taken: &BTreeMap<Bucket, Taken>,
    entries: &HashMap<(Bucket, u64), Entry>,
) -> Vec<Done> {
    let mut all = Vec::new();
    for (ask, done) in std::mem::take(asks).into_iter().zip(answers) {
        let done = match (&ask.order, done) {
            (_, Some(done)) => Ok(done),
            (Order::Settle { bucket, debts }, None) => {
                let last = debts.last().map(|(number, _)| *number);
                let waits = taken.get(bucket).is_some_and(|taken| last.map_or(taken.rest, |last| taken.upto < last));
                if waits {
                    asks.push(ask);
                    continue;
                }
                settled(core, *bucket, debts, entries)
            }
            (_, None) => Ok(Answer::Done),
        };
        all.extend(ask.answer.map(|answer| (answer, done)));
    }
    all
}

/// The entries that deny what was to be denied.
fn settled(
    core: &Core,
    bucket: Bucket,
    debts: &[Debt],
    entries: &HashMap<(Bucket, u64), Entry>,
) -> Result<Answer, StoreError> {
    let mut settled = Vec::new();
    for (number, owed) in debts {
        let Owed::Deny(new) = owed else { continue };
        let entry = match entries.get(&(bucket, *number)) {
            Some(entry) => Some(entry.clone()),
            // Somebody else has taken it over.
            None => core.mirror.newest(&new.target, new.ends)?,
        };
        settled.push(entry.ok_or_else(|| StoreError::Failed("what was denied is not in the log".into()))?);
    }
    Ok(Answer::Entries(settled))
}

/// Nothing was done, or nobody can tell. What stands in buckets is looked for there later.
fn refuse(core: &Core, asks: Vec<Ask>, error: &StoreError) {
    for ask in asks {
        if let Order::Settle { bucket, .. } = &ask.order {
            core.hub.left.add(*bucket);
        }
        match ask.answer {
            Some(answer) => drop(answer.send(Err(error.clone()))),
            None => tracing::warn!(%error, "what a change owes to the hub is left for later"),
        }
    }
}

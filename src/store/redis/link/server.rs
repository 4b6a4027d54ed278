//! A server, and our connections to it: each is watched, and one that is lost, late or wrong is dropped and made anew
//! in the background, as often as it takes. No request waits for a connection longer than it may.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    answers::Info,
    check::{self, Finding, Severity},
    wire::{Lost, Manner, Value, Wire, echo, told},
};
use crate::{
    clock::{SystemRandom, random_bytes},
    store::redis::url::Place,
};

/// How often a connection is tried.
const EVERY: Duration = Duration::from_millis(250);
/// Requests that do not wait for each other on one connection: they are written together, and so are their answers.
const FEW: usize = 32;
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many connections, and how long one waits.
#[derive(Clone)]
pub(super) struct Habits {
    pub(super) manner: Manner,
    /// Connections that many requests share.
    pub(super) shared: usize,
    /// Connections that are one request's at a time: those that wait for replicas.
    pub(super) apart: usize,
    pub(super) deadline: Duration,
    pub(super) wanted: check::Wanted,
    /// Counts how often requests have come to go to other servers.
    pub(super) ways: Arc<AtomicU64>,
}

/// A server.
pub(super) struct Server {
    pub(super) place: Place,
    inner: Arc<Inner>,
    keepers: Vec<JoinHandle<()>>,
}

/// What the keepers of the connections work on.
struct Inner {
    place: Place,
    habits: Habits,
    control: Slot,
    shared: Vec<Slot>,
    apart: Vec<Slot>,
    /// A connection is there, or free again.
    came: Notify,
    trouble: Mutex<Option<String>>,
    /// Which run of the program is at the other end of all connections.
    run: Mutex<String>,
    checked: watch::Sender<Checked>,
}

/// What is known of the server's fitness. It is unknown as long as nobody is connected.
#[derive(Clone, Debug)]
pub(super) enum Checked {
    NotYet,
    Found(Arc<[Finding]>),
}

#[derive(Default)]
struct Slot {
    wire: ArcSwapOption<Wire>,
    taken: AtomicBool,
}

impl Slot {
    fn get(&self) -> Option<Arc<Wire>> {
        self.wire.load_full().filter(|wire| wire.alive())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for keeper in &self.keepers {
            keeper.abort();
        }
    }
}

/// A connection that is one request's until this is dropped.
pub(super) struct Apart {
    inner: Arc<Inner>,
    place: usize,
    pub(super) wire: Arc<Wire>,
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.inner.apart[self.place].taken.store(false, Ordering::Release);
        self.inner.came.notify_waiters();
    }
}

impl Server {
    pub(super) fn new(place: Place, habits: Habits) -> Arc<Self> {
        let slots = |n| std::iter::repeat_with(Slot::default).take(n).collect::<Vec<_>>();
        let inner = Arc::new(Inner {
            place: place.clone(),
            control: Slot::default(),
            shared: slots(habits.shared),
            apart: slots(habits.apart),
            habits,
            came: Notify::new(),
            trouble: Mutex::default(),
            run: Mutex::default(),
            checked: watch::Sender::new(Checked::NotYet),
        });
        let all = [Which::Control]
            .into_iter()
            .chain((0..inner.shared.len()).map(Which::Shared))
            .chain((0..inner.apart.len()).map(Which::Apart));
        let keepers = all.map(|which| tokio::spawn(inner.clone().keep(which))).collect();
        Arc::new(Self { place, inner, keepers })
    }

    /// The first connection on which there are few requests, or else that with the fewest, once there is one.
    pub(super) async fn wire(&self, until: Instant) -> Result<Arc<Wire>, Lost> {
        let pick = || self.inner.shared.iter().filter_map(Slot::get).min_by_key(|wire| wire.busy() / FEW);
        self.once(until, pick).await
    }

    /// A connection on which nobody else asks, once one is free.
    pub(super) async fn apart(&self, until: Instant) -> Result<Apart, Lost> {
        let inner = &self.inner;
        let pick = || {
            inner.apart.iter().enumerate().find_map(|(place, slot)| {
                let wire = slot.get()?;
                let mine = slot.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
                mine.then(|| Apart { inner: inner.clone(), place, wire })
            })
        };
        self.once(until, pick).await
    }

    /// The connection for what is asked about the server itself.
    pub(super) async fn control(&self, until: Instant) -> Result<Arc<Wire>, Lost> {
        self.once(until, || self.inner.control.get()).await
    }

    /// The same, if there is one now.
    pub(super) fn control_now(&self) -> Option<Arc<Wire>> {
        self.inner.control.get()
    }

    async fn once<T>(&self, until: Instant, pick: impl Fn() -> Option<T>) -> Result<T, Lost> {
        if let Some(found) = pick() {
            return Ok(found);
        }
        let mut came = std::pin::pin!(self.inner.came.notified());
        loop {
            // Before looking: what comes in between is noticed.
            came.as_mut().enable();
            if let Some(found) = pick() {
                return Ok(found);
            }
            if timeout_at(until, came.as_mut()).await.is_err() {
                return Err(Lost(self.trouble()));
            }
            came.set(self.inner.came.notified());
        }
    }

    /// Drops all connections: what is connected to next is looked at anew.
    pub(super) fn cut(&self) {
        let inner = &self.inner;
        for slot in inner.shared.iter().chain(&inner.apart).chain([&inner.control]) {
            if let Some(wire) = slot.get() {
                wire.cut();
            }
        }
    }

    /// Why there is no connection.
    pub(super) fn trouble(&self) -> String {
        let trouble = self.inner.trouble().clone();
        trouble.unwrap_or_else(|| "all connections are taken, or none is made yet".into())
    }

    /// What is known of its fitness, now.
    pub(super) fn checked(&self) -> Checked {
        self.inner.checked.borrow().clone()
    }

    /// Whether it may be asked, once that is known.
    pub(super) async fn fit(&self, until: Instant) -> Result<(), Lost> {
        if let Checked::Found(findings) = &*self.inner.checked.borrow() {
            return fitness(findings);
        }
        let mut checked = self.inner.checked.subscribe();
        let known = timeout_at(until, checked.wait_for(|checked| matches!(checked, Checked::Found(_)))).await;
        match known.ok().and_then(Result::ok).as_deref() {
            Some(Checked::Found(findings)) => fitness(findings),
            _ => Err(Lost(self.trouble())),
        }
    }

    /// Whether something stands against it that no other server mends by being the master instead.
    pub(super) fn is_unfit_itself(&self) -> bool {
        let refused = |finding: &Finding| finding.severity == Severity::Refuse && finding.code != check::REPLICA;
        matches!(self.checked(), Checked::Found(findings) if findings.iter().any(refused))
    }
}

fn fitness(findings: &[Finding]) -> Result<(), Lost> {
    match findings.iter().find(|finding| finding.severity == Severity::Refuse) {
        None => Ok(()),
        Some(finding) => Err(Lost(finding.to_string())),
    }
}

#[derive(Clone, Copy)]
enum Which {
    Control,
    Shared(usize),
    Apart(usize),
}

impl Inner {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, which: Which) -> &Slot {
        match which {
            Which::Control => &self.control,
            Which::Shared(n) => &self.shared[n],
            Which::Apart(n) => &self.apart[n],
        }
    }

    async fn keep(self: Arc<Self>, which: Which) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let why = self.serve(which).await;
            self.slot(which).wire.store(None);
            if matches!(which, Which::Control) {
                // Said once, and not at each attempt that fails.
                if matches!(self.checked.send_replace(Checked::NotYet), Checked::Found(_)) {
                    tracing::warn!(server = %self.place, why = why.0, "the store cannot be asked");
                }
            }
            // One that held for a while is made anew at once.
            failures = if began.elapsed() > LONGEST_PAUSE * 2 { 0 } else { failures + 1 };
            *self.trouble() = Some(format!("{}: {}", self.place, why.0));
            sleep(pause(failures)).await;
        }
    }

    /// Connects, and holds the connection as long as it is good. Gives why it is no more.
    async fn serve(&self, which: Which) -> Lost {
        let opening = timeout(self.habits.deadline, Wire::open(&self.place, &self.habits.manner)).await;
        let wire = match opening {
            Err(_) => return Lost("it does not answer".into()),
            Ok(Err(why)) => return why,
            Ok(Ok(wire)) => Arc::new(wire),
        };
        let slot = self.slot(which);
        // What a server will not say, its examination tells of.
        if let Err(why) = self.same_run(&wire).await
            && !matches!(which, Which::Control)
        {
            return why;
        }
        slot.wire.store(Some(wire.clone()));
        self.came.notify_waiters();
        let why = match which {
            Which::Control => self.examine(&wire).await,
            _ => self.watch(&wire, slot).await,
        };
        wire.cut();
        why
    }

    /// Where another run of the program answers than before, the connections to that one end, and whoever has asked there
    /// can tell that it was another.
    async fn same_run(&self, wire: &Wire) -> Result<(), Lost> {
        let asking = timeout(self.habits.deadline, Info::ask(wire, &["server"])).await;
        let info = asking.unwrap_or_else(|_| Err(Lost("it does not answer".into())))?;
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if *run != info.get("run_id") {
            for slot in self.shared.iter().chain(&self.apart).chain([&self.control]) {
                if let Some(old) = slot.get() {
                    old.cut();
                }
            }
            info.get("run_id").clone_into(&mut run);
            self.habits.ways.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn watch(&self, wire: &Wire, slot: &Slot) -> Lost {
        loop {
            if timeout(EVERY, wire.gone()).await.is_ok() {
                return Lost("the connection was lost".into());
            }
            // One that waits for replicas is bounded by its own request.
            if slot.taken.load(Ordering::Acquire) {
                continue;
            }
            if let Err(why) = self.ping(wire).await {
                return why;
            }
            *self.trouble() = None;
        }
    }

    async fn ping(&self, wire: &Wire) -> Result<(), Lost> {
        let (mut pipe, echo) = (redis::pipe(), echo());
        pipe.cmd("PING").arg(&echo);
        match timeout(self.habits.deadline, wire.ask(pipe)).await {
            Err(_) => Err(Lost(format!("it does not answer within {:?}", self.habits.deadline))),
            Ok(Err(why)) => Err(why),
            Ok(Ok(answers)) => match answers.first() {
                Some(Value::BulkString(text)) if text == echo.as_bytes() => Ok(()),
                Some(Value::ServerError(error)) => Err(Lost(told(error))),
                _ => Err(wire.mixed_up()),
            },
        }
    }

    /// Looks at the server anew: at each connection, each second while something stands against it, else now and then.
    async fn examine(&self, wire: &Wire) -> Lost {
        loop {
            let findings =
                match timeout(self.habits.deadline * 2, check::server(wire, &self.place, &self.habits.wanted)).await {
                    Err(_) => return Lost("it does not answer".into()),
                    Ok(Err(why)) => {
                        self.checked.send_replace(check::forbidden(&why, &self.habits.wanted));
                        return why;
                    }
                    Ok(Ok(findings)) => findings,
                };
            let fit = findings.iter().all(|finding| finding.severity != Severity::Refuse);
            // Another server may have its address by now: it is connected to anew.
            let replica = findings.iter().any(|finding| finding.code == check::REPLICA);
            self.found(findings.into());
            let rounds = if fit { check::EVERY_PINGS } else { check::EVERY_PINGS_WHILE_REFUSED };
            for _ in 0..rounds {
                if timeout(EVERY, wire.gone()).await.is_ok() {
                    return Lost("the connection was lost".into());
                }
                if let Err(why) = self.ping(wire).await {
                    return why;
                }
                *self.trouble() = None;
            }
            if replica {
                return Lost("it is a replica".into());
            }
        }
    }
}

impl Inner {
    /// What is new is said.
    fn found(&self, findings: Arc<[Finding]>) {
        let before = self.checked.send_replace(Checked::Found(findings.clone()));
        let known = match &before {
            Checked::Found(known) => known.clone(),
            Checked::NotYet => {
                tracing::info!(server = %self.place, "the store can be asked");
                Arc::default()
            }
        };
        for finding in findings.iter().filter(|finding| !known.contains(finding)) {
            match finding.severity {
                Severity::Refuse => tracing::error!(code = finding.code, "the store is not safe: {finding}"),
                Severity::Warn => tracing::warn!(code = finding.code, "the store could be safer: {finding}"),
            }
        }
    }
}

/// Longer with each failure, and never the same for two nodes.
fn pause(failures: u32) -> Duration {
    let most = LONGEST_PAUSE.min(Duration::from_millis(10) * 2_u32.pow(failures.min(8)));
    let [byte] = random_bytes(&SystemRandom);
    most / 2 + most.mul_f64(f64::from(byte) / 512.0)
}

//! A store, two nodes, three verifiers and the clients, all at once; what can be done to them, and what must hold then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rescind::clock::{Clock, SystemClock};
use tokio::task::JoinHandle;

use crate::{
    deployment::{Aof, Deployment, Kind},
    dice::Dice,
    history::{Counts, History, Revoked},
    load::{Answer, Session, Worker, World},
    nodes::{CLIENT, Nodes, Settings},
    redis_servers::Host,
    relay::Relay,
    trials,
    verify::{STALENESS, Said, Verifiers, watch},
};

/// How long a service may take to serve again after all that it needs is there again.
const RECOVERY: Duration = Duration::from_secs(45);
/// Ended sessions that are tried at each check, and revocations that every verifier is asked about: the newest ones.
const TRIED: usize = 40;
const SWEPT: usize = 3000;

/// How often what must not be was tried for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub verified: Said,
    /// Refresh tokens of what has ended, presented.
    pub ended: usize,
    /// Sessions that nobody had ended, refreshed at the end.
    pub alive: usize,
    /// Generations of long ago, presented: the session was closed for it, or they were told to come later.
    pub spent: usize,
    /// Sessions that Redis lost, opened moments before it did.
    pub openings_lost: usize,
}

pub struct Stage {
    pub servers: Deployment,
    pub nodes: Nodes,
    pub world: Arc<World>,
    pub tally: Tally,
    issuer: String,
    seed: u64,
    /// Whether an acknowledged opening survives what is done here.
    durable: bool,
    faults: Vec<(String, Duration, Duration)>,
    workers: Vec<JoinHandle<Vec<Session>>>,
    /// How many there have been: each has subjects of its own.
    hired: usize,
    watch: JoinHandle<()>,
    _relay: Relay,
}

/// The number that all chance comes from: said again, a run makes the same choices.
pub fn seed() -> u64 {
    let said = std::env::var("FAULTS_SEED").ok().map(|said| said.parse().expect("FAULTS_SEED is a number"));
    said.unwrap_or_else(|| SystemClock::default().now().millis())
}

impl Stage {
    pub async fn start(kind: Kind, settings: Settings) -> Self {
        let servers = Deployment::start(kind);
        let url = servers.url();
        let durable = settings.replicas > 0 || matches!(kind, Kind::Single(Aof::EverySecond | Aof::Always));
        Self::before(servers, [&url, &url], &settings, durable).await
    }

    /// Before this store, which each node finds at its own URL.
    pub async fn before(servers: Deployment, urls: [&str; 2], settings: &Settings, durable: bool) -> Self {
        Self::on(servers, [Nodes::host(0), Nodes::host(1)], urls, settings, durable).await
    }

    /// With the nodes on these hosts.
    pub async fn on(
        servers: Deployment,
        hosts: [Host; 2],
        urls: [&str; 2],
        settings: &Settings,
        durable: bool,
    ) -> Self {
        let relay = Relay::start().await;
        let issuer = relay.url.clone();
        let mut nodes = Nodes::on(hosts, &issuer, urls, settings);
        for (n, node) in nodes.both.iter().enumerate() {
            relay.named_to(&format!("node-{n}"), &node.base);
        }
        relay.to_each(&nodes.both.each_ref().map(|node| node.base.clone()));
        nodes.start().await;
        let clients = nodes.clients();
        let verifiers = Arc::new(Verifiers::follow(&issuer, CLIENT, &clients.secret));
        let history = Arc::new(History::default());
        let watch = tokio::spawn(watch(verifiers.clone(), history.clone()));
        let world = World { clients, history, verifiers, over: AtomicBool::new(false) };
        let mut stage = Self {
            servers,
            nodes,
            world: Arc::new(world),
            tally: Tally::default(),
            issuer,
            seed: seed(),
            durable,
            faults: Vec::new(),
            workers: Vec::new(),
            hired: 0,
            watch,
            _relay: relay,
        };
        stage.recover().await;
        stage
    }

    pub fn counts(&self) -> &Counts {
        &self.world.history.counts
    }

    /// So many clients' machines go to work.
    pub fn load(&mut self, workers: usize) {
        let worker = |n| tokio::spawn(Worker::new(self.world.clone(), n, self.seed).run());
        self.workers.extend((self.hired..self.hired + workers).map(worker));
        self.hired += workers;
    }

    /// Until so many more revocations have been acknowledged.
    pub async fn works(&mut self, more: usize) {
        let enough = self.counts().revocations.so_far() + more;
        let (clock, mut last) = (SystemClock::default(), (0, Duration::ZERO));
        while self.counts().revocations.so_far() < enough {
            let now = self.counts().revocations.so_far();
            if now > last.0 {
                last = (now, clock.monotonic());
            }
            assert!(clock.monotonic() - last.1 < RECOVERY, "nothing is acknowledged any more");
            assert!(!self.workers.iter().any(JoinHandle::is_finished), "a client has given up");
            self.nodes.supervise();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until both nodes open sessions and every verifier can tell. Says how long it took.
    pub async fn recover(&mut self) -> Duration {
        let clock = SystemClock::default();
        let mut said = [None, None];
        while said.iter().any(|said| !matches!(said, Some((201, _)))) || !self.world.verifiers.available() {
            let health = self.world.verifiers.health();
            assert!(clock.monotonic() < RECOVERY, "not served again: {said:?}\n{health}");
            self.nodes.supervise();
            tokio::time::sleep(Duration::from_millis(20)).await;
            for (n, said) in said.iter_mut().enumerate() {
                if !matches!(said, Some((201, _))) {
                    *said = self.world.clients.open(n, "a-probe", false).await;
                }
            }
        }
        clock.monotonic()
    }

    /// Something is broken under load; then it is whole again, and everything is checked.
    pub async fn suffers(&mut self, what: &str, fault: impl AsyncFnOnce(&mut Self)) {
        let began = self.world.history.now();
        fault(self).await;
        let outage = self.recover().await;
        let back = self.world.history.now();
        println!("  {what}: all served again {:.1?} after it began, {outage:.1?} after it was over", back - began);
        self.faults.push((what.to_owned(), began, back));
        self.check(what).await;
    }

    /// What was taken back is refused by every verifier and at both nodes.
    async fn check(&mut self, when: &str) {
        let history = &self.world.history;
        // Whatever was acknowledged a moment ago has its time.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let revoked = history.revocations(0);
        let newest = &revoked[revoked.len().saturating_sub(SWEPT)..];
        self.note(self.world.verifiers.sweep(history, newest, when));
        self.present_ended(&revoked, TRIED, when).await;
        let wrongs = self.world.history.wrongs();
        assert!(wrongs.is_empty(), "{when}, seed {}:\n{}", self.seed, wrongs.join("\n"));
    }

    fn note(&mut self, said: Said) {
        self.tally.verified.accepted += said.accepted;
        self.tally.verified.refused += said.refused;
        self.tally.verified.untold += said.untold;
    }

    /// Refresh tokens of what has ended: the newest ones, so many of them.
    async fn present_ended(&mut self, revoked: &[Revoked], most: usize, when: &str) {
        let dice = Dice::new(self.seed ^ self.tally.ended as u64);
        let ended: Vec<_> =
            revoked.iter().rev().filter_map(|one| Some((one, one.refresh.as_ref()?))).take(most).collect();
        for (one, (token, public)) in ended {
            self.tally.ended += 1;
            if self.world.insist(&dice, token, *public).await.is_ok() {
                let (by, session) = (one.by, &one.session);
                self.world.history.wrong(format!("{when}: session {session} was refreshed after {by} had ended it"));
            }
        }
    }

    /// No more is asked; what was begun is finished. Gives what the clients hold then.
    pub async fn rest(&mut self) -> Vec<Session> {
        self.world.over.store(true, Ordering::Relaxed);
        let mut held = Vec::new();
        for worker in std::mem::take(&mut self.workers) {
            held.extend(worker.await.unwrap());
        }
        self.world.over.store(false, Ordering::Relaxed);
        held
    }

    /// By whoever begins to verify now, and knows what the nodes say and nothing else.
    pub async fn newcomers(&mut self, when: &str) {
        let (history, clients) = (&self.world.history, &self.world.clients);
        let new = Verifiers::follow(&self.issuer, CLIENT, &clients.secret);
        let ready = tokio::time::timeout(RECOVERY, new.ready()).await;
        assert!(ready.is_ok(), "who begins to follow learns what is revoked: {}", new.health());
        let said = new.sweep(history, &history.revocations(0), when);
        self.note(said);
    }

    /// How many of these somebody accepts who begins to verify now.
    pub async fn accepted_by_newcomers(&self, tokens: &[String]) -> usize {
        let new = Verifiers::follow(&self.issuer, CLIENT, &self.world.clients.secret);
        let ready = tokio::time::timeout(RECOVERY, new.ready()).await;
        assert!(ready.is_ok(), "who begins to follow becomes ready: {}", new.health());
        tokens.iter().filter(|token| new.is_accepted(token)).count()
    }

    /// Until it serves, with an operator's words where it waits for them, as /readyz says them.
    pub async fn comes_back_or_is_accepted(&mut self) {
        // A node that is named may be back before the command is: that is said, and the word is not taken.
        let say = |stage: &Self, words: &[&str]| {
            let said = stage.nodes.command(0, &[words, &["--yes"]].concat());
            let why = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.success() || why.contains("node_alive"), "{words:?}: {why}");
        };
        let clock = SystemClock::default();
        loop {
            self.nodes.supervise();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let both = [self.nodes.readyz(0).await, self.nodes.readyz(1).await];
            let all = |is: fn(&(u16, String)) -> bool| both.iter().all(|said| said.as_ref().is_some_and(is));
            if all(|(_, why)| why.contains("rescind store restored")) {
                say(self, &["store", "restored"]);
                break;
            }
            if all(|(_, why)| why.contains("rescind store waive")) {
                let (_, why) = both[0].as_ref().expect("it has been looked at");
                for named in why.split("rescind store waive ").skip(1) {
                    say(self, &["store", "waive", &named[..32]]);
                }
            }
            if all(|(status, _)| *status == 200) {
                break;
            }
            assert!(clock.monotonic() < RECOVERY, "not served again: {both:?}");
        }
        self.recover().await;
    }

    /// Everything once more, when all is quiet; then the sessions are used up.
    pub async fn finish(mut self, name: &str) -> Tally {
        let held = self.rest().await;
        self.recover().await;
        let settled = tokio::time::sleep(STALENESS);
        let dice = Dice::new(self.seed);
        for session in &held {
            self.use_up(&dice, session).await;
        }
        settled.await;
        let revoked = self.world.history.revocations(0);
        self.note(self.world.verifiers.sweep(&self.world.history, &revoked, "in the end"));
        self.present_ended(&revoked, trials(300, 3000), "in the end").await;
        self.newcomers("who begins in the end").await;
        for [presented, one, other] in self.world.history.forks() {
            self.world.history.wrong(format!("a token has two successors: {presented} gave {one} and {other}"));
        }
        self.judge_refusals();
        self.watch.abort();
        self.say(name);
        let wrongs = self.world.history.wrongs();
        assert!(wrongs.is_empty(), "{name}, seed {}:\n{}", self.seed, wrongs.join("\n"));
        self.tally
    }

    /// Nobody has ended it, so it can be refreshed; and what it spent long ago cannot.
    async fn use_up(&mut self, dice: &Dice, session: &Session) {
        let world = &self.world;
        let wrong = |what: &str| world.history.wrong(format!("session {}: {what}", session.id));
        match world.insist(dice, session.newest(), session.public).await {
            Ok(_) => self.tally.alive += 1,
            Err(said) => {
                let (id, opened, refused) = (session.id.clone(), session.opened, world.history.now());
                return world.history.refused(crate::history::Refusal { session: id, opened, refused, said });
            }
        }
        // Three exchanges ago or more: that was given, and its successor was used.
        let Some(old) = session.chain.len().checked_sub(3) else { return };
        let spent = &session.chain[dice.below(old + 1)];
        self.tally.spent += 1;
        for node in [0, 1] {
            match world.exchange(node, spent, session.public).await {
                Answer::Given { .. } => wrong("a generation of long ago was redeemed"),
                Answer::Lost => wrong("a node that should be quiet gave no answer"),
                Answer::Later | Answer::Invalid(_) => {}
            }
        }
    }

    /// Whoever was refused without a reason was opened moments before a fault that is known to lose openings, or was
    /// wronged.
    fn judge_refusals(&mut self) {
        for refusal in self.world.history.refusals() {
            let lost = |(_, began, back): &(String, Duration, Duration)| {
                refusal.opened + Duration::from_secs(2) >= *began
                    && refusal.opened <= *back
                    && refusal.refused >= *began
            };
            if !self.durable && self.faults.iter().any(lost) {
                self.tally.openings_lost += 1;
            } else {
                self.world.history.wrong(format!("a session that did nothing wrong was refused: {refusal:?}"));
            }
        }
    }

    fn say(&self, name: &str) {
        let (counts, tally, history) = (self.counts(), &self.tally, &self.world.history);
        let revoked = history.revocations(0).len();
        let (settled, half, all) = history.lags();
        println!(
            "{name}: seed {}, {} faults\n  revocations acknowledged: {}; {} verifications of what they took back: {} \
             accepted, {} refused, {} not told\n  followed until all verifiers refused: {settled} of {}; the last accept came \
             {half:.0?} (p50), {all:.0?} (max) after the acknowledgement\n  refreshes of \
             what had ended: {} tried, all refused\n  refreshes: {} given, {} raced, {} answers dropped, {} came late; {} \
             tokens presented, 0 with two successors\n  sessions: {} opened, {} left in the end and refreshed, {} wrongly \
             refused, {} openings lost by Redis\n  generations of long ago: {} presented, 0 redeemed\n  good tokens: {} \
             accepted, {} not told, 0 refused; answers: {} said later, {} lost",
            self.seed,
            self.faults.len(),
            counts.revocations.so_far(),
            tally.verified.accepted + tally.verified.refused + tally.verified.untold,
            tally.verified.accepted,
            tally.verified.refused,
            tally.verified.untold,
            revoked,
            tally.ended,
            counts.refreshed.so_far(),
            counts.races.so_far(),
            counts.dropped.so_far(),
            counts.late.so_far(),
            history.presented(),
            counts.opened.so_far(),
            tally.alive,
            history.refusals().len() - tally.openings_lost,
            tally.openings_lost,
            tally.spent,
            counts.accepted.so_far(),
            counts.unavailable.so_far(),
            counts.later.so_far(),
            counts.lost.so_far(),
        );
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.watch.abort();
        self.workers.iter().for_each(JoinHandle::abort);
        if std::thread::panicking() {
            println!("seed {}: FAULTS_SEED={} makes the same choices", self.seed, self.seed);
        }
    }
}

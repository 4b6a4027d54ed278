//! The way to Redis: which server is asked, how long that is waited for, and whether its answer is the one to what was
//! asked. What may have been carried out is never sent again.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use self::{
    ask::{Ask, Journey, Step},
    room::Room,
    server::{Checked, Habits},
    topology::Topology,
    wire::{Lost, Manner, Value},
};
use super::{options::Options, url::StoreUrl};
use crate::{clock::Clock, model::Timestamp, store::StoreError};

mod acl;
mod answers;
mod ask;
mod check;
mod cluster;
mod line;
mod map;
mod reader;
mod request;
mod resp;
mod room;
mod sentinel;
mod server;
mod time;
mod tls;
mod topology;
mod wire;

pub use acl::acl_line;
pub use ask::Script;
pub use check::{Finding, Severity};
pub use reader::{Item, Reader};
pub use time::{Skew, StoreClock};
pub use topology::{Master, Proof};

/// How often it is asked who the master is and what time it is.
const EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two such rounds.
const AGAIN: Duration = Duration::from_millis(50);

/// Why the way cannot be gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everybody on this machine can read a secret.
    #[error("{path} can be reached by everybody (mode {mode:04o}); mend it with: chmod 640 '{path}'")]
    Readable {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{path} {what}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// TLS cannot be had.
    #[error("TLS towards the store cannot be had: {0}")]
    Tls(String),
    /// The store would not be safe there.
    #[error("{0}")]
    Refused(String),
    /// Nobody answers.
    #[error("the store does not answer: {0}")]
    Away(String),
}

/// The servers that are the store now, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vouched {
    /// By [`Clock::boottime`], before the first question was asked: it was so at some instant after this.
    pub began_boottime: Duration,
    /// What [`Link::way`] was before the masters named themselves: as long as it is this, it is they that answer.
    pub way: u64,
    /// All masters, in the order of their addresses.
    pub masters: Vec<Master>,
    /// Who says so.
    pub proof: Proof,
}

/// The time of the store, by the machine's clock.
pub type LinkClock = StoreClock<Arc<dyn Clock>>;

/// The way to Redis. Cloned freely; the connections end with the last of its clones.
#[derive(Clone)]
pub struct Link {
    held: Arc<Held>,
    urgent: bool,
    /// Whether replicas are waited for where the options say so.
    waits: bool,
}

struct Held {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

struct Shared {
    topology: Topology,
    clock: Arc<LinkClock>,
    machine: Arc<dyn Clock>,
    room: Room,
    manner: Manner,
    hub: Vec<u8>,
    replicas: u16,
    deadline: Duration,
    skew: Duration,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// Begins to connect, in the background and for as long as it takes. `machine`: this machine's clock. Belongs into a
    /// runtime.
    ///
    /// # Errors
    /// [`OpenError`]: a file that the URL names is no good.
    pub fn open(url: &StoreUrl, options: &Options, machine: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let tls = url.tls.as_ref().map(tls::config).transpose()?;
        let manner = Manner { login: url.login.clone(), db: url.db, tls };
        let habits = Habits {
            shared: usize::from(options.connections.max(1)),
            apart: if options.replicas > 0 { usize::from(options.waiting.max(1)) } else { 0 },
            deadline: options.deadline,
            wanted: check::Wanted {
                prefix: options.prefix.clone(),
                user: url.login.user.clone().unwrap_or_else(|| "default".into()),
                replicas: options.replicas,
                cluster: matches!(url.way, super::url::Way::Cluster),
                tls: manner.tls.is_some(),
            },
            manner: manner.clone(),
            ways: Arc::default(),
        };
        let shared = Arc::new(Shared {
            topology: Topology::new(url, habits),
            clock: Arc::new(StoreClock::new(machine.clone(), options.skew)),
            machine,
            room: Room::new(options.in_flight),
            manner,
            hub: format!("{}{{hub}}:head", options.prefix).into_bytes(),
            replicas: options.replicas,
            deadline: options.deadline,
            skew: options.skew,
        });
        let keeper = tokio::spawn(shared.clone().look_after());
        Ok(Self { held: Arc::new(Held { shared, keeper }), urgent: false, waits: true })
    }

    /// Waits until every master has been looked at and nothing stands against any.
    ///
    /// # Errors
    /// [`OpenError::Refused`] as soon as something does; [`OpenError::Away`] if one cannot be reached in time.
    pub async fn ready(&self, within: Duration) -> Result<(), OpenError> {
        let until = Instant::now() + within;
        loop {
            let refused = self.findings().into_iter().filter(|finding| finding.severity == Severity::Refuse);
            let (away, bad): (Vec<_>, Vec<_>) = refused.partition(|finding| finding.code == AWAY);
            let late = Instant::now() >= until;
            match away.first() {
                None if bad.is_empty() => return Ok(()),
                Some(_) if !late => sleep(AGAIN / 5).await,
                Some(finding) if bad.is_empty() => return Err(OpenError::Away(finding.sentence.clone())),
                _ => {
                    let all: Vec<_> = bad.iter().map(Finding::to_string).collect();
                    return Err(OpenError::Refused(all.join("\n")));
                }
            }
        }
    }

    /// The same way for what must not wait behind the rest: revocations, and what proves that the store is the store.
    #[must_use]
    pub fn urgent(&self) -> Self {
        Self { urgent: true, ..self.clone() }
    }

    /// The same way for what stands and falls with a later change on the same server: whoever waits until replicas have
    /// that has waited for this, too.
    #[must_use]
    pub fn unwaited(&self) -> Self {
        Self { waits: false, ..self.clone() }
    }

    /// The store's time.
    #[must_use]
    pub fn clock(&self) -> Arc<LinkClock> {
        self.shared().clock.clone()
    }

    /// By how much a node's clock may differ from the store's; zero if nobody looks.
    #[must_use]
    pub fn permitted_skew(&self) -> Duration {
        self.shared().skew
    }

    /// Runs a script on keys of one slot. Gives its answer without the echo: the server's time, then the rest.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: too much is waiting, and nothing was written. [`StoreError::Failed`]: it may have run; it is
    /// never run twice. If replicas are waited for and too few have the change, it was made, and is not safe.
    pub async fn run(&self, script: Script, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Result<Vec<Value>, StoreError> {
        let replicas = if self.waits && script.writes() { self.shared().replicas } else { 0 };
        self.ask(&Ask::script(script, keys, args, replicas)).await
    }

    /// One command on one key. Never sent twice if it may have been carried out.
    ///
    /// # Errors
    /// As [`Link::run`].
    pub async fn command(&self, key: &[u8], command: redis::Cmd) -> Result<Value, StoreError> {
        self.commands(key, vec![command]).await?.pop().ok_or(super::commit::UNREADABLE)
    }

    /// Several on keys of the slot of `key`, one behind the other: others may come in between. Gives as many answers.
    ///
    /// # Errors
    /// As [`Link::run`].
    pub async fn commands(&self, key: &[u8], commands: Vec<redis::Cmd>) -> Result<Vec<Value>, StoreError> {
        let count = commands.len();
        let answers = self.ask(&Ask::plain(key, commands)).await?;
        let readable = answers.len() == count && !answers.iter().any(|answer| matches!(answer, Value::ServerError(_)));
        if readable { Ok(answers) } else { Err(super::commit::UNREADABLE) }
    }

    /// Reads a stream as it grows, on a connection of its own.
    #[must_use]
    pub fn reader(&self, key: &[u8]) -> Reader {
        Reader::new(self.clone(), key)
    }

    /// Counts how often this node has come to ask other servers, or other runs of them: two answers between which it has
    /// not changed come from the same.
    #[must_use]
    pub fn way(&self) -> u64 {
        self.shared().topology.way()
    }

    /// Which of these keys are with the same master: as many numbers, alike where the master is.
    #[must_use]
    pub fn places(&self, keys: &[Vec<u8>]) -> Vec<usize> {
        let map = self.shared().topology.map();
        keys.iter().map(|key| map.place(key)).collect()
    }

    /// Which servers are the store now.
    ///
    /// # Errors
    /// Nobody can tell, and why.
    pub async fn vouched(&self) -> Result<Vouched, StoreError> {
        let shared = self.shared();
        let began_boottime = shared.machine.boottime();
        let until = Instant::now() + shared.deadline;
        let proof = shared.topology.survey(until).await.map_err(|why| shared.failed(&why))?;
        let way = self.way();
        let masters = shared.topology.masters(until).await.map_err(|why| shared.failed(&why))?;
        Ok(Vouched { began_boottime, way, masters, proof })
    }

    /// What the latest look at the servers has found, and what stands against this machine's clock.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let shared = self.shared();
        let map = shared.topology.map();
        let mut all = Vec::new();
        if map.masters.is_empty() {
            all.push(away(shared.topology.trouble()));
        }
        for server in &map.masters {
            match server.checked() {
                Checked::Found(findings) => all.extend(findings.iter().cloned()),
                Checked::NotYet => all.push(away(server.trouble())),
            }
        }
        if let Some(skew) = shared.clock.skew() {
            all.push(Finding {
                severity: Severity::Refuse,
                code: "clock_skew",
                sentence: skew.to_string(),
                mend: None,
            });
        }
        all
    }

    fn shared(&self) -> &Shared {
        &self.held.shared
    }

    async fn ask(&self, ask: &Ask<'_>) -> Result<Vec<Value>, StoreError> {
        let shared = self.shared();
        let _room = shared.room.enter(self.urgent).ok_or(StoreError::Busy)?;
        if let Some(skew) = shared.clock.skew() {
            return Err(StoreError::Failed(skew.to_string()));
        }
        let until = Instant::now() + shared.deadline;
        let mut journey = Journey::default();
        loop {
            match ask.go(&shared.topology, &mut journey, until).await {
                Step::Done(answer) => return Ok(answer),
                Step::Again => {}
                Step::Later(why) if Instant::now() + ask::PAUSE >= until => return Err(shared.failed(&why)),
                Step::Later(_) => sleep(ask::PAUSE).await,
                Step::No(why) => return Err(shared.failed(&why)),
                Step::Doubtful(why) => {
                    shared.topology.doubt.notify_one();
                    return Err(StoreError::Failed(format!("{}; it may have been done", why.0)));
                }
            }
        }
    }
}

/// The code of the finding that a server cannot be asked.
const AWAY: &str = "unreachable";

fn away(sentence: String) -> Finding {
    Finding { severity: Severity::Refuse, code: AWAY, sentence, mend: None }
}

impl Shared {
    fn failed(&self, why: &Lost) -> StoreError {
        StoreError::Failed(why.0.clone())
    }

    /// Keeps up to date who the masters are and what time it is there.
    async fn look_after(self: Arc<Self>) {
        loop {
            let next = Instant::now() + EVERY;
            if !self.topology.is_single()
                && let Err(why) = self.topology.survey(Instant::now() + self.deadline).await
            {
                tracing::debug!(why = why.0, "it is not known who the masters of the store are");
            }
            let known = !self.topology.map().masters.is_empty();
            if !self.skew.is_zero() && known {
                let _ = self.measure().await;
            }
            let next = if known { next } else { Instant::now() + AGAIN * 2 };
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.topology.doubt.notified() => sleep(AGAIN).await,
            }
        }
    }

    async fn measure(&self) -> Result<(), Lost> {
        let until = Instant::now() + self.deadline;
        let wire = self.topology.master(&self.hub)?.control(until).await?;
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        let before = self.machine.now();
        let asked = timeout_at(until, wire.ask_surely(pipe)).await;
        let after = self.machine.now();
        let answers = asked.map_err(|_| Lost("it does not answer".into()))??;
        let part = |n: usize| {
            let part = answers.first().and_then(answers::list).and_then(|parts| parts.get(n)).and_then(answers::text);
            part.and_then(|text| text.parse::<u64>().ok())
        };
        let (Some(seconds), Some(micros)) = (part(0), part(1)) else {
            return Err(Lost("it does not tell the time".into()));
        };
        let store = Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(micros / 1000));
        self.clock.measure(before, store, after);
        Ok(())
    }
}

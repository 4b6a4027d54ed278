//! 64 clients, each on a connection of its own, each with sessions of its own that it refreshes in turn.

use std::{cell::Cell, io, rc::Rc, time::Duration};

use rescind::clock::{Clock, SystemClock};
use serde::Deserialize;
use tokio::task::LocalSet;

use crate::{
    http::{Connection, post},
    process::{Cpu, Server, cpu_of, cpu_of_all, resident_of, written_by},
};

/// How a server is loaded.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) sessions: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// One measured stretch of load.
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) errors: u64,
    pub(crate) server_user_us: f64,
    pub(crate) server_system_us: f64,
    /// Of what works for the server in a process of its own: Redis.
    pub(crate) beside_us: f64,
    pub(crate) generator_us: f64,
    /// Share of the machine's cores that somebody else used: above a few per cent the round tells little.
    pub(crate) others_cores: f64,
    pub(crate) resident_mib: f64,
    pub(crate) written_bytes: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// A client: its connection and the newest refresh token of each of its sessions.
pub(crate) struct Client {
    connection: Connection,
    authorization: Rc<str>,
    tokens: Vec<String>,
    latencies: Vec<Duration>,
    errors: u64,
}

#[derive(Deserialize)]
struct Granted<'a> {
    access_token: &'a str,
    refresh_token: &'a str,
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Connects all clients and opens their sessions.
pub(crate) async fn connect(server: &Server, load: Load) -> io::Result<Vec<Client>> {
    let authorization: Rc<str> = server.authorization.as_str().into();
    let mut clients = Vec::with_capacity(load.clients);
    for number in 0..load.clients {
        let mut client = Client {
            connection: Connection::open(server.address).await?,
            authorization: authorization.clone(),
            tokens: Vec::new(),
            latencies: Vec::new(),
            errors: 0,
        };
        for session in 0..load.sessions {
            client.open_session(number * load.sessions + session).await?;
        }
        clients.push(client);
    }
    Ok(clients)
}

/// Loads the server and measures. Gives the clients back, so that the next round goes on with their sessions.
pub(crate) async fn run(server: &Server, clients: Vec<Client>, load: Load) -> io::Result<(Round, Vec<Client>)> {
    let clock = SystemClock::default();
    let phase = Rc::new(Cell::new(Phase::WarmUp));
    let tasks = LocalSet::new();
    let running: Vec<_> = clients.into_iter().map(|c| tasks.spawn_local(c.refresh(clock, phase.clone()))).collect();
    let stretch = async {
        tokio::time::sleep(load.warm_up).await;
        phase.set(Phase::Measured);
        let before = Readings::take(server, &clock)?;
        tokio::time::sleep(load.measured).await;
        phase.set(Phase::Over);
        Ok::<_, io::Error>((before, Readings::take(server, &clock)?))
    };
    let (before, after) = tasks.run_until(stretch).await?;
    tasks.await;
    let mut clients = Vec::with_capacity(running.len());
    for task in running {
        clients.push(task.await.map_err(io::Error::other)?);
    }
    Ok((Round::summary(&mut clients, &before, &after), clients))
}

impl Client {
    async fn open_session(&mut self, number: usize) -> io::Result<()> {
        let body = format!(r#"{{"subject":"user-{number}","audience":["api"],"scope":"read"}}"#);
        let request = post("/v1/sessions", &self.authorization, "application/json", &body);
        let answer = self.connection.exchange(&request).await?;
        if answer.status != 201 {
            return Err(io::Error::other(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body))));
        }
        let granted: Granted<'_> = serde_json::from_slice(answer.body)?;
        self.tokens.push(granted.refresh_token.into());
        Ok(())
    }

    /// One refresh ahead of the load: how long are an access token and a refresh token?
    pub(crate) async fn lengths(&mut self) -> io::Result<(usize, usize)> {
        let access = self.refresh_one(0).await?;
        Ok((access, self.tokens[0].len()))
    }

    async fn refresh(mut self, clock: SystemClock, phase: Rc<Cell<Phase>>) -> Self {
        let mut turn = 0;
        while phase.get() != Phase::Over {
            let start = clock.monotonic();
            let fine = self.refresh_one(turn).await;
            if phase.get() == Phase::Measured {
                self.latencies.push(clock.monotonic() - start);
            }
            if let Err(problem) = fine {
                self.errors += 1;
                // One is reported per client; a broken connection or a spent token would repeat itself for ever.
                eprintln!("refresh failed: {problem}");
                break;
            }
            turn = (turn + 1) % self.tokens.len();
        }
        self
    }

    /// One refresh that must answer 200 and another refresh token. Gives the length of the access token.
    async fn refresh_one(&mut self, turn: usize) -> io::Result<usize> {
        let body = format!("grant_type=refresh_token&refresh_token={}", self.tokens[turn]);
        let request = post("/oauth2/token", &self.authorization, FORM, &body);
        let answer = self.connection.exchange(&request).await?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body))));
        }
        let granted: Granted<'_> = serde_json::from_slice(answer.body)?;
        if granted.refresh_token == self.tokens[turn] {
            return Err(io::Error::other("the refresh token did not rotate"));
        }
        self.tokens[turn].clear();
        self.tokens[turn].push_str(granted.refresh_token);
        Ok(granted.access_token.len())
    }
}

/// What the kernel has counted so far.
struct Readings {
    at: Duration,
    server: Cpu,
    beside: f64,
    generator: f64,
    all: f64,
    written: f64,
    resident: f64,
}

impl Readings {
    fn take(server: &Server, clock: &SystemClock) -> io::Result<Self> {
        Ok(Self {
            at: clock.monotonic(),
            server: cpu_of(server.pid())?,
            beside: server.cpu_beside()?,
            generator: cpu_of(std::process::id())?.total(),
            all: cpu_of_all()?,
            written: written_by(server.pid())?,
            resident: resident_of(server.pid())?,
        })
    }
}

impl Round {
    fn summary(clients: &mut [Client], before: &Readings, after: &Readings) -> Self {
        let mut latencies: Vec<Duration> = clients.iter_mut().flat_map(|c| std::mem::take(&mut c.latencies)).collect();
        latencies.sort();
        let seconds = (after.at - before.at).as_secs_f64();
        let exchanges = latencies.len() as f64;
        let server = after.server - before.server;
        let generator = after.generator - before.generator;
        let beside = after.beside - before.beside;
        Self {
            per_second: exchanges / seconds,
            p50_ms: percentile(&latencies, 0.50),
            p99_ms: percentile(&latencies, 0.99),
            max_ms: percentile(&latencies, 1.0),
            errors: clients.iter_mut().map(|c| std::mem::take(&mut c.errors)).sum(),
            server_user_us: server.user * 1e6 / exchanges,
            server_system_us: server.system * 1e6 / exchanges,
            beside_us: beside * 1e6 / exchanges,
            generator_us: generator * 1e6 / exchanges,
            others_cores: (after.all - before.all - server.total() - beside - generator).max(0.0) / seconds,
            resident_mib: after.resident,
            written_bytes: (after.written - before.written) / exchanges,
        }
    }
}

fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).map_or(0.0, |d| d.as_secs_f64() * 1e3)
}

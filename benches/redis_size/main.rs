//! How many bytes of Redis does a session take, and a denied token, and what does it cost to revoke one session or ten
//! thousand?
//!
//! A redis-server of the bench's own is filled through the same door as the service, then weighed: what the server says it
//! uses (`used_memory`), and key by key (`MEMORY USAGE`), by what the keys hold.
//!
//! The session: a subject of 40 bytes, a label, an address, a user agent of 100 bytes, one audience, one scope, two custom
//! claims; one session a subject, none refreshed. No audit records are kept: how much they take is the operator's choice.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench is there to print")]

#[path = "../store_size/fixture.rs"]
mod fixture;
#[path = "../refresh_redis/redis.rs"]
mod redis;
mod weigh;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use redis::Redis;
use rescind::{
    clock::{Clock, SystemClock, SystemRandom, random_bytes},
    families::Families,
    keyring::{Keyring, Settings},
    model::{
        SubjectRef, TokenId,
        audit::Draft,
        denial::{Ends, Retention, Target},
        family::Lifetimes,
    },
    store::{
        Denial, DenyStore,
        redis::{Options as StoreOptions, RedisStore},
    },
};
use serde_json::json;
use tokio::task::JoinSet;
use weigh::Weight;

/// Bytes per session and per denied token, and the cost of a revocation.
#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 100_000)]
    sessions: usize,
    #[arg(long, default_value_t = 100_000)]
    denied: usize,
    /// Sessions of the subject that has many.
    #[arg(long, default_value_t = 10_000)]
    many: usize,
    /// How often each of the two subjects is revoked.
    #[arg(long, default_value_t = 41)]
    rounds: usize,
    #[arg(long, hide = true)]
    bench: bool,
}

/// Requests under way at a time.
const WAITING: usize = 128;
/// How often what was answered with 503 is asked again, and after how long.
const TRIES: u32 = 100;
const AGAIN: Duration = Duration::from_millis(100);
/// Numbers that no session of the filling has.
const APART: usize = 1 << 40;
/// As configured by default, but for the access tokens: what is denied must still be denied when it is weighed.
const LIVES: Lifetimes = Lifetimes {
    access: Duration::from_secs(86_400),
    idle: Duration::from_secs(14 * 86_400),
    absolute: Duration::from_secs(90 * 86_400),
    retry_window: Duration::from_secs(30),
};

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches too, without this flag and without wanting figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    redis: Redis,
    store: Arc<RedisStore>,
    families: Arc<Families<RedisStore>>,
    clock: SystemClock,
}

async fn measure(options: &Options) -> io::Result<()> {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let redis = Redis::start(&home.path().join("redis"))?;
    let empty = redis.number("memory", "used_memory")?;
    let bench = Bench::open(redis).await?;

    let took = bench.fill(options.sessions, "sessions", Bench::open_one).await?;
    let sessions = Weight::take(&bench.redis, empty)?;
    println!("redis/size: {} sessions, opened in {:.0} s", options.sessions, took.as_secs_f64());
    sessions.print(options.sessions, "session");

    let before = bench.redis.number("memory", "used_memory")?;
    let took = bench.fill(options.denied, "denied", Bench::deny_one).await?;
    let denied = Weight::take(&bench.redis, before)?;
    println!("{} denied tokens, denied in {:.0} s", options.denied, took.as_secs_f64());
    denied.less(&sessions).print(options.denied, "denied token");

    let costs = bench.revoke(options).await?;
    for (sessions, cost) in [1, options.many].into_iter().zip(&costs) {
        println!(
            "revoking a subject with {sessions:6} sessions: {:.2} ms, {:.0} commands of Redis (medians of {})",
            cost.millis, cost.commands, options.rounds
        );
    }
    println!(
        "{}",
        json!({
            "bench": "redis_size",
            "sessions": options.sessions, "bytes_per_session": sessions.of_each(options.sessions),
            "denied": options.denied, "bytes_per_denied": denied.of_each(options.denied),
            "revoke_one": { "ms": costs[0].millis, "commands": costs[0].commands },
            "revoke_many": { "ms": costs[1].millis, "commands": costs[1].commands },
        })
    );
    Ok(())
}

/// What a revocation costs.
struct Cost {
    millis: f64,
    commands: f64,
}

impl Bench {
    async fn open(redis: Redis) -> io::Result<Self> {
        let (clock, random) = (SystemClock::default(), Arc::new(SystemRandom));
        let retention = Retention { access: LIVES.access, session: LIVES.absolute };
        let options = StoreOptions { audit_cap: 0, ..StoreOptions::new(retention) };
        let url = redis.url().parse().map_err(io::Error::other)?;
        let store = RedisStore::open(&url, options, Arc::new(clock), random.clone()).await;
        let store = Arc::new(store.map_err(io::Error::other)?);
        let keyring = Keyring::ephemeral(Settings::default(), Arc::new(clock), random.clone());
        let keyring = Arc::new(keyring.map_err(io::Error::other)?);
        let families = Arc::new(Families::new(store.clone(), keyring, random, LIVES));
        Ok(Self { redis, store, families, clock })
    }

    /// Does it so many times, and waits until Redis has settled.
    async fn fill<F, T>(&self, count: usize, what: &str, one: F) -> io::Result<Duration>
    where
        F: Fn(&Self, usize) -> T,
        T: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (start, mut under_way) = (self.clock.monotonic(), JoinSet::new());
        for number in 0..count {
            if under_way.len() >= WAITING {
                under_way.join_next().await.map_or(Ok(Ok(())), |done| done).map_err(io::Error::other)??;
            }
            under_way.spawn(one(self, number));
            if number % 100_000 == 99_999 {
                eprintln!("{} {what} in {:.0} s", number + 1, (self.clock.monotonic() - start).as_secs_f64());
            }
        }
        while let Some(done) = under_way.join_next().await {
            done.map_err(io::Error::other)??;
        }
        let took = self.clock.monotonic() - start;
        // What is owed is paid in a while.
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(took)
    }

    fn open_one(&self, number: usize) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let families = self.families.clone();
        async move {
            // Whoever is told to come again does.
            for _ in 0..TRIES {
                if families.open(fixture::identity(number), fixture::draft(number)).await.is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(AGAIN).await;
            }
            Err(io::Error::other("a session cannot be opened"))
        }
    }

    fn deny_one(&self, _: usize) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let (store, now) = (self.store.clone(), self.clock.now());
        let target = Target::Token(TokenId::new(now, &random_bytes(&SystemRandom)));
        async move { deny(&store, target).await }
    }

    /// Revokes a subject with one session and one with many, by turns.
    async fn revoke(&self, options: &Options) -> io::Result<[Cost; 2]> {
        let subjects = [APART, APART + 1].map(|number| self.families.refer(&fixture::identity(number).subject));
        self.open_one(APART).await?;
        self.fill(options.many, "sessions of one subject", |bench, _| bench.open_one(APART + 1)).await?;
        let mut costs = [(); 2].map(|()| (Vec::new(), Vec::new()));
        for _ in 0..options.rounds {
            for (subject, (millis, commands)) in subjects.into_iter().zip(&mut costs) {
                let before = self.redis.commands()?;
                let start = self.clock.monotonic();
                self.revoke_one(subject).await?;
                millis.push((self.clock.monotonic() - start).as_secs_f64() * 1e3);
                commands.push(self.redis.commands()? - before);
            }
        }
        Ok(costs.map(|(millis, commands)| Cost { millis: median(millis), commands: median(commands) }))
    }

    async fn revoke_one(&self, subject: SubjectRef) -> io::Result<()> {
        deny(&self.store, Target::Subject(subject)).await
    }
}

async fn deny(store: &RedisStore, target: Target) -> io::Result<()> {
    let audit = Draft::default();
    let denial = Denial { target, ends: Ends::Sessions, before: None, expires: None, reason: None, audit };
    for _ in 0..TRIES {
        if store.deny(denial.clone()).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(io::Error::other("what is to be denied cannot be"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

//! How many refreshes per second does the service answer over Redis, and what becomes of a race?
//!
//! The release binary serves `rescind dev --store redis://…`. Taking turns with it, on the same cores, under the same
//! load, each with a redis-server of its own: node-oidc-provider with a Redis adapter, and the limit: a bare axum handler
//! with one script and one signature. Then the race that clients lose elsewhere: one token on several connections at
//! once; how many different successors are handed out, and how many of them can be used afterwards.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench is there to print")]

#[path = "../refresh/http.rs"]
mod http;
#[path = "../refresh/load.rs"]
#[expect(dead_code, reason = "the other bench asks for lengths, too")]
mod load;
#[path = "../refresh/process.rs"]
mod process;
mod race;
mod redis;
#[path = "../refresh/report.rs"]
#[expect(dead_code, reason = "the other bench asks the disk, too")]
mod report;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use load::{Client, Load};
use process::Server;
use race::Race;
use redis::Redis;
use report::Series;

/// Refreshes per second over HTTP and Redis, and a race.
#[derive(Parser)]
struct Options {
    /// Measured seconds per round.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Clients at once; each number is measured by itself.
    #[arg(long, default_values_t = [16, 64])]
    clients: Vec<usize>,
    /// Sessions of each client, refreshed in turn.
    #[arg(long, default_value_t = 16)]
    sessions: usize,
    /// Chains of the race.
    #[arg(long, default_value_t = 40)]
    chains: usize,
    /// Connections that show one token at once.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Another binary with the same command line.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_rescind"))]
    binary: PathBuf,
    /// `cargo build --release --manifest-path benches/peers/Cargo.toml` makes it.
    #[arg(long, default_value = "benches/peers/target/release/bare")]
    bare: PathBuf,
    /// `npm ci --prefix benches/peers/oidc-provider` makes it run.
    #[arg(long, default_value = "benches/peers/oidc-provider/server.mjs")]
    oidc_provider: PathBuf,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches too, without this flag and without wanting figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    measure(&options).unwrap_or_else(|problem| {
        eprintln!("{problem}");
        ExitCode::FAILURE
    })
}

fn measure(options: &Options) -> io::Result<ExitCode> {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // One thread: what the generator does not use is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut contenders = start(options, home.path())?;
        let mut errors = 0;
        for clients in &options.clients {
            errors += loads(options, &mut contenders, *clients).await?;
        }
        let races = races(options, &contenders).await?;
        race::print(options.chains, options.connections, &races);
        let fair = errors == 0 && races.first().is_some_and(|(_, race)| race.is_fair(options.chains));
        Ok(if fair { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// A server, and the Redis that it alone uses.
struct Contender {
    name: &'static str,
    server: Server,
    _redis: Redis,
}

fn start(options: &Options, home: &Path) -> io::Result<Vec<Contender>> {
    let kinds: [(&'static str, &Path, &[&str]); 3] = [
        ("rescind", &options.binary, &["dev", "--json", "--store"]),
        ("bare axum, script, sig.", &options.bare, &[]),
        ("oidc-provider", Path::new("node"), &[options.oidc_provider.to_str().unwrap_or_default()]),
    ];
    kinds
        .into_iter()
        .map(|(name, program, before)| {
            let place = home.join(name.split(' ').next().unwrap_or(name));
            let redis = Redis::start(&place)?;
            let url = redis.url();
            let arguments: Vec<&str> = before.iter().copied().chain([&*url]).collect();
            let server = Server::start(program, &arguments, &place.join("log"))?.with(redis.pid());
            Ok(Contender { name, server, _redis: redis })
        })
        .collect()
}

/// All of them by turns, with so many clients. Gives how many exchanges failed.
async fn loads(options: &Options, contenders: &mut [Contender], clients: usize) -> io::Result<u64> {
    let load = Load {
        clients,
        sessions: options.sessions,
        warm_up: Duration::from_secs_f64(options.seconds / 5.0),
        measured: Duration::from_secs_f64(options.seconds),
    };
    let mut all: Vec<(Vec<Client>, Series)> = Vec::new();
    for contender in &*contenders {
        let clients = load::connect(&contender.server, load).await?;
        all.push((clients, Series { name: contender.name, rounds: Vec::new() }));
    }
    for _ in 0..options.rounds {
        for (contender, (clients, series)) in contenders.iter().zip(&mut all) {
            let (round, again) = load::run(&contender.server, std::mem::take(clients), load).await?;
            *clients = again;
            series.rounds.push(round);
        }
    }
    println!(
        "refresh/redis: {clients} clients of {} sessions each, client_secret_basic, {} rounds of {} s by turns, generator and Redis on the same cores",
        options.sessions, options.rounds, options.seconds
    );
    let all: Vec<Series> = all.into_iter().map(|(_, series)| series).collect();
    report::print(&all, &[]);
    let [rescind, limit, peer] = &all[..] else { return Err(io::Error::other("three contenders")) };
    println!(
        "ratios, medians of rounds: {:.2} of the limit, {:.1} x oidc-provider; by processor time {:.2} and {:.1}",
        rescind.ratio(limit),
        rescind.ratio(peer),
        rescind.ratio_of_work(limit),
        rescind.ratio_of_work(peer)
    );
    println!("{}", report::json_line(&all, &[]));
    Ok(all.iter().map(Series::errors).sum())
}

async fn races(options: &Options, contenders: &[Contender]) -> io::Result<Vec<(&'static str, Race)>> {
    let mut all = Vec::new();
    for contender in contenders {
        let race = Race::run(&contender.server, options.chains, options.connections).await?;
        all.push((contender.name, race));
    }
    Ok(all)
}

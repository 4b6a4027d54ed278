//! How long after its acknowledgement a revocation is refused by the last of many verifiers, and what following costs.
//!
//! The node is the real program on its embedded store, with an fsync before every acknowledgement; the verifiers are
//! real ones, in this process, on the same cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench reports")]

#[path = "../refresh/http.rs"]
#[allow(dead_code, reason = "shared with another bench")]
mod http;
#[path = "../refresh/process.rs"]
#[allow(dead_code, reason = "shared with another bench")]
mod process;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use http::{Connection, post};
use process::{Server, cpu_of, resident_of};
use rescind::{
    clock::{Clock, SystemClock},
    verifier::{Refused, Rejection, Verifier},
};
use serde::Deserialize;
use tokio::time::sleep;

#[derive(Parser)]
struct Args {
    /// Verifiers.
    #[arg(long, default_value_t = 50)]
    verifiers: usize,
    /// Revocations, one access token each.
    #[arg(long, default_value_t = 10_000)]
    revocations: usize,
    /// Who revoke at once, each waiting for its own to have arrived everywhere.
    #[arg(long, default_value_t = 4)]
    revokers: usize,
    /// Refreshes per second meanwhile.
    #[arg(long, default_value_t = 500)]
    refreshes: u32,
    /// Verifiers of the second part.
    #[arg(long, default_value_t = 1000)]
    many: usize,
    /// Seconds of silence over which idleness is measured.
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Not acceptable, whatever the machine does.
const HOPELESS: Duration = Duration::from_secs(30);
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    refresh_token: String,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> io::Result<()> {
    let scratch = tempfile::tempdir()?;
    let store = format!("embedded:{}", scratch.path().join("store.redb").display());
    let log = scratch.path().join("log");
    let program = Path::new(env!("CARGO_BIN_EXE_rescind"));
    let server = Arc::new(Server::start(program, &["dev", "--json", "--store", &store], &log)?);

    let verifiers = follow(&server, args.verifiers).await;
    println!("{} verifiers follow one node; {}", args.verifiers, memory(&server)?);
    idle(&server, args.verifiers, args.idle).await?;
    let mut times = propagate(&args, &server, &verifiers).await?;
    times.sort_unstable();
    println!(
        "{} revocations, {} at a time, {} refreshes/s meanwhile; from acknowledgement to the last refusal:",
        times.len(),
        args.revokers,
        args.refreshes
    );
    distribution(&times);
    drop(verifiers);

    let verifiers = follow(&server, args.many).await;
    println!("\n{} verifiers follow one node; {}", args.many, memory(&server)?);
    idle(&server, args.many, args.idle).await?;
    let quiet = Args { revocations: 200, revokers: 1, refreshes: 0, ..args };
    let mut times = propagate(&quiet, &server, &verifiers).await?;
    times.sort_unstable();
    println!("{} revocations, one after the other; from acknowledgement to the last refusal:", times.len());
    distribution(&times);
    Ok(())
}

async fn follow(server: &Server, many: usize) -> Arc<Vec<Verifier>> {
    let issuer = format!("http://{}", server.address);
    let build = |_| Verifier::builder(&*issuer).audience("api").follow().expect("a URL on loopback, a runtime");
    let verifiers: Vec<_> = (0..many).map(build).collect();
    for verifier in &verifiers {
        verifier.ready().await;
    }
    Arc::new(verifiers)
}

fn memory(server: &Server) -> io::Result<String> {
    Ok(format!(
        "the node takes {:.0} MiB, all verifiers {:.0} MiB",
        resident_of(server.pid())?,
        resident_of(std::process::id())?
    ))
}

/// What passes over loopback, both ways counted once.
fn loopback_bytes() -> io::Result<f64> {
    let text = std::fs::read_to_string("/proc/net/dev")?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other("no lo in /proc/net/dev"))
}

async fn idle(server: &Server, verifiers: usize, seconds: u64) -> io::Result<()> {
    let own = std::process::id();
    let before = (cpu_of(server.pid())?, cpu_of(own)?, loopback_bytes()?);
    sleep(Duration::from_secs(seconds)).await;
    let (node, ours) = (cpu_of(server.pid())? - before.0, cpu_of(own)? - before.1);
    let (span, each) = (seconds as f64, verifiers as f64);
    println!(
        "idle for {seconds} s, each verifier: {:.0} µs/s of processor, {:.0} µs/s of the node's, {:.0} bytes/s both ways",
        ours.total() / span / each * 1e6,
        node.total() / span / each * 1e6,
        (loopback_bytes()? - before.2) / span / each
    );
    Ok(())
}

async fn propagate(args: &Args, server: &Arc<Server>, verifiers: &Arc<Vec<Verifier>>) -> io::Result<Vec<Duration>> {
    let (left, over) = (Arc::new(AtomicUsize::new(args.revocations)), Arc::new(AtomicBool::new(false)));
    let load = tokio::spawn(refresh(server.clone(), args.refreshes, over.clone()));
    let revoker = |_| tokio::spawn(revoke(server.clone(), verifiers.clone(), left.clone()));
    let revokers: Vec<_> = (0..args.revokers).map(revoker).collect();
    let mut times = Vec::with_capacity(args.revocations);
    for revoker in revokers {
        times.extend(revoker.await.map_err(io::Error::other)??);
    }
    over.store(true, Ordering::Relaxed);
    let refreshed = load.await.map_err(io::Error::other)??;
    eprintln!("{refreshed} refreshes went on meanwhile");
    Ok(times)
}

/// Sessions that are refreshed at that pace, until it is over. Says how often.
async fn refresh(server: Arc<Server>, per_second: u32, over: Arc<AtomicBool>) -> io::Result<usize> {
    if per_second == 0 {
        return Ok(0);
    }
    let mut connection = Connection::open(server.address).await?;
    let mut tokens = Vec::new();
    for n in 0..64 {
        let body = format!(r#"{{"subject":"user-{n}","audience":["api"],"scope":"read"}}"#);
        tokens.push(
            ask(&mut connection, post("/v1/sessions", &server.authorization, JSON, &body), 201).await?.refresh_token,
        );
    }
    let (mut pace, mut done) = (tokio::time::interval(Duration::from_secs(1) / per_second), 0);
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        let turn = done % tokens.len();
        let body = format!("grant_type=refresh_token&refresh_token={}", tokens[turn]);
        let request = post("/oauth2/token", &server.authorization, FORM, &body);
        tokens[turn] = ask(&mut connection, request, 200).await?.refresh_token;
        done += 1;
    }
    Ok(done)
}

async fn ask(connection: &mut Connection, request: Vec<u8>, status: u16) -> io::Result<Granted> {
    let answer = connection.exchange(&request).await?;
    if answer.status != status {
        return Err(io::Error::other(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body))));
    }
    Ok(serde_json::from_slice(answer.body)?)
}

/// Gets tokens and takes them back, one after the other, as long as some are left.
async fn revoke(
    server: Arc<Server>,
    verifiers: Arc<Vec<Verifier>>,
    left: Arc<AtomicUsize>,
) -> io::Result<Vec<Duration>> {
    let clock = SystemClock::default();
    let mut connection = Connection::open(server.address).await?;
    let mut times = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
        let request = post("/oauth2/token", &server.authorization, FORM, "grant_type=client_credentials&scope=read");
        let token = ask(&mut connection, request, 200).await?.access_token;
        for verifier in &*verifiers {
            verifier.verify(&token).map_err(|e| io::Error::other(format!("a good token: {e}")))?;
        }
        let request = post("/oauth2/revoke", &server.authorization, FORM, &format!("token={token}"));
        let answer = connection.exchange(&request).await?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("not revoked: {}", answer.status)));
        }
        let acknowledged = clock.monotonic();
        // Once refused, always refused: only those that have not yet are asked again.
        let mut refusing = 0;
        while refusing < verifiers.len() {
            match verifiers[refusing].verify(&token) {
                Err(Refused::Rejected(Rejection::Revoked)) => refusing += 1,
                Ok(_) if clock.monotonic() - acknowledged < HOPELESS => sleep(Duration::from_millis(1)).await,
                other => return Err(io::Error::other(format!("verifier {refusing}: {:?}", other.err()))),
            }
        }
        times.push(clock.monotonic() - acknowledged);
    }
    Ok(times)
}

fn distribution(sorted: &[Duration]) {
    let at = |q: f64| sorted[((sorted.len() as f64 * q) as usize).min(sorted.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "  p50 {:.1} ms   p90 {:.1} ms   p99 {:.1} ms   p99.9 {:.1} ms   max {:.1} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    let bounds = [1, 2, 5, 10, 20, 50, 100, 250, 500, 1000];
    let mut below = 0;
    for bound in bounds {
        let now = sorted.partition_point(|t| *t <= Duration::from_millis(bound));
        if now > below {
            let share = (now - below) as f64 / sorted.len() as f64;
            println!("  <= {bound:>4} ms {:>6.2} %  {}", share * 100.0, "#".repeat((share * 50.0).ceil() as usize));
        }
        below = now;
    }
    if below < sorted.len() {
        println!("  above      {}", sorted.len() - below);
    }
}

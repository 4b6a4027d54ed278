//! How many refreshes per second does the service answer over HTTP, each on disk before its answer leaves?
//!
//! The release binary serves `rescind dev` with the embedded store on this file system; 64 keep-alive clients on the
//! same cores refresh their sessions one after another as a confidential client (`client_secret_basic`). Taking turns
//! with it, on the same cores under the same load: an axum server that only reads the form and answers JSON of the
//! same size, the same with one Ed25519 signature, and the bare disk.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench is there to print")]

mod http;
mod limits;
mod load;
mod process;
mod report;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use limits::{Disk, Limit};
use load::{Client, Load};
use process::Server;
use report::{Series, Syncs};

/// Refreshes per second over HTTP, with the embedded store.
#[derive(Parser)]
struct Options {
    /// Measured seconds per round; the limits get half of that.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Sessions of each client, refreshed in turn.
    #[arg(long, default_value_t = 16)]
    sessions: usize,
    /// Another binary with the same command line.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_rescind"))]
    binary: PathBuf,
    /// Where the store lies; on a disk, or the figures mean nothing.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    directory: PathBuf,
    /// Serve as a limit instead: whether it signs, and how long its tokens are.
    #[arg(long, num_args = 3, hide = true)]
    serve: Option<Vec<String>>,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches too, without this flag and without wanting figures.
    if !std::env::args().any(|argument| argument == "--bench" || argument == "--serve") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let done = match &options.serve {
        Some(limit) => serve(limit),
        None => measure(&options),
    };
    done.unwrap_or_else(|problem| {
        eprintln!("{problem}");
        ExitCode::FAILURE
    })
}

fn serve(limit: &[String]) -> io::Result<ExitCode> {
    let [signs, access, refresh] = limit else { return Err(io::Error::other("--serve takes three values")) };
    let length = |text: &String| text.parse().map_err(io::Error::other);
    let limit = Limit::new(signs == "signs", length(access)?, length(refresh)?);
    tokio::runtime::Runtime::new()?.block_on(limit.serve())?;
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options) -> io::Result<ExitCode> {
    let home = tempfile::tempdir_in(&options.directory)?;
    // One thread: what the generator does not use is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rounds(options, home.path()))
}

/// A server under load, its clients and what was measured.
struct Contender {
    server: Server,
    clients: Vec<Client>,
    load: Load,
    series: Series,
}

impl Contender {
    async fn start(name: &'static str, server: Server, load: Load) -> io::Result<Self> {
        let clients = load::connect(&server, load).await?;
        Ok(Self { server, clients, load, series: Series { name, rounds: Vec::new() } })
    }

    async fn round(&mut self) -> io::Result<()> {
        let (round, clients) = load::run(&self.server, std::mem::take(&mut self.clients), self.load).await?;
        self.clients = clients;
        self.series.rounds.push(round);
        Ok(())
    }
}

async fn rounds(options: &Options, home: &Path) -> io::Result<ExitCode> {
    let mut contenders = start(options, home).await?;
    let mut disk = [("fdatasync append", Syncs::default()), ("fdatasync overwrite", Syncs::default())];
    for _ in 0..options.rounds {
        for contender in &mut contenders {
            contender.round().await?;
        }
        for ((_, syncs), how) in disk.iter_mut().zip([Disk::Append, Disk::Overwrite]) {
            syncs.add(&limits::fdatasyncs(home, how, Duration::from_secs_f64(options.seconds / 10.0))?);
        }
    }
    let all: Vec<Series> = contenders.into_iter().map(|contender| contender.series).collect();
    conclude(options, &all, &disk)
}

async fn start(options: &Options, home: &Path) -> io::Result<Vec<Contender>> {
    let load = Load {
        clients: options.clients,
        sessions: options.sessions,
        warm_up: Duration::from_secs_f64(options.seconds / 5.0),
        measured: Duration::from_secs_f64(options.seconds),
    };
    let half = Load { measured: load.measured / 2, warm_up: load.warm_up / 2, ..load };
    let store = format!("embedded:{}", home.join("store").display());
    let rescind = Server::start(&options.binary, &["dev", "--json", "--store", &store], &home.join("rescind.log"))?;
    let mut rescind = Contender::start("rescind", rescind, load).await?;
    let (access, refresh) = rescind.clients[0].lengths().await?;
    let mut all = vec![rescind];
    for (name, kind) in [("axum and one signature", "signs"), ("axum alone", "answers")] {
        let arguments = ["--serve", kind, &access.to_string(), &refresh.to_string()];
        let limit = Server::start(&std::env::current_exe()?, &arguments, &home.join(kind))?;
        all.push(Contender::start(name, limit, half).await?);
    }
    Ok(all)
}

fn conclude(options: &Options, all: &[Series], disk: &[(&str, Syncs)]) -> io::Result<ExitCode> {
    println!(
        "refresh/embedded: {} clients of {} sessions each, client_secret_basic, fsync on, {} rounds of {} s, generator on the same cores",
        options.clients, options.sessions, options.rounds, options.seconds
    );
    report::print(all, disk);
    println!("of axum with one signature: {:.2}, median of rounds", all[0].ratio(&all[1]));
    println!("{}", report::json_line(all, disk));
    let errors: u64 = all.iter().map(Series::errors).sum();
    if errors > 0 {
        eprintln!("{errors} exchanges failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

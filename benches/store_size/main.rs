//! How many bytes does a live family take on disk, and how long does the store take to come back with all of them?
//!
//! A process of its own fills the store through the same door as the service and stops cleanly; the file is then
//! weighed and reopened. Further processes write to it until they are killed with SIGKILL, and it is reopened after
//! each. "Cold" is with the file's pages dropped from the page cache, "warm" with them still there.
//!
//! The family: a subject of 40 bytes, a label, an address, a user agent of 100 bytes, one audience, one scope, two
//! custom claims. Its audit record, which carries address and user agent again, is part of the file; how much of it
//! shows in the variant that keeps none.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench is there to print")]

mod filler;
mod fixture;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use filler::Filled;
use rescind::{
    clock::{Clock, SystemClock, SystemRandom},
    store::embedded::EmbeddedStore,
};
use serde_json::{Value, json};

/// Bytes per live family, and the time to reopen with them.
#[derive(Parser)]
struct Options {
    #[arg(long, default_value_t = 100_000)]
    families: usize,
    /// How often the store is killed and reopened.
    #[arg(long, default_value_t = 3)]
    crashes: usize,
    /// Where the store lies; on a disk, or the figures mean nothing.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    directory: PathBuf,
    /// Fill the store at that path in that variant instead, once or for ever.
    #[arg(long, num_args = 3, hide = true)]
    fill: Option<Vec<String>>,
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is compared.
const VARIANTS: [&str; 3] = ["default", "quick repair", "no audit log"];

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches too, without this flag and without wanting figures.
    if !std::env::args().any(|argument| argument == "--bench" || argument == "--fill") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let done = match options.fill.as_deref() {
        Some([path, variant, until]) => filler::fill(Path::new(path), variant, until, options.families),
        Some(_) => Err(io::Error::other("--fill takes three values")),
        None => measure(&options),
    };
    if let Err(problem) = done {
        eprintln!("{problem}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure(options: &Options) -> io::Result<()> {
    println!("store/size: {} families, each opened once, none refreshed before it is weighed", options.families);
    let mut figures = serde_json::Map::new();
    for variant in VARIANTS {
        let home = tempfile::tempdir_in(&options.directory)?;
        figures.insert(variant.replace(' ', "_"), weigh(options, &home.path().join("store.redb"), variant)?);
    }
    println!("{}", json!({ "bench": "store_size", "families": options.families, "figures": figures }));
    Ok(())
}

fn weigh(options: &Options, path: &Path, variant: &str) -> io::Result<Value> {
    let filled: Filled = serde_json::from_str(&Filler::start(options, path, variant, "full")?.finish()?)?;
    let clean = [reopen(path, variant, Page::Cold)?, reopen(path, variant, Page::Warm)?].map(milliseconds);
    let mut killed = Vec::new();
    for crash in 0..options.crashes.max(1) * 2 {
        Filler::start(options, path, variant, "killed")?.kill_under_load()?;
        killed.push(milliseconds(reopen(path, variant, if crash % 2 == 0 { Page::Cold } else { Page::Warm })?));
    }
    let worst = |offset: usize| killed.iter().skip(offset).step_by(2).fold(0.0_f64, |a, b| a.max(*b));
    let Filled { opened_per_second, weighed, refreshed_per_second, resident_mib } = filled;
    let bytes = weighed as f64 / options.families as f64;
    println!(
        "{variant:13} {bytes:6.0} B/family on disk; opened {opened_per_second:.0}/s, \
         refreshed {refreshed_per_second:.0}/s, RSS {resident_mib:.0} MiB; reopened in {:.0} ms cold, {:.0} ms warm; \
         after SIGKILL in {:.0} ms cold, {:.0} ms warm (worst of {})",
        clean[0],
        clean[1],
        worst(0),
        worst(1),
        options.crashes.max(1),
    );
    Ok(json!({
        "bytes_per_family": bytes, "opened_per_second": opened_per_second, "refreshed_per_second": refreshed_per_second,
        "resident_mib": resident_mib, "reopen_ms": { "cold": clean[0], "warm": clean[1] },
        "reopen_killed_ms": { "cold": worst(0), "warm": worst(1) },
    }))
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

enum Page {
    Cold,
    Warm,
}

/// Opens the store as a start of the service does.
fn reopen(path: &Path, variant: &str, pages: Page) -> io::Result<Duration> {
    if matches!(pages, Page::Cold) {
        let file = File::open(path)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    let clock = SystemClock::default();
    let start = clock.monotonic();
    let store = EmbeddedStore::open(path, filler::options(path, variant), Arc::new(clock), &SystemRandom);
    store.map(|_| clock.monotonic() - start).map_err(io::Error::other)
}

/// The process that fills.
struct Filler {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Filler {
    fn start(options: &Options, path: &Path, variant: &str, until: &str) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--fill")
            .args([path.as_os_str(), variant.as_ref(), until.as_ref()])
            .args(["--families", &options.families.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().expect("was asked for"));
        Ok(Self { child, output })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }

    fn finish(mut self) -> io::Result<String> {
        let line = self.line()?;
        if !self.child.wait()?.success() {
            return Err(io::Error::other("the filling process failed"));
        }
        Ok(line)
    }

    /// Waits until it has written for a while, then kills it in the middle of it.
    fn kill_under_load(mut self) -> io::Result<()> {
        for _ in 0..filler::BEATS {
            self.line()?;
        }
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

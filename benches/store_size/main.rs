//! How many bytes does a live family take on disk, and how long does the store take to come back with all of them?
//!
//! A process of its own fills the store through the same door as the service and stops cleanly; the file is then
//! weighed and reopened. Further processes write to it until they are killed with SIGKILL, and it is reopened after
//! each. "Cold" is with the file's pages dropped from the page cache, "warm" with them still there.
//!
//! Before that, all stores that were filled refresh their families in turn: 64 clients, all over the store, no HTTP.
//!
//! The family: a subject of 40 bytes, a label, an address, a user agent of 100 bytes, one audience, one scope, two
//! custom claims. Its audit record, which carries address and user agent again, is part of the file; how much of it
//! shows in the variant that keeps none.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench is there to print")]

mod filler;
mod fixture;
mod layout;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
};

use clap::Parser;
use filler::Filled;
use layout::Table;
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
    /// How often every variant refreshes for two seconds, in turn with the others.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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
const VARIANTS: [&str; 3] = ["full repair", "quick repair", "no audit log"];

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
    let home = tempfile::tempdir_in(&options.directory)?;
    let mut stores = Vec::new();
    for variant in VARIANTS {
        let path = home.path().join(format!("{variant}.redb"));
        stores.push(Store::fill(options, variant, path)?);
    }
    for _ in 0..options.rounds.max(1) {
        for store in &mut stores {
            store.refreshed_per_second.push(store.filler.refresh()?);
        }
    }
    let mut figures = serde_json::Map::new();
    for store in stores {
        figures.insert(store.variant.replace(' ', "_"), store.conclude(options)?);
    }
    println!("{}", json!({ "bench": "store_size", "families": options.families, "figures": figures }));
    Ok(())
}

/// A filled store and the process that has it open.
struct Store {
    variant: &'static str,
    path: PathBuf,
    filler: Filler,
    filled: Filled,
    refreshed_per_second: Vec<f64>,
}

impl Store {
    fn fill(options: &Options, variant: &'static str, path: PathBuf) -> io::Result<Self> {
        let mut filler = Filler::start(options, &path, variant, "full")?;
        let filled = serde_json::from_str(&filler.line()?)?;
        Ok(Self { variant, path, filler, filled, refreshed_per_second: Vec::new() })
    }

    /// Stops it, reopens it, kills it, and says what was measured.
    fn conclude(mut self, options: &Options) -> io::Result<Value> {
        self.filler.stop()?;
        let clean = [self.reopen(Page::Cold)?, self.reopen(Page::Warm)?];
        let mut killed = [0.0_f64; 2];
        for _ in 0..options.crashes.max(1) {
            for (worst, pages) in killed.iter_mut().zip([Page::Cold, Page::Warm]) {
                Filler::start(options, &self.path, self.variant, "killed")?.kill_under_load()?;
                *worst = worst.max(self.reopen(pages)?);
            }
        }
        Ok(self.report(options, clean, killed))
    }

    fn report(&mut self, options: &Options, clean: [f64; 2], killed: [f64; 2]) -> Value {
        let Filled { opened_per_second, weighed, resident_mib, .. } = self.filled;
        let bytes = weighed as f64 / options.families as f64;
        self.refreshed_per_second.sort_by(f64::total_cmp);
        let refreshed_per_second = self.refreshed_per_second[self.refreshed_per_second.len() / 2];
        println!(
            "{:13} {bytes:5.0} B/family on disk; opened {opened_per_second:.0}/s, refreshed {refreshed_per_second:.0}/s, \
             RSS {resident_mib:.0} MiB; reopened in {:.0} ms cold, {:.0} ms warm; after SIGKILL in {:.0} ms cold, {:.0} ms \
             warm (worst of {})",
            self.variant,
            clean[0],
            clean[1],
            killed[0],
            killed[1],
            options.crashes.max(1),
        );
        for Table { name, rows, stored, pages } in &self.filled.tables {
            let per_family = |bytes: &u64| *bytes as f64 / options.families as f64;
            println!(
                "    {name:10} {rows:>9} rows {:6.1} B/family stored, {:6.1} in pages",
                per_family(stored),
                per_family(pages)
            );
        }
        json!({
            "tables": self.filled.tables, "bytes_per_family": bytes, "opened_per_second": opened_per_second, "resident_mib": resident_mib,
            "refreshed_per_second": refreshed_per_second, "reopen_ms": { "cold": clean[0], "warm": clean[1] },
            "reopen_killed_ms": { "cold": killed[0], "warm": killed[1] },
        })
    }

    /// Milliseconds to open the store as a start of the service does.
    fn reopen(&self, pages: Page) -> io::Result<f64> {
        if matches!(pages, Page::Cold) {
            let file = File::open(&self.path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        let clock = SystemClock::default();
        let options = filler::options(&self.path, self.variant);
        let start = clock.monotonic();
        let store = EmbeddedStore::open(&self.path, options, Arc::new(clock), &SystemRandom);
        store.map(|_open| (clock.monotonic() - start).as_secs_f64() * 1e3).map_err(io::Error::other)
    }
}

#[derive(Clone, Copy)]
enum Page {
    Cold,
    Warm,
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
            .stdin(Stdio::piped())
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

    /// Has it refresh for a while; gives how many per second.
    fn refresh(&mut self) -> io::Result<f64> {
        self.child.stdin.as_mut().expect("was asked for").write_all(b"\n")?;
        self.line()?.trim().parse().map_err(io::Error::other)
    }

    fn stop(&mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        match self.child.wait()?.success() {
            true => Ok(()),
            false => Err(io::Error::other("the filling process failed")),
        }
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

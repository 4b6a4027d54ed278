//! Opens families through the service's own door, many at a time, as requests would.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use rescind::{
    clock::{Clock, SystemClock, SystemRandom},
    families::{Families, Presenter},
    keyring::{Keyring, Settings},
    model::{audit::Draft, denial::Retention, family::Lifetimes},
    store::embedded::{EmbeddedStore, Options},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    fixture,
    layout::{self, Table},
};

/// Lines that a process which waits to be killed prints before it expects to be.
pub(crate) const BEATS: usize = 20;
/// Requests under way at a time.
const WAITING: usize = 512;
/// Clients that refresh at a time, as in the bench over HTTP.
const CLIENTS: usize = 64;
const REFRESHED_FOR: Duration = Duration::from_secs(2);

const LIVES: Lifetimes = Lifetimes {
    access: Duration::from_secs(300),
    idle: Duration::from_secs(14 * 86_400),
    absolute: Duration::from_secs(90 * 86_400),
    retry_window: Duration::from_secs(30),
};

/// What the filling process reports.
#[derive(Serialize, Deserialize)]
pub(crate) struct Filled {
    pub(crate) opened_per_second: f64,
    /// Length of the file after a clean stop.
    pub(crate) weighed: u64,
    /// What is in it.
    pub(crate) tables: Vec<Table>,
    pub(crate) resident_mib: f64,
}

/// The store's options in that variant.
pub(crate) fn options(path: &Path, variant: &str) -> Options {
    let mut options = Options::new(Retention { access: LIVES.access, session: LIVES.absolute });
    options.witness = Some(path.with_extension("witness"));
    match variant {
        "full repair" => options.quick_repair = false,
        "quick repair" => options.quick_repair = true,
        _ => options.audit_cap = 0,
    }
    options
}

/// The filling process.
pub(crate) fn fill(path: &Path, variant: &str, until: &str, families: usize) -> io::Result<()> {
    let (clock, random) = (SystemClock::default(), Arc::new(SystemRandom));
    let keyring = Keyring::ephemeral(Settings::default(), Arc::new(clock), random).map_err(io::Error::other)?;
    let service = Service { path, variant, keyring: Arc::new(keyring), clock };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if until == "killed" {
        return runtime.block_on(service.write_until_killed());
    }
    runtime.block_on(service.fill_and_refresh(families))
}

type Sessions = Arc<Families<EmbeddedStore>>;

struct Service<'a> {
    path: &'a Path,
    variant: &'a str,
    keyring: Arc<Keyring>,
    clock: SystemClock,
}

impl Service<'_> {
    /// The store as it lies on disk, and sessions on top of it. Dropping them stops it cleanly.
    fn start(&self) -> io::Result<Sessions> {
        let options = options(self.path, self.variant);
        let store = EmbeddedStore::open(self.path, options, Arc::new(self.clock), &SystemRandom);
        let store = Arc::new(store.map_err(io::Error::other)?);
        Ok(Arc::new(Families::new(store, self.keyring.clone(), Arc::new(SystemRandom), LIVES)))
    }

    /// Fills, stops, starts again; then refreshes for a while whenever a line comes in, until none comes any more.
    async fn fill_and_refresh(&self, families: usize) -> io::Result<()> {
        let sessions = self.start()?;
        let start = self.clock.monotonic();
        // Tokens from all over the store, so that refreshing touches all of it.
        let mut kept = open(&sessions, 0..families, families.div_ceil(CLIENTS * 64)).await?;
        let opened_per_second = families as f64 / (self.clock.monotonic() - start).as_secs_f64();
        let resident_mib = resident()?;
        drop(sessions);
        let (weighed, tables) = (fs::metadata(self.path)?.len(), layout::tables(self.path)?);
        println!("{}", serde_json::to_string(&Filled { opened_per_second, weighed, tables, resident_mib })?);
        let sessions = self.start()?;
        for _turn in io::stdin().lines() {
            println!("{}", refresh(&sessions, &mut kept, self.clock).await?);
        }
        Ok(())
    }

    /// Writes on and on, and says so, until somebody kills the process.
    async fn write_until_killed(&self) -> io::Result<()> {
        let sessions = self.start()?;
        loop {
            open(&sessions, 0..500, 1).await?;
            println!("500 more");
        }
    }
}

/// Opens these sessions and gives every `keep`th refresh token.
async fn open(sessions: &Sessions, numbers: std::ops::Range<usize>, keep: usize) -> io::Result<Vec<String>> {
    let (mut under_way, mut kept) = (JoinSet::new(), Vec::new());
    for number in numbers {
        if under_way.len() >= WAITING {
            kept.extend(finished(under_way.join_next().await)?);
        }
        let sessions = sessions.clone();
        under_way.spawn(async move {
            let grant =
                sessions.open(fixture::identity(number), fixture::draft(number)).await.map_err(io::Error::other)?;
            Ok((number % keep == 0).then(|| grant.refresh.expose().to_owned()))
        });
    }
    while !under_way.is_empty() {
        kept.extend(finished(under_way.join_next().await)?);
    }
    Ok(kept)
}

fn finished(task: Option<Result<io::Result<Option<String>>, tokio::task::JoinError>>) -> io::Result<Option<String>> {
    task.map_or(Ok(None), |done| done.map_err(io::Error::other)?)
}

/// Refreshes for a while; gives how many per second.
async fn refresh(sessions: &Sessions, tokens: &mut Vec<String>, clock: SystemClock) -> io::Result<f64> {
    let start = clock.monotonic();
    let mut clients = JoinSet::new();
    for mine in tokens.chunks(tokens.len().div_ceil(CLIENTS)) {
        clients.spawn(refresh_in_turn(sessions.clone(), mine.to_vec(), clock, start + REFRESHED_FOR));
    }
    tokens.clear();
    let mut refreshed = 0;
    while let Some(done) = clients.join_next().await {
        let (theirs, newest) = done.map_err(io::Error::other)??;
        refreshed += theirs;
        tokens.extend(newest);
    }
    Ok(f64::from(refreshed) / (clock.monotonic() - start).as_secs_f64())
}

async fn refresh_in_turn(
    sessions: Sessions,
    mut tokens: Vec<String>,
    clock: SystemClock,
    end: Duration,
) -> io::Result<(u32, Vec<String>)> {
    let mut refreshed = 0;
    while clock.monotonic() < end {
        let turn = refreshed as usize % tokens.len();
        let presenter = Presenter { client: "web".parse().map_err(io::Error::other)?, proven: true };
        let grant =
            sessions.refresh(&tokens[turn], presenter, None, Draft::default()).await.map_err(io::Error::other)?;
        tokens[turn] = grant.refresh.expose().to_owned();
        refreshed += 1;
    }
    // The ones that are due next come first.
    let due = refreshed as usize % tokens.len();
    tokens.rotate_left(due);
    Ok((refreshed, tokens))
}

fn resident() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("no VmRSS"))
}

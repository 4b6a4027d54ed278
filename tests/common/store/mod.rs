//! What the store's tests share: a bed to put one on, and words for what is asked of it.
#![allow(dead_code, unreachable_pub, clippy::missing_panics_doc, reason = "each test file uses a part of it")]

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rescind::{
    clock::{ManualClock, Random},
    model::{
        ClientId, Kid, SessionId, SubjectRef, Timestamp, TokenId,
        audit::Draft,
        denial::{Bearer, Ends, Retention, Target},
        family::{Generation, Holder, Lifetimes, Secret, Verdict},
    },
    store::{
        Denial, Family, FamilyStore, Opening, Presentation, Presented, StoreError,
        embedded::{Acceptance, Backing, EmbeddedStore, OpenError, Options},
    },
};

pub mod disk;

pub use disk::Disk;

/// 2026-11-22T19:13:25Z.
pub const START: Timestamp = Timestamp::from_seconds(1_795_374_805);

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Numbers that differ from run to run in nothing.
#[derive(Debug)]
pub struct Seeded(AtomicU64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
    /// splitmix64.
    pub fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&self, n: u64) -> u64 {
        self.next() % n
    }
}

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// How long a node of a shared store may speak for it: short, because a new store waits for as long.
pub const LEASE: Duration = secs(1);

pub const RETENTION: Retention = Retention { access: secs(300), session: secs(7200) };

pub const LIVES: Lifetimes =
    Lifetimes { access: secs(300), idle: secs(3600), absolute: secs(7200), retry_window: secs(30) };

/// An embedded store, what lies beneath it, and the clock over it.
pub struct Bed {
    pub clock: Arc<ManualClock>,
    pub random: Arc<Seeded>,
    pub disk: Arc<Disk>,
    pub options: Options,
    /// Where the witness lies.
    pub directory: tempfile::TempDir,
    pub store: Option<EmbeddedStore>,
}

impl Bed {
    /// A store on a simulated disk, with a witness.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(RETENTION);
        options.cache = 1 << 20;
        options.witness = Some(directory.path().join("witness"));
        change(&mut options);
        let (clock, random) = (Arc::new(ManualClock::new(START)), Arc::new(Seeded::new(7)));
        let mut bed = Self { clock, random, disk: Arc::default(), options, directory, store: None };
        bed.reopen();
        bed
    }

    pub fn store(&self) -> &EmbeddedStore {
        self.store.as_ref().expect("open")
    }

    pub fn witness(&self) -> PathBuf {
        self.directory.path().join("witness")
    }

    pub fn try_open(&self, options: Options) -> Result<EmbeddedStore, OpenError> {
        let bytes: Arc<dyn Backing> = self.disk.clone();
        EmbeddedStore::with_backing(bytes, options, self.clock.clone(), &*self.random)
    }

    /// Stops it as a clean stop does, and starts it again.
    pub fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.try_open(self.options.clone()).unwrap());
    }

    pub fn reopen_accepting(&mut self, acceptance: Acceptance) {
        self.store = None;
        let options = Options { acceptance, ..self.options.clone() };
        self.store = Some(self.try_open(options).unwrap());
    }

    pub fn stop(&mut self) {
        self.store = None;
    }

    /// A copy of the stopped store's bytes.
    pub fn backup(&mut self) -> Vec<u8> {
        self.store = None;
        let copy = self.disk.bytes();
        self.reopen();
        copy
    }

    /// Puts other bytes in the place of the store's, and starts it again.
    pub fn put_back(&mut self, bytes: Vec<u8>, acceptance: Acceptance) {
        self.store = None;
        self.disk.replace(bytes);
        self.reopen_accepting(acceptance);
    }
}

pub fn subject(n: u8) -> SubjectRef {
    SubjectRef([n; 16])
}

pub fn client(name: &str) -> ClientId {
    name.parse().unwrap()
}

/// What every family of these tests belongs to unless it is said otherwise.
pub fn app() -> ClientId {
    client("app")
}

static OPENED: AtomicU64 = AtomicU64::new(1);

pub fn opening(of: SubjectRef) -> Opening {
    let mut random = [0; 10];
    // Not the last bytes: where a store has many parts, they say in which one the session lies.
    random[..8].copy_from_slice(&OPENED.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Opening {
        random,
        key: 1,
        subject: of,
        client: app(),
        lives: LIVES,
        cap: None,
        seal: Box::new(|_, _| b"sealed".to_vec()),
        audit: Draft::default(),
    }
}

pub async fn open<S: FamilyStore>(store: &S, of: SubjectRef) -> Family {
    store.open(opening(of)).await.unwrap().family().unwrap()
}

pub fn showing(family: &Family, generation: u32) -> Presentation {
    Presentation {
        id: family.id,
        generation: Generation(generation),
        secret: Secret::Right,
        holder: Holder::Named,
        seen: family.sealed.clone(),
        wide: false,
        subject: family.subject,
        client: app(),
        lives: LIVES,
        audit: Draft::default(),
        sight: None,
    }
}

pub async fn show<S: FamilyStore>(store: &S, family: &Family, generation: u32) -> Presented {
    store.present(showing(family, generation)).await.unwrap()
}

pub async fn verdict<S: FamilyStore>(store: &S, family: &Family, generation: u32) -> Verdict {
    show(store, family, generation).await.verdict
}

pub async fn head<S: FamilyStore>(store: &S, family: &Family) -> u32 {
    store.find(family.id).await.unwrap().unwrap().lineage.head.0
}

pub fn denial(target: Target, ends: Ends) -> Denial {
    Denial { target, ends, before: None, expires: None, reason: None, audit: Draft::default() }
}

/// An access token of this family minted at this instant.
pub fn bearer(family: &Family, minted: Timestamp) -> Bearer {
    Bearer {
        token: TokenId::new(minted, &[1; 10]),
        session: Some(family.id),
        subject: family.subject,
        client: app(),
        key: kid("k1"),
    }
}

pub fn kid(name: &str) -> Kid {
    name.parse().unwrap()
}

pub fn session(at: Timestamp, n: u8) -> SessionId {
    SessionId::new(at, &[n; 10])
}

/// Waits for a condition; five seconds are more than anything here takes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

/// The failures that a hook was told of, instead of ending the process.
pub fn listen(options: &mut Options) -> Arc<Mutex<Vec<String>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    options.on_sync_failure = Arc::new(move |e| sink.lock().unwrap().push(e.to_string()));
    heard
}

pub fn is_unavailable<T: std::fmt::Debug>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Failed(_) | StoreError::Busy))
}

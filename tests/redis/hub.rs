//! The hub: one order of all denials and one audit log, whichever node wrote what.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rescind::{
    clock::{Clock, ManualClock},
    model::{
        Timestamp, TokenId,
        audit::{Draft, Event, Outcome},
        chain::{Line, Walk},
        denial::{Bearer, Ends, Entry, Target},
        feed::{Item, PAGE},
    },
    store::{
        AuditQuery, AuditStore, Denial, DenyStore, EvidenceStore, LogTail, StoreError,
        embedded::{self, EmbeddedStore},
        redis::{Options, RedisStore},
    },
};

use crate::{
    common::{RETENTION, START, Seeded, app, client, denial, eventually, kid, millis, secs, subject},
    servers::Server,
};

/// Nodes that share a server and a clock.
struct Site {
    server: Server,
    clock: Arc<ManualClock>,
}

impl Site {
    fn new() -> Self {
        Self { server: Server::start(&[]), clock: Arc::new(ManualClock::new(START)) }
    }

    fn options() -> Options {
        // The clock of these tests stands still, and is not the server's.
        Options { skew: Duration::ZERO, margin: Duration::ZERO, ..Options::new(RETENTION) }
    }

    async fn node(&self) -> Arc<RedisStore> {
        self.try_node(Self::options()).await.unwrap()
    }

    async fn try_node(&self, options: Options) -> Result<Arc<RedisStore>, StoreError> {
        static SEEDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let random = Seeded::new(SEEDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) << 32);
        RedisStore::open(&self.server.url().parse().unwrap(), options, self.clock.clone(), Arc::new(random))
            .await
            .map(Arc::new)
    }

    async fn journaled(&self, path: PathBuf) -> Result<Arc<RedisStore>, StoreError> {
        self.try_node(Options { journal: Some(path), ..Self::options() }).await
    }
}

fn token(seed: u8, n: u64) -> TokenId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&n.to_le_bytes());
    random[7] = seed;
    // The last bytes say where it lies.
    random[8..].copy_from_slice(&(n as u16).wrapping_mul(40_503).to_be_bytes());
    TokenId::new(START, &random)
}

fn of_token(token: TokenId) -> Bearer {
    Bearer { token, session: None, subject: subject(1), client: app(), key: kid("k1") }
}

async fn deny<S: DenyStore>(store: &S, target: Target) -> Entry {
    store.deny(denial(target, Ends::Tokens)).await.unwrap().unwrap()
}

/// So many tokens at once, by so many callers.
async fn deny_many<S: DenyStore>(store: &Arc<S>, seed: u8, many: u64, callers: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let store = store.clone();
        tasks.spawn(async move {
            for n in (caller..many).step_by(usize::try_from(callers).unwrap()) {
                deny(&*store, Target::Token(token(seed, n))).await;
            }
        });
    }
    tasks.join_all().await;
}

async fn live<S: DenyStore>(store: &S) -> Vec<Entry> {
    store.entries(0, 100_000).await.unwrap().entries
}

/// All that a newcomer reads: pages and tail, each with its marks.
async fn read<S: DenyStore>(store: &S) -> (Vec<Item>, Vec<rescind::model::feed::Mark>, LogTail) {
    let tail = store.tail(None, PAGE).await.unwrap();
    let (mut items, mut marks, mut page) = (Vec::new(), Vec::new(), tail.first_page);
    while page < tail.head / PAGE {
        let part = store.page(page).await.unwrap().expect("it is between the first and the tail");
        items.extend(part.entries);
        marks.extend([part.from, part.to]);
        page = part.to.position / PAGE;
    }
    items.extend(tail.entries.iter().cloned());
    (items, marks, tail)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_acknowledged_another_denies_at_once() {
    let site = Site::new();
    let (a, b) = (site.node().await, site.node().await);
    for n in 0..50 {
        let token = token(1, n);
        assert!(!b.denied(of_token(token)).await.unwrap());
        deny(&*a, Target::Token(token)).await;
        assert!(b.denied(of_token(token)).await.unwrap(), "{n}");
    }
    deny(&*a, Target::Key(kid("k9"))).await;
    assert!(b.denied_key(&kid("k9")).await.unwrap());
    deny(&*b, Target::Subject(subject(7))).await;
    let bearer = Bearer { subject: subject(7), ..of_token(token(9, 9)) };
    assert!(a.denied(bearer).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_under_load_give_one_order_and_one_chain() {
    let site = Site::new();
    let (a, b) = (site.node().await, site.node().await);
    tokio::join!(deny_many(&a, 1, 400, 16), deny_many(&b, 2, 400, 16));
    let (of_a, of_b) = (live(&*a).await, live(&*b).await);
    assert!(of_a == of_b && of_a.len() == 800);
    assert!(of_a.iter().zip(1..).all(|(entry, n)| entry.position == n), "without gaps");
    assert!(read(&*a).await == read(&*b).await);
    // Whoever has read the log here goes on there.
    let tail = a.tail(None, PAGE).await.unwrap();
    deny(&*a, Target::All).await;
    b.denied(of_token(token(1, 1))).await.unwrap();
    let on = b.tail(Some((tail.epoch, tail.to)), PAGE).await.unwrap();
    assert_eq!((on.from, on.entries.len(), on.to), (tail.to, 1, a.tail(None, PAGE).await.unwrap().to));
    let records = b.audit(AuditQuery { limit: 10_000, ..AuditQuery::default() }).await.unwrap().records;
    assert_eq!(records.len(), 801, "one record for each");
    let mut previous = [0; 32];
    for record in &records {
        assert_eq!(record.link.previous, previous);
        previous = rescind::model::chain::digest_of(record).0;
    }
    assert_eq!(a.audit_head().await.unwrap().head.digest.0, previous);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_later_gets_all_that_lives() {
    let site = Site::new();
    let a = site.node().await;
    deny(&*a, Target::Key(kid("k1"))).await;
    a.deny(denial(Target::Subject(subject(3)), Ends::Sessions)).await.unwrap().unwrap();
    deny_many(&a, 1, 2500, 64).await;
    deny(&*a, Target::Client(client("c"))).await;
    let b = site.node().await;
    assert!(live(&*b).await == live(&*a).await);
    assert!(read(&*b).await == read(&*a).await);
    let marks = a.tail(None, PAGE).await.unwrap();
    let on = b.tail(Some((marks.epoch, marks.to)), PAGE).await.unwrap();
    assert_eq!((on.from, on.entries.len()), (marks.to, 0), "a follower of one node goes on at the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_owed_is_taken_over() {
    let site = Site::new();
    let (a, b) = (site.node().await, site.node().await);
    // Nobody gets a turn in the hub: the change is made in its bucket, and that is all.
    site.server.ask::<()>(&["SET", "rescind:{hub}:turn", "somebody else"]);
    let token = token(1, 1);
    let refused = a.deny(denial(Target::Token(token), Ends::Tokens)).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    assert_eq!(live(&*b).await, []);
    drop(a);
    site.server.ask::<()>(&["DEL", "rescind:{hub}:turn"]);
    let _c = site.node().await;
    eventually("what was owed reaches those who follow another node", || async {
        !b.tail(None, PAGE).await.unwrap().entries.is_empty()
    })
    .await;
    assert!(b.denied(of_token(token)).await.unwrap());
    let records = b.audit(AuditQuery { limit: 10, ..AuditQuery::default() }).await.unwrap().records;
    assert_eq!(records.iter().map(|r| r.event).collect::<Vec<_>>(), [Event::Revoked], "once, and not again");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_denials_a_second() {
    let site = Site::new();
    let place = tempfile::tempdir().unwrap();
    for (what, journal) in [("in memory", None), ("on disk", Some(place.path().join("journal.redb")))] {
        let a = site.try_node(Options { journal, ..Site::options() }).await.unwrap();
        let (seed, clock) = (u8::from(what == "on disk"), rescind::clock::SystemClock::default());
        let began = clock.monotonic();
        deny_many(&a, seed, 4000, 64).await;
        let took = (clock.monotonic() - began).as_secs_f64();
        println!("64 callers, journal {what}: {:.0} denials a second", 4000.0 / took);
    }
}

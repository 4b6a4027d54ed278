//! The hub: one order of all denials and one audit log, whichever node wrote what.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rescind::{
    clock::{Clock, ManualClock},
    model::{
        SubjectRef, TokenId,
        audit::{Draft, Event, Outcome},
        chain::{Head, digest_of},
        denial::{Bearer, Ends, Entry, Target},
        family::Standing,
        feed::{Item, PAGE},
    },
    store::{
        AuditQuery, AuditStore, Denial, DenyStore, EvidenceStore, FamilyStore as _, LogTail, Notary, StoreError,
        embedded::{self, EmbeddedStore},
        redis::{Options, RedisStore},
    },
};

use crate::{
    common::{LEASE, RETENTION, START, Seeded, app, client, denial, eventually, kid, millis, secs, subject},
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
        Options { skew: Duration::ZERO, margin: Duration::ZERO, lease: LEASE, ..Options::new(RETENTION) }
    }

    async fn node(&self) -> Arc<RedisStore> {
        self.try_node(Self::options()).await.unwrap()
    }

    /// One that is given more than it can do on a machine that has other work, and must not lose its lease by that.
    async fn patient_node(&self) -> Arc<RedisStore> {
        self.try_node(Options { lease: LEASE * 3, ..Self::options() }).await.unwrap()
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

/// What a node signs as complete is complete, also where it has not heard of the news yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_tail_has_all_that_any_node_has_acknowledged() {
    let site = Site::new();
    let (a, b) = (site.node().await, site.node().await);
    for n in 0..100 {
        let entry = deny(&*a, Target::Token(token(1, n))).await;
        // Several at once share a look, and none an earlier one.
        let tails = tokio::join!(b.tail(None, PAGE), b.tail(None, PAGE), b.tail(None, PAGE));
        for tail in [tails.0, tails.1, tails.2] {
            assert_eq!(tail.unwrap().head, entry.position);
        }
    }
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
        previous = digest_of(record).0;
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
    let _: () = site.server.ask(&["SET", "rescind:{hub}:turn", "somebody else"]);
    let token = token(1, 1);
    let refused = a.deny(denial(Target::Token(token), Ends::Tokens)).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    assert_eq!(live(&*b).await, []);
    drop(a);
    let _: u64 = site.server.ask(&["DEL", "rescind:{hub}:turn"]);
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
async fn a_store_that_was_emptied_is_seen_and_its_log_is_rebuilt_from_what_nodes_know() {
    let site = Site::new();
    let a = site.node().await;
    deny_many(&a, 1, 300, 16).await;
    a.deny(denial(Target::Subject(subject(3)), Ends::Sessions)).await.unwrap().unwrap();
    deny(&*a, Target::Key(kid("k9"))).await;
    let before = a.tail(None, PAGE).await.unwrap();
    let _: () = site.server.ask(&["FLUSHALL"]);
    let token = token(1, 7);
    // Whether it is before or after this node has taken note: nothing is said that is not so.
    for _ in 0..20 {
        assert!(a.denied(of_token(token)).await.unwrap_or(true));
        if let Ok(tail) = a.tail(None, PAGE).await {
            assert_eq!(tail.entries.len(), before.entries.len());
        }
    }
    eventually("what is known here is in the store again", || async { a.standing() == Standing::Wiped }).await;
    let b = site.node().await;
    assert_eq!(live(&*b).await.len(), 302);
    assert!(b.denied(of_token(token)).await.unwrap());
    assert!(b.denied_key(&kid("k9")).await.unwrap());
    eventually("both give one log", || async { read(&*a).await == read(&*b).await }).await;
    let tail = a.tail(Some((before.epoch, before.to)), PAGE).await.unwrap();
    assert_ne!(tail.epoch, before.epoch, "whoever followed reads it anew");
    assert_eq!(tail.entries.len(), 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_outlives_its_node_and_the_store() {
    let site = Site::new();
    let place = tempfile::tempdir().unwrap();
    let journal = place.path().join("journal.redb");
    let a = site.journaled(journal.clone()).await.unwrap();
    deny_many(&a, 1, 100, 16).await;
    let before = read(&*a).await;
    drop(a);
    // Its tasks let go of the file in a moment.
    let a = reopened(&site, &journal).await;
    assert!(read(&*a).await == before);
    drop(a);
    let _: () = site.server.ask(&["FLUSHALL"]);
    let _a = reopened(&site, &journal).await;
    let b = site.node().await;
    assert_eq!(live(&*b).await.len(), 100, "what the journal holds is denied again");
}

async fn reopened(site: &Site, journal: &std::path::Path) -> Arc<RedisStore> {
    for _ in 0..500 {
        match site.journaled(journal.to_owned()).await {
            Ok(store) => return store,
            Err(error) => assert!(error.to_string().contains("another process"), "{error}"),
        }
        tokio::time::sleep(millis(10)).await;
    }
    panic!("the journal is held for ever");
}

/// Random games: what is denied by turns through two nodes, and what an embedded store says of the same.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_and_an_embedded_store_hold_the_same_list_with_the_same_digests() {
    let (mut games, mut followed) = (0, 0);
    for seed in 0..6 {
        let site = Site::new();
        let random = Seeded::new(seed);
        let nodes = [site.node().await, site.node().await];
        let options = embedded::Options::new(RETENTION);
        let single = EmbeddedStore::in_memory(options, site.clock.clone(), &Seeded::new(99)).unwrap();
        let (mut place, mut place_of_single): (Option<LogTail>, Option<LogTail>) = (None, None);
        for round in 0..80 {
            let target = match random.below(12) {
                0..6 => Target::Token(token(9, random.below(30))),
                6 | 7 => Target::Subject(subject(u8::try_from(random.below(3)).unwrap())),
                8 | 9 => Target::Client(client(&format!("c{}", random.below(2)))),
                10 => Target::Key(kid(&format!("k{}", random.below(3)))),
                _ => Target::All,
            };
            let ends = if random.below(2) == 0 { Ends::Sessions } else { Ends::Tokens };
            let now = site.clock.now();
            let asked = Denial {
                before: (random.below(3) == 0).then(|| now.minus(millis(random.below(5000)))),
                expires: (random.below(2) == 0).then(|| now.plus(secs(random.below(300)))),
                reason: (random.below(3) == 0).then(|| "an operator's word".into()),
                ..denial(target, ends)
            };
            let which = usize::try_from(random.below(2)).unwrap();
            let (here, there) = (nodes[which].deny(asked.clone()).await, single.deny(asked.clone()).await);
            assert_eq!(here.unwrap(), there.unwrap(), "seed {seed}, round {round}: {asked:?}");
            if random.below(4) == 0 {
                site.clock.advance(millis(random.below(200_000)));
            }
            let other = &nodes[1 - which];
            assert_eq!(live(&**other).await, live(&single).await, "seed {seed}, round {round}");
            // A follower that goes from one node to the other reads what one of the embedded store does.
            let ask = |tail: &Option<LogTail>| tail.as_ref().map(|tail| (tail.epoch, tail.to));
            let tail = other.tail(ask(&place), PAGE).await.unwrap();
            let expected = single.tail(ask(&place_of_single), PAGE).await.unwrap();
            assert_eq!((tail.to, tail.head, tail.now), (expected.to, expected.head, expected.now));
            // Who has let go of the place sooner begins with the last page.
            let both = tail.from == expected.from;
            let (longer, shorter) = if tail.from.position <= expected.from.position {
                (&tail.entries, &expected.entries)
            } else {
                (&expected.entries, &tail.entries)
            };
            assert!(longer.ends_with(shorter) && (!both || longer == shorter), "seed {seed}, round {round}");
            followed += u64::from(both);
            (place, place_of_single) = (Some(tail), Some(expected));
            games += 1;
        }
    }
    assert!(followed > games / 2, "{followed} of {games} followers went on where they stood");
    println!("{games} denials, two nodes, one embedded store beside them: no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_trimmed_to_the_first_that_lives_and_what_lives_long_does_not_hold_it_up() {
    let site = Site::new();
    let (a, b) = (site.node().await, site.node().await);
    deny(&*a, Target::Key(kid("k1"))).await;
    let cut = a.deny(denial(Target::Client(client("c")), Ends::Sessions)).await.unwrap().unwrap();
    deny_many(&a, 1, 600, 32).await;
    let length = |name: &str| site.server.ask::<u64>(&["XLEN", &format!("rescind:{{hub}}:{name}")]);
    let held = length("log");
    assert!((600..=602).contains(&held), "{held}: what lives long may have left the log already");
    assert_eq!(length("kept"), 2);
    site.clock.advance(secs(600));
    eventually("what has expired is trimmed", || async { length("log") == 0 }).await;
    assert_eq!(length("kept"), 2);
    let later = deny(&*b, Target::Token(token(2, 1))).await;
    let c = site.node().await;
    let targets = |entries: Vec<Entry>| entries.into_iter().map(|e| e.position).collect::<Vec<_>>();
    assert_eq!(targets(live(&*c).await), [1, 2, later.position], "a key, a cut-off of sessions, and the newest");
    assert!(read(&*c).await == read(&*a).await);
    site.clock.advance(cut.kept_until.since(site.clock.now()));
    eventually("what is over is kept no longer", || async { length("kept") == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_by_the_thousand_is_trimmed_as_fast() {
    let site = Site::new();
    let a = site.patient_node().await;
    deny_many(&a, 1, 3500, 64).await;
    site.clock.advance(secs(600));
    eventually("seven hundred a second leave, and more", || async {
        site.server.ask::<u64>(&["XLEN", "rescind:{hub}:log"]) == 0
    })
    .await;
    // Whoever comes then finds out what was before.
    let later = deny(&*a, Target::Token(token(2, 1))).await;
    let b = site.patient_node().await;
    assert_eq!(live(&*b).await, [later]);
    assert!(read(&*b).await == read(&*a).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_first_that_lives_lies_amid_others_is_read_by_whoever_joins() {
    let site = Site::new();
    let a = site.patient_node().await;
    for lot in 0..3 {
        deny_many(&a, lot, 130, 16).await;
        site.clock.advance(secs(120));
    }
    // The first lot has expired, in the middle of a hundred.
    site.clock.advance(secs(365 - 3 * 120 + 5));
    let length = || site.server.ask::<u64>(&["XLEN", "rescind:{hub}:log"]);
    eventually("it is trimmed", || async { length() < 390 }).await;
    assert!((260..360).contains(&length()), "{}", length());
    let b = site.patient_node().await;
    assert!(live(&*b).await == live(&*a).await && live(&*b).await.len() == 260);
    assert!(read(&*b).await == read(&*a).await);
    // Both go on from there.
    for n in 0..20 {
        deny(if n % 2 == 0 { &*a } else { &*b }, Target::Token(token(9, n))).await;
    }
    assert!(read(&*b).await == read(&*a).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_words_are_everywhere_until_they_are_erased() {
    let site = Site::new();
    let (a, b) = (site.node().await, site.node().await);
    let draft = |name: &str| Draft { subject: Some(name.parse().unwrap()), ..Draft::default() };
    let asked = Denial {
        reason: Some("alice lost her phone".into()),
        audit: draft("alice"),
        ..denial(Target::Subject(subject(1)), Ends::Sessions)
    };
    a.deny(asked).await.unwrap().unwrap();
    for _ in 0..3 {
        b.record(Event::Alert, Outcome::Done, None, draft("bob")).await.unwrap();
        a.record(Event::Alert, Outcome::Done, None, draft("alice")).await.unwrap();
    }
    assert_eq!(live(&*b).await[0].reason.as_deref(), Some("alice lost her phone"));
    let tail = b.tail(None, PAGE).await.unwrap();
    let erased = b.erase("alice".parse().unwrap(), subject(1), 0, Draft::default()).await.unwrap();
    assert_eq!((erased.records, erased.entries, erased.next), (4, 1, None));
    assert_eq!(live(&*a).await[0].reason, None);
    assert!(a.denied(Bearer { subject: subject(1), ..of_token(token(1, 1)) }).await.unwrap(), "it protects as before");
    assert_eq!(a.tail(None, PAGE).await.unwrap().to, tail.to);
    let records = a.audit(AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap().records;
    assert!(records.iter().all(|r| r.subject.as_ref().is_none_or(|s| s.as_str() == "bob")));
    assert!(records.iter().all(|r| r.cause.as_deref().is_none_or(|c| !c.contains("phone"))));
    assert_eq!(records.last().unwrap().event, Event::SubjectErased);
    let chained = records.windows(2).all(|pair| digest_of(&pair[0]).0 == pair[1].link.previous);
    assert!(chained, "the chain holds");
}

/// Signs by saying so.
struct Scribe;

impl Notary for Scribe {
    fn refer(&self, _: &rescind::model::Subject) -> SubjectRef {
        subject(9)
    }
    fn attest(&self, head: &Head) -> String {
        format!("{} by scribe", serde_json::to_string(head).unwrap())
    }
    fn attested(&self, statement: &str) -> Option<Head> {
        serde_json::from_str(statement.strip_suffix(" by scribe")?).ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_that_was_changed_is_told_by_whoever_sees_it_next() {
    let site = Site::new();
    let (a, b) = (site.node().await, site.node().await);
    a.employ(Arc::new(Scribe));
    b.employ(Arc::new(Scribe));
    let note =
        async |store: &RedisStore| store.record(Event::Alert, Outcome::Done, None, Draft::default()).await.unwrap();
    for _ in 0..5 {
        note(&a).await;
        note(&b).await;
    }
    let head = a.audit_head().await.unwrap();
    assert_eq!((head.head.sequence, head.broken, head.alarm), (10, None, None));
    assert_eq!(Scribe.attested(&head.statement.unwrap()), Some(head.head));
    a.move_cursor("reader", 500).await.unwrap();
    // Somebody else's word on it: a node that knows what it has written itself is told nothing new by that.
    let _: () = site.server.ask(&["SET", "rescind:{hub}:statement", "all is well"]);
    let c = site.node().await;
    c.employ(Arc::new(Scribe));
    eventually("who sees it first asks whose word it is", || async { c.audit_head().await.unwrap().broken.is_some() })
        .await;
    let told = a.audit_head().await.unwrap();
    assert_eq!((told.broken, told.alarm), (Some(11), Some(11)));
    assert_eq!(Scribe.attested(&told.statement.unwrap()), Some(told.head), "it goes on, signed");
    assert_eq!(a.cursor("reader").await.unwrap(), Some(10), "nobody has read beyond it");
    let records = a.audit(AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap().records;
    assert_eq!(records.iter().filter(|r| r.event == Event::AuditBroken).count(), 1, "told once");
    // Gone while nobody looked.
    let _: () = site.server.ask(&["LSET", "rescind:{hub}:audit:0", "-1", "nothing"]);
    let d = site.node().await;
    d.employ(Arc::new(Scribe));
    eventually("a node that starts looks at the newest", || async {
        d.audit_head().await.unwrap().broken.is_some_and(|broken| broken > 11)
    })
    .await;
}

//! A log that the test writes and signs itself, and a follower that is shown true and false parts of it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::Signer;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    clock::{SystemRandom, random_bytes},
    model::{
        Algorithm, Jwk, PublicKey, Timestamp, TokenId,
        denial::{Bearer, Ends, Target},
        feed::{Digest, Item, PAGE_TYPE, Page, TAIL_TYPE, Tail},
    },
};

const ISSUER: &str = "https://issuer.test";
const EPOCH: Epoch = Epoch([1; 16]);
const STALENESS: Duration = Duration::from_secs(30);

struct Key(ed25519_dalek::SigningKey);

impl Key {
    fn new() -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&random_bytes(&SystemRandom)))
    }
    fn public(&self) -> PublicKey {
        PublicKey::from_bytes(&self.0.verifying_key().to_bytes()).unwrap()
    }
    fn set(&self) -> JwkSet {
        let key = self.public();
        JwkSet { keys: vec![Jwk { kid: key.thumbprint(), algorithm: Algorithm::EdDSA, key }] }
    }
    fn sign(&self, kind: &str, what: &impl Serialize) -> String {
        let header = json!({"typ": kind, "alg": "EdDSA", "kid": self.public().thumbprint()});
        let encode = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
        let input = format!("{}.{}", encode(header.to_string()), encode(serde_json::to_string(what).unwrap()));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.0.sign(input.as_bytes()).to_bytes());
        format!("{input}.{signature}")
    }
}

/// One entry per position, none expired unless it is said.
struct Log {
    key: Key,
    epoch: Epoch,
    items: Vec<Item>,
    /// Makes another log of the same entries.
    salt: u8,
}

fn token(n: u64) -> TokenId {
    let mut random = [7; 10];
    random[..8].copy_from_slice(&n.to_be_bytes());
    TokenId::new(Timestamp::from_seconds(1000), &random)
}

impl Log {
    fn of(entries: u64) -> Self {
        let mut log = Self { key: Key::new(), epoch: EPOCH, items: Vec::new(), salt: 0 };
        log.grow(entries);
        log
    }
    fn grow(&mut self, by: u64) {
        for _ in 0..by {
            let position = self.head() + 1;
            let until = Timestamp::from_seconds(5000);
            let (target, ends, before) = (Target::Token(token(position)), Ends::default(), Timestamp::default());
            self.items.push(Item { position, target, ends, before, until });
        }
    }
    fn head(&self) -> u64 {
        self.items.last().map_or(0, |item| item.position)
    }
    fn mark(&self, position: u64) -> Mark {
        let hash = |n: u64| Sha256::digest([&n.to_be_bytes()[..], &[self.salt]].concat());
        Mark { position, digest: Digest(hash(position).into()) }
    }
    fn between(&self, from: u64, to: u64) -> Vec<Item> {
        self.items.iter().filter(|item| (from + 1..=to).contains(&item.position)).cloned().collect()
    }
    fn tail(&self, question: &Question, from: u64, to: u64) -> Tail {
        Tail {
            issuer: ISSUER.into(),
            nonce: question.nonce,
            epoch: self.epoch,
            from: self.mark(from),
            to: self.mark(to),
            head: self.head(),
            first_page: 0,
            now: Timestamp::from_seconds(2000),
            waited: 0,
            pause: None,
            keys: KeysVersion([0; 32]),
            entries: self.between(from, to),
        }
    }
    fn page(&self, page: u64, to: u64) -> Page {
        let (from, to) = (page * PAGE, to * PAGE);
        let entries = self.between(from, to).into_iter().take(1000).collect();
        Page { issuer: ISSUER.into(), epoch: self.epoch, from: self.mark(from), to: self.mark(to), entries }
    }
}

struct Bench {
    follower: Follower,
    replica: Replica,
    now: Duration,
}

impl Bench {
    fn new(log: &Log) -> Self {
        let follower = Follower::new(ISSUER, log.key.set(), STALENESS);
        Self { follower, replica: Replica::new(100_000), now: Duration::from_secs(10) }
    }
    fn ask(&self) -> Question {
        Question { nonce: Nonce(random_bytes(&SystemRandom)), sent: self.now }
    }
    fn hear(&mut self, question: &Question, answer: &str) -> Result<Heard, FeedError> {
        self.follower.hear_tail(question, answer, self.now, &self.replica)
    }
    /// A true tail.
    fn follow(&mut self, log: &Log, from: u64, to: u64) -> Result<Heard, FeedError> {
        let question = self.ask();
        self.hear(&question, &log.key.sign(TAIL_TYPE, &log.tail(&question, from, to)))
    }
    fn read(&mut self, log: &Log, page: &Page) -> Result<(), FeedError> {
        self.follower.hear_page(&log.key.sign(PAGE_TYPE, page), self.now, &self.replica)
    }
    fn is_fresh(&self) -> bool {
        self.replica.check_fresh(self.now).is_ok()
    }
    fn denies(&self, n: u64) -> bool {
        let bearer = Bearer {
            token: token(n),
            session: None,
            subject: crate::model::SubjectRef([0; 16]),
            client: "app".parse().unwrap(),
            key: "k".parse().unwrap(),
        };
        self.replica.denies(&bearer)
    }
}

#[test]
fn a_short_log_is_read_at_once_and_followed() {
    let mut log = Log::of(3);
    let mut b = Bench::new(&log);
    assert!(!b.is_fresh(), "before the first answer");
    b.follow(&log, 0, 3).unwrap();
    assert!(b.is_fresh() && (1..=3).all(|n| b.denies(n)) && !b.denies(4));
    log.grow(1);
    assert_eq!(b.follow(&log, 3, 4).unwrap().entries, 1);
    assert!(b.denies(4));
    assert_eq!(b.follower.next(), Next::Tail { wait: true });
}

#[test]
fn only_the_answer_to_our_question_is_taken() {
    let log = Log::of(3);
    let mut b = Bench::new(&log);
    let question = b.ask();
    let good = log.tail(&question, 0, 3);
    let signed = log.key.sign(TAIL_TYPE, &good);
    let stranger = Key::new();
    let cut = Tail { entries: good.entries[..2].to_vec(), ..good.clone() };
    let (head, rest) = signed.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let cut_unsigned = format!("{head}.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(json!(cut).to_string()));
    let reordered = Tail { entries: good.entries.iter().rev().cloned().collect(), ..good.clone() };
    let outside = Tail { to: log.mark(2), ..good.clone() };
    let backwards = Tail { from: log.mark(3), to: log.mark(0), entries: vec![], ..good.clone() };
    let beyond = Tail { head: 2, ..good.clone() };
    let other = Tail { issuer: "https://issuer.tes".into(), ..good.clone() };
    let old = log.tail(&b.ask(), 0, 3);
    for (name, answer) in [
        ("forged", stranger.sign(TAIL_TYPE, &good)),
        ("cut after signing", cut_unsigned),
        ("reordered", log.key.sign(TAIL_TYPE, &reordered)),
        ("an entry outside", log.key.sign(TAIL_TYPE, &outside)),
        ("backwards", log.key.sign(TAIL_TYPE, &backwards)),
        ("beyond its own head", log.key.sign(TAIL_TYPE, &beyond)),
        ("another issuer's", log.key.sign(TAIL_TYPE, &other)),
        ("another nonce's, played back", log.key.sign(TAIL_TYPE, &old)),
        ("a page as a tail", log.key.sign(PAGE_TYPE, &good)),
        ("a token as a tail", log.key.sign("at+jwt", &good)),
        ("no type", log.key.sign("", &good)),
        ("half of it", signed[..signed.len() / 2].to_owned()),
        ("nothing", String::new()),
        (
            "an unknown kind of entry",
            log.key.sign(TAIL_TYPE, &{
                let mut json = json!(good);
                json["entries"] = json!([{"n": 1, "device": "x", "until": 5_000_000}]);
                json
            }),
        ),
    ] {
        assert!(b.hear(&question, &answer).is_err(), "{name}");
        assert!(!b.is_fresh(), "{name}");
    }
    assert!(b.hear(&question, &signed).is_ok(), "the true one is taken all the same");
    assert!(b.is_fresh());
}

#[test]
fn a_part_of_the_log_proves_nothing_until_the_rest_is_read() {
    let log = Log::of(30);
    let mut b = Bench::new(&log);
    b.follow(&log, 0, 10).unwrap();
    assert!(!b.is_fresh(), "20 entries are missing");
    assert_eq!(b.follower.next(), Next::Tail { wait: false });
    b.follow(&log, 10, 30).unwrap();
    assert!(b.is_fresh());
}

#[test]
fn history_is_read_before_anything_is_accepted() {
    let log = Log::of(3 * PAGE + 5);
    let mut b = Bench::new(&log);
    b.follow(&log, 3 * PAGE, log.head()).unwrap();
    for page in 0..3 {
        assert!(!b.is_fresh());
        assert_eq!(b.follower.next(), Next::Page { epoch: EPOCH, page, again: false });
        b.read(&log, &log.page(page, page + 1)).unwrap();
    }
    assert!(b.is_fresh());
    assert!((1..=log.head()).all(|n| b.denies(n)));
}

#[test]
fn pages_of_another_log_do_not_join() {
    let log = Log::of(2 * PAGE + 5);
    let other = Log { key: Key(log.key.0.clone()), epoch: EPOCH, items: log.items.clone(), salt: 1 };
    let epoch = Log { key: Key(log.key.0.clone()), epoch: Epoch([2; 16]), items: log.items.clone(), salt: 0 };
    let last = || other.page(1, 2);
    let second_of_other = Page { from: log.mark(PAGE), ..last() };
    for (name, first, second) in [
        ("the first is of another epoch", epoch.page(0, 1), None),
        ("the first is the second", log.page(1, 2), None),
        ("the second does not begin where the first ends", log.page(0, 1), Some(other.page(1, 2))),
        ("the last does not end where the tail begins", log.page(0, 1), Some(second_of_other)),
    ] {
        let mut b = Bench::new(&log);
        b.follow(&log, 2 * PAGE, log.head()).unwrap();
        let heard = b.read(&log, &first).and_then(|()| second.map_or(Ok(()), |page| b.read(&log, &page)));
        assert_eq!(heard, Err(FeedError::Discontinuous), "{name}");
        assert!(!b.is_fresh(), "{name}");
        b.follower.begin_again();
        assert_eq!(b.follower.next(), Next::Tail { wait: false }, "{name}");
    }
}

#[test]
fn pages_join_one_another_and_not_only_the_ends() {
    let log = Log::of(3 * PAGE + 5);
    let other = Log { key: Key(log.key.0.clone()), epoch: EPOCH, items: log.items.clone(), salt: 1 };
    let mut b = Bench::new(&log);
    b.follow(&log, 3 * PAGE, log.head()).unwrap();
    b.read(&log, &log.page(0, 1)).unwrap();
    let middle = Page { to: log.mark(2 * PAGE), ..other.page(1, 2) };
    assert_eq!(b.read(&log, &middle), Err(FeedError::Discontinuous));
    assert!(!b.is_fresh());
}

#[test]
fn only_a_true_page_is_read() {
    let log = Log::of(2 * PAGE + 5);
    let page = log.page(0, 1);
    let many = (0..=PAGE).map(|n| Item { position: n + 1, ..page.entries[0].clone() }).collect();
    for (name, bad) in [
        ("another issuer's", Page { issuer: "https://issuer.tes".into(), ..page.clone() }),
        ("it ends within a page", Page { to: log.mark(PAGE + 1), ..page.clone() }),
        ("it begins within a page", Page { from: log.mark(1), ..log.page(0, 1) }),
        ("it spans nothing", Page { to: page.from, entries: vec![], ..page.clone() }),
        ("more entries than any answer holds", Page { to: log.mark(2 * PAGE), entries: many, ..page.clone() }),
        ("out of order", Page { entries: page.entries.iter().rev().cloned().collect(), ..page.clone() }),
    ] {
        let mut b = Bench::new(&log);
        b.follow(&log, 2 * PAGE, log.head()).unwrap();
        assert!(b.read(&log, &bad).is_err(), "{name}");
        assert!(!b.is_fresh(), "{name}");
    }
}

#[test]
fn caches_are_passed_by_once_they_have_misled_and_not_for_ever() {
    let log = Log::of(PAGE + 5);
    let mut b = Bench::new(&log);
    b.follow(&log, PAGE, log.head()).unwrap();
    b.follower.begin_again();
    b.follow(&log, PAGE, log.head()).unwrap();
    assert_eq!(b.follower.next(), Next::Page { epoch: EPOCH, page: 0, again: true });
    b.read(&log, &log.page(0, 1)).unwrap();
    assert!(b.is_fresh());
    let again = Log { key: Key(log.key.0.clone()), epoch: Epoch([2; 16]), items: log.items.clone(), salt: 0 };
    b.follow(&again, PAGE, again.head()).unwrap();
    assert_eq!(b.follower.next(), Next::Page { epoch: again.epoch, page: 0, again: false });
}

#[test]
fn a_page_that_spans_more_than_the_tail_must_be_joined_by_the_next_one() {
    let mut log = Log::of(2 * PAGE + 5);
    let mut b = Bench::new(&log);
    b.follow(&log, 2 * PAGE, log.head()).unwrap();
    log.items.retain(|item| item.position <= PAGE || item.position > 2 * PAGE + 4);
    log.grow(PAGE);
    log.items.retain(|item| item.position <= PAGE || item.position > 3 * PAGE);
    b.read(&log, &log.page(0, 3)).unwrap();
    assert!(!b.is_fresh(), "what the tail said is not known to belong to this log");
    b.follow(&log, 3 * PAGE, log.head()).unwrap();
    assert!(b.is_fresh());
}

#[test]
fn another_log_is_read_from_its_start_and_nothing_is_forgotten() {
    let log = Log::of(5);
    let mut b = Bench::new(&log);
    b.follow(&log, 0, 5).unwrap();
    // The store came back older: positions 3 to 5 were given again, to others.
    let mut again = Log { key: Key(log.key.0.clone()), epoch: EPOCH, items: log.items[..2].to_vec(), salt: 1 };
    again.grow(2 * PAGE);
    b.now += STALENESS * 2;
    assert!(!b.is_fresh());
    b.follow(&again, 2 * PAGE, again.head()).unwrap();
    assert!(!b.is_fresh(), "the history of this log is not known");
    assert!((1..=5).all(|n| b.denies(n)), "what was known stays");
    b.read(&again, &again.page(0, 1)).unwrap();
    b.read(&again, &again.page(1, 2)).unwrap();
    assert!(b.is_fresh() && b.denies(4) && b.denies(2 * PAGE));
}

#[test]
fn a_log_that_forgot_where_we_are_goes_on_from_the_last_whole_page() {
    let mut log = Log::of(PAGE);
    let mut b = Bench::new(&log);
    b.follow(&log, 0, PAGE).unwrap();
    log.grow(5);
    b.follow(&log, PAGE, log.head()).unwrap();
    log.grow(5);
    b.now += STALENESS * 2;
    b.follow(&log, PAGE, log.head()).unwrap();
    assert!(b.is_fresh(), "that page's end was passed and is known");
}

#[test]
fn freshness_counts_from_when_the_answer_must_have_been_signed() {
    let log = Log::of(1);
    let mut b = Bench::new(&log);
    let question = b.ask();
    let tail = Tail { waited: 9_000, ..log.tail(&question, 0, 1) };
    b.now += Duration::from_secs(12);
    b.hear(&question, &log.key.sign(TAIL_TYPE, &tail)).unwrap();
    b.now = question.sent + Duration::from_secs(9) + STALENESS - Duration::from_millis(1);
    assert!(b.is_fresh());
    b.now += Duration::from_millis(1);
    assert!(!b.is_fresh());
    // A lie about waiting buys nothing beyond the moment of receipt.
    let question = b.ask();
    let tail = Tail { waited: u64::MAX, ..log.tail(&question, 1, 1) };
    b.now += Duration::from_secs(1);
    b.hear(&question, &log.key.sign(TAIL_TYPE, &tail)).unwrap();
    b.now += STALENESS;
    assert!(!b.is_fresh());
}

#[test]
fn at_the_cap_it_refuses_and_forgets_nothing() {
    let mut log = Log::of(4);
    let mut b = Bench::new(&log);
    b.replica = Replica::new(6);
    b.follow(&log, 0, 4).unwrap();
    log.grow(4);
    assert_eq!(b.follow(&log, 4, 8).err(), Some(FeedError::Full));
    assert_eq!(b.replica.check_fresh(b.now), Err(crate::verifier::Unavailable::Full), "at once");
    assert!((1..=4).all(|n| b.denies(n)));
    // The same entries again change nothing for the better, and nothing for the worse.
    assert_eq!(b.follow(&log, 4, 8).err(), Some(FeedError::Full));
    // Once the issuer's clock has passed the end of the old ones there is room.
    for item in &mut log.items[..4] {
        item.until = Timestamp::from_seconds(1000);
    }
    // Sooner than it would look for them by itself.
    let question = b.ask();
    b.now += SWEEP / 15;
    let later = Tail { now: Timestamp::from_seconds(5001), ..log.tail(&question, 4, 8) };
    let items =
        later.entries.iter().map(|item| Item { until: Timestamp::from_seconds(9000), ..item.clone() }).collect();
    b.hear(&question, &log.key.sign(TAIL_TYPE, &Tail { entries: items, ..later })).unwrap();
    assert!(b.is_fresh() && b.denies(8) && !b.denies(1));
}

#[test]
fn entries_leave_by_the_issuers_clock_alone() {
    let mut log = Log::of(2);
    log.items[0].until = Timestamp::from_seconds(2100);
    let mut b = Bench::new(&log);
    b.follow(&log, 0, 2).unwrap();
    b.now += Duration::from_secs(3600);
    b.follow(&log, 2, 2).unwrap();
    assert!(b.denies(1), "an hour has passed here, but not for the issuer");
    b.now += SWEEP;
    let question = b.ask();
    let tail = Tail { now: Timestamp::from_seconds(2100), ..log.tail(&question, 2, 2) };
    b.hear(&question, &log.key.sign(TAIL_TYPE, &tail)).unwrap();
    assert!(!b.denies(1) && b.denies(2));
}

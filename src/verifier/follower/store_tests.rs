//! Followers of a real store that grows, expires and is read through a cache that keeps pages for ever, in any order of
//! events: whoever has read to the end knows all that is alive, and nobody is kept from getting there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::HashMap, sync::Arc};

use super::*;
use crate::{
    clock::{Clock, ManualClock, SystemRandom, random_bytes},
    feed::{Ask, Feed},
    keyring::{Keyring, Settings, schedule::Timing},
    model::{
        Algorithm, SubjectRef, Timestamp, TokenId,
        audit::Draft,
        denial::{Bearer, Ends, Entry, Retention, Target},
    },
    store::{
        Denial, DenyStore,
        embedded::{EmbeddedStore, Options},
    },
};

const ISSUER: &str = "https://issuer.test";

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The same for the same seed (Steele and Vigna's SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
    fn one_of<const N: usize>(&mut self, of: [u64; N]) -> u64 {
        of[usize::try_from(self.below(N as u64)).unwrap()]
    }
}

struct World {
    clock: Arc<ManualClock>,
    store: Arc<EmbeddedStore>,
    feed: Feed<EmbeddedStore>,
    keys: JwkSet,
    entries: Vec<Entry>,
    kept: HashMap<u64, String>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_795_374_805)));
        let timing = Timing::default();
        let settings = Settings { algorithm: Algorithm::EdDSA, timing };
        let keyring = Arc::new(Keyring::ephemeral(settings, clock.clone(), Arc::new(SystemRandom)).unwrap());
        let options = Options::new(Retention { access: secs(300), session: secs(7200) });
        let store = Arc::new(EmbeddedStore::in_memory(options, clock.clone(), &SystemRandom).unwrap());
        let keys = JwkSet { keys: vec![keyring.feed_key().jwk()] };
        let feed = Feed::new(ISSUER, store.clone(), keyring, clock.clone());
        Self { clock, store, feed, keys, entries: Vec::new(), kept: HashMap::new() }
    }

    async fn deny(&mut self, targets: Vec<(Target, Option<Timestamp>)>) {
        let denials = targets.into_iter().map(|(target, expires)| {
            let store = self.store.clone();
            let (ends, audit) = (Ends::Sessions, Draft::default());
            let denial = Denial { target, ends, before: None, expires, reason: None, audit };
            tokio::spawn(async move { store.deny(denial).await.unwrap().unwrap() })
        });
        for denied in denials.collect::<Vec<_>>() {
            self.entries.push(denied.await.unwrap());
        }
    }

    async fn something_happens(&mut self, dice: &mut Dice) {
        let now = self.clock.now();
        match dice.below(8) {
            0..=3 => {
                let many = dice.one_of([1, 2, 10, 300, 998, 1000, 1001]);
                let mut lives = || Some(now.plus(secs(dice.one_of([0, 60, 300, 3000]))));
                let token = || Target::Token(TokenId::new(now, &random_bytes(&SystemRandom)));
                let targets = (0..many).map(|_| (token(), lives())).collect();
                self.deny(targets).await;
            }
            4 => self.deny(vec![(Target::Key(format!("k{}", dice.below(1000)).parse().unwrap()), None)]).await,
            5 => self.deny(vec![(Target::Subject(SubjectRef(random_bytes(&SystemRandom))), None)]).await,
            _ => {
                self.clock.advance(secs(dice.one_of([1, 40, 130, 400])));
                for _ in 0..dice.below(40) {
                    let nobody = "nobody".parse().unwrap();
                    self.store.stamp(SubjectRef([0; 16]), nobody, Draft::default()).await.unwrap();
                }
            }
        }
    }

    async fn step(&mut self, follower: &mut Follower, replica: &Replica, dice: &mut Dice) {
        match follower.next() {
            Next::Tail { .. } => {
                let question = Question { nonce: Nonce(random_bytes(&SystemRandom)), sent: self.clock.boottime() };
                let at = follower.place().map(|place| (place.epoch, place.mark));
                let ask = Ask { nonce: question.nonce, at, keys: None, wait: Duration::ZERO };
                let answer = self.feed.tail(ask, 1, std::future::pending()).await.unwrap();
                follower.hear_tail(&question, &answer.jws, self.clock.boottime(), replica).unwrap();
            }
            Next::Page { epoch, page, again } => {
                let kept = self.kept.get(&page).filter(|_| !again && dice.below(2) == 0).cloned();
                let answer = match kept {
                    Some(kept) => Some(kept),
                    None => self.feed.page(epoch, page).await.unwrap().map(|answer| answer.jws),
                };
                let Some(answer) = answer else { return follower.begin_again() };
                self.kept.entry(page).or_insert_with(|| answer.clone());
                if follower.hear_page(&answer, self.clock.boottime(), replica).is_err() {
                    follower.begin_again();
                }
            }
        }
    }

    async fn finish(&mut self, follower: &mut Follower, replica: &Replica, dice: &mut Dice) {
        let enough = 3 * self.entries.len() / 1000 + 12;
        for _ in 0..enough {
            self.step(follower, replica, dice).await;
            if follower.whole {
                return;
            }
        }
        panic!("not at the end after {enough} questions, though nothing happened meanwhile");
    }

    /// What was appended after the tail that led here is not expected.
    fn check(&self, follower: &Follower, replica: &Replica) {
        let (now, end) = (self.clock.now(), follower.place().unwrap().mark.position);
        for entry in self.entries.iter().filter(|entry| entry.feed_until > now && entry.position <= end) {
            let mut bearer = Bearer {
                token: TokenId::new(Timestamp::from_millis(1), &[0; 10]),
                session: None,
                subject: SubjectRef([9; 16]),
                client: "c".parse().unwrap(),
                key: "none".parse().unwrap(),
            };
            match &entry.target {
                Target::Token(id) => bearer.token = *id,
                Target::Key(kid) => bearer.key = kid.clone(),
                Target::Subject(subject) => bearer.subject = *subject,
                _ => unreachable!("not denied here"),
            }
            assert!(replica.denies(&bearer), "{entry:?} is not known");
        }
    }
}

async fn play(seed: u64, rounds: usize) {
    let (mut dice, mut world) = (Dice(seed), World::new());
    let new = |world: &World| (Follower::new(ISSUER, world.keys.clone(), secs(30)), Replica::new(1_000_000));
    let mut followers: Vec<_> = (0..3).map(|_| new(&world)).collect();
    for _ in 0..rounds {
        world.something_happens(&mut dice).await;
        let chosen = usize::try_from(dice.below(3)).unwrap();
        for _ in 0..dice.below(3) {
            let (follower, replica) = &mut followers[chosen];
            world.step(follower, replica, &mut dice).await;
            if follower.whole {
                world.check(follower, replica);
            }
        }
        if dice.below(4) == 0 {
            let (follower, replica) = &mut followers[chosen];
            world.finish(follower, replica, &mut dice).await;
            world.check(follower, replica);
        }
        if dice.below(8) == 0 {
            followers[chosen] = new(&world);
        }
    }
    for (mut follower, replica) in followers {
        world.finish(&mut follower, &replica, &mut dice).await;
        world.check(&follower, &replica);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_read_to_the_end_knows_all_that_is_alive() {
    let games = if std::env::var_os("LONG_TESTS").is_some() { 60 } else { 3 };
    for seed in 0..games {
        println!("seed {seed}");
        play(seed, 60).await;
    }
}

use std::{
    collections::HashMap,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Acquire, Release},
    },
    thread,
};

use proptest::prelude::*;

use super::*;

const FOR_EVER: u32 = u32::MAX;

/// One of 320 ids. Forty share each second word, so that they share a line and differ in the first word only.
fn crowded(n: u64) -> [u8; 16] {
    let (hi, lo) = (n / 8, (n % 8).wrapping_mul(0x0123_4567_89ab_cdef) | 1 << 63);
    (u128::from(hi) << 64 | u128::from(lo)).to_be_bytes()
}

#[derive(Clone, Debug)]
enum Step {
    Insert { id: u64, before: u64, until: u32 },
    Sweep { now: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let until = prop_oneof![20 => 0..100_u32, 1 => Just(FOR_EVER)];
    prop_oneof![
        20 => (0..320_u64, 0..1000_u64, until).prop_map(|(id, before, until)| Step::Insert { id, before, until }),
        1 => prop_oneof![0..100_u32, Just(FOR_EVER)].prop_map(|now| Step::Sweep { now }),
    ]
}

/// What both tables are to do, in the plainest form.
#[derive(Default)]
struct Model(HashMap<u64, (u64, u32)>);

impl Model {
    fn insert(&mut self, id: u64, before: u64, until: u32) {
        if until > 0 {
            let held = self.0.entry(id).or_default();
            *held = (held.0.max(before), held.1.max(until));
        }
    }
    fn sweep(&mut self, now: u32) -> usize {
        let held = self.0.len();
        self.0.retain(|_, (_, until)| *until > now || *until == FOR_EVER);
        held - self.0.len()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_do_what_a_map_would_do(steps in prop::collection::vec(step(), 1..600)) {
        let (ids, cut_offs, mut model) = (IdTable::new(), CutOffTable::new(), Model::default());
        for step in steps {
            match step {
                Step::Insert { id, before, until } => {
                    ids.insert(&crowded(id), until);
                    cut_offs.insert(&crowded(id), before, until);
                    model.insert(id, before, until);
                }
                Step::Sweep { now } => {
                    let swept = model.sweep(now);
                    prop_assert_eq!((ids.sweep(now), cut_offs.sweep(now)), (swept, swept));
                }
            }
            prop_assert_eq!((ids.len(), cut_offs.len()), (model.0.len(), model.0.len()));
        }
        for id in 0..320 {
            prop_assert_eq!(ids.contains(&crowded(id)), model.0.contains_key(&id));
            prop_assert_eq!(cut_offs.before(&crowded(id)), model.0.get(&id).map(|held| held.0));
        }
    }
}

/// As random as a UUID of version 7, and the same each time.
fn scattered(n: u64) -> [u8; 16] {
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    };
    (u128::from(mix(2 * n + 1)) << 64 | u128::from(mix(2 * n + 2) | 1 << 63)).to_be_bytes()
}

#[test]
fn memory_is_in_proportion_to_what_lives() {
    let table = IdTable::new();
    let limit = |table: &IdTable| assert!(table.bytes() <= 40 * table.len(), "{} for {}", table.bytes(), table.len());
    for n in 0..100_000_u32 {
        table.insert(&scattered(n.into()), 1 + n);
        if n > 100 {
            limit(&table);
        }
    }
    for now in (0..99_000).step_by(1000) {
        table.sweep(now);
        limit(&table);
    }
}

#[test]
fn churn_does_not_make_it_grow() {
    let table = IdTable::new();
    for now in 0..2000_u32 {
        for n in 0..100 {
            table.insert(&scattered(u64::from(now) * 100 + n), now + 10);
        }
        table.sweep(now);
        assert!(table.len() <= 1000 && table.bytes() <= 40_000, "{} for {}", table.bytes(), table.len());
    }
}

/// What readers may rely on, said by the writer before or after the deed.
#[derive(Default)]
struct Said {
    /// Ids below this one are in.
    inserted: AtomicU64,
    /// What lived at the end of this round has had its instant put off so often.
    extended: AtomicU64,
    /// No sweep has gone further yet.
    now: AtomicU32,
    done: AtomicBool,
}

const IDS: u64 = 60_000;
const ROUND: u64 = 20_000;

/// A third never expires.
fn until(n: u64) -> u32 {
    if n.is_multiple_of(3) { FOR_EVER } else { (n / 100) as u32 + 50 }
}

/// Instants in order of their insertion; no two ids have one in common.
fn instant(n: u64, extended: u64) -> u64 {
    (n + 1) * 100 + extended
}

fn write(ids: &IdTable, cut_offs: &CutOffTable, said: &Said) {
    for n in 0..IDS {
        ids.insert(&scattered(n), until(n));
        cut_offs.insert(&scattered(n), instant(n, 0), until(n));
        said.inserted.store(n + 1, Release);
        if n % 1000 == 999 {
            let now = (n / 100) as u32;
            said.now.store(now, Release);
            ids.sweep(now);
            cut_offs.sweep(now);
        }
        if n % ROUND == ROUND - 1 {
            let extended = n / ROUND + 1;
            for n in (0..=n).filter(|&n| until(n) > said.now.load(Acquire)) {
                cut_offs.insert(&scattered(n), instant(n, extended), until(n));
            }
            said.extended.store(extended, Release);
        }
    }
    said.done.store(true, Release);
}

/// Looks up what is in, what is being put in, and what never is.
fn read(ids: &IdTable, cut_offs: &CutOffTable, said: &Said, mut seed: u64) -> u64 {
    let mut seen = 0;
    while !said.done.load(Acquire) {
        let inserted = said.inserted.load(Acquire);
        let extended = said.extended.load(Acquire);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The one that is being put in, as often as all others together.
        let n = if seed >> 63 == 0 { inserted } else { (seed >> 33) % (inserted + 1) };
        let (denied, before) = (ids.contains(&scattered(n)), cut_offs.before(&scattered(n)));
        let expired = until(n) <= said.now.load(Acquire);
        if n < inserted && !expired {
            assert!(denied && before.is_some(), "{n} of {inserted} was lost");
            seen += 1;
        }
        let least = instant(n, if n < extended * ROUND && !expired { extended } else { 0 });
        assert!(before.is_none_or(|before| (least..instant(n + 1, 0)).contains(&before)), "{before:?} for {n}");
        let absent = scattered(IDS + (seed >> 33));
        assert!(!ids.contains(&absent) && cut_offs.before(&absent).is_none());
    }
    seen
}

#[test]
fn readers_see_all_that_was_denied_when_they_came() {
    let (ids, cut_offs, said) = (IdTable::new(), CutOffTable::new(), Said::default());
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|seed| {
                scope.spawn({
                    let (ids, cut_offs, said) = (&ids, &cut_offs, &said);
                    move || read(ids, cut_offs, said, seed)
                })
            })
            .collect();
        write(&ids, &cut_offs, &said);
        for reader in readers {
            assert!(reader.join().unwrap() > 0, "a reader came too late");
        }
    });
}

//! What it costs to ask whether a token is denied, beside a million and ten million that are, and what they take up.

#[path = "../src/verifier/replica/table/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "private in the library; the bench uses a part of it")]
mod table;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rescind::clock::{Clock, SystemClock};
use table::IdTable;

/// How many seconds the ids live, each of them as many as others; what lives shortest is swept away.
const LIFE: u32 = 300;

/// As random as a UUID of version 7, and the same each time.
fn id(n: u64) -> [u8; 16] {
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    };
    (u128::from(1_795_374_805_000 + n / 1000) << 80 | u128::from(mix(n)) | 1 << 63).to_be_bytes()
}

/// Their order of insertion is that of their stamps, as in the feed.
#[expect(clippy::print_stdout, reason = "a bench reports")]
fn filled(entries: u64) -> IdTable {
    let clock = SystemClock::default();
    let (table, start) = (IdTable::new(), clock.monotonic());
    let mut longest = Duration::ZERO;
    for n in 0..entries {
        let before = clock.monotonic();
        table.insert(&id(n), 1 + (n % u64::from(LIFE)) as u32);
        longest = longest.max(clock.monotonic() - before);
    }
    let filled = clock.monotonic() - start;
    let per_entry = table.bytes() as f64 / table.len() as f64;
    println!("{entries} entries: {per_entry:.1} bytes each; {filled:.2?} to fill, {longest:.2?} the longest insertion");

    let start = clock.monotonic();
    let swept = table.sweep(1);
    println!("{:.2?} to sweep, {swept} of them away", clock.monotonic() - start);
    table
}

fn denylist(c: &mut Criterion) {
    let mut group = c.benchmark_group("denylist/lookup");
    for entries in [1_000_000, 10_000_000] {
        let table = filled(entries);
        let mut seed = 1_u64;
        let mut any = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Not one that was swept away.
            let n = (seed >> 33) % (entries / u64::from(LIFE)) * u64::from(LIFE);
            n + 1 + (seed >> 3) % u64::from(LIFE - 1)
        };
        let (mut hit, mut miss) = (any, move || entries + any());
        group.bench_function(BenchmarkId::new("hit", entries), |b| {
            b.iter(|| assert!(table.contains(black_box(&id(hit())))))
        });
        group.bench_function(BenchmarkId::new("miss", entries), |b| {
            b.iter(|| assert!(!table.contains(black_box(&id(miss())))));
        });
    }
    group.finish();
}

criterion_group!(benches, denylist);
criterion_main!(benches);

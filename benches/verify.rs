//! What verification costs: a whole token at first sight, one that was seen before, what a key costs that is made ready
//! for it, and beside them nothing but dalek's check of the signature.

#[path = "../tests/common/forge.rs"]
mod forge;

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use ed25519_dalek::Signature;
use forge::{AUDIENCE, At, Forge, ISSUER};
use rescind::{
    clock::{Clock, SystemClock},
    model::{
        PreparedKey, Timestamp, TokenId,
        denial::{Ends, Target},
        feed::{Digest, Epoch, Item, Mark, PAGE, PAGE_TYPE, Page},
    },
    verifier::Verifier,
};
use sha2::Digest as _;

/// A token of about 600 bytes: the required claims, a session, a scope, when its subject logged in.
fn token(f: &Forge) -> String {
    let claims = ["acr", "amr", "role"].into_iter().fold(f.claims(), forge::Members::without);
    f.mint(&f.header(), &claims)
}

/// A verifier by the machine's clock that has seen 10,000 tokens, and to which a million others are denied.
fn remembering(f: &Forge) -> (Verifier, Vec<String>) {
    let verifier = Verifier::builder(ISSUER).audience(AUDIENCE).keys(f.jwks()).feed_keys(f.jwks());
    let verifier = verifier.dangerous_allow_stale().build().expect("it is set up");
    for page in 0..1_000_000 / PAGE {
        assert_eq!(verifier.merge(&denials(f, page * PAGE, PAGE)), Ok(1000));
    }
    assert_eq!(verifier.health().entries, 1_000_000);
    let claims = ["acr", "amr", "role"].into_iter().fold(f.claims(), forge::Members::without);
    let mint = |n: u64| f.mint(&f.header(), &claims.clone().text("jti", &id(f, 2_000_000_000 + n).to_string()));
    let tokens: Vec<_> = (0..10_000).map(mint).collect();
    assert!(tokens.iter().all(|token| verifier.verify(token).is_ok()));
    (verifier, tokens)
}

/// A page of the feed that denies so many tokens from there on.
fn denials(f: &Forge, from: u64, count: u64) -> String {
    let until = Timestamp::from_seconds(f.now + 3600);
    let mark = |position| Mark { position, digest: Digest([0; 32]) };
    let item = |position| Item {
        position,
        target: Target::Token(id(f, position)),
        ends: Ends::default(),
        before: Timestamp::default(),
        until,
    };
    let (from, to) = (from, from + count);
    let entries = (from + 1..=to).map(item).collect();
    let page = Page { issuer: ISSUER.into(), epoch: Epoch([0; 16]), from: mark(from), to: mark(to), entries };
    let header = f.header().text("typ", PAGE_TYPE);
    f.mint_raw(&header.json(), serde_json::to_vec(&page).expect("it serialises"))
}

fn id(f: &Forge, n: u64) -> TokenId {
    TokenId::new(Timestamp::from_seconds(f.now), &random_of(n))
}

/// As random as what a UUID of version 7 is filled with, and the same each time.
fn random_of(n: u64) -> [u8; 10] {
    let digest = sha2::Sha256::digest(n.to_be_bytes());
    digest[..10].try_into().expect("10 of 32 bytes")
}

/// Takes in a thousand revocations a second, in a hundred answers of the feed.
fn revoke(f: &Forge, verifier: &Verifier, stop: &AtomicBool) {
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        assert_eq!(verifier.merge(&denials(f, 1_000_000 + round * 10, 10)), Ok(10));
        thread::sleep(Duration::from_millis(10));
    }
}

#[expect(clippy::print_stdout, reason = "a bench reports")]
fn verify(c: &mut Criterion) {
    let f = Forge::new(1_795_374_805);
    let token = token(&f);
    assert!((580..=640).contains(&token.len()), "{} bytes", token.len());
    let builder = || {
        let clock = At(Timestamp::from_seconds(f.now + 1));
        Verifier::builder(ISSUER).audience(AUDIENCE).keys(f.jwks()).clock(clock).dangerous_allow_stale()
    };
    let verifier = builder().without_seen_before().build().expect("it is set up");
    let (input, _) = token.rsplit_once('.').expect("three segments");
    let (key, signature) = (f.key.verifying_key(), f.sign(input));

    let mut group = c.benchmark_group("verify");
    group.bench_function("first_sight", |b| b.iter(|| verifier.verify(black_box(&token)).expect("it is good")));
    let now = Forge::new(SystemClock::default().now().seconds());
    let (remembering, seen) = remembering(&now);
    let mut next = 0;
    let mut again = || {
        next = (next + 1) % seen.len();
        remembering.verify(black_box(&seen[next])).expect("it is good")
    };
    group.bench_function("seen_before", |b| b.iter(&mut again));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| revoke(&now, &remembering, &stop));
        group.bench_function("seen_before_while_revoking", |b| b.iter(&mut again));
        stop.store(true, Ordering::Relaxed);
    });
    group.bench_function("prepare_key", |b| b.iter(|| PreparedKey::new(black_box(f.public()))));
    group.bench_function("bare_strict", |b| {
        b.iter(|| key.verify_strict(black_box(input).as_bytes(), &Signature::from_bytes(black_box(&signature))))
    });
    group.finish();
    let ratio = interleaved(
        || verifier.verify(black_box(&token)).is_ok(),
        || key.verify_strict(black_box(input).as_bytes(), &Signature::from_bytes(&signature)).is_ok(),
    );
    println!("verify/first_sight over verify/bare_strict, interleaved: {ratio}");
}

/// Times both by turns, so that a busy machine slows both alike, and says their medians and how they compare.
fn interleaved(mut whole: impl FnMut() -> bool, mut bare: impl FnMut() -> bool) -> String {
    const CALLS: u32 = 10;
    let clock = SystemClock::default();
    let turn = |work: &mut dyn FnMut() -> bool| {
        let start = clock.monotonic();
        assert!((0..CALLS).all(|_| work()));
        (clock.monotonic() - start) / CALLS
    };
    let (mut wholes, mut bares): (Vec<_>, Vec<_>) = (0..3000).map(|_| (turn(&mut whole), turn(&mut bare))).unzip();
    let (whole, bare) = (median(&mut wholes), median(&mut bares));
    format!("{:.3} ({whole:?} over {bare:?})", whole.as_secs_f64() / bare.as_secs_f64())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

criterion_group!(benches, verify);
criterion_main!(benches);

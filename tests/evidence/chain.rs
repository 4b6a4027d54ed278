//! The audit log as a chain (G7): who can write the store cannot change what it tells without being found out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rescind::{
    clock::SystemRandom,
    model::{
        chain::{Head, Line, Walk, tie},
        denial::Retention,
        feed::Digest,
    },
    store::embedded::{Acceptance, EmbeddedStore, Options},
};
use rstest::rstest;
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

fn store(path: Option<&Path>) -> PathBuf {
    path.unwrap().join("store.redb")
}

fn witness(path: &Path) -> PathBuf {
    path.join("keys/witness.json")
}

/// The record that tells of it, as `/v1/audit/head` names it.
async fn found_broken(harness: &Harness) -> Option<u64> {
    harness.get("/v1/audit/head").await.1["broken"].as_u64()
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
    set_chain(path, |head| head.digest = previous);
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
    assert_eq!(found_broken(&harness).await, Some(told.sequence));
    // Nor without the witness, which may have been put away: the signature is enough.
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    harness = harness
        .restart(|_, path| {
            forge(&store(path), 2);
            let witness = witness(path.unwrap());
            let text = std::fs::read_to_string(&witness).unwrap();
            let (rest, _) = text.split_once(",\"audit\"").unwrap();
            std::fs::write(&witness, format!("{rest}}}")).unwrap();
        })
        .await;
    harness.open("carol").await;
    assert!(found_broken(&harness).await.is_some());
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
    assert_eq!(found_broken(&harness).await, Some(told.sequence), "the witness remembers a longer log");
}

/// Records and head as a fresh log has them.
fn begin_anew(store: &Path) {
    rewrite(store, |_, _| false);
    remove_meta(store, "audit_chain");
    remove_meta(store, "audit_statement");
}

/// Everything up to the newest record is dropped, as if it had been too old.
fn drop_all_but_the_newest(store: &Path) {
    set_chain(store, |head| {
        let newest = head.sequence;
        rewrite(store, |sequence, row| {
            if sequence == newest {
                (head.first, head.anchor) = (newest, Digest(row.1.link.previous));
            }
            sequence == newest
        });
    });
}

fn drop_all(store: &Path) {
    rewrite(store, |_, _| false);
    set_chain(store, |head| *head = Head { first: head.sequence + 1, anchor: head.digest, ..*head });
}

/// As if all of it were from before there was a chain, which nothing has signed.
fn drop_all_and_the_signature(store: &Path) {
    drop_all(store);
    set_born(store);
    remove_meta(store, "audit_statement");
}

fn empty(store: &Path) {
    rewrite(store, |_, _| false);
}

#[rstest]
#[case::begun_elsewhere(remove_log)]
#[case::begun_anew(begin_anew)]
#[case::its_beginning_is_moved(drop_all_but_the_newest)]
#[case::its_beginning_is_behind_its_end(drop_all)]
#[case::its_beginning_is_behind_its_end_unsigned(drop_all_and_the_signature)]
#[case::emptied(empty)]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_missed(#[case] remove: fn(&Path)) {
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    harness = harness.restart(|_, path| remove(&store(path))).await;
    harness.open("carol").await;
    assert!(verified(&harness).await.is_err());
    let told = found_broken(&harness).await;
    assert!(lines(&harness).await.iter().any(|l| Some(l.sequence) == told && l.event == "audit_broken"), "{told:?}");
    assert!(measured(&harness, "rescind_audit_broken 1").await);
    // It goes on, tells it once, and does not forget it.
    harness = harness.restart(|_, _| {}).await;
    harness.open("dave").await;
    let log = lines(&harness).await;
    assert_eq!(log.iter().filter(|l| l.event == "audit_broken").count(), 1, "{log:?}");
    assert!(measured(&harness, "rescind_audit_broken 1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_missed_after_a_start_that_did_not_come_as_far_as_its_keys() {
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    let clock = harness.clock.clone();
    harness = harness
        .restart(move |setup, path| {
            let retention = Retention { access: setup.lives.access, session: setup.lives.absolute };
            let options = Options { witness: Some(witness(path.unwrap())), ..Options::new(retention) };
            drop(EmbeddedStore::open(&store(path), options, clock, &SystemRandom).unwrap());
            remove_log(&store(path));
        })
        .await;
    harness.open("carol").await;
    assert!(verified(&harness).await.is_err());
}

async fn many(harness: &Harness) {
    for n in 0..60 {
        harness.open(&format!("user-{n}")).await;
    }
}

/// Goes on until the witness remembers the whole log, and says what it remembers. It is written once a second of the
/// store's clock, at a moment that is the store's own: where it has just been, the next opening is needed.
async fn testified(harness: &Harness) -> Vec<u8> {
    for _ in 0..10 {
        harness.clock.advance(Duration::from_secs(2));
        harness.open("alice").await;
        let newest = lines(harness).await.last().unwrap().sequence;
        for _ in 0..100 {
            let bytes = std::fs::read(witness(&harness.path())).unwrap();
            let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            if said["audit"]["sequence"].as_u64() == Some(newest) {
                return bytes;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("the witness does not hear of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_drops_is_not_missed_also_after_a_crash() {
    let mut harness = Harness::with(Setup { on_disk: true, audit_cap: 20, ..Setup::default() }).await;
    // As far as it comes: no time passes from here on.
    let remembered = testified(&harness).await;
    many(&harness).await;
    harness = harness.restart(|_, path| std::fs::write(witness(path.unwrap()), remembered).unwrap()).await;
    harness.open("bob").await;
    assert_eq!((verified(&harness).await, found_broken(&harness).await), (Ok(()), None));
    // Once the witness has heard of newer ones, the old ones go.
    testified(&harness).await;
    many(&harness).await;
    assert!(lines(&harness).await.len() <= 70);
    assert_eq!((verified(&harness).await, found_broken(&harness).await), (Ok(()), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_whose_records_were_removed_stops_nobody() {
    let mut harness = Harness::with(Setup { on_disk: true, audit_cap: 20, ..Setup::default() }).await;
    many(&harness).await;
    harness = harness.restart(|_, path| empty(&store(path))).await;
    many(&harness).await;
    assert!(found_broken(&harness).await.is_some());
}

/// What an opening writes before the keys are there cannot be signed, so it must not move where the log begins.
#[tokio::test(flavor = "multi_thread")]
async fn an_opening_drops_nothing_before_somebody_can_sign_for_it() {
    let mut harness = Harness::on_disk().await;
    many(&harness).await;
    let mut copy = Vec::new();
    harness = harness.restart(|_, path| copy = std::fs::read(store(path)).unwrap()).await;
    harness.open("alice").await;
    harness = harness
        .restart(|setup, path| {
            std::fs::write(store(path), copy).unwrap();
            (setup.acceptance, setup.audit_cap) = (Acceptance::EndSessions, 20);
        })
        .await;
    harness.open("bob").await;
    assert_eq!((verified(&harness).await, found_broken(&harness).await), (Ok(()), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_loss_says_what_the_log_has_lost_and_goes_on_from_there() {
    let mut harness = Harness::on_disk().await;
    story(&harness).await;
    let mut copy = Vec::new();
    harness = harness.restart(|_, path| copy = std::fs::read(store(path)).unwrap()).await;
    story(&harness).await;
    harness = harness
        .restart(|setup, path| {
            std::fs::write(store(path), copy).unwrap();
            setup.acceptance = Acceptance::EndSessions;
        })
        .await;
    harness.open("carol").await;
    let log = lines(&harness).await;
    let accepted = log.iter().find(|l| l.event == "store_accepted").unwrap();
    assert_eq!(accepted.cause.as_deref(), Some("sessions ended; of the audit log records 5 to 8 are lost"));
    harness = harness.restart(|setup, _| setup.acceptance = Acceptance::Wait).await;
    assert_eq!((verified(&harness).await, found_broken(&harness).await), (Ok(()), None));
    // From here on the witness remembers this one.
    harness = harness.restart(|_, path| remove_log(&store(path))).await;
    harness.open("dave").await;
    assert!(found_broken(&harness).await.is_some());
    // An operator's word ends the alarm. What happened stays in the log.
    let declared = harness.post("/v1/store/restored", APP, &json!({"although_whole": true})).await;
    assert_eq!((declared.0, found_broken(&harness).await), (200, None), "{}", declared.1);
    assert!(verified(&harness).await.is_err());
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

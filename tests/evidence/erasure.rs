//! What is kept about a person: all of it is handed out, and what can be is removed.

use std::collections::BTreeSet;

use rescind::{
    model::{
        audit::{Draft, Event, Record},
        chain::{Line, digest_of, tie},
    },
    store::EvidenceStore,
};
use serde_json::{Value, json};

use super::support::*;
use crate::harness::{APP, Harness, POWERLESS, PUBLIC, Setup, answer, text};

/// Alice on two devices, one of them revoked with words about her, beside Bob.
async fn household(harness: &Harness) -> (Value, Value) {
    let body = json!({"subject": "alice", "audience": ["api"], "scope": "read", "client_id": PUBLIC,
        "device": {"label": "Alice's phone", "ip": "203.0.113.7"}});
    let (_, phone) = harness.post("/v1/sessions", APP, &body).await;
    let laptop = harness.open_for("alice", PUBLIC).await;
    harness.refresh(text(&laptop, "refresh_token"), PUBLIC).await;
    harness.open_for("bob", PUBLIC).await;
    let cut = json!({"kind": "session", "id": phone["session_id"], "reason": "alice lost it in Ghent"});
    assert_eq!(harness.post("/v1/revocations", APP, &cut).await.0, 201);
    (phone, laptop)
}

async fn erase(harness: &Harness, subject: &str, client: &str) -> (u16, Value) {
    let url = format!("{}/v1/subjects/{subject}", harness.base);
    answer(harness.http.delete(url).basic_auth(client, Some(&harness.secret))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_all_that_is_kept_and_nothing_of_others() {
    let harness = Harness::start().await;
    let (phone, laptop) = household(&harness).await;
    let (status, dossier) = harness.get("/v1/subjects/alice").await;
    assert_eq!(status, 200, "{dossier}");
    let sessions: BTreeSet<_> = dossier["sessions"].as_array().unwrap().iter().map(|s| text(s, "session_id")).collect();
    assert_eq!(sessions, BTreeSet::from([text(&phone, "session_id"), text(&laptop, "session_id")]));
    let records: Vec<Line> = serde_json::from_value(dossier["records"].clone()).unwrap();
    let about: Vec<Line> =
        lines(&harness).await.into_iter().filter(|l| l.subject.as_deref() == Some("alice")).collect();
    assert_eq!(records, about, "that it was handed out is among them");
    assert!(records.iter().any(|l| l.event == "subject_exported" && l.actor.as_deref() == Some(APP)));
    let all = dossier.to_string();
    assert!(all.contains("203.0.113.7") && all.contains("alice lost it in Ghent") && !all.contains("bob"), "{all}");
    assert_eq!(dossier["revocations"].as_array().unwrap().len(), 1);
    let url = format!("{}/v1/subjects/alice", harness.base);
    assert_eq!(answer(harness.http.get(url).basic_auth(POWERLESS, Some(&harness.secret))).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_ends_what_there_is_removes_the_name_everywhere_and_the_chain_holds() {
    let mut harness = Harness::with(Setup { on_disk: true, ..Setup::default() }).await;
    let (_, laptop) = household(&harness).await;
    let (_, signed_before) = harness.get("/v1/audit/head").await;
    assert_eq!(erase(&harness, "alice", POWERLESS).await.0, 403);
    let (status, done) = erase(&harness, "alice", APP).await;
    assert_eq!((status, &done["sessions"], &done["reasons"]), (200, &json!(2), &json!(1)), "{done}");
    assert!(!harness.active(text(&laptop, "access_token")).await);
    assert_eq!(harness.refresh(text(&laptop, "refresh_token"), PUBLIC).await.0, 400);
    assert_eq!(verified(&harness).await, Ok(()));
    // Also against what was signed before: nothing that was vouched for has changed.
    let before = read(&signed_before).unwrap().head;
    let upto: Vec<_> = lines(&harness).await.into_iter().filter(|l| l.sequence <= before.sequence).collect();
    let mut walk = rescind::model::chain::Walk::default();
    upto.iter().for_each(|line| walk.step(line).unwrap());
    assert_eq!(walk.meets(&before), Ok(()));
    let (_, dossier) = harness.get("/v1/subjects/alice").await;
    let log = lines(&harness).await;
    let of_the_past: Vec<_> = log.iter().filter(|l| l.event != "subject_exported").collect();
    let kept = serde_json::to_string(&of_the_past).unwrap()
        + &dossier["sessions"].to_string()
        + &harness.get("/v1/revocations").await.1.to_string();
    for gone in ["alice", "Alice", "Ghent", "203.0.113.7"] {
        assert!(!kept.contains(gone), "{gone} is in {kept}");
    }
    assert!(kept.contains("bob"));
    let pseudonym = text(&done, "subject_ref");
    assert!(log.iter().filter(|l| l.subject_ref.as_deref() == Some(pseudonym)).count() >= 5, "who did what remains");
    // She may come back, and nothing of the past hits her.
    let again = harness.open_for("alice", PUBLIC).await;
    assert!(harness.active(text(&again, "access_token")).await);
    harness = harness.restart(|_, _| {}).await;
    assert_eq!(verified(&harness).await, Ok(()));
    // Again is fine.
    assert_eq!(erase(&harness, "alice", APP).await.0, 200);
    assert_eq!(erase(&harness, "nobody-here", APP).await.0, 200);
    assert_eq!(verified(&harness).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_the_log_does_not_tell_of_is_found_out() {
    let mut harness = Harness::on_disk().await;
    household(&harness).await;
    harness = harness
        .restart(|_, path| {
            rewrite(&path.unwrap().join("store.redb"), |sequence, row| {
                if sequence == 2 {
                    row.1.erase();
                }
                true
            });
        })
        .await;
    let broken = verified(&harness).await.unwrap_err();
    assert_eq!((broken.sequence, broken.why), (2, "lost its personal part, and no erasure tells of it"));
    // One that is told of another is no excuse.
    erase(&harness, "bob", APP).await;
    assert_eq!(verified(&harness).await.unwrap_err().sequence, 2);
}

/// What an opening writes before the keys are there is not signed: that is no place to tell of an erasure.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_only_the_store_tells_of_is_found_out() {
    let mut harness = Harness::on_disk().await;
    household(&harness).await;
    harness = harness
        .restart(|_, path| {
            let store = path.unwrap().join("store.redb");
            let (mut newest, mut pseudonym) = (None, None);
            rewrite(&store, |sequence, row| {
                if sequence == 2 {
                    row.1.erase();
                    pseudonym = row.1.subject_ref;
                }
                newest = Some((row.0, row.1.clone()));
                true
            });
            let (latest, mut told) = newest.unwrap();
            let previous = digest_of(&told);
            told = Record {
                sequence: told.sequence + 1,
                event: Event::SubjectErased,
                actor: None,
                subject: None,
                subject_ref: pseudonym,
                cause: Some("0 sessions, 0 reasons; records 2".into()),
                ..told
            };
            let digest = tie(&mut told, previous, [7; 16]);
            append(&store, &(latest, told.clone()));
            set_chain(&store, |head| (head.sequence, head.digest) = (told.sequence, digest));
        })
        .await;
    harness.open_for("carol", PUBLIC).await;
    let told = verified(&harness).await.unwrap_err();
    assert_eq!(told.why, "tells that the service found another log than its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_excuses_no_record_that_was_bare_before() {
    let mut harness = Harness::on_disk().await;
    household(&harness).await;
    erase(&harness, "alice", APP).await;
    assert_eq!(verified(&harness).await, Ok(()));
    harness.open_for("alice", PUBLIC).await;
    let hers = head(&harness).await.sequence;
    harness.open_for("alice", PUBLIC).await;
    harness = harness
        .restart(move |_, path| {
            rewrite(&path.unwrap().join("store.redb"), |sequence, row| {
                if sequence == hers {
                    row.1.erase();
                }
                true
            });
        })
        .await;
    // Her second erasure strips what is left of her, and says which.
    assert_eq!(erase(&harness, "alice", APP).await.0, 200);
    assert_eq!(verified(&harness).await.unwrap_err().sequence, hers);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_in_several_steps_excuses_each_record_that_it_names_and_no_other() {
    let mut harness = Harness::on_disk().await;
    // Names nobody, but an operator's address and words.
    let all = json!({"kind": "all", "reason": "the intruder was here"});
    assert_eq!(harness.post("/v1/revocations", APP, &all).await.0, 201);
    let of_all = head(&harness).await.sequence;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..1100 {
        // Bob's lie between hers.
        let subject = Some(if n % 3 == 0 { "bob" } else { "alice" }.parse().unwrap());
        let (store, draft) = (harness.store.clone(), Draft { subject, ..Draft::default() });
        writes.spawn(async move { store.witness(Event::Alert, None, "often".into(), draft).await.unwrap() });
    }
    writes.join_all().await;
    let (status, done) = erase(&harness, "alice", APP).await;
    assert_eq!((status, &done["records"]), (200, &json!(733)), "{done}");
    let told = lines(&harness).await.into_iter().filter(|l| l.event == "subject_erased").count();
    assert!(told >= 2, "in several steps");
    assert_eq!(verified(&harness).await, Ok(()));
    harness = harness
        .restart(move |_, path| {
            rewrite(&path.unwrap().join("store.redb"), |sequence, row| {
                if sequence == of_all {
                    row.1.erase();
                }
                true
            });
        })
        .await;
    let broken = verified(&harness).await.unwrap_err();
    assert_eq!((broken.sequence, broken.why), (of_all, "lost its personal part, and no erasure tells of it"));
}

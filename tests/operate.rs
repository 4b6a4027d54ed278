//! What operators are told: what a revocation would do, from when on it holds, and what was done last.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use std::time::Duration;

use harness::{APP, Harness, OTHER, POWERLESS, text};
use rescind::{
    model::denial::Target,
    service::{EXAMINED, Revocation},
};
use rstest::rstest;
use serde_json::{Value, json};

async fn revoke(harness: &Harness, mut body: Value, dry: bool) -> (u16, Value) {
    body["dry_run"] = dry.into();
    harness.post("/v1/revocations", APP, &body).await
}

async fn end(harness: &Harness, session: &Value, body: Value) -> (u16, Value) {
    harness.post(&format!("/v1/sessions/{}/revoke", text(session, "session_id")), APP, &body).await
}

async fn states(harness: &Harness, subject: &str) -> Vec<String> {
    let (_, page) = harness.get(&format!("/v1/sessions?subject={subject}&limit=200")).await;
    page["sessions"].as_array().unwrap().iter().map(|s| text(s, "state").to_owned()).collect()
}

/// Two sessions of alice (one for the other client), one of bob; all with live tokens. Another of alice has ended.
async fn people() -> (Harness, Value) {
    let harness = Harness::start().await;
    let gone = harness.open("alice").await;
    end(&harness, &gone, json!({})).await;
    // Names that are stamped alike would be in any order.
    harness.clock.advance(Duration::from_millis(10));
    let alice = harness.open("alice").await;
    harness.clock.advance(Duration::from_millis(10));
    harness.open_for("alice", OTHER).await;
    harness.open("bob").await;
    harness.clock.advance(Duration::from_secs(1));
    (harness, alice)
}

#[rstest]
#[case::subject(json!({"kind": "subject", "id": "alice"}), [2, 2, 1])]
#[case::subjects_tokens_alone(json!({"kind": "subject", "id": "alice", "ends": "tokens"}), [0, 2, 1])]
#[case::nobody(json!({"kind": "subject", "id": "nobody"}), [0, 0, 0])]
#[case::before_all_of_it(json!({"kind": "subject", "id": "alice", "before": "2026-11-22T11:00:00Z"}), [0, 0, 0])]
#[case::client(json!({"kind": "client", "id": OTHER}), [1, 1, 1])]
#[case::everyone(json!({"kind": "all"}), [3, 3, 2])]
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_what_would_end_and_changes_nothing(#[case] body: Value, #[case] counts: [u64; 3]) {
    let (harness, _) = people().await;
    let before = (harness.get("/v1/revocations").await, harness.get("/v1/audit").await);
    let (status, impact) = revoke(&harness, body, true).await;
    assert_eq!(status, 200, "{impact}");
    let counted = ["sessions", "sessions_with_live_tokens", "subjects"].map(|n| impact[n].as_u64().unwrap());
    assert_eq!((counted, &impact["capped"], &impact["dry_run"]), (counts, &json!(false), &json!(true)), "{impact}");
    assert_eq!(impact["tokens_until"].is_null(), counts[1] == 0, "{impact}");
    assert_eq!((harness.get("/v1/revocations").await, harness.get("/v1/audit").await), before);
    assert_eq!(states(&harness, "alice").await, ["closed", "open", "open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_what_the_revocation_then_ends() {
    let (harness, _) = people().await;
    harness.clock.advance(Duration::from_secs(301));
    harness.open("alice").await;
    let order = json!({"kind": "subject", "id": "alice"});
    let (_, impact) = revoke(&harness, order.clone(), true).await;
    assert_eq!((&impact["sessions"], &impact["sessions_with_live_tokens"]), (&json!(3), &json!(1)), "{impact}");
    assert_eq!(revoke(&harness, order.clone(), false).await.0, 201);
    assert_eq!(states(&harness, "alice").await.iter().filter(|s| *s == "cut_off").count(), 3);
    let (_, again) = revoke(&harness, order, true).await;
    assert_eq!((&again["sessions"], &again["subjects"]), (&json!(0), &json!(0)), "there is nothing left: {again}");
}

/// What would be refused is refused as well when it is only asked about.
#[rstest]
#[case::future(json!({"kind": "all", "before": "2027-01-01T00:00:00Z"}), 400)]
#[case::no_cut_off(json!({"kind": "token", "id": "019ab5c0-0000-7000-8000-000000000000", "before": "2026-01-01T00:00:00Z"}), 400)]
#[case::fixed_ends(json!({"kind": "session", "id": "019ab5c0-0000-7000-8000-000000000000", "ends": "tokens"}), 400)]
#[case::unknown_key(json!({"kind": "key", "id": "0".repeat(43)}), 404)]
#[case::no_such_kind(json!({"kind": "planet", "id": "x"}), 400)]
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_refuses_what_the_revocation_would(#[case] body: Value, #[case] expected: u16) {
    let (harness, _) = people().await;
    let dry = revoke(&harness, body.clone(), true).await;
    assert_eq!((dry.0, &dry), (expected, &revoke(&harness, body, false).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_signs_cannot_even_be_weighed() {
    let (harness, _) = people().await;
    let (_, keys) = harness.get("/v1/keys").await;
    let of =
        |state: &str| keys["keys"].as_array().unwrap().iter().find(|k| k["state"] == state).unwrap()["kid"].clone();
    let (status, answer) = revoke(&harness, json!({"kind": "key", "id": of("active")}), true).await;
    assert_eq!((status, text(&answer, "code")), (409, "active_key"));
    harness.clock.advance(Duration::from_secs(20 * 60));
    harness.open("carol").await;
    harness.post("/v1/keys/rotate", APP, &json!({})).await;
    let (status, impact) = revoke(&harness, json!({"kind": "key", "id": of("active")}), true).await;
    assert_eq!((status, &impact["sessions"]), (200, &json!(0)), "a key signs tokens, not sessions");
    assert_eq!(impact["sessions_with_live_tokens"], 1, "{impact}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_from_when_on_it_holds_for_whom() {
    let (harness, alice) = people().await;
    let (status, answer) = revoke(&harness, json!({"kind": "session", "id": alice["session_id"]}), false).await;
    assert_eq!(status, 201, "{answer}");
    let effect = json!({
        "here_from": "2026-11-22T12:00:01.143Z",
        "disconnected_from": "2026-11-22T12:05:01.143Z",
        "without_feed_from": "2026-11-22T12:05:00.133Z",
    });
    assert_eq!(answer["effect"], effect, "opened at 12:00:00.133 for five minutes");
    harness.clock.advance(Duration::from_secs(300));
    let bob = harness.open("bob").await;
    harness.clock.advance(Duration::from_secs(300));
    let (_, answer) = end(&harness, &bob, json!({})).await;
    assert_eq!(answer["effect"]["without_feed_from"], Value::Null, "no token of it is alive: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_end_and_the_one_that_is_named_goes_on() {
    let (harness, alice) = people().await;
    let (status, impact) = end(&harness, &alice, json!({"others": true, "dry_run": true})).await;
    assert_eq!((status, &impact["sessions"]), (200, &json!(1)), "{impact}");
    let (status, ended) = end(&harness, &alice, json!({"others": true, "reason": "stolen laptop"})).await;
    assert_eq!((status, &ended["sessions"], &ended["subject"]), (200, &json!(1), &json!("alice")), "{ended}");
    assert_eq!(states(&harness, "alice").await, ["closed", "open", "closed"]);
    assert_eq!(states(&harness, "bob").await, ["open"], "somebody else's");
    assert_eq!(harness.refresh(text(&alice, "refresh_token"), APP).await.0, 200);
    let (_, again) = end(&harness, &alice, json!({"others": true})).await;
    assert_eq!(again["sessions"], 0);
    let (_, log) = harness.get("/v1/audit?subject=alice").await;
    let told = log["records"].as_array().unwrap().iter().filter(|r| r["cause"] == "session: stolen laptop");
    assert_eq!(told.count(), 1, "one record for each session that ended: {log}");
    let (_, denied) = harness.get("/v1/revocations").await;
    assert_eq!(denied["revocations"].as_array().unwrap().len(), 2, "their access tokens die, too: {denied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_others_end_however_many_there_are() {
    let harness = Harness::start().await;
    let mut opened = Vec::new();
    for _ in 0..300 {
        opened.push(harness.open("alice").await);
    }
    let kept = &opened[150];
    let (_, ended) = end(&harness, kept, json!({"others": true})).await;
    assert_eq!(ended["sessions"], 299);
    let mut refused = 0;
    for session in &opened {
        refused += usize::from(harness.refresh(text(session, "refresh_token"), APP).await.0 == 400);
    }
    assert_eq!(refused, 299);
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_needs_the_permission_also_to_count() {
    let (harness, alice) = people().await;
    let path = format!("/v1/sessions/{}/revoke", text(&alice, "session_id"));
    for body in [json!({}), json!({"dry_run": true}), json!({"others": true, "dry_run": true})] {
        assert_eq!(harness.post(&path, POWERLESS, &body).await.0, 403, "{body}");
    }
    for kind in ["all", "subject"] {
        let body = json!({"kind": kind, "id": (kind == "subject").then_some("alice"), "dry_run": true});
        assert_eq!(harness.post("/v1/revocations", POWERLESS, &body).await.0, 403, "{body}");
    }
    let unknown = json!({"session_id": "019ab5c0-0000-7000-8000-000000000000"});
    assert_eq!(end(&harness, &unknown, json!({})).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_from_its_end_as_completely_as_from_its_beginning() {
    let harness = Harness::start().await;
    for n in 0..25 {
        harness.open(["alice", "bob"][n % 2]).await;
    }
    let read = async |query: &str| {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let (status, page) = harness.get(&format!("/v1/audit?limit=4&after={after}{query}")).await;
            assert_eq!(status, 200, "{page}");
            all.extend(page["records"].as_array().unwrap().iter().map(|r| r["sequence"].as_u64().unwrap()));
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    };
    for query in ["", "&subject=alice"] {
        let mut backwards = read(&format!("{query}&order=newest")).await;
        backwards.reverse();
        assert_eq!(backwards, read(query).await, "{query}");
    }
    assert_eq!(read("&subject=bob").await.len(), 12);
    assert_eq!(harness.get("/v1/audit?order=random").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_is_bounded_and_says_so() {
    let harness = Harness::start().await;
    for n in 0..300 {
        harness.open(&format!("person-{n}")).await;
    }
    let ctx = harness.let_in_by_secret(APP).await;
    let everyone = Revocation { target: Target::All, subject: None, ends: None, before: None, reason: None };
    let all = harness.service.weigh(&ctx, &everyone, EXAMINED).await.unwrap();
    assert_eq!((all.sessions, all.subjects, all.capped), (300, 300, false));
    let some = harness.service.weigh(&ctx, &everyone, 100).await.unwrap();
    assert!(some.capped && some.sessions < 300, "at least so many: {some:?}");
}

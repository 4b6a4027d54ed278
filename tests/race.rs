//! Many at once: racing refreshes of one token, refresh against revocation. Over HTTP, on the store on disk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use std::{collections::HashSet, sync::Arc};

use harness::{APP, Harness, PUBLIC, text};
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet};

const RACERS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn load_64_racers_for_one_token_get_one_successor_in_each_of_1000_families() {
    let harness = Arc::new(Harness::on_disk().await);
    let families = 1000;
    let mut answered = 0;
    for family in 0..families {
        let client = if family % 2 == 0 { APP } else { PUBLIC };
        let opened = harness.open_for("alice", client).await;
        let token: Arc<str> = text(&opened, "refresh_token").into();
        let mut racers = JoinSet::new();
        for _ in 0..RACERS {
            let (harness, token) = (harness.clone(), token.clone());
            racers.spawn(async move { harness.refresh(&token, client).await });
        }
        let mut successors = HashSet::new();
        let mut access = HashSet::new();
        while let Some(outcome) = racers.join_next().await {
            let (status, body) = outcome.unwrap();
            assert_eq!(status, 200, "every racer is answered: {body}");
            successors.insert(text(&body, "refresh_token").to_owned());
            access.insert(text(&body, "access_token").to_owned());
            answered += 1;
        }
        assert_eq!(successors.len(), 1, "one successor");
        assert_eq!(access.len(), RACERS, "access tokens are each their own");
        let (_, session) = harness.get(&format!("/v1/sessions/{}", text(&opened, "session_id"))).await;
        assert_eq!((&session["state"], &session["generation"]), (&json!("open"), &json!(1)));
        if family % 50 == 0 {
            let successor = successors.into_iter().next().unwrap();
            assert_eq!(harness.refresh(&successor, client).await.0, 200, "and it is good");
        }
    }
    assert_eq!(answered, families * RACERS);
    println!("{families} families x {RACERS} racers: {answered} answers, one successor each, none closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_what_a_refresh_gets_while_its_session_is_revoked_is_refused_afterwards() {
    let harness = Arc::new(Harness::on_disk().await);
    let (mut refreshed, mut refused) = (0, 0);
    for round in 0..300 {
        let subject = format!("subject-{round}");
        let opened = harness.open(&subject).await;
        let barrier = Arc::new(Barrier::new(3));
        let mut both = JoinSet::new();
        for _ in 0..2 {
            let (harness, barrier) = (harness.clone(), barrier.clone());
            let token = text(&opened, "refresh_token").to_owned();
            both.spawn(async move {
                barrier.wait().await;
                Some(harness.refresh(&token, APP).await)
            });
        }
        let body = match round % 3 {
            0 => json!({"kind": "session", "id": opened["session_id"]}),
            1 => json!({"kind": "subject", "id": subject}),
            _ => json!({"kind": "all"}),
        };
        let revoke = harness.clone();
        both.spawn(async move {
            barrier.wait().await;
            let (status, body) = revoke.post("/v1/revocations", APP, &body).await;
            assert_eq!(status, 201, "{body}");
            None
        });
        let outcomes = both.join_all().await;
        // The revocation has been acknowledged: nothing that any of them holds is good for anything now.
        for (status, body) in outcomes.into_iter().flatten() {
            match status {
                200 => {
                    refreshed += 1;
                    assert!(!harness.active(text(&body, "access_token")).await, "round {round}");
                    assert_eq!(harness.refresh(text(&body, "refresh_token"), APP).await.0, 400, "round {round}");
                }
                400 => refused += 1,
                _ => panic!("{status}: {body}"),
            }
        }
        assert!(!harness.active(text(&opened, "access_token")).await);
    }
    assert_eq!(refreshed + refused, 600);
    println!("600 refreshes against 300 revocations: {refreshed} came first and were denied, {refused} were refused");
}

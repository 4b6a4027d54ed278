//! What happens too often is told once, and decides nothing.

use std::time::Duration;

use rescind::{model::chain::Line, service::AlertSettings};
use serde_json::json;

use super::support::lines;
use crate::harness::{APP, Harness, PUBLIC, Setup, answer, text};

async fn watchful() -> Harness {
    let alerts = AlertSettings { window: Duration::from_secs(600), renewals: 5, failures: 5, revocations: 5 };
    Harness::with(Setup { alerts, ..Setup::default() }).await
}

/// Those that are there once the node has had time to write what it had to.
async fn alerts(harness: &Harness, at_least: usize) -> Vec<Line> {
    for _ in 0..500 {
        let all: Vec<Line> = lines(harness).await.into_iter().filter(|l| l.event == "alert").collect();
        if all.len() >= at_least {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("fewer than {at_least} alerts");
}

async fn renew(harness: &Harness, mut token: String, times: usize) -> String {
    for _ in 0..times {
        let (status, next) = harness.refresh(&token, PUBLIC).await;
        assert_eq!(status, 200, "{next}");
        token = text(&next, "refresh_token").to_owned();
    }
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_renewals_of_one_session_are_told_once_in_a_window() {
    let harness = watchful().await;
    let (busy, calm) = (harness.open_for("alice", PUBLIC).await, harness.open_for("bob", PUBLIC).await);
    renew(&harness, text(&calm, "refresh_token").into(), 5).await;
    let token = renew(&harness, text(&busy, "refresh_token").into(), 12).await;
    let told = alerts(&harness, 1).await;
    let [alert] = &told[..] else { panic!("{told:?}") };
    assert_eq!(alert.cause.as_deref(), Some("rapid_renewals: more than 5 in 10m"));
    assert_eq!(alert.session_id.as_deref(), Some(text(&busy, "session_id")));
    assert_eq!((alert.subject.as_deref(), alert.client_id.as_deref()), (Some("alice"), Some(PUBLIC)));
    // It goes on being served; the next window tells again.
    harness.clock.advance(Duration::from_secs(600));
    renew(&harness, token, 6).await;
    assert_eq!(alerts(&harness, 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_for_each_client_and_for_no_name_that_was_made_up() {
    let harness = watchful().await;
    let fail = async |name: String| {
        let request = harness.http.get(format!("{}/v1/keys", harness.base)).basic_auth(name, Some("guess"));
        assert_eq!(answer(request).await.0, 401);
    };
    for n in 0..12 {
        fail(APP.into()).await;
        fail(format!("made-up-{n}")).await;
    }
    let told = alerts(&harness, 2).await;
    let causes: Vec<_> = told.iter().map(|a| (a.client_id.as_deref(), a.cause.as_deref().unwrap())).collect();
    assert!(causes.contains(&(Some(APP), "client_failures: more than 5 in 10m")), "{causes:?}");
    assert!(causes.contains(&(None, "client_failures: more than 5 in 10m, under names of no client")), "{causes:?}");
    assert_eq!(causes.len(), 2);
    assert_eq!(harness.get("/v1/keys").await.0, 200, "they decide nothing");
    let metrics =
        harness.http.get(format!("{}/metrics", harness.operations)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("rescind_alerts_total{kind=\"client_failures\"} 2"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_tokens_are_refused_again_and_again_is_told_of() {
    let harness = watchful().await;
    let opened = harness.open_for("alice", PUBLIC).await;
    let session = text(&opened, "session_id");
    harness.post("/v1/revocations", APP, &json!({"kind": "session", "id": session})).await;
    for _ in 0..8 {
        assert_eq!(harness.refresh(text(&opened, "refresh_token"), PUBLIC).await.0, 400);
    }
    let told = alerts(&harness, 1).await;
    assert_eq!(told[0].session_id.as_deref(), Some(session));
    assert_eq!(told[0].cause.as_deref(), Some("session_failures: more than 5 in 10m"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_revocations_by_one_client_are_told_of() {
    let harness = watchful().await;
    for n in 0..8 {
        let cut = json!({"kind": "subject", "id": format!("user-{n}")});
        assert_eq!(harness.post("/v1/revocations", APP, &cut).await.0, 201);
    }
    let told = alerts(&harness, 1).await;
    assert_eq!(told[0].cause.as_deref(), Some("mass_revocation: more than 5 in 10m"));
    assert_eq!(told[0].client_id.as_deref(), Some(APP));
}

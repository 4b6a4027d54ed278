//! The family rule over HTTP: each row of the table that one machine can reach, drawn as a scenario.
//!
//! A scenario is a line of steps. `a -> b` refreshes with token `a` and calls what comes `b`; the rest is named for
//! what it does. Each ends in the state that the family must then be in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use std::{collections::HashMap, time::Duration};

use harness::{APP, Harness, OTHER, OTHER_PUBLIC, PUBLIC, text};
use rstest::rstest;

#[rstest]
// g == head: rotated
#[case::rotates("app: a -> b; b -> c; c -> d; open")]
// g == head − 1
#[case::retry_within_the_window("public: a -> b; wait 29s; a -> b; open")]
#[case::retry_again_and_again("public: a -> b; a -> b; a -> b; a -> b; open")]
#[case::retry_by_a_client_that_proved_itself("app: a -> b; wait 1h; a -> b; open")]
#[case::retry_does_not_extend_the_window("public: a -> b; wait 20s; a -> b; wait 20s; a 503; open")]
#[case::retry_after_the_successor_was_used_is_late("public: a -> b; b -> c; a 503; open")]
// late duplicates
#[case::late_duplicate_of_an_ancestor("app: a -> b; b -> c; c -> d; a 503; b 503; open")]
#[case::late_duplicate_behind_kept_stamps("app: a -> b; b -> c; c -> d; d -> e; e -> f; f -> g; a 503; open")]
// reuse
#[case::reuse_of_the_parent("public: a -> b; wait 30s; a 400; closed")]
#[case::reuse_of_an_ancestor("app: a -> b; b -> c; wait 30s; a 400; closed")]
#[case::reuse_behind_kept_stamps("app: a -> b; b -> c; c -> d; d -> e; e -> f; f -> g; wait 30s; a 400; closed")]
#[case::the_newest_is_refused_after_reuse("app: a -> b; b -> c; wait 31s; a 400; c 400; closed")]
// another client
#[case::another_client("app: a -> b; b other 400; b 400; closed")]
#[case::another_public_client("public: a otherpublic 400; a 400; closed")]
#[case::another_client_with_a_spent_token("app: a -> b; a other 400; closed")]
// ended
#[case::closed("app: a -> b; delete; b 400; closed")]
#[case::logged_out("app: a -> b; logout b; b 400; closed")]
#[case::logged_out_with_a_spent_token("app: a -> b; logout a; b 400; closed")]
#[case::idle("app: a -> b; wait 14d; b 400; gone")]
#[case::used_before_idle("app: a -> b; wait 13d; b -> c; wait 13d; c -> d; open")]
#[case::cut_off_by_subject("app: a -> b; cut subject; b 400; cut_off")]
#[case::cut_off_by_client("app: a -> b; cut client; b 400; cut_off")]
#[case::cut_off_of_everything("app: a -> b; cut all; b 400; cut_off")]
#[case::cut_off_of_tokens_lets_the_session_go_on("app: a -> b; cut tokens; b -> c; open")]
// forged
#[case::forged_changes_nothing("app: a -> b; forge b 400; b -> c; open")]
#[tokio::test(flavor = "multi_thread")]
async fn family_rule(#[case] scenario: &str) {
    let harness = Harness::start().await;
    let (client, steps) = scenario.split_once(": ").unwrap();
    let opened = harness.open_for("alice", client).await;
    let session = text(&opened, "session_id");
    let mut tokens: HashMap<String, String> = [("a".to_owned(), text(&opened, "refresh_token").to_owned())].into();
    let mut access = vec![text(&opened, "access_token").to_owned()];
    for step in steps.split("; ") {
        let words: Vec<&str> = step.split(' ').collect();
        match words[..] {
            [from, "->", to] => {
                let (status, body) = harness.refresh(&tokens[from], client).await;
                assert_eq!(status, 200, "{scenario}: {step}: {body}");
                let got = text(&body, "refresh_token").to_owned();
                let known = tokens.entry(to.into()).or_insert_with(|| got.clone());
                assert_eq!(*known, got, "{scenario}: {step}: one successor, ever");
                access.push(text(&body, "access_token").to_owned());
            }
            ["wait", time] => {
                harness.clock.advance(rescind::model::time::parse_duration(time).unwrap());
            }
            ["delete"] => delete(&harness, session).await,
            ["logout", token] => {
                let (status, _) = harness.form("/oauth2/revoke", client, &[("token", &tokens[token])]).await;
                assert_eq!(status, 200);
            }
            ["cut", what] => cut(&harness, what, client).await,
            ["forge", token, status] => {
                let mut forged = tokens[token].clone().into_bytes();
                let last = forged.len() - 20;
                forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
                let (got, _) = harness.refresh(std::str::from_utf8(&forged).unwrap(), client).await;
                assert_eq!(got.to_string(), status, "{scenario}: {step}");
            }
            [token, status] => refused(&harness, &tokens[token], client, status, scenario).await,
            [token, "other", status] => refused(&harness, &tokens[token], OTHER, status, scenario).await,
            [token, "otherpublic", status] => refused(&harness, &tokens[token], OTHER_PUBLIC, status, scenario).await,
            [state] => ends(&harness, session, state, &access, scenario).await,
            _ => panic!("{step}"),
        }
    }
}

async fn refused(harness: &Harness, token: &str, client: &str, status: &str, scenario: &str) {
    let (got, body) = harness.refresh(token, client).await;
    assert_eq!(got.to_string(), status, "{scenario}: {body}");
    let code = if got == 503 { "temporarily_unavailable" } else { "invalid_grant" };
    assert_eq!(body["error"], code, "{scenario}");
}

async fn delete(harness: &Harness, session: &str) {
    for _ in 0..2 {
        let url = format!("{}/v1/sessions/{session}", harness.base);
        let sent = harness.http.delete(url).basic_auth(APP, Some(&harness.secret)).send().await.unwrap();
        assert_eq!(sent.status(), 204, "also when it was closed already");
    }
}

async fn cut(harness: &Harness, what: &str, client: &str) {
    let body = match what {
        "subject" => serde_json::json!({"kind": "subject", "id": "alice"}),
        "client" => serde_json::json!({"kind": "client", "id": client}),
        "tokens" => serde_json::json!({"kind": "subject", "id": "alice", "ends": "tokens"}),
        _ => serde_json::json!({"kind": "all"}),
    };
    let (status, body) = harness.post("/v1/revocations", APP, &body).await;
    assert_eq!(status, 201, "{body}");
}

/// The state that the operator sees, and what it means for every access token that was handed out.
async fn ends(harness: &Harness, session: &str, state: &str, access: &[String], scenario: &str) {
    let (status, body) = harness.get(&format!("/v1/sessions/{session}")).await;
    if state == "gone" {
        assert!(status == 404 || body["state"] == "expired", "{scenario}: {body}");
        return;
    }
    assert_eq!(body["state"], state, "{scenario}");
    let newest = access.last().unwrap();
    assert_eq!(harness.active(newest).await, state == "open", "{scenario}: the newest access token");
    if state != "open" {
        for token in access {
            assert!(!harness.active(token).await, "{scenario}: a live access token of an ended session");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ancestor_is_reuse_also_after_a_restart() {
    for replayed in 0..6 {
        let mut harness = Harness::on_disk().await;
        let mut tokens = vec![text(&harness.open("alice").await, "refresh_token").to_owned()];
        for _ in 0..6 {
            let (status, body) = harness.refresh(tokens.last().unwrap(), APP).await;
            assert_eq!(status, 200, "{body}");
            tokens.push(text(&body, "refresh_token").to_owned());
        }
        harness.clock.advance(Duration::from_secs(31));
        harness = harness.restart(|_, _| {}).await;
        // The downtime does not count, so the window is given in full once more.
        harness.clock.advance(Duration::from_secs(31));
        // A proven client is given the parent's successor again, whenever; every other ancestor is reuse.
        let expected = if replayed == 5 { 200 } else { 400 };
        let (status, body) = harness.refresh(&tokens[replayed], APP).await;
        assert_eq!(status, expected, "{replayed}: {body}");
        let (status, _) = harness.refresh(&tokens[6], APP).await;
        assert_eq!(status, expected, "the newest, after {replayed} was replayed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_its_absolute_life_however_often_it_is_used() {
    let harness = Harness::start().await;
    let mut token = text(&harness.open_for("alice", PUBLIC).await, "refresh_token").to_owned();
    for day in 1..=12 {
        harness.clock.advance(Duration::from_secs(7 * 86400));
        let (status, body) = harness.refresh(&token, PUBLIC).await;
        assert_eq!(status, 200, "week {day}: {body}");
        token = text(&body, "refresh_token").to_owned();
    }
    harness.clock.advance(Duration::from_secs(6 * 86400));
    assert_eq!(harness.refresh(&token, PUBLIC).await.0, 400);
}

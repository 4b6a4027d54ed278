//! The webhook: signed, at least once, and nobody's burden.

use std::time::Duration;

use rescind::{service::check_webhook_url, store::embedded::Acceptance};
use rstest::rstest;
use serde_json::json;

use super::{
    receiver::{Receiver, SECRET},
    support::{lines, remove_log, remove_meta, set_meta},
};
use crate::harness::{APP, Harness, OTHER, POWERLESS, PUBLIC, Setup, text};

async fn told(answers: &[u16]) -> (Harness, Receiver) {
    let (receiver, at) = Receiver::start(None, answers).await;
    let webhook = Some((format!("http://{at}/hook"), SECRET.to_owned()));
    let harness = Harness::with(Setup { webhook, on_disk: true, ..Setup::default() }).await;
    begun(&harness).await;
    (harness, receiver)
}

/// From here on: what came before nobody had asked for.
async fn begun(harness: &Harness) {
    for _ in 0..500 {
        if rescind::store::EvidenceStore::cursor(&*harness.store, "webhook").await.unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the webhook does not begin");
}

/// A spent token comes again, after the window. Gives the session.
async fn reuse(harness: &Harness) -> String {
    let opened = harness.open_for("alice", PUBLIC).await;
    harness.refresh(text(&opened, "refresh_token"), PUBLIC).await;
    harness.clock.advance(Duration::from_secs(31));
    assert_eq!(harness.refresh(text(&opened, "refresh_token"), PUBLIC).await.0, 400);
    text(&opened, "session_id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn reuse_is_told_signed_and_without_a_token() {
    let (harness, receiver) = told(&[]).await;
    let session = reuse(&harness).await;
    let message = receiver.wait(1).await.remove(0);
    assert!(message.is_signed(), "{message:?}");
    assert_eq!(message.kind(), "session.reused");
    let record = &message.body["data"]["record"];
    assert_eq!((text(record, "session_id"), text(record, "subject")), (&*session, "alice"));
    assert!(!message.text.contains("rescind_rt_") && !message.text.contains(&harness.secret));
    // The record in the message is that of the log.
    let log = lines(&harness).await;
    assert!(log.iter().any(|line| serde_json::to_value(line).unwrap() == *record));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_told_in_the_order_of_the_log_and_the_rest_is_not() {
    let (harness, receiver) = told(&[]).await;
    reuse(&harness).await;
    let stolen = harness.open("bob").await;
    harness.refresh(text(&stolen, "refresh_token"), OTHER).await;
    harness.post("/v1/revocations", APP, &json!({"kind": "subject", "id": "bob"})).await;
    harness.post("/v1/revocations", APP, &json!({"kind": "client", "id": OTHER, "reason": "its secret leaked"})).await;
    harness.post("/v1/revocations", APP, &json!({"kind": "all"})).await;
    let (_, rotated) = harness.post("/v1/keys/rotate", APP, &json!({"dangerous_without_waiting": true})).await;
    let key = json!({"kind": "key", "id": rotated["retiring"], "reason": "leaked"});
    assert_eq!(harness.post("/v1/revocations", APP, &key).await.0, 201);
    let kinds: Vec<_> = receiver.wait(7).await.iter().map(|m| m.kind().to_owned()).collect();
    let expected = [
        "session.reused",
        "token.leaked",
        "revocation.mass",
        "revocation.mass",
        "key.rotated",
        "key.revoked",
        "key.compromised",
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_sent_again_the_same_and_redirects_are_not_followed() {
    let (harness, receiver) = told(&[500, 302]).await;
    reuse(&harness).await;
    let got = receiver.wait(3).await;
    assert!(got.iter().all(|m| m.id == got[0].id && m.text == got[0].text && m.is_signed()), "{got:?}");
    assert_eq!(receiver.redirected(), 0);
    // Taken once, it is not sent a fourth time; the next one is another.
    reuse(&harness).await;
    let got = receiver.wait(4).await;
    assert_ne!(got[3].id, got[0].id);
    let metrics =
        harness.http.get(format!("{}/metrics", harness.operations)).send().await.unwrap().text().await.unwrap();
    for line in ["deliveries_total{outcome=\"failed\"} 2", "deliveries_total{outcome=\"delivered\"} 2"] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_took_is_told_after_a_restart() {
    let (mut harness, receiver) = told(&[503; 1000]).await;
    let session = reuse(&harness).await;
    let first = receiver.wait(1).await.remove(0);
    let (second, at) = Receiver::start(None, &[]).await;
    harness =
        harness.restart(move |setup, _| setup.webhook = Some((format!("http://{at}/hook"), SECRET.to_owned()))).await;
    let message = second.wait(1).await.remove(0);
    assert_eq!((message.id, text(&message.body["data"]["record"], "session_id")), (first.id, &*session));
    assert!(harness.store.id() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_time_it_begins_with_what_happens_from_then_on() {
    let mut harness = Harness::on_disk().await;
    reuse(&harness).await;
    let (receiver, at) = Receiver::start(None, &[]).await;
    harness =
        harness.restart(move |setup, _| setup.webhook = Some((format!("http://{at}/hook"), SECRET.to_owned()))).await;
    begun(&harness).await;
    let session = reuse(&harness).await;
    let first = receiver.wait(1).await.remove(0);
    assert_eq!(text(&first.body["data"]["record"], "session_id"), session);
}

/// The store is gone, and the cursor with it. That is the first thing to be told.
#[rstest]
#[case::at_the_start(Acceptance::EndSessions)]
#[case::while_it_serves(Acceptance::Wait)]
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_was_accepted_is_told_although_the_cursor_went_with_it(#[case] acceptance: Acceptance) {
    let (mut harness, receiver) = told(&[]).await;
    reuse(&harness).await;
    receiver.wait(1).await;
    harness = harness
        .restart(move |setup, path| {
            std::fs::remove_file(path.unwrap().join("store.redb")).unwrap();
            setup.acceptance = acceptance;
        })
        .await;
    if acceptance == Acceptance::Wait {
        let (status, body) = harness.post("/v1/store/restored", APP, &json!({})).await;
        assert_eq!(status, 200, "{body}");
    }
    let got = receiver.wait(3).await;
    assert_eq!([got[1].kind(), got[2].kind()], ["revocation.mass", "store.accepted"]);
}

/// Who can write the store can write the cursor.
#[rstest]
#[case::gone(None)]
#[case::beyond_the_end(Some(b"\xff\xff\xff\xff\x7f".as_slice()))]
#[case::just_beyond_the_end(Some(b"\x09".as_slice()))]
#[case::no_number(Some(b"\x80".as_slice()))]
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_log_is_told_whatever_the_store_says_of_the_cursor(#[case] cursor: Option<&'static [u8]>) {
    let (mut harness, receiver) = told(&[]).await;
    harness.open("alice").await;
    harness = harness
        .restart(move |_, path| {
            let store = path.unwrap().join("store.redb");
            remove_log(&store);
            cursor.map_or_else(|| remove_meta(&store, "cursor webhook"), |at| set_meta(&store, "cursor webhook", at));
        })
        .await;
    harness.open("bob").await;
    assert_eq!(receiver.wait(1).await[0].kind(), "audit.broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_nobody() {
    // Accepts, and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let webhook = Some((format!("http://{}/hook", listener.local_addr().unwrap()), SECRET.to_owned()));
    let harness = Harness::with(Setup { webhook, ..Setup::default() }).await;
    let work = async {
        for _ in 0..5 {
            reuse(&harness).await;
            harness.open("bob").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(8), work).await.expect("less than the webhook may take for one attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_message_says_how_it_went() {
    let (harness, receiver) = told(&[204, 500]).await;
    let (status, body) = harness.post("/v1/webhook/test", APP, &json!({})).await;
    assert_eq!((status, &body["delivered"], &body["status"]), (200, &json!(true), &json!(204)), "{body}");
    let (_, body) = harness.post("/v1/webhook/test", APP, &json!({})).await;
    assert_eq!((&body["delivered"], &body["status"]), (&json!(false), &json!(500)), "{body}");
    let got = receiver.got();
    assert!(got.iter().all(|m| m.is_signed() && m.kind() == "webhook.test") && got.len() == 2);
    assert_eq!(harness.post("/v1/webhook/test", POWERLESS, &json!({})).await.0, 403);
    let without = Harness::start().await;
    let (status, body) = without.post("/v1/webhook/test", APP, &json!({})).await;
    assert_eq!((status, text(&body, "code")), (409, "no_webhook"));
}

#[test]
fn only_an_address_that_nobody_on_the_way_can_read_is_taken() {
    for bad in ["http://hooks.example/x", "hooks.example", "ftp://127.0.0.1/", "https://user:word@hooks.example/"] {
        let refused = check_webhook_url(bad).unwrap_err().to_string();
        assert!(refused.starts_with("webhook.url: ") && !refused.contains("word"), "{refused}");
    }
    for good in ["https://hooks.example/x", "http://127.0.0.1:1/", "http://localhost/"] {
        assert!(check_webhook_url(good).is_ok(), "{good}");
    }
}

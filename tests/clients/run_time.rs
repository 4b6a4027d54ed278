//! Clients are disabled, enabled and given new secrets while the service runs, and a restart changes nothing of it.

use std::time::Duration;

use rescind::{
    model::audit::{Draft, Event},
    service::{Client, Error, Permission, SecretHash},
    store::{BookChange, BookChanged, ClientStore},
};
use serde_json::{Value, json};

use crate::harness::{APP, Harness, OTHER, POWERLESS, PUBLIC, Setup, answer, clients, random_secret, text};

async fn change(harness: &Harness, client: &str, what: &str, body: Value) -> (u16, Value) {
    harness.post(&format!("/v1/clients/{client}/{what}"), APP, &body).await
}

/// Whether this secret is good for that client.
async fn is_good(harness: &Harness, client: &str, secret: &str) -> bool {
    let form = [("token", "nothing")];
    let request = harness.http.post(format!("{}/oauth2/revoke", harness.base)).basic_auth(client, Some(secret));
    match answer(request.form(&form)).await.0 {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_disabled_client_is_refused_at_every_door_until_it_is_enabled() {
    let harness = Harness::on_disk().await;
    let mine = harness.open_for("alice", OTHER).await;
    let token = text(&mine, "refresh_token").to_owned();
    let (status, body) = change(&harness, OTHER, "disable", json!({"reason": "leaked"})).await;
    assert_eq!((status, &body["client"]["state"]), (200, &json!("disabled")), "{body}");
    assert_eq!(body["client"]["disabled"]["by"], APP);
    assert_eq!(body["revocation"], Value::Null);
    let harness = harness.restart(|_, _| ()).await;
    assert_eq!(harness.refresh(&token, OTHER).await.0, 401, "refresh");
    assert_eq!(harness.form("/oauth2/introspect", OTHER, &[("token", "x")]).await.0, 401, "introspection");
    assert_eq!(harness.form("/oauth2/revoke", OTHER, &[("token", "x")]).await.0, 401, "revocation");
    assert_eq!(harness.form("/oauth2/token", OTHER, &[("grant_type", "client_credentials")]).await.0, 401);
    assert_eq!(harness.post("/v1/sessions", OTHER, &json!({})).await.0, 401, "/v1");
    let order = json!({"subject": "bob", "audience": ["api"], "client_id": OTHER});
    let (status, body) = harness.post("/v1/sessions", APP, &order).await;
    assert_eq!((status, &body["field"]), (400, &json!("client_id")), "nobody opens sessions for it: {body}");
    assert!(harness.active(text(&mine, "access_token")).await, "its sessions go on unless that is asked for");
    let (status, body) = change(&harness, OTHER, "enable", json!({})).await;
    assert_eq!((status, &body["state"]), (200, &json!("enabled")));
    assert_eq!(harness.refresh(&token, OTHER).await.0, 200);
}

#[tokio::test]
async fn a_public_client_can_be_disabled_too() {
    let harness = Harness::start().await;
    let opened = harness.open_for("alice", PUBLIC).await;
    change(&harness, PUBLIC, "disable", json!({})).await;
    assert_eq!(harness.refresh(text(&opened, "refresh_token"), PUBLIC).await.0, 401);
}

#[tokio::test]
async fn its_sessions_end_in_the_same_step_if_that_is_asked_for() {
    let harness = Harness::start().await;
    let (theirs, mine) = (harness.open_for("alice", OTHER).await, harness.open("alice").await);
    let (status, body) = change(&harness, OTHER, "disable", json!({"end_sessions": true})).await;
    assert_eq!((status, &body["revocation"]["kind"]), (200, &json!("client")), "{body}");
    assert!(!harness.active(text(&theirs, "access_token")).await);
    assert!(harness.active(text(&mine, "access_token")).await, "another client's session");
    change(&harness, OTHER, "enable", json!({})).await;
    assert_eq!(harness.refresh(text(&theirs, "refresh_token"), OTHER).await.0, 400, "what ended stays ended");
    let anew = harness.open_for("alice", OTHER).await;
    assert_eq!(harness.refresh(text(&anew, "refresh_token"), OTHER).await.0, 200);
}

#[tokio::test]
async fn sessions_can_be_ended_of_a_client_that_is_disabled_already() {
    let harness = Harness::start().await;
    let theirs = harness.open_for("alice", OTHER).await;
    let (_, first) = change(&harness, OTHER, "disable", json!({})).await;
    harness.clock.advance(Duration::from_secs(5));
    let (status, body) = change(&harness, OTHER, "disable", json!({"end_sessions": true})).await;
    assert_eq!((status, &body["client"]["disabled"]), (200, &first["client"]["disabled"]), "since when does not move");
    assert!(!harness.active(text(&theirs, "access_token")).await);
}

/// It was let in before it was disabled, and its exchange is carried out after.
#[tokio::test]
async fn a_request_that_was_let_in_before_gets_no_tokens_after() {
    let harness = Harness::start().await;
    let opened = harness.open_for("alice", OTHER).await;
    let ctx = harness.let_in_by_secret(OTHER).await;
    change(&harness, OTHER, "disable", json!({})).await;
    let refreshed = harness.service.refresh(&ctx, text(&opened, "refresh_token"), None).await;
    assert!(matches!(refreshed, Err(Error::Client)), "{refreshed:?}");
    let own = harness.service.client_credentials(&ctx, None).await;
    assert!(matches!(own, Err(Error::Client)), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_last_byte_is_held_back_is_judged_when_it_comes() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let harness = Harness::start().await;
    let body = json!({"subject": "alice", "audience": ["api"]}).to_string();
    let basic = BASE64_STANDARD.encode(format!("{OTHER}:{}", harness.secret));
    let head = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let address = harness.base.strip_prefix("http://").unwrap();
    let mut held = tokio::net::TcpStream::connect(address).await.unwrap();
    let (most, last) = body.split_at(body.len() - 1);
    held.write_all(format!("{head}{most}").as_bytes()).await.unwrap();
    // Meanwhile the server has every chance to read the head.
    for _ in 0..20 {
        assert!(is_good(&harness, OTHER, &harness.secret).await);
    }
    assert_eq!(change(&harness, OTHER, "disable", json!({})).await.0, 200);
    held.write_all(last.as_bytes()).await.unwrap();
    let mut said = String::new();
    held.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
}

#[tokio::test]
async fn a_change_counts_although_its_caller_has_hung_up() {
    let harness = Harness::start().await;
    let ctx = harness.let_in_by_secret(APP).await;
    {
        let id = OTHER.parse().unwrap();
        let mut change = std::pin::pin!(harness.service.disable_client(&ctx, &id, false, None));
        // It has begun, and nobody waits for it any more.
        let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(change.as_mut().poll(cx).is_pending())).await;
        assert!(begun);
    }
    let mut tries = 0;
    while is_good(&harness, OTHER, &harness.secret).await {
        tries += 1;
        assert!(tries < 1000, "what is durable counts");
    }
    assert_eq!(change(&harness, OTHER, "enable", json!({})).await.0, 200);
}

#[tokio::test]
async fn what_another_node_has_written_is_taken_up_before_the_next_change() {
    let harness = Harness::start().await;
    change(&harness, OTHER, "disable", json!({})).await;
    let stored = harness.store.client_book().unwrap();
    let genuine = stored.clone().unwrap();
    change(&harness, OTHER, "enable", json!({})).await;
    // Another node puts the older book in the place of ours.
    let seen = harness.store.client_book().unwrap();
    let other = BookChange {
        seen,
        sealed: genuine,
        denial: None,
        event: Event::ClientDisabled,
        cause: None,
        audit: Draft::default(),
    };
    assert_eq!(harness.store.amend_book(other).await.unwrap(), BookChanged::Done(None));
    let (status, body) = change(&harness, POWERLESS, "disable", json!({})).await;
    assert_eq!((status, &body["code"]), (409, &json!("concurrent_change")));
    assert!(is_good(&harness, OTHER, &harness.secret).await, "what this node knows is newer");
    assert_eq!(change(&harness, POWERLESS, "disable", json!({})).await.0, 200, "and can be written again");
}

#[tokio::test]
async fn a_new_secret_works_beside_the_old_one_and_a_third_is_refused() {
    let harness = Harness::on_disk().await;
    let (status, body) = change(&harness, OTHER, "secrets", json!({})).await;
    assert_eq!(status, 201, "{body}");
    let new = text(&body, "client_secret").to_owned();
    assert_eq!(body["secrets"].as_array().unwrap().len(), 2);
    let harness = harness.restart(|_, _| ()).await;
    assert!(is_good(&harness, OTHER, &new).await && is_good(&harness, OTHER, &harness.secret).await);
    let (status, body) = change(&harness, OTHER, "secrets", json!({})).await;
    assert_eq!((status, &body["code"]), (409, &json!("two_secrets")));
    let (status, body) = change(&harness, OTHER, "secrets", json!({"drop_old": true})).await;
    assert_eq!((status, body["secrets"].as_array().unwrap().len()), (201, 1), "{body}");
    assert!(!is_good(&harness, OTHER, &new).await && !is_good(&harness, OTHER, &harness.secret).await);
    assert!(is_good(&harness, OTHER, text(&body, "client_secret")).await);
    let harness = harness.restart(|_, _| ()).await;
    assert!(!is_good(&harness, OTHER, &harness.secret).await, "dropped is dropped, although it is configured");
}

#[tokio::test]
async fn old_secrets_end_when_it_was_said() {
    let harness = Harness::start().await;
    let (_, body) = change(&harness, OTHER, "secrets", json!({"drop_old_after": "12h"})).await;
    let new = text(&body, "client_secret").to_owned();
    harness.clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert!(is_good(&harness, OTHER, &harness.secret).await);
    harness.clock.advance(Duration::from_secs(1));
    assert!(!is_good(&harness, OTHER, &harness.secret).await && is_good(&harness, OTHER, &new).await);
    let (status, _) = change(&harness, OTHER, "secrets", json!({"drop_old_after": "12h"})).await;
    assert_eq!(status, 201, "there is room for another");
}

#[tokio::test]
async fn one_secret_can_be_dropped_and_the_last_one_stays() {
    let harness = Harness::start().await;
    let (_, body) = change(&harness, OTHER, "secrets", json!({})).await;
    let (new, id) = (text(&body, "client_secret"), text(&body, "secret_id"));
    let drop = |id: String| {
        let url = format!("{}/v1/clients/{OTHER}/secrets/{id}", harness.base);
        answer(harness.http.delete(url).basic_auth(APP, Some(&harness.secret)))
    };
    assert_eq!(drop("000000000000".into()).await.0, 404);
    assert_eq!(drop(id.into()).await.0, 200);
    assert!(!is_good(&harness, OTHER, new).await && is_good(&harness, OTHER, &harness.secret).await);
    let (status, body) = drop(SecretHash::of(&harness.secret).id()).await;
    assert_eq!((status, &body["code"]), (409, &json!("last_secret")));
}

#[tokio::test]
async fn nobody_gets_the_secret_of_a_client_that_may_more() {
    let secret = random_secret();
    let clerk = Client {
        secrets: vec![SecretHash::of(&secret)],
        permissions: [Permission::ClientsWrite].into(),
        ..Client::new("clerk".parse().unwrap())
    };
    let harness = Harness::with(Setup { clients: vec![clerk], ..Setup::default() }).await;
    let rotate = |id: &str| {
        let url = format!("{}/v1/clients/{id}/secrets", harness.base);
        answer(harness.http.post(url).basic_auth("clerk", Some(&secret)).json(&json!({})))
    };
    let (status, body) = rotate(APP).await;
    assert_eq!((status, &body["code"]), (403, &json!("beyond_permission")), "{body}");
    assert_eq!(rotate(POWERLESS).await.0, 201);
}

#[tokio::test]
async fn nobody_gets_the_secret_of_a_client_that_reaches_further() {
    let secret = random_secret();
    let clerk = Client {
        secrets: vec![SecretHash::of(&secret)],
        permissions: [Permission::ClientsWrite].into(),
        audience: Some(vec!["low".parse().unwrap()]),
        ..Client::new("clerk".parse().unwrap())
    };
    let near = Client {
        secrets: vec![SecretHash::of(&random_secret())],
        audience: Some(vec!["low".parse().unwrap()]),
        ..Client::new("near".parse().unwrap())
    };
    let far = Client {
        audience: Some(vec!["bank".parse().unwrap()]),
        ..Client { id: "far".parse().unwrap(), ..near.clone() }
    };
    let harness = Harness::with(Setup { clients: vec![clerk, near, far], ..Setup::default() }).await;
    let ask = |id: &str, what: &str, body: Value| {
        let url = format!("{}/v1/clients/{id}/{what}", harness.base);
        answer(harness.http.post(url).basic_auth("clerk", Some(&secret)).json(&body))
    };
    let (status, body) = ask("far", "secrets", json!({})).await;
    assert_eq!((status, &body["code"]), (403, &json!("beyond_permission")), "{body}");
    assert_eq!(ask("near", "secrets", json!({})).await.0, 201);
    // Ending its sessions is a cut-off of the client, and that is another permission.
    let (status, body) = ask("near", "disable", json!({"end_sessions": true})).await;
    assert_eq!((status, &body["code"]), (403, &json!("insufficient_permission")), "{body}");
    assert_eq!(ask("near", "disable", json!({})).await.0, 200);
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    let harness = Harness::start().await;
    for (client, what, body, status, code) in [
        (APP, "disable", json!({}), 409, "own_client"),
        ("nobody", "disable", json!({}), 404, "not_found"),
        ("nobody", "secrets", json!({}), 404, "not_found"),
        (PUBLIC, "secrets", json!({}), 409, "no_secret"),
        (OTHER, "secrets", json!({"drop_old": true, "drop_old_after": "1h"}), 400, "invalid_request"),
        (OTHER, "secrets", json!({"drop_old_after": "soon"}), 400, "invalid_request"),
        (OTHER, "secrets", json!({"drop_old_after": "91d"}), 400, "invalid_request"),
        (OTHER, "disable", json!({"reason": ""}), 400, "invalid_request"),
        (OTHER, "disable", json!({"sessions": true}), 400, "invalid_request"),
    ] {
        let (got, problem) = change(&harness, client, what, body).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{client} {what}: {problem}");
    }
}

#[tokio::test]
async fn another_configuration_changes_nothing_of_what_an_operator_did() {
    let harness = Harness::start().await;
    change(&harness, OTHER, "disable", json!({})).await;
    let (_, body) = change(&harness, POWERLESS, "secrets", json!({"drop_old": true})).await;
    harness.service.set_clients(clients(&harness.secret, &[]));
    assert!(!is_good(&harness, OTHER, &harness.secret).await);
    assert!(!is_good(&harness, POWERLESS, &harness.secret).await);
    assert!(is_good(&harness, POWERLESS, text(&body, "client_secret")).await);
    harness.service.set_clients(rescind::service::Clients::default());
    assert!(!is_good(&harness, APP, &harness.secret).await, "who is not configured is nobody");
}

#[tokio::test]
async fn the_audit_log_says_who_did_it_and_no_secret_is_kept() {
    let harness = Harness::on_disk().await;
    let (_, body) = change(&harness, OTHER, "secrets", json!({})).await;
    change(&harness, OTHER, "disable", json!({"reason": "leaked", "end_sessions": true})).await;
    change(&harness, OTHER, "enable", json!({})).await;
    let (_, log) = harness.get("/v1/audit").await;
    let seen: Vec<_> =
        log["records"].as_array().unwrap().iter().map(|r| (&r["event"], &r["actor"], &r["client_id"])).collect();
    let expected = ["client_secret_rotated", "client_disabled", "revoked", "client_enabled"].map(|e| json!(e));
    let (app, other) = (json!(APP), json!(OTHER));
    assert_eq!(seen, expected.iter().map(|e| (e, &app, &other)).collect::<Vec<_>>());
    let secret = text(&body, "client_secret").as_bytes();
    let held =
        |file: &str| std::fs::read(harness.path().join(file)).unwrap().windows(secret.len()).any(|w| w == secret);
    assert!(
        !held("store.redb") && !held("keys/clients.sealed") && !log.to_string().contains(text(&body, "client_secret"))
    );
}

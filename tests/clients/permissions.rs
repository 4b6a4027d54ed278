//! Each permission opens what it names, and nothing beside it.

use std::collections::BTreeSet;

use rescind::service::{Client, Permission, SecretHash};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Harness, PUBLIC, Setup, answer, text};

const ONE: &str = "one";

/// A node with a client that may do this and nothing else, and its secret.
async fn start(permissions: &[&str], introspect: Option<&str>) -> (Harness, String) {
    let secret = crate::harness::random_secret();
    let permissions: BTreeSet<Permission> = permissions.iter().map(|p| p.parse().unwrap()).collect();
    let client = Client {
        secrets: vec![SecretHash::of(&secret)],
        permissions,
        introspect_audience: introspect.map(|a| vec![a.parse().unwrap()]),
        ..Client::new(ONE.parse().unwrap())
    };
    (Harness::with(Setup { clients: vec![client], ..Setup::default() }).await, secret)
}

async fn revoke(harness: &Harness, secret: &str, body: &Value) -> u16 {
    let request = harness.http.post(format!("{}/v1/revocations", harness.base)).basic_auth(ONE, Some(secret));
    answer(request.json(body)).await.0
}

#[rstest]
#[tokio::test]
async fn a_kind_of_revocation_is_a_permission_of_its_own(
    #[values("token", "session", "subject", "client", "all")] kind: &str,
    #[values("token", "session", "subject", "client", "all")] asked: &str,
) {
    let (harness, secret) = start(&[&format!("revoke:{kind}")], None).await;
    let id = match asked {
        "token" | "session" => json!("01a3f2c4-0000-7000-8000-000000000000"),
        "all" => Value::Null,
        _ => json!("somebody"),
    };
    let status = revoke(&harness, &secret, &json!({"kind": asked, "id": id})).await;
    assert_eq!(status, if kind == asked { 201 } else { 403 });
}

#[tokio::test]
async fn plain_revoke_covers_every_kind_and_whoever_revokes_may_read() {
    let (harness, secret) = start(&["revoke"], None).await;
    assert_eq!(revoke(&harness, &secret, &json!({"kind": "subject", "id": "bob"})).await, 201);
    assert_eq!(revoke(&harness, &secret, &json!({"kind": "all"})).await, 201);
    let list = harness.http.get(format!("{}/v1/revocations", harness.base)).basic_auth(ONE, Some(&secret));
    assert_eq!(answer(list).await.0, 200);
    let (harness, secret) = start(&["revocations:read"], None).await;
    let list = harness.http.get(format!("{}/v1/revocations", harness.base)).basic_auth(ONE, Some(&secret));
    assert_eq!(answer(list).await.0, 200);
    assert_eq!(revoke(&harness, &secret, &json!({"kind": "all"})).await, 403);
}

/// A resource server learns nothing of tokens for others (RFC 7662 §4).
#[rstest]
#[case::its_own("api", true)]
#[case::for_others("billing", false)]
#[tokio::test]
async fn introspection_reaches_as_far_as_its_audience(#[case] audience: &str, #[case] active: bool) {
    let (harness, secret) = start(&["introspect"], Some(audience)).await;
    let opened = harness.open_for("alice", PUBLIC).await;
    for token in ["access_token", "refresh_token"] {
        let form = [("token", text(&opened, token))];
        let request = harness.http.post(format!("{}/oauth2/introspect", harness.base)).basic_auth(ONE, Some(&secret));
        let (status, body) = answer(request.form(&form)).await;
        assert_eq!((status, &body["active"]), (200, &json!(active)), "{token}");
        assert!(active || body == json!({"active": false}), "{body}");
    }
}

#[rstest]
#[case::look("clients:read", 200, 403)]
#[case::change("clients:write", 403, 200)]
#[tokio::test]
async fn looking_at_clients_and_changing_them_are_two_things(
    #[case] permission: &str,
    #[case] read: u16,
    #[case] write: u16,
) {
    let (harness, secret) = start(&[permission], None).await;
    let list = harness.http.get(format!("{}/v1/clients", harness.base)).basic_auth(ONE, Some(&secret));
    assert_eq!(answer(list).await.0, read);
    let disable = harness.http.post(format!("{}/v1/clients/{PUBLIC}/disable", harness.base));
    assert_eq!(answer(disable.basic_auth(ONE, Some(&secret))).await.0, write);
}

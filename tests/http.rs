//! The wire, to the letter of the RFCs: golden status and body per error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use std::time::Duration;

use base64::Engine;
use harness::{APP, Harness, OTHER, POWERLESS, PUBLIC, Setup, answer, text};
use rescind::http::Limits;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FORM: &str = "application/x-www-form-urlencoded";

async fn raw_token(
    harness: &Harness,
    body: &str,
    headers: &[(&str, &str)],
) -> (u16, Value, reqwest::header::HeaderMap) {
    let mut request = harness.http.post(format!("{}/oauth2/token", harness.base)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)), headers)
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

/// Each: what is sent (`SECRET` and `TOKEN` are filled in), how it authenticates, status, error.
#[rstest]
#[case::no_client("grant_type=refresh_token&refresh_token=TOKEN", "", 401, "invalid_client")]
#[case::wrong_secret("grant_type=refresh_token&refresh_token=TOKEN", "basic app wrong", 401, "invalid_client")]
#[case::unknown_client("grant_type=refresh_token&refresh_token=TOKEN", "basic nobody SECRET", 401, "invalid_client")]
#[case::other_scheme("grant_type=refresh_token&refresh_token=TOKEN", "bearer", 401, "invalid_client")]
#[case::broken_basic("grant_type=refresh_token&refresh_token=TOKEN", "broken", 401, "invalid_client")]
#[case::confidential_by_name("grant_type=refresh_token&refresh_token=TOKEN&client_id=app", "", 401, "invalid_client")]
#[case::public_with_secret(
    "grant_type=refresh_token&refresh_token=TOKEN&client_id=public&client_secret=x",
    "",
    401,
    "invalid_client"
)]
#[case::empty_secret_is_no_secret(
    "grant_type=refresh_token&refresh_token=TOKEN&client_id=app&client_secret=",
    "",
    401,
    "invalid_client"
)]
#[case::assertion_without_its_type(
    "grant_type=refresh_token&refresh_token=TOKEN&client_id=app&client_assertion=x",
    "",
    400,
    "invalid_request"
)]
#[case::two_ways(
    "grant_type=refresh_token&refresh_token=TOKEN&client_id=app&client_secret=SECRET",
    "basic app SECRET",
    400,
    "invalid_request"
)]
#[case::two_names(
    "grant_type=refresh_token&refresh_token=TOKEN&client_id=other",
    "basic app SECRET",
    400,
    "invalid_request"
)]
#[case::no_grant_type("refresh_token=TOKEN", "basic app SECRET", 400, "invalid_request")]
#[case::empty_grant_type("grant_type=&refresh_token=TOKEN", "basic app SECRET", 400, "invalid_request")]
#[case::unknown_grant_type(
    "grant_type=password&username=a&password=b",
    "basic app SECRET",
    400,
    "unsupported_grant_type"
)]
#[case::no_token("grant_type=refresh_token", "basic app SECRET", 400, "invalid_request")]
#[case::empty_token("grant_type=refresh_token&refresh_token=", "basic app SECRET", 400, "invalid_request")]
#[case::repeated(
    "grant_type=refresh_token&grant_type=refresh_token&refresh_token=TOKEN",
    "basic app SECRET",
    400,
    "invalid_request"
)]
#[case::repeated_unknown(
    "grant_type=refresh_token&refresh_token=TOKEN&x=1&x=2",
    "basic app SECRET",
    400,
    "invalid_request"
)]
#[case::garbage_token("grant_type=refresh_token&refresh_token=garbage", "basic app SECRET", 400, "invalid_grant")]
#[case::prefix_alone("grant_type=refresh_token&refresh_token=rescind_rt_", "basic app SECRET", 400, "invalid_grant")]
#[case::wider_scope(
    "grant_type=refresh_token&refresh_token=TOKEN&scope=admin",
    "basic app SECRET",
    400,
    "invalid_scope"
)]
#[case::broken_scope(
    "grant_type=refresh_token&refresh_token=TOKEN&scope=a%20%20b",
    "basic app SECRET",
    400,
    "invalid_scope"
)]
#[case::not_utf8("grant_type=refresh_token&refresh_token=%ff%fe", "basic app SECRET", 400, "invalid_request")]
#[case::powerless("grant_type=client_credentials", "basic powerless SECRET", 400, "unauthorized_client")]
#[case::public_credentials("grant_type=client_credentials&client_id=public", "", 400, "unauthorized_client")]
#[tokio::test(flavor = "multi_thread")]
async fn token_endpoint_refuses(#[case] body: &str, #[case] auth: &str, #[case] status: u16, #[case] error: &str) {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let token = text(&opened, "refresh_token");
    let fill = |s: &str| s.replace("SECRET", &harness.secret).replace("TOKEN", token);
    let mut headers = vec![("content-type", FORM.to_owned())];
    match auth.split(' ').collect::<Vec<_>>()[..] {
        ["basic", id, secret] => headers.push(("authorization", basic(id, &fill(secret)))),
        ["bearer"] => headers.push(("authorization", "Bearer x".into())),
        ["broken"] => headers.push(("authorization", "Basic !!!".into())),
        _ => {}
    }
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let (got, answer, headers) = raw_token(&harness, &fill(body), &headers).await;
    assert_eq!((got, text(&answer, "error")), (status, error), "{answer}");
    assert!(!answer.to_string().contains(token), "an error must not quote the token");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers.contains_key("www-authenticate"), status == 401);
    // Whatever was wrong, nothing was spent.
    assert_eq!(harness.refresh(token, APP).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_endpoint_answers_as_rfc_6749_5_1() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let body = format!("grant_type=refresh_token&unknown=1&refresh_token={}", text(&opened, "refresh_token"));
    let auth = basic(APP, &harness.secret);
    let (status, answer, headers) =
        raw_token(&harness, &body, &[("content-type", FORM), ("authorization", &auth)]).await;
    assert_eq!(status, 200, "unknown parameters are ignored: {answer}");
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 300);
    assert_eq!(answer["scope"], "read write");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["pragma"], "no-cache");
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_secret_post_and_form_encoded_basic_are_understood() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let token = text(&opened, "refresh_token");
    let body =
        format!("grant_type=refresh_token&refresh_token={token}&client_id={APP}&client_secret={}", harness.secret);
    assert_eq!(raw_token(&harness, &body, &[("content-type", FORM)]).await.0, 200);
    let encoded = format!("%61pp:{}", harness.secret);
    let auth = format!("basic {}", base64::prelude::BASE64_STANDARD.encode(encoded));
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    let (status, answer, _) = raw_token(
        &harness,
        &body,
        &[("content-type", "application/x-www-form-urlencoded; charset=utf-8"), ("authorization", &auth)],
    )
    .await;
    assert_eq!(status, 200, "{answer}");
}

#[rstest]
#[case("GET", "/oauth2/token", 405)]
#[case("PUT", "/oauth2/token", 405)]
#[case("GET", "/oauth2/revoke", 405)]
#[case("GET", "/oauth2/introspect", 405)]
#[case("POST", "/.well-known/jwks.json", 405)]
#[case("GET", "/nowhere", 404)]
#[case("GET", "/metrics", 404)]
#[tokio::test(flavor = "multi_thread")]
async fn methods_and_paths(#[case] method: &str, #[case] path: &str, #[case] status: u16) {
    let harness = Harness::start().await;
    let url = format!("{}{path}", harness.base);
    let response = harness.http.request(method.parse().unwrap(), url).send().await.unwrap();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers().contains_key("allow"), status == 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_in_urls_json_bodies_and_endless_bodies_are_refused() {
    let harness = Harness::start().await;
    let auth = basic(APP, &harness.secret);
    let url = format!("{}/oauth2/token?refresh_token=x", harness.base);
    let request = harness.http.post(url).header("authorization", &auth).form(&[("grant_type", "refresh_token")]);
    assert_eq!(answer(request).await.1["error"], "invalid_request");
    let (status, answer, _) =
        raw_token(&harness, "{}", &[("content-type", "application/json"), ("authorization", &auth)]).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_request"));
    let long = format!("grant_type=refresh_token&x={}", "a".repeat(1 << 20));
    let (status, answer, _) = raw_token(&harness, &long, &[("content-type", FORM), ("authorization", &auth)]).await;
    assert_eq!((status, text(&answer, "error")), (400, "invalid_request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn narrower_scope_narrows_the_access_token_and_not_the_session() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", text(&opened, "refresh_token")), ("scope", "read")];
    let (_, narrowed) = harness.form("/oauth2/token", APP, &form).await;
    assert_eq!(narrowed["scope"], "read");
    let (_, full) = harness.refresh(text(&narrowed, "refresh_token"), APP).await;
    assert_eq!(full["scope"], "read write");
}

#[tokio::test(flavor = "multi_thread")]
async fn introspection_is_rfc_7662() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let (access, refresh) = (text(&opened, "access_token"), text(&opened, "refresh_token"));
    let ask = |client: &'static str, token: String| {
        let harness = &harness;
        async move {
            harness.form("/oauth2/introspect", client, &[("token", &token), ("token_type_hint", "access_token")]).await
        }
    };
    let (status, found) = ask(APP, access.into()).await;
    assert_eq!(status, 200);
    for (member, expected) in
        [("active", json!(true)), ("sub", json!("alice")), ("client_id", json!(APP)), ("token_type", json!("Bearer"))]
    {
        assert_eq!(found[member], expected);
    }
    assert_eq!(found["sid"], opened["session_id"]);
    let (_, found) = ask(APP, refresh.into()).await;
    assert_eq!((&found["active"], &found["sub"]), (&json!(true), &json!("alice")));
    // Looking changes nothing.
    let before = harness.get(&format!("/v1/sessions/{}", text(&opened, "session_id"))).await;
    assert_eq!(before.1["generation"], 0);
    assert_eq!(ask(POWERLESS, access.into()).await.0, 403);
    assert_eq!(ask(PUBLIC, access.into()).await.0, 401);
    for garbage in ["x", "a.b.c", "rescind_rt_x", &format!("{access}x"), &format!("{refresh}x")] {
        assert_eq!(ask(APP, garbage.into()).await, (200, json!({"active": false})), "{garbage}");
    }
    assert_eq!(harness.refresh(refresh, APP).await.0, 200);
    assert_eq!(ask(APP, refresh.into()).await, (200, json!({"active": false})), "spent");
    harness.clock.advance(Duration::from_secs(300));
    assert_eq!(ask(APP, access.into()).await, (200, json!({"active": false})), "expired to the second");
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_is_rfc_7009() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let (access, refresh) = (text(&opened, "access_token"), text(&opened, "refresh_token"));
    let revoke = |client: &'static str, token: String| {
        let harness = &harness;
        async move { harness.form("/oauth2/revoke", client, &[("token", &token), ("token_type_hint", "nonsense")]).await }
    };
    for garbage in ["x", "a.b.c", "rescind_rt_x"] {
        assert_eq!(revoke(APP, garbage.into()).await.0, 200, "what is no token is not valid any more");
    }
    for token in [access, refresh] {
        let (status, answer) = revoke(OTHER, token.into()).await;
        assert_eq!((status, text(&answer, "error")), (400, "invalid_grant"));
    }
    assert!(harness.active(access).await, "another client's request changes nothing");
    assert_eq!(revoke(APP, access.into()).await.0, 200);
    assert!(!harness.active(access).await);
    let (status, renewed) = harness.refresh(refresh, APP).await;
    assert_eq!(status, 200, "an access token's revocation ends that token alone");
    let newer = text(&renewed, "access_token");
    assert!(harness.active(newer).await);
    assert_eq!(revoke(APP, text(&renewed, "refresh_token").into()).await.0, 200);
    assert!(!harness.active(newer).await, "a refresh token's revocation ends the session's access tokens");
    assert_eq!(harness.refresh(text(&renewed, "refresh_token"), APP).await.0, 400);
    assert_eq!(revoke(APP, text(&renewed, "refresh_token").into()).await.0, 200, "again is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_past_its_exp_is_denied_while_a_lenient_verifier_would_accept_it() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let access = text(&opened, "access_token");
    harness.clock.advance(Duration::from_secs(300 + 59));
    assert_eq!(harness.form("/oauth2/revoke", APP, &[("token", access)]).await.0, 200);
    let (_, page) = harness.get("/v1/revocations").await;
    assert_eq!(page["revocations"][0]["kind"], "token", "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_credentials_give_a_token_without_a_session() {
    let harness = Harness::start().await;
    let (status, answer) =
        harness.form("/oauth2/token", APP, &[("grant_type", "client_credentials"), ("scope", "jobs")]).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["scope"], "jobs");
    assert!(answer.get("refresh_token").is_none());
    let token = text(&answer, "access_token");
    let (_, found) = harness.form("/oauth2/introspect", APP, &[("token", token)]).await;
    assert_eq!((&found["sub"], &found["client_id"], found.get("sid")), (&json!(APP), &json!(APP), None));
    // A cut-off of the client ends it; one minted afterwards is good.
    harness.post("/v1/revocations", APP, &json!({"kind": "client", "id": APP})).await;
    assert!(!harness.active(token).await);
    let (_, after) = harness.form("/oauth2/token", APP, &[("grant_type", "client_credentials")]).await;
    assert!(harness.active(text(&after, "access_token")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_keys() {
    let harness = Harness::start().await;
    let (_, metadata) = harness.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["issuer"], harness::ISSUER);
    assert_eq!(metadata["token_endpoint"], json!(format!("{}/oauth2/token", harness::ISSUER)));
    assert_eq!(metadata["response_types_supported"], json!([]));
    let url = format!("{}/.well-known/jwks.json", harness.base);
    let first = harness.http.get(&url).send().await.unwrap();
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(first.headers()["cache-control"], "public, max-age=300");
    let set: Value = first.json().await.unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 3, "the one that signs and those that stand by");
    for key in set["keys"].as_array().unwrap() {
        assert_eq!(
            (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
            (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig"))
        );
        assert!(key.get("d").is_none());
    }
    let unchanged = harness.http.get(&url).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
    harness.clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(harness.post("/v1/keys/rotate", APP, &json!({})).await.0, 200);
    let changed = harness.http.get(&url).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!(changed.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_waits_for_the_standby_and_old_tokens_live_on() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let (status, early) = harness.post("/v1/keys/rotate", APP, &json!({})).await;
    assert_eq!((status, text(&early, "code")), (409, "too_early"));
    assert_eq!(early["earliest"], "2026-11-22T12:20:00.123Z");
    harness.clock.advance(Duration::from_secs(4 * 60));
    let (_, renewed) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    let old = text(&renewed, "access_token");
    harness.clock.advance(Duration::from_secs(16 * 60 - 100));
    assert_eq!(harness.post("/v1/keys/rotate", APP, &json!({})).await.0, 409);
    harness.clock.advance(Duration::from_secs(100));
    let (_, renewed) = harness.refresh(text(&renewed, "refresh_token"), APP).await;
    let before = text(&renewed, "access_token");
    let (status, rotated) = harness.post("/v1/keys/rotate", APP, &json!(null)).await;
    assert_eq!(status, 400, "null is not an object: {rotated}");
    let (status, rotated) = harness.post("/v1/keys/rotate", APP, &json!({})).await;
    assert_eq!(status, 200, "{rotated}");
    assert!(harness.active(before).await);
    assert!(!harness.active(old).await, "expired");
    let (_, renewed) = harness.refresh(text(&renewed, "refresh_token"), APP).await;
    let header = text(&renewed, "access_token").split('.').next().unwrap().to_owned();
    let header: Value =
        serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(
        (&header["kid"], &header["typ"], &header["alg"]),
        (&rotated["active"], &json!("at+jwt"), &json!("EdDSA"))
    );
    // The key that signs cannot be denied; the retiring one can, and its tokens die at once.
    let (status, answer) =
        harness.post("/v1/revocations", APP, &json!({"kind": "key", "id": rotated["pending"]})).await;
    assert_eq!((status, text(&answer, "code")), (409, "standby_key"));
    let deny = |kid: &Value| json!({"kind": "key", "id": kid});
    let (status, answer) = harness.post("/v1/revocations", APP, &deny(&rotated["active"])).await;
    assert_eq!((status, text(&answer, "code")), (409, "active_key"));
    assert!(text(&answer, "detail").contains("rescind keys compromise"));
    let (status, entry) = harness.post("/v1/revocations", APP, &deny(&rotated["retiring"])).await;
    assert_eq!((status, &entry["kept_until"]), (201, &Value::Null), "for ever: {entry}");
    assert!(!harness.active(before).await);
    assert!(harness.active(text(&renewed, "access_token")).await);
    let (_, set) = harness.get("/.well-known/jwks.json").await;
    assert!(!set.to_string().contains(text(&rotated, "retiring")), "and it leaves the JWKS: {set}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_does_not_leave_a_rotation_half_told() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    for _ in 0..5 {
        harness.clock.advance(Duration::from_secs(20 * 60));
        let address = harness.base.trim_start_matches("http://").to_owned();
        let request = format!(
            "POST /v1/keys/rotate HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: 0\r\n\r\n",
            basic(APP, &harness.secret)
        );
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        drop(stream);
    }
    // Whether a request was read before its connection broke is luck; that it is told of if it was is not. Settled is
    // what stays so for a while.
    let mut settled = 0;
    for _ in 0..500 {
        let (_, log) = harness.get("/v1/audit?limit=200").await;
        let told = log["records"].as_array().unwrap().iter().filter(|r| r["event"] == "key_rotated").count();
        let (_, keys) = harness.get("/v1/keys").await;
        let made = keys["keys"].as_array().unwrap().len() - 3;
        settled = if made == told { settled + 1 } else { 0 };
        if settled == 25 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(settled, 25, "a rotation was made that nobody is told of");
    let (_, renewed) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    assert!(harness.active(text(&renewed, "access_token")).await, "the node knows its own keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_of_a_past_instant_reaches_the_tokens_of_now() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    harness.clock.advance(Duration::from_secs(3600));
    let (_, renewed) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    let body = json!({"kind": "subject", "id": "alice", "before": "2026-11-22T12:00:01Z"});
    assert_eq!(harness.post("/v1/revocations", APP, &body).await.0, 201);
    assert!(!harness.active(text(&renewed, "access_token")).await);
    assert_eq!(harness.refresh(text(&renewed, "refresh_token"), APP).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn shorter_lives_in_the_configuration_bring_no_revoked_session_back() {
    let mut harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    harness = harness.restart(|setup, _| setup.lives.absolute = Duration::from_secs(3)).await;
    assert_eq!(harness.post("/v1/revocations", APP, &json!({"kind": "subject", "id": "alice"})).await.0, 201);
    harness.clock.advance(Duration::from_secs(86400));
    // Something else happens, so that what has expired is swept.
    harness.open("bob").await;
    assert_eq!(harness.refresh(text(&opened, "refresh_token"), APP).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_for_a_moment_forgets_no_revocation() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    assert_eq!(harness.form("/oauth2/revoke", APP, &[("token", text(&opened, "access_token"))]).await.0, 200);
    harness.clock.jump(Duration::from_secs(600));
    for subject in ["b", "c", "d"] {
        harness.open(subject).await;
    }
    harness.clock.jump_back(Duration::from_secs(600));
    assert!(!harness.active(text(&opened, "access_token")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_asks_for_too_much_is_judged_first() {
    let harness = Harness::start().await;
    let opened = harness.open_for("alice", PUBLIC).await;
    let first = text(&opened, "refresh_token");
    harness.refresh(first, PUBLIC).await;
    harness.clock.advance(Duration::from_secs(31));
    let form = [("grant_type", "refresh_token"), ("refresh_token", first), ("scope", "root")];
    assert_eq!(harness.form("/oauth2/token", PUBLIC, &form).await.1["error"], "invalid_grant");
    let (_, session) = harness.get(&format!("/v1/sessions/{}", text(&opened, "session_id"))).await;
    assert_eq!(session["state"], "closed", "reuse is reuse, whatever else is asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_already_leaves_no_second_record() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    for _ in 0..5 {
        assert_eq!(harness.form("/oauth2/revoke", APP, &[("token", text(&opened, "access_token"))]).await.0, 200);
    }
    let (_, log) = harness.get("/v1/audit").await;
    assert_eq!(log["records"].as_array().unwrap().len(), 2, "{log}");
}

#[rstest]
#[case::no_subject(json!({"audience": ["api"]}), 400)]
#[case::empty_subject(json!({"subject": "", "audience": ["api"]}), 400)]
#[case::no_audience(json!({"subject": "a", "audience": []}), 400)]
#[case::unknown_member(json!({"subject": "a", "audience": ["api"], "scopes": "x"}), 400)]
#[case::unknown_client(json!({"subject": "a", "audience": ["api"], "client_id": "nobody"}), 400)]
#[case::foreign_audience(json!({"subject": "a", "audience": ["elsewhere"]}), 403)]
#[case::reserved_claim(json!({"subject": "a", "audience": ["api"], "claims": {"sub": "root"}}), 400)]
#[case::confirmation_claim(json!({"subject": "a", "audience": ["api"], "claims": {"cnf": {}}}), 400)]
#[case::deep_claims(json!({"subject": "a", "audience": ["api"], "claims": {"a": [[[[[[[[[1]]]]]]]]]}}), 400)]
#[case::long_claims(json!({"subject": "a", "audience": ["api"], "claims": {"a": "x".repeat(4096)}}), 400)]
#[case::future_authentication(json!({"subject": "a", "audience": ["api"], "auth_time": 99999999999u64}), 400)]
#[case::audience_twice(json!({"subject": "a", "audience": ["api", "api"]}), 400)]
#[case::named_like_a_client(json!({"subject": "app", "audience": ["api"]}), 400)]
#[case::not_an_address(json!({"subject": "a", "audience": ["api"], "device": {"ip": "localhost"}}), 400)]
#[case::nulls_are_absent(json!({"subject": "a", "audience": ["api"], "scope": null, "client_id": null, "device": null, "auth_time": null, "acr": null, "amr": null, "claims": null}), 201)]
#[tokio::test(flavor = "multi_thread")]
async fn opening_a_session(#[case] body: Value, #[case] status: u16) {
    let harness = Harness::start().await;
    let (got, answer) = harness.post("/v1/sessions", APP, &body).await;
    assert_eq!(got, status, "{answer}");
    if status != 201 {
        assert_eq!(answer["status"], status);
        assert!(text(&answer, "type").starts_with("urn:rescind:problem:"));
        assert!(!text(&answer, "detail").is_empty());
    }
    assert_eq!(harness.post("/v1/sessions", POWERLESS, &json!({"subject": "a", "audience": ["api"]})).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_seen_changed_and_listed() {
    let harness = Harness::start().await;
    let body = json!({
        "subject": "alice", "audience": ["api", "billing"], "scope": "read write", "client_id": PUBLIC,
        "device": {"label": "phone", "ip": "2001:db8::1", "user_agent": "agent/1"},
        "auth_time": 1_700_000_000, "acr": "aal2", "amr": ["pwd", "otp"], "claims": {"tenant": "t1"},
    });
    let (_, opened) = harness.post("/v1/sessions", APP, &body).await;
    let path = format!("/v1/sessions/{}", text(&opened, "session_id"));
    let (_, seen) = harness.get(&path).await;
    for member in ["subject", "audience", "scope", "client_id", "device", "auth_time", "acr", "amr", "claims"] {
        assert_eq!(seen[member], body[member], "{member}");
    }
    assert_eq!((&seen["state"], &seen["generation"]), (&json!("open"), &json!(0)));
    let patch = |body: Value| {
        answer(harness.http.patch(format!("{}{path}", harness.base)).basic_auth(APP, Some(&harness.secret)).json(&body))
    };
    assert_eq!(patch(json!({"scope": "read write admin"})).await.0, 400, "only narrower");
    assert_eq!(patch(json!({"audience": ["other"]})).await.0, 400, "only narrower");
    assert_eq!(patch(json!({"audience": []})).await.0, 400);
    let change =
        json!({"claims": {"tenant": "t2", "role": "admin"}, "acr": "aal3", "scope": "read", "audience": ["api"]});
    let (status, changed) = patch(change.clone()).await;
    assert_eq!(status, 200, "{changed}");
    let (_, renewed) = harness.refresh(text(&opened, "refresh_token"), PUBLIC).await;
    let (_, found) = harness.form("/oauth2/introspect", APP, &[("token", text(&renewed, "access_token"))]).await;
    assert_eq!((&found["tenant"], &found["role"], &found["acr"]), (&json!("t2"), &json!("admin"), &json!("aal3")));
    assert_eq!(
        (&found["scope"], &found["aud"], &found["auth_time"]),
        (&json!("read"), &json!("api"), &json!(1_700_000_000))
    );

    for _ in 0..4 {
        harness.clock.advance(Duration::from_millis(1));
        harness.open("alice").await;
    }
    harness.open("bob").await;
    let (_, page) = harness.get("/v1/sessions?subject=alice&limit=3").await;
    assert_eq!((page["total"].as_u64(), page["sessions"].as_array().unwrap().len()), (Some(5), 3));
    let (_, rest) = harness.get(&format!("/v1/sessions?subject=alice&limit=3&after={}", text(&page, "next"))).await;
    assert_eq!((rest["sessions"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));
    assert_eq!(harness.get("/v1/sessions").await.0, 400);
    assert_eq!(harness.get("/v1/sessions?subject=a&limit=0").await.0, 400);
    assert_eq!(harness.get("/v1/sessions/garbage").await.0, 400);
    assert_eq!(harness.get("/v1/sessions/%ff").await.1["code"], "invalid_request");
    assert_eq!(harness.get("/v1/keys?client_secret=x").await.0, 400, "no secret in any URL");
    assert_eq!(harness.get("/v1/sessions/0198e9a0-0000-7000-8000-000000000000").await.0, 404);
}

#[rstest]
#[case::unknown_kind(json!({"kind": "user", "id": "a"}), 400)]
#[case::no_id(json!({"kind": "subject"}), 400)]
#[case::id_for_all(json!({"kind": "all", "id": "x"}), 400)]
#[case::not_a_uuid(json!({"kind": "token", "id": "x"}), 400)]
#[case::unknown_key(json!({"kind": "key", "id": "x"}), 404)]
#[case::unknown_ends(json!({"kind": "subject", "id": "a", "ends": "both"}), 400)]
#[case::ends_of_a_key(json!({"kind": "key", "id": "x", "ends": "sessions"}), 400)]
#[case::future(json!({"kind": "subject", "id": "a", "before": "2026-11-22T13:00:00Z"}), 400)]
#[case::not_an_instant(json!({"kind": "subject", "id": "a", "before": "now"}), 400)]
#[case::instant_of_a_token(json!({"kind": "token", "id": "0198e9a0-0000-7000-8000-000000000000", "before": "2026-11-22T11:00:00Z"}), 400)]
#[case::long_reason(json!({"kind": "all", "reason": "x".repeat(300)}), 400)]
#[case::nulls_are_absent(json!({"kind": "all", "id": null, "ends": null, "before": null, "reason": null}), 201)]
#[case::a_token(json!({"kind": "token", "id": "0198e9a0-0000-7000-8000-000000000000", "reason": "lost laptop"}), 201)]
#[case::an_unknown_session(json!({"kind": "session", "id": "0198e9a0-0000-7000-8000-000000000000"}), 201)]
#[tokio::test(flavor = "multi_thread")]
async fn revoking(#[case] body: Value, #[case] status: u16) {
    let harness = Harness::start().await;
    let (got, answer) = harness.post("/v1/revocations", APP, &body).await;
    assert_eq!(got, status, "{answer}");
    assert_eq!(harness.post("/v1/revocations", POWERLESS, &json!({"kind": "all"})).await.0, 403);
    let (_, page) = harness.get("/v1/revocations").await;
    assert_eq!(page["revocations"].as_array().unwrap().len(), usize::from(status == 201));
    if status == 201 {
        assert_eq!(page["revocations"][0]["position"], answer["position"]);
        assert_eq!(page["epoch"], answer["epoch"]);
        assert_eq!(answer["kind"], body["kind"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_covers_what_was_before_and_nothing_after() {
    let harness = Harness::start().await;
    let before = harness.open("alice").await;
    // The clock stands still: all of this happens within one millisecond.
    let (_, entry) = harness.post("/v1/revocations", APP, &json!({"kind": "subject", "id": "alice"})).await;
    let after = harness.open("alice").await;
    let bystander = harness.open("bob").await;
    assert!(!harness.active(text(&before, "access_token")).await);
    assert_eq!(harness.refresh(text(&before, "refresh_token"), APP).await.0, 400);
    assert!(harness.active(text(&bystander, "access_token")).await);
    harness.clock.advance(Duration::from_secs(1));
    assert!(harness.active(text(&after, "access_token")).await, "{entry}");
    assert_eq!(harness.refresh(text(&after, "refresh_token"), APP).await.0, 200);
    let (_, log) = harness.get("/v1/audit?subject=alice").await;
    let events: Vec<_> = log["records"].as_array().unwrap().iter().map(|r| text(r, "event")).collect();
    assert_eq!(events, ["session_opened", "revoked", "session_opened", "refused", "refreshed"], "{log}");
    assert_eq!(entry["subject_ref"].as_str().map(str::len), Some(22), "opaque: {entry}");
    assert!(!entry.to_string().contains("alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_and_when_and_never_a_token() {
    let harness = Harness::start().await;
    let opened = harness.open_for("alice", PUBLIC).await;
    let first = text(&opened, "refresh_token").to_owned();
    let (_, second) = harness.refresh(&first, PUBLIC).await;
    harness.refresh(&first, PUBLIC).await;
    harness.clock.advance(Duration::from_secs(31));
    harness.refresh(&first, PUBLIC).await;
    harness.refresh(text(&second, "refresh_token"), PUBLIC).await;
    harness.refresh(text(&second, "refresh_token"), PUBLIC).await;
    let (_, log) = harness.get("/v1/audit?subject=alice").await;
    let events: Vec<_> = log["records"].as_array().unwrap().iter().map(|r| text(r, "event")).collect();
    assert_eq!(events, ["session_opened", "refreshed", "retried", "reused", "refused"], "one refusal, however often");
    let reused = &log["records"][3];
    assert_eq!(
        (&reused["outcome"], &reused["generation"], &reused["ip"]),
        (&json!("closed"), &json!(0), &json!("127.0.0.1"))
    );
    assert_eq!(log["records"][0]["actor"], APP);
    assert_eq!(log["records"][0]["client_id"], PUBLIC);
    for token in [&first, text(&second, "refresh_token"), text(&second, "access_token")] {
        assert!(!log.to_string().contains(token));
    }
    let (_, since) = harness.get("/v1/audit?since=2026-11-22T12:00:31Z").await;
    assert_eq!(since["records"].as_array().unwrap().len(), 2);
    let (_, session) = harness.get(&format!("/v1/audit?session={}", text(&opened, "session_id"))).await;
    assert_eq!(session["records"].as_array().unwrap().len(), 5);
    let (_, page) = harness.get("/v1/audit?limit=2").await;
    let (_, next) = harness.get(&format!("/v1/audit?limit=2&after={}", page["next"])).await;
    assert_eq!(next["records"][0]["sequence"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_are_on_their_own_listener() {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    harness.refresh(text(&opened, "refresh_token"), APP).await;
    let get = |path: &'static str| answer(harness.http.get(format!("{}{path}", harness.operations)));
    assert_eq!(get("/livez").await, (200, json!("ok\n")));
    assert_eq!(get("/readyz").await, (200, json!("ok\n")));
    let (_, metrics) = get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for line in ["rescind_refreshes_total{outcome=\"rotated\"} 1", "rescind_sessions_opened_total 1"] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains("alice") && !metrics.contains(text(&opened, "session_id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_put_back_from_an_older_copy_answers_503_until_an_operator_decides() {
    let mut harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    let (_, at_copy) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    let mut copy = Vec::new();
    harness = harness.restart(|_, path| copy = std::fs::read(path.unwrap().join("store.redb")).unwrap()).await;
    let (_, newest) = harness.refresh(text(&at_copy, "refresh_token"), APP).await;
    let (_, newest) = harness.refresh(text(&newest, "refresh_token"), APP).await;
    let revoked = harness.open("mallory").await;
    harness.post("/v1/revocations", APP, &json!({"kind": "subject", "id": "mallory"})).await;

    let put_back = copy.clone();
    harness = harness.restart(move |_, path| std::fs::write(path.unwrap().join("store.redb"), put_back).unwrap()).await;
    // Nor may the witness just be gone.
    let witness = std::fs::read(harness.path().join("keys/witness.json")).unwrap();
    harness = harness.restart(|_, path| std::fs::remove_file(path.unwrap().join("keys/witness.json")).unwrap()).await;
    assert_eq!(harness.refresh(text(&newest, "refresh_token"), APP).await.0, 503);
    harness =
        harness.restart(move |_, path| std::fs::write(path.unwrap().join("keys/witness.json"), witness).unwrap()).await;
    // Starting it again and again must not wear the witness down.
    for _ in 0..20 {
        harness = harness.restart(|_, _| {}).await;
    }
    for (status, body) in [
        harness.refresh(text(&newest, "refresh_token"), APP).await,
        harness.refresh(text(&revoked, "refresh_token"), APP).await,
        harness.form("/oauth2/introspect", APP, &[("token", text(&newest, "access_token"))]).await,
        harness.form("/oauth2/introspect", APP, &[("token", text(&revoked, "refresh_token"))]).await,
        harness.get("/v1/sessions?subject=alice").await,
        harness.get("/v1/audit").await,
        harness.post("/v1/keys/rotate", APP, &json!({})).await,
        harness.post("/v1/sessions", APP, &json!({"subject": "a", "audience": ["api"]})).await,
        harness.post("/v1/revocations", APP, &json!({"kind": "all"})).await,
    ] {
        assert_eq!(status, 503, "{body}");
    }
    assert_eq!(answer(harness.http.get(format!("{}/readyz", harness.operations))).await.0, 503);

    harness = harness.restart(|setup, _| setup.acceptance = rescind::store::embedded::Acceptance::EndSessions).await;
    assert_eq!(harness.refresh(text(&newest, "refresh_token"), APP).await.0, 400, "ended with everything before");
    assert_eq!(harness.refresh(text(&at_copy, "refresh_token"), APP).await.0, 400, "spent, and stays spent");
    assert!(!harness.active(text(&newest, "access_token")).await);
    assert!(!harness.active(text(&revoked, "access_token")).await, "a lost revocation does not come undone");
    harness.clock.advance(Duration::from_millis(5));
    let fresh = harness.open("alice").await;
    assert_eq!(harness.refresh(text(&fresh, "refresh_token"), APP).await.0, 200);
}

/// A generation that the store has never heard of: the last two rows of the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_newer_than_the_store_is_503_and_after_a_declared_restore_closes() {
    let mut harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    let mut copy = (Vec::new(), Vec::new());
    harness = harness
        .restart(|_, path| {
            let read = |name| std::fs::read(path.unwrap().join(name)).unwrap();
            copy = (read("store.redb"), read("keys/witness.json"));
        })
        .await;
    let (_, newer) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    let (_, newest) = harness.refresh(text(&newer, "refresh_token"), APP).await;
    let newest = text(&newest, "refresh_token").to_owned();

    // With an equally old witness nothing contradicts the store; the client's token does, and nothing is changed.
    let mut later = Vec::new();
    let (store, witness) = copy.clone();
    harness = harness
        .restart(|_, path| {
            let path = path.unwrap();
            later = std::fs::read(path.join("keys/witness.json")).unwrap();
            std::fs::write(path.join("store.redb"), store).unwrap();
            std::fs::write(path.join("keys/witness.json"), witness).unwrap();
        })
        .await;
    for _ in 0..2 {
        assert_eq!(harness.refresh(&newest, APP).await.0, 503);
    }

    // The true witness, and an operator who keeps the sessions: what the backup never knew closes the family.
    let store = copy.0;
    harness = harness
        .restart(|setup, path| {
            let path = path.unwrap();
            std::fs::write(path.join("store.redb"), store).unwrap();
            std::fs::write(path.join("keys/witness.json"), later).unwrap();
            setup.acceptance = rescind::store::embedded::Acceptance::DangerouslyKeepSessions;
        })
        .await;
    assert_eq!(harness.refresh(&newest, APP).await.0, 400);
    let (_, session) = harness.get(&format!("/v1/sessions/{}", text(&opened, "session_id"))).await;
    assert_eq!(session["closed"]["cause"], "ahead_of_backup", "{session}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_store_answers_503_to_families_that_it_does_not_know() {
    let mut harness = Harness::on_disk().await;
    let opened = harness.open("alice").await;
    harness = harness.restart(|_, path| std::fs::remove_file(path.unwrap().join("store.redb")).unwrap()).await;
    let (status, body) = harness.refresh(text(&opened, "refresh_token"), APP).await;
    assert_eq!(status, 503, "{body}");
    harness = harness.restart(|setup, _| setup.acceptance = rescind::store::embedded::Acceptance::EndSessions).await;
    assert_eq!(harness.refresh(text(&opened, "refresh_token"), APP).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dripping_header_and_a_dripping_body_are_cut_off() {
    let limits = Limits {
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let harness = Harness::with(Setup { limits, ..Setup::default() }).await;
    let address = harness.base.trim_start_matches("http://").to_owned();
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for (sent, expected) in [(head.to_owned(), ""), (format!("{head}Content-Length: 100\r\n\r\ngrant"), "HTTP/1.1 400")]
    {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 1024];
        let read = tokio::time::timeout(Duration::from_secs(10), async {
            while let Ok(n) = stream.read(&mut buffer).await {
                got.extend_from_slice(&buffer[..n]);
                if n == 0 || (!expected.is_empty() && got.starts_with(expected.as_bytes())) {
                    break;
                }
            }
        });
        read.await.expect("the service waits for nobody for ever");
        assert!(String::from_utf8_lossy(&got).starts_with(expected), "{}", String::from_utf8_lossy(&got));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_has_begun() {
    let mut harness = Harness::start().await;
    let opened = harness.open("alice").await;
    let address = harness.base.trim_start_matches("http://").to_owned();
    let body = format!("grant_type=refresh_token&refresh_token={}", text(&opened, "refresh_token"));
    let head = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: {FORM}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        basic(APP, &harness.secret),
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The service asks for the body: the request is under way. Stop now.
    let mut goes_on = [0; 25];
    stream.read_exact(&mut goes_on).await.unwrap();
    assert!(goes_on.starts_with(b"HTTP/1.1 100 "));
    let stopping = tokio::spawn(async move {
        harness.stop().await;
    });
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut got = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut got)).await.unwrap().unwrap();
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    stopping.await.unwrap();
}

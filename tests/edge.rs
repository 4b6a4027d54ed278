//! The edge of a node: what strangers, crowds, proxies and browsers can and cannot do to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use std::{sync::Arc, time::Duration};

use harness::{APP, Harness, OTHER, PUBLIC, Setup, text};
use reqwest::{RequestBuilder, Response};
use rescind::http::{
    Limits,
    edge::{AddressHeader, Cors, Proxies, Quota, Rates, Settings},
};
use rescind::model::session::{OnFull, SessionCap};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Every test speaks over loopback, so it plays the proxy, which says where each request comes from.
fn behind_a_proxy() -> Proxies {
    Proxies { trusted: vec!["127.0.0.0/8".parse().unwrap()], header: AddressHeader::XForwardedFor }
}

fn quota(count: u32, seconds: u64) -> Quota {
    Quota { count, per: Duration::from_secs(seconds) }
}

async fn with(settings: Settings) -> Harness {
    Harness::with(Setup { edge: settings, ..Setup::default() }).await
}

async fn limited(rates: Rates) -> Harness {
    with(Settings { proxies: behind_a_proxy(), rates: Some(rates), ..Settings::default() }).await
}

fn from(address: &str, request: RequestBuilder) -> RequestBuilder {
    request.header("X-Forwarded-For", address)
}

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    fn retry_after(&self) -> u64 {
        self.header("retry-after").parse().unwrap_or_else(|_| panic!("no Retry-After: {:?}", self.headers))
    }
}

async fn send(request: RequestBuilder) -> Answer {
    let response: Response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

impl Harness {
    fn to_token(&self, form: &[(&str, &str)]) -> RequestBuilder {
        self.http.post(format!("{}/oauth2/token", self.base)).form(form)
    }
    fn guess(&self, client: &str) -> RequestBuilder {
        self.to_token(&[("grant_type", "client_credentials")]).basic_auth(client, Some("wrong"))
    }
    fn own_token(&self, client: &str) -> RequestBuilder {
        self.to_token(&[("grant_type", "client_credentials")]).basic_auth(client, Some(&self.secret))
    }
    fn refresh_in_public(&self, token: &str) -> RequestBuilder {
        self.to_token(&[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", PUBLIC)])
    }
    async fn metric(&self, line: &str) -> u64 {
        let text = self.http.get(format!("{}/metrics", self.operations)).send().await.unwrap().text().await.unwrap();
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_names_the_client_behind_trusted_proxies_and_nobodys_invention() {
    for (trusted, claimed, expected) in [
        (true, "203.0.113.7, 198.51.100.1", "198.51.100.1"),
        (true, "198.51.100.1, garbage", "127.0.0.1"),
        (false, "198.51.100.1", "127.0.0.1"),
    ] {
        let proxies = if trusted { behind_a_proxy() } else { Proxies::default() };
        let harness = with(Settings { proxies, ..Settings::default() }).await;
        let body = json!({"subject": "alice", "audience": ["api"]});
        let open = harness.http.post(format!("{}/v1/sessions", harness.base)).basic_auth(APP, Some(&harness.secret));
        assert_eq!(send(from(claimed, open.json(&body))).await.status, 201);
        let (_, audit) = harness.get("/v1/audit").await;
        assert_eq!(audit["records"][0]["ip"], expected, "{audit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_an_address_are_limited_and_a_right_secret_still_passes() {
    let harness = limited(Rates { failures: quota(5, 60), ..Rates::default() }).await;
    let attacker = "198.51.100.1";
    for _ in 0..5 {
        assert_eq!(send(from(attacker, harness.guess(APP))).await.status, 401);
    }
    let over = send(from(attacker, harness.guess(APP))).await;
    assert_eq!((over.status, &over.body["error"]), (429, &json!("too_many_requests")));
    assert_eq!(over.retry_after(), 12);
    let over =
        send(from(attacker, harness.http.get(format!("{}/v1/keys", harness.base)).basic_auth(APP, Some("x")))).await;
    assert_eq!((over.status, &over.body["code"]), (429, &json!("too_many_requests")));
    assert_eq!(over.header("content-type"), "application/problem+json");
    // Neither the client whose name was used, nor anyone else behind that address, is locked out.
    assert_eq!(send(from(attacker, harness.own_token(APP))).await.status, 200);
    assert_eq!(send(from(attacker, harness.own_token(OTHER))).await.status, 200);
    assert_eq!(send(from("198.51.100.2", harness.guess(APP))).await.status, 401, "another address is another's");
    harness.clock.advance(Duration::from_secs(12));
    assert_eq!(send(from(attacker, harness.guess(APP))).await.status, 401);
    assert_eq!(send(from(attacker, harness.guess(APP))).await.status, 429);
    assert_eq!(harness.metric("rescind_rate_limited_total{budget=\"failures\"}").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_refresh_tokens_in_the_name_of_a_public_client_are_failures() {
    let harness = limited(Rates { failures: quota(3, 60), ..Rates::default() }).await;
    let session = harness.open_for("alice", PUBLIC).await;
    let token = text(&session, "refresh_token");
    for _ in 0..3 {
        let forged = send(from("198.51.100.1", harness.refresh_in_public("rescind_rt_forged"))).await;
        assert_eq!(forged.status, 400);
    }
    assert_eq!(send(from("198.51.100.1", harness.refresh_in_public("rescind_rt_forged"))).await.status, 429);
    // A public client's name is known to everyone: using it up elsewhere must not touch its users.
    assert_eq!(send(from("203.0.113.5", harness.refresh_in_public(token))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_use_up_what_a_public_client_has() {
    let harness = limited(Rates { public: quota(4, 60), failures: quota(1000, 1), ..Rates::default() }).await;
    let session = harness.open_for("alice", PUBLIC).await;
    let token = text(&session, "refresh_token");
    let mut statuses = Vec::new();
    // One host of IPv6 has more addresses than there are buckets: its /64 counts as one.
    for n in 0..8 {
        statuses.push(send(from(&format!("2001:db8::{n}"), harness.refresh_in_public("x"))).await.status);
    }
    assert_eq!(statuses, [400, 400, 400, 400, 429, 429, 429, 429]);
    assert_eq!(send(from("2001:db8:0:1::1", harness.refresh_in_public(token))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_asked_too_much_can_still_revoke() {
    let rates = Rates { public: quota(1, 60), client: quota(1, 60), ..Rates::default() };
    let harness = limited(rates).await;
    let address = "198.51.100.1";
    let session = harness.open_for("alice", PUBLIC).await;
    let token = text(&session, "refresh_token").to_owned();
    let mut last = 0;
    for _ in 0..3 {
        last = send(from(address, harness.own_token(APP))).await.status;
        send(from(address, harness.refresh_in_public("x"))).await;
    }
    assert_eq!(last, 429);
    assert_eq!(send(from(address, harness.refresh_in_public(&token))).await.status, 429);
    let revoke = harness.http.post(format!("{}/oauth2/revoke", harness.base));
    let revoked = send(from(address, revoke.form(&[("token", &*token), ("client_id", PUBLIC)]))).await;
    assert_eq!(revoked.status, 200, "{}", revoked.body);
    let (status, body) = harness.post("/v1/revocations", APP, &json!({"kind": "subject", "id": "alice"})).await;
    assert_eq!(status, 201, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_no_authentication_is_limited_by_address() {
    let harness = limited(Rates { discovery: quota(3, 60), feed: quota(3, 60), ..Rates::default() }).await;
    let nonce = "AAAAAAAAAAAAAAAAAAAAAA";
    for path in ["/.well-known/jwks.json", &format!("/v1/feed?nonce={nonce}")] {
        let mut last = None;
        for n in 0..4 {
            let answer = send(from("198.51.100.1", harness.http.get(format!("{}{path}", harness.base)))).await;
            assert_eq!(answer.status, if n < 3 { 200 } else { 429 }, "{path}: {}", answer.body);
            last = Some(answer);
        }
        let last = last.unwrap();
        assert_eq!((last.retry_after(), &last.body["code"]), (20, &json!("too_many_requests")));
        let other = send(from("198.51.100.2", harness.http.get(format!("{}{path}", harness.base)))).await;
        assert_eq!(other.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_request_for_much_of_the_feed_costs_more() {
    let harness = limited(Rates { feed: quota(40, 3600), ..Rates::default() }).await;
    for n in 0..600 {
        let id = format!("019ab000-0000-7000-8000-{n:012x}");
        let (status, body) = harness.post("/v1/revocations", APP, &json!({"kind": "token", "id": id})).await;
        assert_eq!(status, 201, "{body}");
    }
    let ask =
        || from("198.51.100.1", harness.http.get(format!("{}/v1/feed?nonce=AAAAAAAAAAAAAAAAAAAAAA", harness.base)));
    let mut answered = 0;
    while ask().send().await.unwrap().status() == 200 {
        answered += 1;
        assert!(answered < 40, "600 entries are charged as nothing");
    }
    assert_eq!(answered, 6, "one for the request, and one per hundred entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_off() {
    let harness = with(Settings { proxies: behind_a_proxy(), ..Settings::default() }).await;
    for _ in 0..200 {
        assert_eq!(send(from("198.51.100.1", harness.guess(APP))).await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_of_allowed_sites_may_fetch_tokens_and_nothing_else() {
    let cors = Cors { origins: vec!["https://app.example".parse().unwrap()] };
    let harness = with(Settings { cors, ..Settings::default() }).await;
    let preflight = |path: &str, origin: &str| {
        harness
            .http
            .request(reqwest::Method::OPTIONS, format!("{}{path}", harness.base))
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "content-type")
    };
    let allowed = send(preflight("/oauth2/token", "https://app.example")).await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(allowed.header("access-control-allow-methods"), "POST");
    assert!(!allowed.header("access-control-allow-headers").contains("authorization"));
    for other in ["https://evil.example", "null", "https://app.example.evil.example", "http://app.example"] {
        let refused = send(preflight("/oauth2/token", other)).await;
        assert_eq!(refused.header("access-control-allow-origin"), "", "{other}");
        assert!(refused.header("vary").contains("origin"), "a cache would give it to others");
    }
    for path in ["/v1/sessions", "/v1/revocations", "/oauth2/introspect", "/v1/feed"] {
        let closed = send(preflight(path, "https://app.example")).await;
        assert_eq!((closed.status, closed.header("access-control-allow-origin")), (405, ""), "{path}");
    }
    let session = harness.open_for("alice", PUBLIC).await;
    let refresh = harness.refresh_in_public(text(&session, "refresh_token")).header("Origin", "https://app.example");
    let tokens = send(refresh).await;
    assert_eq!((tokens.status, tokens.header("access-control-allow-origin")), (200, "https://app.example"));
    let error = send(harness.refresh_in_public("x").header("Origin", "https://app.example")).await;
    assert_eq!((error.status, error.header("access-control-allow-origin")), (400, "https://app.example"));
    for answer in [&allowed, &tokens, &error] {
        assert_eq!(answer.header("access-control-allow-credentials"), "", "never with cookies");
    }
    let keys =
        harness.http.get(format!("{}/.well-known/jwks.json", harness.base)).header("Origin", "https://app.example");
    assert_eq!(send(keys).await.header("access-control-allow-origin"), "https://app.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_has_no_more_sessions_than_it_may() {
    for on_full in [OnFull::Refuse, OnFull::EndOldest] {
        let harness =
            Harness::with(Setup { sessions: Some(SessionCap { most: 2, on_full }), ..Setup::default() }).await;
        let first = harness.open("alice").await;
        harness.clock.advance(Duration::from_millis(1));
        harness.open("alice").await;
        harness.open("bob").await;
        let body = json!({"subject": "alice", "audience": ["api"]});
        let (status, third) = harness.post("/v1/sessions", APP, &body).await;
        match on_full {
            OnFull::Refuse => {
                assert_eq!((status, &third["code"]), (409, &json!("too_many_sessions")), "{third}");
                assert!(harness.active(text(&first, "access_token")).await);
                assert_eq!(harness.refresh(text(&first, "refresh_token"), APP).await.0, 200);
            }
            OnFull::EndOldest => {
                assert_eq!(status, 201, "{third}");
                assert!(!harness.active(text(&first, "access_token")).await, "its tokens are denied");
                assert_eq!(harness.refresh(text(&first, "refresh_token"), APP).await.0, 400);
                let (_, audit) = harness.get("/v1/audit?subject=alice").await;
                let told =
                    audit["records"].as_array().unwrap().iter().any(|r| r["cause"].to_string().contains("displaced"));
                assert!(told, "{audit}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_in_and_out_in_a_loop_does_not_fill_the_list_nor_end_another_session() {
    let harness = Harness::start().await;
    let other = harness.open("alice").await;
    for _ in 0..160 {
        let session = harness.open("alice").await;
        let (token, access) = (text(&session, "refresh_token"), text(&session, "access_token"));
        assert_eq!(harness.form("/oauth2/revoke", APP, &[("token", token)]).await.0, 200);
        assert!(!harness.active(access).await);
        harness.clock.advance(Duration::from_secs(1));
    }
    let (mut after, mut entries) = (0, 0);
    loop {
        let (_, page) = harness.get(&format!("/v1/revocations?limit=200&after={after}")).await;
        let Some(last) = page["revocations"].as_array().unwrap().last() else { break };
        entries += page["revocations"].as_array().unwrap().len();
        after = last["position"].as_u64().unwrap();
    }
    assert!(entries < 140, "{entries} entries of one user");
    let (status, tokens) = harness.refresh(text(&other, "refresh_token"), APP).await;
    assert_eq!(status, 200, "a session that nobody ended goes on");
    assert!(harness.active(text(&tokens, "access_token")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_sheds_openings_first_and_no_revocation() {
    let rates = Rates { in_flight: 4, ..Rates::default() };
    let setup =
        Setup { on_disk: true, edge: Settings { rates: Some(rates), ..Settings::default() }, ..Setup::default() };
    let harness = Arc::new(Harness::with(setup).await);
    let mut crowd = Vec::new();
    for n in 0..48 {
        let harness = harness.clone();
        crowd.push(tokio::spawn(async move {
            let body = json!({"subject": format!("user-{n}"), "audience": ["api"]});
            let mut statuses = [0; 2];
            for _ in 0..40 {
                let (status, body) = harness.post("/v1/sessions", APP, &body).await;
                match status {
                    201 => statuses[0] += 1,
                    503 => {
                        assert_eq!(body["code"], "overloaded");
                        statuses[1] += 1;
                    }
                    other => panic!("{other}: {body}"),
                }
            }
            statuses
        }));
    }
    for n in 0..40 {
        let id = format!("019ab000-0000-7000-8000-{n:012x}");
        let (status, body) = harness.post("/v1/revocations", APP, &json!({"kind": "token", "id": id})).await;
        assert_eq!(status, 201, "{body}");
    }
    let (mut opened, mut shed) = (0, 0);
    for one in crowd {
        let [some, others] = one.await.unwrap();
        (opened, shed) = (opened + some, shed + others);
    }
    assert!(opened > 0 && shed > 0, "{opened} opened, {shed} refused");
    assert!(harness.metric("rescind_requests_shed_total{class=\"grant\"}").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_send_slowly_take_nobodys_room() {
    let rates = Rates { in_flight: 2, ..Rates::default() };
    let harness = with(Settings { rates: Some(rates), ..Settings::default() }).await;
    let at = harness.base.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let head = "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                    Content-Length: 100\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // The node says so when it begins to wait for the body.
        let mut told = [0; 12];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100");
        slow.push(stream);
    }
    assert_eq!(send(harness.own_token(APP)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_a_share_of_the_connections() {
    let limits = Limits { connections: 64, followers: 8, ..Limits::default() };
    let rates = Rates { connections: Some(3), ..Rates::default() };
    // Loopback has no share, being whatever proxy is on this machine; so another address of this machine is needed.
    let Some(own) = own_address() else { return };
    let settings = Settings { rates: Some(rates), ..Settings::default() };
    let harness = Harness::with(Setup { limits, edge: settings, listen: own, ..Setup::default() }).await;
    let at = harness.base.strip_prefix("http://").unwrap();
    let mut held = Vec::new();
    for n in 0..6 {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let _ = stream.write_all(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut first = [0; 12];
        let answered = stream.read_exact(&mut first).await.is_ok();
        assert_eq!(answered, n < 3, "connection {n}");
        held.push(stream);
    }
    assert_eq!(harness.metric("rescind_connections_refused_total{reason=\"connections\"}").await, 3);
}

/// The address by which this machine would leave it.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

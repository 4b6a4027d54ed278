//! The tower layer and the axum extractor: who passes, and what the others are told.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/forge.rs"]
mod forge;

use std::{
    convert::Infallible,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, routing::any};
use forge::{AUDIENCE, At, Forge, ISSUER};
use http::{Request, Response, StatusCode, header};
use rescind::{
    guard::{Guarded, RequireToken},
    model::{Timestamp, claims::Claims},
    verifier::{Requirement, Verified, Verifier, Verifiers},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const NOW: u64 = 1_795_374_805;

fn verifier(f: &Forge) -> Verifier {
    let now = At(Timestamp::from_seconds(f.now));
    let builder = Verifier::builder(ISSUER).audience(AUDIENCE).keys(f.jwks()).clock(now);
    builder.dangerous_allow_stale().build().unwrap()
}

/// Follows an issuer that is not there.
fn deaf() -> Verifier {
    Verifier::builder("http://127.0.0.1:1").audience(AUDIENCE).follow().unwrap()
}

#[derive(Deserialize)]
struct Clerk {
    role: Role,
}
#[derive(Deserialize)]
struct Role {
    name: String,
}
#[derive(Deserialize)]
struct Pilot {
    #[expect(dead_code, reason = "no token has it")]
    licence: String,
}

async fn hello(who: Verified<Claims>) -> String {
    format!("hello {}", who.subject)
}

/// One route for each thing that can be asked.
fn app(f: &Forge) -> Router {
    let verifier = Arc::new(verifier(f));
    let token = || RequireToken::new(verifier.clone()).realm("orders");
    let route = |layer: RequireToken| any(hello).layer(layer);
    let of_clerk = async |who: Verified<Claims<Clerk>>| who.custom.role.name.clone();
    let of_pilot = async |_: Verified<Claims<Pilot>>| "never";
    Router::new()
        .route("/any", route(token()))
        .route("/read", route(token().scope("orders:read")))
        .route("/both", route(token().scope("orders:read").scope("orders:admin")))
        .route("/strong", route(token().acr(["phr", "phrh"])))
        .route("/recent", route(token().max_age(Duration::from_secs(30))))
        .route("/strong-and-recent", route(token().scope("admin").acr(["phr"]).max_age(Duration::from_secs(30))))
        .route("/deaf", route(RequireToken::new(deaf())))
        .route("/quoted", route(RequireToken::new(verifier.clone()).realm(r#"a "b\c", scope="#)))
        .route("/unguarded", any(hello))
        .route("/clerk", any(of_clerk).layer(token()))
        .route("/pilot", any(of_pilot).layer(token()))
}

async fn served(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

/// A request as bytes, and the answer in one line: status, the headers that matter, body.
async fn ask(at: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(format!("{head}\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut line = head.split(' ').nth(1).unwrap().to_owned();
    for name in ["www-authenticate", "retry-after", "cache-control"] {
        for value in head.lines().filter_map(|l| l.strip_prefix(&format!("{name}: "))) {
            write!(line, " | {name}: {value}").unwrap();
        }
    }
    if !body.is_empty() {
        write!(line, " | {body}").unwrap();
    }
    line
}

/// Name, path, header. Words in capitals stand for tokens.
const CASES: [(&str, &str, &str); 41] = [
    ("good", "/any", "Authorization: Bearer GOOD"),
    ("scheme_in_capitals", "/any", "AUTHORIZATION: BEARER GOOD"),
    ("scheme_in_small_letters_and_spaces", "/any", "authorization:   bearer    GOOD  "),
    ("scope_is_there", "/read", "Authorization: Bearer GOOD"),
    ("no_token", "/any", "X: y"),
    ("no_token_where_scope_is_asked", "/read", "X: y"),
    ("other_scheme", "/any", "Authorization: Basic YTpi"),
    ("token_in_query", "/any?access_token=GOOD", "X: y"),
    ("token_in_cookie", "/any", "Cookie: access_token=GOOD"),
    ("token_in_another_header", "/any", "Proxy-Authorization: Bearer GOOD"),
    ("token_without_scheme", "/any", "Authorization: GOOD"),
    ("empty_header", "/any", "Authorization:"),
    ("scheme_alone", "/any", "Authorization: Bearer"),
    ("same_token_twice", "/any", "Authorization: Bearer GOOD\r\nAuthorization: Bearer GOOD"),
    ("good_then_bad", "/any", "Authorization: Bearer GOOD\r\nAuthorization: Bearer FORGED"),
    ("bad_then_good", "/any", "Authorization: Bearer FORGED\r\nAuthorization: Bearer GOOD"),
    ("other_scheme_then_good", "/any", "Authorization: Basic YTpi\r\nAuthorization: Bearer GOOD"),
    ("good_then_other_scheme", "/any", "Authorization: Bearer GOOD\r\nAuthorization: Basic YTpi"),
    ("two_in_one_header", "/any", "Authorization: Bearer GOOD, Bearer GOOD"),
    ("tab_for_space", "/any", "Authorization: Bearer\tGOOD"),
    ("token_in_quotes", "/any", "Authorization: Bearer \"GOOD\""),
    ("token_as_parameter", "/any", "Authorization: Bearer token=GOOD"),
    ("forged", "/any", "Authorization: Bearer FORGED"),
    ("expired", "/any", "Authorization: Bearer EXPIRED"),
    ("bound_to_a_key", "/any", "Authorization: Bearer BOUND"),
    ("not_a_token", "/any", "Authorization: Bearer x"),
    ("padded", "/any", "Authorization: Bearer GOOD="),
    ("too_long", "/any", "Authorization: Bearer LONG"),
    ("scope_lacks", "/both", "Authorization: Bearer GOOD"),
    ("expired_and_scope_lacks", "/both", "Authorization: Bearer EXPIRED"),
    ("too_weak", "/strong", "Authorization: Bearer GOOD"),
    ("too_long_ago", "/recent", "Authorization: Bearer GOOD"),
    ("weak_old_and_scope_lacks", "/strong-and-recent", "Authorization: Bearer GOOD"),
    ("cannot_tell", "/deaf", "Authorization: Bearer GOOD"),
    ("cannot_tell_of_a_bad_one", "/deaf", "Authorization: Bearer x"),
    ("cannot_tell_no_token", "/deaf", "X: y"),
    ("realm_with_quotes", "/quoted", "X: y"),
    ("no_layer", "/unguarded", "Authorization: Bearer GOOD"),
    ("custom_claims", "/clerk", "Authorization: Bearer GOOD"),
    ("custom_claims_of_another_shape", "/pilot", "Authorization: Bearer GOOD"),
    ("no_such_path", "/none", "Authorization: Bearer GOOD"),
];

#[tokio::test]
async fn what_each_request_is_answered() {
    let f = Forge::new(NOW);
    let at = served(app(&f)).await;
    let expired = f.mint(&f.header(), &f.claims().set("exp", NOW - 60).set("nbf", NOW - 300).issued(NOW - 300));
    let tokens = [
        ("GOOD", f.token()),
        ("EXPIRED", expired),
        ("FORGED", Forge::new(NOW).token()),
        ("BOUND", f.mint(&f.header(), &f.claims().set("cnf", r#"{"jkt":"x"}"#))),
        ("LONG", "a".repeat(8193)),
    ];
    let mut table = String::new();
    for (name, path, header) in CASES {
        let head = format!("GET {path} HTTP/1.1\r\n{header}");
        let head = tokens.iter().fold(head, |head, (word, token)| head.replace(word, token));
        let answer = ask(&at, &head).await;
        assert!(tokens.iter().all(|(_, token)| !answer.contains(token)), "{name}: a token is in the answer");
        writeln!(table, "{name}: {answer}").unwrap();
    }
    insta::assert_snapshot!(table, @r#"
    good: 200 | hello alice
    scheme_in_capitals: 200 | hello alice
    scheme_in_small_letters_and_spaces: 200 | hello alice
    scope_is_there: 200 | hello alice
    no_token: 401 | www-authenticate: Bearer realm="orders" | cache-control: no-store
    no_token_where_scope_is_asked: 401 | www-authenticate: Bearer realm="orders" | cache-control: no-store
    other_scheme: 401 | www-authenticate: Bearer realm="orders" | cache-control: no-store
    token_in_query: 401 | www-authenticate: Bearer realm="orders" | cache-control: no-store
    token_in_cookie: 401 | www-authenticate: Bearer realm="orders" | cache-control: no-store
    token_in_another_header: 401 | www-authenticate: Bearer realm="orders" | cache-control: no-store
    token_without_scheme: 401 | www-authenticate: Bearer realm="orders" | cache-control: no-store
    empty_header: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    scheme_alone: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    same_token_twice: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    good_then_bad: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    bad_then_good: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    other_scheme_then_good: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    good_then_other_scheme: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    two_in_one_header: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    tab_for_space: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    token_in_quotes: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    token_as_parameter: 400 | www-authenticate: Bearer realm="orders", error="invalid_request" | cache-control: no-store
    forged: 401 | www-authenticate: Bearer realm="orders", error="invalid_token" | cache-control: no-store
    expired: 401 | www-authenticate: Bearer realm="orders", error="invalid_token" | cache-control: no-store
    bound_to_a_key: 401 | www-authenticate: Bearer realm="orders", error="invalid_token" | cache-control: no-store
    not_a_token: 401 | www-authenticate: Bearer realm="orders", error="invalid_token" | cache-control: no-store
    padded: 401 | www-authenticate: Bearer realm="orders", error="invalid_token" | cache-control: no-store
    too_long: 401 | www-authenticate: Bearer realm="orders", error="invalid_token" | cache-control: no-store
    scope_lacks: 403 | www-authenticate: Bearer realm="orders", error="insufficient_scope", scope="orders:admin orders:read" | cache-control: no-store
    expired_and_scope_lacks: 401 | www-authenticate: Bearer realm="orders", error="invalid_token" | cache-control: no-store
    too_weak: 401 | www-authenticate: Bearer realm="orders", error="insufficient_user_authentication", acr_values="phr phrh" | cache-control: no-store
    too_long_ago: 401 | www-authenticate: Bearer realm="orders", error="insufficient_user_authentication", max_age="30" | cache-control: no-store
    weak_old_and_scope_lacks: 401 | www-authenticate: Bearer realm="orders", error="insufficient_user_authentication", acr_values="phr", max_age="30" | cache-control: no-store
    cannot_tell: 503 | retry-after: 1 | cache-control: no-store
    cannot_tell_of_a_bad_one: 503 | retry-after: 1 | cache-control: no-store
    cannot_tell_no_token: 401 | www-authenticate: Bearer realm="api" | cache-control: no-store
    realm_with_quotes: 401 | www-authenticate: Bearer realm="a \"b\\c\", scope=" | cache-control: no-store
    no_layer: 500 | cache-control: no-store
    custom_claims: 200 | clerk
    custom_claims_of_another_shape: 401 | www-authenticate: Bearer error="invalid_token" | cache-control: no-store
    no_such_path: 404
    "#);
}

#[tokio::test]
async fn every_method_is_asked_preflights_too() {
    let f = Forge::new(NOW);
    let at = served(app(&f)).await;
    for method in ["OPTIONS", "HEAD", "POST", "DELETE", "TRACE", "BREW"] {
        let answer = ask(&at, &format!("{method} /any HTTP/1.1\r\nOrigin: https://app.example")).await;
        assert!(answer.starts_with("401 | www-authenticate: Bearer realm=\"orders\""), "{method}: {answer}");
    }
}

#[tokio::test]
async fn a_token_is_judged_by_the_verifier_of_its_issuer() {
    let (f, other) = (Forge::new(NOW), Forge::new(NOW));
    let at = At(Timestamp::from_seconds(NOW));
    let second = Verifier::builder("https://other.example").audience(AUDIENCE).keys(other.jwks()).clock(at);
    let several = Verifiers::new([verifier(&f), second.dangerous_allow_stale().build().unwrap()]).unwrap();
    let guarded = any(async |who: Verified<Claims>| who.issuer.to_string()).layer(RequireToken::new(several));
    let at = served(Router::new().route("/", guarded)).await;
    let token = |by: &Forge, issuer: &str| by.mint(&by.header(), &by.claims().text("iss", issuer));
    for (token, expected) in [
        (token(&f, ISSUER), "200 | https://issuer.example"),
        (token(&other, "https://other.example"), "200 | https://other.example"),
        (token(&f, "https://other.example"), "401"),
        (token(&f, "https://third.example"), "401"),
    ] {
        let answer = ask(&at, &format!("GET / HTTP/1.1\r\nAuthorization: Bearer {token}")).await;
        assert!(answer.starts_with(expected), "{answer}, not {expected}");
    }
}

fn request(token: Option<&str>) -> Request<&'static str> {
    let mut request = Request::builder().uri("/");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body("body").unwrap()
}

#[tokio::test]
async fn any_service_of_http_can_be_guarded() {
    let f = Forge::new(NOW);
    let inner = service_fn(async |request: Request<&'static str>| {
        let who = request.extensions().get::<Verified<Claims>>().unwrap().subject.to_string();
        assert!(request.headers()[header::AUTHORIZATION].is_sensitive(), "who prints the headers prints the token");
        // Neither axum's body nor one of hyper's.
        Ok::<_, Infallible>(Response::new(format!("{who} sent {}", request.body())))
    });
    let guarded = RequireToken::new(verifier(&f)).scope("orders:read").layer(inner);
    let answer = guarded.clone().oneshot(request(Some(&f.token()))).await.unwrap();
    assert_eq!((answer.status(), &**answer.body()), (StatusCode::OK, "alice sent body"));
    let answer = guarded.oneshot(request(None)).await.unwrap();
    assert_eq!((answer.status(), &**answer.body()), (StatusCode::UNAUTHORIZED, ""));
}

#[tokio::test]
async fn an_identity_that_was_there_before_is_replaced() {
    let f = Forge::new(NOW);
    let inner = service_fn(async |request: Request<Body>| {
        let who = request.extensions().get::<Verified<Claims>>().unwrap().subject.to_string();
        Ok::<_, Infallible>(Response::new(Body::from(who)))
    });
    let guarded = RequireToken::new(verifier(&f)).layer(inner);
    let mallory = f.mint(&f.header(), &f.claims().text("sub", "mallory"));
    let mut request = Request::builder().header(header::AUTHORIZATION, format!("Bearer {mallory}"));
    request.extensions_mut().unwrap().insert(verifier(&f).verify(&f.token()).unwrap());
    let answer = guarded.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
    assert_eq!(&body[..], b"mallory");
}

/// Takes one request each time that it was found ready, and none otherwise.
#[derive(Clone, Default)]
struct Strict {
    ready: bool,
    polled: Arc<AtomicUsize>,
    called: Arc<AtomicUsize>,
}

#[derive(Debug, PartialEq)]
struct Overloaded;

impl Service<Request<&'static str>> for Strict {
    type Response = Response<String>;
    type Error = Overloaded;
    type Future = std::future::Ready<Result<Response<String>, Overloaded>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Overloaded>> {
        if self.polled.fetch_add(1, Ordering::SeqCst) >= 3 {
            return Poll::Ready(Err(Overloaded));
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Request<&'static str>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "it was called without having been found ready");
        self.called.fetch_add(1, Ordering::SeqCst);
        let failed = request.uri().path() == "/fail";
        std::future::ready(if failed { Err(Overloaded) } else { Ok(Response::default()) })
    }
}

#[tokio::test]
async fn the_service_is_called_when_it_is_ready_and_its_errors_pass() {
    let f = Forge::new(NOW);
    let strict = Strict::default();
    let mut guarded: Guarded<Strict> = RequireToken::new(verifier(&f)).layer(strict.clone());
    let called = || strict.called.load(Ordering::SeqCst);

    let refused = guarded.ready().await.unwrap().call(request(None)).await.unwrap();
    assert_eq!((refused.status(), called()), (StatusCode::UNAUTHORIZED, 0));
    let passed = guarded.ready().await.unwrap().call(request(Some(&f.token()))).await.unwrap();
    assert_eq!((passed.status(), called()), (StatusCode::OK, 1));
    let mut failing = request(Some(&f.token()));
    *failing.uri_mut() = "/fail".parse().unwrap();
    assert_eq!(guarded.ready().await.unwrap().call(failing).await.unwrap_err(), Overloaded);
    assert_eq!(guarded.ready().await.map(|_| ()), Err(Overloaded), "that it is not ready is said");
}

#[test]
fn what_cannot_be_asked_is_said_when_the_layer_is_made() {
    type Ask = fn(RequireToken) -> RequireToken;
    let attempts: [(&str, Ask); 8] = [
        ("empty scope", |layer| layer.scope("")),
        ("scope with two spaces", |layer| layer.scope("a  b")),
        ("scope with a quote", |layer| layer.scope("a\"")),
        ("acr of two words", |layer| layer.acr(["a b"])),
        ("acr with a quote", |layer| layer.acr(["a\", scope=\"x"])),
        ("acr of none", |layer| layer.acr([])),
        ("realm with a line break", |layer| layer.realm("a\r\nSet-Cookie: b")),
        ("realm that is not ASCII", |layer| layer.realm("é")),
    ];
    let layer = RequireToken::new(verifier(&Forge::new(NOW)));
    for (name, attempt) in attempts {
        let attempt = std::panic::AssertUnwindSafe(|| attempt(layer.clone()));
        assert!(std::panic::catch_unwind(attempt).is_err(), "{name}");
    }
    assert!(Requirement::none().acr([]).is_err() && Requirement::none().scope("").is_err());
}

//! The samples in `examples/` as their readers run them: a real issuer, a real sidecar, each framework's own server, each
//! proxy with its file as it stands there. What they give and what not is said in `docs/integrate.md`.

#![cfg(feature = "server")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no public face")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a sample that does not start says why")]

#[path = "common/process.rs"]
mod process;

mod samples {
    pub mod backend;
    pub mod site;
    pub mod stage;
    pub mod story;
    pub mod wire;
}

use samples::{
    backend::Backend,
    site::{Site, spare_port},
    stage::{START, Stage},
    story,
    wire::{send, until},
};

#[test]
fn fastapi_refuses_the_revoked_and_says_503_when_it_cannot_tell() {
    application("fastapi");
}

#[test]
fn flask_refuses_the_revoked_and_says_503_when_it_cannot_tell() {
    application("flask");
}

#[test]
fn django_refuses_the_revoked_and_says_503_when_it_cannot_tell() {
    application("django");
}

#[test]
fn express_refuses_the_revoked_and_says_503_when_it_cannot_tell() {
    application("express");
}

#[test]
fn nginx_passes_on_whom_the_sidecar_named_and_no_503_becomes_another() {
    proxy("nginx", true);
}

#[test]
fn caddy_passes_on_whom_the_sidecar_named_and_no_503_becomes_another() {
    proxy("caddy", true);
}

#[test]
fn traefik_passes_on_whom_the_sidecar_named_and_no_503_becomes_another() {
    proxy("traefik", false);
}

#[test]
fn envoy_passes_on_whom_the_sidecar_named_and_no_503_becomes_another() {
    proxy("envoy", true);
}

#[test]
fn nginx_with_underscores_on_still_passes_no_forged_identity() {
    let (stage, backend) = (Stage::start(), Backend::start());
    let site = Site::nginx_with_underscores(stage.sidecar(), &backend.address());
    story::no_identity_is_forged(&stage, &site);
}

#[test]
fn axum_refuses_the_revoked_and_says_503_when_it_cannot_tell() {
    let stage = Stage::start();
    let site = Site::axum(stage.issuer(), "api");
    let good = stage.open("alice", Some("orders:read orders:write"));
    until(200, &[503], START, || site.orders(&good));
    story::good_is_told_from_bad(&stage, &site);
    story::two_tokens_are_none(&stage, &site);
    story::revoked_is_refused(&stage, &site);
    assert_eq!(site.orders(&stage.open("alice", Some("other"))).status, 403, "without the scope");
    assert_eq!(story::post(&site, &good, "").status, 200);
    let reader = stage.open("alice", Some("orders:read"));
    assert_eq!(story::post(&site, &reader, "").status, 403, "each route asks for its own");
    let delete =
        |token: &str| send(&site.base, "DELETE /orders", &[("Authorization", &format!("Bearer {token}"))], "").unwrap();
    assert_eq!(delete(&good).status, 200);
    let long_ago = serde_json::json!({
        "subject": "alice", "audience": ["api"], "scope": "orders:write", "auth_time": 1_700_000_000
    });
    let answer = delete(&stage.open_as(&long_ago));
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    assert_eq!(answer.status, 401, "{answer:?}");
    // RFC 9470 section 3.
    assert!(challenge.contains("insufficient_user_authentication") && challenge.contains("max_age"), "{challenge}");
    let elsewhere = Site::axum(stage.issuer(), "reports");
    until(401, &[503], START, || elsewhere.orders(&good));
    story::outage_is_503_here(stage, &site);
}

/// Checks signatures by a library of its own, and asks the sidecar about the rest.
fn application(kind: &str) {
    let stage = Stage::start();
    let site = Site::application(kind, stage.issuer(), stage.sidecar(), "api");
    story::good_is_told_from_bad(&stage, &site);
    story::no_identity_is_forged(&stage, &site);
    story::revoked_is_refused(&stage, &site);
    assert_eq!(site.orders(&stage.open("alice", Some("other"))).status, 403, "without the scope");
    checks_for_itself(kind, &stage);
    story::outage_is_503(stage, &site, true);
}

/// Whatever the sidecar says: something that says 200 to everything listens in its place.
fn checks_for_itself(kind: &str, stage: &Stage) {
    let (good, yes) = (stage.open("alice", Some("orders:read")), Backend::start());
    let elsewhere = Site::application(kind, stage.issuer(), &yes.address(), "reports");
    assert_eq!(elsewhere.orders(&good).status, 401, "a token for another audience");
    let deceived = Site::application(kind, stage.issuer(), &yes.address(), "api");
    assert_eq!(deceived.orders(&story::flipped(&good)).status, 401, "a signature that is not the issuer's");
    assert_eq!(deceived.orders(&good).status, 503, "a 200 that is not the sidecar's");
    let nobody = format!("http://127.0.0.1:{}", spare_port());
    let keyless = Site::application(kind, &nobody, stage.sidecar(), "api");
    let answer = keyless.orders(&good);
    assert_eq!(answer.status, 503, "no keys to check with");
    assert!(answer.header("retry-after").is_some(), "{}", answer.head);
}

/// Leaves everything to the sidecar, and tells the application whom it named.
fn proxy(kind: &str, says_when_the_sidecar_is_down: bool) {
    let (stage, backend) = (Stage::start(), Backend::start());
    let site = Site::proxy(kind, stage.sidecar(), &backend.address());
    story::good_is_told_from_bad(&stage, &site);
    story::no_identity_is_forged(&stage, &site);
    story::revoked_is_refused(&stage, &site);
    story::two_tokens_are_none(&stage, &site);
    story::the_application_answers_for_itself(&stage, &site);
    the_sidecar_decides(kind, &stage, &backend);
    nothing_but_the_token_is_told(kind, &stage, &backend);
    story::outage_is_503(stage, &site, says_when_the_sidecar_is_down);
}

fn the_sidecar_decides(kind: &str, stage: &Stage, backend: &Backend) {
    let good = stage.open("alice", Some("orders:read"));
    let writers = stage.another_sidecar("api", &["--scope", "orders:write"], 403);
    let refused = Site::proxy(kind, writers.address(), &backend.address()).orders(&good);
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert_eq!(refused.status, 403, "without the scope");
    assert!(challenge.contains("insufficient_scope") && challenge.contains("orders:write"), "{}", refused.head);
    let reports = stage.another_sidecar("reports", &[], 401);
    let elsewhere = Site::proxy(kind, reports.address(), &backend.address());
    assert_eq!(elsewhere.orders(&good).status, 401, "a token for another audience");
    let appless = Site::proxy(kind, stage.sidecar(), &format!("http://127.0.0.1:{}", spare_port()));
    assert!([502, 503].contains(&appless.orders(&good).status), "the application is down");
}

/// A stand-in for the sidecar, which says yes and names nobody, keeps what it was sent.
fn nothing_but_the_token_is_told(kind: &str, stage: &Stage, backend: &Backend) {
    let (good, yes) = (stage.open("alice", None), Backend::start());
    let site = Site::proxy(kind, &yes.address(), &backend.address());
    let answer = story::post(&site, &good, "the body of the request");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.body.ends_with("the body of the request"), "the application has it whole: {}", answer.body);
    let asked = yes.seen().pop().unwrap();
    assert!(asked.to_lowercase().contains("authorization: bearer ") && asked.contains(&good), "{asked}");
    assert!(!asked.contains("the body"), "the sidecar has no use for it: {asked}");
    let forged = site.forged(&good);
    assert!(!forged.body.contains("mallory"), "nobody was named, so nobody is passed on: {}", forged.body);
}

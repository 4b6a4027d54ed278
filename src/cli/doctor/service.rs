//! The service, and the way to it.

use std::time::Duration;

use reqwest::{Client, Response, Url, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    super::{
        Failure, OrExit,
        client::{client_for, heard},
        exit::Exit,
        remote::{Remote, Server, at},
    },
    Check,
};
use crate::{
    clock::{Clock, SystemClock},
    model::JwkSet,
    verifier::{
        MAX_LEEWAY, Verifier,
        follow::http::{self, FetchError},
    },
};

/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// Clocks that differ less are as good as equal: `Date` has whole seconds, and the way takes its time.
const SKEW: Duration = Duration::from_secs(3);

/// Everything that can be asked of a service. What a failed check makes meaningless is left out.
pub(super) async fn examine(
    base: &Url,
    issuer: &str,
    client: Option<(String, Zeroizing<String>)>,
) -> Result<Vec<Check>, Failure> {
    let web = client_for(base).or_exit(Exit::Usage, "--server")?;
    let clock = SystemClock::default();
    let began = clock.now();
    let url = metadata_url(base);
    let answer = match web.get(url.clone()).send().await {
        Ok(answer) => answer,
        Err(e) => return Ok(vec![no_answer("reachable", FetchError::http(&url, &e))]),
    };
    let took = clock.now().since(began);
    let mut checks = vec![reachable(base, took), skew(&answer, &clock)];
    let (metadata, check) = metadata(answer, issuer).await;
    checks.push(check);
    if let Some(metadata) = metadata {
        checks.push(keys(&web, &metadata).await);
        checks.push(feed(issuer).await);
    }
    if let Some((id, secret)) = client {
        match Server::known(base.clone(), &id, secret) {
            Ok(remote) => {
                checks.push(client_known(&remote, base, &id).await);
                checks.extend(audit(&remote).await);
            }
            Err(failure) => checks.push(Check::fail("client", failure.to_string(), "mend --server")),
        }
    }
    Ok(checks)
}

/// RFC 8414 §3.1: between host and path.
fn metadata_url(base: &Url) -> Url {
    let path = base.path().trim_end_matches('/').to_owned();
    let mut url = base.clone();
    url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    url
}

/// What the way to an answer lacks, with the remedy for just that.
fn no_answer(name: &'static str, error: FetchError) -> Check {
    let remedy = match &error {
        FetchError::Status { status: 404, .. } => "do the paths of the issuer reach the service, all of them?",
        FetchError::Status { status: 429, .. } => "it is asked too often from here: wait, or raise [rates]",
        FetchError::Status { status: 503, .. } => "see what --operations and the service's log say",
        FetchError::Status { .. } | FetchError::TooLong { .. } | FetchError::Content { .. } => {
            "is it a Rescind service that answers there? Look at its log, and at what lies before it"
        }
        FetchError::NotHttp(_) | FetchError::PlainHttp(_) => "mend the URL",
        FetchError::Tls(_) => "look at the certificates that this machine trusts, and at SSL_CERT_FILE",
        FetchError::Http { .. } => "can this machine reach it, and does the service's log say more?",
    };
    let (what, mend) = error.apart();
    Check::fail(name, what, mend.unwrap_or(remedy))
}

fn reachable(base: &Url, took: Duration) -> Check {
    let way = if base.scheme() == "https" {
        "TLS, with a certificate that is trusted here"
    } else {
        "plain HTTP on loopback"
    };
    Check::ok("reachable", format!("{base} answers in {} ms; {way}", took.as_millis()))
}

/// By the `Date` of the answer.
fn skew(answer: &Response, clock: &dyn Clock) -> Check {
    let date = answer.headers().get(header::DATE).and_then(|v| v.to_str().ok());
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp().as_second());
    let Some(theirs) = theirs else {
        return Check::warn("clock", "the answer has no date", "a proxy in front removes `Date`; let it pass");
    };
    let ours = i64::try_from(clock.now().seconds()).unwrap_or(i64::MAX);
    let apart = Duration::from_secs(ours.abs_diff(theirs));
    let detail = format!("this clock and the server's differ by {} s", apart.as_secs());
    let remedy = "keep both in step with NTP: tokens are judged by the clock of whoever verifies them";
    match apart {
        _ if apart <= SKEW => Check::ok("clock", detail),
        _ if apart <= MAX_LEEWAY => Check::warn("clock", detail, remedy),
        _ => Check::fail("clock", detail, remedy),
    }
}

async fn metadata(answer: Response, issuer: &str) -> (Option<Value>, Check) {
    let status = answer.status();
    let body = http::body(answer, MAX_ANSWER).await.unwrap_or_default();
    let Some(metadata) = serde_json::from_slice::<Value>(&body).ok().filter(|m| status == 200 && m.is_object()) else {
        let detail = format!("no metadata (RFC 8414): the answer is {status}");
        return (None, Check::fail("metadata", detail, "is --server the issuer's own URL, with its path?"));
    };
    let named = metadata["issuer"].as_str().unwrap_or("nobody").to_owned();
    if named != issuer {
        let detail = format!("it speaks for `{named}`, not for `{issuer}`");
        let remedy =
            "verifiers compare to the letter: name that issuer with --issuer, or set `issuer` in its configuration";
        return (None, Check::fail("metadata", detail, remedy));
    }
    (Some(metadata), Check::ok("metadata", format!("issuer {named}")))
}

async fn keys(web: &Client, metadata: &Value) -> Check {
    let uri = metadata["jwks_uri"].as_str().and_then(|uri| Url::parse(uri).ok());
    let Some(uri) = uri.filter(|uri| http::check_transport(uri).is_ok()) else {
        let remedy = "is it a Rescind service that answers there? Look at what lies before it";
        return Check::fail("keys", "the metadata names no jwks_uri that can be asked", remedy);
    };
    let read = async {
        let answer = web.get(uri.clone()).send().await.map_err(|e| FetchError::http(&uri, &e))?;
        let json = http::good(answer, MAX_ANSWER).await?;
        JwkSet::parse(&json).map_err(|e| FetchError::content(&uri, e))
    };
    match read.await {
        Err(error) => no_answer("keys", error),
        Ok(set) => match set.keys.len() {
            0 => Check::fail("keys", "the key set is empty", "look at the service's log"),
            1 => Check::warn("keys", "one key and no standby", "look at `rescind keys list`: one should be pending"),
            n => Check::ok("keys", format!("{n} published")),
        },
    }
}

/// Followed as a verifier would: signature, issuer, continuity, freshness.
async fn feed(issuer: &str) -> Check {
    // It judges no tokens.
    let verifier = match Verifier::builder(issuer).dangerous_any_audience().follow() {
        Ok(verifier) => verifier,
        Err(e) => return Check::fail("feed", e.to_string(), "mend --issuer"),
    };
    // The metadata could be had, so what is wrong lies in the feed, or in what passes it on.
    match heard(&verifier).await {
        Ok(()) => {}
        Err(Some(why)) => {
            let remedy = if why.contains("503") {
                "verifiers refuse everything without it: what --operations and the service's log say is why"
            } else {
                "verifiers refuse everything without it: do /v1/feed and its pages reach the service?"
            };
            return Check::fail("feed", why, remedy);
        }
        Err(None) => {
            let remedy = "verifiers refuse everything without it: does a proxy hold /v1/feed back until it is full?";
            return Check::fail("feed", "no answer in time", remedy);
        }
    }
    let health = verifier.health();
    let fresh = health.fresh_for.map_or_else(String::new, |time| format!(", fresh for {} s", time.as_secs()));
    Check::ok(
        "feed",
        format!("verified, {} entries up to position {}{fresh}", health.entries, health.position.unwrap_or(0)),
    )
}

async fn client_known(remote: &Remote, base: &Url, id: &str) -> Check {
    // Also who may not look at the keys has been recognised by then.
    let answer = match remote.request(reqwest::Method::GET, &["v1", "keys"]).send().await {
        Ok(answer) => answer,
        Err(e) => return no_answer("client", FetchError::http(base, &e)),
    };
    match answer.status().as_u16() {
        200 => Check::ok("client", format!("`{id}` is known, and may look at the keys")),
        403 => Check::ok("client", format!("`{id}` is known")),
        401 => Check::fail(
            "client",
            format!("`{id}` is not known, is disabled, or has another secret"),
            "mend --client-id or its secret; an operator may enable it, or give it another secret",
        ),
        429 => Check::warn("client", "the service is asked too often (429)", "wait, or raise [rates]"),
        503 => Check::warn("client", "the service cannot tell now (503)", "see what --operations says"),
        status => Check::warn("client", format!("the service answered {status}"), "look at its log"),
    }
}

/// What the service has found of its own audit log. None where this client may not look.
async fn audit(remote: &Remote) -> Option<Check> {
    let head = remote.get(&["v1", "audit", "head"], &[]).await.ok()?;
    Some(match head["broken"].as_u64() {
        None => Check::ok("audit", "the service recognises its log; `rescind audit verify` looks at every record"),
        Some(record) => Check::fail(
            "audit",
            format!("record {record} tells that the log was found to be another than the service's own"),
            "somebody can write the store (docs/how-to/incident.md); `rescind audit verify` names the first broken place",
        ),
    })
}

/// By its operations listener.
pub(super) async fn readiness(operations: &str) -> Check {
    let base = match Url::parse(operations) {
        Ok(base) => base,
        Err(e) => {
            let what = format!("--operations `{operations}`: not a URL ({e})");
            return Check::fail("ready", what, "write it as http://127.0.0.1:9090");
        }
    };
    let url = at(&base, &["readyz"]);
    let asked = async {
        let answer = http::client_for(&base)?.get(url.clone()).send().await.map_err(|e| FetchError::http(&url, &e))?;
        let status = answer.status().as_u16();
        let body = http::body(answer, MAX_ANSWER).await?;
        Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
    };
    match asked.await {
        Ok((200, _)) => Check::ok("ready", "the service is ready"),
        Ok((503, why)) => Check::fail("ready", why, "do what it says; until then it answers 503"),
        Ok((status, _)) => {
            Check::fail("ready", format!("{url} answered {status}"), "is --operations the operations listener?")
        }
        Err(error) => no_answer("ready", error),
    }
}

//! The service, and the way to it.

use std::time::Duration;

use reqwest::{Client, Response, Url, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    super::{
        Failure, OrExit,
        client::client_for,
        exit::Exit,
        remote::{Remote, Server, at, unreachable},
    },
    Check,
};
use crate::{
    clock::{Clock, SystemClock},
    model::JwkSet,
    verifier::{MAX_LEEWAY, Verifier, follow::http},
};

/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// How long the feed is given to answer and to be read.
const FEED_PATIENCE: Duration = Duration::from_secs(15);
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
        Err(e) => {
            let failure = unreachable(base, &e);
            let remedy = "does the service run there? Can this machine reach it, and does it trust its certificate?";
            return Ok(vec![Check::fail("reachable", failure.error.to_string(), remedy)]);
        }
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
            Err(failure) => checks.push(Check::fail("client", failure.error.to_string(), "mend --server")),
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
    let remedy = "do the paths of the issuer reach the service, all of them?";
    let uri = metadata["jwks_uri"].as_str().and_then(|uri| Url::parse(uri).ok());
    let Some(uri) = uri.filter(|uri| http::check_transport(uri).is_ok()) else {
        return Check::fail("keys", "the metadata names no jwks_uri that can be asked", remedy);
    };
    let read = async {
        let answer = web.get(uri.clone()).send().await.map_err(|e| http::FetchError::http(&uri, &e).to_string())?;
        let json = http::good(answer, MAX_ANSWER).await.map_err(|e| e.to_string())?;
        JwkSet::parse(&json).map_err(|e| e.to_string())
    };
    match read.await {
        Err(why) => Check::fail("keys", why, remedy),
        Ok(set) => match set.keys.len() {
            0 => Check::fail("keys", "the key set is empty", "look at the service's log"),
            1 => Check::warn("keys", "one key and no standby", "look at `rescind keys list`: one should be pending"),
            n => Check::ok("keys", format!("{n} published")),
        },
    }
}

/// Followed as a verifier would: signature, issuer, continuity, freshness.
async fn feed(issuer: &str) -> Check {
    let remedy = "verifiers refuse everything without it: do /v1/feed and its pages reach the service, unbuffered?";
    // It judges no tokens.
    let verifier = match Verifier::builder(issuer).dangerous_any_audience().follow() {
        Ok(verifier) => verifier,
        Err(e) => return Check::fail("feed", e.to_string(), "mend --issuer"),
    };
    if tokio::time::timeout(FEED_PATIENCE, verifier.ready()).await.is_err() {
        let why = verifier.health().last_error.unwrap_or_else(|| "no good answer in time".into());
        return Check::fail("feed", why, remedy);
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
        Err(e) => return Check::fail("client", unreachable(base, &e).error.to_string(), "try again"),
    };
    match answer.status().as_u16() {
        200 => Check::ok("client", format!("`{id}` is known, and may look at the keys")),
        403 => Check::ok("client", format!("`{id}` is known")),
        401 => Check::fail(
            "client",
            format!("`{id}` is not known, is disabled, or has another secret"),
            "mend --client-id or its secret; an operator may enable it, or give it another secret",
        ),
        status => Check::warn("client", format!("the service answered {status}"), "try again later"),
    }
}

/// What the service has found of its own audit log. None where this client may not look.
async fn audit(remote: &Remote) -> Option<Check> {
    let head = remote.get(&["v1", "audit", "head"], &[]).await.ok()?;
    Some(match head["broken"].as_u64() {
        None => Check::ok("audit", "the service knows its log again; `rescind audit verify` looks at every record"),
        Some(record) => Check::fail(
            "audit",
            format!("record {record} tells that the log was found to be another than the service's own"),
            "somebody can write the store (docs/how-to/incident.md); `rescind audit verify` names the first broken place",
        ),
    })
}

/// By its operations listener.
pub(super) async fn readiness(operations: &str) -> Check {
    let remedy = "is --operations the operations listener, and can this machine reach it?";
    let asked = async {
        let base = Url::parse(operations).map_err(|e| e.to_string())?;
        let url = at(&base, &["readyz"]);
        let web = client_for(&base).map_err(|e| e.to_string())?;
        let answer = web.get(url.clone()).send().await.map_err(|e| http::FetchError::http(&url, &e).to_string())?;
        let status = answer.status().as_u16();
        let body = http::body(answer, MAX_ANSWER).await.map_err(|e| e.to_string())?;
        Ok::<_, String>((status, String::from_utf8_lossy(&body).trim().to_owned()))
    };
    match asked.await {
        Ok((200, _)) => Check::ok("ready", "the service is ready"),
        Ok((503, why)) => Check::fail("ready", why, "do what it says; until then it answers 503"),
        Ok((status, _)) => Check::fail("ready", format!("/readyz answered {status}"), remedy),
        Err(why) => Check::fail("ready", why, remedy),
    }
}

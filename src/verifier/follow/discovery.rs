//! Finds an issuer's keys and feed by its metadata (RFC 8414).

use std::time::Duration;

use reqwest::{Client, Url, header};
use serde::Deserialize;
use serde_json::Value;

use super::http::{FetchError, check_transport, good};
use crate::{
    clock::{SystemRandom, random_bytes},
    model::{JwkSet, feed::Nonce},
    verifier::MAX_SET,
};

/// What is read of the metadata.
#[derive(Deserialize)]
struct Metadata {
    issuer: Box<str>,
    jwks_uri: Box<str>,
    rescind_feed_uri: Option<Box<str>>,
    rescind_feed_jwks: Option<Value>,
}

/// Where an issuer is to be asked.
#[derive(Debug, Clone)]
pub(super) struct Whereabouts {
    pub(super) jwks: Url,
    pub(super) feed: Url,
    pub(super) feed_keys: JwkSet,
    /// When it was asked, on the clock that runs on while the machine sleeps.
    pub(super) found: Duration,
}

/// Asks the issuer where things are. What it says must be about itself, to the letter (RFC 8414 §3.3), and at its own
/// origin: who can write this one document must not send us elsewhere. `again`: not what a cache has kept of before.
pub(super) async fn discover(
    web: &Client,
    issuer: &str,
    url: &Url,
    again: bool,
    now: Duration,
) -> Result<Whereabouts, FetchError> {
    let mut at = metadata_url(url);
    if again {
        at.query_pairs_mut().append_pair("again", &Nonce(random_bytes(&SystemRandom)).to_string());
    }
    let request = web.get(at.clone()).header(header::CACHE_CONTROL, "no-cache");
    let answer = request.send().await.map_err(|e| FetchError::http(&at, &e))?;
    let json = good(answer, MAX_SET).await?;
    let wrong = |why: &str| FetchError::content(&at, why);
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|_| wrong("is not the metadata of an issuer"))?;
    if &*metadata.issuer != issuer {
        // A slash too many is the usual reason, and cannot be seen in "another".
        let named: String = metadata.issuer.chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(FetchError::content(&at, format!("speaks for another issuer: `{named}`, not `{issuer}`")));
    }
    let (Some(feed), Some(feed_keys)) = (metadata.rescind_feed_uri, metadata.rescind_feed_jwks) else {
        return Err(wrong("offers no revocation feed (rescind_feed_uri, rescind_feed_jwks)"));
    };
    let own = |uri: &str| match Url::parse(uri) {
        Ok(uri) if uri.origin() == url.origin() && check_transport(&uri).is_ok() => Ok(uri),
        _ => Err(wrong("sends us to another origin")),
    };
    let feed_keys = JwkSet::parse(feed_keys.to_string().as_bytes()).map_err(|e| FetchError::content(&at, e))?;
    Ok(Whereabouts { jwks: own(&metadata.jwks_uri)?, feed: own(&feed)?, feed_keys, found: now })
}

/// RFC 8414 §3.1: between host and path.
fn metadata_url(issuer: &Url) -> Url {
    let path = issuer.path().trim_end_matches('/').to_owned();
    let mut url = issuer.clone();
    url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
    url
}

//! The webhook: what a security team wants to be told at once, sent to an address of theirs.
//!
//! Messages come out of the audit log behind a cursor that the store keeps, so that none is lost by a crash on either
//! side: each is sent until it is taken, in the order of the log, and may come twice. They are signed by the Standard
//! Webhooks scheme (HMAC-SHA256), whose libraries check them. Sending has a task of its own, and no request waits for it.

use std::{collections::BTreeSet, time::Duration};

use reqwest::{Client, StatusCode, Url};
use serde_json::Value;

mod deliver;
mod kind;
mod signing;

pub use kind::Kind;
pub use signing::{WebhookSecret, WebhookSecretError};

use crate::verifier::follow::http::client_for;

/// Time for one attempt, from connecting to the status.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Where messages go, and which.
#[derive(Debug)]
pub struct WebhookSettings {
    /// An `https` URL; plain `http` on loopback only.
    pub url: String,
    /// What signs them.
    pub secret: WebhookSecret,
    /// Which are sent.
    pub kinds: BTreeSet<Kind>,
}

/// Why there can be no such webhook.
#[derive(Debug, thiserror::Error)]
#[error("webhook.url: {0}")]
pub struct WebhookUrlError(String);

pub(super) struct Webhook {
    url: Url,
    client: Client,
    secret: WebhookSecret,
    kinds: BTreeSet<Kind>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses of webhooks are often secrets by themselves.
        write!(f, "Webhook({})", self.url.host_str().unwrap_or_default())
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whether the receiver took it: any 2xx.
    pub delivered: bool,
    /// What it answered, if it did.
    pub status: Option<u16>,
    /// What went wrong, without the address.
    pub problem: Option<String>,
}

/// Whether a webhook could be there.
///
/// # Errors
/// [`WebhookUrlError`].
pub fn check_webhook_url(url: &str) -> Result<(), WebhookUrlError> {
    client_of(url).map(drop)
}

fn client_of(url: &str) -> Result<(Url, Client), WebhookUrlError> {
    let bad = |why: &str| WebhookUrlError(why.into());
    let url = Url::parse(url).map_err(|_| bad("is not a URL; write it as https://hooks.example/rescind"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("names a user; messages are signed, leave that out"));
    }
    let client = client_for(&url).map_err(|_| bad("must be https; plain http only to an address of this machine"))?;
    Ok((url, client))
}

impl Webhook {
    pub(super) fn new(settings: WebhookSettings) -> Result<Self, WebhookUrlError> {
        let (url, client) = client_of(&settings.url)?;
        Ok(Self { url, client, secret: settings.secret, kinds: settings.kinds })
    }

    /// One attempt. The receiver's answer is not read beyond its status, and redirects are not followed.
    async fn send(&self, id: &str, seconds: u64, body: &Value) -> Attempt {
        let body = body.to_string();
        let signature = self.secret.sign(id, seconds, &body);
        let request = self
            .client
            .post(self.url.clone())
            .timeout(ATTEMPT)
            .header("content-type", "application/json")
            .header("user-agent", concat!("rescind/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Attempt::answered(answer.status(), None),
            Ok(answer) if answer.status().is_redirection() => {
                Attempt::answered(answer.status(), Some("redirects are not followed; give the final address".into()))
            }
            Ok(answer) => Attempt::answered(answer.status(), Some("the receiver did not take it".into())),
            Err(error) => Attempt { delivered: false, status: None, problem: Some(why(error)) },
        }
    }
}

impl Attempt {
    fn answered(status: StatusCode, problem: Option<String>) -> Self {
        Self { delivered: status.is_success(), status: Some(status.as_u16()), problem }
    }
}

/// The innermost cause, which says most and never has the address in it.
fn why(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", ATTEMPT.as_secs());
    }
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

//! An issuer as anyone may ask it: its metadata (RFC 8414), its keys, and introspection (RFC 7662).

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::super::client::{body, client_for};
use crate::{model::JwkSet, verifier::follow::metadata_url};

/// What is read of the metadata.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
    introspection_endpoint: Option<String>,
}

pub(super) struct Issuer {
    web: Client,
    metadata: Metadata,
}

/// Proves to an issuer who asks.
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Zeroizing<String>,
}

/// What introspection said.
pub(super) enum Opinion {
    Active,
    Inactive,
    /// The issuer does not answer this client.
    NotForUs(String),
}

impl Issuer {
    /// Finds an issuer by its name, which its metadata must repeat to the letter (RFC 8414 §3.3).
    pub(super) async fn discover(issuer: &str, url: &Url) -> Result<Self> {
        let web = client_for(url)?;
        let at = metadata_url(url);
        let read = get(&web, at.clone()).await?;
        let metadata: Metadata = serde_json::from_slice(&read).with_context(|| format!("{at} is no metadata"))?;
        ensure!(metadata.issuer == issuer, "{at} speaks for `{}`, not for `{issuer}`", metadata.issuer);
        // Who can write one document must not send us, and our secret, to somebody else.
        for endpoint in [Some(&metadata.jwks_uri), metadata.introspection_endpoint.as_ref()].into_iter().flatten() {
            let same = Url::parse(endpoint).is_ok_and(|e| e.origin() == url.origin());
            ensure!(same, "{at} sends us to another origin: {endpoint}");
        }
        Ok(Self { web, metadata })
    }

    pub(super) async fn keys(&self) -> Result<JwkSet> {
        let at = Url::parse(&self.metadata.jwks_uri)?;
        JwkSet::parse(&get(&self.web, at.clone()).await?).with_context(|| format!("{at}"))
    }

    /// Asks whether the token is active.
    pub(super) async fn introspect(&self, by: &Credentials, token: &str) -> Result<Opinion> {
        #[derive(Deserialize)]
        struct Answer {
            active: bool,
        }
        let at = self.metadata.introspection_endpoint.as_deref().context("the issuer offers no introspection")?;
        let post = self.web.post(at).basic_auth(encoded(&by.id), Some(encoded(&by.secret)));
        let answer = post.form(&[("token", token)]).send().await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Ok(Opinion::NotForUs(format!("{at} does not know client `{}` by that secret", by.id)));
            }
            StatusCode::FORBIDDEN => {
                return Ok(Opinion::NotForUs(format!("{at}: client `{}` may not introspect", by.id)));
            }
            other => bail!("{at} answered {other}"),
        }
        let answer: Answer = serde_json::from_slice(&body(answer).await?).with_context(|| at.to_owned())?;
        Ok(if answer.active { Opinion::Active } else { Opinion::Inactive })
    }
}

/// RFC 6749 §2.3.1: name and secret are form-encoded before they go into HTTP Basic.
fn encoded(text: &str) -> String {
    let mut url = Url::parse("http://localhost").expect("a URL");
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

async fn get(web: &Client, at: Url) -> Result<Vec<u8>> {
    let answer = web.get(at.clone()).send().await?;
    ensure!(answer.status() == StatusCode::OK, "{at} answered {}", answer.status());
    body(answer).await
}

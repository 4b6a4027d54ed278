//! Who appears in the story, and what each of them holds.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::{
    client::{body, client_for},
    dev::AUDIENCE,
};
use crate::{
    model::{JwkSet, claims::Claims},
    verifier::{Refused, Verified, Verifier},
};

/// The login application, which also operates the node: the one part that holds a secret.
pub(super) const LOGIN: &str = "login";
/// The client, which has nothing to prove itself with: a phone, a page in a browser.
pub(super) const PHONE: &str = "phone";

/// The issuer, as seen from outside: a URL.
#[derive(Clone)]
pub(super) struct Issuer {
    web: Client,
    url: String,
    login_secret: Arc<Zeroizing<String>>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Answer {
    /// A member that must be a string.
    pub(super) fn text(&self, member: &str) -> Result<String> {
        let text = self.body.get(member).and_then(Value::as_str).map(str::to_owned);
        text.with_context(|| format!("the answer ({}) has no `{member}`", self.status))
    }
    /// Refused as RFC 6749 §5.2 says it of a token that is no longer good.
    pub(super) fn is_invalid_grant(&self) -> bool {
        self.status == 400 && self.body["error"] == "invalid_grant"
    }
    /// Status and code, for a message; the body may hold tokens.
    pub(super) fn gist(&self) -> String {
        let code = ["error", "code"].iter().find_map(|m| self.body[m].as_str()).unwrap_or("no error");
        format!("{} {code}", self.status)
    }
}

impl Issuer {
    pub(super) fn at(url: &str, login_secret: &str) -> Result<Self> {
        let web = client_for(&Url::parse(url)?)?;
        let login_secret = Arc::new(Zeroizing::new(login_secret.to_owned()));
        Ok(Self { web, url: url.to_owned(), login_secret })
    }
    pub(super) fn url(&self) -> &str {
        &self.url
    }
    async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let body = body(answer).await?;
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
    }
    /// As the login application, with another secret than its own if `secret` says so.
    pub(super) async fn login_with(&self, secret: &str, subject: &str) -> Result<Answer> {
        let session = json!({"subject": subject, "audience": [AUDIENCE], "scope": "read write", "client_id": PHONE});
        self.send(self.web.post(format!("{}/v1/sessions", self.url)).basic_auth(LOGIN, Some(secret)).json(&session))
            .await
    }
    /// The login application opens a session and hands its tokens over.
    pub(super) async fn login(&self, subject: &str) -> Result<Tokens> {
        let answer = self.login_with(&self.login_secret, subject).await?;
        ensure!(answer.status == 201, "no session was opened: {}", answer.gist());
        Tokens::of(&answer)
    }
    /// As the operator.
    pub(super) async fn operate(&self, path: &str, order: &Value) -> Result<Answer> {
        let post = self.web.post(format!("{}{path}", self.url)).basic_auth(LOGIN, Some(&**self.login_secret));
        self.send(post.json(order)).await
    }
    /// As a client that has its name and a refresh token.
    pub(super) async fn refresh(&self, token: &str) -> Result<Answer> {
        self.refresh_by(&self.web, &self.url, token).await
    }
    /// The same by another way there.
    pub(super) async fn refresh_via(&self, url: &str, token: &str) -> Result<Answer> {
        self.refresh_by(&client_for(&Url::parse(url)?)?, url, token).await
    }
    async fn refresh_by(&self, web: &Client, url: &str, token: &str) -> Result<Answer> {
        let form = [("grant_type", "refresh_token"), ("client_id", PHONE), ("refresh_token", token)];
        self.send(web.post(format!("{url}/oauth2/token")).form(&form)).await
    }
    /// Whether introspection calls the token active (RFC 7662 §2.2).
    pub(super) async fn is_active(&self, token: &str) -> Result<bool> {
        let post = self.web.post(format!("{}/oauth2/introspect", self.url));
        let post = post.basic_auth(LOGIN, Some(&**self.login_secret)).form(&[("token", token)]);
        let answer = self.send(post).await?;
        ensure!(answer.status == 200, "introspection answered {}", answer.gist());
        answer.body["active"].as_bool().context("introspection says neither active nor inactive")
    }
    /// The published keys.
    pub(super) async fn jwks(&self) -> Result<JwkSet> {
        let answer = self.web.get(format!("{}/.well-known/jwks.json", self.url)).send().await?;
        Ok(JwkSet::parse(&body(answer).await?)?)
    }
}

/// What a client holds: nothing else.
#[derive(Clone)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: String,
}

impl Tokens {
    pub(super) fn of(answer: &Answer) -> Result<Self> {
        Ok(Self { access: answer.text("access_token")?, refresh: answer.text("refresh_token")? })
    }
    /// Exchanges the refresh token; from here on the new tokens are the client's.
    pub(super) async fn refresh(&mut self, issuer: &Issuer) -> Result<()> {
        let answer = issuer.refresh(&self.refresh).await?;
        ensure!(answer.status == 200, "the client was not given new tokens: {}", answer.gist());
        let new = Self::of(&answer)?;
        ensure!(new.refresh != self.refresh, "the refresh token did not change");
        *self = new;
        Ok(())
    }
}

/// An API: it has fetched the keys once, and verifies by itself.
pub(super) struct Api(Verifier);

impl Api {
    pub(super) fn with(issuer: &Issuer, keys: JwkSet) -> Result<Self> {
        Ok(Self(Verifier::builder(issuer.url()).audience(AUDIENCE).keys(keys).dangerous_allow_stale().build()?))
    }
    pub(super) fn verify(&self, token: &str) -> Result<Verified<Claims>, Refused> {
        self.0.verify(token)
    }
}

/// How many different ones there are.
pub(super) fn distinct<'a>(texts: impl Iterator<Item = &'a String>) -> usize {
    texts.collect::<BTreeSet<_>>().len()
}

/// The same token with its last character but `from_end` changed: a forgery.
pub(super) fn forged(token: &str, from_end: usize) -> String {
    let at = token.len() - from_end;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

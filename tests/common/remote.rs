//! The real program as its clients and operators reach it, where a connection may break at any moment.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test helper; each test binary uses a part")]

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    harness::{client, text},
    process::Dev,
};

/// One session as its client knows it: the newest refresh token that was acknowledged, and what was sent since.
#[derive(Clone)]
pub struct Held {
    pub refresh: String,
    pub access: String,
    pub session: String,
    pub ended: bool,
}

pub struct Remote {
    pub http: reqwest::Client,
    pub issuer: String,
    pub id: String,
    pub secret: String,
}

impl Remote {
    pub fn of(dev: &Dev) -> Arc<Self> {
        let own = |m: &str| dev.text(m).to_owned();
        Arc::new(Self { http: client(), issuer: own("issuer"), id: own("client_id"), secret: own("client_secret") })
    }

    /// None: the connection broke, nobody knows.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
        let response = request.basic_auth(&self.id, Some(&self.secret)).send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    pub async fn get(&self, path: &str) -> Option<(u16, Value)> {
        self.send(self.http.get(format!("{}{path}", self.issuer))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        self.send(self.http.post(format!("{}{path}", self.issuer)).json(body)).await
    }

    pub async fn open(&self) -> Option<Held> {
        let (status, body) = self.post("/v1/sessions", &json!({"subject": "alice", "audience": ["api"]})).await?;
        assert_eq!(status, 201, "{body}");
        let own = |m: &str| text(&body, m).to_owned();
        Some(Held {
            refresh: own("refresh_token"),
            access: own("access_token"),
            session: own("session_id"),
            ended: false,
        })
    }

    pub async fn refresh(&self, held: &Held) -> Option<(u16, Value)> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", &held.refresh)];
        self.send(self.http.post(format!("{}/oauth2/token", self.issuer)).form(&form)).await
    }

    pub async fn end(&self, held: &Held) -> Option<u16> {
        let url = format!("{}/v1/sessions/{}", self.issuer, held.session);
        Some(self.send(self.http.delete(url)).await?.0)
    }

    pub async fn active(&self, token: &str) -> bool {
        let request = self.http.post(format!("{}/oauth2/introspect", self.issuer)).form(&[("token", token)]);
        self.send(request).await.unwrap().1["active"] == true
    }

    /// The kids in the JWKS, as anyone sees them.
    pub async fn published(&self) -> Vec<String> {
        let (status, set) = self.get("/.well-known/jwks.json").await.unwrap();
        assert_eq!(status, 200, "{set}");
        set["keys"].as_array().unwrap().iter().map(|key| text(key, "kid").to_owned()).collect()
    }

    /// The kids of the keys in this state, oldest first. None: the connection broke.
    pub async fn keys(&self, state: &str) -> Option<Vec<String>> {
        let (status, list) = self.get("/v1/keys").await?;
        assert_eq!(status, 200, "{list}");
        let keys = list["keys"].as_array().unwrap().iter().filter(|key| key["state"] == state);
        Some(keys.map(|key| text(key, "kid").to_owned()).collect())
    }
}

impl Held {
    /// Takes what a refresh has answered.
    pub fn take(&mut self, answer: &Value) {
        self.refresh = text(answer, "refresh_token").to_owned();
        self.access = text(answer, "access_token").to_owned();
    }
}

/// Whose signature a token bears, by its own word.
pub fn kid_of(token: &str) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    text(&serde_json::from_slice(&header).unwrap(), "kid").to_owned()
}

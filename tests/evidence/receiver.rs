//! A receiver of webhooks on this machine, which does as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use tokio::net::TcpListener;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[derive(Clone, Debug)]
pub struct Message {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub text: String,
    pub body: Value,
}

#[derive(Default)]
struct Inner {
    got: Vec<Message>,
    /// What is answered to the next ones; then 204.
    answers: Vec<u16>,
    redirected: usize,
}

#[derive(Clone, Default)]
pub struct Receiver(Arc<Mutex<Inner>>);

impl Receiver {
    /// Listens at a port of its own, or at this one.
    pub async fn start(at: Option<SocketAddr>, answers: &[u16]) -> (Self, SocketAddr) {
        let receiver = Self::default();
        receiver.0.lock().unwrap().answers = answers.iter().rev().copied().collect();
        let listener = TcpListener::bind(at.unwrap_or(([127, 0, 0, 1], 0).into())).await.unwrap();
        let at = listener.local_addr().unwrap();
        let elsewhere = |State(receiver): State<Self>| async move { receiver.0.lock().unwrap().redirected += 1 };
        let router = Router::new().route("/hook", post(take)).route("/elsewhere", post(elsewhere).get(elsewhere));
        let router = router.with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (receiver, at)
    }

    pub fn got(&self) -> Vec<Message> {
        self.0.lock().unwrap().got.clone()
    }
    pub fn redirected(&self) -> usize {
        self.0.lock().unwrap().redirected
    }

    /// Waits until there are so many.
    pub async fn wait(&self, many: usize) -> Vec<Message> {
        for _ in 0..1500 {
            let got = self.got();
            if got.len() >= many {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("only {:?}", self.got());
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let message = Message {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body: serde_json::from_str(&text).unwrap(),
        text,
    };
    let mut inner = receiver.0.lock().unwrap();
    inner.got.push(message);
    let status = StatusCode::from_u16(inner.answers.pop().unwrap_or(204)).unwrap();
    if status.is_redirection() {
        return (status, [(header::LOCATION, "/elsewhere")]).into_response();
    }
    status.into_response()
}

impl Message {
    /// As any library of the Standard Webhooks scheme checks it.
    pub fn is_signed(&self) -> bool {
        let key = BASE64_STANDARD.decode(&SECRET["whsec_".len()..]).unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.text).as_bytes());
        self.signature == format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }
}

//! The limit of a refresh over Redis: an axum handler, one script, one signature, and nothing that makes a product.
//!
//! `bare redis://…` says where it serves in the words of `rescind dev --json`, and answers `/v1/sessions` and
//! `/oauth2/token` like the service, with tokens of the usual lengths: so the same load can be put on both.

use std::{io, sync::Arc};

use axum::{Json, Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use redis::{Script, aio::MultiplexedConnection};
use serde::Serialize;

/// The length of an access token's header and payload as the service mints them.
const SIGNED: usize = 550;
/// Moves a session on by one, if the token shown is its newest.
const ROTATE: &str = r"
    if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'token', ARGV[2], 'used', redis.call('TIME')[1])
    redis.call('EXPIRE', KEYS[1], 86400)
    return 1";

struct Bare {
    redis: MultiplexedConnection,
    rotate: Script,
    key: SigningKey,
}

#[derive(Serialize)]
struct Answer {
    access_token: String,
    token_type: &'static str,
    expires_in: u32,
    refresh_token: String,
    scope: &'static str,
}

impl Bare {
    fn answer(&self, refresh_token: String) -> Answer {
        let mut access_token = "x".repeat(SIGNED);
        let signature = self.key.sign(access_token.as_bytes()).to_bytes();
        access_token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut access_token);
        Answer { access_token, token_type: "Bearer", expires_in: 300, refresh_token, scope: "read" }
    }
}

/// A token: its session's name, then what must be right.
fn token(session: &str) -> String {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).expect("the system has random numbers");
    format!("{session}.{}", BASE64_URL_SAFE_NO_PAD.encode(secret))
}

async fn open(State(bare): State<Arc<Bare>>) -> Result<(StatusCode, Json<Answer>), StatusCode> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).expect("the system has random numbers");
    let session = BASE64_URL_SAFE_NO_PAD.encode(name);
    let token = token(&session);
    let mut redis = bare.redis.clone();
    let put = redis::cmd("HSET").arg(format!("bare:{session}")).arg("token").arg(&token).to_owned();
    put.query_async::<()>(&mut redis).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok((StatusCode::CREATED, Json(bare.answer(token))))
}

async fn refresh(State(bare): State<Arc<Bare>>, form: Bytes) -> Result<Json<Answer>, StatusCode> {
    let form = std::str::from_utf8(&form).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut members = form.split('&').filter_map(|pair| pair.split_once('='));
    let (_, shown) = members.find(|(name, _)| *name == "refresh_token").ok_or(StatusCode::BAD_REQUEST)?;
    let session = shown.split('.').next().unwrap_or_default();
    let next = token(session);
    let mut rotate = bare.rotate.key(format!("bare:{session}"));
    let done: i32 = rotate
        .arg(shown)
        .arg(&next)
        .invoke_async(&mut bare.redis.clone())
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    if done == 1 { Ok(Json(bare.answer(next))) } else { Err(StatusCode::BAD_REQUEST) }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let url = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: bare redis://HOST:PORT"))?;
    let client = redis::Client::open(url).map_err(io::Error::other)?;
    let redis = client.get_multiplexed_async_connection().await.map_err(io::Error::other)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system has random numbers");
    let bare = Bare { redis, rotate: Script::new(ROTATE), key: SigningKey::from_bytes(&seed) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    println!("{}", serde_json::json!({ "issuer": issuer, "client_id": "bench", "client_secret": "none" }));
    let routes = Router::new().route("/v1/sessions", post(open)).route("/oauth2/token", post(refresh));
    axum::serve(listener, routes.with_state(Arc::new(bare))).await
}

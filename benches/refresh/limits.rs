//! What no server could beat here: the same exchange without a store, with and without a signature, and the bare disk.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use axum::{Json, Router, body::Bytes, extract::State, routing::post};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use rescind::clock::{Clock, Random, SystemClock, SystemRandom, random_bytes};
use serde::Serialize;

/// A server that answers like the token endpoint and keeps nothing.
pub(crate) struct Limit {
    /// Signs each answer, if there is one.
    key: Option<SigningKey>,
    access_bytes: usize,
    refresh_bytes: usize,
}

#[derive(Serialize)]
struct Answer {
    access_token: String,
    token_type: &'static str,
    expires_in: u32,
    refresh_token: String,
    scope: &'static str,
}

impl Limit {
    pub(crate) fn new(signs: bool, access_bytes: usize, refresh_bytes: usize) -> Self {
        let key = signs.then(|| SigningKey::from_bytes(&random_bytes(&SystemRandom)));
        Self { key, access_bytes, refresh_bytes }
    }

    /// Reads the form for its refresh token and answers tokens of the usual lengths.
    fn answer(&self, form: &[u8]) -> Option<Answer> {
        let form = std::str::from_utf8(form).ok()?;
        let presented =
            form.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == "refresh_token");
        let (_, presented) = presented?;
        let mut access_token = "x".repeat(self.access_bytes);
        if let Some(key) = &self.key {
            let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(access_token.as_bytes()).to_bytes());
            access_token.truncate(self.access_bytes.saturating_sub(signature.len()));
            access_token.push_str(&signature);
        }
        let refresh_token = self.another(presented);
        Some(Answer { access_token, token_type: "Bearer", expires_in: 300, refresh_token, scope: "read" })
    }

    /// A token of the right length that differs from the one presented, as the generator demands.
    fn another(&self, presented: &str) -> String {
        let filler = if presented.starts_with('a') { "b" } else { "a" };
        filler.repeat(self.refresh_bytes)
    }

    /// Serves until the process ends, and says where in the words of `rescind dev --json`.
    pub(crate) async fn serve(self) -> io::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let ready = serde_json::json!({
            "issuer": format!("http://{}", listener.local_addr()?), "client_id": "bench", "client_secret": "none",
        });
        println!("{ready}");
        let router = Router::new()
            .route("/oauth2/token", post(refresh))
            .route("/v1/sessions", post(open))
            .with_state(Arc::new(self));
        axum::serve(listener, router).await
    }
}

async fn refresh(State(limit): State<Arc<Limit>>, form: Bytes) -> Result<Json<Answer>, axum::http::StatusCode> {
    limit.answer(&form).map(Json).ok_or(axum::http::StatusCode::BAD_REQUEST)
}

async fn open(State(limit): State<Arc<Limit>>) -> (axum::http::StatusCode, Json<Option<Answer>>) {
    (axum::http::StatusCode::CREATED, Json(limit.answer(b"refresh_token=first")))
}

/// How the bare disk is written to.
#[derive(Clone, Copy)]
pub(crate) enum Disk {
    /// The file grows: its new length must be durable too.
    Append,
    /// The same blocks again, as a store that reuses its pages does.
    Overwrite,
}

/// Writes 4 KiB and waits for the disk, again and again. Gives each round's duration, sorted.
pub(crate) fn fdatasyncs(directory: &Path, disk: Disk, during: Duration) -> io::Result<Vec<Duration>> {
    let clock = SystemClock::default();
    let mut page = [0; 4096];
    SystemRandom.fill(&mut page);
    let file = File::create(directory.join("fdatasync"))?;
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    let (mut took, mut end_of_file) = (Vec::new(), 4096);
    let end = clock.monotonic() + during;
    while clock.monotonic() < end {
        let start = clock.monotonic();
        file.write_all_at(&page, if matches!(disk, Disk::Append) { end_of_file } else { 0 })?;
        file.sync_data()?;
        took.push(clock.monotonic() - start);
        end_of_file += 4096;
    }
    took.sort();
    Ok(took)
}

//! `rescind probe`: the health check of containers, which have no shell and no curl.

use std::time::Duration;

use anyhow::Context;
use reqwest::Url;
use serde_json::json;

use super::{
    Exit, Failure, OrExit,
    args::between,
    client::{body, check_transport, client_for},
    say, tell,
};
use crate::{model::time::parse_duration, verifier::follow::http::FetchError};

/// Ask a service or a sidecar on this machine whether it can serve.
///
/// For the health check of a container. Prints what was answered.
///
/// Exit codes: 0 it can (2xx), 1 it says that it cannot, and why; 5 nothing answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to ask, on the operations listener: /readyz, or /livez for whether the process runs.
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9090/readyz")]
    url: Url,
    /// How long to wait for an answer, 100ms to 60s.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = patience)]
    timeout: Duration,
    /// Print one JSON object, with `url`, `status` and `answer`.
    #[arg(long)]
    json: bool,
}

fn patience(text: &str) -> Result<Duration, String> {
    let patience = parse_duration(text)?;
    between("the time-out", patience, Duration::from_millis(100), Duration::from_secs(60)).map(|()| patience)
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    check_transport(&args.url).map_err(|e| Failure::new(Exit::Usage, e))?;
    let sent = client_for(&args.url)?.get(args.url.clone()).timeout(args.timeout).send().await;
    let answer = sent
        .map_err(|e| FetchError::http(&args.url, &e))
        .or_exit(Exit::CannotTell, "nothing answers at the operations listener (operations_listen)")?;
    let status = answer.status();
    let text = body(answer).await.context("the answer broke off")?;
    let text = String::from_utf8_lossy(&text);
    // It may be anybody's answer: nothing in it moves a cursor.
    let line: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if args.json {
        say(json!({"url": args.url.as_str(), "status": status.as_u16(), "answer": line}));
    } else if status.is_success() {
        say(line);
    } else {
        tell(format_args!("rescind: {} answered {}: {line}", args.url, status.as_u16()));
    }
    Ok(if status.is_success() { Exit::Yes } else { Exit::No })
}

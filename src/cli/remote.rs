//! A running service, as the operator's commands speak to it: HTTP with client authentication.
#![allow(dead_code, reason = "TEMP until the commands are here")]

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use reqwest::{Client, Method, RequestBuilder, Response, Url, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Exit, Failure, OrExit, client};

/// The environment variable with the secret itself. There is no argument for it: arguments are public.
const SECRET: &str = "RESCIND_CLIENT_SECRET";
/// No secret is longer; what is longer is another file.
const MAX_SECRET: u64 = 4096;
/// The longest answer that is read whole.
const MAX_ANSWER: usize = 8 << 20;

/// Which service, and who asks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub(super) struct Server {
    /// The running service.
    #[arg(long, value_name = "URL", env = "RESCIND_SERVER")]
    server: String,
    /// The client that asks; it needs the permission for it.
    #[arg(long, value_name = "ID", env = "RESCIND_CLIENT_ID")]
    client_id: String,
    /// A file with its secret, or `-` for stdin. The secret itself may be in the environment variable
    /// RESCIND_CLIENT_SECRET.
    #[arg(long, value_name = "FILE", env = "RESCIND_CLIENT_SECRET_FILE")]
    client_secret_file: Option<PathBuf>,
}

/// A service that can be asked.
pub(super) struct Remote {
    client: Client,
    base: Url,
    id: String,
    secret: Zeroizing<String>,
}

impl Server {
    /// Reads the secret. Nothing is asked yet.
    pub(super) fn connect(&self) -> Result<Remote, Failure> {
        let base = Url::parse(&self.server).or_exit(Exit::Usage, format!("--server `{}`", self.server))?;
        let client = client::client_for(&base).or_exit(Exit::Usage, "--server")?;
        Ok(Remote { client, base, id: self.client_id.clone(), secret: self.secret()? })
    }

    fn secret(&self) -> Result<Zeroizing<String>, Failure> {
        let secret = match &self.client_secret_file {
            Some(path) => read_secret(path)?,
            None => Zeroizing::new(std::env::var(SECRET).unwrap_or_default()),
        };
        match secret.trim() {
            "" => Err(Failure::usage(format!(
                "no secret for client `{}`: name a file with --client-secret-file, or set {SECRET}",
                self.client_id
            ))),
            secret => Ok(Zeroizing::new(secret.to_owned())),
        }
    }
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(fs::File::open(path).or_exit(Exit::Usage, format!("--client-secret-file {}", path.display()))?)
    };
    source
        .take(MAX_SECRET)
        .read_to_string(&mut text)
        .or_exit(Exit::Usage, format!("--client-secret-file {}", path.display()))?;
    Ok(text)
}

impl Remote {
    /// A request to the path that these segments make.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.client.request(method, url).basic_auth(&self.id, Some(&*self.secret))
    }

    pub(super) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let mut request = self.request(Method::GET, path);
        if !query.is_empty() {
            let mut url = form_urlencoded::Serializer::new(String::new());
            url.extend_pairs(query);
            let mut built = request.build()?;
            built.url_mut().set_query(Some(&url.finish()));
            request = RequestBuilder::from_parts(self.client.clone(), built);
        }
        json(self.send(request).await?).await
    }

    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        json(self.send(self.request(Method::POST, path).json(body)).await?).await
    }

    /// Sends it; whatever is not a 2xx is the failure that a script can tell apart by its exit code.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refusal(answer, &self.id).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let error = crate::verifier::follow::http::FetchError::http(&self.base, error);
        Failure::new(Exit::CannotTell, error)
    }
}

async fn json(answer: Response) -> Result<Value, Failure> {
    let body = crate::verifier::follow::http::body(answer, MAX_ANSWER).await?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).or_exit(Exit::CannotTell, "the answer is no JSON; is --server a Rescind service?")
}

/// RFC 9457: what the service says of it, and whom it asks to act.
async fn refusal(answer: Response, client: &str) -> Failure {
    let status = answer.status().as_u16();
    let wait = answer.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = crate::verifier::follow::http::body(answer, MAX_ANSWER).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let member = |name: &str| problem[name].as_str().map(str::to_owned);
    let (code, detail) = (member("code"), member("detail"));
    let mut text = match (code, detail) {
        (Some(code), Some(detail)) => format!("{detail} ({code})"),
        _ => format!("the service answered {status}; is --server a Rescind service?"),
    };
    if let Some(earliest) = member("earliest") {
        text += &format!("; not before {earliest}");
    }
    if let Some(seconds) = wait {
        text += &format!("; try again in {seconds} s");
    }
    let exit = match status {
        400 | 413 | 415 | 422 => Exit::Usage,
        401 => {
            text = format!("client `{client}`: {text}; check its id and its secret");
            Exit::NotPermitted
        }
        403 => {
            text = format!("client `{client}`: {text}");
            Exit::NotPermitted
        }
        404 | 410 => Exit::NotFound,
        409 | 412 => Exit::No,
        _ => Exit::CannotTell,
    };
    Failure::new(exit, anyhow!(text))
}

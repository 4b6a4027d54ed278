//! A running service, as the operator's commands speak to it: HTTP with client authentication.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use reqwest::{Client, Method, RequestBuilder, Response, Url, header};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Exit, Failure, OrExit, client, output::plain};
use crate::verifier::follow::http::{self, FetchError};

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
    #[arg(long, value_name = "URL", env = "RESCIND_SERVER", hide_env_values = true)]
    server: String,
    /// The client that asks; it needs the permission for it.
    #[arg(long, value_name = "ID", env = "RESCIND_CLIENT_ID", hide_env_values = true)]
    client_id: String,
    /// A file with its secret, or `-` for stdin. The secret itself may be in the environment variable
    /// RESCIND_CLIENT_SECRET.
    #[arg(long, value_name = "FILE", env = "RESCIND_CLIENT_SECRET_FILE", hide_env_values = true)]
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
        let base = base(&self.server)?;
        // Before the secret is read: plain HTTP to another machine is not worth a question.
        client::check_transport(&base).or_exit(Exit::Usage, "--server")?;
        let secret = secret(&self.client_id, self.client_secret_file.as_deref())?;
        Self::known(base, &self.client_id, secret)
    }

    /// Where the address and the secret are known already.
    pub(super) fn known(base: Url, id: &str, secret: Zeroizing<String>) -> Result<Remote, Failure> {
        let client = client::client_for(&base).or_exit(Exit::Usage, "--server")?;
        Ok(Remote { client, base, id: id.to_owned(), secret })
    }

    /// Whether stdin is not free for an answer.
    pub(super) fn takes_stdin(&self) -> bool {
        self.client_secret_file.as_deref() == Some(Path::new("-"))
    }
}

/// The service's address, which is no place for a secret.
pub(super) fn base(server: &str) -> Result<Url, Failure> {
    let bad = |why: &str| Failure::usage(format!("--server: {why}; write it as https://auth.example"));
    let base = Url::parse(server).map_err(|e| bad(&format!("not a URL ({e})")))?;
    if !base.username().is_empty() || base.password().is_some() {
        return Err(bad("the URL names a user; the client goes into --client-id"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(bad("the URL has a query or a fragment"));
    }
    Ok(base)
}

/// The client's secret, from a file, stdin or the environment.
pub(super) fn secret(client: &str, file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let text = match (file, std::env::var(SECRET)) {
        (Some(path), _) => read_secret(path)?,
        (None, Ok(text)) => Zeroizing::new(text),
        (None, Err(std::env::VarError::NotPresent)) => Zeroizing::default(),
        (None, Err(std::env::VarError::NotUnicode(_))) => return Err(Failure::usage(format!("{SECRET} is not UTF-8"))),
    };
    match (alone(&text), file) {
        ("", Some(file)) => Err(Failure::usage(format!(
            "{}: is empty; write the secret of client `{}` there, or name another file",
            named(file),
            plain(client)
        ))),
        ("", None) => Err(Failure::usage(format!(
            "no secret for client `{}`: name a file with --client-secret-file, or set {SECRET}",
            plain(client)
        ))),
        (secret, file) if secret.chars().any(char::is_control) => {
            let place = file.map_or_else(|| SECRET.to_owned(), named);
            Err(Failure::usage(format!(
                "{place}: has more than one line, and no client_secret= in it; is it another file?"
            )))
        }
        (secret, _) => Ok(Zeroizing::new(secret.to_owned())),
    }
}

/// The secret out of what `rescind init --secret-file` has written, which names the client as well.
fn alone(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("client_secret=")).unwrap_or(text).trim()
}

fn named(path: &Path) -> String {
    format!("--client-secret-file {}", path.display())
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = fs::File::open(path).or_exit(Exit::Usage, named(path))?;
        check_mode(path, &file.metadata()?)?;
        Box::new(file)
    };
    let mut bytes = Zeroizing::new(Vec::new());
    source.take(MAX_SECRET + 1).read_to_end(&mut bytes).or_exit(Exit::Usage, named(path))?;
    let no_secret = |why: &str| Failure::usage(format!("{}: {why}; it is no client secret", named(path)));
    if bytes.len() as u64 > MAX_SECRET {
        return Err(no_secret(&format!("longer than {MAX_SECRET} bytes")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| no_secret("holds no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A secret that everybody on the machine can read is none. A group may be one of its own.
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), Failure> {
    let mode = metadata.permissions().mode() & 0o777;
    if !metadata.is_file() || mode & 0o007 == 0 {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{}: everyone on this machine can reach it (mode {mode:04o}); mend it with: chmod 600 '{}'",
        named(path),
        path.display()
    )))
}

impl Remote {
    /// A request to the path that these segments make.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let url = at(&self.base, path);
        let request =
            self.client.request(method, url).header(header::AUTHORIZATION, http::basic(&self.id, &self.secret));
        request.header(header::USER_AGENT, concat!("rescind/", env!("CARGO_PKG_VERSION")))
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

    pub(super) async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        json(self.send(self.request(Method::DELETE, path)).await?).await
    }

    /// Sends it; whatever is not a 2xx is the failure that a script can tell apart by its exit code.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|e| unreachable(&self.base, &e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refusal(answer, &self.id).await)
    }
}

/// The path that these segments make, below where the service is.
pub(super) fn at(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// What it was, and what usually is the matter.
fn unreachable(base: &Url, error: &reqwest::Error) -> Failure {
    Failure::new(Exit::CannotTell, anyhow!(plain(&FetchError::http(base, error).to_string())))
}

async fn json(answer: Response) -> Result<Value, Failure> {
    let body = http::body(answer, MAX_ANSWER).await?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).or_exit(Exit::CannotTell, "the answer is no JSON; is --server a Rescind service?")
}

/// RFC 9457: what the service says of it, and whom it asks to act.
async fn refusal(answer: Response, client: &str) -> Failure {
    let status = answer.status().as_u16();
    let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(plain);
    let (wait, moved) = (header(header::RETRY_AFTER), header(header::LOCATION));
    let body = http::body(answer, MAX_ANSWER).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let code = problem["code"].as_str();
    let mut text = match (said(&problem), moved) {
        (Some(said), _) => said,
        (None, Some(moved)) => format!("the service answered {status} and points to {moved}; is that the --server?"),
        (None, None) => format!("the service answered {status}; is --server a Rescind service?"),
    };
    if let Some(seconds) = wait {
        text += &format!("; try again in {seconds} s");
    }
    let client = plain(client);
    let exit = match status {
        401 => {
            text = format!("client `{client}`: {text}; check its id and its secret");
            Exit::NotPermitted
        }
        403 => {
            text = format!("client `{client}`: {text}");
            Exit::NotPermitted
        }
        // What speaks no problems is not the service: nothing can be concluded from it.
        _ if code.is_none_or(|code| code == "no_such_path") => Exit::CannotTell,
        400 | 413 | 415 | 422 => Exit::Usage,
        404 | 410 => Exit::NotFound,
        409 | 412 => Exit::No,
        _ => Exit::CannotTell,
    };
    Failure::new(exit, anyhow!(text))
}

/// What a problem says, in the words of the command line; what it is of, by its code, which is in the reference.
fn said(problem: &Value) -> Option<String> {
    let member = |name: &str| problem[name].as_str().map(plain);
    let (code, detail) = (member("code")?, member("detail"));
    let detail = match in_our_words(&code) {
        Some(ours) => ours.to_owned(),
        None => detail?,
    };
    let field = member("field").unwrap_or_default();
    match detail.strip_prefix(&format!("{field}: ")) {
        // The code says no more than that something was wrong.
        Some(rest) if !field.is_empty() => Some(format!("{}: {rest}", argument(&field))),
        _ => Some(format!("{detail} ({code})")),
    }
}

/// Where the service speaks of requests, and there is a command for it.
fn in_our_words(code: &str) -> Option<&'static str> {
    Some(match code {
        "no_such_path" => "there is no such path below --server; is it the issuer's own URL, with its path?",
        "active_key" => "this key signs; make the standby sign first (rescind keys rotate), then revoke it",
        "two_secrets" => {
            "two secrets are live; drop one of them first (rescind client drop-secret), or all old ones with --drop-old"
        }
        "store_whole" => {
            "nothing contradicts the store, so there is nothing to declare; if you know that it was put back all the \
             same (with its witness), say --although-whole"
        }
        _ => return None,
    })
}

/// What a member of a request is called here.
fn argument(field: &str) -> String {
    match field {
        "client_id" => "--for-client".into(),
        "claims" => "--claims-file".into(),
        "key" => "FILE".into(),
        "passphrase" => "--passphrase-file".into(),
        "body" | "query" | "id" | "session_id" | "subject" => field.replace('_', " "),
        _ => format!("--{}", field.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_is_told_in_the_words_of_the_command_line() {
        for (problem, expected) in [
            (
                json!({"code": "invalid_request", "field": "drop_old_after", "detail": "drop_old_after: is too long"}),
                "--drop-old-after: is too long",
            ),
            (
                json!({"code": "invalid_request", "field": "claims", "detail": "claims: `sub` is set by the issuer"}),
                "--claims-file: `sub` is set by the issuer",
            ),
            (json!({"code": "invalid_request", "field": "key", "detail": "key: not PKCS#8"}), "FILE: not PKCS#8"),
            (json!({"code": "not_found", "detail": "no session of this id"}), "no session of this id (not_found)"),
            (json!({"code": "own_client", "field": "", "detail": ": odd"}), ": odd (own_client)"),
        ] {
            assert_eq!(said(&problem).as_deref(), Some(expected));
        }
        assert!(
            said(&json!({"code": "active_key", "detail": "POST /v1/keys/rotate"}))
                .unwrap()
                .contains("rescind keys rotate")
        );
        assert_eq!(said(&json!({"error": "invalid_request"})), None, "no problem of this service");
    }
}

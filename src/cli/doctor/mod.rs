//! `rescind doctor`: what is wrong, and how to mend it.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::{Exit, Failure, output::plain, remote, say};

mod machine;
mod redis;
mod service;

/// Check a service, the way to it, and this machine: one line for each, with a remedy where one is needed.
///
/// Asks what anyone may ask: the issuer's metadata, its keys, its revocation feed, which is verified as verifiers do,
/// and its clock. With --client-id and a secret also whether the service knows that client and, if it has the permission
/// audit:read, whether the audit log is still the service's own; with --operations whether it is ready; with --config, on
/// the machine that serves, whether the files are as safe as they must be.
///
/// Exit codes: 0 nothing failed (warnings are no failure), 1 something failed, 2 usage.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The running service.
    #[arg(long, value_name = "URL", env = "RESCIND_SERVER", hide_env_values = true)]
    server: String,
    /// The issuer that its tokens name, if that is not the URL of --server.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// A client to be checked.
    #[arg(long, value_name = "ID", env = "RESCIND_CLIENT_ID", hide_env_values = true)]
    client_id: Option<String>,
    /// A file with its secret, or `-` for stdin. The secret itself may be in the environment variable
    /// RESCIND_CLIENT_SECRET.
    #[arg(
        long,
        value_name = "FILE",
        env = "RESCIND_CLIENT_SECRET_FILE",
        hide_env_values = true,
        requires = "client_id"
    )]
    client_secret_file: Option<PathBuf>,
    /// The operations listener of the service, to be asked for its readiness.
    #[arg(long, value_name = "URL")]
    operations: Option<String>,
    /// The configuration of `rescind serve`, on the machine that serves.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object with `ok` and `checks`: each with `name`, `status` (ok, warn, fail), `detail`, `remedy`.
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: plain(&detail.into()), remedy: None }
    }
    fn warn(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(plain(&remedy.into()));
        Self { name, status: Status::Warn, detail: plain(&detail.into()), remedy }
    }
    fn fail(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(name, detail, remedy) }
    }
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    // What cannot be asked at all is a matter of usage, before anything is asked.
    let base = remote::base(&args.server)?;
    let client = match &args.client_id {
        Some(id) => Some((id.clone(), remote::secret(id, args.client_secret_file.as_deref())?)),
        None => None,
    };
    let issuer = args.issuer.as_deref().unwrap_or(&args.server);
    let mut checks = service::examine(&base, issuer, client).await?;
    if let Some(operations) = &args.operations {
        checks.push(service::readiness(operations).await);
    }
    if let Some(config) = &args.config {
        checks.extend(machine::files(config));
        checks.extend(redis::examine(config).await);
    }
    checks.extend([machine::entropy(), machine::time()]);
    Ok(answer(&checks, args.json))
}

fn answer(checks: &[Check], json: bool) -> Exit {
    let ok = checks.iter().all(|check| check.status != Status::Fail);
    if json {
        say(json!({"ok": ok, "checks": checks}));
    } else {
        for Check { name, status, detail, remedy } in checks {
            let status = match status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            say(format_args!("{status:<5} {name:<12} {detail}"));
            remedy.iter().for_each(|remedy| say(format_args!("{:18} -> {remedy}", "")));
        }
    }
    if ok { Exit::Yes } else { Exit::No }
}

//! `rescind verifier`: the sidecar.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Exit, Failure, OrExit,
    args::between,
    client, logs,
    node::{Bound, stop_signal},
    notify::Notify,
    remote, say,
};
use crate::{
    model::time::parse_duration,
    sidecar::{self, Metrics, Sidecar},
    verifier::{MAX_LEEWAY, Requirement, Verifier},
};

/// Tell a proxy which requests may pass.
///
/// For nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth`, Envoy `ext_authz`: every method and path is
/// answered by the request's bearer token alone. 200 with X-Auth-Issuer, X-Auth-Subject, X-Auth-Client, X-Auth-Session
/// and X-Auth-Scope for the proxy to copy (percent-encoded, `-` for none); 401 or 403 with a challenge; 503 until the
/// issuer's keys and revocations are known, and whenever they have not been heard of for --max-staleness. Tokens are
/// verified here, offline; the issuer is not asked about any.
///
/// It speaks plain HTTP: listen on loopback, or where only the proxy can reach it. SIGTERM and SIGINT stop it after what
/// was begun is finished. Logs go to stderr; RUST_LOG=rescind=debug
/// says of each refused token why, and /metrics counts the reasons.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An issuer, exactly as tokens name it in `iss`; may be given again for more.
    #[arg(long, value_name = "URL", required = true)]
    issuer: Vec<String>,
    /// For whom tokens must be; may be given again, one of them is enough.
    #[arg(long, value_name = "AUDIENCE", required = true)]
    audience: Vec<String>,
    /// Where the proxy asks; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where to serve /livez, /readyz, /state and /metrics.
    #[arg(long, value_name = "ADDRESS")]
    operations_listen: Option<SocketAddr>,
    /// How old its knowledge of revocations may be, 1s to 5m.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = max_staleness)]
    max_staleness: Duration,
    /// Scopes that every token must have; may be given again for more.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// How the subject must have authenticated, by `acr`; may be given again, one of them is enough.
    #[arg(long, value_name = "ACR")]
    acr: Vec<String>,
    /// How long ago the subject may have authenticated.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<Duration>,
    /// By how much clocks may differ: 60s at most.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = leeway)]
    leeway: Duration,
    /// How many denied tokens, sessions and cut-offs it holds for each issuer, about 40 bytes each. With more it answers
    /// 503; it never forgets one.
    #[arg(long, value_name = "NUMBER", default_value = "5000000", value_parser = clap::value_parser!(u32).range(1..))]
    max_entries: u32,
    /// Print one JSON object once it listens, with `listen` and `operations`; nothing else goes to stdout. Logs go to
    /// stderr as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    report: Report,
}

/// As whom it reports. Without a name it does not.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Report")]
struct Report {
    /// Tell the issuer how far it is, under this name, for `rescind verifiers list`: 1 to 64 visible ASCII characters, each
    /// process by one of its own.
    #[arg(long, value_name = "NAME", env = "RESCIND_VERIFIER_NAME", hide_env_values = true)]
    name: Option<String>,
    /// With --name, the client by which it reports; it needs the permission verifiers:report.
    #[arg(long, value_name = "ID", env = "RESCIND_CLIENT_ID", hide_env_values = true)]
    client_id: Option<String>,
    /// With --name, a file with the client's secret, or `-` for stdin. The secret itself may be in the environment variable
    /// RESCIND_CLIENT_SECRET.
    #[arg(long, value_name = "FILE", env = "RESCIND_CLIENT_SECRET_FILE", hide_env_values = true)]
    client_secret_file: Option<PathBuf>,
}

/// Who reports, with the secret read.
struct Reporter<'a> {
    name: &'a str,
    client_id: &'a str,
    secret: Zeroizing<String>,
}

impl Report {
    /// None: it is not to report. What the environment says of a client is then meant for other commands.
    fn reporter(&self, issuers: usize) -> Result<Option<Reporter<'_>>, Failure> {
        let Some(name) = self.name.as_deref() else { return Ok(None) };
        if issuers > 1 {
            return Err(Failure::usage(
                "--name: a client's secret is for one issuer, and more than one --issuer is given",
            ));
        }
        let client_id = self.client_id.as_deref();
        let client_id =
            client_id.ok_or_else(|| Failure::usage("--name: also say by which client, with --client-id"))?;
        let secret = remote::secret(client_id, self.client_secret_file.as_deref())?;
        Ok(Some(Reporter { name, client_id, secret }))
    }
}

fn max_staleness(text: &str) -> Result<Duration, String> {
    let max = parse_duration(text)?;
    between("the greatest staleness", max, Duration::from_secs(1), Duration::from_secs(300)).map(|()| max)
}

fn leeway(text: &str) -> Result<Duration, String> {
    let leeway = parse_duration(text)?;
    between("the leeway", leeway, Duration::ZERO, MAX_LEEWAY).map(|()| leeway)
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let _logs = logs::start("info", args.json)?;
    let sidecar = sidecar(&args)?;
    let stop = stop_signal()?;
    let bound = Bound::at(args.listen, args.operations_listen).await?;
    let (listen, operations) = (bound.public_url()?, bound.operations_url()?);
    if args.json {
        say(json!({"listen": listen, "operations": operations}));
    } else {
        let operations = operations.map(|at| format!("; operations at {at}")).unwrap_or_default();
        say(format_args!("answering a proxy at {listen}{operations}"));
    }
    if !args.listen.ip().is_loopback() {
        tracing::warn!(listen, "tokens come here in the clear, and who reaches this address can try tokens on it");
    }
    let notify = Notify::from_env();
    // Not once it has heard of the revocations: until then it answers 503, and whoever waits for it need not.
    notify.ready(&format!("answering at {listen}; 503 until it has heard of all revocations"));
    let alive = tokio::spawn(notify.clone().watch(async || {}));
    let stop = async move {
        stop.await;
        notify.stopping();
    };
    sidecar::serve(bound.into_listeners(), Arc::new(sidecar), sidecar::limits(), stop).await;
    alive.abort();
    Ok(Exit::Yes)
}

fn sidecar(args: &Args) -> Result<Sidecar, Failure> {
    let requirement = requirement(args)?;
    let reporter = args.report.reporter(args.issuer.len())?;
    let metrics = Metrics::default();
    let verifier = |issuer: &String| verifier(args, issuer, reporter.as_ref(), &metrics);
    let verifiers = args.issuer.iter().map(verifier).collect::<Result<_, _>>()?;
    let sidecar = Sidecar::new(verifiers, requirement, args.max_staleness, metrics);
    sidecar.map_err(|e| Failure::usage(format!("--issuer: {e}")))
}

fn verifier(
    args: &Args,
    issuer: &str,
    reporter: Option<&Reporter<'_>>,
    metrics: &Metrics,
) -> Result<Verifier, Failure> {
    // Asked here, where the message can say what is wrong with it.
    client::issuer(issuer)?;
    let builder = args.audience.iter().fold(Verifier::builder(issuer), |builder, one| builder.audience(one));
    let builder = builder.max_staleness(args.max_staleness).leeway(args.leeway).max_entries(args.max_entries as usize);
    let builder = match reporter {
        Some(who) => builder.report_as(who.name, who.client_id, &**who.secret),
        None => builder,
    };
    builder.metrics(metrics.of(issuer)).follow().or_exit(Exit::Usage, format!("cannot verify tokens of {issuer}"))
}

fn requirement(args: &Args) -> Result<Requirement, Failure> {
    let mut asked = Requirement::none();
    for scope in &args.scope {
        asked = asked.scope(scope).or_exit(Exit::Usage, format!("--scope `{scope}`"))?;
    }
    if !args.acr.is_empty() {
        let values = args.acr.iter().map(String::as_str);
        asked = asked
            .acr(values)
            .map_err(|_| Failure::usage("--acr: words of visible ASCII without quote and backslash"))?;
    }
    Ok(args.max_age.into_iter().fold(asked, Requirement::max_age))
}

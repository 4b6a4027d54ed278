//! `rescind serve`: a node by its configuration.

use std::{env, fs, path::PathBuf};

use clap::ValueEnum;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use super::{
    Exit, Failure, OrExit,
    args::StoreUrl,
    config::Config,
    logs,
    node::{Blueprint, Bound, Keys, Node, stop_signal, store_options},
    notify::Notify,
};
use crate::{
    clock::{Clock, SystemClock},
    http::edge::Settings as Edge,
    keyring::Passphrase,
    store::embedded::Acceptance,
};

/// The passphrase of the keys, by its environment variable. There is no argument for it: arguments are public.
const PASSPHRASE: &str = "RESCIND_KEYS_PASSPHRASE";

/// Serve, as a configuration file says.
///
/// `rescind init` writes a file to begin with. SIGTERM and SIGINT stop it after everything that was begun is finished.
/// Where NOTIFY_SOCKET is set, as systemd sets it, it says when it serves and stops, and feeds the watchdog.
/// Logs go to stderr as JSON; RUST_LOG says how much. The passphrase of the keys may be in the environment variable
/// RESCIND_KEYS_PASSPHRASE.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A file with the passphrase of the keys; comes before the configuration's `keys.passphrase_file`.
    #[arg(long, value_name = "FILE", env = "RESCIND_KEYS_PASSPHRASE_FILE")]
    keys_passphrase_file: Option<PathBuf>,
    /// Go on with a store that came back empty or older than what it had acknowledged.
    #[arg(long, value_name = "HOW")]
    accept_store_loss: Option<Loss>,
}

/// What becomes of the sessions.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Loss {
    /// Everyone logs in again: what the lost part had revoked cannot come alive.
    EndSessions,
    /// Sessions go on; what was revoked or spent after the copy was made works again.
    DangerousKeepSessions,
}

impl From<Option<Loss>> for Acceptance {
    fn from(loss: Option<Loss>) -> Self {
        match loss {
            None => Self::Wait,
            Some(Loss::EndSessions) => Self::EndSessions,
            Some(Loss::DangerousKeepSessions) => Self::DangerouslyKeepSessions,
        }
    }
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let _logs = logs::start("info", true)?;
    let config = Config::read(&args.config)?;
    let passphrase = passphrase(args.keys_passphrase_file.as_ref().or(config.keys.passphrase_file.as_ref()))?;
    let stop = stop_signal()?;
    let bound = Bound::at(config.listen.0, config.operations_listen.as_ref().map(|at| at.0)).await?;
    let mut options = config.store_options(store_options(&config.lives()));
    options.acceptance = args.accept_store_loss.into();
    let edge = config.edge(SystemClock::default().now())?;
    let url = |url: String, tls: bool| if tls { url.replacen("http:", "https:", 1) } else { url };
    let listen = url(bound.public_url()?, edge.tls.is_some());
    let operations = bound.operations_url()?.map(|at| url(at, edge.operations_tls.is_some()));
    let node = Node::open(blueprint(&config, passphrase, edge), bound, options)?;
    let standing = node.ready().await;
    if let Err(why) = &standing {
        tracing::error!(why, "serving 503 until an operator decides");
    }
    let _on_hangup = read_certificates_on_hangup(node.certificates())?;
    tracing::info!(issuer = config.issuer, listen, operations, "serving");
    let notify = Notify::from_env();
    // Up, also where it says 503: to be started again would not help it, and its answers tell clients to come again.
    notify.ready(&standing.map_or_else(|why| format!("503: {why}"), |()| format!("serving {}", config.issuer)));
    node.run(stop, notify).await?;
    Ok(Exit::Yes)
}

/// SIGHUP, as whoever renews certificates sends it. In force until the task is aborted, with the process.
fn read_certificates_on_hangup(certificates: watch::Sender<()>) -> Result<JoinHandle<()>, Failure> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            certificates.send_replace(());
        }
    }))
}

fn blueprint(config: &Config, passphrase: Option<Passphrase>, edge: Edge) -> Blueprint {
    Blueprint {
        issuer: Some(config.issuer.clone()),
        keys: Keys::Dir(config.keys.dir.clone(), passphrase),
        key_settings: config.key_settings(),
        store: StoreUrl::Embedded(config.store.url.0.clone()),
        lives: config.lives(),
        custom_claims: config.custom_claims.clone(),
        clients: config.clients(),
        limits: config.limits(),
        edge,
        sessions: None,
    }
}

/// From the environment, else from `file`, else none.
pub(super) fn passphrase(file: Option<&PathBuf>) -> Result<Option<Passphrase>, Failure> {
    let (text, from) = match (env::var(PASSPHRASE), file) {
        (Ok(text), _) => (text, PASSPHRASE.to_owned()),
        (Err(env::VarError::NotUnicode(_)), _) => return Err(Failure::usage(format!("{PASSPHRASE} is not UTF-8"))),
        (Err(env::VarError::NotPresent), None) => return Ok(None),
        (Err(env::VarError::NotPresent), Some(file)) => {
            let from = format!("the passphrase file {}", file.display());
            (fs::read_to_string(file).or_exit(Exit::Usage, format!("cannot read {from}"))?, from)
        }
    };
    Passphrase::new(text).map(Some).or_exit(Exit::Usage, from)
}

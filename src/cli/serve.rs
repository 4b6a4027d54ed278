//! `rescind serve`: a node by its configuration.

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Exit, Failure,
    config::{Chosen, Config, layers::failure},
    logs,
    node::{Blueprint, Bound, Node, Place, RedisPlace, stop_signal, store_options},
    notify::Notify,
    owner, prompt,
    reload::Reload,
};
use crate::{
    clock::{Clock, SystemClock},
    http::edge::Settings as Edge,
    store::embedded::Acceptance,
};

/// Serve, as a configuration file says.
///
/// `rescind init` writes a file to begin with. SIGTERM and SIGINT stop it after everything that was begun is finished;
/// SIGHUP has it read clients and certificates again. Where NOTIFY_SOCKET is set, as systemd sets it, it says when it
/// serves and stops, and feeds the watchdog. Logs go to stderr as JSON; RUST_LOG says how much. The passphrase of the
/// keys may be in a file, in the environment variable RESCIND_KEYS__PASSPHRASE, or in a systemd credential named
/// keys.passphrase; on a terminal it is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    chosen: Chosen,
    /// Go on with a store that came back empty or older than what it had acknowledged.
    #[arg(long, value_name = "HOW")]
    accept_store_loss: Option<Loss>,
    /// Go on with a store that was made with other keys than those in keys.dir; if none are there, make new ones. Nobody
    /// can read what the others sealed: every session ends, clients that were disabled at run time are let in again, and
    /// their configured secrets hold. Say it once, and not in a unit.
    #[arg(long)]
    dangerous_other_keys: bool,
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
    let loaded = args.chosen.load().map_err(|problems| failure(&problems))?;
    let config = &loaded.config;
    let place = place(config, &args)?;
    // Caught from here on: unhandled, either would end the process at once.
    let (stop, hangup) = (stop_signal()?, signal(SignalKind::hangup())?);
    let bound = Bound::at(config.top.listen.0, config.top.operations_listen.as_ref().map(|at| at.0)).await?;
    let edge = config.edge(SystemClock::default().now()).map_err(|problems| failure(&problems))?;
    if let Some(doubt) = config.doubts(&edge) {
        tracing::warn!("{doubt}");
    }
    let url = |url: String, tls: bool| if tls { url.replacen("http:", "https:", 1) } else { url };
    let listen = url(bound.public_url()?, edge.tls.is_some());
    let operations = bound.operations_url()?.map(|at| url(at, edge.operations_tls.is_some()));
    let node = Node::open(blueprint(config, place, edge)?, bound).await?;
    let standing = node.ready().await;
    if let Err(why) = &standing {
        tracing::error!(why, "serving 503 until this is mended");
    }
    tracing::info!(issuer = config.top.issuer, listen, operations, "serving");
    let notify = Notify::from_env();
    // Up, also where it says 503: to be started again would not help it, and its answers tell clients to come again.
    notify.ready(&standing.map_or_else(|why| format!("503: {why}"), |_| format!("serving {}", config.top.issuer)));
    let reload = Reload::new(args.chosen, loaded, node.service(), node.certificates());
    let reloads = tokio::spawn(reload.at(hangup, notify.clone()));
    let served = node.run(stop, notify).await;
    reloads.abort();
    served?;
    Ok(Exit::Yes)
}

/// Where store and keys are, with what was said about them for this once.
fn place(config: &Config, args: &Args) -> Result<Place, Failure> {
    let told = |problem| failure(&[problem]);
    if let (Some(url), Some(key)) = (config.redis().map_err(told)?, config.shared_key().map_err(told)?) {
        if args.accept_store_loss.is_some() || args.dangerous_other_keys {
            return Err(Failure::usage(
                "--accept-store-loss and --dangerous-other-keys are about the store of one node; with Redis say `rescind \
                 store restored` to any node, and name another prefix to begin with other keys",
            ));
        }
        let (options, keys) = (config.redis_options(), config.keys.dir.clone());
        return Ok(Place::Redis(Box::new(RedisPlace { url, options, keys, key })));
    }
    let store = config.embedded()?.to_owned();
    let passphrase = match config.passphrase().map_err(told)? {
        None => prompt::for_keys(&config.keys.dir)?,
        given => given,
    };
    let mut options = Box::new(config.store_options(store_options(&config.lives())));
    options.acceptance = args.accept_store_loss.into();
    options.other_keys = args.dangerous_other_keys;
    options.accepted_by = Some(owner::whoever_runs_this().into());
    Ok(Place::Disk { store, keys: config.keys.dir.clone(), passphrase, options })
}

fn blueprint(config: &Config, place: Place, edge: Edge) -> Result<Blueprint, Failure> {
    Ok(Blueprint {
        issuer: Some(config.top.issuer.clone()),
        key_settings: config.key_settings(),
        place,
        lives: config.lives(),
        custom_claims: config.top.custom_claims.clone(),
        clients: config.clients().map_err(|problem| failure(&[problem]))?,
        limits: config.limits(),
        edge,
        sessions: config.session_cap(),
        evidence: config.evidence().map_err(|problem| failure(&[problem]))?,
    })
}

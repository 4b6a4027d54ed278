//! `rescind serve`: a node by its configuration.

use clap::ValueEnum;

use super::{
    Exit, Failure,
    args::StoreUrl,
    config::{Chosen, Config, layers::failure},
    logs,
    node::{Blueprint, Bound, Keys, Node, stop_signal, store_options},
};
use crate::{keyring::Passphrase, store::embedded::Acceptance};

/// Serve, as a configuration file says.
///
/// `rescind init` writes a file to begin with. SIGTERM and SIGINT stop it after everything that was begun is finished;
/// SIGHUP reloads the clients. Logs go to stderr as JSON; RUST_LOG says how much. The passphrase of the keys may be in a
/// file, in the environment variable RESCIND_KEYS__PASSPHRASE, or in a systemd credential named keys.passphrase.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    chosen: Chosen,
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
    logs::start("info", true);
    let loaded = args.chosen.load().map_err(|problems| failure(&problems))?;
    let config = &loaded.config;
    let passphrase = config.passphrase()?;
    let stop = stop_signal()?;
    let bound = Bound::at(config.top.listen.0, config.top.operations_listen.as_ref().map(|at| at.0)).await?;
    let (listen, operations) = (bound.public_url()?, bound.operations_url()?);
    let mut options = config.store_options(store_options(&config.lives()));
    options.acceptance = args.accept_store_loss.into();
    let node = Node::open(blueprint(config, passphrase), bound, options)?;
    if let Err(why) = node.ready().await {
        tracing::error!(why, "serving 503 until an operator decides");
    }
    tracing::info!(issuer = config.top.issuer, listen, operations, "serving");
    node.run(stop).await?;
    Ok(Exit::Yes)
}

fn blueprint(config: &Config, passphrase: Option<Passphrase>) -> Blueprint {
    Blueprint {
        issuer: Some(config.top.issuer.clone()),
        keys: Keys::Dir(config.keys.dir.clone(), passphrase),
        key_settings: config.key_settings(),
        store: StoreUrl::Embedded(config.store.url.0.clone()),
        lives: config.lives(),
        custom_claims: config.top.custom_claims.clone(),
        clients: config.clients(),
        limits: config.limits(),
    }
}

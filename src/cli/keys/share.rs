//! `rescind keys share`: keys of one node become keys that nodes share.

use std::path::PathBuf;

use serde_json::json;

use super::super::{
    Exit, Failure, OrExit,
    config::{Config, layers::failure, secret::Source},
    owner, say, tell,
};
use crate::{
    clock::{SystemClock, SystemRandom},
    keyring::{Keyring, SHARED_COPY, SharedKey},
};

/// Make the keys of a node ready to be shared through a Redis. The service must be stopped.
///
/// The configuration names the Redis (store.url), the directory of the keys (keys.dir) and the key that all nodes hold
/// (keys.shared_key_file), which is made if it is not there. The keys that lie in the directory, or new ones if there are
/// none, become one sealed file, keyring.sealed; the first node that is started gives it to the store. Do this on one
/// node: the others are started with a copy of the shared key and an empty directory.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The configuration of the service.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn run(args: &Args) -> Result<Exit, Failure> {
    let config = Config::read(&args.config)?;
    let told = |problem| failure(&[problem]);
    if config.redis().map_err(told)?.is_none() {
        return Err(Failure::usage("store.url names no Redis: keys of an embedded store are its node's alone"));
    }
    let mut made = false;
    if let Some(Source::File(path)) = &config.keys.shared_key {
        made = SharedKey::make(path, &SystemRandom).or_exit(Exit::Usage, format!("cannot make {}", path.display()))?;
        if made && let Some(home) = path.parent().filter(|home| !home.as_os_str().is_empty()) {
            owner::hand_over(path, home)?;
        }
    }
    let key = config.shared_key().map_err(told)?.ok_or_else(|| Failure::usage("keys.shared_key_file names no file"))?;
    let (dir, passphrase) = (&config.keys.dir, config.passphrase().map_err(told)?);
    let is_new = !dir.exists();
    let (settings, clock) = (config.key_settings(), SystemClock::default());
    let shared = Keyring::share(dir, passphrase, key, settings, &clock, &SystemRandom);
    let shared = shared.or_exit(Exit::Usage, "cannot share the keys")?;
    // Made by root, it is for the service to read.
    match dir.parent().filter(|home| is_new && !home.as_os_str().is_empty()) {
        Some(home) => owner::hand_over(dir, home)?,
        None if shared => owner::hand_over(&dir.join(SHARED_COPY), dir)?,
        None => {}
    }
    if args.json {
        say(json!({ "shared": shared, "shared_key_made": made, "dir": dir }));
        return Ok(Exit::Yes);
    }
    say(match shared {
        true => format!("{}: the keys are sealed, and ready to be shared", dir.display()),
        false => format!("{}: the keys are shared already; nothing was changed", dir.display()),
    });
    if let Some(Source::File(path)) = &config.keys.shared_key {
        tell(format_args!("Every node needs a copy of {}; who has it and the store has the keys.", path.display()));
    }
    Ok(Exit::Yes)
}

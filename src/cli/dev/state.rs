//! What nodes of `dev` share on this machine beside a Redis: one key, one client; and a place for each of them.

use std::{
    env,
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    super::{
        Exit, Failure, OrExit,
        node::{Place, RedisPlace},
    },
    Args, Beside, kept_secret,
};
use crate::{
    clock::{SystemClock, SystemRandom},
    keyring::{FRESH, Keyring, SHARED_COPY, SharedKey},
    model::denial::Retention,
    store::redis,
};

/// Nodes on one machine.
const MOST: usize = 64;

pub(super) fn of_redis(args: &Args, url: redis::StoreUrl) -> Result<Beside, Failure> {
    if url.has_password() {
        return Err(Failure::usage(
            "--store has a password in it, and every process on the machine can read arguments; write \
             redis://HOST:PORT?password_file=PATH",
        ));
    }
    let dir = args.state.clone().map_or_else(|| default_dir(&url), Ok)?;
    let failed = || format!("cannot use {}", dir.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).or_exit(Exit::Usage, failed())?;
    // One after the other: the first one makes what the others find.
    let turn = open(&dir.join("lock")).or_exit(Exit::Usage, failed())?;
    turn.lock().or_exit(Exit::CannotTell, failed())?;
    let (keys, slot) = place(&dir).or_exit(Exit::Usage, failed())?;
    let key = shared_key(args, &dir, &keys)?;
    let secret = kept_secret(&dir.join("dev"))?;
    let lives = args.lives();
    let retention = Retention { access: lives.access, session: lives.absolute };
    let options = redis::Options { journal: Some(keys.join("journal")), ..redis::Options::new(retention) };
    Ok(Beside { secret, place: Place::Redis(Box::new(RedisPlace { url, options, keys, key })), _slot: Some(slot) })
}

/// One for each Redis, whatever its password.
fn default_dir(url: &redis::StoreUrl) -> Result<PathBuf, Failure> {
    let home = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = home("XDG_STATE_HOME").or_else(|| Some(home("HOME")?.join(".local/state")));
    let base =
        base.ok_or_else(|| Failure::usage("there is no HOME to keep the keys in; name a directory with --state"))?;
    let digest = Sha256::digest(format!("{url}?{}", url.prefix().unwrap_or_default()));
    let name: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(base.join("rescind").join(format!("dev-{name}")))
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The first place that no node is in: one that was killed finds its own again.
fn place(dir: &Path) -> std::io::Result<(PathBuf, File)> {
    for n in 0..MOST {
        let keys = dir.join(format!("node-{n}"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys)?;
        let slot = open(&dir.join(format!("node-{n}.lock")))?;
        if slot.try_lock().is_ok() {
            return Ok((keys, slot));
        }
    }
    Err(std::io::Error::other(format!("{MOST} nodes run here already")))
}

/// The key under which they share theirs. The first node makes both.
fn shared_key(args: &Args, dir: &Path, keys: &Path) -> Result<SharedKey, Failure> {
    let path = dir.join("shared.key");
    let failed = |doing: &str| format!("cannot {doing} {}", path.display());
    let made = SharedKey::make(&path, &SystemRandom).or_exit(Exit::Usage, failed("make"))?;
    if made {
        tracing::info!(path = %path.display(), "made a key that the nodes share");
    }
    let read = || {
        let text = Zeroizing::new(fs::read_to_string(&path).or_exit(Exit::Usage, failed("read"))?);
        SharedKey::read(&text).or_exit(Exit::Usage, failed("use"))
    };
    if !(0..MOST).any(|n| dir.join(format!("node-{n}")).join(SHARED_COPY).exists()) {
        let (settings, clock) = (args.key_settings(FRESH), SystemClock::default());
        Keyring::share(keys, None, read()?, settings, &clock, &SystemRandom)
            .or_exit(Exit::Usage, "cannot make keys")?;
    }
    read()
}

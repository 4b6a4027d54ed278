//! Keys and store, which belong together: each remembers the other.

use std::{fs, io::ErrorKind, os::unix::fs::DirBuilderExt, path::Path, sync::Arc};

use tokio::{runtime::Handle, task::spawn_blocking};

use super::{Exit, Failure, OrExit, args::StoreUrl, config::Config, node::RedisPlace};
use crate::{
    clock::{Clock, Random},
    keyring::{self, Keyring, KeyringError, Passphrase},
    service::StoredKeys,
    store::{
        StoreError,
        embedded::{EmbeddedStore, Held, OpenError, Options, made_by},
        redis::RedisStore,
    },
};

/// How keys and an embedded store are opened.
pub(super) struct Opening {
    pub(super) settings: keyring::Settings,
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

impl Opening {
    /// Keys and store of one installation. Neither is made beside the other's: new keys cannot read an old store, and to
    /// whoever asks, that would look like a store that was rolled back.
    pub(super) fn both(
        mut self,
        path: &Path,
        dir: &Path,
        passphrase: Option<Passphrase>,
    ) -> Result<(Keyring, EmbeddedStore), Failure> {
        // First of all, because it keeps a second process away from the keys, too.
        let held = Held::at(path).map_err(|e| store_failure(e, dir))?;
        let there = Keyring::installation_of(dir).or_exit(Exit::Usage, UNUSABLE)?;
        if there.is_none() && !self.options.other_keys && !held.is_new().map_err(|e| store_failure(e, dir))? {
            return Err(Failure::usage(missing(dir, path)));
        }
        // The store remembers whose keys it was made with, so new ones are there before it is. A crash in between leaves
        // keys beside an empty file, which is a first start like any other.
        if there.is_none() {
            let keyring = self.keys(dir, passphrase)?;
            self.options.installation = Some(keyring.installation());
            return Ok((keyring, self.hold(held, dir)?));
        }
        self.options.installation = there;
        let store = self.hold(held, dir)?;
        Ok((self.keys(dir, passphrase)?, store))
    }

    fn hold(&self, held: Held, dir: &Path) -> Result<EmbeddedStore, Failure> {
        held.open(self.options.clone(), self.clock.clone(), &*self.random).map_err(|e| store_failure(e, dir))
    }

    fn keys(&self, dir: &Path, passphrase: Option<Passphrase>) -> Result<Keyring, Failure> {
        let keyring = Keyring::open(dir, passphrase, self.settings, self.clock.clone(), self.random.clone());
        keyring.or_exit(Exit::Usage, UNUSABLE)
    }

    pub(super) fn in_memory(self) -> Result<(Keyring, EmbeddedStore), Failure> {
        let store = EmbeddedStore::in_memory(self.options.clone(), self.clock.clone(), &*self.random);
        let store = store.map_err(|e| Failure::new(exit_of(&e), e))?;
        let keys = Keyring::ephemeral(self.settings, self.clock, self.random).or_exit(Exit::Usage, UNUSABLE)?;
        Ok((keys, store))
    }
}

/// Keys and store that nodes share. Both are opened where nobody answers, too, if this node has been here before: it
/// serves 503 until somebody does.
pub(super) async fn shared(
    place: RedisPlace,
    settings: keyring::Settings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<(Keyring, Arc<RedisStore>), Failure> {
    let RedisPlace { url, options, keys, key } = place;
    // The journal lies there, too, unless it is said otherwise.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys);
    made.or_exit(Exit::Usage, format!("keys.dir: cannot make {}", keys.display()))?;
    let store = RedisStore::open(&url, options, clock.clone(), random.clone()).await;
    // What is written there will not change by itself.
    let exit = if matches!(store, Err(StoreError::Layout(_))) { Exit::Usage } else { Exit::CannotTell };
    let store = Arc::new(store.or_exit(exit, format!("store.url: {url}"))?);
    let stored = Box::new(StoredKeys::new(store.clone(), Handle::current()));
    // It asks the store and waits for it.
    let opened = spawn_blocking(move || Keyring::open_shared(&keys, key, stored, settings, clock, random)).await;
    let keyring = opened.or_exit(Exit::CannotTell, UNUSABLE)?.map_err(|e| {
        let exit = if matches!(e, KeyringError::Unshared(_)) { Exit::CannotTell } else { Exit::Usage };
        Failure::new(exit, anyhow::Error::new(e).context(UNUSABLE))
    })?;
    Ok((keyring, store))
}

const UNUSABLE: &str = "cannot use the keys";
const MEND_KEYS: &str = "name the directory of its own keys in keys.dir, or put those back from their backup. To begin anew, so that \
     everyone logs in again, put the store away, or start once with --dangerous-other-keys";

/// What is wrong with these keys beside this store, as far as it can be told without opening either.
pub(super) fn mismatch(config: &Config) -> Option<String> {
    let (dir, StoreUrl::Embedded(store)) = (&config.keys.dir, &config.store.url.0) else { return None };
    match Keyring::installation_of(dir).ok()? {
        None => fs::metadata(store).is_ok_and(|about| about.len() > 0).then(|| missing(dir, store)),
        Some(keys) => {
            let store = made_by(store).filter(|made_by| *made_by != keys)?;
            Some(foreign(dir, &OpenError::OtherKeys { store, keys }))
        }
    }
}

fn missing(dir: &Path, store: &Path) -> String {
    format!("{}: no keys are here, and the store {} was made with some; {MEND_KEYS}", dir.display(), store.display())
}

fn foreign(dir: &Path, error: &OpenError) -> String {
    format!("{}: {error}; {MEND_KEYS}", dir.display())
}

/// What to say of a store for which there is no place.
pub(super) fn no_place(store: &Path) -> String {
    format!("{}: its directory is not there; make it, or mend store.url", store.display())
}

/// Says which directory, and how to mend it.
fn store_failure(error: OpenError, dir: &Path) -> Failure {
    let exit = exit_of(&error);
    match &error {
        OpenError::OtherKeys { .. } => Failure::usage(foreign(dir, &error)),
        OpenError::File { path, source } if source.kind() == ErrorKind::NotFound => Failure::usage(no_place(path)),
        OpenError::File { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            let said = format!("{error}; give its directory to the user that the service runs as");
            Failure::new(exit, anyhow::Error::new(error).context(said))
        }
        _ => Failure::new(exit, error),
    }
}

/// A lock or a disk may be free again the next time; what is written in the file will not change by itself.
pub(super) fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        OpenError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::Usage,
        OpenError::Schema { .. } | OpenError::OtherKeys { .. } => Exit::Usage,
        _ => Exit::CannotTell,
    }
}

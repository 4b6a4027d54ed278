//! The keys: who signs, who is published, and the secrets that refresh tokens and sealed records are made with.
//!
//! [`rule`] says what is legal, [`ring`] applies it to what is public about keys, [`schedule`] says when what happens by
//! itself, and [`Keyring`] does it with keys on disk. What symmetric secrets are good for to a thief says
//! [`SecretKind::exposure`]. Readers take what they need from a snapshot and never wait for a
//! writer; changes are made one after the other and are durable before anyone hears of them.

mod audit_key;
mod change;
mod derivation;
mod disk;
mod elapsed;
mod error;
mod exchange;
mod exposure;
mod feed_key;
mod follow;
mod home;
mod manifest;
mod pem;
mod published;
mod renewal;
pub mod ring;
pub mod rule;
pub mod schedule;
mod sealer;
mod secret;
mod secrets;
mod shared;
mod signing;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

pub use self::{
    audit_key::AuditKey,
    change::{Change, Moved, Order, Rotated},
    derivation::{DerivationKey, SubjectRefKey},
    error::{ChangeError, KeyringError},
    exposure::{Exposure, SecretKind, UnknownKind},
    feed_key::FeedKey,
    follow::{FRESH, Following, Unconfirmed},
    published::PublishedSet,
    renewal::{Renewal, SecretInfo},
    ring::{KeyInfo, KeyState},
    rule::{Step, StepError, TooEarly},
    schedule::{Planned, Timing, TimingError},
    sealer::{SealError, Sealer},
    secret::{EmptyPassphrase, Passphrase},
    shared::{Kept, NAME as SHARED_COPY, NotASharedKey, SharedKey, SharedKeys, Unshared},
    signing::{ActiveKey, Signer, SignerError},
};
use self::{
    elapsed::Elapsed,
    home::{Disk, Home},
    ring::Ring,
    secrets::{Secrets, Stored},
    shared::Whole,
};
use crate::{
    clock::{Clock, Random},
    model::{Algorithm, Installation, JwkSet, Kid, Timestamp},
};

/// How keys are made and when they move on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// The `alg` of keys that are generated from now on; those that exist keep theirs.
    pub algorithm: Algorithm,
    /// The schedule.
    pub timing: Timing,
}

/// All keys of the service, shared by its threads.
pub struct Keyring {
    current: ArcSwap<Snapshot>,
    secrets: ArcSwap<Secrets>,
    settings: Settings,
    /// Of keys that nodes share.
    pulse: Option<follow::Pulse>,
    /// Held by whoever changes the ring, over its disk I/O. Readers never take it.
    writer: Mutex<Writer>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    opened: Timestamp,
}

/// One state of the ring, whole: nobody sees a signer that is not in the published set.
struct Snapshot {
    ring: Ring,
    signer: Arc<ActiveKey>,
    published: Arc<PublishedSet>,
}

struct Writer {
    home: Home,
    /// The private halves of the published keys of the current ring.
    private: Vec<Arc<ActiveKey>>,
    /// The secrets as they lie on the disk.
    stored: Stored,
    elapsed: Elapsed,
    /// Keys whose private halves are not needed, and could not be removed yet.
    owed: Vec<Kid>,
    /// Changes of this node's that were not known to have been made.
    untold: Vec<Change>,
    /// When the schedule is tried again after the disk refused, by [`Clock::boottime`].
    try_again: Duration,
}

impl Keyring {
    /// Opens the keys in `dir`. On the first start it makes the directory, a key that signs at once, its standby and
    /// all secrets. Reads and writes files, and derives a key from the passphrase: not for an async thread.
    ///
    /// # Errors
    /// [`KeyringError`] says which file, what is wrong with it, and how to mend it.
    pub fn open(
        dir: &Path,
        passphrase: Option<Passphrase>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, KeyringError> {
        let settings = sound(settings)?;
        let disk = Disk::at(dir, passphrase)?;
        let Some(loaded) = disk.load(clock.now(), &*random)? else {
            let first = First::generate(&settings, &*clock, &*random);
            disk.begin(&first.ring, &first.private, &first.secrets, &*random)?;
            return Ok(first.into_keyring(Home::Disk(disk), settings, clock, random));
        };
        let mut home = Home::Disk(disk);
        let mut private = loaded.private;
        // A directory of before two keys stood by gets the second one.
        let ring = loaded.ring.signing_for(settings.timing.token_life).completed(clock.now(), || {
            let key = ActiveKey::generate(settings.algorithm, &*random);
            let public = (key.public_key(), key.algorithm());
            private.push(key);
            public
        });
        if ring != loaded.ring {
            for key in private.iter().filter(|key| loaded.ring.find(key.kid()).is_none()) {
                home.keep(key, &*random)?;
            }
            let whole =
                Whole { ring: &ring, private: &change::halves(&ring, private.iter()), secrets: &loaded.secrets };
            home.commit(&whole, &*random)?;
            home.sync()?;
        }
        let elapsed = Elapsed::found(&ring, clock.boottime());
        Ok(Self::assemble(home, ring, private, loaded.secrets, elapsed, settings, clock, random))
    }
    /// Whether the keys in `dir` are all there and open with this passphrase; false if there are none yet. Changes
    /// nothing, and may be asked while a service uses them.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn inspect(dir: &Path, passphrase: Option<Passphrase>) -> Result<bool, KeyringError> {
        Disk::inspect(dir, passphrase)
    }
    /// Whose the keys in `dir` are; `None` if there are none yet. Needs no passphrase, and changes nothing.
    ///
    /// # Errors
    /// As [`Keyring::open`], as far as it needs no passphrase.
    pub fn installation_of(dir: &Path) -> Result<Option<Installation>, KeyringError> {
        Disk::installation(dir)
    }
    /// Keys that live in memory alone and end with the process.
    ///
    /// # Errors
    /// [`KeyringError::Unsound`].
    pub fn ephemeral(settings: Settings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, KeyringError> {
        let settings = sound(settings)?;
        let first = First::generate(&settings, &*clock, &*random);
        Ok(first.into_keyring(Home::Memory, settings, clock, random))
    }
    #[expect(clippy::too_many_arguments, reason = "the parts of one value, put together in two places")]
    fn assemble(
        home: Home,
        ring: Ring,
        private: Vec<ActiveKey>,
        secrets: Stored,
        elapsed: Elapsed,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let private: Vec<_> = private.into_iter().map(Arc::new).collect();
        let current = ArcSwap::from_pointee(Snapshot::new(ring, &private));
        let in_use = ArcSwap::from_pointee(secrets.secrets());
        let (owed, untold, try_again) = (Vec::new(), Vec::new(), Duration::ZERO);
        let writer = Mutex::new(Writer { home, private, stored: secrets, elapsed, owed, untold, try_again });
        let opened = clock.now();
        Self { current, secrets: in_use, settings, pulse: None, writer, clock, random, opened }
    }

    /// The name of these keys, which stays however they are rotated.
    #[must_use]
    pub fn installation(&self) -> Installation {
        self.secrets.load().installation
    }
    /// The key that signs now. Ask again for each token.
    #[must_use]
    pub fn signer(&self) -> Arc<ActiveKey> {
        Arc::clone(&self.current.load().signer)
    }
    /// The JWKS as it stands.
    #[must_use]
    pub fn jwks(&self) -> Arc<PublishedSet> {
        Arc::clone(&self.current.load().published)
    }
    /// Every key that is remembered, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        self.current.load().ring.keys().to_vec()
    }
    /// What is known of the key that signs.
    #[must_use]
    pub fn active(&self) -> KeyInfo {
        self.current.load().ring.active().clone()
    }
    /// Where the key of that name is in its life; `None` for a key that is not ours or is forgotten.
    #[must_use]
    pub fn state_of(&self, kid: &Kid) -> Option<KeyState> {
        self.current.load().ring.find(kid).map(|k| k.state)
    }
    /// For how long the JWKS may be cached that is fetched now. Hardly at all if other nodes may have another one.
    #[must_use]
    pub fn jwks_max_age(&self) -> Duration {
        if self.confirmed().is_err() {
            return Duration::from_secs(1).min(self.settings.timing.jwks_max_age);
        }
        self.current.load().ring.cacheable_for(&self.settings.timing, self.clock.now())
    }
    /// What will happen by itself, in the order of its time.
    #[must_use]
    pub fn plan(&self) -> Vec<Planned> {
        self.current.load().ring.plan(&self.settings.timing, self.opened)
    }
    /// From when on [`Keyring::rotate`] needs no force.
    #[must_use]
    pub fn earliest_rotation(&self) -> Timestamp {
        self.current.load().ring.earliest_rotation(&self.settings.timing)
    }
    /// What the ring was opened with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The derivation key of that name; a family keeps the one it was opened under.
    #[must_use]
    pub fn derivation(&self, id: u32) -> Option<Arc<DerivationKey>> {
        self.secrets.load().derivation.iter().find(|k| k.id() == id).cloned()
    }
    /// The derivation key for new families.
    #[must_use]
    pub fn current_derivation(&self) -> Arc<DerivationKey> {
        Arc::clone(self.secrets.load().derivation.last().expect("secrets are refused at load without a derivation key"))
    }
    /// Up to which instant what was made under keys that are not here is over: refused, where it could not be told
    /// otherwise.
    #[must_use]
    pub fn forgotten_until(&self) -> Option<Timestamp> {
        self.secrets.load().forgotten_until
    }
    /// Whether something of that instant is over if its key is not here.
    #[must_use]
    pub fn has_forgotten(&self, at: Timestamp) -> bool {
        self.forgotten_until().is_some_and(|until| at <= until)
    }
    /// Seals records for the store.
    #[must_use]
    pub fn sealer(&self) -> Arc<Sealer> {
        Arc::clone(&self.secrets.load().sealer)
    }
    /// The sealed book of clients as this node knew it last. Blocks on the disk, as [`Keyring::keep_client_book`] does.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn client_book(&self) -> Result<Option<Vec<u8>>, KeyringError> {
        self.writer().home.client_book()
    }
    /// Keeps the sealed book of clients beside the keys, where who can write the store cannot.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn keep_client_book(&self, sealed: &[u8]) -> Result<(), KeyringError> {
        self.writer().home.keep_client_book(sealed)
    }
    /// The key that signs the feed.
    #[must_use]
    pub fn feed_key(&self) -> Arc<FeedKey> {
        Arc::clone(self.secrets.load().feed.last().expect("one is generated at load if there is none"))
    }
    /// The keys of the feed, newest last; never among those of [`Keyring::jwks`].
    #[must_use]
    pub fn feed_jwks(&self) -> JwkSet {
        JwkSet { keys: self.secrets.load().feed.iter().map(|key| key.jwk()).collect() }
    }
    /// The key that signs the head of the audit log.
    #[must_use]
    pub fn audit_key(&self) -> Arc<AuditKey> {
        Arc::clone(self.secrets.load().audit.last().expect("there is one for each of the feed's"))
    }
    /// The keys of the audit log, newest last; in no other set of keys.
    #[must_use]
    pub fn audit_jwks(&self) -> JwkSet {
        JwkSet { keys: self.secrets.load().audit.iter().map(|key| key.jwk()).collect() }
    }
    /// Makes the references that stand for subjects.
    #[must_use]
    pub fn subject_refs(&self) -> Arc<SubjectRefKey> {
        Arc::clone(&self.secrets.load().subject_refs)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic under the lock leaves the writer as it was: it is changed only after the disk has been.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(active {})", self.current.load().signer.kid())
    }
}

impl Snapshot {
    fn new(ring: Ring, private: &[Arc<ActiveKey>]) -> Self {
        let signer = private.iter().find(|key| *key.kid() == ring.active().kid);
        let signer = signer.expect("the private half of every key that may sign is held").clone();
        let published = Arc::new(PublishedSet::new(&ring));
        Self { ring, signer, published }
    }
}

/// What a first start makes.
struct First {
    ring: Ring,
    private: Vec<ActiveKey>,
    secrets: Stored,
}

impl First {
    fn generate(settings: &Settings, clock: &dyn Clock, random: &dyn Random) -> Self {
        let mut private = Vec::new();
        let fresh = || {
            let key = ActiveKey::generate(settings.algorithm, random);
            let public = (key.public_key(), key.algorithm());
            private.push(key);
            public
        };
        let ring = Ring::first(fresh, clock.now(), &settings.timing);
        Self { ring, private, secrets: Stored::generate(clock.now(), random) }
    }
    fn into_keyring(self, home: Home, settings: Settings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Keyring {
        let mut elapsed = Elapsed::default();
        elapsed.changed(&self.ring, clock.boottime());
        Keyring::assemble(home, self.ring, self.private, self.secrets, elapsed, settings, clock, random)
    }
}

fn sound(settings: Settings) -> Result<Settings, KeyringError> {
    settings.timing.check()?;
    Ok(settings)
}

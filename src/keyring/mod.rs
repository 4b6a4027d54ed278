//! The keys: who signs, who is published, and the secrets that refresh tokens and sealed records are made with.
//!
//! [`schedule`] holds the rule, [`Keyring`] applies it to keys on disk. Readers take what they need from a snapshot and
//! never wait for a writer; changes are made one after the other and are durable before anyone hears of them.

mod audit_key;
mod derivation;
mod disk;
mod error;
mod feed_key;
mod home;
mod manifest;
mod pem;
mod published;
pub mod schedule;
mod sealer;
mod secret;
mod secrets;
mod signing;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;

pub use self::{
    audit_key::AuditKey,
    derivation::{DerivationKey, SubjectRefKey},
    error::{KeyringError, RotateError},
    feed_key::FeedKey,
    published::PublishedSet,
    schedule::{KeyInfo, KeyState, Timing, TooEarly},
    sealer::{SealError, Sealer},
    secret::{EmptyPassphrase, Passphrase},
    signing::ActiveKey,
};
use self::{
    home::{Disk, Home},
    schedule::Ring,
    secrets::{Secrets, Stored},
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

/// The outcome of a rotation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotated {
    /// Signed until now; still verifies.
    pub retiring: Kid,
    /// Signs from now on.
    pub active: Kid,
    /// Generated for the next rotation.
    pub pending: Kid,
}

/// All keys of the service, shared by its threads.
pub struct Keyring {
    current: ArcSwap<Snapshot>,
    secrets: Secrets,
    settings: Settings,
    /// Held by whoever changes the ring, over its disk I/O. Readers never take it.
    writer: Mutex<Writer>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// One state of the ring, whole: nobody sees a signer that is not in the published set.
struct Snapshot {
    ring: Ring,
    signer: Arc<ActiveKey>,
    published: Arc<PublishedSet>,
}

struct Writer {
    home: Home,
    /// The private halves of the pending keys of the current ring.
    standbys: Vec<Arc<ActiveKey>>,
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
        let Some(loaded) = disk.load(&*random)? else {
            let first = First::generate(&settings, &*clock, &*random);
            disk.begin(&first.ring, &[&first.active, &first.standby], &first.secrets, &*random)?;
            return Ok(first.into_keyring(Home::Disk(disk), settings, clock, random));
        };
        let home = Home::Disk(disk);
        let ring = loaded.ring.signing_for(settings.timing.token_life);
        if ring != loaded.ring {
            home.commit(&ring)?;
            home.sync()?;
        }
        Ok(Self::assemble(home, ring, loaded.private, loaded.secrets, settings, clock, random))
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
    fn assemble(
        home: Home,
        ring: Ring,
        private: Vec<ActiveKey>,
        secrets: Stored,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let private: Vec<_> = private.into_iter().map(Arc::new).collect();
        let (active, standbys): (Vec<_>, Vec<_>) = private.into_iter().partition(|k| *k.kid() == ring.active().kid);
        let signer =
            active.into_iter().next().expect("the home hands over the private half of every key that may sign");
        let current = ArcSwap::from_pointee(Snapshot::new(ring, signer, &settings.timing));
        let writer = Mutex::new(Writer { home, standbys });
        Self { current, secrets: secrets.into_use(), settings, writer, clock, random }
    }

    /// The name of these keys, which stays however they are rotated.
    #[must_use]
    pub fn installation(&self) -> Installation {
        self.secrets.installation
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
    /// Where the key of that name is in its life; `None` for a key that is not ours or is forgotten.
    #[must_use]
    pub fn state_of(&self, kid: &Kid) -> Option<KeyState> {
        self.current.load().ring.find(kid).map(|k| k.state)
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
        self.secrets.derivation.iter().find(|k| k.id() == id).cloned()
    }
    /// The derivation key for new families.
    #[must_use]
    pub fn current_derivation(&self) -> Arc<DerivationKey> {
        Arc::clone(self.secrets.derivation.last().expect("secrets are refused at load without a derivation key"))
    }
    /// Seals records for the store.
    #[must_use]
    pub fn sealer(&self) -> Arc<Sealer> {
        Arc::clone(&self.secrets.sealer)
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
        Arc::clone(self.secrets.feed.last().expect("one is generated at load if there is none"))
    }
    /// The keys of the feed, newest last; never among those of [`Keyring::jwks`].
    #[must_use]
    pub fn feed_jwks(&self) -> JwkSet {
        JwkSet { keys: self.secrets.feed.iter().map(|key| key.jwk()).collect() }
    }
    /// The key that signs the head of the audit log.
    #[must_use]
    pub fn audit_key(&self) -> Arc<AuditKey> {
        Arc::clone(self.secrets.audit.last().expect("there is one for each of the feed's"))
    }
    /// The keys of the audit log, newest last; in no other set of keys.
    #[must_use]
    pub fn audit_jwks(&self) -> JwkSet {
        JwkSet { keys: self.secrets.audit.iter().map(|key| key.jwk()).collect() }
    }
    /// Makes the references that stand for subjects.
    #[must_use]
    pub fn subject_refs(&self) -> Arc<SubjectRefKey> {
        Arc::clone(&self.secrets.subject_refs)
    }

    /// The standby signs, the active key retires, a new standby is published: in one step, durable before this
    /// returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`RotateError::TooEarly`] unless the standby has been published long enough. `force` lets it sign all the same:
    /// verifiers with a cached JWKS then refuse its tokens until they fetch it again.
    pub fn rotate(&self, force: bool) -> Result<Rotated, RotateError> {
        let mut writer = self.writer();
        let (before, now) = (self.current.load_full(), self.clock.now());
        let fresh = ActiveKey::generate(self.settings.algorithm, &*self.random);
        let public = (fresh.public_key(), fresh.algorithm());
        let ring = before.ring.rotate(public, now, &self.settings.timing, force)?;
        writer.home.keep(&fresh, &*self.random)?;
        writer.home.commit(&ring)?;
        let rotated = Rotated {
            retiring: before.ring.active().kid.clone(),
            active: ring.active().kid.clone(),
            pending: fresh.kid().clone(),
        };
        let synced = writer.home.sync();
        // Taken up even if that sync failed. A crash then leaves the old manifest or the new one, and in both the key
        // that signs from here on is published; going back would let the old key sign on past its `verifies_until`.
        writer.standbys.push(Arc::new(fresh));
        self.take_up(&mut writer, ring);
        synced?;
        Ok(rotated)
    }
    /// Retires the keys whose last token has expired, and destroys their private halves. Cheap when there are none;
    /// to be called every minute or so. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyringError`]: the keys stay published and are retired the next time.
    pub fn sweep(&self) -> Result<Vec<Kid>, KeyringError> {
        self.sweep_until(self.clock.now())
    }
    /// As [`Keyring::sweep`], for a caller who knows better what has expired than our clock, which may have leapt.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn sweep_until(&self, expired_by: Timestamp) -> Result<Vec<Kid>, KeyringError> {
        let mut writer = self.writer();
        let ring = self.current.load().ring.sweep(expired_by);
        self.retire_all(&mut writer, ring)
    }
    /// A key that has been denied leaves the JWKS, whatever its schedule was; its private half is destroyed. Nothing
    /// changes unless it is retiring. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyringError`]: it stays published.
    pub fn retire(&self, kid: &Kid) -> Result<Vec<Kid>, KeyringError> {
        let mut writer = self.writer();
        let ring = self.current.load().ring.retire(kid, self.clock.now());
        self.retire_all(&mut writer, ring)
    }
    fn retire_all(&self, writer: &mut Writer, ring: Ring) -> Result<Vec<Kid>, KeyringError> {
        let before = self.current.load_full();
        let gone = |k: &&KeyInfo| k.is_published() && ring.find(&k.kid).is_none_or(|now| !now.is_published());
        let retired: Vec<Kid> = before.ring.keys().iter().filter(gone).map(|k| k.kid.clone()).collect();
        if retired.is_empty() {
            return Ok(retired);
        }
        writer.home.commit(&ring)?;
        let synced = writer.home.sync();
        self.take_up(writer, ring);
        synced?;
        // Only after the manifest that does without them is durable: a crash must not leave it asking for them.
        for kid in &retired {
            writer.home.forget(kid)?;
        }
        writer.home.sync()?;
        Ok(retired)
    }
    fn take_up(&self, writer: &mut Writer, ring: Ring) {
        let signer = match writer.standbys.iter().position(|k| *k.kid() == ring.active().kid) {
            Some(at) => writer.standbys.remove(at),
            None => self.signer(),
        };
        self.current.store(Arc::new(Snapshot::new(ring, signer, &self.settings.timing)));
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
    fn new(ring: Ring, signer: Arc<ActiveKey>, timing: &Timing) -> Self {
        debug_assert_eq!(ring.active().kid, *signer.kid());
        let published = Arc::new(PublishedSet::new(&ring, timing.jwks_max_age));
        Self { ring, signer, published }
    }
}

/// What a first start makes.
struct First {
    ring: Ring,
    active: ActiveKey,
    standby: ActiveKey,
    secrets: Stored,
}

impl First {
    fn generate(settings: &Settings, clock: &dyn Clock, random: &dyn Random) -> Self {
        let key = || ActiveKey::generate(settings.algorithm, random);
        let (active, standby) = (key(), key());
        let (a, s) = (active.public_key(), standby.public_key());
        let ring = Ring::first(a, s, settings.algorithm, clock.now(), &settings.timing);
        Self { ring, active, standby, secrets: Stored::generate(random) }
    }
    fn into_keyring(self, home: Home, settings: Settings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Keyring {
        Keyring::assemble(home, self.ring, vec![self.active, self.standby], self.secrets, settings, clock, random)
    }
}

fn sound(settings: Settings) -> Result<Settings, KeyringError> {
    if settings.timing.is_sound() { Ok(settings) } else { Err(KeyringError::Unsound(settings.timing)) }
}

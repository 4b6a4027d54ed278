//! Many nodes, one keyring: what others have changed is taken up, what a store has lost is given to it again, and
//! nothing is signed by keys of which it has not been confirmed lately that they are still the ones.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    ActiveKey, Change, First, Keyring, KeyringError, Passphrase, Settings, Snapshot, Writer,
    change::halves,
    elapsed::Elapsed,
    home::{Disk, Home, Loaded},
    shared::{Found, Shared, SharedKey, SharedKeys, Whole, uncertain},
    sound,
};
use crate::clock::{Clock, Random};

/// For how long a node goes on signing without having heard that its keys are still the ones.
pub const FRESH: Duration = Duration::from_secs(5);
/// How often a change that met another node's is tried again.
const TRIES: usize = 16;

/// Nobody has confirmed lately that this node's keys are still the ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it has not been confirmed lately that this node's keys are still those that all nodes share")]
pub struct Unconfirmed;

/// How things stand between this node's keys and those of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Following {
    /// The version that this node goes by.
    pub version: u64,
    /// How long ago it was confirmed; `None`: not since the start.
    pub confirmed: Option<Duration>,
    /// How often the store had lost the keys, and was given them again.
    pub given_again: u64,
    /// Why it cannot be confirmed now.
    pub trouble: Option<String>,
}

/// What is known of the store that the keys are shared through.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Beat>);

#[derive(Clone, Debug, Default)]
struct Beat {
    version: u64,
    /// By [`Clock::boottime`].
    confirmed: Option<Duration>,
    given_again: u64,
    trouble: Option<String>,
}

impl Pulse {
    fn change(&self, change: impl FnOnce(&mut Beat)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
    fn now(&self) -> Beat {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keyring {
    /// Opens keys that nodes share: this node's copy in `dir`, or what lies in the store. Where the store does not answer,
    /// a copy will do to begin with: nothing is signed before it is confirmed. Blocks on disk and network.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open_shared(
        dir: &Path,
        key: SharedKey,
        store: Box<dyn SharedKeys>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, KeyringError> {
        let settings = sound(settings)?;
        let mut shared = Shared::at(dir, key, store)?;
        let loaded = match shared.load_copy()? {
            Some(copy) => copy,
            None if Disk::holds_files(dir)? => return Err(KeyringError::NotShared { dir: dir.to_owned() }),
            None => match shared.look()? {
                Found::Newer(loaded, ..) => *loaded,
                _ => return Err(KeyringError::NoKeys { path: shared.place() }),
            },
        };
        let pulse = Pulse::default();
        pulse.change(|beat| beat.version = shared.version().unwrap_or(0));
        let (Loaded { ring, private, secrets }, home) = (loaded, Home::Shared(Box::new(shared)));
        let elapsed = Elapsed::found(&ring, clock.boottime());
        let mut keyring = Self::assemble(home, ring, private, secrets, elapsed, settings, clock, random);
        keyring.pulse = Some(pulse);
        match keyring.take_up() {
            Ok(_) => Ok(keyring),
            Err(error @ KeyringError::Unshared(_)) => {
                tracing::error!(%error, "the shared keys are not confirmed; nothing is signed before they are");
                Ok(keyring)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the copy with which a store begins: of the keys that lie in `dir` by themselves, which it takes the place of,
    /// else of new ones. Where there is a copy already, nothing is done and false returned.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn share(
        dir: &Path,
        passphrase: Option<Passphrase>,
        key: SharedKey,
        settings: Settings,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<bool, KeyringError> {
        let settings = sound(settings)?;
        let mut shared = Shared::at(dir, key, Box::new(super::shared::Nowhere))?;
        let disk = Disk::at(dir, passphrase)?;
        if let Some(copy) = shared.load_copy()? {
            // One that was cut off is completed.
            if Disk::files_of(dir)? == Some(copy.secrets.installation_name()) {
                disk.give_up()?;
            }
            return Ok(false);
        }
        let Loaded { ring, private, secrets } = match disk.load(clock.now(), random)? {
            Some(loaded) => loaded,
            None => {
                let First { ring, private, secrets } = First::generate(&settings, clock, random);
                Loaded { ring, private, secrets }
            }
        };
        let private = halves(&ring, private.iter());
        shared.found(&Whole { ring: &ring, private: &private, secrets: &secrets }, random)?;
        disk.give_up()?;
        Ok(true)
    }

    /// Opens the copy in `dir` by itself, for who asks no store: it is never confirmed, so that nothing is signed by it.
    /// `None` if there is none. Changes nothing.
    ///
    /// # Errors
    /// [`KeyringError`]: it does not open with this key, or keys of one node alone lie there.
    pub fn of_copy(
        dir: &Path,
        key: SharedKey,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Option<Self>, KeyringError> {
        let settings = sound(settings)?;
        let Some((shared, loaded)) = copy_in(dir, key)? else { return Ok(None) };
        let Loaded { ring, private, secrets } = loaded;
        let (home, elapsed) = (Home::Shared(Box::new(shared)), Elapsed::found(&ring, clock.boottime()));
        let mut keyring = Self::assemble(home, ring, private, secrets, elapsed, settings, clock, random);
        keyring.pulse = Some(Pulse::default());
        Ok(Some(keyring))
    }

    /// Whether the copy in `dir` opens with this key; false if there is none. Changes nothing.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn inspect_shared(dir: &Path, key: SharedKey) -> Result<bool, KeyringError> {
        Ok(copy_in(dir, key)?.is_some())
    }

    /// Asked before anything is signed or sealed: whether what nodes share was confirmed lately.
    ///
    /// # Errors
    /// [`Unconfirmed`]: these may be the keys of yesterday.
    pub fn confirmed(&self) -> Result<(), Unconfirmed> {
        let Some(pulse) = &self.pulse else { return Ok(()) };
        let is_fresh = |at| self.clock.boottime().saturating_sub(at) < FRESH;
        if pulse.now().confirmed.is_some_and(is_fresh) { Ok(()) } else { Err(Unconfirmed) }
    }

    /// How this node's keys stand to those of the others; `None` for a node by itself.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        let Beat { version, confirmed, given_again, trouble } = self.pulse.as_ref()?.now();
        let confirmed = confirmed.map(|at| self.clock.boottime().saturating_sub(at));
        Some(Following { version, confirmed, given_again, trouble })
    }

    /// Takes up what other nodes have changed, and gives the store again what it has lost. Gives the changes of this node's
    /// own that were not known to have been made. Nothing to do for a node by itself. Blocks on disk and network.
    ///
    /// # Errors
    /// [`KeyringError`]: nothing is known to have changed, and nothing is confirmed.
    pub fn take_up(&self) -> Result<Vec<Change>, KeyringError> {
        let mut writer = self.writer();
        self.take_up_newest(&mut writer)?;
        Ok(std::mem::take(&mut writer.untold))
    }

    /// Does something to the newest keys, again as long as another node's change comes in between.
    pub(super) fn changing<T, E: From<KeyringError>>(
        &self,
        mut change: impl FnMut(&mut Writer) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = self.writer();
        for _ in 0..TRIES {
            self.take_up_newest(&mut writer)?;
            let outcome = change(&mut writer);
            if !writer.home.was_overtaken() {
                if let (Some(pulse), Home::Shared(shared)) = (&self.pulse, &writer.home) {
                    pulse.change(|beat| beat.version = shared.version().unwrap_or(0));
                }
                return outcome;
            }
        }
        Err(KeyringError::Moved.into())
    }

    fn take_up_newest(&self, writer: &mut Writer) -> Result<(), KeyringError> {
        let Some(pulse) = &self.pulse else { return Ok(()) };
        let taken = self.follow(writer, pulse);
        let trouble = taken.as_ref().err().map(ToString::to_string);
        pulse.change(|beat| beat.trouble = trouble);
        taken
    }

    fn follow(&self, writer: &mut Writer, pulse: &Pulse) -> Result<(), KeyringError> {
        for _ in 0..TRIES {
            let asked = self.clock.boottime();
            let Home::Shared(shared) = &mut writer.home else { return Ok(()) };
            let current = match shared.look()? {
                Found::Same { current } => current,
                Found::Newer(loaded, mine, current) => {
                    let version = shared.version().unwrap_or(0);
                    let change = self.install(writer, *loaded);
                    tracing::info!(version, active = %change.active, "another version of the shared keys was taken up");
                    writer.untold.extend(Some(change).filter(|_| mine));
                    current
                }
                Found::Lost(seen) => {
                    let version = shared.version().unwrap_or(0);
                    let is_first = version == 1 && seen.is_none() && pulse.now().confirmed.is_none();
                    if !is_first {
                        tracing::error!(version, "the store has lost the shared keys; it is given them again");
                    }
                    if shared.give_again(seen.as_deref())? && !is_first {
                        pulse.change(|beat| beat.given_again += 1);
                    }
                    continue;
                }
            };
            if !current {
                return Err(uncertain());
            }
            match self.fit(writer) {
                Err(KeyringError::Moved) => continue,
                fitted => fitted?,
            }
            let Home::Shared(shared) = &writer.home else { return Ok(()) };
            let version = shared.version().unwrap_or(0);
            pulse.change(|beat| (beat.version, beat.confirmed) = (version, Some(asked)));
            return Ok(());
        }
        Err(KeyringError::Moved)
    }

    /// Before anything is signed by them: the ring remembers the longest life of a token, and enough keys stand by.
    fn fit(&self, writer: &mut Writer) -> Result<(), KeyringError> {
        let (before, timing) = (self.current.load_full(), &self.settings.timing);
        let mut made = Vec::new();
        let ring = before.ring.signing_for(timing.token_life).completed(self.clock.now(), || {
            let key = ActiveKey::generate(self.settings.algorithm, &*self.random);
            let public = (key.public_key(), key.algorithm());
            made.push(key);
            public
        });
        if ring != before.ring {
            self.commit_ring(writer, &before.ring, ring, made)?;
        }
        Ok(())
    }

    /// Goes by what another node has made.
    fn install(&self, writer: &mut Writer, loaded: Loaded) -> Change {
        let before = self.current.load_full();
        let Loaded { ring, private, secrets } = loaded;
        let change = Change::between(&before.ring, &ring);
        writer.private = private.into_iter().map(Arc::new).collect();
        writer.elapsed.changed(&ring, self.clock.boottime());
        self.secrets.store(Arc::new(secrets.secrets()));
        writer.stored = secrets;
        self.current.store(Arc::new(Snapshot::new(ring, &writer.private)));
        change
    }
}

/// The copy in `dir`, and what it holds; `None` if there is none.
fn copy_in(dir: &Path, key: SharedKey) -> Result<Option<(Shared, Loaded)>, KeyringError> {
    match Shared::of_copy(dir, key)? {
        None if Disk::holds_files(dir)? => Err(KeyringError::NotShared { dir: dir.to_owned() }),
        copy => Ok(copy),
    }
}

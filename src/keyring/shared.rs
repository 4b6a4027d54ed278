//! Keys that several nodes share: one sealed bundle with a version. It lies in the nodes' store, which can neither read
//! it nor change it unnoticed, and each node holds a copy of its own.
//!
//! ```text
//! "rescind-keys-1\n" ‖ version u64 ‖ tag 16 ‖ nonce 24 ‖ XChaCha20-Poly1305 of manifest, secrets and private keys
//! ```
//!
//! What is in the store counts. A change is written there first, if nobody else has changed the keys meanwhile; then the
//! node's own copy; then it is in use. So a key that signs is on the disk of the node that signs with it, and whatever a
//! store loses, a node can give it again. The tag tells two changes apart that were made from the same version.

use std::{
    fmt,
    io::Write,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    disk::Dir,
    error::KeyringError,
    home::Loaded,
    manifest,
    ring::Ring,
    sealer::{open, seal},
    secret::SecretBytes,
    secrets::Stored,
    signing::ActiveKey,
};
use crate::{
    clock::{Random, random_bytes},
    model::{
        Installation,
        bundle::{BEGINS, Version},
    },
};

/// The node's own copy.
pub const NAME: &str = "keyring.sealed";
const HEAD: usize = BEGINS.len() + 8 + 16;

/// Where nodes share their keys. Whoever keeps it sees nothing of them. Both methods block.
pub trait SharedKeys: fmt::Debug + Send + Sync + 'static {
    /// What lies there.
    ///
    /// # Errors
    /// [`Unshared`]: nobody can tell.
    fn read(&self) -> Result<Kept, Unshared>;
    /// Puts `sealed` there if what lies there still is `seen`, as durably as the store is asked to be. False: it is not.
    /// A change is made only while it is certain that this is the store; what it has lost is given `again` in any case.
    ///
    /// # Errors
    /// [`Unshared`]: it may have been put there.
    fn replace(&self, seen: Option<&[u8]>, sealed: &[u8], again: bool) -> Result<bool, Unshared>;
}

/// What lies where nodes share their keys.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The bundle, if there is one.
    pub sealed: Option<Vec<u8>>,
    /// Whether it was certain, once it had been read, that this was the store: a deposed server answers, too.
    pub current: bool,
}

/// The store could not tell.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unshared(pub String);

/// What all nodes hold, and nobody else: the keys lie under it in the store.
pub struct SharedKey {
    /// The first one seals; all of them open, so that one can be replaced by another.
    ciphers: Vec<XChaCha20Poly1305>,
}

/// Not what a file of it should hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a shared key: 32 bytes in base64 on a line, and at most one more line with the one before")]
pub struct NotASharedKey;

impl SharedKey {
    /// As its file says it: 32 bytes in base64, and on a second line, while nodes change to a new one, the one before.
    ///
    /// # Errors
    /// [`NotASharedKey`].
    pub fn read(text: &str) -> Result<Self, NotASharedKey> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let ciphers = lines.map(Self::cipher).collect::<Result<Vec<_>, _>>()?;
        if matches!(ciphers.len(), 1 | 2) { Ok(Self { ciphers }) } else { Err(NotASharedKey) }
    }
    /// A new one, as its file says it.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Zeroizing<String> {
        let bytes = Zeroizing::new(random_bytes::<32>(random));
        Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*bytes))
    }
    /// Writes a new one into a file that only its owner can read, unless there is a file already. Says whether it did.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn make(path: &Path, random: &dyn Random) -> std::io::Result<bool> {
        let (text, dir) = (Self::generate(random), path.parent().filter(|dir| !dir.as_os_str().is_empty()));
        let mut file = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(true),
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e.error),
        }
    }
    fn cipher(line: &str) -> Result<XChaCha20Poly1305, NotASharedKey> {
        // In either alphabet, padded or not: `openssl rand -base64 32` makes one as well.
        let plain = Zeroizing::new(line.trim_end_matches('=').replace('+', "-").replace('/', "_"));
        let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(&*plain).map_err(|_| NotASharedKey)?);
        let key: &[u8; 32] = bytes[..].try_into().map_err(|_| NotASharedKey)?;
        let mut derived = Zeroizing::new([0; 32]);
        let hkdf = Hkdf::<Sha256>::new(None, key);
        hkdf.expand(b"rescind/keys/1", &mut *derived).expect("32 bytes are within the 8160 of RFC 5869 §2.3");
        Ok(XChaCha20Poly1305::new((&*derived).into()))
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey")
    }
}

/// All keys in one state.
pub(super) struct Whole<'a> {
    pub(super) ring: &'a Ring,
    /// The private halves of the published keys.
    pub(super) private: &'a [&'a ActiveKey],
    pub(super) secrets: &'a Stored,
}

/// Where shared keys live.
pub(super) struct Shared {
    dir: Dir,
    key: SharedKey,
    store: Box<dyn SharedKeys>,
    /// What this node goes by, as it lies in the store and here. None: nothing has been shared yet.
    own: Option<(Version, Vec<u8>)>,
    /// Whose keys these are.
    installation: Option<Installation>,
    /// What is in use has not been written down here yet.
    uncopied: bool,
    /// A change of this node's of which nobody knows whether it was made.
    tried: Option<Version>,
    /// Another node's change came before the last one that was tried here.
    overtaken: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?})", self.own.as_ref().map(|(version, _)| version.number))
    }
}

/// What a look at the store found.
pub(super) enum Found {
    /// What this node goes by, and whether that is certain.
    Same { current: bool },
    /// Another node's change, or one of our own of which we had not heard; copied here.
    Newer(Box<Loaded>, Mine, bool),
    /// Nothing is there, or something older.
    Lost(Option<Vec<u8>>),
}

/// Whether a change is one that this node had asked for.
pub(super) type Mine = bool;

impl Shared {
    pub(super) fn at(path: &Path, key: SharedKey, store: Box<dyn SharedKeys>) -> Result<Self, KeyringError> {
        let dir = Dir::create(path)?;
        Ok(Self { dir, key, store, own: None, installation: None, uncopied: false, tried: None, overtaken: false })
    }
    /// Which version this node goes by.
    pub(super) fn version(&self) -> Option<u64> {
        self.own.as_ref().map(|(version, _)| version.number)
    }
    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }
    /// Where this node's copy lies.
    pub(super) fn place(&self) -> PathBuf {
        self.dir.path_of(NAME)
    }
    pub(super) fn was_overtaken(&self) -> bool {
        self.overtaken
    }
    /// This node's own copy, if it has one.
    pub(super) fn load_copy(&mut self) -> Result<Option<Loaded>, KeyringError> {
        let Some(sealed) = self.dir.read(NAME)? else { return Ok(None) };
        self.dir.check_owner_only()?;
        let path = self.dir.path_of(NAME);
        let version =
            Version::of(&sealed).ok_or_else(|| KeyringError::garbled(path.clone(), "not a bundle of keys"))?;
        let loaded = self.unseal(&sealed).map_err(|bad| match bad {
            Bad::Closed => KeyringError::SharedKeyWrong { place: path.display().to_string() },
            Bad::Garbled(what) => KeyringError::garbled(path, what),
        })?;
        self.installation = Some(loaded.secrets.installation_name());
        self.own = Some((version, sealed.to_vec()));
        Ok(Some(loaded))
    }
    /// The copy in a directory, opened with this key, and what it holds. `None`: there is no copy.
    pub(super) fn of_copy(path: &Path, key: SharedKey) -> Result<Option<(Self, Loaded)>, KeyringError> {
        if Dir::existing(path)?.is_none() {
            return Ok(None);
        }
        let mut shared = Self::at(path, key, Box::new(Nowhere))?;
        Ok(shared.load_copy()?.map(|loaded| (shared, loaded)))
    }
    /// Looks what is in the store. What is newer is copied here before it is told of.
    pub(super) fn look(&mut self) -> Result<Found, KeyringError> {
        self.overtaken = false;
        let Kept { sealed, current } = self.store.read()?;
        let Some(sealed) = sealed else { return Ok(Found::Lost(None)) };
        let theirs = Version::of(&sealed).ok_or_else(|| KeyringError::InStore("not a bundle of keys".into()))?;
        match &self.own {
            Some((_, own)) if *own == sealed => {
                self.copy_if_owed()?;
                return Ok(Found::Same { current });
            }
            // It says that it is the same, and nobody could open it.
            Some((own, _)) if *own == theirs => return Ok(Found::Lost(Some(sealed))),
            _ => {}
        }
        let loaded = self.unseal(&sealed).map_err(|bad| match bad {
            Bad::Closed => KeyringError::SharedKeyWrong { place: "what lies in the store".into() },
            Bad::Garbled(what) => KeyringError::InStore(what),
        })?;
        self.check_installation(&loaded)?;
        match self.version() {
            Some(own) if own > theirs.number => return Ok(Found::Lost(Some(sealed))),
            Some(own) if own == theirs.number => return Err(KeyringError::Parted { version: own }),
            // A change that a deposed server has, and perhaps nobody else ever will.
            Some(_) if !current => return Err(uncertain()),
            _ => {}
        }
        let mine = self.tried == Some(theirs);
        self.copy(&sealed)?;
        (self.own, self.tried, self.uncopied) = (Some((theirs, sealed)), None, false);
        Ok(Found::Newer(Box::new(loaded), mine, current))
    }
    /// Gives the store again what it has lost. False: another node came first.
    pub(super) fn give_again(&mut self, seen: Option<&[u8]>) -> Result<bool, KeyringError> {
        let Some((_, sealed)) = &self.own else { return Ok(false) };
        Ok(self.store.replace(seen, sealed, true)?)
    }
    /// Makes these keys the ones that count, everywhere. After an error those before still do, here.
    ///
    /// # Errors
    /// [`KeyringError::Moved`]: another node has changed them first.
    pub(super) fn commit(&mut self, whole: &Whole<'_>, random: &dyn Random) -> Result<(), KeyringError> {
        let number = self.version().unwrap_or(0) + 1;
        let version = Version { number, tag: random_bytes(random) };
        let sealed = self.seal(version, whole, random);
        self.tried = Some(version);
        let seen = self.own.as_ref().map(|(_, sealed)| &sealed[..]);
        if !self.store.replace(seen, &sealed, false)? {
            (self.tried, self.overtaken) = (None, true);
            return Err(KeyringError::Moved);
        }
        // All other nodes may use them from here on, so this one does whatever its disk says; the copy is made up for.
        let copied = self.copy(&sealed);
        (self.own, self.tried, self.uncopied) = (Some((version, sealed)), None, copied.is_err());
        if let Err(error) = copied {
            tracing::error!(%error, "the keys were changed, and this node could not copy them yet; tried again");
        }
        Ok(())
    }
    fn copy(&self, sealed: &[u8]) -> Result<(), KeyringError> {
        self.dir.replace(NAME, sealed)?;
        self.dir.sync()
    }
    fn copy_if_owed(&mut self) -> Result<(), KeyringError> {
        if let Some((_, sealed)) = self.own.as_ref().filter(|_| self.uncopied) {
            self.copy(sealed)?;
            self.uncopied = false;
        }
        Ok(())
    }
    /// Two services must not take each other's keys for their own.
    fn check_installation(&self, loaded: &Loaded) -> Result<(), KeyringError> {
        let theirs = loaded.secrets.installation_name();
        match self.installation {
            Some(own) if own != theirs => {
                Err(KeyringError::InStoreOthers { path: self.dir.path_of(NAME), own, theirs })
            }
            _ => Ok(()),
        }
    }
    /// Makes the first copy, with which a store begins. Nothing may be here.
    pub(super) fn found(&mut self, whole: &Whole<'_>, random: &dyn Random) -> Result<(), KeyringError> {
        let version = Version { number: 1, tag: random_bytes(random) };
        let sealed = self.seal(version, whole, random);
        self.dir.close_to_others()?;
        self.copy(&sealed)
    }

    fn seal(&self, version: Version, whole: &Whole<'_>, random: &dyn Random) -> Vec<u8> {
        let (ring, secrets) = (manifest::encode(whole.ring), whole.secrets.encode(None, random));
        // Reserved in one piece: a vector that grows leaves copies of its content behind.
        let room = ring.len() + secrets.len() + 40 * whole.private.len() + 16;
        let mut plain = Zeroizing::new(Vec::with_capacity(room));
        put(&mut plain, &ring);
        put(&mut plain, &secrets);
        for seed in whole.private.iter().filter_map(|key| key.seed()) {
            put(&mut plain, seed.expose());
        }
        let mut sealed = [&BEGINS[..], &version.number.to_be_bytes(), &version.tag].concat();
        let nonce: [u8; 24] = random_bytes(random);
        let body = seal(&self.key.ciphers[0], &nonce, &sealed, &plain);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        sealed
    }
    fn unseal(&self, sealed: &[u8]) -> Result<Loaded, Bad> {
        let garbled = |what: &str| Bad::Garbled(what.to_owned());
        let (head, rest) = sealed.split_at_checked(HEAD).ok_or_else(|| garbled("it is cut"))?;
        let (nonce, body) = rest.split_first_chunk::<24>().ok_or_else(|| garbled("it is cut"))?;
        let opened = self.key.ciphers.iter().find_map(|cipher| open(cipher, nonce, head, body));
        let plain = Zeroizing::new(opened.ok_or(Bad::Closed)?);
        let mut rest = &plain[..];
        let mut next = || take(&mut rest).ok_or_else(|| garbled("it is cut"));
        let (ring, secrets) = (next()?, next()?);
        let place = Path::new("the shared keys");
        let ring = manifest::decode(place, ring).map_err(|e| Bad::Garbled(e.to_string()))?;
        let (secrets, _) = Stored::decode(place, secrets, None).map_err(|e| Bad::Garbled(e.to_string()))?;
        let mut private = Vec::new();
        for info in ring.keys().iter().filter(|key| key.is_published()) {
            let seed: [u8; 32] = next()?.try_into().map_err(|_| garbled("a private key is not one"))?;
            let key = ActiveKey::new(&SecretBytes::new(seed), info.algorithm);
            if *key.kid() != info.kid {
                return Err(garbled("a private key is another's"));
            }
            private.push(key);
        }
        Ok(Loaded { ring, private, secrets })
    }
}

/// Why a bundle is of no use.
enum Bad {
    /// It is under another key, or was altered.
    Closed,
    Garbled(String),
}

fn put(into: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("keys are far below 4 GiB");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(part);
}

fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = from.split_first_chunk()?;
    let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *from = rest;
    Some(part)
}

/// Nobody can tell whether what was read is what counts.
pub(super) fn uncertain() -> KeyringError {
    Unshared("it is not certain that this is the store; see /readyz".into()).into()
}

/// For who only looks at a copy.
#[derive(Debug)]
pub(super) struct Nowhere;

impl SharedKeys for Nowhere {
    fn read(&self) -> Result<Kept, Unshared> {
        Err(Unshared("nobody asks".into()))
    }
    fn replace(&self, _: Option<&[u8]>, _: &[u8], _: bool) -> Result<bool, Unshared> {
        Err(Unshared("nobody asks".into()))
    }
}

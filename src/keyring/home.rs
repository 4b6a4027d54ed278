//! Where the keys live: in a directory, shared with other nodes, or in memory alone.
//!
//! The manifest is the commit point. A new key's file is on disk before the manifest names it; an old key's file goes
//! after the manifest has ceased to need it. So whatever a crash leaves, the manifest names one active key and every
//! key that it names is there; files that it does not name are leftovers, and the next load removes them.

use std::path::Path;

use zeroize::Zeroizing;

use super::{
    disk::{Dir, temp_of},
    error::KeyringError,
    manifest,
    pem::{self, PemError},
    ring::{KeyInfo, Ring},
    secret::Passphrase,
    secrets::{self, Stored},
    shared::{self, Shared, Whole},
    signing::ActiveKey,
};
use crate::{
    clock::Random,
    model::{Installation, Kid, Timestamp},
};

/// Lies there from before the first file is written until the first manifest stands. What lies beside it was never used.
const FIRST_START: &str = ".first-start";

/// A copy of what the store holds about clients, so that a store that was put back, or tampered with, cannot enable one.
const CLIENT_BOOK: &str = "clients.sealed";

#[derive(Debug)]
pub(super) enum Home {
    Memory,
    Disk(Disk),
    Shared(Box<Shared>),
}

#[derive(Debug)]
pub(super) struct Disk {
    dir: Dir,
    passphrase: Option<Passphrase>,
}

/// A directory that has served, and its manifest.
type Used = (Disk, Zeroizing<Vec<u8>>);

/// What a directory held.
pub(super) struct Loaded {
    pub(super) ring: Ring,
    /// The private halves of the published keys: the one that signs, those that stand by, those to go back to.
    pub(super) private: Vec<ActiveKey>,
    pub(super) secrets: Stored,
}

impl Home {
    /// Keeps a private key, durably. Nobody knows of it before [`Home::commit`].
    pub(super) fn keep(&self, key: &ActiveKey, random: &dyn Random) -> Result<(), KeyringError> {
        let Self::Disk(disk) = self else { return Ok(()) };
        disk.write_key(key, random)?;
        disk.dir.sync()
    }
    /// Makes this ring the one that counts. After an error the one before still does.
    pub(super) fn commit(&mut self, whole: &Whole<'_>, random: &dyn Random) -> Result<(), KeyringError> {
        match self {
            Self::Memory => Ok(()),
            Self::Disk(disk) => disk.dir.replace(manifest::NAME, &manifest::encode(whole.ring)),
            Self::Shared(shared) => shared.commit(whole, random),
        }
    }
    /// Makes these the secrets that count. After an error those before still do.
    pub(super) fn keep_secrets(&mut self, whole: &Whole<'_>, random: &dyn Random) -> Result<(), KeyringError> {
        match self {
            Self::Memory => Ok(()),
            Self::Disk(disk) => {
                disk.dir.replace(secrets::NAME, &whole.secrets.encode(disk.passphrase.as_ref(), random))
            }
            Self::Shared(shared) => shared.commit(whole, random),
        }
    }
    /// Whether another node's change came before the last one that was tried here.
    pub(super) fn was_overtaken(&self) -> bool {
        matches!(self, Self::Shared(shared) if shared.was_overtaken())
    }
    fn dir(&self) -> Option<&Dir> {
        match self {
            Self::Memory => None,
            Self::Disk(disk) => Some(&disk.dir),
            Self::Shared(shared) => Some(shared.dir()),
        }
    }
    /// What was committed survives a crash once this returns.
    pub(super) fn sync(&self) -> Result<(), KeyringError> {
        let Self::Disk(disk) = self else { return Ok(()) };
        disk.dir.sync()
    }
    /// The sealed book of clients as this node knew it last.
    pub(super) fn client_book(&self) -> Result<Option<Vec<u8>>, KeyringError> {
        let Some(dir) = self.dir() else { return Ok(None) };
        Ok(dir.read(CLIENT_BOOK)?.map(|bytes| bytes.to_vec()))
    }
    /// Keeps it, durably.
    pub(super) fn keep_client_book(&self, sealed: &[u8]) -> Result<(), KeyringError> {
        let Some(dir) = self.dir() else { return Ok(()) };
        dir.replace(CLIENT_BOOK, sealed)?;
        dir.sync()
    }
    /// Destroys a private key that the committed ring no longer needs.
    pub(super) fn forget(&self, kid: &Kid) -> Result<(), KeyringError> {
        let Self::Disk(disk) = self else { return Ok(()) };
        disk.dir.remove(&file_of(kid))
    }
}

impl Disk {
    pub(super) fn at(path: &Path, passphrase: Option<Passphrase>) -> Result<Self, KeyringError> {
        Ok(Self { dir: Dir::create(path)?, passphrase })
    }
    /// Whether all that a start reads is here and opens; false where a first start would make it. Changes nothing.
    pub(super) fn inspect(path: &Path, passphrase: Option<Passphrase>) -> Result<bool, KeyringError> {
        let Some((disk, json)) = Self::used(path, passphrase)? else { return Ok(false) };
        let ring = manifest::decode(&disk.dir.path_of(manifest::NAME), &json)?;
        for info in ring.keys().iter().filter(|k| k.is_published()) {
            disk.open_key(info)?;
        }
        disk.open_secrets().map(|_| true)
    }
    /// Whose keys are here; `None` where a first start would make them. Needs no passphrase, and changes nothing.
    pub(super) fn installation(path: &Path) -> Result<Option<Installation>, KeyringError> {
        let Some((disk, _)) = Self::used(path, None)? else { return Ok(None) };
        Stored::installation(&disk.dir.path_of(secrets::NAME), &disk.read_secrets_file()?).map(Some)
    }
    /// `None` where a first start would make them.
    fn used(path: &Path, passphrase: Option<Passphrase>) -> Result<Option<Used>, KeyringError> {
        let Some(dir) = Dir::existing(path)? else { return Ok(None) };
        let disk = Self { dir, passphrase };
        let Some(json) = disk.dir.read(manifest::NAME)? else { return disk.is_unused().map(|()| None) };
        disk.dir.check_owner_only()?;
        Ok(Some((disk, json)))
    }
    /// Whose keys of one node alone lie there, whatever lies beside them.
    pub(super) fn files_of(path: &Path) -> Result<Option<Installation>, KeyringError> {
        let Some(dir) = Dir::existing(path)? else { return Ok(None) };
        let Some(json) = dir.read(secrets::NAME)? else { return Ok(None) };
        Stored::installation(&dir.path_of(secrets::NAME), &json).map(Some)
    }
    /// Whether keys of one node alone lie there.
    pub(super) fn holds_files(path: &Path) -> Result<bool, KeyringError> {
        let Some(dir) = Dir::existing(path)? else { return Ok(false) };
        Ok(dir.names()?.iter().any(|n| is_key_file(n) || [manifest::NAME, secrets::NAME].contains(&&**n)))
    }
    /// What lies here, or `None` if nothing does yet.
    pub(super) fn load(&self, now: Timestamp, random: &dyn Random) -> Result<Option<Loaded>, KeyringError> {
        let Some(json) = self.dir.read(manifest::NAME)? else {
            return self.check_unused().map(|()| None);
        };
        self.dir.check_owner_only()?;
        let ring = manifest::decode(&self.dir.path_of(manifest::NAME), &json)?;
        let (private, secrets) = (self.read_keys(&ring, random)?, self.read_secrets(now, random)?);
        let loaded = Loaded { private, secrets, ring };
        self.remove_leftovers(&loaded.ring)?;
        Ok(Some(loaded))
    }
    /// The first files. The ring is committed with the last step: a crash before it leaves a first start to repeat.
    pub(super) fn begin(
        &self,
        ring: &Ring,
        keys: &[ActiveKey],
        secrets: &Stored,
        random: &dyn Random,
    ) -> Result<(), KeyringError> {
        self.dir.close_to_others()?;
        self.dir.replace(FIRST_START, b"")?;
        self.dir.sync()?;
        for key in keys {
            self.write_key(key, random)?;
        }
        self.dir.replace(secrets::NAME, &secrets.encode(self.passphrase.as_ref(), random))?;
        self.dir.sync()?;
        self.dir.replace(manifest::NAME, &manifest::encode(ring))?;
        self.dir.sync()?;
        self.dir.remove(FIRST_START)
    }
    /// Without a manifest, files of keys mean that it was lost, unless a first start was interrupted. New keys beside
    /// old ones would log everyone out, so a person decides.
    fn check_unused(&self) -> Result<(), KeyringError> {
        self.is_unused()?;
        self.remove_unnamed(|_| false)
    }
    fn is_unused(&self) -> Result<(), KeyringError> {
        let names = self.dir.names()?;
        if names.iter().any(|n| n == shared::NAME) {
            return Err(KeyringError::AreShared { dir: self.dir.path_of("") });
        }
        let used = names.iter().any(|n| is_key_file(n) || n == secrets::NAME);
        if !used || names.iter().any(|n| n == FIRST_START) {
            return Ok(());
        }
        let mend = "restore it from a backup; who empties the directory begins with new keys, which ends every session";
        Err(KeyringError::Missing { path: self.dir.path_of(manifest::NAME), mend })
    }
    fn read_keys(&self, ring: &Ring, random: &dyn Random) -> Result<Vec<ActiveKey>, KeyringError> {
        ring.keys().iter().filter(|k| k.is_published()).map(|info| self.read_key(info, random)).collect()
    }
    fn read_key(&self, info: &KeyInfo, random: &dyn Random) -> Result<ActiveKey, KeyringError> {
        let (key, encrypted) = self.open_key(info)?;
        // A passphrase given for the first time: from now on the key is under it.
        if self.passphrase.is_some() && !encrypted {
            self.write_key(&key, random)?;
        }
        Ok(key)
    }
    /// A key, and whether its file is encrypted.
    fn open_key(&self, info: &KeyInfo) -> Result<(ActiveKey, bool), KeyringError> {
        let name = file_of(&info.kid);
        let path = self.dir.path_of(&name);
        let mend = "restore it from a backup";
        let Some(bytes) = self.dir.read(&name)? else { return Err(KeyringError::Missing { path, mend }) };
        let read = match pem::decode(&bytes, self.passphrase.as_ref()) {
            Ok(read) => read,
            Err(PemError::NotAKey(what)) => return Err(KeyringError::garbled(path, what)),
            Err(PemError::Encrypted) => return Err(KeyringError::PassphraseNeeded { path }),
            Err(PemError::WrongPassphrase) => return Err(KeyringError::PassphraseWrong { path }),
        };
        let key = ActiveKey::new(&read.seed, info.algorithm);
        if *key.kid() != info.kid {
            return Err(KeyringError::garbled(path, "holds another key than its name says"));
        }
        Ok((key, read.encrypted))
    }
    /// Gives up all files of keys: what they hold lies in a copy of shared ones beside them.
    pub(super) fn give_up(&self) -> Result<(), KeyringError> {
        for name in [manifest::NAME, secrets::NAME, FIRST_START] {
            self.dir.remove(name)?;
        }
        self.remove_unnamed(|_| false)
    }
    fn write_key(&self, key: &ActiveKey, random: &dyn Random) -> Result<(), KeyringError> {
        let Some(seed) = key.seed() else { return Ok(()) };
        let pem = pem::encode(&seed, self.passphrase.as_ref(), random);
        self.dir.replace(&file_of(key.kid()), pem.as_bytes())
    }
    /// The secrets, and whether their file is encrypted.
    fn open_secrets(&self) -> Result<(Stored, bool), KeyringError> {
        Stored::decode(&self.dir.path_of(secrets::NAME), &self.read_secrets_file()?, self.passphrase.as_ref())
    }
    fn read_secrets_file(&self) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let mend = "restore it from a backup: without it no refresh token is known";
        let missing = || KeyringError::Missing { path: self.dir.path_of(secrets::NAME), mend };
        self.dir.read(secrets::NAME)?.ok_or_else(missing)
    }
    fn read_secrets(&self, now: Timestamp, random: &dyn Random) -> Result<Stored, KeyringError> {
        let (mut stored, encrypted) = self.open_secrets()?;
        let completed = stored.complete(now, random);
        // Written last of all, so that an encryption that broke off is told of as well.
        let newly_encrypted = self.passphrase.is_some() && !encrypted;
        if completed || newly_encrypted {
            self.dir.replace(secrets::NAME, &stored.encode(self.passphrase.as_ref(), random))?;
        }
        if newly_encrypted {
            tracing::info!(
                "the files of the keys lay open; they are encrypted under the passphrase now, copies are not"
            );
        }
        Ok(stored)
    }
    fn remove_leftovers(&self, ring: &Ring) -> Result<(), KeyringError> {
        let needed: Vec<String> = ring.keys().iter().filter(|k| k.state.is_kept()).map(|k| file_of(&k.kid)).collect();
        self.dir.remove(FIRST_START)?;
        self.remove_unnamed(|name| needed.iter().any(|n| n == name))
    }
    /// Removes files of keys, and what interrupted writes left. Other people's files stay.
    fn remove_unnamed(&self, needed: impl Fn(&str) -> bool) -> Result<(), KeyringError> {
        for name in self.dir.names()? {
            let file = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp"));
            let half = file.is_some_and(|f| is_ours(f) && name == temp_of(f));
            if half || (is_key_file(&name) && !needed(&name)) {
                self.dir.remove(&name)?;
            }
        }
        self.dir.sync()
    }
}

fn file_of(kid: &Kid) -> String {
    format!("{kid}.pem")
}

/// A thumbprint has 43 characters of base64url; a `tls.pem` that someone put here is not ours.
fn is_key_file(name: &str) -> bool {
    let stem = name.strip_suffix(".pem");
    stem.is_some_and(|s| s.len() == 43 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
}

fn is_ours(name: &str) -> bool {
    is_key_file(name) || [manifest::NAME, secrets::NAME, shared::NAME, FIRST_START, CLIENT_BOOK].contains(&name)
}

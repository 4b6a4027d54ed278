//! `secrets.json`: the symmetric secrets. Without a passphrase each is base64url; with one each is sealed
//! (XChaCha20-Poly1305) under a key that scrypt makes of it, bound to its use and id so that none can stand in for
//! another.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{
    audit_key::AuditKey,
    derivation::{DerivationKey, SubjectRefKey},
    error::KeyringError,
    exposure::SecretKind,
    feed_key::FeedKey,
    manifest::Instant,
    pem::affordable_scrypt,
    renewal::Renewal,
    sealer::{Sealer, open, seal},
    secret::{Passphrase, SecretBytes},
};
use crate::{
    clock::{Random, random_bytes},
    model::{Installation, Timestamp},
};

pub(super) const NAME: &str = "secrets.json";
const VERSION: u32 = 2;
/// Before secrets could be replaced.
const BEFORE: u32 = 1;

/// The secrets in use.
#[derive(Debug)]
pub(super) struct Secrets {
    /// Newest last; never empty.
    pub(super) derivation: Vec<Arc<DerivationKey>>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) subject_refs: Arc<SubjectRefKey>,
    pub(super) installation: Installation,
    /// Newest last; never empty.
    pub(super) feed: Vec<Arc<FeedKey>>,
    /// One for each of the feed's, in the same order.
    pub(super) audit: Vec<Arc<AuditKey>>,
    /// What was made up to then, under keys that are not here, is over.
    pub(super) forgotten_until: Option<Timestamp>,
}

/// The secrets as they are kept. A change is made to a copy, which counts once it is on disk.
#[derive(Clone)]
pub(super) struct Stored {
    /// Of each list the newest is last, and in use; the others open and verify what they made.
    derivation: Vec<Named>,
    sealing: Vec<Named>,
    feed: Vec<Named>,
    subject_ref: Named,
    /// What was made up to then, under keys that are not here, is over.
    pub(super) forgotten_until: Option<Timestamp>,
    /// Sealing keys that are gone, the last of them: what is sealed under one is over. Under a key that is neither here nor
    /// among these somebody sealed who knows more than we do.
    destroyed: Vec<u32>,
}

/// How many of those are remembered.
const MAX_DESTROYED: usize = 1024;

#[derive(Clone)]
pub(super) struct Named {
    pub(super) id: u32,
    key: Arc<SecretBytes>,
    /// None: before this was written down.
    pub(super) created: Option<Timestamp>,
    /// When a newer one took its place; no session was opened under it later, whatever clocks have done.
    pub(super) superseded: Option<Timestamp>,
    /// Somebody else may have it.
    pub(super) given_up: bool,
    /// What the rest of has not been done yet. Not kept: a start makes it an order like any other.
    pub(super) made_for: Option<Renewal>,
}

impl Named {
    fn generate(now: Timestamp, random: &dyn Random) -> Self {
        // Zero stays free to mean "none" in records.
        let id = u32::from_be_bytes(random_bytes(random)).max(1);
        let key = Arc::new(SecretBytes::generate(random));
        Self { id, key, created: Some(now), superseded: None, given_up: false, made_for: None }
    }
    /// As the feed's.
    pub(super) fn feed_key(&self) -> FeedKey {
        FeedKey::new(&self.key)
    }
    /// As the audit log's.
    pub(super) fn audit_key(&self) -> AuditKey {
        AuditKey::new(&self.key)
    }
    /// A key that somebody else may have is good only for sessions that were opened before it was replaced.
    fn serves_until(&self) -> Option<Timestamp> {
        self.given_up.then(|| self.superseded.unwrap_or_default().plus(IN_FLIGHT))
    }
}

/// What was begun under a key that has just been replaced is over by then.
pub(super) const IN_FLIGHT: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    encryption: Option<Scrypt>,
    derivation: Vec<Row>,
    sealing: Vec<Row>,
    subject_ref: Row,
    /// Not in files from before there was a feed.
    #[serde(default)]
    feed: Vec<Row>,
    #[serde(default)]
    forgotten_until: Option<Instant>,
    #[serde(default)]
    destroyed: Vec<u32>,
}

impl File {
    fn read(json: &[u8]) -> Result<Self, String> {
        // Only the place of the defect is told: the message itself could quote a secret.
        let place = |e: serde_json::Error| format!("not a file of secrets (line {}, column {})", e.line(), e.column());
        let file: Self = serde_json::from_slice(json).map_err(place)?;
        if [VERSION, BEFORE].contains(&file.version) {
            return Ok(file);
        }
        Err(format!("version {} is not {VERSION}, the one this program knows", file.version))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scrypt {
    kdf: ScryptName,
    log_n: u8,
    r: u32,
    p: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScryptName {
    Scrypt,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: u32,
    key: String,
    #[serde(default)]
    created: Option<Instant>,
    #[serde(default)]
    superseded: Option<Instant>,
    #[serde(default)]
    given_up: bool,
}

impl Drop for Row {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// Why a file of secrets cannot be used, before it is known which file it was.
#[derive(Debug)]
enum Refusal {
    Garbled(String),
    PassphraseNeeded,
    PassphraseWrong,
}

impl Stored {
    pub(super) fn generate(now: Timestamp, random: &dyn Random) -> Self {
        Self {
            derivation: vec![Named::generate(now, random)],
            sealing: vec![Named::generate(now, random)],
            subject_ref: Named::generate(now, random),
            feed: vec![Named::generate(now, random)],
            forgotten_until: None,
            destroyed: Vec::new(),
        }
    }
    /// Generates what a file from an earlier version lacks. Says whether it did.
    pub(super) fn complete(&mut self, now: Timestamp, random: &dyn Random) -> bool {
        let lacks = self.feed.is_empty();
        if lacks {
            self.feed.push(Named::generate(now, random));
        }
        lacks
    }
    /// Newest last.
    pub(super) fn of(&self, kind: SecretKind) -> &[Named] {
        match kind {
            SecretKind::Feed => &self.feed,
            SecretKind::Derivation => &self.derivation,
            SecretKind::Sealing => &self.sealing,
        }
    }
    pub(super) fn of_mut(&mut self, kind: SecretKind) -> &mut Vec<Named> {
        match kind {
            SecretKind::Feed => &mut self.feed,
            SecretKind::Derivation => &mut self.derivation,
            SecretKind::Sealing => &mut self.sealing,
        }
    }
    /// A new one takes the place of the one in use, under which no session was opened later than `latest`.
    pub(super) fn renew(
        &mut self,
        kind: SecretKind,
        now: Timestamp,
        latest: Timestamp,
        what_for: Renewal,
        random: &dyn Random,
    ) {
        let (list, destroyed) = match kind {
            SecretKind::Sealing => (&mut self.sealing, &self.destroyed[..]),
            _ => (self.of_mut(kind), &[][..]),
        };
        let made = loop {
            let made = Named { made_for: Some(what_for), ..Named::generate(now, random) };
            if list.iter().all(|n| n.id != made.id) && !destroyed.contains(&made.id) {
                break made;
            }
        };
        list.last_mut().expect("no list is empty").superseded = Some(now.max(latest));
        list.push(made);
    }
    /// All that an order was to do has been done.
    pub(super) fn settle(&mut self, kind: SecretKind) {
        self.of_mut(kind).iter_mut().for_each(|named| named.made_for = None);
    }
    /// The first `many` go.
    pub(super) fn drop_oldest(&mut self, kind: SecretKind, many: usize) -> Vec<Named> {
        let gone: Vec<_> = self.of_mut(kind).drain(..many).collect();
        if kind == SecretKind::Sealing {
            self.destroyed.extend(gone.iter().map(|named| named.id));
            self.destroyed.drain(..self.destroyed.len().saturating_sub(MAX_DESTROYED));
        }
        gone
    }
    /// Whose they are.
    pub(super) fn installation_name(&self) -> Installation {
        Installation(self.subject_ref.id)
    }
    pub(super) fn secrets(&self) -> Secrets {
        let sealing = self.sealing.iter().map(|n| (n.id, &*n.key, n.serves_until()));
        Secrets {
            derivation: self
                .derivation
                .iter()
                .map(|n| Arc::new(DerivationKey::new(n.id, &n.key, n.serves_until())))
                .collect(),
            sealer: Arc::new(Sealer::new(sealing, self.destroyed.clone())),
            subject_refs: Arc::new(SubjectRefKey::new(&self.subject_ref.key)),
            installation: self.installation_name(),
            feed: self.feed.iter().map(|n| Arc::new(n.feed_key())).collect(),
            audit: self.feed.iter().map(|n| Arc::new(n.audit_key())).collect(),
            forgotten_until: self.forgotten_until,
        }
    }
    pub(super) fn encode(&self, passphrase: Option<&Passphrase>, random: &dyn Random) -> Zeroizing<Vec<u8>> {
        let encryption = passphrase.map(|_| Scrypt::recommended(random));
        let wrap = encryption.as_ref().zip(passphrase);
        let wrap = wrap.map(|(scrypt, p)| scrypt.key(p).expect("the recommended cost is affordable"));
        let row = |usage, n: &Named| Row {
            id: n.id,
            key: wrapped(wrap.as_ref(), usage, n, random),
            created: n.created.map(Instant),
            superseded: n.superseded.map(Instant),
            given_up: n.given_up,
        };
        let file = File {
            version: VERSION,
            derivation: self.derivation.iter().map(|n| row(DERIVATION, n)).collect(),
            sealing: self.sealing.iter().map(|n| row(SEALING, n)).collect(),
            subject_ref: row(SUBJECT_REF, &self.subject_ref),
            feed: self.feed.iter().map(|n| row(FEED, n)).collect(),
            forgotten_until: self.forgotten_until.map(Instant),
            destroyed: self.destroyed.clone(),
            encryption,
        };
        // Reserved in one piece: a vector that grows leaves copies of its content behind.
        let rows = file.derivation.len() + file.sealing.len() + file.feed.len();
        let mut json = Zeroizing::new(Vec::with_capacity(1024 + 384 * rows + 16 * file.destroyed.len()));
        serde_json::to_writer_pretty(&mut *json, &file).expect("strings and numbers serialise");
        json.push(b'\n');
        json
    }
    /// The secrets, and whether they were encrypted.
    pub(super) fn decode(
        path: &Path,
        json: &[u8],
        passphrase: Option<&Passphrase>,
    ) -> Result<(Self, bool), KeyringError> {
        Self::parse(json, passphrase).map_err(|refusal| {
            let path = path.to_owned();
            match refusal {
                Refusal::Garbled(what) => KeyringError::Garbled { path, what },
                Refusal::PassphraseNeeded => KeyringError::PassphraseNeeded { path },
                Refusal::PassphraseWrong => KeyringError::PassphraseWrong { path },
            }
        })
    }
    /// Whose secrets a file holds, which it tells without the passphrase. The key of subject references names them: it is
    /// the one that is never replaced, because every record and every cut-off of a subject stands under it.
    pub(super) fn installation(path: &Path, json: &[u8]) -> Result<Installation, KeyringError> {
        let file = File::read(json).map_err(|what| KeyringError::garbled(path.to_owned(), what))?;
        Ok(Installation(file.subject_ref.id))
    }
    fn parse(json: &[u8], passphrase: Option<&Passphrase>) -> Result<(Self, bool), Refusal> {
        let file = File::read(json).map_err(Refusal::Garbled)?;
        let wrap = match &file.encryption {
            Some(scrypt) => Some(scrypt.key(passphrase.ok_or(Refusal::PassphraseNeeded)?)?),
            None => None,
        };
        let rows = |usage, rows: &[Row]| -> Result<Vec<Named>, Refusal> {
            rows.iter().map(|r| unwrapped(wrap.as_ref(), usage, r)).collect()
        };
        let stored = Self {
            derivation: rows(DERIVATION, &file.derivation)?,
            sealing: rows(SEALING, &file.sealing)?,
            subject_ref: unwrapped(wrap.as_ref(), SUBJECT_REF, &file.subject_ref)?,
            feed: rows(FEED, &file.feed)?,
            forgotten_until: file.forgotten_until.as_ref().map(|t| t.0),
            destroyed: file.destroyed.clone(),
        };
        let feed_sound = stored.feed.is_empty() || well_named(&stored.feed);
        if !feed_sound || ![&stored.derivation, &stored.sealing].into_iter().all(|list| well_named(list)) {
            return Err(Refusal::Garbled(
                "a list of keys is empty or ends with one given up, or an id is zero or there twice".into(),
            ));
        }
        Ok((stored, wrap.is_some()))
    }
}

fn well_named(list: &[Named]) -> bool {
    let ids: HashSet<u32> = list.iter().map(|n| n.id).filter(|id| *id != 0).collect();
    list.last().is_some_and(|newest| !newest.given_up) && ids.len() == list.len()
}

impl Scrypt {
    /// 32 MiB and about a tenth of a second (RFC 7914 §2), once per start.
    fn recommended(random: &dyn Random) -> Self {
        let salt = BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<16>(random));
        Self { kdf: ScryptName::Scrypt, log_n: 15, r: 8, p: 1, salt }
    }
    fn key(&self, passphrase: &Passphrase) -> Result<XChaCha20Poly1305, Refusal> {
        let bad = || Refusal::Garbled("its scrypt parameters are out of range".into());
        let n = 1_u64.checked_shl(self.log_n.into()).ok_or_else(bad)?;
        if !affordable_scrypt(n, self.r.into(), self.p.into()) {
            return Err(bad());
        }
        let cost = scrypt::Params::new(self.log_n, self.r, self.p).map_err(|_| bad())?;
        let salt = BASE64_URL_SAFE_NO_PAD.decode(&self.salt).map_err(|_| bad())?;
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(passphrase.expose(), &salt, &cost, &mut *key).map_err(|_| bad())?;
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }
}

const DERIVATION: &str = SecretKind::Derivation.name();
const SEALING: &str = SecretKind::Sealing.name();
const SUBJECT_REF: &str = "subject_ref";
const FEED: &str = SecretKind::Feed.name();

fn bound_to(usage: &str, id: u32) -> Vec<u8> {
    [usage.as_bytes(), &id.to_be_bytes()].concat()
}

fn wrapped(wrap: Option<&XChaCha20Poly1305>, usage: &str, named: &Named, random: &dyn Random) -> String {
    let Some(wrap) = wrap else { return BASE64_URL_SAFE_NO_PAD.encode(named.key.expose()) };
    let nonce: [u8; 24] = random_bytes(random);
    let sealed = seal(wrap, &nonce, &bound_to(usage, named.id), named.key.expose());
    BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
}

fn unwrapped(wrap: Option<&XChaCha20Poly1305>, usage: &str, row: &Row) -> Result<Named, Refusal> {
    let bad = || Refusal::Garbled(format!("{usage} key {} is not a key", row.id));
    let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(&row.key).map_err(|_| bad())?);
    let plain = match wrap {
        None => bytes,
        Some(wrap) => {
            let (nonce, body) = bytes.split_first_chunk::<24>().ok_or_else(bad)?;
            let opened = open(wrap, nonce, &bound_to(usage, row.id), body);
            Zeroizing::new(opened.ok_or(Refusal::PassphraseWrong)?)
        }
    };
    let key: [u8; 32] = plain[..].try_into().map_err(|_| bad())?;
    let instant = |t: &Option<Instant>| t.as_ref().map(|t| t.0);
    let (created, superseded) = (instant(&row.created), instant(&row.superseded));
    let key = Arc::new(SecretBytes::new(key));
    Ok(Named { id: row.id, key, created, superseded, given_up: row.given_up, made_for: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandom;

    fn parse(json: &[u8], passphrase: Option<&Passphrase>) -> Result<(Stored, bool), KeyringError> {
        Stored::decode(Path::new("keys/secrets.json"), json, passphrase)
    }

    #[test]
    fn sealed_secrets_cannot_stand_in_for_each_other() {
        let passphrase = Passphrase::new("correct horse".into()).unwrap();
        let json = Stored::generate(Timestamp::from_seconds(1_800_000_000), &SystemRandom)
            .encode(Some(&passphrase), &SystemRandom);
        let (_, encrypted) = parse(&json, Some(&passphrase)).unwrap();
        assert!(encrypted);
        let mut file: File = serde_json::from_slice(&json).unwrap();
        std::mem::swap(&mut file.derivation[0], &mut file.sealing[0]);
        let swapped = serde_json::to_vec(&file).unwrap();
        assert!(matches!(parse(&swapped, Some(&passphrase)), Err(KeyringError::PassphraseWrong { .. })));
    }

    #[test]
    fn a_plain_secret_is_not_in_an_encrypted_file() {
        let passphrase = Passphrase::new("correct horse".into()).unwrap();
        let stored = Stored::generate(Timestamp::from_seconds(1_800_000_000), &SystemRandom);
        let secret = BASE64_URL_SAFE_NO_PAD.encode(stored.derivation[0].key.expose());
        let holds = |json: &[u8]| String::from_utf8_lossy(json).contains(&secret);
        assert!(holds(&stored.encode(None, &SystemRandom)), "the search finds one");
        assert!(!holds(&stored.encode(Some(&passphrase), &SystemRandom)));
    }

    #[test]
    fn cut_and_altered_files_are_errors_that_quote_nothing() {
        let json = Stored::generate(Timestamp::from_seconds(1_800_000_000), &SystemRandom).encode(None, &SystemRandom);
        for len in 0..json.len() - 2 {
            let refused = parse(&json[..len], None).err().unwrap().to_string();
            assert!(refused.contains("keys/secrets.json") && refused.contains("backup"), "{refused}");
        }
        let file: File = serde_json::from_slice(&json).unwrap();
        let secret = &file.sealing[0].key;
        let text = String::from_utf8(json.to_vec()).unwrap();
        let misplaced = text.replacen("\"version\"", &format!("\"{secret}\""), 1);
        assert!(!parse(misplaced.as_bytes(), None).err().unwrap().to_string().contains(&secret[..8]));
    }

    #[test]
    fn a_cost_beyond_reason_is_refused() {
        let passphrase = Passphrase::new("p".into()).unwrap();
        let json = Stored::generate(Timestamp::from_seconds(1_800_000_000), &SystemRandom)
            .encode(Some(&passphrase), &SystemRandom);
        let text = String::from_utf8(json.to_vec()).unwrap();
        for log_n in ["0", "40", "63", "64", "255"] {
            let bad = text.replace("\"log_n\": 15", &format!("\"log_n\": {log_n}"));
            assert_ne!(bad, text);
            assert!(parse(bad.as_bytes(), Some(&passphrase)).is_err(), "{log_n}");
        }
    }
}

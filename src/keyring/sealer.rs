//! Seals the immutable part of a family's record, so that who can write the store cannot change whose session it is.

use std::fmt;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use super::secret::SecretBytes;
use crate::{
    clock::{Random, random_bytes},
    model::Timestamp,
};

const ID: usize = 4;
const NONCE: usize = 24;

/// Why a sealed record does not open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// This node has not got the key: it cannot tell what the record says.
    #[error("sealed under key {0:08x}, which this node has not got")]
    UnknownKey(u32),
    /// Sealed under a key that somebody else may have had by then.
    #[error("sealed under key {0:08x}, which has been given up")]
    GivenUp(u32),
    /// Sealed under a key that has been destroyed on purpose: what it says is over.
    #[error("sealed under key {0:08x}, which has been destroyed")]
    Destroyed(u32),
    /// Cut short, altered, or moved here from elsewhere.
    #[error("the sealed record has been altered")]
    Altered,
}

/// XChaCha20-Poly1305 under the newest key; opens what any of its keys sealed.
pub struct Sealer {
    /// Newest last; never empty.
    keys: Vec<Key>,
    /// The names of keys that are gone on purpose.
    destroyed: Vec<u32>,
}

struct Key {
    id: u32,
    cipher: XChaCha20Poly1305,
    /// Of one that somebody else may have: it opens what belongs to something older, and nothing else.
    until: Option<Timestamp>,
}

impl Sealer {
    pub(super) fn new<'a>(
        keys: impl IntoIterator<Item = (u32, &'a SecretBytes, Option<Timestamp>)>,
        destroyed: Vec<u32>,
    ) -> Self {
        let key = |(id, key, until): (u32, &SecretBytes, _)| Key {
            id,
            cipher: XChaCha20Poly1305::new(key.expose().into()),
            until,
        };
        Self { keys: keys.into_iter().map(key).collect(), destroyed }
    }
    /// Key id, nonce, ciphertext. `aad` says what the record belongs to; it opens nowhere else.
    #[must_use]
    pub fn seal(&self, aad: &[u8], plain: &[u8], random: &dyn Random) -> Vec<u8> {
        let Key { id, cipher, .. } = self.keys.last().expect("secrets are refused at load without a sealing key");
        let nonce: [u8; NONCE] = random_bytes(random);
        [&id.to_be_bytes()[..], &nonce, &seal(cipher, &nonce, aad, plain)].concat()
    }
    /// What was sealed with the same `aad`, under a key that nobody else has.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.open_if(aad, sealed, |_| false)
    }
    /// As [`Sealer::open`], for what belongs to something of that instant, which `aad` names: older than a key's being
    /// given up, it opens under that key as well.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open_of(&self, at: Timestamp, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.open_if(aad, sealed, |until| at <= until)
    }
    fn open_if(&self, aad: &[u8], sealed: &[u8], old: impl Fn(Timestamp) -> bool) -> Result<Vec<u8>, SealError> {
        let (id, rest) = sealed.split_first_chunk::<ID>().ok_or(SealError::Altered)?;
        let id = u32::from_be_bytes(*id);
        let Some(key) = self.keys.iter().find(|key| key.id == id) else {
            let destroyed = self.destroyed.contains(&id);
            return Err(if destroyed { SealError::Destroyed(id) } else { SealError::UnknownKey(id) });
        };
        if key.until.is_some_and(|until| !old(until)) {
            return Err(SealError::GivenUp(id));
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Altered)?;
        open(&key.cipher, nonce, aad, body).ok_or(SealError::Altered)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({:?})", self.keys.iter().map(|key| key.id).collect::<Vec<_>>())
    }
}

pub(super) fn seal(key: &XChaCha20Poly1305, nonce: &[u8; NONCE], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let sealed = key.encrypt(&XNonce::from(*nonce), Payload { msg: plain, aad });
    sealed.expect("a record is far shorter than the 256 GiB of RFC 8439 §2.8")
}

pub(super) fn open(key: &XChaCha20Poly1305, nonce: &[u8; NONCE], aad: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    key.decrypt(&XNonce::from(*nonce), Payload { msg: body, aad }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandom;

    fn sealer(keys: &[(u32, u8)]) -> Sealer {
        let keys: Vec<_> = keys.iter().map(|(id, byte)| (*id, SecretBytes::new([*byte; 32]))).collect();
        Sealer::new(keys.iter().map(|(id, key)| (*id, key, None)), Vec::new())
    }

    #[test]
    fn a_key_given_up_opens_what_is_older_and_nothing_else() {
        let (old, new, at) = (SecretBytes::new([1; 32]), SecretBytes::new([2; 32]), Timestamp::from_millis);
        let sealed = Sealer::new([(5, &old, None)], Vec::new()).seal(b"a", b"alice", &SystemRandom);
        let after = Sealer::new([(5, &old, Some(at(7))), (6, &new, None)], Vec::new());
        assert_eq!(after.open(b"a", &sealed), Err(SealError::GivenUp(5)));
        assert_eq!(after.open_of(at(7), b"a", &sealed), Ok(b"alice".to_vec()));
        assert_eq!(after.open_of(at(8), b"a", &sealed), Err(SealError::GivenUp(5)));
        let gone = Sealer::new([(6, &new, None)], vec![5]);
        assert_eq!(gone.open_of(at(7), b"a", &sealed), Err(SealError::Destroyed(5)));
        let fresh = after.seal(b"a", b"alice", &SystemRandom);
        assert_eq!(after.open(b"a", &fresh), after.open_of(at(8), b"a", &fresh));
    }

    #[test]
    fn opens_only_where_it_was_sealed() {
        let s = sealer(&[(5, 1)]);
        let sealed = s.seal(b"family one", b"alice", &SystemRandom);
        assert_eq!(s.open(b"family one", &sealed), Ok(b"alice".to_vec()));
        assert_eq!(s.open(b"family two", &sealed), Err(SealError::Altered));
        assert_ne!(sealed, s.seal(b"family one", b"alice", &SystemRandom), "a nonce is used once");
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let s = sealer(&[(5, 1)]);
        let sealed = s.seal(b"", b"alice", &SystemRandom);
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(s.open(b"", &bad).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(s.open(b"", &sealed[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn an_older_key_still_opens_and_a_foreign_one_is_told_apart() {
        let old = sealer(&[(5, 1)]).seal(b"a", b"alice", &SystemRandom);
        let both = sealer(&[(5, 1), (6, 2)]);
        assert_eq!(both.open(b"a", &old), Ok(b"alice".to_vec()));
        let new = both.seal(b"a", b"alice", &SystemRandom);
        assert_eq!(sealer(&[(5, 1)]).open(b"a", &new), Err(SealError::UnknownKey(6)));
    }
}

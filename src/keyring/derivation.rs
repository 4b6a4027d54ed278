//! What refresh tokens are made of: keys that only this service holds, mixed with nonces that only the store holds.
//! Whoever has one of the two has nothing.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::secret::SecretBytes;
use crate::model::{SessionId, Subject, SubjectRef, Timestamp};

type HmacSha256 = Hmac<Sha256>;

/// Derives the secrets and tags of refresh tokens. A family keeps its derivation key for life.
///
/// Two independent subkeys (RFC 5869): what is learnt about tags, which anyone may submit, says nothing about secrets.
pub struct DerivationKey {
    id: u32,
    secret: HmacSha256,
    tag: HmacSha256,
    /// Of one that somebody else may have: it makes tokens of what is older, and of nothing else.
    until: Option<Timestamp>,
}

impl DerivationKey {
    pub(super) fn new(id: u32, key: &SecretBytes, until: Option<Timestamp>) -> Self {
        let subkey = |label: &[u8]| {
            let mut out = zeroize::Zeroizing::new([0; 32]);
            let hkdf = Hkdf::<Sha256>::new(None, key.expose());
            hkdf.expand(label, &mut *out).expect("32 bytes are within the 8160 of RFC 5869 §2.3");
            keyed(&out)
        };
        Self { id, secret: subkey(b"rescind/refresh/secret/1"), tag: subkey(b"rescind/refresh/tag/1"), until }
    }
    /// Its name in the records of the families opened under it; never zero.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
    /// Whether it is the key of sessions that were opened then. One that was given up is not that of later ones, whatever
    /// their records say.
    #[must_use]
    pub fn serves(&self, opened: Timestamp) -> bool {
        self.until.is_none_or(|until| opened <= until)
    }
    /// The secret of one generation: the same bytes whenever it is asked for, so that nothing need be stored.
    #[must_use]
    pub fn secret(&self, session: SessionId, generation: u32, nonce: &[u8; 16]) -> [u8; 32] {
        let mut mac = self.secret.clone();
        // Every part has a fixed length, so no two inputs share a byte string.
        mac.update(session.as_bytes());
        mac.update(&generation.to_be_bytes());
        mac.update(nonce);
        mac.finalize().into_bytes().into()
    }
    /// The short tag that lets a forgery be refused without asking the store.
    #[must_use]
    pub fn tag(&self, bytes: &[u8]) -> [u8; 8] {
        truncated(&self.tag, bytes)
    }
    /// Whether `presented` is that generation's secret. In constant time.
    #[must_use]
    pub fn is_secret(&self, session: SessionId, generation: u32, nonce: &[u8; 16], presented: &[u8; 32]) -> bool {
        self.secret(session, generation, nonce).ct_eq(presented).into()
    }
    /// Whether `presented` is the tag of `bytes`. In constant time.
    #[must_use]
    pub fn is_tag(&self, bytes: &[u8], presented: &[u8; 8]) -> bool {
        self.tag(bytes).ct_eq(presented).into()
    }
}

impl fmt::Debug for DerivationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DerivationKey({})", self.id)
    }
}

/// Turns subjects into the references that stand for them in tokens and in the feed.
pub struct SubjectRefKey(HmacSha256);

impl SubjectRefKey {
    pub(super) fn new(key: &SecretBytes) -> Self {
        Self(keyed(key.expose()))
    }
    /// The reference of `subject`: always the same under this key, not to be guessed without it.
    #[must_use]
    pub fn refer(&self, subject: &Subject) -> SubjectRef {
        SubjectRef(truncated(&self.0, subject.as_str().as_bytes()))
    }
}

impl fmt::Debug for SubjectRefKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectRefKey")
    }
}

fn keyed(key: &[u8; 32]) -> HmacSha256 {
    HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104 §2)")
}

fn truncated<const N: usize>(keyed: &HmacSha256, bytes: &[u8]) -> [u8; N] {
    let mut mac = keyed.clone();
    mac.update(bytes);
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    *full.first_chunk().expect("N is 8 or 16, and a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32, byte: u8) -> DerivationKey {
        DerivationKey::new(id, &SecretBytes::new([byte; 32]), None)
    }

    #[test]
    fn a_secret_depends_on_each_of_its_parts() {
        let (a, b) =
            (SessionId::new(Timestamp::from_millis(1), &[1; 10]), SessionId::new(Timestamp::from_millis(1), &[2; 10]));
        let base = key(1, 7).secret(a, 1, &[0; 16]);
        assert_eq!(base, key(2, 7).secret(a, 1, &[0; 16]), "derived again, it is the same");
        for other in [
            key(1, 8).secret(a, 1, &[0; 16]),
            key(1, 7).secret(b, 1, &[0; 16]),
            key(1, 7).secret(a, 2, &[0; 16]),
            key(1, 7).secret(a, 1, &[1; 16]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn one_changed_bit_is_noticed() {
        let (k, sid) = (key(1, 7), SessionId::new(Timestamp::from_millis(1), &[1; 10]));
        let (secret, tag) = (k.secret(sid, 3, &[9; 16]), k.tag(b"body"));
        assert!(k.is_secret(sid, 3, &[9; 16], &secret) && k.is_tag(b"body", &tag));
        for bit in 0..256 {
            let mut bad = secret;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!k.is_secret(sid, 3, &[9; 16], &bad));
        }
        for bit in 0..64 {
            let mut bad = tag;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!k.is_tag(b"body", &bad));
        }
    }

    #[test]
    fn tags_say_nothing_about_secrets() {
        let (k, sid) = (key(1, 7), SessionId::new(Timestamp::from_millis(1), &[1; 10]));
        let input = [&sid.as_bytes()[..], &3_u32.to_be_bytes(), &[9; 16]].concat();
        assert_ne!(k.tag(&input), k.secret(sid, 3, &[9; 16])[..8]);
    }

    #[test]
    fn references_differ_by_subject_and_by_key() {
        let refer =
            |byte, subject: &str| SubjectRefKey::new(&SecretBytes::new([byte; 32])).refer(&subject.parse().unwrap());
        assert_eq!(refer(1, "alice"), refer(1, "alice"));
        assert_ne!(refer(1, "alice"), refer(1, "bob"));
        assert_ne!(refer(1, "alice"), refer(2, "alice"));
    }
}

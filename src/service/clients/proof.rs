//! How clients prove themselves: by which ways they can, and by what a caller did.

use super::{CertificateHash, SecretHash, Standing};
use crate::model::{PublicKey, Timestamp};

/// A way to prove oneself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// A secret (RFC 6749 §2.3.1).
    Secret,
    /// A signed assertion (RFC 7523 §2.2).
    Key,
    /// A certificate (RFC 8705 §2.2).
    Certificate,
}

impl Method {
    /// As operators read it; the last two by the names of RFC 7523 and RFC 8705.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Key => "private_key_jwt",
            Self::Certificate => "self_signed_tls_client_auth",
        }
    }
}

/// What a caller was let in by. It may be taken away before its request is carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// Its name, which proves nothing (RFC 6749 §2.1).
    Name,
    /// This secret.
    Secret(SecretHash),
    /// An assertion that this key signed.
    Key(PublicKey),
    /// This certificate.
    Certificate(CertificateHash),
}

impl Standing {
    /// By which ways it can prove itself; by none if it is public, and then its name is enough. One whose secrets have
    /// all been dropped has not become public by that: it goes by a secret that it has yet to be given.
    pub(crate) fn methods(&self, now: Timestamp) -> Vec<Method> {
        let ways = [
            (Method::Secret, self.live(now).next().is_some()),
            (Method::Key, !self.client.keys.is_empty()),
            (Method::Certificate, !self.client.certificates.is_empty()),
        ];
        let mut methods: Vec<Method> = ways.into_iter().filter(|(_, has)| *has).map(|(method, _)| method).collect();
        if methods.is_empty() && self.had_secret {
            methods.push(Method::Secret);
        }
        methods
    }

    pub(crate) fn is_public(&self, now: Timestamp) -> bool {
        self.methods(now).is_empty()
    }

    /// Whether whoever comes with this would be let in now.
    pub(super) fn takes(&self, proof: &Proof, now: Timestamp) -> bool {
        self.is_enabled()
            && match proof {
                Proof::Name => self.is_public(now),
                Proof::Secret(hash) => self.live(now).any(|live| live.hash == *hash),
                Proof::Key(key) => self.client.keys.iter().any(|jwk| jwk.key == *key),
                Proof::Certificate(hash) => self.client.certificates.contains(hash),
            }
    }
}

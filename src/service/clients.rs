//! Clients: who they are, how they prove it, and what they may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::model::{Audience, ClientId, Scope};

/// Something that a client may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Permission {
    /// Open sessions.
    SessionsOpen,
    /// Look at sessions.
    SessionsRead,
    /// Change what a session's next tokens say.
    SessionsAmend,
    /// End sessions.
    SessionsRevoke,
    /// Deny tokens, subjects, clients, keys, everything; read the denylist.
    Revoke,
    /// Introspect tokens (RFC 7662).
    Introspect,
    /// Fetch tokens of its own (RFC 6749 §4.4).
    ClientCredentials,
    /// Look at the signing keys.
    KeysRead,
    /// Rotate the signing keys.
    KeysRotate,
    /// Read the audit log.
    AuditRead,
    /// Fetch a backup of the store.
    Backup,
    /// Say what the store has come back as.
    StoreRestore,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::SessionsOpen,
        Self::SessionsRead,
        Self::SessionsAmend,
        Self::SessionsRevoke,
        Self::Revoke,
        Self::Introspect,
        Self::ClientCredentials,
        Self::KeysRead,
        Self::KeysRotate,
        Self::AuditRead,
        Self::Backup,
        Self::StoreRestore,
    ];

    /// Its name in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionsOpen => "sessions:open",
            Self::SessionsRead => "sessions:read",
            Self::SessionsAmend => "sessions:amend",
            Self::SessionsRevoke => "sessions:revoke",
            Self::Revoke => "revoke",
            Self::Introspect => "introspect",
            Self::ClientCredentials => "client_credentials",
            Self::KeysRead => "keys:read",
            Self::KeysRotate => "keys:rotate",
            Self::AuditRead => "audit:read",
            Self::Backup => "backup",
            Self::StoreRestore => "store:restore",
        }
    }
}

impl FromStr for Permission {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|p| p.name() == text)
            .ok_or_else(|| format!("`{text}` is not a permission; known are {}", known()))
    }
}
impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}
impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of a client secret. Secrets are 256 random bits, so a plain hash is as good as a slow one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
    /// In hexadecimal, as a configuration has it.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}
impl FromStr for SecretHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = "secret hash: 64 hexadecimal digits, as `rescind init` writes them";
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(err);
        }
        let mut out = [0; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| err)?;
        }
        Ok(Self(out))
    }
}
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name.
    pub id: ClientId,
    /// Hashes of its live secrets: two at most, so that one can be replaced. None: a public client (RFC 6749 §2.1).
    pub secrets: Vec<SecretHash>,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// What its tokens, and those of sessions it opens, may allow. None: anything.
    pub scope: Option<Scope>,
    /// For whom they may be. None: anyone.
    pub audience: Option<Vec<Audience>>,
}

impl Client {
    /// Whether it has no secret to prove itself with.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.secrets.is_empty()
    }
    /// Whether it may.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }
}

/// A caller that has been identified.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub client: Arc<Client>,
    /// Whether it proved it with a secret.
    pub proven: bool,
}

/// What a request says about who sends it.
pub enum Credentials {
    /// A name alone (RFC 6749 §2.1, a public client).
    Named(String),
    /// A name and a secret (RFC 6749 §2.3.1).
    Secret(String, zeroize::Zeroizing<String>),
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients(BTreeMap<ClientId, Arc<Client>>);

impl Clients {
    /// These.
    #[must_use]
    pub fn new(clients: impl IntoIterator<Item = Client>) -> Self {
        Self(clients.into_iter().map(|c| (c.id.clone(), Arc::new(c))).collect())
    }

    /// One by its name.
    #[must_use]
    pub fn find(&self, id: &ClientId) -> Option<&Arc<Client>> {
        self.0.get(id)
    }

    /// Who sends a request; `None` tells nobody whether the name or the secret was wrong.
    #[must_use]
    pub fn authenticate(&self, credentials: &Credentials) -> Option<Caller> {
        let (Credentials::Named(id) | Credentials::Secret(id, _)) = credentials;
        let client = id.parse().ok().and_then(|id: ClientId| self.0.get(&id));
        match credentials {
            Credentials::Named(_) => {
                client.filter(|c| c.is_public()).map(|c| Caller { client: c.clone(), proven: false })
            }
            Credentials::Secret(_, secret) => {
                let presented = SecretHash::of(secret);
                // Every secret is compared, and a missing client is compared with nothing, in the same time.
                let nobody = [SecretHash([0; 32])];
                let known = client.map_or(&nobody[..], |c| &c.secrets[..]);
                let right = known.iter().fold(Choice::from(0), |found, hash| found | hash.0.ct_eq(&presented.0));
                client.filter(|_| bool::from(right)).map(|c| Caller { client: c.clone(), proven: true })
            }
        }
    }
}

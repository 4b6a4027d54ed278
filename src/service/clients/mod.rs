//! Clients: who they are, how they prove it, and what they may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::model::{Audience, ClientId, Scope};

mod permission;

pub use permission::Permission;

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
    /// For whom the tokens are that it may introspect. None: anyone.
    pub introspect_audience: Option<Vec<Audience>>,
}

impl Client {
    /// A public client of that name, which may do nothing and is not bounded.
    #[must_use]
    pub const fn new(id: ClientId) -> Self {
        Self {
            id,
            secrets: Vec::new(),
            permissions: BTreeSet::new(),
            scope: None,
            audience: None,
            introspect_audience: None,
        }
    }
    /// Whether it has no secret to prove itself with.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.secrets.is_empty()
    }
    /// Whether it may learn what a token for this audience is worth.
    #[must_use]
    pub fn may_introspect(&self, audience: &[Audience]) -> bool {
        self.introspect_audience.as_ref().is_none_or(|mine| audience.iter().any(|a| mine.contains(a)))
    }
    /// Whether it may.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
            || permission.included_in().iter().any(|wider| self.permissions.contains(wider))
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

impl Credentials {
    /// The name that was given. Nobody has proven it yet.
    pub(crate) fn name(&self) -> &str {
        let (Self::Named(name) | Self::Secret(name, _)) = self;
        name
    }
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

//! Clients: who they are, how they prove it, and what they may.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use subtle::Choice;

use self::overrides::{Disabled, Override, Overrides};
use crate::model::{Audience, ClientId, Jwk, PublicKey, Scope, Timestamp};

mod book;
mod certificate;
mod keys;
mod manage;
mod overrides;
mod permission;
mod proof;
mod secret;

pub(crate) use book::ClientBook;
pub use certificate::CertificateHash;
pub use keys::{ClientKey, client_keys};
pub use manage::{ClientView, DisabledSince, NewSecret, OldSecrets, SecretView};
pub use permission::Permission;
pub use proof::{Method, Proof};
pub use secret::{SecretHash, generate_secret};

/// Secrets of one client that are live at once, and keys.
pub const MAX_PROOFS: usize = 2;

/// A registered client, as the configuration has it.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name.
    pub id: ClientId,
    /// Hashes of its secrets: two at most, so that one can be replaced.
    pub secrets: Vec<SecretHash>,
    /// Its public keys, for `private_key_jwt` (RFC 7523): two at most.
    pub keys: Vec<Jwk>,
    /// Its certificates, for `self_signed_tls_client_auth` (RFC 8705): two at most. Without certificates, keys and
    /// secrets it is a public client (RFC 6749 §2.1).
    pub certificates: Vec<CertificateHash>,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// What its tokens, and those of sessions it opens, may allow. None: anything.
    pub scope: Option<Scope>,
    /// For whom they may be. None: anyone.
    pub audience: Option<Vec<Audience>>,
    /// For whom the tokens are that it may introspect. None: anyone.
    pub introspect_audience: Option<Vec<Audience>>,
    /// Whether it is refused whatever it proves.
    pub disabled: bool,
}

impl Client {
    /// A public client of that name, which may do nothing and is not bounded.
    #[must_use]
    pub const fn new(id: ClientId) -> Self {
        Self {
            id,
            secrets: Vec::new(),
            keys: Vec::new(),
            certificates: Vec::new(),
            permissions: BTreeSet::new(),
            scope: None,
            audience: None,
            introspect_audience: None,
            disabled: false,
        }
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
    /// By what.
    pub proof: Proof,
}

impl Caller {
    /// Whether it is who it says. A public client has said no more than its name.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proof != Proof::Name
    }
}

/// What a request says about who sends it.
pub enum Credentials {
    /// A name alone (RFC 6749 §2.1, a public client).
    Named(String),
    /// A name and a secret (RFC 6749 §2.3.1).
    Secret(String, zeroize::Zeroizing<String>),
    /// A JWT that the client signed (RFC 7523 §2.2).
    Assertion {
        /// The JWT.
        assertion: zeroize::Zeroizing<String>,
        /// The name that the request gives beside it: it must be the same (RFC 7521 §4.2).
        named: Option<String>,
    },
    /// A certificate whose key the peer has shown to hold (RFC 8705 §2), and the name that the request gives beside it.
    Certificate {
        /// Which.
        certificate: CertificateHash,
        /// Required at the OAuth endpoints.
        named: Option<String>,
    },
}

/// A secret that counts, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveSecret {
    pub(crate) hash: SecretHash,
    /// Whether it was made at run time, and is in no configuration.
    pub(crate) rotated: bool,
    /// None: until it is dropped.
    pub(crate) until: Option<Timestamp>,
}

/// A client as it stands: the configuration and what has been changed at run time.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) client: Arc<Client>,
    pub(crate) disabled: Option<Disabled>,
    /// Those that have been dropped among them.
    pub(crate) secrets: Vec<LiveSecret>,
    /// Whether it has, or had once.
    had_secret: bool,
}

impl Standing {
    fn new(client: &Arc<Client>, change: Option<&Override>) -> Self {
        let configured = client.secrets.iter().map(|hash| (*hash, false));
        let added = change.into_iter().flat_map(|c| &c.secrets).map(|hash| (*hash, true));
        let mut secrets: Vec<LiveSecret> = Vec::new();
        for (hash, rotated) in configured.chain(added) {
            // One that was made at run time may have been written into the configuration since.
            if secrets.iter().all(|known| known.hash != hash) {
                let until = change.and_then(|c| c.dropped.iter().find(|d| d.hash == hash)).map(|d| d.from);
                secrets.push(LiveSecret { hash, rotated, until });
            }
        }
        Self {
            client: client.clone(),
            disabled: change.and_then(|c| c.disabled.clone()),
            had_secret: !secrets.is_empty() || change.is_some_and(Override::had_secret),
            secrets,
        }
    }

    /// Whether it may come in: neither configuration nor operator says otherwise.
    pub(crate) fn is_enabled(&self) -> bool {
        !self.client.disabled && self.disabled.is_none()
    }

    /// Those that count at this instant.
    pub(crate) fn live(&self, now: Timestamp) -> impl Iterator<Item = &LiveSecret> {
        self.secrets.iter().filter(move |s| s.until.is_none_or(|until| now < until))
    }

    fn caller(&self, proof: Proof) -> Caller {
        Caller { client: self.client.clone(), proof }
    }
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients(BTreeMap<ClientId, Standing>);

impl Clients {
    /// These, as they are configured.
    #[must_use]
    pub fn new(clients: impl IntoIterator<Item = Client>) -> Self {
        let standing = |client: Client| (client.id.clone(), Standing::new(&Arc::new(client), None));
        Self(clients.into_iter().map(standing).collect())
    }

    /// The same clients with what has been changed at run time.
    fn with(&self, overrides: &Overrides) -> Self {
        let changed = |(id, s): (&ClientId, &Standing)| (id.clone(), Standing::new(&s.client, overrides.of(id)));
        Self(self.0.iter().map(changed).collect())
    }

    /// One by its name, disabled or not.
    #[must_use]
    pub fn find(&self, id: &ClientId) -> Option<&Arc<Client>> {
        self.0.get(id).map(|s| &s.client)
    }

    /// One by its name, and what has become of it.
    pub(crate) fn standing(&self, id: &ClientId) -> Option<&Standing> {
        self.0.get(id)
    }

    /// All, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Standing> {
        self.0.values()
    }

    /// Whether it is registered and has not been disabled.
    pub(crate) fn is_enabled(&self, id: &ClientId) -> bool {
        self.0.get(id).is_some_and(Standing::is_enabled)
    }

    /// Whether a caller would be let in again, by what it was let in by.
    pub(crate) fn still_let_in(&self, caller: &Caller, now: Timestamp) -> bool {
        self.0.get(&caller.client.id).is_some_and(|s| s.takes(&caller.proof, now))
    }

    /// A client without credentials, by its name alone.
    pub(crate) fn named(&self, id: &ClientId, now: Timestamp) -> Option<Caller> {
        self.0.get(id).filter(|s| s.is_public(now) && s.is_enabled()).map(|s| s.caller(Proof::Name))
    }

    /// A client by its secret; `None` tells nobody whether the name or the secret was wrong.
    pub(crate) fn by_secret(&self, id: Option<&ClientId>, secret: &str, now: Timestamp) -> Option<Caller> {
        let presented = SecretHash::of(secret);
        let standing = id.and_then(|id| self.0.get(id));
        // Every secret is compared, and a missing client is compared with nothing, in the same time.
        let known: Vec<SecretHash> = standing.map_or_else(Vec::new, |s| s.live(now).map(|l| l.hash).collect());
        let nobody = [SecretHash::NOBODY];
        let known = if known.is_empty() { &nobody[..] } else { &known[..] };
        let right = known.iter().fold(Choice::from(0), |found, hash| found | hash.is(&presented));
        standing.filter(|s| bool::from(right) && s.is_enabled()).map(|s| s.caller(Proof::Secret(presented)))
    }

    /// A client by its certificate; where no name is given, by whoever alone has registered it.
    pub(crate) fn by_certificate(&self, id: Option<&ClientId>, shown: &CertificateHash) -> Option<Caller> {
        let has = |s: &&Standing| {
            let known = s.client.certificates.iter();
            bool::from(known.fold(Choice::from(0), |found, hash| found | hash.is(shown)))
        };
        let mut found = match id {
            Some(id) => self.0.get(id).into_iter().filter(has).collect::<Vec<_>>(),
            None => self.0.values().filter(has).collect(),
        };
        let one = found.pop().filter(|s| found.is_empty() && s.is_enabled())?;
        Some(one.caller(Proof::Certificate(*shown)))
    }

    /// A client by that of its keys which `signer` finds.
    pub(crate) fn by_key(&self, id: &ClientId, signer: impl FnOnce(&[Jwk]) -> Option<PublicKey>) -> Option<Caller> {
        let standing = self.0.get(id).filter(|s| s.is_enabled())?;
        signer(&standing.client.keys).map(|key| standing.caller(Proof::Key(key)))
    }
}

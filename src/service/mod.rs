//! What a node does: opens sessions, exchanges, revokes, introspects, rotates. HTTP and command line are two faces of
//! it; each method is one thing that a caller may ask for, checked against what that caller may do.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use crate::{
    clock::{Clock, Random},
    denylist::Denylist,
    families::Families,
    feed::Feed,
    issuer::{AccessToken, Issuer, Order},
    keyring::Keyring,
    model::{
        ClientId, Kid,
        audit::{Draft, Origin},
        family::{Lifetimes, Standing},
        session::SessionCap,
    },
    store::{Backend, EvidenceStore, FamilyStore},
    verifier::{Checker, MAX_LEEWAY, Verifier},
};

mod alerts;
mod assertions;
mod clients;
mod configured;
mod ending;
mod error;
mod evidence_metrics;
mod feed;
mod grants;
mod impact;
mod introspect;
mod keys;
mod metrics;
mod notary;
mod operate;
mod secret_keys;
mod sessions;
mod shared;
mod store;
mod subjects;
mod verifiers;
mod webhook;

pub use alerts::AlertSettings;
pub use assertions::Refused;
use clients::ClientBook;
pub use clients::{
    Caller, CertificateHash, Client, ClientKey, ClientView, Clients, Credentials, DisabledSince, MAX_PROOFS, Method,
    NewSecret, OldSecrets, Permission, Proof, SecretHash, SecretView, client_keys, generate_secret,
};
pub use ending::{Ended, Ending};
pub use error::Error;
pub(crate) use error::NO_SUCH_KEY;
pub use grants::Tokens;
pub use impact::{EXAMINED, Effect, Impact};
pub use introspect::Introspection;
pub use keys::{Compromise, Compromised};
pub use metrics::Metrics;
pub use notary::read_statement;
pub use operate::{Revocation, RevocationPage};
pub use secret_keys::{SecretChange, SecretCompromise};
pub use sessions::{Amendment, NewSession, SessionPage};
pub use shared::StoredKeys;
pub use store::Backup;
pub use subjects::{Dossier, Erasure};
pub use verifiers::{Applied, Report, VerifierPage, VerifierQuery, VerifierState, VerifierStates, VerifierView};
pub use webhook::{
    Attempt, Kind, WebhookSecret, WebhookSecretError, WebhookSettings, WebhookUrlError, check_webhook_url,
};

/// How a node behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name: `iss`, an `https` URL without query and fragment (RFC 8414 §2).
    pub issuer: Box<str>,
    /// How long things last.
    pub lives: Lifetimes,
    /// How many sessions a subject may have. None: any number.
    pub sessions: Option<SessionCap>,
    /// Which custom claims sessions may carry. None: any that is not reserved.
    pub custom_claims: Option<BTreeSet<Box<str>>>,
}

/// One node of the service.
pub struct Service {
    pub(crate) settings: Settings,
    clients: ClientBook,
    pub(crate) families: Families<Backend>,
    pub(crate) denylist: Denylist<Backend>,
    pub(crate) feed: Feed<Backend>,
    pub(crate) issuer: Issuer,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) store: Arc<Backend>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    alerts: alerts::Alerts,
    verifiers: verifiers::Verifiers,
    webhook: Option<webhook::Webhook>,
    /// Compromised keys that are known to be denied.
    denied_keys: Mutex<HashSet<Kid>>,
    /// One order about symmetric keys at a time.
    secret_orders: Arc<tokio::sync::Mutex<()>>,
    /// Whether it has been said that a step of their schedule is late.
    keys_late: AtomicBool,
    /// One backup at a time.
    backups: Arc<tokio::sync::Semaphore>,
    /// For introspection: to the second.
    checker: Checker,
    /// For revocation: a token is worth denying as long as some verifier, with all its leeway, would accept it.
    lenient: Checker,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({})", self.settings.issuer)
    }
}

/// A request with its caller identified.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asks.
    pub caller: Caller,
    /// From where.
    pub origin: Origin,
}

impl Context {
    fn draft(&self) -> Draft {
        Draft { actor: Some(self.caller.client.id.clone()), origin: self.origin.clone(), ..Draft::default() }
    }

    fn require(&self, permission: Permission) -> Result<(), Error> {
        if self.caller.client.may(permission) { Ok(()) } else { Err(Error::Forbidden(permission)) }
    }
}

impl Service {
    /// Puts a node together.
    ///
    /// # Errors
    /// [`crate::verifier::Misuse`] if the settings make no verifier, an empty issuer for one.
    pub fn new(
        settings: Settings,
        clients: Clients,
        keyring: Arc<Keyring>,
        store: impl Into<Backend>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, crate::verifier::Misuse> {
        let store = Arc::new(store.into());
        // The node reads its own tokens, whatever their audience.
        let checker = |leeway| {
            Verifier::builder(&*settings.issuer)
                .dangerous_any_audience()
                .keys(keyring.jwks().set.clone())
                .leeway(leeway)
                .max_lifetime(settings.lives.access.max(std::time::Duration::from_secs(3600)))
                .checker()
        };
        let (checker, lenient) = (checker(std::time::Duration::ZERO)?, checker(MAX_LEEWAY)?);
        let notary =
            notary::ServiceNotary { issuer: settings.issuer.clone(), keyring: keyring.clone(), clock: clock.clone() };
        store.employ(Arc::new(notary));
        let metrics = Metrics::default();
        if store.standing() != Standing::Whole {
            metrics.rolled_back();
        }
        Ok(Self {
            families: Families::new(store.clone(), keyring.clone(), random.clone(), settings.lives)
                .capped(settings.sessions),
            denylist: Denylist::new(store.clone(), keyring.clone()),
            feed: Feed::new(&settings.issuer, store.clone(), keyring.clone(), clock.clone()),
            issuer: Issuer::new(&settings.issuer, keyring.clone(), random.clone()),
            denied_keys: Mutex::default(),
            secret_orders: Arc::default(),
            keys_late: AtomicBool::new(false),
            backups: Arc::new(tokio::sync::Semaphore::new(1)),
            random,
            alerts: alerts::Alerts::default(),
            verifiers: verifiers::Verifiers::default(),
            webhook: None,
            settings,
            clients: ClientBook::open(clients, &*store, &keyring),
            keyring,
            store,
            metrics,
            clock,
            checker,
            lenient,
        })
    }

    /// From when on something is too often.
    #[must_use]
    pub fn with_alerts(mut self, settings: AlertSettings) -> Self {
        self.alerts.settings = settings;
        self
    }

    /// Whom to tell.
    ///
    /// # Errors
    /// [`WebhookUrlError`].
    pub fn with_webhook(mut self, settings: WebhookSettings) -> Result<Self, WebhookUrlError> {
        self.webhook = Some(webhook::Webhook::new(settings)?);
        Ok(self)
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How it is set up.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes up another configuration of clients, at once and for every request from here on. What was changed at run
    /// time stays: a client that was disabled is disabled.
    pub fn set_clients(&self, clients: Clients) {
        self.clients.configure(clients);
    }

    /// Everyone, as they stand. Nobody is let in while it is not known who is disabled.
    fn known_clients(&self) -> Result<Arc<Clients>, Error> {
        self.clients.now().clients().cloned().ok_or_else(Error::clients_unknown)
    }

    /// Asked again before tokens leave: since the caller was let in, it may have been disabled, or the secret, key or
    /// certificate that it came with may have been dropped.
    fn still_let_in(&self, caller: &Caller) -> Result<(), Error> {
        if self.known_clients()?.still_let_in(caller, self.clock.now()) { Ok(()) } else { Err(Error::Client) }
    }

    /// The same for whoever is to hold the tokens.
    fn still_enabled(&self, client: &ClientId) -> Result<(), Error> {
        if self.known_clients()?.is_enabled(client) { Ok(()) } else { Err(Error::Client) }
    }

    /// Whether it can serve, and what an operator may want to mend all the same; else why not.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn ready(&self) -> Result<Vec<String>, String> {
        if self.known_clients().is_err() {
            return Err(
                "the book of clients does not open, so nobody knows which are disabled: put back secrets.json \
                        and clients.sealed in the directory of the keys, as they were last; lost for good: begin with \
                        new keys, see docs/how-to/back-up.md"
                    .into(),
            );
        }
        if let Some(shared) = self.store.shared() {
            let notes = shared.ready().await?;
            return self.ready_keys().map(|()| notes);
        }
        match self.store.standing() {
            Standing::Whole => self.denylist.entries(u64::MAX, 1).await.map(|_| Vec::new()).map_err(|e| e.to_string()),
            Standing::Wiped => Err("the store is empty, its witness remembers another: put the store back, or accept \
                                    the loss with `rescind store restored` or --accept-store-loss end-sessions"
                .into()),
            Standing::NotWhole => {
                Err("the store is older than its witness, or witness.json beside the keys is gone: put the newer \
                                       store or the witness back, or accept the loss with `rescind store restored` or \
                                       --accept-store-loss end-sessions"
                    .into())
            }
        }
    }

    fn ready_keys(&self) -> Result<(), String> {
        let Some(keys) = self.keyring.following().filter(|_| self.keyring.confirmed().is_err()) else { return Ok(()) };
        let trouble = keys.trouble.unwrap_or_else(|| "the store has not been asked yet".into());
        Err(format!("the shared keys, of which this node has version {}, are not confirmed: {trouble}", keys.version))
    }

    /// This node stops for good: no other waits for it.
    pub async fn leave(&self) {
        if let Some(store) = self.store.shared()
            && !store.leave().await
        {
            tracing::warn!("nobody took over what this node knows; the others may wait for it");
        }
    }

    /// Which life of the denylist's log this is.
    pub(crate) fn epoch(&self) -> u128 {
        self.store.epoch()
    }

    /// Done every second or so: what the schedule of keys asks for, and what is owed to the log.
    pub async fn housekeep(self: &Arc<Self>) {
        self.tend_keys().await;
        self.write_alerts().await;
        if let Ok(signed) = self.store.audit_head().await {
            self.metrics.evidence.audit(signed.head.kept(), signed.broken.is_some());
        }
    }

    /// Takes the measurements that stand for an instant.
    pub(crate) async fn measure(&self) {
        self.metrics.store(self.store.queue_depth(), self.store.size().await.unwrap_or(0));
        self.metrics.followers(self.feed.followers());
        self.metrics.backed_up(self.store.last_backup_at());
        self.measure_keys();
        self.measure_verifiers().await;
    }

    /// Mints, or says what made the token too long.
    fn mint(&self, order: Order) -> Result<AccessToken, Error> {
        Ok(self.issuer.mint(order)?)
    }
}

//! Puts a node together from its parts and runs it until it is told to stop.

use std::{fs::DirBuilder, future::Future, net::SocketAddr, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{Exit, Failure, OrExit, args::StoreUrl, config::Evidence, notify::Notify};
use crate::{
    clock::{Clock, Random, SystemClock, SystemRandom},
    http::{self, Limits, Listeners, edge::Settings as Edge},
    keyring::{self, Keyring, Passphrase},
    model::{denial::Retention, family::Lifetimes, session::SessionCap},
    service::{Client, Clients, Service, Settings},
    store::embedded::{EmbeddedStore, OpenError, Options},
};

/// Where the keys lie.
pub(super) enum Keys {
    /// In memory, gone with the process.
    Memory,
    /// In a directory, encrypted if there is a passphrase.
    Dir(PathBuf, Option<Passphrase>),
}

/// All that a node is made of.
pub(super) struct Blueprint {
    /// Its name. None: where it listens.
    pub(super) issuer: Option<String>,
    pub(super) keys: Keys,
    pub(super) key_settings: keyring::Settings,
    pub(super) store: StoreUrl,
    pub(super) lives: Lifetimes,
    pub(super) custom_claims: Option<Vec<String>>,
    pub(super) clients: Vec<Client>,
    pub(super) limits: Limits,
    pub(super) edge: Edge,
    pub(super) sessions: Option<SessionCap>,
    pub(super) evidence: Evidence,
}

/// The sockets of a node, bound before anything is opened: a port that is taken is the cheapest thing to find out.
pub(super) struct Bound {
    public: TcpListener,
    operations: Option<TcpListener>,
}

impl Bound {
    pub(super) async fn at(public: SocketAddr, operations: Option<SocketAddr>) -> Result<Self, Failure> {
        let public = bind(public, "listen").await?;
        let operations = match operations {
            Some(at) => Some(bind(at, "operations listen").await?),
            None => None,
        };
        Ok(Self { public, operations })
    }
    pub(super) fn into_listeners(self) -> Listeners {
        Listeners { public: self.public, operations: self.operations }
    }
    /// The base URL of the public listener.
    pub(super) fn public_url(&self) -> Result<String, Failure> {
        Ok(format!("http://{}", self.public.local_addr()?))
    }
    /// The base URL of the operations listener.
    pub(super) fn operations_url(&self) -> Result<Option<String>, Failure> {
        let at = self.operations.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(at.map(|at| format!("http://{at}")))
    }
}

async fn bind(at: SocketAddr, name: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).await.map_err(|e| {
        let exit = match e.kind() {
            std::io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::CannotTell,
        };
        let mend = "is another process serving there? Choose another address, or port 0 for any free one";
        Failure::new(exit, anyhow::Error::new(e).context(format!("cannot {name} on {at} ({mend})")))
    })
}

/// A node that is ready to serve.
pub(super) struct Node {
    service: Arc<Service>,
    listeners: Listeners,
    limits: Limits,
    edge: Edge,
    reload: watch::Sender<()>,
}

impl Node {
    /// Opens keys and store. Blocks on the disk: at the start nothing else runs yet.
    pub(super) fn open(blueprint: Blueprint, bound: Bound, options: Options) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let issuer = blueprint.issuer.clone().map_or_else(|| bound.public_url(), Ok)?;
        // The store first: its lock keeps a second process away from the keys, too.
        let store = open_store(&blueprint, options, clock.clone(), &*random)?;
        let keyring = match blueprint.keys {
            Keys::Memory => Keyring::ephemeral(blueprint.key_settings, clock.clone(), random.clone()),
            Keys::Dir(dir, pass) => Keyring::open(&dir, pass, blueprint.key_settings, clock.clone(), random.clone()),
        };
        let keyring = Arc::new(keyring.or_exit(Exit::Usage, "cannot use the keys")?);
        let claims = blueprint.custom_claims.map(|names| names.into_iter().map(Into::into).collect());
        let settings = Settings {
            issuer: issuer.into(),
            lives: blueprint.lives,
            sessions: blueprint.sessions,
            custom_claims: claims,
        };
        let service = Service::new(settings, Clients::new(blueprint.clients), keyring, Arc::new(store), clock, random)
            .or_exit(Exit::Usage, "the settings make no service")?;
        let Evidence { alerts, webhook } = blueprint.evidence;
        let mut service = service.with_alerts(alerts);
        if let Some(webhook) = webhook {
            service = service.with_webhook(webhook).or_exit(Exit::Usage, "the webhook cannot be used")?;
        }
        Ok(Self {
            service: Arc::new(service),
            listeners: bound.into_listeners(),
            limits: blueprint.limits,
            edge: blueprint.edge,
            reload: watch::Sender::new(()),
        })
    }

    /// Whether it can serve; else why not.
    pub(super) async fn ready(&self) -> Result<(), String> {
        self.service.ready().await
    }

    /// What it serves.
    pub(super) fn service(&self) -> Arc<Service> {
        self.service.clone()
    }

    /// Whatever is sent to it has the certificates read again.
    pub(super) fn certificates(&self) -> watch::Sender<()> {
        self.reload.clone()
    }

    /// Serves until `stop`, and returns once everything that was begun is finished. Meanwhile `notify` hears that it is
    /// alive: that its threads take work, and that the store answers, whatever it answers.
    pub(super) async fn run(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
        notify: Notify,
    ) -> Result<(), Failure> {
        let Self { service, listeners, limits, edge, reload } = self;
        let (asked, teller) = (service.clone(), notify.clone());
        let alive = tokio::spawn(notify.watch(move || {
            let service = asked.clone();
            async move { drop(service.ready().await) }
        }));
        let stop = async move {
            stop.await;
            teller.stopping();
        };
        let served = http::serve_with(listeners, service, limits, edge, reload.subscribe(), stop).await;
        alive.abort();
        served.or_exit(Exit::CannotTell, "the service ended")
    }
}

fn open_store(
    blueprint: &Blueprint,
    options: Options,
    clock: Arc<dyn Clock>,
    random: &dyn Random,
) -> Result<EmbeddedStore, Failure> {
    // The store's witness lies beside the keys, from the first start on.
    if let Keys::Dir(dir, _) = &blueprint.keys {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.or_exit(Exit::Usage, format!("cannot make {}", dir.display()))?;
    }
    let store = match &blueprint.store {
        StoreUrl::Memory => EmbeddedStore::in_memory(options, clock, random),
        StoreUrl::Embedded(path) => EmbeddedStore::open(path, options, clock, random),
    };
    store.map_err(|e| Failure::new(exit_of(&e), e))
}

/// Options of a store that must remember for as long as `lives` demand.
pub(super) fn store_options(lives: &Lifetimes) -> Options {
    Options::new(Retention { access: lives.access, session: lives.absolute })
}

/// A lock or a disk may be free again the next time; what is written in the file will not change by itself.
pub(super) fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        OpenError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Exit::Usage,
        OpenError::Schema { .. } => Exit::Usage,
        _ => Exit::CannotTell,
    }
}

/// SIGTERM or SIGINT. Caught from this call on, so that none is missed between serving and waiting.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

//! Puts a node together from its parts and runs it until it is told to stop.

use std::{future::Future, io::ErrorKind, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    Exit, Failure, OrExit,
    config::Evidence,
    notify::Notify,
    pair::{self, Opening},
};
use crate::{
    clock::{Clock, Random, SystemClock, SystemRandom},
    http::{self, Limits, Listeners, edge::Settings as Edge},
    keyring::{self, Passphrase, SharedKey},
    model::{denial::Retention, family::Lifetimes, session::SessionCap},
    service::{Client, Clients, Service, Settings},
    store::{Backend, embedded::Options, redis},
};

/// Where store and keys lie.
pub(super) enum Place {
    /// In memory, gone with the process.
    Memory(Options),
    /// In a file and a directory, the keys encrypted if there is a passphrase.
    Disk { store: PathBuf, keys: PathBuf, passphrase: Option<Passphrase>, options: Box<Options> },
    /// Shared with other nodes.
    Redis(Box<RedisPlace>),
}

/// Where nodes share store and keys.
pub(super) struct RedisPlace {
    pub(super) url: redis::StoreUrl,
    pub(super) options: redis::Options,
    /// This node's copy of the keys.
    pub(super) keys: PathBuf,
    /// What they lie under.
    pub(super) key: SharedKey,
}

/// All that a node is made of.
pub(super) struct Blueprint {
    /// Its name. None: where it listens.
    pub(super) issuer: Option<String>,
    pub(super) key_settings: keyring::Settings,
    pub(super) place: Place,
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
            Some(at) => Some(bind(at, "operations_listen").await?),
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

/// `name` is the setting. A port that is taken may be free the next time; an address that is not there will not be.
async fn bind(at: SocketAddr, name: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(at).await.map_err(|e| {
        let (exit, mend) = match e.kind() {
            ErrorKind::AddrInUse => {
                let mend = "is another process serving there? Choose another address, or port 0 for any free one";
                (Exit::CannotTell, mend)
            }
            ErrorKind::AddrNotAvailable => (Exit::Usage, "this machine has no such address; choose one that it has"),
            ErrorKind::PermissionDenied => {
                let mend = "ports below 1024 are for those with CAP_NET_BIND_SERVICE; choose a higher one, or give it \
                            that capability";
                (Exit::NotPermitted, mend)
            }
            _ => (Exit::CannotTell, "choose another address"),
        };
        let said = format!("{name}: cannot listen on {at}: {e}; {mend}");
        Failure::new(exit, anyhow::Error::new(e).context(said))
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
    pub(super) async fn open(blueprint: Blueprint, bound: Bound) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let issuer = blueprint.issuer.clone().map_or_else(|| bound.public_url(), Ok)?;
        let settings = blueprint.key_settings;
        let opening = |options| Opening { settings, options, clock: clock.clone(), random: random.clone() };
        let (keyring, store): (_, Backend) = match blueprint.place {
            Place::Memory(options) => {
                let (keyring, store) = opening(options).in_memory()?;
                (keyring, store.into())
            }
            Place::Disk { store, keys, passphrase, options } => {
                let (keyring, store) = opening(*options).both(&store, &keys, passphrase)?;
                (keyring, store.into())
            }
            Place::Redis(place) => {
                let (keyring, store) = pair::shared(*place, settings, clock.clone(), random.clone()).await?;
                (keyring, Backend::Redis(store))
            }
        };
        let keyring = Arc::new(keyring);
        let claims = blueprint.custom_claims.map(|names| names.into_iter().map(Into::into).collect());
        let settings = Settings {
            issuer: issuer.into(),
            lives: blueprint.lives,
            sessions: blueprint.sessions,
            custom_claims: claims,
        };
        let service = Service::new(settings, Clients::new(blueprint.clients), keyring, store, clock, random)
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
    pub(super) async fn ready(&self) -> Result<Vec<String>, String> {
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
        let (asked, leaving, teller) = (service.clone(), service.clone(), notify.clone());
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
        // Whoever is expected back is waited for by the others.
        leaving.leave().await;
        served.or_exit(Exit::CannotTell, "the service ended")
    }
}

/// Options of a store that must remember for as long as `lives` demand.
pub(super) fn store_options(lives: &Lifetimes) -> Options {
    Options::new(Retention { access: lives.access, session: lives.absolute })
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

//! Connections: accepted up to a cap, read within limits, and finished before the process ends.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use super::{
    App, Limits, Shared,
    caller::Peer,
    edge::{self, CERTIFICATES_EVERY, Edge, EdgeMetrics, PeerCertificate, Place, Places, Tls},
    operations_router, router,
};
use crate::service::Service;

/// Where to listen; bound by the caller, who thereby knows the ports.
#[derive(Debug)]
pub struct Listeners {
    /// For everyone.
    pub public: TcpListener,
    /// For probes and metrics.
    pub operations: Option<TcpListener>,
}

/// As [`serve_with`], as on a desk: no TLS, no proxies, no limits of rate.
///
/// # Errors
/// As [`serve_with`].
pub async fn serve(
    listeners: Listeners,
    service: Arc<Service>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_with(listeners, service, limits, edge::Settings::default(), watch::channel(()).1, shutdown).await
}

/// Serves until `shutdown`, then finishes what has begun, for [`Limits::drain`] at most. Whenever `reload` is sent to,
/// the certificates are read again.
///
/// # Errors
/// None at present; accepting goes on whatever happens to single connections.
pub async fn serve_with(
    listeners: Listeners,
    service: Arc<Service>,
    limits: Limits,
    settings: edge::Settings,
    reload: watch::Receiver<()>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let metrics = EdgeMetrics::default();
    service.metrics().extend(|registry| metrics.register(registry));
    let edge = Arc::new(Edge::new(settings, metrics));
    let app = App(Arc::new(Shared { service: service.clone(), limits, edge, stopped: stopped.clone() }));
    service.follow_others().await;
    // A key that is denied, or due to be replaced, signs nothing first.
    service.housekeep().await;
    let follower = tokio::spawn(follow_others(service.clone(), stopped.clone()));
    let housekeeper = tokio::spawn(housekeep(service.clone(), stopped.clone()));
    let keeper = tokio::spawn(keep_certificates(app.clone(), reload));
    let teller = service.clone();
    let teller = tokio::spawn(async move { teller.tell().await });
    let herald = tokio::spawn(async move { service.herald().await });
    let public = Door::public(listeners.public, &app);
    let public = tokio::spawn(public.serve(stopped.clone()));
    let operations = listeners.operations.map(|l| tokio::spawn(Door::operations(l, &app).serve(stopped)));
    shutdown.await;
    tracing::info!("stopping: no new connections, what has begun is finished");
    // Nobody receives if all listeners have ended already, which is as good.
    let _ = stop.send(true);
    let _ = public.await;
    if let Some(operations) = operations {
        let _ = operations.await;
    }
    let _ = housekeeper.await;
    let _ = follower.await;
    // What the webhook has not been told yet it is told after the next start.
    for helper in [herald, keeper, teller] {
        helper.abort();
        let _ = helper.await;
    }
    Ok(())
}

/// Certificates are exchanged by others, who do not always tell.
async fn keep_certificates(app: App, mut reload: watch::Receiver<()>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATES_EVERY) => {}
            Ok(()) = reload.changed() => {}
        }
        let app = app.clone();
        // Reads files, which must not hold up requests.
        let _ = tokio::task::spawn_blocking(move || app.edge.reload_certificates(&*app.service.clock)).await;
    }
}

async fn housekeep(service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => service.housekeep().await,
            _ = stopped.changed() => return,
        }
    }
}

/// By itself, so that nothing slow of the housekeeping makes the keys' confirmation run out.
async fn follow_others(service: Arc<Service>, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => service.follow_others().await,
            _ = stopped.changed() => return,
        }
    }
}

/// Serves one listener until `stopped`, then finishes what has begun, for [`Limits::drain`] at most.
pub(crate) async fn listen(listener: TcpListener, router: Router, limits: Limits, stopped: watch::Receiver<bool>) {
    let places = Places::new(limits.connections, limits.connections);
    let metrics = EdgeMetrics::default();
    let door = Door { listener, router, limits, edge: None, tls: None, metrics, handshakes: places.clone(), places };
    door.serve(stopped).await;
}

/// A listener, and what those who come in must pass.
struct Door {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    edge: Option<Arc<Edge>>,
    tls: Option<Arc<Tls>>,
    metrics: EdgeMetrics,
    /// One for each connection; an address has a share of them.
    places: Arc<Places>,
    /// One for each TLS handshake: whoever begins many and ends none takes no more than a share of these.
    handshakes: Arc<Places>,
}

impl Door {
    fn public(listener: TcpListener, app: &App) -> Self {
        let limits = app.limits;
        let rates = app.edge.settings.rates;
        let share = rates.map_or(limits.connections, |r| r.connections.unwrap_or(limits.connections / 4).max(1));
        let handshakes = (limits.connections / 2).max(1);
        let a_few = rates.map_or(handshakes, |_| (share / 4).clamp(1, handshakes));
        Self {
            listener,
            router: router(app),
            limits,
            tls: app.edge.settings.tls.clone(),
            metrics: app.edge.metrics.clone(),
            places: Places::new(limits.connections, share),
            handshakes: Places::new(handshakes, a_few),
            edge: Some(app.edge.clone()),
        }
    }

    fn operations(listener: TcpListener, app: &App) -> Self {
        let limits = app.limits;
        Self {
            listener,
            router: operations_router(app),
            limits,
            tls: app.edge.settings.operations_tls.clone(),
            metrics: app.edge.metrics.clone(),
            places: Places::new(limits.connections, limits.connections),
            handshakes: Places::new((limits.connections / 2).max(1), limits.connections),
            edge: None,
        }
    }

    async fn serve(self, mut stopped: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            // Beyond the cap, connections wait in the kernel's queue.
            let Ok(permit) = room.clone().acquire_owned().await else { break };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stopped.changed() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(places) = self.let_in(peer.ip()) else { continue };
                    let guest = Guest { peer, router: self.router.clone(), limits: self.limits };
                    let (tls, metrics, watcher) = (self.tls.clone(), self.metrics.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        guest.talk(stream, places, tls, &metrics, watcher).await;
                        drop(permit);
                    });
                }
                // Out of descriptors, or the peer was gone before we came: give others time to finish.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(self.limits.drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("some connections did not finish in time");
        }
    }

    /// The places of a connection and of its handshake; none if its address has its share already.
    fn let_in(&self, address: IpAddr) -> Option<(Place, Option<Place>)> {
        let trusted = self.edge.as_ref().is_some_and(|edge| edge.settings.proxies.trusts(address));
        let Some(place) = self.places.take(address, trusted) else {
            self.metrics.refused("connections");
            return None;
        };
        if self.tls.is_none() {
            return Some((place, None));
        }
        let Some(handshake) = self.handshakes.take(address, trusted) else {
            self.metrics.refused("handshakes");
            return None;
        };
        Some((place, Some(handshake)))
    }
}

/// A connection that has been let in.
struct Guest {
    peer: SocketAddr,
    router: Router,
    limits: Limits,
}

impl Guest {
    async fn talk(
        self,
        stream: TcpStream,
        (_place, handshake): (Place, Option<Place>),
        tls: Option<Arc<Tls>>,
        metrics: &EdgeMetrics,
        watcher: Watcher,
    ) {
        // Answers are small: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        // A peer that reads nothing holds its place for as long as this and not for ever: no other limit reaches it.
        let patience = u32::try_from(self.limits.write_timeout.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, patience);
        let Some(tls) = tls else { return self.serve(stream, None, watcher).await };
        let shaken = tls.accept(stream).await;
        drop(handshake);
        match shaken {
            Ok((stream, certificate)) => {
                metrics.handshake("done");
                self.serve(stream, certificate, watcher).await;
            }
            Err(why) => metrics.handshake(why),
        }
    }

    async fn serve<S>(self, stream: S, certificate: Option<PeerCertificate>, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = self.peer;
        let service = tower::ServiceBuilder::new()
            .map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(Peer(peer));
                if let Some(certificate) = certificate {
                    request.extensions_mut().insert(certificate);
                }
                request
            })
            .service(self.router);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_headers(64)
            .max_buf_size(32 << 10)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        // An error here is the peer's: it went away, or sent no HTTP.
        let _ = watcher.watch(connection).await;
    }
}

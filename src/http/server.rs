//! Connections: accepted up to a cap, read within limits, and finished before the process ends.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use super::{App, Limits, caller::Peer, operations_router, router};
use crate::service::Service;

/// Where to listen; bound by the caller, who thereby knows the ports.
#[derive(Debug)]
pub struct Listeners {
    /// For everyone.
    pub public: TcpListener,
    /// For probes and metrics.
    pub operations: Option<TcpListener>,
}

/// Serves until `shutdown`, then finishes what has begun, for [`Limits::drain`] at most.
///
/// # Errors
/// None at present; accepting goes on whatever happens to single connections.
pub async fn serve(
    listeners: Listeners,
    service: Arc<Service>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let app = App { service: service.clone(), limits, stopped: stopped.clone() };
    let housekeeper = tokio::spawn(housekeep(service.clone(), stopped.clone()));
    let herald = tokio::spawn(async move { service.herald().await });
    let public = tokio::spawn(listen(listeners.public, router(&app), limits, stopped.clone()));
    let operations = listeners.operations.map(|l| tokio::spawn(listen(l, operations_router(&app), limits, stopped)));
    shutdown.await;
    tracing::info!("stopping: no new connections, what has begun is finished");
    // Nobody receives if all listeners have ended already, which is as good.
    let _ = stop.send(true);
    let _ = public.await;
    if let Some(operations) = operations {
        let _ = operations.await;
    }
    let _ = housekeeper.await;
    herald.abort();
    let _ = herald.await;
    Ok(())
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

/// Serves one listener until `stopped`, then finishes what has begun, for [`Limits::drain`] at most.
pub(crate) async fn listen(listener: TcpListener, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.connections));
    loop {
        // Beyond the cap, connections wait in the kernel's queue.
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = graceful.watch(connection(stream, peer, router.clone(), limits));
                tokio::spawn(async move {
                    // An error here is the peer's: it went away, or sent no HTTP.
                    let _ = connection.await;
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
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not finish in time");
    }
}

fn connection(
    stream: TcpStream,
    peer: std::net::SocketAddr,
    router: Router,
    limits: Limits,
) -> http1::Connection<
    TokioIo<TcpStream>,
    TowerToHyperService<
        impl tower::Service<
            hyper::Request<hyper::body::Incoming>,
            Response = axum::response::Response,
            Error = std::convert::Infallible,
            Future: Send,
        > + Clone,
    >,
> {
    // Answers are small: waiting to fill a segment only delays them.
    let _ = stream.set_nodelay(true);
    // A peer that reads nothing holds its place for as long as this and not for ever: no other limit reaches it.
    let patience = u32::try_from(limits.write_timeout.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, patience);
    let service = tower::ServiceBuilder::new()
        .map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request
        })
        .service(router);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(64)
        .max_buf_size(32 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
}

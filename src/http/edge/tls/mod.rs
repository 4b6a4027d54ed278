//! TLS of a listener: a certificate and its key from files, exchanged while connections go on.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::load::Loaded;
pub use self::load::TlsError;
use crate::model::Timestamp;

mod load;
mod peers;
mod validity;

/// A handshake that takes longer is given up: it holds a place that others wait for.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Where certificate and key lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The certificate and those that lead to its root, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM: PKCS#8, SEC 1 or PKCS#1, not encrypted.
    pub key: PathBuf,
    /// Whether peers are asked for a certificate (RFC 8705). Who has none may go on without.
    pub client_certificates: bool,
    /// Roots that such a certificate must lead to. None: any will do, and is known by its hash.
    pub client_ca: Option<PathBuf>,
    /// With authorities: whoever shows no such certificate may not connect at all.
    pub client_required: bool,
}

/// SHA-256 of the certificate that the peer has proven to hold the key of (RFC 8705 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerCertificate(pub [u8; 32]);

/// TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: ArcSwap<Loaded>,
    /// The files that were refused last: what is broken is told of once, not every minute.
    refused: Mutex<Option<[u8; 32]>>,
}

impl Tls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`TlsError`], with the file and the remedy.
    pub fn load(files: TlsFiles, now: Timestamp) -> Result<Self, TlsError> {
        let loaded = load::read(&files)?.check(&files, now)?;
        Ok(Self { files, current: ArcSwap::from_pointee(loaded), refused: Mutex::default() })
    }

    /// Reads the files again. If they have changed and are good, new connections use them; if they are no good, nothing
    /// changes. Says whether something changed.
    ///
    /// # Errors
    /// [`TlsError`], once for each state of the files.
    pub fn reload(&self, now: Timestamp) -> Result<bool, TlsError> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let read = load::read(&self.files);
        let print = read.as_ref().map_or_else(|e| Sha256::digest(e.to_string()).into(), load::Texts::print);
        if print == self.current.load().print {
            *refused = None;
            return Ok(false);
        }
        match read.and_then(|texts| texts.check(&self.files, now)) {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                *refused = None;
                Ok(true)
            }
            Err(_) if *refused == Some(print) => Ok(false),
            Err(error) => {
                *refused = Some(print);
                Err(error)
            }
        }
    }

    /// Whether peers are asked for theirs.
    #[must_use]
    pub fn asks_for_certificates(&self) -> bool {
        self.files.client_certificates || self.files.client_ca.is_some()
    }

    /// When the certificate in use expires.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.current.load().expires
    }

    /// Whether the certificate in use is for this host name or address.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        self.current.load().names(host)
    }

    /// TLS on a connection that has just been accepted, and who is on the other side.
    pub(in crate::http) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<(TlsStream<S>, Option<PeerCertificate>), &'static str> {
        let config: Arc<ServerConfig> = self.current.load().config.clone();
        let shaken = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await.map_err(|_| "too_slow")?;
        let stream = shaken.map_err(|_| "failed")?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.map(|der| PeerCertificate(Sha256::digest(der).into()));
        Ok((stream, certificate))
    }
}

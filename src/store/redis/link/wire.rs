//! One connection. Whoever asks on it gets the answer to what was asked, or the connection is no more.

use std::{
    fmt::Write,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::ServerError;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use super::{OpenError, line::Line, request::Request, tls};
use crate::{
    clock::{SystemRandom, random_bytes},
    store::redis::url::{Login, Password, Place},
};

pub(super) use redis::Value;

/// How long nobody at the other end may acknowledge what was sent before the kernel gives the connection up, and how
/// long it may be silent before the kernel asks.
const SILENCE: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who asks, and over what.
#[derive(Clone)]
pub(super) struct Manner {
    pub(super) login: Login,
    pub(super) db: u16,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// A connection.
pub(super) struct Wire {
    line: Arc<Line>,
    driver: AbortHandle,
    /// Closed when the connection is no more.
    gone: watch::Receiver<()>,
    /// Requests that have not been answered.
    busy: AtomicUsize,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The connection is no more, or its answers are no good.
#[derive(Debug, Clone)]
pub(super) struct Lost(pub(super) String);

impl Wire {
    /// Connects and logs in; the caller bounds how long that may take.
    pub(super) async fn open(place: &Place, manner: &Manner) -> Result<Self, Lost> {
        let stream = stream(place, manner).await?;
        let (line, (open, gone)) = (Arc::new(Line::default()), watch::channel(()));
        let carried = line.clone();
        let driver = tokio::spawn(async move {
            carried.carry(stream).await;
            drop(open);
        });
        let wire = Self { line, driver: driver.abort_handle(), gone, busy: AtomicUsize::new(0) };
        wire.log_in(manner).await?;
        Ok(wire)
    }

    async fn log_in(&self, manner: &Manner) -> Result<(), Lost> {
        let mut pipe = redis::pipe();
        if let Some(password) = &manner.login.password {
            let auth = pipe.cmd("AUTH");
            if let Some(user) = &manner.login.user {
                auth.arg(&**user);
            }
            match password {
                Password::Said(text) => auth.arg(text.as_bytes()),
                Password::File(path) => {
                    let text = tls::read(path, true).map_err(|e: OpenError| Lost(e.to_string()))?;
                    auth.arg(text.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default())
                }
            };
        }
        if manner.db != 0 {
            pipe.cmd("SELECT").arg(manner.db);
        }
        // For whoever looks at CLIENT LIST. A user without the right to it goes without a name.
        pipe.cmd("CLIENT").arg("SETNAME").arg("rescind");
        let named = pipe.len() - 1;
        for answer in &self.ask(pipe).await?[..named] {
            if let Value::ServerError(error) = answer {
                return Err(Lost(format!("the login is refused: {}", told(error))));
            }
        }
        Ok(())
    }

    pub(super) fn alive(&self) -> bool {
        !self.driver.is_finished()
    }

    /// Until the connection is no more.
    pub(super) async fn gone(&self) {
        while self.gone.clone().changed().await.is_ok() {}
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Ends the connection: whoever waits on it is told so.
    pub(super) fn cut(&self) {
        self.driver.abort();
    }

    /// Asks, and gives one answer for each command; an error of the server is such an answer. What is dropped while it
    /// waits may still be sent.
    pub(super) async fn ask(&self, request: impl Into<Request>) -> Result<Vec<Value>, Lost> {
        let _busy = Busy::enter(&self.busy);
        self.line.ask(&request.into()).await
    }

    /// The same with a question behind them whose answer is known: so none of them was another's.
    pub(super) async fn ask_surely(&self, request: impl Into<Request>) -> Result<Vec<Value>, Lost> {
        let (echo, mut request) = (echo(), request.into());
        request.command([&b"PING"[..], echo.as_bytes()]);
        let mut answers = self.ask(request).await?;
        match answers.pop() {
            Some(Value::BulkString(text)) if text == echo.as_bytes() => Ok(answers),
            Some(Value::ServerError(error)) => Err(Lost(match told(&error) {
                said if said.contains("wrong number") => {
                    "it refuses PING with a word, as Sentinels of before Redis 7.0 do; 7.0 or later is needed".into()
                }
                said => said,
            })),
            _ => Err(self.mixed_up()),
        }
    }

    /// The answer was another's: nothing that comes on this connection is to be trusted.
    pub(super) fn mixed_up(&self) -> Lost {
        self.cut();
        Lost("the answer is not the one to what was asked".into())
    }
}

struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn enter(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What no other question of this process or of another has been given.
pub(super) fn echo() -> String {
    static NONCE: LazyLock<String> =
        LazyLock::new(|| format!("{:016x}", u64::from_be_bytes(random_bytes(&SystemRandom))));
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut text = String::with_capacity(32);
    text.push_str(&NONCE);
    let _ = write!(text, "{:x}", COUNTER.fetch_add(1, Ordering::Relaxed));
    text
}

/// What the server says, in so far as it is short and printable.
pub(super) fn told(error: &ServerError) -> String {
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    text.chars().filter(|c| !c.is_control()).take(300).collect::<String>().trim_end().to_owned()
}

async fn stream(place: &Place, manner: &Manner) -> Result<Box<dyn Stream>, Lost> {
    let lost = |e: std::io::Error| Lost(e.to_string());
    let (host, port) = match place {
        Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await.map_err(lost)?)),
        Place::Tcp(host, port) => (&**host, *port),
    };
    let tcp = TcpStream::connect((host, port)).await.map_err(lost)?;
    tune(&tcp).map_err(|e| Lost(e.to_string()))?;
    let Some(config) = &manner.tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|e| Lost(e.to_string()))?;
    let stream = TlsConnector::from(config.clone()).connect(name, tcp).await;
    Ok(Box::new(stream.map_err(|e| Lost(format!("TLS: {e}")))?))
}

/// Small requests go at once, and a peer that vanished is noticed by the kernel too.
fn tune(tcp: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt as set;
    set::set_tcp_nodelay(tcp, true)?;
    set::set_socket_keepalive(tcp, true)?;
    set::set_tcp_keepidle(tcp, SILENCE)?;
    set::set_tcp_keepintvl(tcp, SILENCE / 5)?;
    set::set_tcp_keepcnt(tcp, 3)?;
    #[cfg(target_os = "linux")]
    set::set_tcp_user_timeout(tcp, u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

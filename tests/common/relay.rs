//! What stands between a verifier and its issuer: carries requests there and answers back, or does what networks,
//! caches and attackers do. The verifier knows the issuer by the relay's address, so the node behind may restart.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test helper; each test binary uses a part")]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is carried there, and its answer back.
    Pass,
    /// The connection is broken off.
    Reset,
    /// Nothing is ever answered.
    Stall,
    /// The answer comes a byte at a time, and never whole.
    Drip,
    /// What was answered to the last request of this kind before is answered again, as a cache would.
    Replay,
    /// What was once answered to this very request is answered again, whatever it says about how long it may be kept.
    Cache,
    /// This is answered instead.
    Say(u16, String, Vec<u8>),
    /// The true answer under another status.
    Status(u16),
    /// Bytes without end.
    Endless,
    /// The true answer, changed: `(what, by what)` in its text.
    Change(String, String),
    /// Whoever comes with credentials is refused, as by a proxy that has its own; everyone else passes.
    NoCredentials,
}

/// Which request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Metadata,
    Keys,
    Tail,
    Page,
    Other,
}

impl Kind {
    fn of(target: &str) -> Self {
        let path = target.split('?').next().unwrap();
        match path {
            p if p.starts_with("/.well-known/oauth-authorization-server") => Self::Metadata,
            "/.well-known/jwks.json" => Self::Keys,
            "/v1/feed" => Self::Tail,
            p if p.starts_with("/v1/feed/") => Self::Page,
            _ => Self::Other,
        }
    }
}

#[derive(Default)]
struct State {
    fates: HashMap<Kind, Fate>,
    recorded: HashMap<Kind, Vec<u8>>,
    cached: HashMap<String, Vec<u8>>,
    asked: HashMap<Kind, usize>,
    heads: HashMap<Kind, Vec<String>>,
    /// Those who come without a name of their own are sent to each in turn.
    backends: Vec<SocketAddr>,
    turn: usize,
    named: HashMap<String, SocketAddr>,
}

impl State {
    fn backend(&mut self, head: &str) -> Option<SocketAddr> {
        let name = head.lines().find_map(|line| line.to_lowercase().strip_prefix("verifier-name: ").map(str::to_owned));
        self.turn += 1;
        let next = self.backends.get(self.turn % self.backends.len().max(1)).copied();
        name.and_then(|name| self.named.get(&name).copied()).or(next)
    }
}

pub struct Relay {
    pub url: String,
    state: Arc<Mutex<State>>,
    carried: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (state, carried) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicUsize::new(0)));
        let (shared, counter) = (state.clone(), carried.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = stream.set_nodelay(true);
                let (state, carried) = (shared.clone(), counter.clone());
                tokio::spawn(async move {
                    let _ = carry(stream, state, carried).await;
                });
            }
        });
        Self { url, state, carried, task }
    }
    /// Where requests go from now on.
    pub fn to(&self, base: &str) {
        self.state.lock().unwrap().backends = vec![address(base)];
    }
    /// Requests go to each of these in turn, as behind a balancer.
    pub fn to_each(&self, bases: &[String]) {
        self.state.lock().unwrap().backends = bases.iter().map(|base| address(base)).collect();
    }
    /// The questions of the verifier that reports under this name always go there.
    pub fn named_to(&self, name: &str, base: &str) {
        self.state.lock().unwrap().named.insert(name.into(), address(base));
    }
    pub fn nowhere(&self) {
        self.state.lock().unwrap().backends.clear();
    }
    pub fn set(&self, kind: Kind, fate: Fate) {
        self.state.lock().unwrap().fates.insert(kind, fate);
    }
    pub fn set_all(&self, fate: Fate) {
        for kind in [Kind::Metadata, Kind::Keys, Kind::Tail, Kind::Page, Kind::Other] {
            self.set(kind, fate.clone());
        }
    }
    pub fn asked(&self, kind: Kind) -> usize {
        self.state.lock().unwrap().asked.get(&kind).copied().unwrap_or(0)
    }
    /// The heads of all requests so far.
    pub fn heads(&self, kind: Kind) -> Vec<String> {
        self.state.lock().unwrap().heads.get(&kind).cloned().unwrap_or_default()
    }
    /// Bytes that followers were sent.
    pub fn carried(&self) -> usize {
        self.carried.load(Ordering::Relaxed)
    }
    pub fn recorded(&self, kind: Kind) -> Vec<u8> {
        self.state.lock().unwrap().recorded.get(&kind).cloned().unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, state: Arc<Mutex<State>>, carried: Arc<AtomicUsize>) -> std::io::Result<()> {
    loop {
        let head = read_head(&mut client).await?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let target = text.split(' ').nth(1).unwrap_or("/").to_owned();
        let kind = Kind::of(&target);
        let (fate, backend) = {
            let mut state = state.lock().unwrap();
            *state.asked.entry(kind).or_default() += 1;
            state.heads.entry(kind).or_default().push(text.clone());
            (state.fates.get(&kind).cloned().unwrap_or(Fate::Pass), state.backend(&text))
        };
        let answer = match fate.clone() {
            Fate::Reset => return Ok(()),
            Fate::Stall => std::future::pending().await,
            Fate::Say(status, headers, body) => respond(status, &headers, &body),
            Fate::Replay => state.lock().unwrap().recorded.get(&kind).cloned().unwrap_or_default(),
            Fate::Endless => {
                client.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                loop {
                    client.write_all(&[b"1000\r\n", &[b'a'; 4096][..], b"\r\n"].concat()).await?;
                }
            }
            Fate::NoCredentials if has_credentials(&text) => respond(401, "WWW-Authenticate: Basic", b""),
            Fate::Cache if let Some(kept) = kept(&state, &target) => kept,
            Fate::NoCredentials | Fate::Pass | Fate::Drip | Fate::Change(..) | Fate::Cache | Fate::Status(_) => {
                let Some(backend) = backend else { return Ok(()) };
                let answer = exchange(backend, &head).await?;
                if answer.starts_with(b"HTTP/1.1 200") {
                    state.lock().unwrap().cached.insert(target.clone(), answer.clone());
                }
                if matches!(fate, Fate::Pass) {
                    state.lock().unwrap().recorded.insert(kind, answer.clone());
                }
                answer
            }
        };
        match fate {
            Fate::Drip => {
                for byte in &answer {
                    client.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Fate::Status(status) => {
                let text = String::from_utf8_lossy(&answer).replacen(" 200 ", &format!(" {status} "), 1);
                client.write_all(text.as_bytes()).await?;
            }
            Fate::Change(what, by) => {
                let (head, body) = split(&answer);
                let body = String::from_utf8_lossy(body).replace(&what, &by);
                let head = String::from_utf8_lossy(head);
                let kept: Vec<_> =
                    head.lines().skip(1).filter(|l| !l.to_lowercase().starts_with("content-length")).collect();
                client.write_all(&respond(200, &(kept.join("\r\n") + "\r\n"), body.as_bytes())).await?;
            }
            _ => {
                carried.fetch_add(answer.len(), Ordering::Relaxed);
                client.write_all(&answer).await?;
            }
        }
    }
}

fn address(base: &str) -> SocketAddr {
    base.strip_prefix("http://").unwrap().parse().unwrap()
}

pub fn has_credentials(head: &str) -> bool {
    head.to_lowercase().contains("\r\nauthorization:")
}

fn kept(state: &Mutex<State>, target: &str) -> Option<Vec<u8>> {
    state.lock().unwrap().cached.get(target).cloned()
}

fn respond(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let headers = headers.trim_end();
    let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
    let head = format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn split(answer: &[u8]) -> (&[u8], &[u8]) {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    (&answer[..end], &answer[end + 4..])
}

async fn read_head(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await?);
    }
    Ok(head)
}

/// One request on a connection of its own; the answer whole.
async fn exchange(backend: SocketAddr, head: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(backend).await?;
    server.set_nodelay(true)?;
    server.write_all(head).await?;
    let mut answer = read_head(&mut server).await?;
    let text = String::from_utf8_lossy(&answer).to_lowercase();
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:")).map_or(0, |l| l.trim().parse().unwrap());
    let mut body = vec![0; length];
    server.read_exact(&mut body).await?;
    answer.extend_from_slice(&body);
    Ok(answer)
}

//! What stands between us and a Redis: carries bytes there and answers back, or does what networks do. (What stands
//! between a verifier and its issuer is `common/relay.rs`: it speaks HTTP.)

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of what is said.
#[derive(Clone, PartialEq, Debug)]
pub enum Fate {
    /// It is carried there, and its answer back.
    Pass,
    /// Nobody carries anything any more, and nobody says so: the connection stays open.
    HalfOpen,
    /// All connections are broken off, and so are new ones.
    Cut,
    /// Each answer comes so much later.
    Late(Duration),
    /// Answers come a byte at a time.
    Drip,
    /// Requests arrive; what is answered never does, and the connection breaks.
    LoseAnswers,
    /// Before each answer comes the one before it once more: so each is another's.
    Twice,
    /// Instead of the next answer an endless one.
    Endless,
}

pub struct Proxy {
    pub port: u16,
    fate: watch::Sender<Fate>,
    pub opened: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (fate, opened) = (watch::Sender::new(Fate::Pass), Arc::new(AtomicUsize::new(0)));
        let (shared, counter) = (fate.clone(), opened.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(stream, ([127, 0, 0, 1], port).into(), shared.subscribe()));
            }
        });
        Self { port: own, fate, opened, task }
    }

    pub fn set(&self, fate: Fate) {
        self.fate.send_replace(fate);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, backend: SocketAddr, mut fate: watch::Receiver<Fate>) {
    if *fate.borrow() == Fate::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(backend).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut last = Vec::new();
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let now = fate.borrow_and_update().clone();
        match now {
            Fate::Cut => return,
            // Not even the end of the connection is noticed.
            Fate::HalfOpen => {
                let _ = fate.changed().await;
                continue;
            }
            _ => {}
        }
        tokio::select! {
            _ = fate.changed() => {}
            n = client.read(&mut asked) => match n {
                Ok(n @ 1..) if server.write_all(&asked[..n]).await.is_ok() => {}
                _ => return,
            },
            n = server.read(&mut answered) => match n {
                Ok(n @ 1..) if answer(&mut client, &answered[..n], &now, &mut last).await.is_some() => {}
                _ => return,
            },
        }
    }
}

async fn answer(client: &mut TcpStream, bytes: &[u8], fate: &Fate, last: &mut Vec<u8>) -> Option<()> {
    match fate {
        Fate::Late(by) => tokio::time::sleep(*by).await,
        Fate::LoseAnswers => return None,
        Fate::Drip => {
            for byte in bytes {
                client.write_all(&[*byte]).await.ok()?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return Some(());
        }
        Fate::Twice => client.write_all(&std::mem::replace(last, bytes.to_vec())).await.ok()?,
        Fate::Endless => {
            client.write_all(b"*1000000\r\n").await.ok()?;
            let string = [&b"$1048576\r\n"[..], &vec![b'a'; 1 << 20], b"\r\n"].concat();
            loop {
                client.write_all(&string).await.ok()?;
            }
        }
        _ => {}
    }
    client.write_all(bytes).await.ok()
}

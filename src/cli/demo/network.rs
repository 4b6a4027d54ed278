//! A network that loses one answer: it carries the request there, hears the answer, and breaks the connection.

use std::{
    io::{self, Read},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

/// Nothing here waits longer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Relay(TcpListener);

impl Relay {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(TcpListener::bind("127.0.0.1:0")?))
    }
    pub(super) fn url(&self) -> Result<String> {
        Ok(format!("http://{}", self.0.local_addr()?))
    }
    /// Carries one exchange and returns the answer that the client never saw. Blocks.
    pub(super) fn lose_one(self, server: SocketAddr) -> Result<Vec<u8>> {
        let (client, _) = self.0.accept()?;
        let server = TcpStream::connect(server)?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE))?;
        }
        let (request, forth) = (client.try_clone()?, server.try_clone()?);
        // Ends when the client is cut off below.
        let there = std::thread::spawn(move || io::copy(&mut &request, &mut &forth));
        let answer = read_answer(&server).context("the node did not answer the relay")?;
        client.shutdown(Shutdown::Both)?;
        server.shutdown(Shutdown::Both)?;
        let _ = there.join();
        Ok(answer)
    }
}

/// One answer with a Content-Length, body only.
fn read_answer(mut from: &TcpStream) -> Result<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(body) = whole_body(&bytes) {
            return Ok(body.to_vec());
        }
        let read = from.read(&mut chunk)?;
        anyhow::ensure!(read > 0, "the connection ended early");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn whole_body(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let length: usize = head.lines().find_map(|l| l.strip_prefix("content-length:"))?.trim().parse().ok()?;
    bytes.get(end + 4..end + 4 + length)
}

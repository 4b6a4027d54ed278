//! As little HTTP/1.1 client as the bench needs: the generator shares the cores with the server that it measures.

use std::{io, net::SocketAddr};

use tokio::net::TcpStream;

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, its body still in the connection's buffer.
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(4096) })
    }

    /// Sends `request` and waits for the whole answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Response<'_>> {
        self.send(request).await?;
        self.received.clear();
        loop {
            self.receive().await?;
            if let Some((status, body)) = whole(&self.received)? {
                return Ok(Response { status, body: &self.received[body..] });
            }
        }
    }

    async fn send(&self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(again) if again.kind() == io::ErrorKind::WouldBlock => {}
                Err(broken) => return Err(broken),
            }
        }
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<()> {
        let mut part = [0; 4096];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    self.received.extend_from_slice(&part[..bytes]);
                    return Ok(());
                }
                Err(again) if again.kind() == io::ErrorKind::WouldBlock => {}
                Err(broken) => return Err(broken),
            }
        }
    }
}

/// Status and start of the body, once all of it has arrived. Chunked answers are none of ours: they read as an error.
fn whole(received: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(head_end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&received[..head_end]).map_err(io::Error::other)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|code| code.parse().ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    match (status, length) {
        (Some(status), Some(length)) if received.len() >= head_end + 4 + length => Ok(Some((status, head_end + 4))),
        (Some(_), Some(_)) => Ok(None),
        _ => Err(io::Error::other("an answer without status or content-length")),
    }
}

/// A POST as it goes over the wire.
pub(crate) fn post(path: &str, authorization: &str, media_type: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\ncontent-type: {media_type}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

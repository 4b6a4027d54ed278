//! A plain application behind a proxy: it answers with the request as it came.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Serves until the test's process ends.
pub struct Backend {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                // A proxy may open a connection ahead of need and send nothing on it.
                thread::spawn(move || answer(stream, &kept));
            }
        });
        Self { address, seen }
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, head and body.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// The status is the one that the path names; 200 where it names none.
fn answer(mut stream: TcpStream, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let request = read(&stream)?;
    let status: u16 = request.split(['/', ' ']).nth(2).and_then(|path| path.parse().ok()).unwrap_or(200);
    seen.lock().unwrap().push(request.clone());
    let length = request.len();
    write!(stream, "HTTP/1.1 {status} As Asked\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{request}")
}

fn read(stream: &TcpStream) -> io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    let mut length = 0;
    while !head.ends_with("\r\n\r\n") {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(("content-length", value)) = line.to_lowercase().trim().split_once(": ") {
            length = value.parse().map_err(io::Error::other)?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}

//! HTTP as bytes: header names keep the spelling, and the number, that a test gives them.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// No answer takes longer, not even a proxy's that waits for a sidecar in vain.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().filter_map(|line| line.split_once(':'));
        line.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// One request on a connection of its own. `base` is `http://HOST:PORT`.
pub fn send(base: &str, line: &str, headers: &[(&str, &str)], body: &str) -> io::Result<Answer> {
    let host = base.strip_prefix("http://").unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "Connection") {
        request.push_str("Connection: close\r\n");
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::other(format!("no answer: {text}")))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    if answer.header("Transfer-Encoding").is_some() {
        answer.body = joined(body)?;
    }
    Some(answer)
}

/// The chunks of a body (RFC 9112 §7.1), in ASCII.
fn joined(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        match usize::from_str_radix(size, 16).ok()? {
            0 => return Some(body),
            size => {
                body.push_str(rest.get(..size)?);
                chunks = rest.get(size + 2..)?;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test waits for other processes, in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks until the status is `wanted`, within `bound`; on the way to it, nothing but `before` is allowed.
pub fn until(wanted: u16, before: &[u16], bound: Duration, mut ask: impl FnMut() -> Answer) -> Answer {
    let began = now();
    loop {
        let answer = ask();
        let took = began.elapsed();
        assert!(took <= bound, "not {wanted} within {bound:?}: {answer:?}");
        if answer.status == wanted {
            return answer;
        }
        assert!(before.contains(&answer.status), "neither {wanted} nor {before:?} after {took:?}: {answer:?}");
        thread::sleep(PAUSE);
    }
}

//! Runs the command as people and scripts do: arguments, environment, stdin; then looks at what came out.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

/// Nothing here takes longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The command, undisturbed by the environment of whoever runs the tests.
pub fn rescind() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|n| n.to_string_lossy().starts_with("RESCIND_"));
    for name in ours {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("COLUMNS", "100");
    command
}

/// The same command, without what root may do beyond its own files and the higher ports.
pub fn without_privileges(command: &Command) -> Command {
    let mut bare = Command::new(command.get_program());
    if rustix::process::geteuid().is_root() {
        bare = Command::new("setpriv");
        bare.args(["--bounding-set=-dac_override,-dac_read_search,-net_bind_service"]).arg(command.get_program());
    }
    bare.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bare.env(name, value),
            None => bare.env_remove(name),
        };
    }
    bare
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn end_of(command: &mut Command, stdin: &str) -> Ended {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read has ended already, which is as good.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let (stdout, stderr) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
    let code = wait(&mut child);
    Ended { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = from.read_to_string(&mut text);
        text
    })
}

#[expect(clippy::disallowed_methods, reason = "a test waits for another process, in real time")]
fn wait(child: &mut Child) -> i32 {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code().unwrap_or(-1),
            None if Instant::now() > until => {
                child.kill().unwrap();
                panic!("it did not end within {PATIENCE:?}");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A command that serves. Killed when it is dropped.
pub struct Server {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<ChildStderr>,
}

impl Server {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take();
        Self { child, stdout, stderr }
    }
    /// The next line on stdout.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }
    pub fn terminate(&self) {
        self.send(rustix::process::Signal::TERM);
    }
    pub fn sighup(&self) {
        self.send(rustix::process::Signal::HUP);
    }
    fn send(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
    /// Wants to hear nothing more.
    pub fn stop_reading(&mut self) {
        self.stdout = None;
    }
    /// How it ends by itself.
    pub fn exit_code(&mut self) -> i32 {
        wait(&mut self.child)
    }
    /// Terminates it and returns what it had not yet said.
    pub fn end(mut self) -> Ended {
        self.terminate();
        self.ended()
    }
    pub fn ended(&mut self) -> Ended {
        let (stdout, stderr) = (drain(self.stdout.take().unwrap()), drain(self.stderr.take().unwrap()));
        let code = wait(&mut self.child);
        Ended { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `rescind dev --json`, and what it announced.
pub struct Dev {
    pub server: Server,
    pub said: Value,
}

impl Dev {
    pub fn start(args: &[&str]) -> Self {
        let mut server = Server::start(rescind().args(["dev", "--json"]).args(args));
        let line = server.line();
        let said = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}; {}", server.ended().stderr));
        Self { server, said }
    }
    pub fn says(&self, member: &str) -> &str {
        self.said[member].as_str().unwrap_or_else(|| panic!("no {member}"))
    }
    pub fn basic(&self) -> Basic {
        Basic(self.says("client_id").into(), self.says("client_secret").into())
    }
    /// A session for the public client.
    pub fn open(&self, subject: &str) -> Value {
        let body = format!(r#"{{"subject":"{subject}","audience":["api"],"scope":"read","client_id":"dev-public"}}"#);
        let (status, answer) = post(self.says("issuer"), "/v1/sessions", Some(&self.basic()), JSON, &body);
        assert_eq!(status, 201, "{answer}");
        answer
    }
    pub fn refresh(&self, token: &str) -> (u16, Value) {
        let form = format!("grant_type=refresh_token&client_id=dev-public&refresh_token={token}");
        post(self.says("issuer"), "/oauth2/token", None, FORM, &form)
    }
    pub fn revoke_subject(&self, subject: &str) {
        let order = format!(r#"{{"kind":"subject","id":"{subject}"}}"#);
        let (status, answer) = post(self.says("issuer"), "/v1/revocations", Some(&self.basic()), JSON, &order);
        assert_eq!(status, 201, "{answer}");
    }
}

pub const JSON: &str = "application/json";
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Name and secret of a client.
pub struct Basic(pub String, pub String);

pub fn get(base: &str, path: &str) -> (u16, Value) {
    ask(base, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
}

pub fn get_as(base: &str, path: &str, Basic(id, secret): &Basic) -> (u16, Value) {
    let by = BASE64_STANDARD.encode(format!("{id}:{secret}"));
    let head = format!("Host: test\r\nConnection: close\r\nAuthorization: Basic {by}\r\n");
    ask(base, &format!("GET {path} HTTP/1.1\r\n{head}\r\n"))
}

pub fn post(base: &str, path: &str, by: Option<&Basic>, kind: &str, body: &str) -> (u16, Value) {
    let by = by.map(|Basic(id, secret)| BASE64_STANDARD.encode(format!("{id}:{secret}")));
    let by = by.map(|b| format!("Authorization: Basic {b}\r\n")).unwrap_or_default();
    let length = body.len();
    let head = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n{by}");
    ask(base, &format!("POST {path} HTTP/1.1\r\nHost: test\r\n{head}\r\n{body}"))
}

fn ask(base: &str, request: &str) -> (u16, Value) {
    let mut stream = connect(base);
    stream.write_all(request.as_bytes()).unwrap();
    answer(stream)
}

pub fn connect(base: &str) -> TcpStream {
    let stream = TcpStream::connect(base.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Status, and body if it is JSON; else the body as a string.
pub fn answer(mut stream: TcpStream) -> (u16, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
}

/// A file's content with one thing changed, which must be there.
pub fn edit(file: &Path, from: &str, to: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1)
}

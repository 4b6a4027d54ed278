//! Real Redis servers, started by the test that wants them on ports of their own, in a directory of their own. They end
//! with it, however it ends.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test helper; each test binary uses a part"
)]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use redis::{FromRedisValue, Value};
use tempfile::TempDir;
use tokio::time::Instant;

pub mod cluster;
pub mod proxy;
pub mod sentinel;
pub mod tls;

/// How long anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where a program lives.
#[derive(Clone, Debug)]
pub struct Host {
    pub address: String,
    /// The network namespace, if it is not the machine's own.
    pub namespace: Option<String>,
}

impl Default for Host {
    fn default() -> Self {
        Self { address: "127.0.0.1".into(), namespace: None }
    }
}

impl Host {
    /// A command there, which ends with the thread that starts it: nothing is left behind by a test that is killed.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(namespace) = &self.namespace {
            command.args(["ip", "netns", "exec", namespace]);
        }
        command.arg(program);
        command
    }
}

/// A server, or a Sentinel.
pub struct Server {
    pub host: Host,
    pub port: u16,
    pub dir: PathBuf,
    program: &'static str,
    lines: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    password: Option<(String, String)>,
    /// Where it speaks TLS, to its peers too.
    tls: Option<u16>,
    _owned: Option<TempDir>,
}

impl Server {
    /// With nothing on disk but what it is told to keep, and these lines of configuration besides.
    pub fn start(lines: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), lines, &[])
    }

    /// With these variables in its environment, as for a clock that is wrong.
    pub fn start_with(lines: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_in(TempDir::new().unwrap(), lines, environment)
    }

    fn start_in(owned: TempDir, lines: &[&str], environment: &[(&str, &str)]) -> Self {
        let dir = owned.path().to_owned();
        let mut server = Self::prepared("redis-server", dir, lines.iter().map(|l| (*l).to_owned()).collect());
        server.environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        server._owned = Some(owned);
        server.run();
        server
    }

    /// Not started yet.
    pub fn prepared(program: &'static str, dir: PathBuf, lines: Vec<String>) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let (host, environment) = (Host::default(), Vec::new());
        Self {
            host,
            port: spare_port(),
            dir,
            program,
            lines,
            environment,
            child: None,
            password: None,
            tls: None,
            _owned: None,
        }
    }

    /// Starts, or starts again as it was; ready when this returns.
    pub fn run(&mut self) {
        self.run_unready();
        wait("the server answers", || self.try_ask::<Value>(&["PING"]).is_ok());
    }

    /// The same without waiting for an answer.
    pub fn run_unready(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let config = self.dir.join(format!("{}.conf", self.program));
        // A Sentinel writes down there what it learns.
        if !config.exists() || self.program == "redis-server" {
            let (dir, log) = (self.dir.display(), self.log());
            let (port, address) = (self.port, &self.host.address);
            let mut text = format!("dir {dir}\nlogfile {}\nport {port}\nbind {address}\n", log.display());
            text += "protected-mode no\n";
            if self.program == "redis-server" {
                text += "save \"\"\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n";
                text += "enable-debug-command yes\n";
            }
            text += &self.lines.join("\n");
            fs::write(&config, text + "\n").unwrap();
        }
        let mut command = self.host.command(self.program);
        command.arg(&config).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child =
            Some(command.spawn().expect("setpriv (util-linux) and redis-server are installed: tests/run does it"));
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.program))
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host.address, self.port)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// From its start on it speaks TLS with its peers and with clients, and what it says of itself is that port.
    pub fn speak_tls(&mut self, files: &tls::Files) {
        let port = spare_port();
        self.lines.extend(files.lines(port));
        self.line("tls-replication yes");
        self.tls = Some(port);
    }

    /// The port that others are told.
    pub fn told(&self) -> u16 {
        self.tls.unwrap_or(self.port)
    }

    /// The place that others are told.
    pub fn told_address(&self) -> String {
        format!("{}:{}", self.host.address, self.told())
    }

    /// Adds a line of configuration for the next start.
    pub fn line(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    /// Who asks in this harness from now on.
    pub fn log_in_as(&mut self, user: &str, password: &str) {
        self.password = Some((user.to_owned(), password.to_owned()));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `kill -9`, and started again with what it kept.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Stands still from now on.
    pub fn stop(&self) {
        self.signal("-STOP");
        let id = self.child.as_ref().unwrap().id();
        wait("it stands still", || {
            fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| status.contains("State:\tT"))
        });
    }

    /// Goes on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// One command on a connection of its own.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    pub fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let client = redis::Client::open(match &self.password {
            Some((user, password)) => format!("redis://{user}:{password}@{}", self.address()),
            None => self.url(),
        })?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        command.query(&mut connection)
    }

    /// Waits until so many replicas have said that they have something: a pair that has only just met may take a second
    /// to come to that.
    pub fn followed_by(&self, replicas: usize) {
        let behind = |line: &str| line.contains("state=online") && !line.contains("offset=0,");
        let all = |said: String| said.lines().filter(|line| behind(line)).count() == replicas;
        wait("the replicas follow", || self.try_ask(&["INFO", "replication"]).is_ok_and(all));
    }

    /// What `redis-cli` says to this.
    pub fn cli(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A line of `INFO`.
    pub fn info(&self, name: &str) -> String {
        let all: String = self.try_ask(&["INFO"]).unwrap_or_default();
        let line = all.lines().find_map(|line| line.strip_prefix(&format!("{name}:")).map(str::to_owned));
        line.unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(12).collect();
            eprintln!("--- {} on {}:", self.program, self.port);
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        self.kill();
    }
}

/// A port that nobody has, below those that the system gives to whoever connects.
pub fn spare_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..1000 {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Processes of tests begin far from each other.
        let port = 10_000 + ((std::process::id() * 61 % 20_000) as u16 + n * 3) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Waits for something, and not for ever.
pub fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same where other tasks must go on meanwhile.
pub async fn wait_for<F: Future<Output = bool>>(what: &str, mut there: impl FnMut() -> F) {
    let until = Instant::now() + PATIENCE;
    while !there().await {
        assert!(Instant::now() < until, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A server whose clock is off by this, in seconds, as `+3600`.
pub fn with_clock_off_by(seconds: &str) -> Server {
    let libraries = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| Path::new("/usr/lib").join(arch));
    let library = |name: &str| libraries.iter().map(|dir| dir.join(name)).find(|path| path.exists());
    let faketime = library("faketime/libfaketimeMT.so.1").expect("libfaketime is installed: tests/run does it");
    // The C library before the allocator of Redis, which asks for the time before anything is set up.
    let preload = format!("{}:{}", faketime.display(), library("libc.so.6").unwrap().display());
    Server::start_with(&[], &[("LD_PRELOAD", &preload), ("FAKETIME", seconds)])
}

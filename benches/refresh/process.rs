//! Servers in processes of their own, and what the kernel says about them.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

/// What a server prints once it serves: the contract of `rescind dev --json`.
#[derive(Deserialize)]
struct Ready {
    issuer: String,
    client_id: String,
    client_secret: String,
}

/// A running server. It ends when this goes out of scope.
pub(crate) struct Server {
    child: Child,
    /// What works for it in a process of its own.
    beside: Option<u32>,
    pub(crate) address: SocketAddr,
    /// The client's credentials as HTTP Basic.
    pub(crate) authorization: String,
}

impl Server {
    /// Starts `program` and waits for its first line. What it logs goes to `log`, as it would go to a journal.
    pub(crate) fn start(program: &Path, arguments: &[&str], log: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log)?)
            .spawn()?;
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("was asked for")).read_line(&mut first)?;
        let ready: Ready = serde_json::from_str(&first).map_err(|e| {
            io::Error::other(format!("{} did not start: {e}; see {}", program.display(), log.display()))
        })?;
        let address =
            ready.issuer.trim_start_matches("http://").trim_end_matches('/').replace("localhost", "127.0.0.1");
        let credentials = BASE64_STANDARD.encode(format!("{}:{}", ready.client_id, ready.client_secret));
        Ok(Self {
            child,
            beside: None,
            address: address.parse().map_err(io::Error::other)?,
            authorization: format!("Basic {credentials}"),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process with this number works for it.
    #[allow(dead_code, reason = "not every bench has one")]
    pub(crate) fn with(mut self, beside: u32) -> Self {
        self.beside = Some(beside);
        self
    }

    /// What the process beside it has used so far, if there is one.
    pub(crate) fn cpu_beside(&self) -> io::Result<f64> {
        self.beside.map_or(Ok(0.0), |pid| cpu_of(pid).map(Cpu::total))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only when the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time in seconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// `USER_HZ`, which Linux keeps at 100 on every architecture that we know.
const TICKS: f64 = 100.0;

/// Used so far by a process: fields 14 and 15 of its `stat`.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    match fields[..] {
        [user, system] => Ok(Cpu { user: user / TICKS, system: system / TICKS }),
        _ => Err(io::Error::other("unexpected /proc/PID/stat")),
    }
}

/// Used so far by everybody on the machine.
pub(crate) fn cpu_of_all() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all: Vec<f64> =
        stat.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    match all[..] {
        [user, nice, system, _idle, _iowait, irq, softirq, ..] => Ok((user + nice + system + irq + softirq) / TICKS),
        _ => Err(io::Error::other("unexpected /proc/stat")),
    }
}

/// Resident memory in MiB.
pub(crate) fn resident_of(pid: u32) -> io::Result<f64> {
    number(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib / 1024.0)
}

/// Bytes that a process has caused to be written to a disk.
pub(crate) fn written_by(pid: u32) -> io::Result<f64> {
    number(&format!("/proc/{pid}/io"), "write_bytes:")
}

fn number(file: &str, name: &str) -> io::Result<f64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("no {name} in {file}")))
}

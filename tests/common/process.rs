//! The real program as a process of its own.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test helper; each test binary uses a part")]

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use serde_json::Value;

/// `rescind dev --json`, and everything that it says.
pub struct Dev {
    pub child: Child,
    pub hello: Value,
    pub first_line: String,
    pub output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Dev {
    pub fn start(store: &Path, arguments: &[&str]) -> Self {
        Self::start_with(store, arguments, &[])
    }

    pub fn start_with(store: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::try_start(store, arguments, environment).expect("the server says where it serves, or it ended at once")
    }

    pub fn try_start(store: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.args(["dev", "--json", "--store", &format!("embedded:{}", store.display())]).args(arguments);
        command.envs(environment.iter().copied());
        Self::announced(command)
    }

    /// None: it ended without saying where it serves.
    fn announced(mut command: Command) -> Option<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let mut readers = vec![follow(stderr, output.clone())];
        let mut first_line = String::new();
        stdout.read_line(&mut first_line).unwrap();
        let Ok(hello) = serde_json::from_str(&first_line) else {
            let _ = child.wait();
            return None;
        };
        readers.push(follow(stdout, output.clone()));
        Some(Self { child, hello, first_line, output, readers })
    }

    pub fn text(&self, member: &str) -> &str {
        self.hello[member].as_str().unwrap()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        // A signal that has been sent has not arrived yet in every thread.
        while signal == "-STOP" && !self.stands_still() {
            std::thread::yield_now();
        }
    }

    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stopped = |thread: std::fs::DirEntry| {
            let status = std::fs::read_to_string(thread.path().join("status"));
            // One that has gone does nothing either.
            status.map_or(true, |text| text.contains("State:\tT"))
        };
        threads.map(Result::unwrap).all(stopped)
    }

    /// Asks it to stop, waits, and gives all that it said after its first line.
    pub fn stop(mut self) -> (std::process::ExitStatus, Vec<u8>) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        let output = self.output.lock().unwrap().clone();
        (status, output)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `rescind verifier --json`: the sidecar of applications and proxies.
pub struct Sidecar(Dev);

impl Sidecar {
    /// On a port of its own, with these arguments besides.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.args(["verifier", "--json", "--listen", "127.0.0.1:0"]).args(arguments);
        Self(Dev::announced(command).expect("the sidecar says where it serves, or it ended at once"))
    }

    pub fn address(&self) -> &str {
        self.0.text("listen")
    }

    pub fn signal(&self, signal: &str) {
        self.0.signal(signal);
    }

    /// `kill -9`.
    pub fn kill(self) {
        self.0.kill();
    }
}

fn follow(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
    })
}

//! A redis-server of the bench's own, as its users run it: append-only file, synced once a second.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rescind::clock::{Clock, SystemClock};

pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(place)
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"])
            .stdin(Stdio::null())
            .stdout(fs::File::create(place.join("redis.log"))?)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("redis-server: {e}")))?;
        let server = Self { child, port };
        server.wait()?;
        Ok(server)
    }

    fn wait(&self) -> io::Result<()> {
        let clock = SystemClock::default();
        let end = clock.monotonic() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if clock.monotonic() > end {
                return Err(io::Error::other("redis-server does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What `redis-cli` answers.
    #[allow(dead_code, reason = "not every bench asks")]
    pub(crate) fn cli(&self, arguments: &[&str]) -> io::Result<String> {
        let asked = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output()?;
        String::from_utf8(asked.stdout).map_err(io::Error::other)
    }

    /// A number that `INFO` tells.
    #[allow(dead_code, reason = "not every bench asks")]
    pub(crate) fn number(&self, section: &str, name: &str) -> io::Result<f64> {
        let info = self.cli(&["INFO", section])?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
        value.ok_or_else(|| io::Error::other(format!("INFO tells no {name}")))
    }

    /// How many commands it has carried out, those of scripts among them.
    #[allow(dead_code, reason = "not every bench asks")]
    pub(crate) fn commands(&self) -> io::Result<f64> {
        let info = self.cli(&["INFO", "commandstats"])?;
        let calls =
            info.lines().filter_map(|line| line.split_once(":calls=")?.1.split(',').next()?.parse::<f64>().ok());
        Ok(calls.sum())
    }

    #[allow(dead_code, reason = "not every bench asks")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Either fails only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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

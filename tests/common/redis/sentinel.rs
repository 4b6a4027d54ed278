//! One master, two replicas, three Sentinels.

use std::path::Path;

use tempfile::TempDir;

use super::{Host, Server, tls::Files, wait};

pub const NAME: &str = "main";

pub struct Watched {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
    _dir: TempDir,
}

impl Watched {
    /// With these lines for each server besides.
    pub fn start(lines: &[&str]) -> Self {
        Self::start_on(&[const { None }; 3], lines)
    }

    /// The same, the n-th server and the n-th Sentinel on the n-th of these hosts.
    pub fn start_on(hosts: &[Option<Host>; 3], lines: &[&str]) -> Self {
        Self::start_with(hosts, lines, None)
    }

    /// All of them speak TLS, with each other too.
    pub fn start_over_tls(files: &Files) -> Self {
        Self::start_with(&[const { None }; 3], &[], Some(files))
    }

    fn start_with(hosts: &[Option<Host>; 3], lines: &[&str], files: Option<&Files>) -> Self {
        let dir = TempDir::new().unwrap();
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut servers: Vec<Server> = Vec::new();
        for (n, host) in hosts.iter().enumerate() {
            let mut server = Server::prepared("redis-server", dir.path().join(format!("server-{n}")), lines.clone());
            server.host = host.clone().unwrap_or_default();
            server.line(&format!("replica-announce-ip {}", server.host.address));
            if let Some(files) = files {
                server.speak_tls(files);
            }
            if let Some(master) = servers.first() {
                server.line(&format!("replicaof {} {}", master.host.address, master.told()));
            }
            server.run();
            servers.push(server);
        }
        servers[0].followed_by(2);
        let sentinels = (0..3).map(|n| sentinel(dir.path(), n, servers[n].host.clone(), &servers[0], files)).collect();
        let watched = Self { servers, sentinels, _dir: dir };
        wait("the Sentinels know each other and the replicas", || watched.sentinels.iter().all(knows_all));
        watched
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(Server::told_address).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }

    /// The place in `servers` of the one that most Sentinels name.
    pub fn master(&self) -> usize {
        let named = |server: &Server| {
            let running = self.sentinels.iter().filter(|sentinel| sentinel.is_running());
            running.filter(|sentinel| named(sentinel) == Some(server.told())).count() > self.sentinels.len() / 2
        };
        let mut found = None;
        wait("most Sentinels name one master", || {
            found = self.servers.iter().position(named);
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until another one than this is the master, and says so itself.
    pub fn heir(&self, of: usize) -> usize {
        wait("another is the master", || self.master() != of);
        let heir = self.master();
        wait("the heir is a master", || self.servers[heir].info("role") == "master");
        heir
    }
}

fn sentinel(dir: &Path, n: usize, host: Host, master: &Server, files: Option<&Files>) -> Server {
    let lines = [
        format!("sentinel announce-ip {}", host.address),
        format!("sentinel monitor {NAME} {} {} 2", master.host.address, master.told()),
        format!("sentinel down-after-milliseconds {NAME} 600"),
        format!("sentinel failover-timeout {NAME} 3000"),
        format!("sentinel parallel-syncs {NAME} 2"),
    ];
    let mut sentinel = Server::prepared("redis-sentinel", dir.join(format!("sentinel-{n}")), lines.into());
    sentinel.host = host;
    if let Some(files) = files {
        sentinel.speak_tls(files);
    }
    sentinel.run();
    sentinel
}

fn knows_all(sentinel: &Server) -> bool {
    let said: std::collections::HashMap<String, String> =
        sentinel.try_ask(&["SENTINEL", "MASTER", NAME]).unwrap_or_default();
    said.get("num-other-sentinels").is_some_and(|n| n == "2") && said.get("num-slaves").is_some_and(|n| n == "2")
}

fn named(sentinel: &Server) -> Option<u16> {
    let place: Vec<String> = sentinel.try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).ok()?;
    place.get(1)?.parse().ok()
}

//! One master, two replicas, three Sentinels.

use std::path::Path;

use tempfile::TempDir;

use super::{Server, wait};

pub const NAME: &str = "main";

pub struct Watched {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
    _dir: TempDir,
}

impl Watched {
    /// With these lines for each server besides.
    pub fn start(lines: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut servers: Vec<Server> = Vec::new();
        for n in 0..3 {
            let mut server = Server::prepared("redis-server", dir.path().join(format!("server-{n}")), lines.clone());
            if let Some(master) = servers.first() {
                server.line(&format!("replicaof 127.0.0.1 {}", master.port));
            }
            server.run();
            servers.push(server);
        }
        wait("both replicas follow", || {
            let followed = servers[0].info("connected_slaves") == "2";
            followed && servers[1..].iter().all(|replica| replica.info("master_link_status") == "up")
        });
        let sentinels = (0..3).map(|n| sentinel(dir.path(), n, servers[0].port)).collect();
        let watched = Self { servers, sentinels, _dir: dir };
        wait("the Sentinels know each other and the replicas", || watched.sentinels.iter().all(knows_all));
        watched
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(Server::address).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }

    /// The place in `servers` of the one that most Sentinels name.
    pub fn master(&self) -> usize {
        let named = |server: &Server| {
            let running = self.sentinels.iter().filter(|sentinel| sentinel.is_running());
            running.filter(|sentinel| named(sentinel) == Some(server.port)).count() > self.sentinels.len() / 2
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

fn sentinel(dir: &Path, n: usize, master: u16) -> Server {
    let lines = [
        format!("sentinel monitor {NAME} 127.0.0.1 {master} 2"),
        format!("sentinel down-after-milliseconds {NAME} 600"),
        format!("sentinel failover-timeout {NAME} 3000"),
        format!("sentinel parallel-syncs {NAME} 2"),
    ];
    let mut sentinel = Server::prepared("redis-sentinel", dir.join(format!("sentinel-{n}")), lines.into());
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

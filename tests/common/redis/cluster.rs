//! A cluster of three masters, each with a replica. Its members are told about each other before they start, so that they
//! need not meet.

use std::fs;

use tempfile::TempDir;

use super::{Server, tls::Files, wait};

/// Who serves what.
const SHARES: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

pub struct Cluster {
    /// Masters, then the replica of each in the same order.
    pub servers: Vec<Server>,
    _dir: TempDir,
}

impl Cluster {
    /// With these lines for each server besides.
    pub fn start(lines: &[&str]) -> Self {
        Self::start_with(lines, None)
    }

    /// All of them speak TLS, with each other too.
    pub fn start_over_tls(files: &Files) -> Self {
        Self::start_with(&["tls-cluster yes"], Some(files))
    }

    fn start_with(lines: &[&str], files: Option<&Files>) -> Self {
        let dir = TempDir::new().unwrap();
        let mut servers: Vec<Server> = (0..6)
            .map(|n| {
                let bus = super::spare_port();
                let own = [
                    "cluster-enabled yes".to_owned(),
                    "cluster-node-timeout 1000".to_owned(),
                    format!("cluster-port {bus}"),
                    "cluster-replica-validity-factor 0".to_owned(),
                ];
                let lines = own.into_iter().chain(lines.iter().map(|line| (*line).to_owned()));
                let mut server =
                    Server::prepared("redis-server", dir.path().join(format!("node-{n}")), lines.collect());
                if let Some(files) = files {
                    server.speak_tls(files);
                }
                server
            })
            .collect();
        let buses: Vec<String> = servers.iter().map(bus).collect();
        for me in 0..6 {
            let lines: Vec<_> = (0..6).map(|n| member(n, me, servers[n].told(), &buses[n])).collect();
            let text = lines.join("\n") + "\nvars currentEpoch 6 lastVoteEpoch 0\n";
            fs::write(servers[me].dir.join("nodes.conf"), text).unwrap();
        }
        servers.iter_mut().for_each(Server::run_unready);
        let cluster = Self { servers, _dir: dir };
        cluster.servers[..3].iter().for_each(|master| master.followed_by(1));
        wait("the cluster is whole", || cluster.is_whole());
        cluster
    }

    fn is_whole(&self) -> bool {
        let says_ok = |server: &Server| {
            server.try_ask::<String>(&["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"))
        };
        self.servers.iter().all(says_ok)
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(Server::told_address).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// The place in `servers` of the master of a key's slot, as most of those that run see it.
    pub fn master_of(&self, key: &str) -> Option<usize> {
        let running = || self.servers.iter().enumerate().filter(|(_, server)| server.is_running());
        let (_, any) = running().next()?;
        let slot: u16 = any.ask(&["CLUSTER", "KEYSLOT", key]);
        running().map(|(n, _)| n).find(|n| {
            let id = id(*n);
            running().filter(|(_, server)| serves(server, &id, slot)).count() > 3
        })
    }

    /// Waits until another one than this is the master of the key's slot, and the cluster says that it is whole.
    pub fn heir(&self, key: &str, of: usize) -> usize {
        let mut heir = None;
        wait("another is the master of the slot", || {
            heir = self.master_of(key).filter(|n| *n != of);
            heir.is_some()
        });
        heir.unwrap()
    }

    /// Moves a slot to another master, all at once.
    pub fn move_slot(&self, key: &str, to: usize) {
        let from = self.master_of(key).unwrap();
        let slot: u16 = self.servers[0].ask(&["CLUSTER", "KEYSLOT", key]);
        let slot = slot.to_string();
        self.begin_moving(key, to);
        loop {
            let keys: Vec<String> = self.servers[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                break;
            }
            let port = self.servers[to].port.to_string();
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "2000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            self.servers[from].ask::<String>(&words);
        }
        for n in [to, from] {
            self.servers[n].ask::<String>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
        }
    }

    /// From now on keys that are not there yet are at the other one.
    pub fn begin_moving(&self, key: &str, to: usize) {
        let from = self.master_of(key).unwrap();
        let slot: u16 = self.servers[0].ask(&["CLUSTER", "KEYSLOT", key]);
        let slot = slot.to_string();
        self.servers[to].ask::<String>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        self.servers[from].ask::<String>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    }
}

fn serves(server: &Server, id: &str, slot: u16) -> bool {
    let nodes: String = server.try_ask(&["CLUSTER", "NODES"]).unwrap_or_default();
    let line = nodes.lines().find(|line| line.starts_with(id) && line.contains("master") && !line.contains("fail"));
    line.is_some_and(|line| {
        line.split(' ').skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(a), Ok(b)) if (a..=b).contains(&slot))
        })
    })
}

/// A name that is 40 hexadecimal digits.
pub fn id(n: usize) -> String {
    format!("{:040x}", 0xabcd_0000 + n)
}

fn bus(server: &Server) -> String {
    let line = server.lines.iter().find_map(|line| line.strip_prefix("cluster-port "));
    line.unwrap().to_owned()
}

fn member(n: usize, me: usize, port: u16, bus: &str) -> String {
    let myself = if n == me { "myself," } else { "" };
    let head = format!("{} 127.0.0.1:{port}@{bus}", id(n));
    match n {
        0..3 => {
            let (first, last) = SHARES[n];
            format!("{head} {myself}master - 0 0 {} connected {first}-{last}", n + 1)
        }
        _ => format!("{head} {myself}slave {} 0 0 {} connected", id(n - 3), n - 2),
    }
}

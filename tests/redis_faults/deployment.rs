//! Redis as it is deployed, and what can be done to it.

use std::net::{IpAddr, Ipv4Addr};

use crate::redis_servers::{Server, cluster::Cluster, sentinel::Watched, wait};

/// An address on the loopback of this test alone: every port is free there, and the same after a restart.
pub fn own_address(n: u8) -> IpAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 1, low, n).into()
}

/// What a server writes down on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aof {
    None,
    EverySecond,
    Always,
}

impl Aof {
    pub const fn lines(self) -> &'static [&'static str] {
        match self {
            Self::None => &["appendonly no"],
            Self::EverySecond => &["appendonly yes", "appendfsync everysec"],
            Self::Always => &["appendonly yes", "appendfsync always"],
        }
    }
}

/// How the servers belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Single(Aof),
    /// A master, two replicas, three Sentinels.
    Sentinel,
    /// Three masters, a replica of each.
    Cluster,
}

/// All servers of one store.
pub enum Deployment {
    Single(Server),
    Sentinel(Watched),
    Cluster(Cluster),
}

impl Deployment {
    pub fn start(kind: Kind) -> Self {
        let lines = Aof::EverySecond.lines();
        match kind {
            Kind::Single(aof) => Self::Single(Server::start(aof.lines())),
            Kind::Sentinel => Self::Sentinel(Watched::start(lines)),
            Kind::Cluster => Self::Cluster(Cluster::start(lines)),
        }
    }

    /// Where a node finds it.
    pub fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(),
            Self::Sentinel(watched) => watched.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    pub fn servers(&mut self) -> &mut [Server] {
        match self {
            Self::Single(server) => std::slice::from_mut(server),
            Self::Sentinel(watched) => &mut watched.servers,
            Self::Cluster(cluster) => &mut cluster.servers,
        }
    }

    /// The master; in a cluster, of some slot that the number names.
    pub fn master(&self, of: usize) -> usize {
        match self {
            Self::Single(_) => 0,
            Self::Sentinel(watched) => watched.master(),
            Self::Cluster(cluster) => {
                let mut found = None;
                wait("most members name a master of the slot", || {
                    found = cluster.master_of(&slot(of));
                    found.is_some()
                });
                found.expect("it was waited for")
            }
        }
    }

    /// Waits until another one serves in the place of this master. A single server has no heir.
    pub fn succeeded(&self, of: usize, was: usize) {
        match self {
            Self::Single(_) => {}
            Self::Sentinel(watched) => drop(watched.heir(was)),
            Self::Cluster(cluster) => drop(cluster.heir(&slot(of), was)),
        }
    }

    /// Has this one be the master, if it is not.
    pub fn promote(&mut self, n: usize) {
        let Self::Sentinel(watched) = self else { return };
        for (other, server) in watched.servers.iter().enumerate() {
            let priority = if other == n { "1" } else { "100" };
            server.ask::<String>(&["CONFIG", "SET", "replica-priority", priority]);
        }
        let mut asked = false;
        wait("it is the master", || {
            if watched.master() == n {
                return true;
            }
            // Refused while another failover is under way.
            asked |= watched.sentinels[1].try_ask::<String>(&["SENTINEL", "FAILOVER", "main"]).is_ok();
            false
        });
        assert!(asked || watched.master() == n);
        self.stands();
    }

    /// Starts whatever was killed.
    pub fn start_killed(&mut self) {
        for server in self.servers().iter_mut().filter(|server| !server.is_running()) {
            server.run_unready();
        }
    }

    /// Until every server that there should be is there, and every replica has all that its master has: only then does the
    /// loss of another one make a difference.
    pub fn stands(&mut self) {
        let masters = match self {
            Self::Single(_) | Self::Sentinel(_) => 1,
            Self::Cluster(_) => 3,
        };
        let servers = self.servers();
        wait("every replica follows its master", || {
            let roles: Vec<_> = servers.iter().map(|server| server.info("role")).collect();
            let current = |(server, role): (&Server, &String)| {
                role == "master"
                    || server.info("master_link_status") == "up" && server.info("master_sync_in_progress") == "0"
            };
            roles.iter().filter(|role| *role == "master").count() == masters && servers.iter().zip(&roles).all(current)
        });
        if let Self::Sentinel(watched) = self {
            wait("the Sentinels would follow another master", || {
                watched.sentinels.iter().all(|one| one.finds_replicas(2))
            });
        }
    }
}

/// Keys whose slots are spread over the masters.
fn slot(n: usize) -> String {
    format!("rescind:{{{:03x}}}:meta", n * 1031 % 4096)
}

trait Sentinel {
    /// That many are up and follow the master that it watches.
    fn finds_replicas(&self, n: usize) -> bool;
}

impl Sentinel for Server {
    fn finds_replicas(&self, n: usize) -> bool {
        type Replica = std::collections::HashMap<String, String>;
        let Ok(replicas) = self.try_ask::<Vec<Replica>>(&["SENTINEL", "REPLICAS", "main"]) else { return false };
        let is = |replica: &Replica, name: &str, value: &str| replica.get(name).is_some_and(|said| said == value);
        let good = |replica: &&Replica| is(replica, "flags", "slave") && is(replica, "master-link-status", "ok");
        replicas.iter().filter(good).count() >= n
    }
}

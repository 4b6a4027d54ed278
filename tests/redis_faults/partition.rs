//! A network that falls apart: a node, the master and a Sentinel on the one side, all else on the other. By network
//! namespaces of the kernel, so it takes root; who is not prints that it was not tried.

use std::{process::Command, time::Duration};

use crate::{
    deployment::{Aof, Deployment},
    nodes::{Nodes, Settings},
    redis_servers::{Host, sentinel::Watched},
    stage::Stage,
    trials,
};

/// A namespace, and two networks that lead there: one for clients, one for the store, which can be cut.
struct Far {
    name: String,
    /// Of both ends of the clients' network, then of the store's.
    clients: [String; 2],
    store: [String; 2],
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|said| said.status.success())
}

impl Far {
    /// None: it may not be made here.
    fn new() -> Option<Self> {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let name = format!("rescind{}", std::process::id());
        let address = |n: u8| format!("10.{high}.{low}.{n}");
        let far = Self { clients: [address(1), address(2)], store: [address(5), address(6)], name };
        let name = &far.name;
        if !ip(&format!("netns add {name}")) {
            return None;
        }
        for (letter, [near, there]) in [("c", &far.clients), ("s", &far.store)] {
            let (one, other) = (format!("{letter}n{}", std::process::id()), format!("{letter}f{}", std::process::id()));
            for step in [
                format!("link add {one} type veth peer name {other} netns {name}"),
                format!("address add {near}/30 dev {one}"),
                format!("link set {one} up"),
                format!("-n {name} address add {there}/30 dev {other}"),
                format!("-n {name} link set {other} up"),
                format!("-n {name} link set lo up"),
            ] {
                assert!(ip(&step), "ip {step}");
            }
        }
        Some(far)
    }

    fn host(&self) -> Host {
        Host { address: self.store[1].clone(), namespace: Some(self.name.clone()) }
    }

    fn near(&self) -> Host {
        Host { address: self.store[0].clone(), namespace: None }
    }

    /// What is sent from the one side to the other is lost, and nobody is told.
    fn routes(&self, order: &str) {
        let [near, there] = &self.store;
        for step in [
            format!("route {order} blackhole {there}/32"),
            format!("-n {} route {order} blackhole {near}/32", self.name),
        ] {
            assert!(ip(&step), "ip {step}");
        }
    }
    fn cut(&self) {
        self.routes("add");
    }
    fn mend(&self) {
        self.routes("delete");
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let id = std::process::id();
        // The other ends go with them.
        let _ = (
            ip(&format!("link delete cn{id}")),
            ip(&format!("link delete sn{id}")),
            ip(&format!("netns delete {}", self.name)),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_a_partition_leaves_nobody_who_speaks_for_a_deposed_master() {
    let Some(far) = Far::new() else {
        println!("partitions by network namespace: not tried here, it takes root");
        return;
    };
    let watched = Watched::start_on(&[Some(far.host()), Some(far.near()), Some(far.near())], Aof::EverySecond.lines());
    let servers = Deployment::Sentinel(watched);
    let url = servers.url();
    let hosts = [Host { address: far.clients[1].clone(), namespace: Some(far.name.clone()) }, Nodes::host(1)];
    let mut stage = Stage::on(servers, hosts, [&url, &url], &Settings::default(), false).await;
    stage.load(6);
    for _ in 0..trials(1, 10) {
        stage.works(20).await;
        let mut answers = [0, 0];
        stage
            .suffers("a partition", async |stage| {
                let master = stage.servers.master(0);
                let is_far = master == 0;
                far.cut();
                if is_far {
                    stage.servers.succeeded(0, master);
                }
                // Longer than any lease lasts.
                tokio::time::sleep(Duration::from_millis(2500)).await;
                for n in 0..20 {
                    let said = stage.world.clients.open(0, &format!("stranded-{n}"), false).await;
                    answers[usize::from(said.is_some_and(|(status, _)| status < 300))] += 1;
                }
                far.mend();
            })
            .await;
        println!(
            "  on the side of the deposed master: {} orders, {} acknowledged",
            answers[0] + answers[1],
            answers[1]
        );
        assert_eq!(answers[1], 0, "a node that only hears a deposed master acknowledges nothing");
        stage.servers.stands();
        // Back to the far side, so that it may be deposed again.
        stage.servers.promote(0);
    }
    stage.works(20).await;
    stage.finish("partitions").await;
}

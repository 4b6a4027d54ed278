//! A Redis that the service refuses to work with, and how it says so: one that would evict, one that is full, one whose
//! clock is wrong.

use crate::{
    deployment::{Aof, Deployment, Kind},
    nodes::{Nodes, Settings},
    redis_servers::{wait_for, with_clock_off_by},
    stage::Stage,
    trials,
};

const POLICIES: [&str; 7] =
    ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"];

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_would_evict_is_refused_with_the_command_that_mends_it() {
    let mut stage = Stage::start(Kind::Single(Aof::EverySecond), Settings::default()).await;
    let url = stage.servers.url();
    for policy in POLICIES {
        stage.servers.servers()[0].ask::<String>(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let doctor = stage.nodes.doctor(0);
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned() + &String::from_utf8_lossy(&doctor.stderr);
        assert!(!doctor.status.success(), "{policy}: {said}");
        assert!(said.contains("CONFIG SET maxmemory-policy noeviction"), "{policy}: {said}");
    }
    // A node that starts now does not serve.
    let hosts = [Nodes::host(2), Nodes::host(3)];
    let mut late = Nodes::on(hosts, "http://127.0.0.1:1", [&url, &url], &Settings::default());
    late.both[0].start();
    let status = late.both[0].ends_or_refuses().await;
    assert!(
        late.both[0].log().contains("CONFIG SET maxmemory-policy noeviction"),
        "{status:?}: {}",
        late.both[0].log()
    );
    // One that serves notices it at the next connection at the latest.
    stage.servers.servers()[0].ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_for("both nodes say why they do not serve", async || {
        let said = [stage.nodes.readyz(0).await, stage.nodes.readyz(1).await];
        said.iter().all(|said| {
            said.as_ref().is_some_and(|(status, text)| *status == 503 && text.contains("maxmemory-policy noeviction"))
        })
    })
    .await;
    let opened = stage.world.clients.open(0, "alice", false).await;
    assert!(matches!(opened, Some((503, _))), "{opened:?}");
    stage.servers.servers()[0].ask::<String>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    stage.recover().await;
    println!("{} eviction policies, each refused with the command that mends it", POLICIES.len());
}

/// It refuses writes: nothing is acknowledged that it does not have, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn load_a_redis_that_is_full_is_503_and_serves_again_when_there_is_room() {
    let mut stage = Stage::start(Kind::Single(Aof::EverySecond), Settings::default()).await;
    stage.load(6);
    for _ in 0..trials(2, 20) {
        stage.works(20).await;
        stage
            .suffers("full", async |stage| {
                let server = &stage.servers.servers()[0];
                server.ask::<String>(&["CONFIG", "SET", "maxmemory", "1mb"]);
                let later = stage.counts().later.so_far();
                wait_for("clients are told to come later", async || stage.counts().later.so_far() > later + 10).await;
                stage.servers.servers()[0].ask::<String>(&["CONFIG", "SET", "maxmemory", "0"]);
            })
            .await;
    }
    stage.works(20).await;
    stage.finish("full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_whose_clock_is_an_hour_off_is_refused_and_it_is_said() {
    for offset in ["+3600", "-3600"] {
        let url = Deployment::Single(with_clock_off_by(offset));
        let url_text = url.url();
        let mut nodes = Nodes::new("http://127.0.0.1:1", [&url_text, &url_text], &Settings::default());
        nodes.both[0].start();
        let ended = nodes.both[0].ends_or_refuses().await;
        let said = nodes.both[0].log();
        assert!(said.contains("clock"), "{offset}: {ended:?}: {said}");
        println!("clock {offset}: {ended:?}");
    }
}

//! Redis that stands still, a master that stands still until it is deposed, and wires that misbehave, under load.

use std::time::Duration;

use crate::{
    deployment::{Aof, Deployment, Kind},
    nodes::Settings,
    redis_servers::{
        Server,
        proxy::{Fate, Proxy},
    },
    stage::Stage,
    trials,
};

const WORKERS: usize = 6;

fn between() -> usize {
    trials(15, 100)
}

/// Longer than any request may take, and than a lease lasts.
const STANDSTILL: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread")]
async fn crash_free_standstills_of_redis_lose_nothing() {
    let mut stage = Stage::start(Kind::Single(Aof::EverySecond), Settings::default()).await;
    stage.load(WORKERS);
    for _ in 0..trials(1, 20) {
        stage.works(between()).await;
        stage
            .suffers("Redis stopped", async |stage| {
                let server = &stage.servers.servers()[0];
                server.stop();
                tokio::time::sleep(STANDSTILL).await;
                stage.servers.servers()[0].go_on();
            })
            .await;
        stage.works(between()).await;
        stage
            .suffers("DEBUG SLEEP", async |stage| {
                // It answers once it has slept, which is longer than is waited for here.
                let _ = stage.servers.servers()[0].try_ask::<String>(&["DEBUG", "SLEEP", "2.5"]);
                tokio::time::sleep(Duration::from_millis(600)).await;
            })
            .await;
        stage.works(between()).await;
        stage
            .suffers("a node stopped", async |stage| {
                stage.nodes.both[0].signal(rustix::process::Signal::STOP);
                tokio::time::sleep(STANDSTILL).await;
                stage.nodes.both[0].signal(rustix::process::Signal::CONT);
            })
            .await;
    }
    stage.works(between()).await;
    stage.finish("standstills").await;
}

/// It comes back as a master that was deposed while it stood still, and nodes have connections to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_deposed_while_it_stood_still_confirms_nothing() {
    let mut stage = Stage::start(Kind::Sentinel, Settings::default()).await;
    stage.load(WORKERS);
    for _ in 0..trials(1, 20) {
        stage.works(between()).await;
        stage
            .suffers("the master stopped until it was deposed", async |stage| {
                let master = stage.servers.master(0);
                stage.servers.servers()[master].stop();
                stage.servers.succeeded(0, master);
                stage.servers.servers()[master].go_on();
            })
            .await;
        stage.servers.stands();
    }
    stage.works(between()).await;
    stage.finish("deposed masters").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_cuts_delays_drips_and_goes_dead_loses_nothing() {
    let server = Server::start(Aof::EverySecond.lines());
    let wires = [Proxy::to(server.port).await, Proxy::to(server.port).await];
    let urls = wires.each_ref().map(Proxy::url);
    let settings = Settings::default();
    let deployment = Deployment::Single(server);
    let mut stage = Stage::before(deployment, [&urls[0], &urls[1]], &settings, true).await;
    stage.load(WORKERS);
    let fates = [
        ("cut", Fate::Cut),
        ("answers 300 ms late", Fate::Late(Duration::from_millis(300))),
        ("answers by single bytes", Fate::Drip),
        ("answers lost", Fate::LoseAnswers),
        ("half-open", Fate::HalfOpen),
    ];
    let mut turn = 0;
    for _ in 0..trials(1, 20) {
        for (name, fate) in &fates {
            stage.works(between()).await;
            // One node's, the other's, then both.
            let (first, second) = [(true, false), (false, true), (true, true)][turn % 3];
            turn += 1;
            stage
                .suffers(&format!("wire: {name}"), async |_| {
                    let hit = wires.iter().zip([first, second]).filter(|(_, hit)| *hit).map(|(wire, _)| wire);
                    hit.clone().for_each(|wire| wire.set(fate.clone()));
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    hit.for_each(|wire| wire.set(Fate::Pass));
                })
                .await;
        }
    }
    stage.works(between()).await;
    stage.finish("wires").await;
}

//! `kill -9` of Redis, of its masters, of nodes of ours, in turn and together, under load.

use std::time::Duration;

use crate::{
    deployment::{Aof, Kind},
    nodes::Settings,
    stage::Stage,
    trials,
};

/// Clients' machines.
fn workers() -> usize {
    trials(6, 16)
}

/// Revocations between two faults: all in all a hundred thousand in the long form.
fn between() -> usize {
    trials(25, 1000)
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victims {
    Redis,
    Node(usize),
    RedisAndNode(usize),
    BothNodes,
    All,
}

const TURNS: [Victims; 6] =
    [Victims::Redis, Victims::Node(0), Victims::RedisAndNode(1), Victims::BothNodes, Victims::Redis, Victims::All];

impl Victims {
    fn nodes(self) -> &'static [usize] {
        match self {
            Self::Redis => &[],
            Self::Node(0) | Self::RedisAndNode(0) => &[0],
            Self::Node(_) | Self::RedisAndNode(_) => &[1],
            Self::BothNodes | Self::All => &[0, 1],
        }
    }
    const fn redis(self) -> bool {
        matches!(self, Self::Redis | Self::RedisAndNode(_) | Self::All)
    }
    fn say(self) -> &'static str {
        match self {
            Self::Redis => "Redis killed",
            Self::Node(_) => "a node killed",
            Self::RedisAndNode(_) => "Redis and a node killed",
            Self::BothNodes => "both nodes killed",
            Self::All => "Redis and both nodes killed",
        }
    }
}

/// One round: they are killed at once, and nodes start again; so does Redis, once another has taken over where there is
/// another.
async fn kill(stage: &mut Stage, victims: Victims, round: usize) {
    stage
        .suffers(victims.say(), async |stage| {
            let master = stage.servers.master(round);
            if victims.redis() {
                stage.servers.servers()[master].kill();
            }
            for node in victims.nodes() {
                stage.nodes.both[*node].kill();
            }
            // Long enough for clients to meet it.
            tokio::time::sleep(Duration::from_millis(150)).await;
            stage.nodes.start_killed();
            if victims.redis() {
                stage.servers.succeeded(round, master);
                stage.servers.start_killed();
            }
        })
        .await;
    stage.servers.stands();
}

async fn kills(name: &str, kind: Kind, settings: Settings, turns: &[Victims], rounds: usize) {
    let mut stage = Stage::start(kind, settings).await;
    stage.load(workers());
    for (round, victims) in turns.iter().copied().cycle().take(rounds).enumerate() {
        stage.works(between()).await;
        kill(&mut stage, victims, round).await;
    }
    stage.works(between()).await;
    let tally = stage.finish(name).await;
    assert!(tally.verified.refused > rounds * 20 && tally.ended > rounds && tally.alive > 0 && tally.spent > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_of_a_redis_that_writes_every_second_loses_nothing() {
    kills("one Redis, AOF everysec", Kind::Single(Aof::EverySecond), Settings::default(), &TURNS, trials(4, 60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_of_a_redis_that_writes_always_loses_nothing() {
    let turns = [Victims::All, Victims::RedisAndNode(0)];
    kills("one Redis, AOF always", Kind::Single(Aof::Always), Settings::default(), &turns, trials(2, 40)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_of_masters_under_sentinel_loses_nothing() {
    let turns = [Victims::Redis, Victims::RedisAndNode(0), Victims::All];
    kills("Sentinel", Kind::Sentinel, Settings::default(), &turns, trials(3, 60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_of_masters_of_a_cluster_loses_nothing() {
    let turns = [Victims::Redis, Victims::RedisAndNode(1), Victims::All];
    kills("Cluster", Kind::Cluster, Settings::default(), &turns, trials(2, 60)).await;
}

/// With a replica's word before each acknowledgement, openings survive as well.
#[tokio::test(flavor = "multi_thread")]
async fn crash_of_masters_loses_no_opening_that_a_replica_has() {
    let settings = Settings { replicas: 1, ..Settings::default() };
    kills("Sentinel, durability replicas:1", Kind::Sentinel, settings, &[Victims::Redis], trials(2, 60)).await;
}

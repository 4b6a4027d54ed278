//! The same losses with a protection off, so that the zeros mean something; and beside each the same with it on.
//!
//! What no configuration switches off (leases, pushes, marks, digests) is switched off in `tests/model.rs`, where each
//! one is seen to lose.

use tokio::task::JoinSet;

use crate::{
    deployment::{Aof, Kind},
    nodes::Settings,
    redis_servers::proxy::{Fate, Proxy},
    stage::Stage,
};

/// What became of revocations that were asked for just before everything was lost that could be.
#[derive(Debug)]
struct Outcome {
    asked: usize,
    acknowledged: usize,
    /// Whoever begins to verify afterwards accepts what they took back.
    lost: usize,
}

/// Sessions are ended while the replicas hear nothing; then the master is killed and both nodes, and a replica takes over
/// that has none of it.
async fn a_failover_that_loses(settings: Settings) -> Outcome {
    let mut stage = Stage::start(Kind::Sentinel, settings).await;
    let mut sessions = Vec::new();
    for n in 0..10 {
        let (status, opened) = stage.world.clients.open(n % 2, &format!("subject-{n}"), false).await.unwrap();
        assert_eq!(status, 201, "{opened}");
        sessions.push(opened);
    }
    stage.servers.stands();
    let master = stage.servers.master(0);
    let wires = stage.deafen(master).await;
    let mut outcome = Outcome { asked: sessions.len(), acknowledged: 0, lost: 0 };
    // All at once: after some seconds Sentinel finds that the replicas follow something else, and mends it.
    let mut ending = JoinSet::new();
    for (n, session) in sessions.into_iter().enumerate() {
        let world = stage.world.clone();
        ending.spawn(async move {
            let ended = world.clients.end(n % 2, session["session_id"].as_str().unwrap()).await;
            matches!(ended, Some((204, _))).then(|| session["access_token"].as_str().unwrap().to_owned())
        });
    }
    let revoked: Vec<_> = ending.join_all().await.into_iter().flatten().collect();
    outcome.acknowledged = revoked.len();
    stage.servers.servers()[master].kill();
    stage.nodes.both.iter_mut().for_each(crate::nodes::Node::kill);
    drop(wires);
    stage.servers.succeeded(0, master);
    stage.nodes.start_killed();
    stage.comes_back_or_is_accepted().await;
    outcome.lost = stage.accepted_by_newcomers(&revoked).await;
    outcome
}

impl Stage {
    /// The replicas hear nothing from their master from now on, and do not know it.
    async fn deafen(&mut self, master: usize) -> Vec<Proxy> {
        let port = self.servers.servers()[master].port;
        let mut wires = Vec::new();
        for n in (0..3).filter(|n| *n != master) {
            let wire = Proxy::to(port).await;
            let replica = &self.servers.servers()[n];
            replica.ask::<String>(&["REPLICAOF", "127.0.0.1", &wire.port.to_string()]);
            crate::redis_servers::wait("the replica follows by the wire", || {
                replica.info("master_link_status") == "up"
            });
            wires.push(wire);
        }
        wires.iter().for_each(|wire| wire.set(Fate::HalfOpen));
        wires
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_without_journals_and_replicas_a_failover_loses_revocations() {
    let off = a_failover_that_loses(Settings { replicas: 0, journal: false }).await;
    assert!(off.acknowledged == off.asked && off.lost > 0, "this is what the others protect from: {off:?}");
    let journal = a_failover_that_loses(Settings { replicas: 0, journal: true }).await;
    assert!(journal.acknowledged == journal.asked && journal.lost == 0, "{journal:?}");
    let replicas = a_failover_that_loses(Settings { replicas: 1, journal: false }).await;
    assert!(
        replicas.lost == 0 && replicas.acknowledged == 0,
        "no replica has it, so it is not acknowledged: {replicas:?}"
    );
    println!("a failover to a replica that heard nothing, both nodes killed with the master");
    for (name, outcome) in [("neither", off), ("journals", journal), ("replicas:1", replicas)] {
        println!("  {name}: {} asked, {} acknowledged, {} lost", outcome.asked, outcome.acknowledged, outcome.lost);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_without_journals_a_redis_without_a_file_loses_revocations_when_all_are_killed() {
    let mut outcomes = Vec::new();
    for journal in [false, true] {
        let mut stage = Stage::start(Kind::Single(Aof::None), Settings { replicas: 0, journal }).await;
        let mut revoked = Vec::new();
        for n in 0..10 {
            let (_, opened) = stage.world.clients.open(n % 2, &format!("subject-{n}"), false).await.unwrap();
            let ended = stage.world.clients.end(n % 2, opened["session_id"].as_str().unwrap()).await;
            assert!(matches!(ended, Some((204, _))), "{ended:?}");
            revoked.push(opened["access_token"].as_str().unwrap().to_owned());
        }
        stage.nodes.both.iter_mut().for_each(crate::nodes::Node::kill);
        stage.servers.servers()[0].restart();
        stage.nodes.start_killed();
        stage.comes_back_or_is_accepted().await;
        outcomes.push(stage.accepted_by_newcomers(&revoked).await);
    }
    println!(
        "Redis without a file and both nodes killed: {} of 10 revocations lost without journals, {} with",
        outcomes[0], outcomes[1]
    );
    assert!(outcomes[0] > 0 && outcomes[1] == 0, "{outcomes:?}");
}

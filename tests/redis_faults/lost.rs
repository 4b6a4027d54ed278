//! A store that was emptied, came back empty, or came back as it was yesterday: what was revoked stays revoked, what was
//! spent stays spent, and nobody is told that his session is gone before an operator has said so.

use std::{fs, time::Duration};

use crate::{
    deployment::{Aof, Kind},
    load::{Answer, Session},
    nodes::Settings,
    redis_servers::wait_for,
    stage::Stage,
};

const WORKERS: usize = 4;

impl Stage {
    fn restored(&self) -> String {
        let said = self.nodes.command(0, &["store", "restored", "--yes"]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "an operator's word is taken: {text}");
        text
    }

    /// Until both nodes say that an operator has to say something, and answer /readyz with this.
    async fn is_in_doubt(&self, serving: u16) {
        wait_for("both nodes wait for an operator's word", async || {
            let said = [self.nodes.readyz(0).await, self.nodes.readyz(1).await];
            let waits = |said: &Option<(u16, String)>| {
                said.as_ref().is_some_and(|(status, why)| *status == serving && why.contains("rescind store restored"))
            };
            said.iter().all(waits)
        })
        .await;
    }

    /// Both are killed and started again: what they remembered and had not written down is gone.
    async fn forgets(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        self.nodes.both.iter_mut().for_each(crate::nodes::Node::kill);
        meanwhile(self);
        self.nodes.start_killed();
    }

    /// Each of them at both nodes. Says how often: given, refused, later.
    async fn present(&self, tokens: &[(String, bool)]) -> [usize; 3] {
        let mut said = [0; 3];
        for (token, public) in tokens {
            for node in [0, 1] {
                match self.world.exchange(node, token, *public).await {
                    Answer::Given { .. } => said[0] += 1,
                    Answer::Invalid(_) => said[1] += 1,
                    Answer::Later | Answer::Lost => said[2] += 1,
                }
            }
        }
        said
    }

    fn sweep(&self, when: &str) -> usize {
        let history = &self.world.history;
        self.world.verifiers.sweep(history, &history.revocations(0), when).refused
    }
}

fn newest(held: &[Session]) -> Vec<(String, bool)> {
    held.iter().map(|session| (session.newest().to_owned(), session.public)).collect()
}

/// Sessions with a history, and revocations, and then nobody asks any more.
async fn worked(aof: Aof) -> (Stage, Vec<Session>) {
    let mut stage = Stage::start(Kind::Single(aof), Settings::default()).await;
    stage.load(WORKERS);
    stage.works(40).await;
    let held = stage.rest().await;
    (stage, held)
}

/// It is empty now, and nobody remembers what its sessions were.
async fn is_empty(name: &str, mut stage: Stage, held: &[Session]) {
    stage.is_in_doubt(200).await;
    let tokens = newest(held);
    let told = stage.present(&tokens).await;
    assert_eq!((told[0], told[1]), (0, 0), "nobody is told anything before an operator's word: {told:?}");
    let opened = stage.world.clients.open(0, "a-newcomer", false).await;
    assert!(matches!(opened, Some((201, _))), "new sessions are opened meanwhile: {opened:?}");
    let before = stage.sweep(name);
    println!("{}", stage.restored());
    stage.recover().await;
    // Longer than a verifier goes on with what it knew.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (after, gone) = (stage.sweep(name), stage.present(&tokens).await);
    assert_eq!((gone[0], gone[2]), (0, 0), "the sessions are gone: {gone:?}");
    stage.newcomers(name).await;
    let wrongs = stage.world.history.wrongs();
    assert!(wrongs.is_empty(), "{name}:\n{}", wrongs.join("\n"));
    assert!(before + after > 100 && told[2] > 10);
    println!(
        "{name}: {} refreshes told to come later, {} told that it is over once an operator had said so; verifications of \
         what was taken back: {} refused, 0 accepted",
        told[2],
        gone[1],
        before + after + stage.tally.verified.refused
    );
    // The newcomer session of the recovery works on.
    stage.finish(name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_a_store_that_was_emptied_is_filled_again_by_nodes_that_remember() {
    let (mut stage, held) = worked(Aof::EverySecond).await;
    stage.servers.servers()[0].ask::<String>(&["FLUSHALL"]);
    stage.is_in_doubt(200).await;
    // All of them moved a moment ago.
    let told = stage.present(&newest(&held)).await;
    assert_eq!((told[1], told[2]), (0, 0), "{told:?}");
    let refused = stage.sweep("FLUSHALL");
    assert!(told[0] > 10 && refused > 100, "{told:?}, {refused}");
    println!("FLUSHALL: {} refreshes given, {refused} verifications of what was taken back refused", told[0]);
    println!("{}", stage.restored());
    stage.recover().await;
    stage.finish("FLUSHALL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_a_store_that_was_emptied_waits_for_a_word_and_forgets_no_revocation() {
    let (mut stage, held) = worked(Aof::EverySecond).await;
    stage.forgets(|stage| drop(stage.servers.servers()[0].ask::<String>(&["FLUSHALL"]))).await;
    is_empty("FLUSHALL, and both nodes killed", stage, &held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_a_store_that_came_back_empty_waits_for_a_word_and_forgets_no_revocation() {
    let (mut stage, held) = worked(Aof::None).await;
    stage.forgets(|stage| stage.servers.servers()[0].restart()).await;
    is_empty("restarted empty, and both nodes killed", stage, &held).await;
}

/// `forgotten`: nobody remembers what moved since the copy was made.
async fn snapshot(name: &str, forgotten: bool) {
    let mut stage = Stage::start(Kind::Single(Aof::None), Settings::default()).await;
    stage.load(WORKERS);
    stage.works(20).await;
    let past = stage.rest().await;
    let server = &mut stage.servers.servers()[0];
    server.ask::<String>(&["SAVE"]);
    let file = server.dir.join("dump.rdb");
    let copy = fs::read(&file).unwrap();
    // Every session goes on, far enough that what was its head is spent, and new revocations come.
    let mut spent = Vec::new();
    let dice = crate::dice::Dice::new(1);
    let mut held = Vec::new();
    for session in past {
        let mut newest = session.newest().to_owned();
        spent.push((newest.clone(), session.public));
        for _ in 0..3 {
            newest = stage.world.insist(&dice, &newest, session.public).await.unwrap().0;
        }
        held.push((newest, session.public));
    }
    stage.load(WORKERS);
    stage.works(20).await;
    let _since = stage.rest().await;
    // How far a store had come is written down every five seconds.
    tokio::time::sleep(Duration::from_secs(if forgotten { 12 } else { 0 })).await;
    let put_back = |stage: &mut Stage| {
        let server = &mut stage.servers.servers()[0];
        server.kill();
        fs::write(&file, &copy).unwrap();
        server.run();
    };
    if forgotten {
        stage.forgets(put_back).await;
        stage.is_in_doubt(503).await;
        let told = stage.present(&spent).await;
        assert_eq!((told[0], told[1]), (0, 0), "nobody is told anything before an operator's word: {told:?}");
        println!("{}", stage.restored());
    } else {
        put_back(&mut stage);
    }
    stage.recover().await;
    let alive = stage.present(&held).await;
    let redeemed = stage.present(&spent).await;
    assert_eq!(redeemed[0], 0, "what was spent came alive: {redeemed:?}");
    if forgotten {
        assert_eq!(alive[0], 0, "sessions ended by the operator's word: {alive:?}");
    } else {
        assert_eq!(alive[1], 0, "heads that moved in the last minutes were made good: {alive:?}");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let refused = stage.sweep(name);
    stage.newcomers(name).await;
    println!(
        "{name}: {} spent tokens presented, 0 redeemed; sessions: {} refreshed, {} refused; {refused} verifications of what \
         was taken back refused, 0 accepted",
        spent.len() * 2,
        alive[0],
        alive[1]
    );
    stage.finish(name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_a_snapshot_of_moments_ago_is_made_good() {
    snapshot("a snapshot of moments ago", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_a_snapshot_that_nobody_can_make_good_waits_for_a_word_and_nothing_spent_comes_alive() {
    snapshot("a snapshot, and both nodes killed", true).await;
}

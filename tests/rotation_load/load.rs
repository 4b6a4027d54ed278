//! Sessions that are refreshed all the time, and what is seen from outside: when each key was published, and when it
//! signed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rescind::clock::{Clock, SystemClock};
use tokio::sync::{mpsc, watch};

use crate::{
    harness::text,
    remote::{Remote, kid_of},
};

/// Between two refreshes of one session.
const PACE: Duration = Duration::from_millis(25);
/// Between two looks at the key set.
const LOOK: Duration = Duration::from_millis(10);

/// What one verifier has said.
pub struct Verdict {
    pub who: &'static str,
    pub accepted: usize,
    /// Why, of each.
    pub refused: Vec<String>,
}

impl Verdict {
    pub fn of(who: &'static str) -> Self {
        Self { who, accepted: 0, refused: Vec::new() }
    }
    pub fn note(&mut self, refused: Option<String>) {
        match refused {
            None => self.accepted += 1,
            Some(why) => self.refused.push(why),
        }
    }
    pub fn all(&self) -> usize {
        self.accepted + self.refused.len()
    }
}

/// A token, and between which moments it was made.
pub struct Minted {
    pub token: String,
    pub kid: String,
    pub asked: Duration,
    pub received: Duration,
}

/// One clock for all that is compared.
pub struct Load {
    pub remote: Arc<Remote>,
    pub clock: Arc<SystemClock>,
    /// Which key signed the token that came last.
    signer: watch::Receiver<String>,
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// That many sessions, each refreshed forty times a second. Their tokens come out of the channel.
    pub fn start(
        remote: &Arc<Remote>,
        clock: &Arc<SystemClock>,
        sessions: usize,
    ) -> (Self, mpsc::UnboundedReceiver<Minted>) {
        let (remote, clock, over) = (remote.clone(), clock.clone(), Arc::new(AtomicBool::new(false)));
        let (out, minted) = mpsc::unbounded_channel();
        let (signs, signer) = watch::channel(String::new());
        let signs = Arc::new(signs);
        let session =
            |_| tokio::spawn(refresh(remote.clone(), clock.clone(), over.clone(), out.clone(), signs.clone()));
        let tasks = (0..sessions).map(session).collect();
        (Self { remote, clock, signer, over, tasks }, minted)
    }
    /// Until a session has a token of this key.
    pub async fn has_token_of(&self, kid: &str) {
        self.signer.clone().wait_for(|signer| signer == kid).await.unwrap();
    }
    /// No session was lost on the way.
    pub async fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn refresh(
    remote: Arc<Remote>,
    clock: Arc<SystemClock>,
    over: Arc<AtomicBool>,
    out: mpsc::UnboundedSender<Minted>,
    signs: Arc<watch::Sender<String>>,
) {
    let (mut held, mut pace) = (remote.open().await.unwrap(), tokio::time::interval(PACE));
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        let asked = clock.monotonic();
        let (status, answer) = remote.refresh(&held).await.expect("the node serves all the while");
        assert_eq!(status, 200, "a session was lost: {answer}");
        held.take(&answer);
        let token = text(&answer, "access_token").to_owned();
        let minted = Minted { kid: kid_of(&token), token, asked, received: clock.monotonic() };
        let kid = minted.kid.clone();
        if out.send(minted).is_err() {
            return;
        }
        signs.send_replace(kid);
    }
}

/// When each key was published: not before the one moment, and not after the other.
pub struct Published {
    pub seen: HashMap<String, (Duration, Duration)>,
    over: Arc<AtomicBool>,
}

/// Looks at the key set until it is told to stop, as anyone could.
pub struct Watch(tokio::task::JoinHandle<Published>, Arc<AtomicBool>);

impl Watch {
    /// The clock began before the node did: until then nothing was published.
    pub fn start(load: &Load) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let published = Published { seen: HashMap::new(), over: over.clone() };
        Self(tokio::spawn(published.watch(load.remote.clone(), load.clock.clone())), over)
    }
    pub async fn end(self) -> Published {
        self.1.store(true, Ordering::Relaxed);
        self.0.await.unwrap()
    }
}

impl Published {
    async fn watch(mut self, remote: Arc<Remote>, clock: Arc<SystemClock>) -> Self {
        let (mut look, mut absent) = (tokio::time::interval(LOOK), Duration::ZERO);
        while !self.over.load(Ordering::Relaxed) {
            look.tick().await;
            let asked = clock.monotonic();
            let kids = remote.published().await;
            let received = clock.monotonic();
            for kid in kids {
                self.seen.entry(kid).or_insert((absent, received));
            }
            absent = asked;
        }
        self
    }
    /// For how long a token's key had been published at least, and at most, when it signed.
    pub fn age(&self, minted: &Minted) -> (Duration, Duration) {
        let Some((absent, present)) = self.seen.get(&minted.kid) else { return (Duration::ZERO, Duration::ZERO) };
        (minted.asked.saturating_sub(*present), minted.received.saturating_sub(*absent))
    }
}

//! Rotations by order and by the schedule while everyone verifies.

use std::{
    collections::{HashSet, VecDeque},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rescind::{
    clock::{Clock, SystemClock},
    verifier::Verifier,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    process::Dev,
    remote::Remote,
    rotation_load::{
        load::{Load, Minted, Verdict, Watch},
        stream::Stream,
    },
    trials,
};

/// How long the others keep a key set. A key is to be published for twice that before it signs.
const CACHE: Duration = Duration::from_millis(600);
/// Verified when it is new, shortly before it expires, and shortly before it is refused by everybody's leeway.
const LIFE: &str = "5s";
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(4), Duration::from_secs(58)];

/// All who verify, each every token.
struct Verifiers {
    ours: Vec<Verifier>,
    others: Vec<Stream>,
    verdict: Verdict,
}

impl Verifiers {
    /// All of them have the key set when this returns.
    async fn follow(dev: &Dev, token: &str, cache: Duration) -> Self {
        let follow = |_| Verifier::builder(dev.text("issuer")).audience("api").follow().unwrap();
        let ours: Vec<_> = (0..2).map(follow).collect();
        for verifier in &ours {
            verifier.ready().await;
        }
        let others = [
            Stream::start("PyJWT", "python", "stream.py", dev, cache),
            Stream::start("jose", "node", "stream.mjs", dev, cache),
        ];
        others.iter().for_each(|other| other.begin(token));
        Self { ours, others: others.into(), verdict: Verdict::of("ours") }
    }
    fn show(&mut self, token: &str) {
        for verifier in &self.ours {
            self.verdict.note(verifier.verify(token).err().map(|why| format!("{why:?}")));
        }
        self.others.iter().for_each(|other| other.show(token));
    }
    fn end(self) -> Vec<Verdict> {
        [self.verdict].into_iter().chain(self.others.into_iter().map(Stream::end)).collect()
    }
}

/// Shows each token when it comes, and again when it is older, until none comes any more.
async fn show_all(
    mut verifiers: Verifiers,
    mut minted: mpsc::UnboundedReceiver<Minted>,
    clock: Arc<dyn Clock>,
) -> (Vec<Verdict>, Vec<Minted>) {
    let (mut shown, mut tick) = (Vec::<Minted>::new(), tokio::time::interval(Duration::from_millis(20)));
    // For each age the next token that is to reach it.
    let mut next = [0; LOOKS.len()];
    loop {
        let over = tokio::select! {
            new = minted.recv() => {
                let over = new.is_none();
                shown.extend(new);
                over
            }
            _ = tick.tick() => false,
        };
        for (age, next) in LOOKS.iter().zip(&mut next) {
            while shown.get(*next).is_some_and(|token| token.received + *age <= clock.monotonic()) {
                verifiers.show(&shown[*next].token);
                *next += 1;
            }
        }
        if over {
            return (tokio::task::spawn_blocking(|| verifiers.end()).await.unwrap(), shown);
        }
    }
}

/// What came of it.
struct Outcome {
    ahead: Duration,
    rotations: usize,
    tokens: usize,
    verdicts: Vec<Verdict>,
    /// How many bear the signature of a key that had not been published for long enough, without a doubt.
    early: usize,
    /// The shortest time for which a key that signed had been published: at least, and at most.
    youngest: (Duration, Duration),
}

impl Outcome {
    fn verifications(&self) -> usize {
        self.verdicts.iter().map(Verdict::all).sum()
    }
    fn refused(&self) -> usize {
        self.verdicts.iter().map(|verdict| verdict.refused.len()).sum()
    }
    fn say(&self, what: &str) {
        let by: Vec<_> =
            self.verdicts.iter().map(|v| format!("{} {} of {}", v.who, v.refused.len(), v.all())).collect();
        println!("{} rotations {what}: {} tokens; refused: {}", self.rotations, self.tokens, by.join(", "));
        println!(
            "  signed by a key that had not been published for {:?}: {} of {}; the youngest signer was {} to {} ms old",
            self.ahead,
            self.early,
            self.tokens,
            self.youngest.0.as_millis(),
            self.youngest.1.as_millis()
        );
    }
    fn assert_nothing_lost(&self) {
        let some = |verdict: &Verdict| verdict.refused.first().cloned();
        assert_eq!(self.refused(), 0, "{:?}", self.verdicts.iter().filter_map(some).collect::<Vec<_>>());
        assert_eq!(self.early, 0, "signed too early");
        assert!(self.tokens > self.rotations && self.verifications() >= 4 * self.tokens);
    }
}

/// Starts a node and everyone around it, and lets `rotate` do so.
async fn under_load(
    store: &Path,
    arguments: &[&str],
    (sessions, cache): (usize, Duration),
    rotate: impl AsyncFnOnce(&Load),
) -> Outcome {
    let clock = Arc::new(SystemClock::default());
    let dev = Dev::start(store, &[&["--access-life", LIFE], arguments].concat());
    let remote = Remote::of(&dev);
    let verifiers = Verifiers::follow(&dev, &remote.open().await.unwrap().access, cache).await;
    let first = remote.keys("active").await.unwrap();
    let (load, minted) = Load::start(&remote, &clock, sessions);
    let watch = Watch::start(&load);
    let judge = tokio::spawn(show_all(verifiers, minted, clock));
    load.has_token_of(&first[0]).await;
    rotate(&load).await;
    // Those that the last rotation made sign are seen as well.
    tokio::time::sleep(CACHE).await;
    load.stop().await;
    let published = watch.end().await;
    let (verdicts, shown) = judge.await.unwrap();
    let signers: HashSet<&str> = shown.iter().map(|token| &*token.kid).collect();
    // The first key of all signs at once: nobody can have cached anything before it.
    let later: VecDeque<_> = shown.iter().filter(|token| token.kid != first[0]).map(|t| published.age(t)).collect();
    let ahead = 2 * cache;
    Outcome {
        ahead,
        rotations: signers.len() - 1,
        tokens: shown.len(),
        verdicts,
        early: later.iter().filter(|(_, most)| *most < ahead).count(),
        youngest: later.into_iter().min().unwrap_or_default(),
    }
}

/// One rotation after the other, each as soon as the rule has it and the key before it has signed for somebody.
async fn order(load: &Load, rotations: usize) {
    for _ in 0..rotations {
        let signer = loop {
            match ordered(&load.remote).await {
                Some(signer) => break signer,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        load.has_token_of(&signer).await;
    }
}

/// The key that signs from then on. None: it is too early.
async fn ordered(remote: &Remote) -> Option<String> {
    let (status, answer) = remote.post("/v1/keys/rotate", &json!({})).await.unwrap();
    // In the long run as many keys retire as may: the rule has its pace.
    let wait = ["too_early", "too_many_retiring"].map(Value::from).contains(&answer["code"]);
    assert!(status == 200 || wait, "{status}: {answer}");
    (status == 200).then(|| answer["active"].as_str().unwrap().to_owned())
}

const SOUND: [&str; 4] = ["--publish-ahead", "1200ms", "--jwks-max-age", "600ms"];

#[tokio::test(flavor = "multi_thread")]
async fn rotations_under_load_lose_no_token_and_none_is_signed_too_early() {
    let (directory, rotations, over) = (tempfile::tempdir().unwrap(), trials(30, 1000), AtomicBool::new(false));
    let (one, another) = (directory.path().join("one.redb"), directory.path().join("another.redb"));
    let ordered = under_load(&one, &SOUND, (3, CACHE), async |load: &Load| {
        order(load, rotations).await;
        over.store(true, Ordering::Relaxed);
    });
    // So often that sixteen keys retire at once, which is the most that a schedule may have.
    let scheduled = [&SOUND[..], &["--rotate-every", "4200ms"]].concat();
    let scheduled = under_load(&another, &scheduled, (1, CACHE), async |_: &Load| {
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(CACHE).await;
        }
    });
    let (ordered, scheduled) = tokio::join!(ordered, scheduled);
    ordered.say("by order");
    scheduled.say("by the schedule");
    assert_eq!(ordered.rotations, rotations);
    assert!(scheduled.rotations >= rotations / 10, "{} by themselves", scheduled.rotations);
    ordered.assert_nothing_lost();
    scheduled.assert_nothing_lost();
}

/// The same with a key set that others keep for longer than they were said to: it is seen.
#[tokio::test(flavor = "multi_thread")]
async fn rotations_under_load_that_come_before_caches_end_are_seen_to_lose_tokens() {
    let (directory, hasty) = (tempfile::tempdir().unwrap(), ["--publish-ahead", "100ms", "--jwks-max-age", "50ms"]);
    let store = directory.path().join("store.redb");
    let rotate = async |load: &Load| order(load, 6).await;
    let outcome = under_load(&store, &hasty, (3, Duration::from_secs(10)), rotate).await;
    outcome.say("too early");
    assert!(outcome.early > 0, "signed too early, and not noticed");
    for verdict in outcome.verdicts.iter().filter(|verdict| verdict.who != "ours") {
        assert!(!verdict.refused.is_empty(), "{} has lost nothing", verdict.who);
        assert!(verdict.accepted > 0, "{} has lost everything", verdict.who);
    }
}

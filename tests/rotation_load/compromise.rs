//! The key that signs is given up while twenty verifiers follow: how long until the last of them refuses what it signed.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use rescind::{
    clock::{Clock, SystemClock},
    verifier::{Refused, Verifier},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    process::Dev,
    remote::{Remote, kid_of},
    rotation_load::load::{Load, Minted, Verdict},
    trials,
};

const FOLLOWERS: usize = 20;
/// Not acceptable, whatever the machine does.
const HOPELESS: Duration = Duration::from_secs(20);

/// The keys that are given up, from the moment on at which that was asked.
type GivenUp = Arc<Mutex<HashSet<String>>>;

/// Shows each token to one of the verifiers in turn. Only those of a key that is given up may be refused.
async fn judge(
    verifiers: Arc<Vec<Verifier>>,
    mut minted: mpsc::UnboundedReceiver<Minted>,
    given_up: GivenUp,
) -> Verdict {
    let mut verdict = Verdict::of("followers");
    while let Some(Minted { token, kid, .. }) = minted.recv().await {
        let refused = verifiers[verdict.all() % verifiers.len()].verify(&token).err();
        let refused = refused.filter(|_| !given_up.lock().unwrap().contains(&kid));
        verdict.note(refused.map(|why| format!("{why:?}")));
    }
    verdict
}

/// Asks all of them until all refuse. Says when one last accepted.
async fn last_accept(verifiers: Arc<Vec<Verifier>>, token: String, clock: Arc<SystemClock>) -> Duration {
    let (mut last, began) = (Duration::ZERO, clock.monotonic());
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    loop {
        tick.tick().await;
        let mut refused = 0;
        for verifier in &*verifiers {
            match verifier.verify(&token) {
                Ok(_) => last = clock.monotonic(),
                Err(Refused::Rejected(_)) => refused += 1,
                Err(Refused::Unavailable(_)) => {}
            }
        }
        if refused == verifiers.len() {
            return last;
        }
        assert!(clock.monotonic() - began < HOPELESS, "{refused} of {FOLLOWERS} refuse it");
    }
}

/// Waits until a key that every verifier knows would follow the one that signs.
async fn heir_is_known(remote: &Remote, kid: &str) {
    loop {
        let (status, would) = compromise(remote, kid, json!({"dry_run": true})).await;
        assert_eq!(status, 200, "{would}");
        if would["active_is_known"] == true {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn compromise(remote: &Remote, kid: &str, body: Value) -> (u16, Value) {
    remote.post(&format!("/v1/keys/{kid}/compromise"), &body).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn compromise_under_load_is_refused_by_twenty_verifiers_within_moments() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock::default()));
    let sound = ["--publish-ahead", "1s", "--jwks-max-age", "500ms"];
    let dev = Dev::start(&directory.path().join("store.redb"), &sound);
    let remote = Remote::of(&dev);
    let follow = |_| Verifier::builder(dev.text("issuer")).audience("api").follow().unwrap();
    let verifiers: Arc<Vec<Verifier>> = Arc::new((0..FOLLOWERS).map(follow).collect());
    for verifier in &*verifiers {
        verifier.ready().await;
    }
    let given_up = GivenUp::default();
    let (load, minted) = Load::start(&remote, &clock, 4);
    let judged = tokio::spawn(judge(verifiers.clone(), minted, given_up.clone()));
    let mut times = Vec::new();
    for _ in 0..trials(5, 50) {
        let session = remote.open().await.unwrap();
        let stolen = kid_of(&session.access);
        heir_is_known(&remote, &stolen).await;
        assert!(verifiers.iter().all(|verifier| verifier.verify(&session.access).is_ok()));
        let last = tokio::spawn(last_accept(verifiers.clone(), session.access.clone(), clock.clone()));
        given_up.lock().unwrap().insert(stolen.clone());
        let (status, done) = compromise(&remote, &stolen, json!({})).await;
        let acknowledged = clock.monotonic();
        assert_eq!((status, &done["active_is_known"]), (200, &json!(true)), "{done}");
        assert!(!remote.published().await.contains(&stolen));
        let (status, renewed) = remote.refresh(&session).await.unwrap();
        assert_eq!(status, 200, "sessions go on: {renewed}");
        assert_ne!(kid_of(renewed["access_token"].as_str().unwrap()), stolen, "it signs no more");
        times.push(last.await.unwrap().saturating_sub(acknowledged));
    }
    load.stop().await;
    let verdict = judged.await.unwrap();
    times.sort_unstable();
    println!(
        "{} compromises, {FOLLOWERS} followers: from the acknowledgement to the last accept p50 {:.1?}, max {:.1?}; \
         valid tokens refused: {} of {}",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
        verdict.refused.len(),
        verdict.all()
    );
    assert!(verdict.refused.is_empty(), "{:?}", verdict.refused.first());
    assert!(times[times.len() - 1] < Duration::from_secs(2), "{times:?}");
    end_sessions(&remote, &verifiers, &clock).await;
}

/// The same, for whoever could read more than the key.
async fn end_sessions(remote: &Remote, verifiers: &Arc<Vec<Verifier>>, clock: &Arc<SystemClock>) {
    let session = remote.open().await.unwrap();
    let stolen = kid_of(&session.access);
    heir_is_known(remote, &stolen).await;
    let last = tokio::spawn(last_accept(verifiers.clone(), session.access.clone(), clock.clone()));
    let (status, done) = compromise(remote, &stolen, json!({"end_sessions": true})).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(remote.refresh(&session).await.unwrap().0, 400, "the session has ended");
    last.await.unwrap();
    let anew = remote.open().await.unwrap().access;
    assert!(verifiers.iter().all(|verifier| verifier.verify(&anew).is_ok()), "who logs in again is served at once");
}

//! The real program, killed and cheated: what it acknowledged is there afterwards.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;
#[path = "crash/liar.rs"]
mod liar;
#[path = "common/process.rs"]
mod process;
#[path = "common/remote.rs"]
mod remote;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{answer, text};
use liar::liar;
use process::Dev;
use remote::{Held, Remote};

/// Refreshes, opens and ends sessions until told to stop. Gives back what it holds by acknowledgement alone.
async fn worker(
    remote: Arc<Remote>,
    mut held: Vec<Held>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<Held> {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let open: Vec<usize> = (0..held.len()).filter(|i| !held[*i].ended).collect();
        if open.len() < 3 {
            match remote.open().await {
                Some(new) => held.push(new),
                None => break,
            }
        } else if turn % 7 == 0 {
            let i = open[0];
            match remote.end(&held[i]).await {
                Some(204) => held[i].ended = true,
                // Unknown whether it ended: it says nothing about the store any more.
                _ => {
                    held.remove(i);
                    break;
                }
            }
        } else {
            let i = open[turn % open.len()];
            match remote.refresh(&held[i]).await {
                Some((200, body)) => held[i].take(&body),
                Some((status, body)) => panic!("{status}: {body}"),
                None => break,
            }
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    held
}

/// Everything that was acknowledged holds: sessions refresh, ended ones do not, their tokens are inactive.
async fn check(remote: &Remote, held: &mut [Held]) {
    for one in held {
        let (status, body) = remote.refresh(one).await.expect("the server is up");
        if one.ended {
            assert_eq!(status, 400, "an acknowledged end came undone: {body}");
            assert!(!remote.active(&one.access).await);
        } else {
            assert_eq!(status, 200, "an acknowledged session or rotation was lost: {body}");
            one.refresh = text(&body, "refresh_token").to_owned();
            assert!(remote.active(text(&body, "access_token")).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_50_kills_under_load_lose_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.redb");
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let kills = if std::env::var_os("LONG_TESTS").is_some() { 200 } else { 50 };
    let mut untouched = Vec::new();
    let mut held: Vec<Vec<Held>> = vec![Vec::new(); 8];
    for kill in 0..kills {
        let dev = Dev::start(&store, &[]);
        let remote = Remote::of(&dev);
        if kill == 0 {
            for _ in 0..5 {
                untouched.push(remote.open().await.unwrap());
            }
        }
        for of_worker in &mut held {
            check(&remote, of_worker).await;
            // What has ended has been checked; a few are enough to go on with.
            of_worker.retain(|h| !h.ended);
            of_worker.truncate(4);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let enough = acknowledged.load(Ordering::Relaxed) + 40;
        let workers: Vec<_> = held
            .drain(..)
            .map(|h| tokio::spawn(worker(remote.clone(), h, stop.clone(), acknowledged.clone())))
            .collect();
        while acknowledged.load(Ordering::Relaxed) < enough && workers.iter().any(|w| !w.is_finished()) {
            tokio::task::yield_now().await;
        }
        dev.kill();
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            held.push(worker.await.unwrap());
        }
    }
    let dev = Dev::start(&store, &[]);
    let remote = Remote::of(&dev);
    check(&remote, &mut untouched).await;
    for of_worker in &mut held {
        check(&remote, of_worker).await;
    }
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    assert!(acknowledged >= 1000, "{acknowledged}");
    println!("{kills} kills, {acknowledged} acknowledgements, 0 lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_a_failed_fsync_ends_the_process_and_not_the_promise() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.redb");
    let (library, trigger) = (liar(directory.path()), directory.path().join("fail-sync"));
    let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("LIAR_SYNC", trigger.to_str().unwrap())];
    let mut dev = Dev::start_with(&store, &[], &environment);
    let remote = Remote::of(&dev);
    let held = remote.open().await.unwrap();
    std::fs::write(&trigger, "").unwrap();
    assert!(remote.refresh(&held).await.is_none(), "no answer to what nobody can know");
    let status = dev.child.wait().unwrap();
    assert!(!status.success());
    std::fs::remove_file(&trigger).unwrap();
    let dev = Dev::start(&store, &[]);
    let remote = Remote::of(&dev);
    check(&remote, &mut [held]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_a_full_disk_is_503_and_heals_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.redb");
    let (library, trigger) = (liar(directory.path()), directory.path().join("disk-full"));
    let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("LIAR_FULL", trigger.to_str().unwrap())];
    let dev = Dev::start_with(&store, &["--retry-window", "30s"], &environment);
    let remote = Remote::of(&dev);
    let held = remote.open().await.unwrap();
    std::fs::write(&trigger, "").unwrap();
    for _ in 0..3 {
        let request = remote.http.post(format!("{}/oauth2/token", remote.issuer));
        let form = [("grant_type", "refresh_token"), ("refresh_token", &*held.refresh)];
        let response = request.basic_auth(&remote.id, Some(&remote.secret)).form(&form).send().await.unwrap();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
    let ready = format!("{}/livez", dev.text("operations"));
    assert_eq!(answer(remote.http.get(ready)).await.0, 200, "alive all the while");
    std::fs::remove_file(&trigger).unwrap();
    let mut recovered = false;
    for _ in 0..100 {
        if let Some((200, _)) = remote.refresh(&held).await {
            recovered = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(recovered, "the client's token works as soon as there is room");
}

//! A store of a layout that this program does not read: it is refused by name, and left as it is.

use std::{path::Path, sync::Arc};

use rescind::{
    clock::{SystemClock, SystemRandom},
    model::family::Standing,
    store::{
        FamilyStore, StoreError,
        redis::{Options, RedisStore},
    },
};
use tempfile::TempDir;

use crate::{
    common::{LEASE, RETENTION, millis, open, opening, secs, subject},
    servers::{Server, wait_for},
};

const LAYOUT: &str = "rescind:{hub}:layout";

async fn try_open(server: &Server, journals: &Path) -> Result<RedisStore, StoreError> {
    let journal = Some(journals.join("journal"));
    let options = Options { lease: LEASE, skew: secs(5), journal, ..Options::new(RETENTION) };
    let url = server.url().parse().unwrap();
    RedisStore::open(&url, options, Arc::new(SystemClock::default()), Arc::new(SystemRandom)).await
}

/// Stands for every key and its value.
fn all(server: &Server) -> (String, String) {
    (server.cli(&["dbsize"]), server.cli(&["debug", "digest"]))
}

fn names_both_and_the_remedy(told: &str) {
    for part in ["layout 2", "up to 1", env!("CARGO_PKG_VERSION"), "start a version"] {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_says_which_layout_it_has_and_one_that_says_nothing_is_taken_for_the_first() {
    let (server, journals) = (Server::start(&[]), TempDir::new().unwrap());
    let store = try_open(&server, journals.path()).await.unwrap();
    assert_eq!(server.cli(&["--raw", "get", LAYOUT]), "1 1");
    server.cli(&["del", LAYOUT]);
    let other = TempDir::new().unwrap();
    let second = try_open(&server, other.path()).await.unwrap();
    open(&second, subject(1)).await;
    open(&store, subject(2)).await;
    assert_eq!(server.cli(&["--raw", "get", LAYOUT]), "1 1", "whoever changes the life next says it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_layout_is_not_opened_and_not_touched() {
    let server = Server::start(&[]);
    for text in ["2 2", "1 2", "2 2 of which nobody knows yet", "a layout"] {
        server.cli(&["flushall"]);
        server.cli(&["set", LAYOUT, text]);
        let (before, journals) = (all(&server), TempDir::new().unwrap());
        let refused = try_open(&server, journals.path()).await.unwrap_err();
        if text == "a layout" {
            assert!(refused.to_string().contains("not understood"), "{refused}");
        } else {
            names_both_and_the_remedy(&refused.to_string());
        }
        assert_eq!(all(&server), before, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_meets_a_newer_layout_serves_no_longer_and_writes_nothing() {
    let (server, journals) = (Server::start(&[]), TempDir::new().unwrap());
    let store = try_open(&server, journals.path()).await.unwrap();
    let family = open(&store, subject(1)).await;
    server.cli(&["set", LAYOUT, "2 2"]);
    let raised = std::time::Instant::now();
    wait_for("it serves no longer", || async { store.standing() == Standing::NotWhole }).await;
    assert!(raised.elapsed() <= LEASE, "{:?}", raised.elapsed());
    names_both_and_the_remedy(&store.life().why.unwrap());
    // Rounds of its keeper, debts that are looked for, buckets that are swept, and whatever is asked of it.
    let before = all(&server);
    for _ in 0..20 {
        let refused = store.open(opening(subject(2))).await.unwrap_err();
        assert!(matches!(refused, StoreError::Layout(_)), "{refused}");
        store.find(family.id).await.unwrap_err();
        tokio::time::sleep(millis(100)).await;
    }
    assert_eq!(all(&server), before);
    // A layout that it reads: it was never more than a word.
    server.cli(&["set", LAYOUT, "1 1"]);
    wait_for("it serves again", || async { store.standing() == Standing::Whole }).await;
    assert!(store.find(family.id).await.unwrap().is_some());
}

//! G7 for clients: who can write the store can neither enable a client nor give it a secret.

use std::path::Path;

use redb::{ReadableDatabase, TableDefinition};
use serde_json::json;

use crate::harness::{APP, Harness, OTHER, text};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The sealed book as the store has it.
fn book(store: &Path) -> Option<Vec<u8>> {
    let database = redb::Database::open(store).unwrap();
    let txn = database.begin_read().unwrap();
    txn.open_table(META).unwrap().get("clients").unwrap().map(|row| row.value().to_vec())
}

fn write_book(store: &Path, book: Option<&[u8]>) {
    let database = redb::Database::open(store).unwrap();
    let txn = database.begin_write().unwrap();
    match book {
        Some(book) => drop(txn.open_table(META).unwrap().insert("clients", book).unwrap()),
        None => drop(txn.open_table(META).unwrap().remove("clients").unwrap()),
    }
    txn.commit().unwrap();
}

async fn disabled() -> Harness {
    let harness = Harness::on_disk().await;
    let (status, body) = harness.post(&format!("/v1/clients/{OTHER}/disable"), APP, &json!({})).await;
    assert_eq!(status, 200, "{body}");
    harness
}

async fn status_of(harness: &Harness, client: &str) -> u16 {
    harness.form("/oauth2/revoke", client, &[("token", "nothing")]).await.0
}

#[tokio::test]
async fn a_book_that_is_torn_out_of_the_store_is_remembered() {
    let harness = disabled().await.restart(|_, path| write_book(&path.unwrap().join("store.redb"), None)).await;
    assert_eq!((status_of(&harness, OTHER).await, status_of(&harness, APP).await), (401, 200));
}

#[tokio::test]
async fn an_older_book_does_not_enable_a_client() {
    let mut old = None;
    let harness = disabled().await;
    // Enabled and disabled again: the book in between is genuine, and out of date.
    harness.post(&format!("/v1/clients/{OTHER}/enable"), APP, &json!({})).await;
    let harness = harness.restart(|_, path| old = book(&path.unwrap().join("store.redb"))).await;
    assert_eq!(status_of(&harness, OTHER).await, 200);
    harness.post(&format!("/v1/clients/{OTHER}/disable"), APP, &json!({})).await;
    let put_back = old.unwrap();
    let harness = harness.restart(|_, path| write_book(&path.unwrap().join("store.redb"), Some(&put_back))).await;
    assert_eq!(status_of(&harness, OTHER).await, 401);
    let (status, body) = harness.post(&format!("/v1/clients/{OTHER}/enable"), APP, &json!({})).await;
    assert_eq!(status, 200, "an operator still can: {body}");
    assert_eq!(status_of(&harness, OTHER).await, 200);
}

#[tokio::test]
async fn a_book_that_cannot_be_read_lets_nobody_in() {
    let harness = disabled().await;
    let harness = harness
        .restart(|_, path| {
            let (store, copy) = (path.unwrap().join("store.redb"), path.unwrap().join("keys/clients.sealed"));
            let mut altered = book(&store).unwrap();
            *altered.last_mut().unwrap() ^= 1;
            write_book(&store, Some(&altered));
            std::fs::remove_file(copy).unwrap();
        })
        .await;
    assert_eq!((status_of(&harness, OTHER).await, status_of(&harness, APP).await), (503, 503));
    let ready = harness.http.get(format!("{}/readyz", harness.operations)).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 503);
}

#[tokio::test]
async fn a_store_that_was_put_back_does_not_enable_a_client() {
    let harness = Harness::on_disk().await;
    harness.open("alice").await;
    let mut copy = Vec::new();
    let harness = harness.restart(|_, path| copy = std::fs::read(path.unwrap().join("store.redb")).unwrap()).await;
    harness.post(&format!("/v1/clients/{OTHER}/disable"), APP, &json!({})).await;
    let (_, rotated) = harness.post("/v1/clients/powerless/secrets", APP, &json!({"drop_old": true})).await;
    let harness = harness
        .restart(|setup, path| {
            std::fs::write(path.unwrap().join("store.redb"), &copy).unwrap();
            setup.acceptance = rescind::store::embedded::Acceptance::EndSessions;
        })
        .await;
    assert_eq!((status_of(&harness, OTHER).await, status_of(&harness, APP).await), (401, 200));
    assert_eq!(status_of(&harness, "powerless").await, 401, "its old secret was dropped");
    let form = [("token", "nothing")];
    let request = harness.http.post(format!("{}/oauth2/revoke", harness.base));
    let new = request.basic_auth("powerless", Some(text(&rotated, "client_secret"))).form(&form);
    assert_eq!(crate::harness::answer(new).await.0, 200);
}

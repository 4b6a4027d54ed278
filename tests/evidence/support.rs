//! What these tests share: the log as an auditor reads it, and the store as an intruder writes it.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rescind::model::{
    JwkSet, Timestamp,
    audit::Record,
    chain::{Broken, Head, Line, Statement, Walk},
    feed::Digest,
};
use serde_json::Value;

use crate::harness::Harness;

pub const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");
pub const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// A row of the audit log, as the store has it.
pub type Row = (Timestamp, Record);
/// The chain's own row: the head, the latest instant, the last record from before there was a chain.
pub type Chain = (Head, Timestamp, u64);

pub async fn lines(harness: &Harness) -> Vec<Line> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let (status, page) = harness.get(&format!("/v1/audit?limit=3&after={after}")).await;
        assert_eq!(status, 200, "{page}");
        let records: Vec<Line> = serde_json::from_value(page["records"].clone()).unwrap();
        all.extend(records);
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return all,
        }
    }
}

/// The signed head; the signature has been checked.
pub async fn head(harness: &Harness) -> Head {
    let (status, body) = harness.get("/v1/audit/head").await;
    assert_eq!(status, 200, "{body}");
    read(&body).unwrap().head
}

pub fn read(body: &Value) -> Option<Statement> {
    let keys = JwkSet::parse(serde_json::json!({"keys": [body["key"]]}).to_string().as_bytes()).unwrap();
    rescind::service::read_statement(body["statement"].as_str()?, &keys)
}

/// As an auditor does.
pub fn verify(lines: &[Line], head: &Head) -> Result<(), Broken> {
    let mut walk = Walk::default();
    for line in lines {
        walk.step(line)?;
    }
    walk.began_at(head)?;
    walk.meets(head)?;
    walk.end()
}

pub async fn verified(harness: &Harness) -> Result<(), Broken> {
    let lines = lines(harness).await;
    verify(&lines, &head(harness).await)
}

/// Changes rows of the audit log in a store that nobody has open, as one who can write the file.
pub fn rewrite(store: &Path, mut change: impl FnMut(u64, &mut Row) -> bool) {
    let database = Database::open(store).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut table = txn.open_table(AUDIT).unwrap();
        let rows: Vec<(u64, Vec<u8>)> =
            table.iter().unwrap().map(|r| r.map(|(k, v)| (k.value(), v.value().to_vec())).unwrap()).collect();
        for (sequence, bytes) in rows {
            let mut row: Row = postcard::from_bytes(&bytes).unwrap();
            if change(sequence, &mut row) {
                table.insert(sequence, &postcard::to_stdvec(&row).unwrap()[..]).unwrap();
            } else {
                table.remove(sequence).unwrap();
            }
        }
    }
    txn.commit().unwrap();
}

pub fn append(store: &Path, row: &Row) {
    let database = Database::open(store).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(AUDIT).unwrap().insert(row.1.sequence, &postcard::to_stdvec(row).unwrap()[..]).unwrap();
    txn.commit().unwrap();
}

pub fn meta(store: &Path, name: &str) -> Option<Vec<u8>> {
    let database = Database::open(store).unwrap();
    let table = database.begin_read().unwrap().open_table(META).unwrap();
    table.get(name).unwrap().map(|bytes| bytes.value().to_vec())
}

pub fn set_meta(store: &Path, name: &str, value: &[u8]) {
    change_meta(store, |table| drop(table.insert(name, value).unwrap()));
}

pub fn remove_meta(store: &Path, name: &str) {
    change_meta(store, |table| drop(table.remove(name).unwrap()));
}

fn change_meta(store: &Path, change: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>)) {
    let database = Database::open(store).unwrap();
    let txn = database.begin_write().unwrap();
    change(&mut txn.open_table(META).unwrap());
    txn.commit().unwrap();
}

/// What an intruder says of a log that he has removed: that it begins and ends where he likes.
pub fn set_chain(store: &Path, change: impl FnOnce(&mut Head)) {
    let (mut head, latest, born): Chain = postcard::from_bytes(&meta(store, "audit_chain").unwrap()).unwrap();
    change(&mut head);
    set_meta(store, "audit_chain", &postcard::to_stdvec(&(head, latest, born)).unwrap());
}

/// All records and the signed head are gone, and the log seems to begin after them: of the chain itself nothing is wrong.
pub fn remove_log(store: &Path) {
    rewrite(store, |_, _| false);
    set_chain(store, |head| {
        let beyond = Digest([7; 32]);
        *head = Head { first: head.sequence + 2, anchor: beyond, sequence: head.sequence + 1, digest: beyond };
    });
    set_born(store);
    remove_meta(store, "audit_statement");
}

/// As if the newest record were the last from before there was a chain.
pub fn set_born(store: &Path) {
    let (head, latest, _): Chain = postcard::from_bytes(&meta(store, "audit_chain").unwrap()).unwrap();
    set_meta(store, "audit_chain", &postcard::to_stdvec(&(head, latest, head.sequence)).unwrap());
}

pub async fn measured(harness: &Harness, line: &str) -> bool {
    let url = format!("{}/metrics", harness.operations);
    // It is measured each second.
    for _ in 0..300 {
        let text = harness.http.get(&url).send().await.unwrap().text().await.unwrap();
        if text.lines().any(|l| l == line) {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    false
}

//! One token on several connections at once, again and again: what a browser with as many tabs does.

use std::{collections::BTreeSet, io};

use serde::Deserialize;
use tokio::task::{JoinSet, LocalSet};

use crate::{
    http::{Connection, post},
    process::Server,
};

/// What became of all chains.
#[derive(Default)]
pub(crate) struct Race {
    /// Answers with tokens.
    given: usize,
    /// Different successors, over all chains.
    successors: usize,
    /// The most of one chain.
    most: usize,
    /// Of these, how many could be exchanged afterwards.
    redeemable: usize,
    /// Chains of which no successor could be: their client is logged out.
    logged_out: usize,
}

#[derive(Deserialize)]
struct Granted {
    refresh_token: String,
}

impl Race {
    pub(crate) async fn run(server: &Server, chains: usize, connections: usize) -> io::Result<Self> {
        let mut race = Self::default();
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(Connection::open(server.address).await?);
        }
        for chain in 0..chains {
            let body = format!(r#"{{"subject":"racer-{chain}","audience":["api"],"scope":"read"}}"#);
            let request = post("/v1/sessions", &server.authorization, "application/json", &body);
            let first = granted(&mut open[0], &request).await?.ok_or_else(|| io::Error::other("no session"))?;
            open = race.add(server, open, &first).await?;
        }
        Ok(race)
    }

    async fn add(&mut self, server: &Server, open: Vec<Connection>, first: &str) -> io::Result<Vec<Connection>> {
        let (mut open, given) = all_at_once(open, refresh(server, first)).await?;
        let successors: BTreeSet<&String> = given.iter().collect();
        let mut redeemable = 0;
        for successor in &successors {
            redeemable += usize::from(granted(&mut open[0], &refresh(server, successor)).await?.is_some());
        }
        self.given += given.len();
        self.successors += successors.len();
        self.most = self.most.max(successors.len());
        self.redeemable += redeemable;
        self.logged_out += usize::from(redeemable == 0);
        Ok(open)
    }

    /// One successor a chain, and everyone is still logged in.
    pub(crate) const fn is_fair(&self, chains: usize) -> bool {
        self.successors == chains && self.redeemable == chains && self.logged_out == 0
    }
}

/// The same request on every connection. Gives them back, and the tokens that were answered.
async fn all_at_once(open: Vec<Connection>, request: Vec<u8>) -> io::Result<(Vec<Connection>, Vec<String>)> {
    let here = LocalSet::new();
    let answers = here.run_until(async {
        let mut under_way = JoinSet::new();
        for mut connection in open {
            let request = request.clone();
            under_way.spawn_local(async move { (granted(&mut connection, &request).await, connection) });
        }
        under_way.join_all().await
    });
    let (mut open, mut tokens) = (Vec::new(), Vec::new());
    for (token, connection) in answers.await {
        tokens.extend(token?);
        open.push(connection);
    }
    Ok((open, tokens))
}

fn refresh(server: &Server, token: &str) -> Vec<u8> {
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    post("/oauth2/token", &server.authorization, "application/x-www-form-urlencoded", &body)
}

/// The token of an answer, unless it is a refusal.
async fn granted(connection: &mut Connection, request: &[u8]) -> io::Result<Option<String>> {
    let answer = connection.exchange(request).await?;
    if answer.status >= 300 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice::<Granted>(answer.body)?.refresh_token))
}

pub(crate) fn print(chains: usize, connections: usize, races: &[(&'static str, Race)]) {
    println!("race: one token on {connections} connections at once, {chains} chains");
    println!(
        "{:24} {:>8} {:>11} {:>12} {:>12} {:>11}",
        "", "answered", "successors", "most of one", "redeemable", "logged out"
    );
    for (name, race) in races {
        let Race { given, successors, most, redeemable, logged_out } = race;
        println!("{name:24} {given:8} {successors:11} {most:12} {redeemable:12} {logged_out:11}");
    }
}

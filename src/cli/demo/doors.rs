//! Verifiers in processes of their own, as a proxy would ask them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Url};
use serde_json::Value;

use super::super::{client::client_for, dev::AUDIENCE};
use crate::clock::{Clock, SystemClock};

/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Some `rescind verifier`s that guard the same API. They end with this.
pub(super) struct Doors {
    web: Client,
    doors: Vec<Door>,
}

struct Door {
    process: Child,
    url: String,
}

impl Drop for Door {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Door {
    /// Blocks until it listens.
    fn start(issuer: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.args(["verifier", "--json", "--listen", "127.0.0.1:0", "--audience", AUDIENCE, "--issuer", issuer]);
        command.env("RUST_LOG", "error").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot start a verifier")?;
        let out = process.stdout.take().context("it has no output")?;
        let mut door = Self { process, url: String::new() };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let hello: Value = serde_json::from_str(&line).context("a verifier did not start")?;
        door.url = hello["listen"].as_str().context("it does not say where it listens")?.to_owned();
        Ok(door)
    }
}

impl Doors {
    pub(super) async fn open(many: usize, issuer: &str) -> Result<Self> {
        let web = client_for(&Url::parse(issuer)?)?;
        let issuer = issuer.to_owned();
        let start = move || (0..many).map(|_| Door::start(&issuer)).collect::<Result<_>>();
        let doors = tokio::task::spawn_blocking(start).await.context("starting the verifiers panicked")??;
        Ok(Self { web, doors })
    }

    async fn ask(&self, door: &Door, token: &str) -> Result<u16> {
        Ok(self.web.get(&door.url).bearer_auth(token).send().await?.status().as_u16())
    }

    /// Every door lets the token in; one that does not know yet is asked again.
    pub(super) async fn admit(&self, token: &str) -> Result<()> {
        let clock = SystemClock::default();
        let began = clock.monotonic();
        for door in &self.doors {
            loop {
                match self.ask(door, token).await? {
                    200 => break,
                    503 if clock.monotonic() - began < PATIENCE => tokio::time::sleep(Duration::from_millis(5)).await,
                    other => bail!("a verifier in another process answered {other} to a good token"),
                }
            }
        }
        Ok(())
    }

    /// How long from now until each refuses the token.
    pub(super) async fn refuse(&self, token: &str) -> Result<Vec<Duration>> {
        let clock = SystemClock::default();
        let began = clock.monotonic();
        let mut after = vec![None; self.doors.len()];
        while after.contains(&None) {
            for (door, after) in self.doors.iter().zip(&mut after).filter(|(_, after)| after.is_none()) {
                match self.ask(door, token).await? {
                    401 => *after = Some(clock.monotonic() - began),
                    200 => {}
                    other => bail!("a verifier in another process answered {other}"),
                }
            }
            ensure!(clock.monotonic() - began < PATIENCE, "a verifier in another process still lets the token in");
        }
        Ok(after.into_iter().flatten().collect())
    }
}

//! What a running node takes up when it is told to (SIGHUP): clients and certificates. Whatever is wrong with the new
//! configuration, the old one stays as a whole.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tokio::{signal::unix::Signal, sync::watch, task::spawn_blocking};

use super::{
    config::{
        Chosen, Config, Loaded, OnDisabled,
        layers::{Problem, Tree},
        schema::{dotted, find},
    },
    notify::Notify,
};
use crate::{
    model::ClientId,
    service::{Client, Clients, Service},
};

/// How long a write that failed is waited with at most before it is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Takes up a configuration anew.
pub(super) struct Reload {
    /// Files, variables and options as they were named at the start.
    chosen: Chosen,
    /// What the process was started with, and goes by where a reload changes nothing.
    started: Tree,
    /// Clients as they were taken up last.
    disabled: BTreeSet<ClientId>,
    service: Arc<Service>,
    /// Whatever is sent to it has the certificates read again.
    certificates: watch::Sender<()>,
    reloads: Family<Outcome, Counter>,
    restart: Gauge,
}

impl Reload {
    pub(super) fn new(chosen: Chosen, loaded: Loaded, service: Arc<Service>, certificates: watch::Sender<()>) -> Self {
        let (reloads, restart): (Family<Outcome, Counter>, Gauge) = Default::default();
        service.metrics().extend(|registry| {
            registry.register("config_reloads", "Times the configuration was read again, by outcome", reloads.clone());
            registry.register(
                "config_restart_needed",
                "Settings that have been changed and wait for a restart",
                restart.clone(),
            );
        });
        // Both are there from the first scrape on.
        for outcome in ["done", "failed"] {
            drop(reloads.get_or_create(&Outcome { outcome }));
        }
        let disabled = disabled(&loaded.config);
        // What was disabled while nothing ran has its consequence now. After the first time there is nothing to end.
        if loaded.config.sessions.on_client_disabled.0 == OnDisabled::EndSessions {
            for client in disabled.clone() {
                tokio::spawn(end_sessions(service.clone(), client, true));
            }
        }
        Self { chosen, started: loaded.tree, disabled, service, certificates, reloads, restart }
    }

    /// Reloads at each signal, one after the other.
    pub(super) async fn at(mut self, mut hangup: Signal, notify: Notify) {
        while hangup.recv().await.is_some() {
            notify.reloading();
            // Whoever renews certificates must not wait for somebody else's mistake.
            self.certificates.send_replace(());
            let outcome = match self.read().await {
                Ok((loaded, clients)) => {
                    self.take_up(&loaded, clients);
                    "done"
                }
                Err(problems) => {
                    let mistakes = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                    tracing::error!(mistakes, "the configuration was not reloaded; the one before stays in force");
                    "failed"
                }
            };
            self.reloads.get_or_create(&Outcome { outcome }).inc();
            notify.reloaded(outcome);
        }
    }

    async fn read(&self) -> Result<(Loaded, Vec<Client>), Vec<Problem>> {
        let chosen = self.chosen.clone();
        let read = spawn_blocking(move || {
            let loaded = chosen.load()?;
            let clients = loaded.config.clients().map_err(|problem| vec![problem])?;
            Ok((loaded, clients))
        });
        read.await.unwrap_or_else(|e| Err(vec![Problem::of(format!("reading it broke off: {e}"))]))
    }

    fn take_up(&mut self, loaded: &Loaded, clients: Vec<Client>) {
        let count = clients.len();
        self.service.set_clients(Clients::new(clients));
        let disabled = disabled(&loaded.config);
        // After they are refused: nothing is opened any more that the cut-off would miss.
        if loaded.config.sessions.on_client_disabled.0 == OnDisabled::EndSessions {
            for client in disabled.difference(&self.disabled) {
                tokio::spawn(end_sessions(self.service.clone(), client.clone(), false));
            }
        }
        self.disabled = disabled;
        tracing::info!(clients = count, disabled = self.disabled.len(), "configuration reloaded");
        let waiting = waiting(&self.started, &loaded.tree);
        self.restart.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        if !waiting.is_empty() {
            tracing::warn!(settings = waiting.join(", "), "these have been changed and need a restart");
        }
    }
}

fn disabled(config: &Config) -> BTreeSet<ClientId> {
    config.clients.iter().filter(|c| c.disabled).map(|c| c.id.clone()).collect()
}

/// Settings that a reload does not take over, and that say something else than at the start.
fn waiting(started: &Tree, now: &Tree) -> Vec<String> {
    let mut waiting = Vec::new();
    for section in Config::SECTIONS {
        for key in section.keys {
            let name = dotted(section.name, key.name);
            let value = |tree: &Tree| tree.leaves.get(&name).map(|leaf| leaf.value.clone());
            let reloads = find(Config::SECTIONS, &name).is_some_and(|key| key.traits.reloads);
            if !reloads && value(started) != value(now) {
                waiting.push(name);
            }
        }
    }
    waiting
}

/// Until it is done: a store that is busy, or not whole, will be again.
async fn end_sessions(service: Arc<Service>, client: ClientId, only_if_any: bool) {
    let mut pause = Duration::from_secs(1);
    loop {
        let ended = match only_if_any {
            true => match service.may_have_sessions(&client).await {
                Ok(false) => return,
                Ok(true) => service.end_disabled(&client).await.map(drop),
                Err(error) => Err(error),
            },
            false => service.end_disabled(&client).await.map(drop),
        };
        match ended {
            Ok(()) => return tracing::info!(%client, "its sessions have ended: the configuration disables it"),
            Err(error) => tracing::error!(%error, %client, "its sessions could not be ended yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

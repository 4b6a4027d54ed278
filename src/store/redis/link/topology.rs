//! Which servers there are, found out and kept up to date in the background; and who vouches for that.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    answers::Info,
    cluster::{self, View},
    map::{Map, slot},
    sentinel::{Sentinels, Spare},
    server::{Habits, Server},
    wire::{Lost, Manner},
};
use crate::store::redis::url::{Place, StoreUrl, Way};

/// How long a node of a cluster may take to say what it sees.
const PATIENCE: Duration = Duration::from_millis(400);

/// Who vouches that these are the servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The server itself: there is one, and it says that it is a master.
    Itself,
    /// So many of all Sentinels that are known name it; more than half.
    Sentinels {
        /// How many name it.
        agree: usize,
        /// How many are known.
        known: usize,
    },
    /// So many of the masters agree on who serves every slot; more than half.
    Masters {
        /// How many agree.
        agree: usize,
        /// How many there are.
        of: usize,
    },
}

/// A master, as it names itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Master {
    /// Where it is.
    pub address: String,
    /// Which run of the program it is: another after each start.
    pub run_id: String,
    /// Which history of the data it continues: another after each failover.
    pub replication_id: String,
    /// How far in that history.
    pub offset: u64,
}

/// The servers.
pub(super) struct Topology {
    url: StoreUrl,
    habits: Habits,
    map: ArcSwap<Map>,
    sentinels: Option<Sentinels>,
    spare: Arc<Spare>,
    surveying: tokio::sync::Mutex<()>,
    /// Something that a server said does not fit what is known.
    pub(super) doubt: Notify,
    trouble: Mutex<Option<String>>,
}

impl Topology {
    pub(super) fn new(url: &StoreUrl, habits: Habits) -> Self {
        let sentinels = match &url.way {
            Way::Sentinel(name) => {
                let manner = Manner { login: url.sentinel_login.clone(), db: 0, tls: habits.manner.tls.clone() };
                Some(Sentinels::new(name, &url.places, manner))
            }
            _ => None,
        };
        let map = match url.way {
            Way::Single => Map {
                masters: url.places.iter().map(|place| Server::new(place.clone(), habits.clone())).collect(),
                table: None,
            },
            _ => Map::default(),
        };
        Self {
            url: url.clone(),
            map: ArcSwap::from_pointee(map),
            sentinels,
            spare: Spare::new(habits.manner.clone()),
            habits,
            surveying: tokio::sync::Mutex::default(),
            doubt: Notify::new(),
            trouble: Mutex::default(),
        }
    }

    pub(super) fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// The master that has the key.
    pub(super) fn master(&self, key: &[u8]) -> Result<Arc<Server>, Lost> {
        self.map.load().master(key).cloned().ok_or_else(|| Lost(self.trouble()))
    }

    /// Why it is not known who the servers are.
    pub(super) fn trouble(&self) -> String {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.unwrap_or_else(|| format!("no master is known at {}", self.url))
    }

    pub(super) const fn is_single(&self) -> bool {
        matches!(self.url.way, Way::Single)
    }

    /// The server at a place that a cluster has named; and from now on it has this key's slot, if `key` is given.
    pub(super) fn at(&self, place: &Place, key: Option<&[u8]>) -> Arc<Server> {
        let map = self.map();
        if let (Some(server), None) = (map.at(place), key) {
            return server.clone();
        }
        let server = map.at(place).cloned().unwrap_or_else(|| Server::new(place.clone(), self.habits.clone()));
        let mut masters = map.masters.clone();
        let n = masters.iter().position(|known| known.place == *place).unwrap_or_else(|| {
            masters.push(server.clone());
            masters.len() - 1
        });
        let mut table = map.table.clone();
        if let (Some(key), Some(table), Ok(n)) = (key, &mut table, u16::try_from(n)) {
            table[usize::from(slot(key))] = n;
        }
        self.map.store(Arc::new(Map { masters, table }));
        server
    }

    /// Finds out who the masters are, and who says so. What is found is what requests go by from then on.
    pub(super) async fn survey(&self, until: Instant) -> Result<Proof, Lost> {
        let Ok(_alone) = timeout_at(until, self.surveying.lock()).await else {
            return Err(Lost("it takes too long to find out which server is the master".into()));
        };
        let found = match &self.sentinels {
            Some(sentinels) => self.survey_sentinels(sentinels, until).await,
            None if self.is_single() => Ok(Proof::Itself),
            None => self.survey_cluster(until).await,
        };
        let why = found.as_ref().err().map(|why: &Lost| why.0.clone());
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
        found
    }

    async fn survey_sentinels(&self, sentinels: &Sentinels, until: Instant) -> Result<Proof, Lost> {
        let verdict = sentinels.ask(until).await;
        let (agree, known) = (verdict.agree, verdict.known);
        let Some(master) = verdict.master else {
            let silent = verdict.silent.map(|why| format!(" ({why})")).unwrap_or_default();
            return Err(Lost(format!("{agree} of {known} Sentinels name one master, and more than half must{silent}")));
        };
        if self.map.load().at(&master).is_none() {
            tracing::info!(%master, agree, known, "the Sentinels name another master of the store");
            let server = Server::new(master, self.habits.clone());
            self.map.store(Arc::new(Map { masters: vec![server], table: None }));
        }
        Ok(Proof::Sentinels { agree, known })
    }

    async fn survey_cluster(&self, until: Instant) -> Result<Proof, Lost> {
        let until = until.min(Instant::now() + PATIENCE);
        let mut asked: BTreeSet<Place> = BTreeSet::new();
        let mut wanted: BTreeSet<Place> = self.map.load().masters.iter().map(|server| server.place.clone()).collect();
        let (mut views, mut silent) = (Vec::new(), None);
        // Those that are known, then those that they name, then those that were named to us.
        for round in 0..3 {
            if round == 2 || wanted.is_empty() {
                wanted.extend(self.url.places.iter().cloned());
            }
            let places: Vec<_> = wanted.difference(&asked).cloned().collect();
            asked.extend(places.iter().cloned());
            let (seen, why) = self.views(places, until).await;
            views.extend(seen);
            silent = why.or(silent);
            if let Some((view, agree)) = cluster::agreed(&views) {
                let of = view.masters.len();
                self.adopt(&view);
                return match Map::uncovered(&view.table) {
                    0 => Ok(Proof::Masters { agree, of }),
                    n => Err(Lost(format!("{n} slots of the cluster are served by nobody"))),
                };
            }
            wanted = views.iter().flat_map(|view| view.masters.iter().map(|(_, place)| place.clone())).collect();
        }
        let silent = silent.map(|why| format!(" ({why})")).unwrap_or_default();
        Err(Lost(format!("no half of the cluster's masters agree on who serves what{silent}")))
    }

    async fn views(&self, places: Vec<Place>, until: Instant) -> (Vec<Arc<View>>, Option<String>) {
        let map = self.map();
        let mut asked = JoinSet::new();
        for place in places {
            let wire = map.at(&place).and_then(|server| server.control_now());
            let spare = self.spare.clone();
            asked.spawn(async move {
                let seen = timeout_at(until, async {
                    let wire = if let Some(wire) = wire { wire } else { spare.wire(&place).await? };
                    cluster::view(&wire, &place).await
                });
                let seen = seen.await.unwrap_or_else(|_| Err(Lost("it does not answer".into())));
                if seen.is_err() {
                    spare.forget(&place).await;
                }
                seen.map_err(|why| format!("{place}: {}", why.0))
            });
        }
        let (mut views, mut silent) = (Vec::new(), None);
        while let Some(seen) = asked.join_next().await {
            match seen {
                Ok(Ok(view)) => views.push(Arc::new(view)),
                Ok(Err(why)) => silent = Some(why),
                Err(_) => {}
            }
        }
        (views, silent)
    }

    fn adopt(&self, view: &View) {
        let map = self.map();
        let same = map.masters.iter().map(|server| &server.place).eq(view.masters.iter().map(|(_, place)| place));
        if same && map.table.as_ref() == Some(&view.table) {
            return;
        }
        let server = |(_, place): &(_, Place)| {
            map.at(place).cloned().unwrap_or_else(|| Server::new(place.clone(), self.habits.clone()))
        };
        let masters = view.masters.iter().map(server).collect();
        self.map.store(Arc::new(Map { masters, table: Some(view.table.clone()) }));
    }

    /// What each master says about itself, all of them asked at once.
    pub(super) async fn masters(&self, until: Instant) -> Result<Vec<Master>, Lost> {
        let mut asked = JoinSet::new();
        for server in &self.map.load().masters {
            let server = server.clone();
            asked.spawn(async move {
                let said = timeout_at(until, identity(&server, until)).await;
                let said = said.unwrap_or_else(|_| Err(Lost("it does not answer".into())));
                said.map_err(|why| Lost(format!("{}: {}", server.place, why.0)))
            });
        }
        let mut masters = Vec::new();
        while let Some(said) = asked.join_next().await {
            masters.push(said.map_err(|e| Lost(e.to_string()))??);
        }
        masters.sort();
        if masters.is_empty() { Err(Lost(self.trouble())) } else { Ok(masters) }
    }
}

async fn identity(server: &Server, until: Instant) -> Result<Master, Lost> {
    let info = Info::ask(&*server.control(until).await?, &["server", "replication"]).await?;
    if info.get("role") != "master" {
        return Err(Lost("it is a replica".into()));
    }
    let (run_id, replication_id) = (info.get("run_id"), info.get("master_replid"));
    if run_id.is_empty() || replication_id.is_empty() {
        return Err(Lost("it does not say its run id".into()));
    }
    Ok(Master {
        address: server.place.to_string(),
        run_id: run_id.into(),
        replication_id: replication_id.into(),
        offset: info.number("master_repl_offset"),
    })
}

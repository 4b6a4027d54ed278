//! Sentinels, asked by us: all that are known, each time anew, and none of them on the way of a request.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    answers::{at, list, text},
    wire::{Lost, Manner, Value, Wire, told},
};
use crate::store::redis::url::Place;

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_millis(400);

/// Connections to those that do not serve keys, or do not yet; each is made when it is wanted.
pub(super) struct Spare {
    manner: Manner,
    wires: Mutex<HashMap<Place, Arc<Wire>>>,
}

impl Spare {
    pub(super) fn new(manner: Manner) -> Arc<Self> {
        Arc::new(Self { manner, wires: Mutex::default() })
    }

    pub(super) async fn wire(&self, place: &Place) -> Result<Arc<Wire>, Lost> {
        if let Some(wire) = self.wires.lock().await.get(place).filter(|wire| wire.alive()) {
            return Ok(wire.clone());
        }
        let wire = Arc::new(Wire::open(place, &self.manner).await?);
        self.wires.lock().await.insert(place.clone(), wire.clone());
        Ok(wire)
    }

    /// Not this one any more.
    pub(super) async fn forget(&self, place: &Place) {
        self.wires.lock().await.remove(place);
    }
}

/// The Sentinels of a master.
pub(super) struct Sentinels {
    name: Box<str>,
    named: Vec<Place>,
    learned: Mutex<BTreeSet<Place>>,
    spare: Arc<Spare>,
}

/// What one of them says.
struct Said {
    id: String,
    master: Option<Place>,
    others: Vec<(String, Place)>,
}

/// What they say together.
pub(super) struct Verdict {
    /// The master that most of all known Sentinels name.
    pub(super) master: Option<Place>,
    pub(super) agree: usize,
    pub(super) known: usize,
    /// Why those that said nothing said nothing.
    pub(super) silent: Option<String>,
}

impl Sentinels {
    pub(super) fn new(name: &str, named: &[Place], manner: Manner) -> Self {
        Self { name: name.into(), named: named.into(), learned: Mutex::default(), spare: Spare::new(manner) }
    }

    pub(super) async fn ask(&self, until: Instant) -> Verdict {
        let places: BTreeSet<Place> = self.named.iter().cloned().chain(self.learned.lock().await.clone()).collect();
        let until = until.min(Instant::now() + PATIENCE);
        let mut asked = JoinSet::new();
        for place in places {
            let (spare, name) = (self.spare.clone(), self.name.clone());
            asked.spawn(async move {
                let said = timeout_at(until, ask(&spare, &place, &name)).await;
                let said = said.unwrap_or_else(|_| Err(Lost("it does not answer".into())));
                if said.is_err() {
                    spare.forget(&place).await;
                }
                said.map_err(|why| format!("Sentinel {place}: {}", why.0))
            });
        }
        let (mut all, mut silent) = (Vec::new(), None);
        while let Some(said) = asked.join_next().await {
            match said {
                Ok(Ok(said)) => all.push(said),
                Ok(Err(why)) => silent = Some(why),
                Err(_) => {}
            }
        }
        *self.learned.lock().await =
            all.iter().flat_map(|said| said.others.iter().map(|(_, place)| place.clone())).collect();
        count(&all, self.named.len(), silent)
    }
}

/// Each has one vote, however many addresses it has; who is known to any of them counts among all.
fn count(all: &[Said], named: usize, silent: Option<String>) -> Verdict {
    let known: BTreeSet<&str> =
        all.iter().flat_map(|said| said.others.iter().map(|(id, _)| &**id).chain([&*said.id])).collect();
    let known = known.len().max(named);
    let mut votes: BTreeMap<&Place, BTreeSet<&str>> = BTreeMap::new();
    for said in all {
        if let Some(master) = &said.master {
            votes.entry(master).or_default().insert(&said.id);
        }
    }
    let best = votes.into_iter().max_by_key(|(_, voters)| voters.len());
    let agree = best.as_ref().map_or(0, |(_, voters)| voters.len());
    let master = best.filter(|_| agree * 2 > known).map(|(place, _)| place.clone());
    Verdict { master, agree, known, silent }
}

async fn ask(spare: &Spare, place: &Place, name: &str) -> Result<Said, Lost> {
    let wire = spare.wire(place).await?;
    let mut pipe = redis::pipe();
    pipe.cmd("SENTINEL").arg("MYID");
    pipe.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    pipe.cmd("SENTINEL").arg("SENTINELS").arg(name);
    let answers = wire.ask_surely(pipe).await?;
    let [id, master, others] = &answers[..] else { return Err(Lost("answers are missing".into())) };
    if let Value::ServerError(error) = id {
        return Err(Lost(told(error)));
    }
    let id = text(id).ok_or_else(|| Lost("it does not say its id".into()))?.to_owned();
    let master = list(master).and_then(|pair| match pair {
        [host, port] => Some(at(text(host)?, text(port)?.parse().ok()?, place)),
        _ => None,
    });
    if master.is_none() {
        return Err(Lost(format!("it knows no master {name}")));
    }
    let others = list(others).unwrap_or_default().iter().filter_map(|other| read_other(other, place)).collect();
    Ok(Said { id, master, others })
}

fn read_other(other: &Value, asked: &Place) -> Option<(String, Place)> {
    let fields: HashMap<&str, &str> =
        list(other)?.chunks(2).filter_map(|pair| Some((text(pair.first()?)?, text(pair.get(1)?)?))).collect();
    let id = fields.get("runid").filter(|id| !id.is_empty())?;
    Some(((*id).to_owned(), at(fields.get("ip")?, fields.get("port")?.parse().ok()?, asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: &str, master: &str, others: &[&str]) -> Said {
        let place = |host: &str| Place::Tcp(host.into(), 1);
        let others = others.iter().map(|id| ((*id).to_owned(), place(id))).collect();
        Said { id: id.into(), master: Some(place(master)), others }
    }

    #[test]
    fn most_of_all_that_are_known_must_name_it() {
        let verdict = |all: &[Said], named| {
            let verdict = count(all, named, None);
            (verdict.master.map(|place| place.to_string()), verdict.agree, verdict.known)
        };
        let m = || Some("m:1".to_owned());
        assert_eq!(verdict(&[said("a", "m", &["b", "c"]), said("b", "m", &["a", "c"])], 1), (m(), 2, 3));
        assert_eq!(verdict(&[said("a", "m", &["b", "c"])], 1), (None, 1, 3), "two are silent");
        assert_eq!(verdict(&[said("a", "m", &[])], 3), (None, 1, 3), "three are named");
        assert_eq!(verdict(&[said("a", "m", &["b"]), said("a", "m", &["b"])], 2), (None, 1, 2), "one under two names");
        let split = [said("a", "m", &["b", "c"]), said("b", "n", &["a", "c"]), said("c", "m", &["a", "b"])];
        assert_eq!(verdict(&split, 3), (m(), 2, 3));
        assert_eq!(verdict(&split[..2], 3), (None, 1, 3));
        assert_eq!(verdict(&[], 3), (None, 0, 3));
    }
}

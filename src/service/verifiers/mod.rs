//! Verifiers that say how far they are: a help for whoever asks who refuses a token by now, and no evidence. Whoever may
//! report may say what it likes; a verifier that does not report follows the feed all the same.
//!
//! Nothing of it is written anywhere: after a restart all are heard of again within moments.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::table::{Sighting, Table};
use super::{Caller, Context, Error, Permission, Service};
use crate::{
    feed::Arrival,
    model::{
        ClientId, Timestamp, VerifierName,
        feed::{Epoch, KeysVersion},
        report::Reported,
    },
};

pub(super) mod metrics;
mod table;
mod view;

pub use self::view::{Applied, VerifierPage, VerifierQuery, VerifierState, VerifierStates, VerifierView};

/// What was acknowledged longer ago than this a verifier has applied, or it is behind. One that is asked to stay away for
/// two seconds, because too many wait, is not.
const LATE: Duration = Duration::from_secs(5);

/// What a follower says of itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose it is. It has proven that.
    pub caller: Caller,
    /// Which one.
    pub name: VerifierName,
    /// From where it asks.
    pub address: IpAddr,
    /// Which key set it verifies with.
    pub keys: Option<KeysVersion>,
}

/// Those that report.
#[derive(Default, Debug)]
pub(super) struct Verifiers(Mutex<Table>);

impl Verifiers {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Each step leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that report, as it stands to the log as it is now.
struct Known {
    client: ClientId,
    name: VerifierName,
    sighting: Sighting,
    silent: bool,
    epoch_current: bool,
    position: Option<u64>,
}

/// The log, and who reports on it.
struct Overview {
    epoch: Epoch,
    head: u64,
    known: Vec<Known>,
    /// Whoever is heard of and stands here, or before it, is behind.
    late: Option<u64>,
    /// For how long the one that is heard of and lacks most has lacked it.
    lag: Duration,
}

impl Known {
    fn state(&self, late: Option<u64>) -> VerifierState {
        match self.position {
            _ if self.silent => VerifierState::Silent,
            None => VerifierState::Behind,
            Some(position) if late.is_some_and(|late| position <= late) => VerifierState::Behind,
            Some(_) => VerifierState::Current,
        }
    }

    fn id(&self) -> (&ClientId, &VerifierName) {
        (&self.client, &self.name)
    }
}

impl Overview {
    fn states(&self) -> VerifierStates {
        let mut states = VerifierStates::default();
        for known in &self.known {
            match known.state(self.late) {
                VerifierState::Current => states.current += 1,
                VerifierState::Behind => states.behind += 1,
                VerifierState::Silent => states.silent += 1,
            }
        }
        states
    }

    fn applied(&self, position: u64) -> Applied {
        let mut counts = Applied { position, applied: 0, missing: 0, silent: 0, confirmed: None };
        for known in &self.known {
            match known.position {
                Some(at) if at >= position => {
                    counts.applied += 1;
                    counts.confirmed = counts.confirmed.max(Some(known.sighting.since));
                }
                _ if known.silent => counts.silent += 1,
                _ => counts.missing += 1,
            }
        }
        counts
    }
}

impl Service {
    /// Remembers who asks and how far it is. Whatever comes of it, the question will be answered; it is counted, and the
    /// answer says so.
    pub fn take_report(&self, report: Result<Report, Reported>, arrival: &Arrival) -> Reported {
        let outcome = report.map_or_else(|refused| refused, |report| self.remember(report, arrival));
        self.metrics.verifiers.reported(outcome);
        outcome
    }

    fn remember(&self, report: Report, arrival: &Arrival) -> Reported {
        let Report { caller, name, address, keys } = report;
        if !caller.client.may(Permission::VerifiersReport) {
            return Reported::Forbidden;
        }
        let (at, on) = (self.clock.now(), self.clock.monotonic());
        let (epoch, position) = (arrival.epoch(), arrival.position());
        let sighting = Sighting { address, epoch, position, keys, since: at, at, on };
        if self.verifiers.table().hear(&caller.client.id, name, sighting) { Reported::Taken } else { Reported::Full }
    }

    /// The verifiers that report.
    ///
    /// # Errors
    /// The caller may not; the log does not reach to that position; 503.
    pub async fn verifiers(&self, ctx: &Context, query: VerifierQuery) -> Result<VerifierPage, Error> {
        ctx.require(Permission::VerifiersRead)?;
        let overview = self.overview().await?;
        if query.position.is_some_and(|position| position > overview.head) {
            return Err(Error::request("position", format!("the log ends at {}", overview.head)));
        }
        let after = query.after.as_ref().map(|(client, name)| (client, name));
        let mut rest = overview.known.iter().filter(|known| after.is_none_or(|after| known.id() > after));
        let part: Vec<&Known> = rest.by_ref().take(query.limit).collect();
        let last = part.last().filter(|_| rest.next().is_some());
        Ok(VerifierPage {
            epoch: overview.epoch,
            head: overview.head,
            states: overview.states(),
            applied: query.position.map(|position| overview.applied(position)),
            next: last.map(|last| (last.client.clone(), last.name.clone())),
            verifiers: self.views(&overview, &part).await?,
        })
    }

    async fn views(&self, overview: &Overview, part: &[&Known]) -> Result<Vec<VerifierView>, Error> {
        let keys = self.keyring.jwks().version;
        let positions: BTreeSet<u64> = part.iter().filter_map(|known| known.position).collect();
        let mut overtaken = BTreeMap::new();
        for position in positions.into_iter().filter(|position| *position < overview.head) {
            overtaken.insert(position, self.overtaken(position).await?);
        }
        let view = |known: &&Known| VerifierView {
            client: known.client.clone(),
            name: known.name.clone(),
            address: known.sighting.address,
            epoch_current: known.epoch_current,
            position: known.position,
            behind: known.position.map(|position| overview.head.saturating_sub(position)),
            behind_since: known.position.and_then(|position| *overtaken.get(&position)?),
            keys_current: known.sighting.keys == Some(keys),
            confirmed: known.position.map(|_| known.sighting.since),
            seen: known.sighting.at,
            state: known.state(overview.late),
        };
        Ok(part.iter().map(view).collect())
    }

    async fn overview(&self) -> Result<Overview, Error> {
        let uptime = self.clock.monotonic();
        let all = self.verifiers.table().all(uptime);
        // After the verifiers were looked at: none of them is beyond it.
        let log = self.denylist.entries(u64::MAX, 1).await?;
        let epoch = Epoch(log.epoch.to_be_bytes());
        let known = |(client, name, sighting): (ClientId, VerifierName, Sighting)| {
            let epoch_current = sighting.epoch == Some(epoch);
            let position = sighting.position.filter(|_| epoch_current);
            Known { client, name, silent: sighting.is_silent(uptime), epoch_current, position, sighting }
        };
        let known: Vec<Known> = all.into_iter().map(known).collect();
        let (late, lag) = self.find_late(&known, log.head).await?;
        Ok(Overview { epoch, head: log.head, known, late, lag })
    }

    /// Where whoever is behind stands at most, and how long ago the oldest entry was acknowledged that one lacks. The log
    /// grows in the order of time, so a few looks at it tell of any number.
    async fn find_late(&self, known: &[Known], head: u64) -> Result<(Option<u64>, Duration), Error> {
        let now = self.clock.now();
        let heard = || known.iter().filter(|known| !known.silent);
        let positions: BTreeSet<u64> = heard().filter_map(|known| known.position).filter(|at| *at < head).collect();
        let positions = Vec::from_iter(positions);
        let (mut late, mut in_time) = (0, positions.len());
        while late < in_time {
            let middle = late.midpoint(in_time);
            let lag = self.overtaken(positions[middle]).await?.map(|at| now.since(at));
            if lag.is_some_and(|lag| lag > LATE) { late = middle + 1 } else { in_time = middle }
        }
        let lost = heard().filter(|known| known.position.is_none()).map(|known| now.since(known.sighting.since)).max();
        let least = match positions.first() {
            Some(least) => self.overtaken(*least).await?.map(|at| now.since(at)),
            None => None,
        };
        Ok((late.checked_sub(1).map(|last| positions[last]), lost.max(least).unwrap_or_default()))
    }

    /// When the first entry beyond a position was acknowledged, of those that are still alive.
    async fn overtaken(&self, position: u64) -> Result<Option<Timestamp>, Error> {
        let next = self.denylist.entries(position, 1).await?.entries;
        Ok(next.first().map(|entry| entry.at))
    }

    /// For `/metrics`. What cannot be told stays as it was told last.
    pub(super) async fn measure_verifiers(&self) {
        if let Ok(overview) = self.overview().await {
            self.metrics.verifiers.measure(overview.states(), overview.lag);
        }
    }
}

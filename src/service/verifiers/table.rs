//! Who reports, in bounded memory, of which each client has a share.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::model::{
    ClientId, Timestamp, VerifierName,
    feed::{Epoch, KeysVersion},
};

/// Verifiers that are remembered: about 1 MiB of them.
pub(super) const CAP: usize = 4096;
/// Those of one client.
pub(super) const SHARE: usize = 256;
/// One that has asked nothing for so long is silent: a verifier asks at least every 17 s.
pub(super) const SILENT: Duration = Duration::from_secs(30);
/// One that is silent for so long is forgotten: it was shut down, most likely.
pub(super) const KEPT: Duration = Duration::from_secs(15 * 60);

/// A verifier as it was when it asked last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sighting {
    pub(super) address: IpAddr,
    /// Which life of the log it says that it follows.
    pub(super) epoch: Option<Epoch>,
    /// Up to where in it, if the log knew that place.
    pub(super) position: Option<u64>,
    /// Which key set it says that it verifies with.
    pub(super) keys: Option<KeysVersion>,
    /// Since when it has been saying the same of its place.
    pub(super) since: Timestamp,
    pub(super) at: Timestamp,
    /// The same on the clock that is never set back.
    pub(super) on: Duration,
}

impl Sighting {
    pub(super) fn is_silent(&self, now: Duration) -> bool {
        now.saturating_sub(self.on) >= SILENT
    }
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.on) >= KEPT
    }
}

type Own = BTreeMap<VerifierName, Sighting>;

/// All that are remembered, by client and name.
#[derive(Default, Debug)]
pub(super) struct Table {
    clients: BTreeMap<ClientId, Own>,
    total: usize,
}

impl Table {
    /// Remembers it. False: there is no room, and it is not.
    pub(super) fn hear(&mut self, client: &ClientId, name: VerifierName, mut sighting: Sighting) -> bool {
        if let Some(known) = self.clients.get_mut(client).and_then(|own| own.get_mut(&name)) {
            if (known.epoch, known.position) == (sighting.epoch, sighting.position) {
                sighting.since = known.since;
            }
            *known = sighting;
            return true;
        }
        let is_room = self.make_room(client, sighting.on);
        if is_room {
            self.clients.entry(client.clone()).or_default().insert(name, sighting);
            self.total += 1;
        }
        is_room
    }

    /// All that are not forgotten, by client and name.
    pub(super) fn all(&mut self, now: Duration) -> Vec<(ClientId, VerifierName, Sighting)> {
        self.forget(now);
        let each = |(client, own): (&ClientId, &Own)| {
            let client = client.clone();
            own.clone().into_iter().map(move |(name, sighting)| (client.clone(), name, sighting)).collect::<Vec<_>>()
        };
        self.clients.iter().flat_map(each).collect()
    }

    /// Room for one more of this client. Within its share, whoever is silent makes room for whoever is not. If all room is
    /// taken, the client that has most gives some of it to one that has less: no client can fill it against the others.
    fn make_room(&mut self, client: &ClientId, now: Duration) -> bool {
        let own = self.clients.get(client).map_or(0, BTreeMap::len);
        if own >= SHARE {
            return self.drop_oldest(client, |oldest| oldest.is_silent(now));
        }
        if self.total >= CAP {
            self.forget(now);
        }
        if self.total < CAP {
            return true;
        }
        let most = self.clients.iter().max_by_key(|(_, own)| own.len());
        // Two more, or the two would take the same place from each other again and again.
        let most = most.filter(|(_, theirs)| theirs.len() > own + 1).map(|(client, _)| client.clone());
        most.is_some_and(|most| self.drop_oldest(&most, |_| true))
    }

    /// Drops the one of this client that was not seen for longest, if it may go.
    fn drop_oldest(&mut self, client: &ClientId, may_go: impl FnOnce(&Sighting) -> bool) -> bool {
        let Some(own) = self.clients.get_mut(client) else { return false };
        let Some((name, oldest)) = own.iter().min_by_key(|(_, sighting)| sighting.on) else { return false };
        if !may_go(oldest) {
            return false;
        }
        let name = name.clone();
        own.remove(&name);
        self.total -= 1;
        true
    }

    fn forget(&mut self, now: Duration) {
        self.clients.retain(|_, own| {
            own.retain(|_, sighting| !sighting.is_over(now));
            !own.is_empty()
        });
        self.total = self.clients.values().map(BTreeMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: usize) -> ClientId {
        format!("client-{n}").parse().unwrap()
    }

    fn seen(seconds: u64) -> Sighting {
        Sighting {
            address: [127, 0, 0, 1].into(),
            epoch: None,
            position: None,
            keys: None,
            since: Timestamp::from_seconds(seconds),
            at: Timestamp::from_seconds(seconds),
            on: Duration::from_secs(seconds),
        }
    }

    fn hear(table: &mut Table, n: usize, name: usize, seconds: u64) -> bool {
        table.hear(&client(n), name.to_string().parse().unwrap(), seen(seconds))
    }

    fn of(table: &Table, n: usize) -> usize {
        table.clients.get(&client(n)).map_or(0, BTreeMap::len)
    }

    /// Clients with all that they may have, until there is no room.
    fn full() -> Table {
        let mut table = Table::default();
        for n in 0..CAP / SHARE {
            assert!((0..SHARE).all(|name| hear(&mut table, n, name, 100)));
        }
        table
    }

    #[test]
    fn a_client_has_its_share_and_its_silent_ones_make_room() {
        let mut table = Table::default();
        assert!((0..SHARE).all(|name| hear(&mut table, 0, name, if name == 7 { 90 } else { 100 })));
        assert!(!hear(&mut table, 0, 999, 110), "all are heard of");
        assert!(hear(&mut table, 0, 8, 110), "whoever is there stays");
        assert!(hear(&mut table, 1, 0, 110), "another client has a share of its own");
        assert!(hear(&mut table, 0, 999, 120), "the seventh has been silent for 30 s");
        assert!(!hear(&mut table, 0, 1000, 120) && hear(&mut table, 0, 999, 121));
        assert_eq!((of(&table, 0), table.total), (SHARE, SHARE + 1));
        assert!(!table.clients[&client(0)].contains_key(&"7".parse().unwrap()));
    }

    #[test]
    fn whoever_has_most_makes_room_for_whoever_has_less() {
        let mut table = full();
        for name in 0..SHARE {
            let before = table.total;
            assert_eq!(hear(&mut table, 99, name, 101), name < 240, "{name}");
            assert_eq!((before, table.total), (CAP, CAP));
        }
        // 16 clients and a newcomer share what 16 had, and nobody has two more than another.
        let counts: Vec<_> = (0..16).chain([99]).map(|n| of(&table, n)).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        let before = counts.clone();
        assert!((0..16).all(|n| !hear(&mut table, n, 5000, 101)), "and whoever lost some takes none back");
        assert_eq!((0..16).chain([99]).map(|n| of(&table, n)).collect::<Vec<_>>(), before);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut table = full();
        assert!(hear(&mut table, 0, 3, 500));
        assert_eq!(table.all(Duration::from_secs(100) + KEPT).len(), 1);
        assert!(hear(&mut table, 1, 0, 1000));
        assert_eq!(table.total, 2);
    }

    #[test]
    fn a_place_that_is_said_again_is_the_old_one() {
        let mut table = Table::default();
        let place = |position, seconds| Sighting { position, ..seen(seconds) };
        let name: VerifierName = "v".parse().unwrap();
        for (position, seconds, since) in
            [(None, 1, 1), (None, 2, 1), (Some(4), 3, 3), (Some(4), 9, 3), (Some(5), 10, 10), (None, 11, 11)]
        {
            assert!(table.hear(&client(0), name.clone(), place(position, seconds)));
            let known = &table.clients[&client(0)][&name];
            assert_eq!((known.since, known.at), (Timestamp::from_seconds(since), Timestamp::from_seconds(seconds)));
        }
    }
}

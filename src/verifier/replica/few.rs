//! The denials that are few: clients, keys, everything. Replaced as a whole, so that a reader sees all or none of a
//! change.

use std::collections::HashMap;

use crate::model::{
    ClientId, Kid, Timestamp,
    denial::{Bearer, Ends},
    feed::Item,
};

/// A cut-off in force.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    before: Timestamp,
    until: Timestamp,
}

impl Cut {
    fn extend(&mut self, item: &Item) {
        self.before = self.before.max(item.before);
        self.until = self.until.max(item.until);
    }
    fn covers(&self, stamp: Timestamp) -> bool {
        stamp < self.before
    }
}

/// One cut-off of each kind: of sessions, of tokens.
type Both = [Cut; 2];

fn cover(both: &Both, bearer: &Bearer) -> bool {
    both[Ends::Sessions as usize].covers(bearer.stamp(Ends::Sessions))
        || both[Ends::Tokens as usize].covers(bearer.stamp(Ends::Tokens))
}

#[derive(Clone, Debug, Default)]
pub(super) struct Few {
    clients: HashMap<ClientId, Both>,
    keys: HashMap<Kid, Timestamp>,
    all: Both,
}

impl Few {
    pub(super) fn denies(&self, bearer: &Bearer) -> bool {
        cover(&self.all, bearer)
            || (!self.keys.is_empty() && self.keys.contains_key(&bearer.key))
            || (!self.clients.is_empty() && self.clients.get(&bearer.client).is_some_and(|both| cover(both, bearer)))
    }
    /// Whether it has a cut-off of this client, of whichever kind: each has room for both.
    pub(super) fn knows(&self, client: &ClientId) -> bool {
        self.clients.contains_key(client)
    }
    pub(super) fn client(&mut self, client: &ClientId, item: &Item) {
        self.clients.entry(client.clone()).or_default()[item.ends as usize].extend(item);
    }
    pub(super) fn key(&mut self, kid: &Kid, item: &Item) {
        let until = self.keys.entry(kid.clone()).or_default();
        *until = item.until.max(*until);
    }
    pub(super) fn all(&mut self, item: &Item) {
        self.all[item.ends as usize].extend(item);
    }
    pub(super) fn len(&self) -> usize {
        let all = self.all.iter().filter(|cut| cut.before > Timestamp::default()).count();
        self.clients.len() + self.keys.len() + all
    }
    /// Whether anything has expired by then.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let cut = |cut: &Cut| cut.before > Timestamp::default() && cut.until <= now;
        self.clients.values().flatten().chain(&self.all).any(cut) || self.keys.values().any(|until| *until <= now)
    }
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let drop_due = |both: &mut Both| {
            for cut in both.iter_mut().filter(|cut| cut.until <= now) {
                *cut = Cut::default();
            }
            both.iter().any(|cut| cut.before > Timestamp::default())
        };
        self.clients.retain(|_, both| drop_due(both));
        drop_due(&mut self.all);
        self.keys.retain(|_, until| *until > now);
    }
}

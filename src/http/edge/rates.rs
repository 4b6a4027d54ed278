//! How much each address and each client may ask.
//!
//! Whoever proves itself is measured by its name, wherever it is; whoever does not, by its address and never by a name
//! alone: a public client's id is no secret, and a stranger must not be able to use up what its users have.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use super::{Class, Visit, buckets::Buckets};
use crate::{
    model::ClientId,
    service::{Caller, Error},
};

/// Buckets that are not full, at most: some 8 MiB.
const TRACKED: usize = 1 << 17;
/// Entries of the feed that cost as much as a request.
const ENTRIES_PER_COST: usize = 100;

/// So many at once, and as many again in each `per`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// How many; at least one.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl Quota {
    pub(super) fn each(self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// What is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Failed authentications and grants that are no good, of one address.
    pub failures: Quota,
    /// Requests of one address in the name of public clients.
    pub public: Quota,
    /// Requests of one client that proves itself.
    pub client: Quota,
    /// Revocations: of one client that proves itself, or of one address.
    pub revocations: Quota,
    /// Requests of one address for metadata and keys.
    pub discovery: Quota,
    /// Requests of one address for the feed; a hundred entries cost as much as one request.
    pub feed: Quota,
    /// Connections of one address at once. None: a quarter of all.
    pub connections: Option<usize>,
    /// Requests that are being answered at once, those who wait for the feed not counted. Beyond it what opens and
    /// exchanges is refused, then the rest, and revocations last.
    pub in_flight: usize,
}

impl Default for Rates {
    fn default() -> Self {
        let quota = |count, seconds| Quota { count, per: Duration::from_secs(seconds) };
        Self {
            failures: quota(30, 60),
            public: quota(500, 10),
            client: quota(50_000, 10),
            revocations: quota(10_000, 10),
            discovery: quota(500, 10),
            feed: quota(5000, 5),
            connections: None,
            in_flight: 1024,
        }
    }
}

/// Which budget was used up, and when there is some again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Over {
    pub(super) budget: &'static str,
    pub(super) retry_after: Duration,
}

impl From<Over> for Error {
    fn from(over: Over) -> Self {
        let whose = if over.budget == "client" { "this client" } else { "this address" };
        Self::TooMany { whose, retry_after: over.retry_after }
    }
}

/// What has a bucket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Key {
    Failures(IpAddr),
    Address(IpAddr, Class),
    /// Proven, so nobody else can use it up.
    Client(ClientId, bool),
}

#[derive(Debug)]
pub(super) struct Limiter {
    rates: Rates,
    buckets: Buckets<Key>,
}

impl Limiter {
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, buckets: Buckets::new(TRACKED) }
    }

    /// A request that takes no authentication.
    pub(super) fn anonymous(&self, visit: Visit, now: Duration) -> Result<(), Over> {
        let (budget, quota) = match visit.class {
            Class::Feed => ("feed", self.rates.feed),
            _ => ("discovery", self.rates.discovery),
        };
        self.by_address(visit, budget, quota, now)
    }

    /// A request whose authentication has been looked at. A right secret passes whatever failed before from the same
    /// address: secrets are 256 random bits, so that trying is hopeless, and behind a shared address anyone could lock
    /// out a client by failing in its place.
    pub(super) fn admit(&self, visit: Visit, who: Result<&Caller, &Error>, now: Duration) -> Result<(), Over> {
        let revokes = visit.class == Class::Revocation;
        match who {
            Ok(caller) if caller.is_proven() => {
                let (budget, quota) =
                    if revokes { ("revocations", self.rates.revocations) } else { ("client", self.rates.client) };
                let key = Key::Client(caller.client.id.clone(), revokes);
                self.take(&key, budget, quota, now)
            }
            Ok(_) if revokes => self.by_address(visit, "revocations", self.rates.revocations, now),
            Ok(_) => {
                self.may_fail(visit.address, now)?;
                self.by_address(visit, "public", self.rates.public, now)
            }
            Err(Error::Client | Error::Assertion(_)) => {
                self.may_fail(visit.address, now)?;
                self.failed(visit.address, now);
                Ok(())
            }
            Err(_) => self.by_address(visit, "public", self.rates.public, now),
        }
    }

    pub(super) fn failed(&self, address: IpAddr, now: Duration) {
        if let Some(address) = limited(address) {
            self.buckets.drain(&Key::Failures(address), self.rates.failures, 1, now);
        }
    }

    pub(super) fn sent(&self, address: IpAddr, entries: usize, now: Duration) {
        let cost = u32::try_from(entries / ENTRIES_PER_COST).unwrap_or(u32::MAX);
        if let Some(address) = limited(address).filter(|_| cost > 0) {
            self.buckets.drain(&Key::Address(address, Class::Feed), self.rates.feed, cost, now);
        }
    }

    pub(super) fn tracked(&self) -> usize {
        self.buckets.len()
    }

    fn may_fail(&self, address: IpAddr, now: Duration) -> Result<(), Over> {
        let Some(address) = limited(address) else { return Ok(()) };
        let looked = self.buckets.look(&Key::Failures(address), self.rates.failures, now);
        looked.map_err(|retry_after| Over { budget: "failures", retry_after })
    }

    fn by_address(&self, visit: Visit, budget: &'static str, quota: Quota, now: Duration) -> Result<(), Over> {
        let Some(address) = limited(visit.address) else { return Ok(()) };
        self.take(&Key::Address(address, visit.class), budget, quota, now)
    }

    fn take(&self, key: &Key, budget: &'static str, quota: Quota, now: Duration) -> Result<(), Over> {
        self.buckets.take(key, quota, 1, now).map_err(|retry_after| Over { budget, retry_after })
    }
}

/// What an address is counted as: an IPv6 host has a whole /64 to choose from. Loopback is this machine, or a proxy on
/// it that nobody has told us to trust: all its clients would share one bucket, so it has none.
pub(super) fn limited(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V6(ip) => Some(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))),
        ip @ IpAddr::V4(_) => Some(ip),
    }
}

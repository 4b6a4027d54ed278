//! The tables of the edge: `[tls]`, `[operations_tls]`, `[proxies]`, `[rates]`, `[cors]`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use super::values::{Reads, Written};
use crate::{
    http::edge::{AddressHeader, Cors, Origin, Proxies, Quota, Rates, Tls, TlsFiles},
    model::{
        Timestamp,
        time::{format_duration, parse_duration},
    },
};

pub(super) use crate::http::edge::Settings;

/// TLS of a listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct TlsTable {
    /// The certificate and those that lead to its root, in PEM. Read again on SIGHUP, and every minute.
    pub(super) cert: PathBuf,
    /// Its private key, in PEM, not encrypted, readable by owner and group only.
    pub(super) key: PathBuf,
    /// Ask peers for a certificate, for clients that prove themselves by one (RFC 8705). Off by default.
    #[serde(default)]
    pub(super) client_certificates: bool,
    /// Certificate authorities, in PEM, that such a certificate must lead to. Without it any will do: a client is known by
    /// its certificate's hash.
    pub(super) client_ca: Option<PathBuf>,
}

/// Proxies in front.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct ProxiesTable {
    /// Networks of proxies whose word about the client's address is taken.
    #[serde(default)]
    trusted: Vec<Written<IpNet>>,
    /// The header that they write: x-forwarded-for, or forwarded (RFC 7239). The other one is not read.
    header: Option<Written<AddressHeader>>,
}

/// What each address and client may ask. "500/10s": 500 at once, and 500 more in each 10 seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct RatesTable {
    /// Whether there are any limits.
    enabled: Option<bool>,
    /// Failed authentications, and refresh tokens of public clients that are no good, of one address.
    failures: Option<Written<Quota>>,
    /// Requests of one address in the name of public clients.
    public: Option<Written<Quota>>,
    /// Requests of one client that proves itself.
    client: Option<Written<Quota>>,
    /// Revocations, of one client that proves itself or of one address.
    revocations: Option<Written<Quota>>,
    /// Requests of one address for metadata and keys.
    discovery: Option<Written<Quota>>,
    /// Requests of one address for the revocation feed.
    feed: Option<Written<Quota>>,
    /// Connections of one address at once: a quarter of limits.connections unless it is set.
    connections_per_address: Option<usize>,
    /// Requests that are answered at once; beyond it openings and refreshes are refused first, revocations last.
    in_flight: Option<usize>,
}

/// Browsers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct CorsTable {
    /// Sites whose scripts may fetch and revoke tokens, and read metadata and keys.
    #[serde(default)]
    origins: Vec<Written<Origin>>,
}

impl TlsTable {
    /// The paths in it, to be made relative to the configuration's place.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.cert, &mut self.key].into_iter().chain(&mut self.client_ca)
    }

    fn load(&self, name: &str, now: Timestamp) -> Result<Arc<Tls>, String> {
        let files = TlsFiles {
            cert: self.cert.clone(),
            key: self.key.clone(),
            client_certificates: self.client_certificates || self.client_ca.is_some(),
            client_ca: self.client_ca.clone(),
        };
        Tls::load(files, now).map(Arc::new).map_err(|e| format!("[{name}]: {e}"))
    }
}

impl ProxiesTable {
    pub(super) fn names_none(&self) -> bool {
        self.trusted.is_empty()
    }
}

impl RatesTable {
    pub(super) fn check(&self) -> Result<(), String> {
        match (self.connections_per_address, self.in_flight) {
            (Some(0), _) => Err("rates.connections_per_address is 0, which lets nobody in".into()),
            (_, Some(0)) => Err("rates.in_flight is 0, which answers nothing".into()),
            _ => Ok(()),
        }
    }

    /// None: no limits.
    pub(super) fn rates(&self) -> Option<Rates> {
        let default = Rates::default();
        let or = |set: &Option<Written<Quota>>, default| set.as_ref().map_or(default, |w| w.0);
        self.enabled.unwrap_or(true).then(|| Rates {
            failures: or(&self.failures, default.failures),
            public: or(&self.public, default.public),
            client: or(&self.client, default.client),
            revocations: or(&self.revocations, default.revocations),
            discovery: or(&self.discovery, default.discovery),
            feed: or(&self.feed, default.feed),
            connections: self.connections_per_address,
            in_flight: self.in_flight.unwrap_or(default.in_flight),
        })
    }
}

/// Puts the edge together. Reads certificates.
pub(super) fn settings(
    tls: Option<&TlsTable>,
    operations_tls: Option<&TlsTable>,
    proxies: &ProxiesTable,
    rates: &RatesTable,
    cors: &CorsTable,
    now: Timestamp,
) -> Result<Settings, String> {
    Ok(Settings {
        tls: tls.map(|t| t.load("tls", now)).transpose()?,
        operations_tls: operations_tls.map(|t| t.load("operations_tls", now)).transpose()?,
        proxies: Proxies {
            trusted: proxies.trusted.iter().map(|w| w.0).collect(),
            header: proxies.header.as_ref().map_or_else(AddressHeader::default, |w| w.0),
        },
        rates: rates.rates(),
        cors: Cors { origins: cors.origins.iter().map(|w| w.0.clone()).collect() },
    })
}

impl Reads for IpNet {
    const EXAMPLE: &str = "10.0.0.0/8";
    fn read(text: &str) -> Result<Self, String> {
        let network: Self = text
            .parse()
            .or_else(|_| text.parse().map(|ip: std::net::IpAddr| ip.into()))
            .map_err(|_| format!("`{text}` is not a network; write it as 10.0.0.0/8, 2001:db8::/32, or one address"))?;
        if network.prefix_len() == 0 {
            return Err(format!(
                "`{text}` is everyone: then anyone could claim any address; name the proxies' network"
            ));
        }
        if network.trunc() != network {
            return Err(format!("`{text}` has bits beyond its prefix; did you mean {}?", network.trunc()));
        }
        Ok(network)
    }
}

impl Reads for AddressHeader {
    const EXAMPLE: &str = "x-forwarded-for";
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(format!("`{text}` is not a header that is read; write x-forwarded-for or forwarded")),
        }
    }
}

impl Reads for Origin {
    const EXAMPLE: &str = "https://app.example";
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

impl Reads for Quota {
    const EXAMPLE: &str = "500/10s";
    fn read(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a rate; write how many, and in which time: 500/10s");
        let (count, per) = text.split_once('/').ok_or_else(bad)?;
        let (count, per) = (count.parse().map_err(|_| bad())?, parse_duration(per).map_err(|_| bad())?);
        let (least, greatest) = (Duration::from_secs(1), Duration::from_secs(3600));
        if !(1..=1_000_000).contains(&count) || !(least..=greatest).contains(&per) {
            let [least, greatest] = [least, greatest].map(format_duration);
            return Err(format!(
                "`{text}`: 1 to 1000000 in {least} to {greatest}; rates.enabled = false has no limits"
            ));
        }
        Ok(Self { count, per })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_network_rate_or_header_says_how_to_write_it() {
        assert!(IpNet::read("10.0.0.0/8").is_ok() && IpNet::read("::1").is_ok());
        assert_eq!(IpNet::read("192.0.2.1").unwrap().prefix_len(), 32);
        for (text, hint) in [("10.0.0.1/8", "did you mean 10.0.0.0/8"), ("::/0", "everyone"), ("proxy", "write it as")]
        {
            let error = IpNet::read(text).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
        assert_eq!(Quota::read("30/1m"), Ok(Quota { count: 30, per: Duration::from_secs(60) }));
        for text in ["30", "0/1s", "x/1s", "30/0s", "30/2h", "-1/1s", "30/1m/2"] {
            let error = Quota::read(text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert!(AddressHeader::read("x-real-ip").unwrap_err().contains("forwarded"));
    }
}

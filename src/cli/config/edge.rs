//! The tables of the edge: `[tls]`, `[operations_tls]`, `[proxies]`, `[rates]`, `[cors]`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use reqwest::Url;

use super::{
    ClientTable, Config,
    check::Findings,
    layers::Problem,
    schema::{default, settings, unset},
    values::{Reads, Written},
};
use crate::{
    http::edge::{AddressHeader, Cors, Origin, Proxies, Quota, Rates, Tls, TlsError, TlsFiles},
    model::{
        Timestamp,
        time::{format_duration, parse_duration},
    },
    service::CertificateHash,
};

pub(crate) use crate::http::edge::Settings;

settings! {
    /// TLS of the public listener, where no proxy ends it.
    pub(crate) struct TlsTable {
        /// The certificate and those that lead to its root, in PEM. Read again on SIGHUP, and every minute.
        pub(crate) cert: Option<PathBuf> = unset("no TLS", "\"cert.pem\"").path();
        /// Its private key, in PEM, not encrypted, readable by owner and group only.
        pub(crate) key: Option<PathBuf> = unset("no TLS", "\"key.pem\"").path();
        /// Ask peers for a certificate, for clients that prove themselves by one (RFC 8705).
        pub(crate) client_certificates: bool = default("false");
        /// Certificate authorities, in PEM, that such a certificate must lead to.
        pub(crate) client_ca: Option<PathBuf> = unset("any will do: a client is known by its certificate's hash", "\"ca.pem\"").path();
    }
}

settings! {
    /// TLS of the operations listener.
    pub(crate) struct OperationsTlsTable {
        /// As `tls.cert`.
        pub(crate) cert: Option<PathBuf> = unset("no TLS", "\"cert.pem\"").path();
        /// As `tls.key`.
        pub(crate) key: Option<PathBuf> = unset("no TLS", "\"key.pem\"").path();
        /// Certificate authorities, in PEM: only peers whose certificate leads to one of them may connect.
        pub(crate) client_ca: Option<PathBuf> = unset("anyone may connect", "\"ca.pem\"").path();
    }
}

settings! {
    /// Proxies in front.
    pub(crate) struct ProxiesTable {
        /// Networks of proxies whose word about the client's address is taken.
        pub(crate) trusted: Vec<Written<IpNet>> = default("[]");
        /// The header that they write: x-forwarded-for, or forwarded (RFC 7239). The other one is not read.
        pub(crate) header: Written<AddressHeader> = default("\"x-forwarded-for\"");
    }
}

settings! {
    /// What each address and client may ask. "500/10s": 500 at once, and 500 more in each 10 seconds.
    pub(crate) struct RatesTable {
        /// Whether there are any limits.
        pub(crate) enabled: bool = default("true");
        /// Failed authentications, and refresh tokens of public clients that are no good, of one address.
        pub(crate) failures: Written<Quota> = default("\"30/1m\"");
        /// Requests of one address in the name of public clients.
        pub(crate) public: Written<Quota> = default("\"500/10s\"");
        /// Requests of one client that proves itself.
        pub(crate) client: Written<Quota> = default("\"50000/10s\"");
        /// Revocations, of one client that proves itself or of one address.
        pub(crate) revocations: Written<Quota> = default("\"10000/10s\"");
        /// Requests of one address for metadata and keys.
        pub(crate) discovery: Written<Quota> = default("\"500/10s\"");
        /// Requests of one address for the revocation feed.
        pub(crate) feed: Written<Quota> = default("\"5000/5s\"");
        /// Connections of one address at once.
        pub(crate) connections_per_address: Option<usize> = unset("a quarter of `limits.connections`", "1024");
        /// Requests that are answered at once; beyond it openings and refreshes are refused first, revocations last.
        pub(crate) in_flight: usize = default("1024");
    }
}

settings! {
    /// Browsers.
    pub(crate) struct CorsTable {
        /// Sites whose scripts may fetch and revoke tokens, and read metadata and keys.
        pub(crate) origins: Vec<Written<Origin>> = default("[]");
    }
}

/// The files of a listener, if it has TLS; half of a pair is a mistake.
fn files(
    name: &str,
    (cert, key): (&Option<PathBuf>, &Option<PathBuf>),
    client_certificates: bool,
    client_ca: &Option<PathBuf>,
) -> Result<Option<TlsFiles>, String> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_certificates: client_certificates || client_ca.is_some(),
            client_ca: client_ca.clone(),
            client_required: false,
        })),
        (Some(_), None) => Err(format!("{name}.cert is given without {name}.key; both together make TLS")),
        (None, Some(_)) => Err(format!("{name}.key is given without {name}.cert; both together make TLS")),
        (None, None) if client_ca.is_some() || client_certificates => {
            Err(format!("[{name}] asks for clients' certificates, but has no `cert` and `key` to make TLS with"))
        }
        (None, None) => Ok(None),
    }
}

impl TlsTable {
    pub(super) fn files(&self) -> Result<Option<TlsFiles>, String> {
        files("tls", (&self.cert, &self.key), self.client_certificates, &self.client_ca)
    }
}

impl OperationsTlsTable {
    pub(super) fn files(&self) -> Result<Option<TlsFiles>, String> {
        let files = files("operations_tls", (&self.cert, &self.key), false, &self.client_ca)?;
        // Nothing else says there who may ask.
        Ok(files.map(|files| TlsFiles { client_required: files.client_ca.is_some(), ..files }))
    }
}

fn load(name: &str, files: Result<Option<TlsFiles>, String>, now: Timestamp) -> Result<Option<Arc<Tls>>, Problem> {
    let Some(files) = files.map_err(Problem::of)? else { return Ok(None) };
    Tls::load(files, now).map(Arc::new).map(Some).map_err(|error| {
        let problem = match &error {
            TlsError::File { path, source } => Problem::unreadable(path, source),
            _ => Problem::of(error.to_string()),
        };
        problem.about(format!("[{name}]"))
    })
}

impl ProxiesTable {
    pub(super) fn names_none(&self) -> bool {
        self.trusted.is_empty()
    }
}

impl RatesTable {
    pub(super) fn check(&self) -> Result<(), String> {
        match (self.connections_per_address, self.in_flight) {
            (Some(0), _) => {
                Err("rates.connections_per_address is 0, which lets nobody in; write a greater number".into())
            }
            (_, 0) => Err("rates.in_flight is 0, which answers nothing; write a greater number".into()),
            _ => Ok(()),
        }
    }

    /// None: no limits.
    pub(super) fn rates(&self) -> Option<Rates> {
        self.enabled.then_some(Rates {
            failures: self.failures.0,
            public: self.public.0,
            client: self.client.0,
            revocations: self.revocations.0,
            discovery: self.discovery.0,
            feed: self.feed.0,
            connections: self.connections_per_address,
            in_flight: self.in_flight,
        })
    }
}

impl Config {
    /// What concerns the edge alone.
    pub(super) fn check_edge(&self, findings: &mut Findings<'_>) {
        findings.note(&["rates.connections_per_address", "rates.in_flight"], self.rates.check());
        findings.note(&["tls.cert", "tls.key", "tls.client_ca"], self.tls.files().map(drop));
        let operations = ["operations_tls.cert", "operations_tls.key", "operations_tls.client_ca"];
        findings.note(&operations, self.operations_tls.files().map(drop));
        if self.top.behind_tls_proxy && self.proxies.names_none() && self.rates.rates().is_some() {
            let what = "behind_tls_proxy = true, and proxies.trusted names no network: all clients would be counted as \
                        the proxy; write its network there, such as [proxies] trusted = [\"10.0.0.0/8\"], or say \
                        [rates] enabled = false";
            findings.note(&["behind_tls_proxy", "proxies.trusted"], Err(what.to_owned()));
        }
    }

    /// A certificate that nobody asks for proves nothing.
    pub(super) fn check_certificates(&self, client: &ClientTable) -> Result<(), String> {
        let asked = self.tls.client_certificates || self.tls.client_ca.is_some();
        if asked || client.certificate_sha256.is_empty() {
            return Ok(());
        }
        Err(format!(
            "client `{}` has `certificate_sha256`, but nobody is asked for a certificate; say [tls] client_certificates = \
             true",
            client.id
        ))
    }

    /// How the node meets the network. Reads certificates; tells all that is wrong with them.
    pub(crate) fn edge(&self, now: Timestamp) -> Result<Settings, Vec<Problem>> {
        let both = (load("tls", self.tls.files(), now), load("operations_tls", self.operations_tls.files(), now));
        let (tls, operations_tls) = match both {
            (Ok(tls), Ok(operations)) => (tls, operations),
            (tls, operations) => return Err([tls.err(), operations.err()].into_iter().flatten().collect()),
        };
        Ok(Settings {
            tls,
            operations_tls,
            proxies: Proxies {
                trusted: self.proxies.trusted.iter().map(|w| w.0).collect(),
                header: self.proxies.header.0,
            },
            rates: self.rates.rates(),
            cors: Cors { origins: self.cors.origins.iter().map(|w| w.0.clone()).collect() },
        })
    }

    /// What is odd about them and keeps nothing from starting.
    pub(crate) fn doubts(&self, edge: &Settings) -> Option<String> {
        let (tls, host) = (edge.tls.as_ref()?, self.issuer_host()?);
        let doubt =
            || format!("[tls]: the certificate is not for the issuer's host {host}: clients that come by it refuse it");
        (!tls.names(&host)).then(doubt)
    }

    fn issuer_host(&self) -> Option<String> {
        Url::parse(&self.top.issuer).ok()?.host_str().map(ToOwned::to_owned)
    }
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

impl Reads for CertificateHash {
    const EXAMPLE: &str = "64 hexadecimal digits";
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(str::to_owned)
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

//! The configuration of `serve`: read strictly, checked as a whole, every message with its place and its remedy.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;
use serde::Deserialize;

use self::values::{Size, Written};
use super::{
    args::{MAX_ACCESS, MAX_RETRY_WINDOW, between},
    client::check_transport,
    exit::Failure,
};
use crate::{
    http::Limits,
    keyring::{Settings, Timing},
    model::{Algorithm, Audience, ClientId, Jwk, Scope, Timestamp, family::Lifetimes, time::format_duration},
    service::{Client, ClientKey, Permission, SecretHash, client_keys},
    store::embedded::Options,
};

mod edge;
mod unknown;
mod values;

/// A configuration file, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) issuer: String,
    pub(super) listen: Written<SocketAddr>,
    pub(super) operations_listen: Option<Written<SocketAddr>>,
    #[serde(default)]
    behind_tls_proxy: bool,
    pub(super) custom_claims: Option<Vec<String>>,
    pub(super) store: StoreTable,
    pub(super) keys: KeysTable,
    #[serde(default)]
    lifetimes: LifetimesTable,
    #[serde(default)]
    clients: Vec<ClientTable>,
    #[serde(default)]
    limits: LimitsTable,
    tls: Option<edge::TlsTable>,
    operations_tls: Option<edge::TlsTable>,
    #[serde(default)]
    proxies: edge::ProxiesTable,
    #[serde(default)]
    rates: edge::RatesTable,
    #[serde(default)]
    cors: edge::CorsTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreTable {
    pub(super) url: Written<PathBuf>,
    cache: Option<Written<Size>>,
    audit_cap: Option<u64>,
    quick_repair: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysTable {
    pub(super) dir: PathBuf,
    pub(super) passphrase_file: Option<PathBuf>,
    algorithm: Option<Written<Algorithm>>,
    publish_ahead: Option<Written<Duration>>,
    jwks_max_age: Option<Written<Duration>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LifetimesTable {
    access: Option<Written<Duration>>,
    idle: Option<Written<Duration>>,
    absolute: Option<Written<Duration>>,
    retry_window: Option<Written<Duration>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientTable {
    id: ClientId,
    #[serde(default)]
    secret_sha256: Vec<Written<SecretHash>>,
    #[serde(default)]
    permissions: BTreeSet<Permission>,
    /// Public keys, each a JWK: for `private_key_jwt`.
    #[serde(default)]
    keys: Vec<ClientKey>,
    /// Or a file with a JWK set.
    jwks_file: Option<PathBuf>,
    #[serde(skip)]
    jwks: Vec<Jwk>,
    #[serde(default)]
    disabled: bool,
    scope: Option<Scope>,
    audience: Option<Vec<Audience>>,
    introspect_audience: Option<Vec<Audience>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    connections: Option<usize>,
    header_timeout: Option<Written<Duration>>,
    body_timeout: Option<Written<Duration>>,
    request_timeout: Option<Written<Duration>>,
    body: Option<Written<Size>>,
    drain: Option<Written<Duration>>,
    followers: Option<usize>,
}

impl Config {
    /// Reads and checks a file. Paths in it are relative to the directory that it lies in.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| {
            let mend =
                if e.kind() == std::io::ErrorKind::NotFound { "; `rescind init` writes one to begin with" } else { "" };
            Failure::usage(format!("cannot read {}: {e}{mend}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(failed)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).map_err(|what| Failure::usage(format!("{}: {what}", path.display())))
    }

    /// Reads and checks a text.
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|e| unknown::explain(text, &e))?;
        for client in &mut config.clients {
            client.read_keys(base)?;
        }
        config.check()?;
        let KeysTable { dir, passphrase_file, .. } = &mut config.keys;
        let tls = config.tls.iter_mut().chain(&mut config.operations_tls).flat_map(edge::TlsTable::paths);
        for path in [&mut config.store.url.0, dir].into_iter().chain(passphrase_file).chain(tls) {
            *path = base.join(&*path);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        check_issuer(&self.issuer)?;
        self.check_listeners()?;
        self.check_times()?;
        self.check_limits()?;
        self.rates.check()?;
        let mut seen = BTreeSet::new();
        for client in &self.clients {
            client.check()?;
            if !seen.insert(&client.id) {
                return Err(format!("client `{}` is there twice; two secrets go into one `secret_sha256`", client.id));
            }
        }
        Ok(())
    }

    fn check_listeners(&self) -> Result<(), String> {
        let at = self.listen.0;
        if self.behind_tls_proxy && self.proxies.names_none() && self.rates.rates().is_some() {
            return Err(
                "behind_tls_proxy = true, and proxies.trusted names no network: all clients would be counted as \
                        the proxy; write its network there, such as [proxies] trusted = [\"10.0.0.0/8\"], or say \
                        [rates] enabled = false"
                    .into(),
            );
        }
        if at.ip().is_loopback() || self.behind_tls_proxy || self.tls.is_some() {
            return Ok(());
        }
        Err(format!(
            "listen = \"{at}\" would send tokens and secrets in the clear; give it a certificate ([tls] cert and key), \
             listen on 127.0.0.1 behind a TLS proxy on this machine, or, if only a TLS proxy can reach that address, say \
             behind_tls_proxy = true"
        ))
    }

    fn check_times(&self) -> Result<(), String> {
        let (lives, timing) = (self.lives(), self.key_settings().timing);
        let decade = Duration::from_secs(3650 * 86_400);
        between("lifetimes.access", lives.access, Duration::from_secs(10), MAX_ACCESS)?;
        between("lifetimes.absolute", lives.absolute, lives.access, decade)?;
        between("lifetimes.idle", lives.idle, lives.access, lives.absolute)?;
        between("lifetimes.retry_window", lives.retry_window, Duration::ZERO, MAX_RETRY_WINDOW)?;
        if timing.is_sound() {
            return Ok(());
        }
        let [ahead, age] = [timing.publish_ahead, timing.jwks_max_age].map(format_duration);
        Err(format!(
            "keys.publish_ahead is {ahead}, shorter than keys.jwks_max_age ({age}): verifiers would meet signatures of \
             a key that their cached key set does not have"
        ))
    }

    fn check_limits(&self) -> Result<(), String> {
        let limits = self.limits();
        let nothing = [("limits.connections", limits.connections), ("limits.body", limits.body)];
        if let Some((name, _)) = nothing.into_iter().find(|(_, v)| *v == 0) {
            return Err(format!("{name} is 0, which lets nothing in"));
        }
        if limits.followers >= limits.connections {
            return Err(format!(
                "limits.followers ({}) leaves none of limits.connections ({}) to anyone else",
                limits.followers, limits.connections
            ));
        }
        let (least, greatest) = (Duration::from_millis(100), Duration::from_secs(3600));
        between("limits.header_timeout", limits.header_timeout, least, greatest)?;
        between("limits.body_timeout", limits.body_timeout, least, greatest)?;
        between("limits.request_timeout", limits.request_timeout, least, greatest)?;
        between("limits.drain", limits.drain, Duration::ZERO, greatest)
    }

    /// 5 minutes, two weeks, 90 days and 30 seconds unless they are set.
    pub(super) fn lives(&self) -> Lifetimes {
        let days = |d: u64| Duration::from_secs(d * 86_400);
        let or = |set: &Option<Written<Duration>>, default| set.as_ref().map_or(default, |w| w.0);
        let table = &self.lifetimes;
        Lifetimes {
            access: or(&table.access, Duration::from_secs(5 * 60)),
            idle: or(&table.idle, days(14)),
            absolute: or(&table.absolute, days(90)),
            retry_window: or(&table.retry_window, Duration::from_secs(30)),
        }
    }

    pub(super) fn key_settings(&self) -> Settings {
        let default = Timing::default();
        let timing = Timing {
            publish_ahead: self.keys.publish_ahead.as_ref().map_or(default.publish_ahead, |w| w.0),
            jwks_max_age: self.keys.jwks_max_age.as_ref().map_or(default.jwks_max_age, |w| w.0),
            token_life: self.lives().access,
            ..default
        };
        Settings { timing, algorithm: self.keys.algorithm.as_ref().map_or_else(Algorithm::default, |w| w.0) }
    }

    pub(super) fn limits(&self) -> Limits {
        let (table, default) = (&self.limits, Limits::default());
        let or = |set: &Option<Written<Duration>>, default| set.as_ref().map_or(default, |w| w.0);
        let connections = table.connections.unwrap_or(default.connections);
        Limits {
            write_timeout: Limits::default().write_timeout,
            connections,
            header_timeout: or(&table.header_timeout, default.header_timeout),
            body_timeout: or(&table.body_timeout, default.body_timeout),
            request_timeout: or(&table.request_timeout, default.request_timeout),
            body: table.body.as_ref().map_or(default.body, |w| w.0.0),
            drain: or(&table.drain, default.drain),
            // Those who wait hold connections: the other half is for those who do not.
            followers: table.followers.unwrap_or(connections / 2),
        }
    }

    /// How the node meets the network. Reads certificates.
    pub(super) fn edge(&self, now: Timestamp) -> Result<edge::Settings, Failure> {
        let (tls, operations_tls) = (self.tls.as_ref(), self.operations_tls.as_ref());
        let settings = edge::settings(tls, operations_tls, &self.proxies, &self.rates, &self.cors, now);
        let settings = settings.map_err(Failure::usage)?;
        let host = Url::parse(&self.issuer).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        if let (Some(tls), Some(host)) = (&settings.tls, host)
            && !tls.names(&host)
        {
            tracing::warn!(
                host,
                "the certificate is not for the issuer's host: clients that come here by it refuse it"
            );
        }
        Ok(settings)
    }

    /// The store's options; what is not set stays as it is in `options`.
    pub(super) fn store_options(&self, mut options: Options) -> Options {
        options.cache = self.store.cache.as_ref().map_or(options.cache, |w| w.0.0);
        options.audit_cap = self.store.audit_cap.unwrap_or(options.audit_cap);
        options.quick_repair = self.store.quick_repair.unwrap_or(options.quick_repair);
        options.witness = Some(self.keys.dir.join("witness.json"));
        options
    }

    pub(super) fn clients(&self) -> Vec<Client> {
        let client = |c: &ClientTable| Client {
            secrets: c.secret_sha256.iter().map(|w| w.0).collect(),
            keys: c.keys.iter().map(|key| key.0.clone()).chain(c.jwks.clone()).collect(),
            disabled: c.disabled,
            permissions: c.permissions.clone(),
            scope: c.scope.clone(),
            audience: c.audience.clone(),
            introspect_audience: c.introspect_audience.clone(),
            ..Client::new(c.id.clone())
        };
        self.clients.iter().map(client).collect()
    }
}

impl ClientTable {
    fn read_keys(&mut self, base: &Path) -> Result<(), String> {
        let (id, Some(file)) = (&self.id, &self.jwks_file) else { return Ok(()) };
        let path = base.join(file);
        let json = fs::read(&path).map_err(|e| format!("client `{id}`: cannot read jwks_file {}: {e}", path.display()));
        let keys = json.and_then(|json| {
            client_keys(&json).map_err(|e| format!("client `{id}`: jwks_file {}: {e}", path.display()))
        });
        self.jwks = keys?;
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let id = &self.id;
        if self.keys.len() + self.jwks.len() > 2 {
            return Err(format!("client `{id}` has more than two keys; two are enough to replace one by the other"));
        }
        if self.secret_sha256.len() > 2 {
            return Err(format!("client `{id}` has more than two secrets; two are enough to replace one by the other"));
        }
        let proof = !self.secret_sha256.is_empty() || !self.keys.is_empty() || !self.jwks.is_empty();
        if !proof && !self.permissions.is_empty() {
            return Err(format!(
                "client `{id}` has permissions and neither `secret_sha256` nor `keys`: anyone could use them"
            ));
        }
        let own = self.permissions.contains(&Permission::ClientCredentials);
        if own && self.audience.as_ref().is_none_or(Vec::is_empty) {
            return Err(format!(
                "client `{id}` may fetch tokens of its own (client_credentials); say in `audience` for whom they are"
            ));
        }
        Ok(())
    }
}

/// RFC 8414 §2: an https URL without query and fragment; plain HTTP on this machine only.
fn check_issuer(issuer: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("issuer = \"{issuer}\" {why}"));
    let Ok(url) = Url::parse(issuer) else { return bad("is not a URL; write it as https://auth.example") };
    if issuer.contains(['?', '#']) {
        return bad("has a query or a fragment; leave them out (RFC 8414 §2)");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return bad("names a user; leave that out");
    }
    check_transport(&url).map(drop).map_err(|e| format!("issuer: {e}"))
}

#[cfg(test)]
mod tests {
    use super::{super::node::store_options, *};

    /// As `init` writes it, with every line that shows a default made to count if `spelt`.
    fn template(spelt: bool) -> Config {
        let text = include_str!("../init.toml")
            .replace("{issuer}", "\"http://127.0.0.1:8080\"")
            .replace("{listen}", "127.0.0.1:8080")
            .replace("{operations_listen}", "127.0.0.1:9090")
            .replace("{operator}", "operator")
            .replace("{secret_sha256}", &"0".repeat(64))
            .replace("{permissions}", "[\"revoke\"]");
        let (settings, clients) = text.split_once("[[clients]]").unwrap();
        let mut shown = 0;
        let spell = |line: &str| match line.strip_prefix("# ").and_then(|l| l.split_once(" = ")) {
            // What has no default is an example.
            Some((key, _)) if spelt && !key.contains(' ') && !["custom_claims", "passphrase_file"].contains(&key) => {
                shown += 1;
                line[2..].to_owned()
            }
            _ => line.to_owned(),
        };
        let settings: Vec<String> = settings.lines().map(spell).collect();
        assert_eq!(shown, if spelt { 18 } else { 0 });
        Config::parse(&format!("{}\n[[clients]]{clients}", settings.join("\n")), Path::new("/etc/rescind")).unwrap()
    }

    #[test]
    fn what_init_leaves_commented_out_is_the_default() {
        let (silent, spelt) = (template(false), template(true));
        let all = |c: &Config| {
            let o = c.store_options(store_options(&c.lives()));
            let store = (o.cache, o.audit_cap, o.quick_repair, o.retention);
            format!("{:?} {:?} {:?} {store:?} {}", c.lives(), c.key_settings(), c.limits(), c.behind_tls_proxy)
        };
        assert_eq!(all(&silent), all(&spelt));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = template(false);
        assert_eq!(config.store.url.0, Path::new("/etc/rescind/store"));
        assert_eq!(config.keys.dir, Path::new("/etc/rescind/keys"));
        let witness = config.store_options(store_options(&config.lives())).witness;
        assert_eq!(witness.as_deref(), Some(Path::new("/etc/rescind/keys/witness.json")));
    }
}

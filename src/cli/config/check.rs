//! What single values cannot show: whether they fit together.

use std::{collections::BTreeMap, fs::File, io::Read, time::Duration};

use reqwest::Url;

use super::{
    super::{
        args::{MAX_ACCESS, MAX_RETRY_WINDOW, StoreUrl, between},
        client::check_transport,
    },
    ClientTable, Config,
    layers::{Origin, Problem, Tree},
};
use crate::{
    keyring::TimingError,
    model::{ClientId, Jwk},
    service::{MAX_PROOFS, Permission, client_keys},
    store::redis,
};

/// No set of two keys is longer; of what is longer the rest is not read, and it is no JSON.
const MAX_JWKS: u64 = 64 << 10;

/// Collects what is wrong, each with the place where one of the settings concerned was said.
pub(crate) struct Findings<'a> {
    tree: &'a Tree,
    problems: &'a mut Vec<Problem>,
}

impl Findings<'_> {
    /// Notes what a check of these settings found.
    pub(crate) fn note(&mut self, settings: &[&str], outcome: Result<(), String>) {
        let Err(what) = outcome else { return };
        self.problems.push(match self.tree.blame(settings) {
            Some(origin) => Problem::at(origin, what),
            None => Problem::of(what),
        });
    }

    fn note_at(&mut self, origin: &Origin, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.problems.push(Problem::at(origin, what));
        }
    }
}

impl Config {
    /// Everything at once, so that a person mends it at once.
    pub(super) fn check(&self, tree: &Tree, problems: &mut Vec<Problem>) {
        let mut findings = Findings { tree, problems };
        findings.note(&["issuer"], check_issuer(&self.top.issuer));
        findings.note(&["listen"], self.check_listener());
        self.check_store(&mut findings);
        self.check_times(&mut findings);
        self.check_limits(&mut findings);
        self.check_edge(&mut findings);
        self.check_evidence(&mut findings);
        self.check_clients(&mut findings);
    }

    fn check_listener(&self) -> Result<(), String> {
        let at = self.top.listen.0;
        if at.ip().is_loopback() || self.top.behind_tls_proxy || self.tls.cert.is_some() {
            return Ok(());
        }
        Err(format!(
            "listen = \"{at}\" would send tokens and secrets in the clear; give it a certificate ([tls] cert and key), \
             listen on 127.0.0.1 behind a TLS proxy on this machine, or, if only a TLS proxy can reach that address, say \
             behind_tls_proxy = true"
        ))
    }

    /// What is said of one kind of store, and it is another.
    fn check_store(&self, findings: &mut Findings<'_>) {
        const REDIS: [&str; 5] =
            ["store.password", "store.durability", "store.journal", "store.skew", "keys.shared_key"];
        const EMBEDDED: [&str; 2] = ["store.cache", "store.quick_repair"];
        let (idle, kind): (&[&str], _) = match &self.store.url.0 {
            StoreUrl::Redis(url) => {
                findings.note(&["store.url"], check_redis(url));
                if self.keys.shared_key.is_none() {
                    let what = "nodes that share a Redis share their keys, under a key that each of them holds and nobody \
                                else: name its file in keys.shared_key_file, and `rescind keys share` makes it";
                    findings.note(&["store.url"], Err(what.into()));
                }
                (&EMBEDDED, "an embedded store")
            }
            _ => (&REDIS, "a Redis"),
        };
        for setting in idle {
            if findings.tree.leaves.get(*setting).is_some_and(|leaf| leaf.origin.is_said()) {
                let what = format!("{setting} is for {kind}, and store.url names another kind of store; leave it out");
                findings.note(&[setting], Err(what));
            }
        }
        let skew = between("store.skew", self.store.skew.0, Duration::from_millis(10), Duration::from_secs(10));
        findings.note(&["store.skew"], skew);
    }

    fn check_times(&self, findings: &mut Findings<'_>) {
        let (lives, timing) = (self.lives(), self.key_settings().timing);
        let decade = Duration::from_secs(3650 * 86_400);
        let [access, idle] = ["lifetimes.access", "lifetimes.idle"];
        let [absolute, window] = ["lifetimes.absolute", "lifetimes.retry_window"];
        findings.note(&[access], between(access, lives.access, Duration::from_secs(10), MAX_ACCESS));
        findings.note(&[absolute, access], between(absolute, lives.absolute, lives.access, decade));
        if lives.absolute >= lives.access {
            findings.note(&[idle, absolute, access], between(idle, lives.idle, lives.access, lives.absolute));
        }
        findings.note(&[window], between(window, lives.retry_window, Duration::ZERO, MAX_RETRY_WINDOW));
        let concerned = match timing.check() {
            Err(TimingError::RetireAfter { .. }) => "keys.retire_after",
            Err(TimingError::RotateEvery { .. } | TimingError::TooMany { .. }) => "keys.rotate_every",
            _ => "keys.publish_ahead",
        };
        let settings = [concerned, "keys.publish_ahead", "keys.client_cache", "keys.jwks_max_age", access];
        findings.note(&settings, timing.check().map_err(|e| format!("keys: {e}")));
    }

    fn check_limits(&self, findings: &mut Findings<'_>) {
        let limits = self.limits();
        for (name, value) in [("limits.connections", limits.connections), ("limits.body", limits.body)] {
            if value == 0 {
                findings.note(&[name], Err(format!("{name} is 0, which lets nothing in; write a greater number")));
            }
        }
        if limits.connections > 0 && limits.followers >= limits.connections {
            findings.note(
                &["limits.followers", "limits.connections"],
                Err(format!(
                    "limits.followers ({}) leaves none of limits.connections ({}) to anyone else; lower it",
                    limits.followers, limits.connections
                )),
            );
        }
        if self.sessions.max_per_subject == Some(0) {
            let what = "sessions.max_per_subject is 0, which lets nobody in; write a greater number, or leave it out";
            findings.note(&["sessions.max_per_subject"], Err(what.to_owned()));
        }
        let (least, greatest) = (Duration::from_millis(100), Duration::from_secs(3600));
        for (name, value, least) in [
            ("limits.header_timeout", limits.header_timeout, least),
            ("limits.body_timeout", limits.body_timeout, least),
            ("limits.request_timeout", limits.request_timeout, least),
            ("limits.drain", limits.drain, Duration::ZERO),
        ] {
            findings.note(&[name], between(name, value, least, greatest));
        }
    }

    fn check_clients(&self, findings: &mut Findings<'_>) {
        let tree = findings.tree;
        let mut seen: BTreeMap<&ClientId, &Origin> = BTreeMap::new();
        for (client, declared) in self.clients.iter().zip(&tree.clients) {
            findings.note_at(&declared.at, client.check());
            findings.note_at(&declared.at, self.check_certificates(client));
            let jwks = declared.leaves.get("jwks_file").map_or(&declared.at, |leaf| &leaf.origin);
            if let Err(problem) = client.jwks() {
                findings.problems.push(Problem { at: Some(jwks.to_string()), ..problem });
            }
            if let Some(first) = seen.insert(&client.id, &declared.at) {
                findings.note_at(
                    &declared.at,
                    Err(format!(
                        "client `{}` is there twice, first at {first}; two secrets go into one `secret_sha256`",
                        client.id
                    )),
                );
            }
        }
    }
}

impl ClientTable {
    fn check(&self) -> Result<(), String> {
        let id = &self.id;
        if self.keys.len() > MAX_PROOFS {
            return Err(format!("client `{id}` has more than two keys; two are enough to replace one by the other"));
        }
        if !self.keys.is_empty() && self.jwks_file.is_some() {
            return Err(format!("client `{id}` has `keys` and a `jwks_file`; put all into one of them"));
        }
        if self.secret_sha256.len() > MAX_PROOFS {
            return Err(format!("client `{id}` has more than two secrets; two are enough to replace one by the other"));
        }
        if self.certificate_sha256.len() > MAX_PROOFS {
            return Err(format!(
                "client `{id}` has more than two certificates; two are enough to replace one by the other"
            ));
        }
        let key = !self.keys.is_empty() || self.jwks_file.is_some();
        let proof = key || !self.secret_sha256.is_empty() || !self.certificate_sha256.is_empty();
        if !proof && !self.permissions.is_empty() {
            return Err(format!(
                "client `{id}` has permissions and no `secret_sha256`, `keys` or `certificate_sha256`: anyone could use them; give it a \
                 secret (rescind client generate-secret), or take its permissions"
            ));
        }
        // Who gives out secrets has the permission for that, and need not fetch any tokens.
        let own = self.permissions.contains(&Permission::ClientCredentials)
            && !self.permissions.contains(&Permission::ClientsWrite);
        if own && self.audience.as_ref().is_none_or(Vec::is_empty) {
            return Err(format!(
                "client `{id}` may fetch tokens of its own (client_credentials); say in `audience` for whom they are"
            ));
        }
        Ok(())
    }

    /// The keys in its file.
    pub(super) fn jwks(&self) -> Result<Vec<Jwk>, Problem> {
        let Some(path) = &self.jwks_file else { return Ok(Vec::new()) };
        let whose = format!("client `{}`: jwks_file", self.id);
        let mut json = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_JWKS).read_to_end(&mut json));
        read.map_err(|e| Problem::unreadable(path, &e).about(&whose))?;
        let bad = |what: &dyn std::fmt::Display| Problem::of(format!("{whose} {}: {what}", path.display()));
        let keys = client_keys(&json).map_err(|e| bad(&e))?;
        // With no key it would be public, and anyone could use its permissions.
        if keys.is_empty() { Err(bad(&"holds no key")) } else { Ok(keys) }
    }
}

fn check_redis(url: &redis::StoreUrl) -> Result<(), String> {
    if url.has_password() {
        let what = "store.url has a password in it, where whoever sees the configuration or the arguments sees it; write it \
                    into a file of its own and name that in store.password_file";
        return Err(what.into());
    }
    Ok(())
}

/// RFC 8414 §2: an https URL without query and fragment; plain HTTP on this machine only.
fn check_issuer(issuer: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("issuer = \"{issuer}\" {why}"));
    let Ok(url) = Url::parse(issuer) else { return bad("is not a URL; write it as https://auth.example") };
    if issuer.contains(['?', '#']) {
        return bad("has a query or a fragment; leave them out (RFC 8414 §2)");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("issuer names a user; leave that out".into());
    }
    check_transport(&url).map(drop).map_err(|e| format!("issuer: {e}"))
}

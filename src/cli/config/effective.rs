//! What the settings mean to the parts that are put together by them.

use std::{path::Path, time::Duration};

use super::{
    super::{Failure, args::StoreUrl},
    Config,
    layers::Problem,
    secret::Source,
    values::Journal,
};
use crate::{
    http::Limits,
    keyring::{FRESH, Passphrase, Settings, SharedKey, Timing},
    model::{denial::Retention, family::Lifetimes, session::SessionCap},
    service::Client,
    store::{embedded::Options, redis},
};

impl Config {
    pub(crate) fn lives(&self) -> Lifetimes {
        let table = &self.lifetimes;
        let [access, idle, absolute, retry_window]: [Duration; 4] =
            [&table.access, &table.idle, &table.absolute, &table.retry_window].map(|w| w.0);
        Lifetimes { access, idle, absolute, retry_window }
    }

    pub(crate) fn key_settings(&self) -> Settings {
        let shared = matches!(self.store.url.0, StoreUrl::Redis(_));
        let timing = Timing {
            spread: if shared { FRESH } else { Duration::ZERO },
            publish_ahead: self.keys.publish_ahead.0,
            jwks_max_age: self.keys.jwks_max_age.0,
            client_cache: self.keys.client_cache.0,
            rotate_every: self.keys.rotate_every.as_ref().map(|w| w.0),
            retire_after: self.keys.retire_after.as_ref().map(|w| w.0),
            destroy_after: self.keys.destroy_after.0,
            token_life: self.lives().access,
            ..Timing::default()
        };
        Settings { timing, algorithm: self.keys.algorithm.0 }
    }

    /// How many sessions a subject may have, if that is bounded.
    pub(crate) fn session_cap(&self) -> Option<SessionCap> {
        self.sessions.max_per_subject.map(|most| SessionCap { most, on_full: self.sessions.on_full.0 })
    }

    /// Fetches the passphrase of the keys, if there is one.
    pub(crate) fn passphrase(&self) -> Result<Option<Passphrase>, Problem> {
        let Some(source) = &self.keys.passphrase else { return Ok(None) };
        let secret = source.read().map_err(|problem| problem.about("keys.passphrase"))?;
        let passphrase = Passphrase::new(secret.expose().to_owned());
        passphrase.map(Some).map_err(|e| Problem::of(format!("keys.passphrase: {source}: {e}")))
    }

    pub(crate) fn limits(&self) -> Limits {
        let table = &self.limits;
        Limits {
            write_timeout: Limits::default().write_timeout,
            connections: table.connections,
            header_timeout: table.header_timeout.0,
            body_timeout: table.body_timeout.0,
            request_timeout: table.request_timeout.0,
            body: table.body.0.0,
            drain: table.drain.0,
            // Those who wait hold connections: the other half is for those who do not.
            followers: table.followers.unwrap_or(table.connections / 2),
        }
    }

    /// Where the embedded store lies.
    ///
    /// # Errors
    /// It is another one.
    pub(crate) fn embedded(&self) -> Result<&Path, Failure> {
        match &self.store.url.0 {
            StoreUrl::Embedded(path) => Ok(path),
            StoreUrl::Redis(url) => Err(Failure::usage(format!(
                "store.url is {url}: this is for an embedded store; Redis is looked after by its own means, see docs/redis.md"
            ))),
            StoreUrl::Memory => Err(Failure::usage("store.url is `memory:`, in which nothing lasts")),
        }
    }

    /// The Redis with its password, if that is the store.
    pub(crate) fn redis(&self) -> Result<Option<redis::StoreUrl>, Problem> {
        let StoreUrl::Redis(url) = &self.store.url.0 else { return Ok(None) };
        let url = redis::StoreUrl::clone(url);
        let Some(source) = &self.store.password else { return Ok(Some(url)) };
        // Read also where it will be read again, so that a mistake is told of now.
        let secret = source.read().map_err(|problem| problem.about("store.password"))?;
        Ok(Some(match source {
            Source::Environment(_) => url.with_password(secret.expose()),
            Source::File(path) | Source::Credential(path) => url.with_password_file(path),
        }))
    }

    /// How a Redis is opened.
    pub(crate) fn redis_options(&self) -> redis::Options {
        let lives = self.lives();
        let journal = match self.store.journal.as_ref().map(|w| &w.0) {
            None => Some(self.keys.dir.join("journal")),
            Some(Journal::In(dir)) => Some(dir.clone()),
            Some(Journal::Off) => None,
        };
        let machine = rustix::system::uname();
        redis::Options {
            name: format!("{}:{}", machine.nodename().to_string_lossy(), self.top.listen.0.port()).into(),
            skew: self.store.skew.0,
            replicas: self.store.durability.0.0,
            journal,
            audit_cap: self.audit.max_records,
            audit_age: self.audit.keep.as_ref().map(|w| w.0),
            ..redis::Options::new(Retention { access: lives.access, session: lives.absolute })
        }
    }

    /// What nodes hold alike, if there is such a thing.
    pub(crate) fn shared_key(&self) -> Result<Option<SharedKey>, Problem> {
        let Some(source) = &self.keys.shared_key else { return Ok(None) };
        let secret = source.read().map_err(|problem| {
            problem
                .about("keys.shared_key")
                .also("`rescind keys share` makes one; nodes that come later get a copy of it")
        })?;
        let key = SharedKey::read(secret.expose());
        key.map(Some).map_err(|e| Problem::of(format!("keys.shared_key: {source}: {e}")))
    }

    /// The store's options; what is not set stays as it is in `options`.
    pub(crate) fn store_options(&self, mut options: Options) -> Options {
        options.cache = self.store.cache.0.0;
        options.audit_cap = self.audit.max_records;
        options.audit_age = self.audit.keep.as_ref().map(|w| w.0);
        options.quick_repair = self.store.quick_repair;
        options.witness = Some(self.keys.dir.join("witness.json"));
        options
    }

    /// The clients; reads the files of their keys.
    pub(crate) fn clients(&self) -> Result<Vec<Client>, Problem> {
        let client = |c: &super::ClientTable, jwks| Client {
            keys: c.keys.iter().map(|key| key.0.clone()).chain(jwks).collect(),
            certificates: c.certificate_sha256.iter().map(|w| w.0).collect(),
            disabled: c.disabled,
            secrets: c.secret_sha256.iter().map(|w| w.0).collect(),
            permissions: c.permissions.clone(),
            scope: c.scope.clone(),
            audience: c.audience.clone(),
            introspect_audience: c.introspect_audience.clone(),
            ..Client::new(c.id.clone())
        };
        self.clients.iter().map(|c| Ok(client(c, c.jwks()?))).collect()
    }
}

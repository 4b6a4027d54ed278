//! What the settings mean to the parts that are put together by them.

use std::time::Duration;

use super::{Config, layers::Problem};
use crate::{
    http::Limits,
    keyring::{Passphrase, Settings, Timing},
    model::{family::Lifetimes, session::SessionCap},
    service::Client,
    store::embedded::Options,
};

impl Config {
    pub(crate) fn lives(&self) -> Lifetimes {
        let table = &self.lifetimes;
        let [access, idle, absolute, retry_window]: [Duration; 4] =
            [&table.access, &table.idle, &table.absolute, &table.retry_window].map(|w| w.0);
        Lifetimes { access, idle, absolute, retry_window }
    }

    pub(crate) fn key_settings(&self) -> Settings {
        let timing = Timing {
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

//! The tables of a configuration. The comments here are what people read in `docs/reference/configuration.md` and in
//! the file that `rescind init` writes.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    super::args::StoreUrl,
    preset::Preset,
    schema::{default, required, secret, settings, unset},
    secret::Source,
    values::{Durability, Journal, OnDisabled, Size, Written},
};
use crate::{
    model::{Algorithm, Audience, ClientId, Scope, session::OnFull},
    service::{CertificateHash, ClientKey, Permission, SecretHash},
};

settings! {
    /// Where the service is, and under which name.
    pub(crate) struct Top {
        /// The name of this service: `iss` of every token, and where clients and APIs find it. An https URL without
        /// query and fragment; http only on this machine. Changing it makes verifiers refuse what was minted under the
        /// old name.
        pub(crate) issuer: String = required("\"https://auth.example\"");
        /// Where it serves: with TLS if [tls] names a certificate, else plain HTTP. An address other than loopback needs
        /// [tls], or `behind_tls_proxy = true`.
        pub(crate) listen: Written<SocketAddr> = required("\"127.0.0.1:8080\"");
        /// Says that only a TLS proxy can reach the address.
        pub(crate) behind_tls_proxy: bool = default("false");
        /// /livez, /readyz and /metrics, without authentication: not for everyone.
        pub(crate) operations_listen: Option<Written<SocketAddr>> = unset("not served", "\"127.0.0.1:9090\"");
        /// Which custom claims sessions may carry.
        pub(crate) custom_claims: Option<Vec<String>> = unset("any that is not reserved", "[\"roles\", \"tenant\"]");
        /// A further file with `[[clients]]` tables and nothing else.
        pub(crate) clients_file: Option<PathBuf> = unset("all clients are in this file", "\"clients.toml\"").path().reloads(),
            unread: "its clients are read into the layers, before there is such a value";
    }
}

settings! {
    /// What must survive: sessions, the denylist, the audit log.
    pub(crate) struct StoreTable {
        /// `embedded:` and the path of a file, for one process; or a Redis or Valkey that many nodes share:
        /// `redis://host:6379/0`, `redis+sentinel://h1,h2,h3/name`, `redis+cluster://h1,h2,h3`, `rediss` instead of `redis`
        /// over TLS. docs/redis.md says what may follow after `?`: prefix, ca, cert, key and more.
        pub(crate) url: Written<StoreUrl> = required("\"embedded:store\"").store();
        /// Memory for the pages of an embedded store.
        pub(crate) cache: Written<Size> = default("\"128MiB\"");
        /// Reopen an embedded store after a crash in constant time, at the price of dearer commits.
        pub(crate) quick_repair: bool = default("true");
        /// The password of Redis. From a file it is read anew at each connection.
        pub(crate) password: Option<Source> = secret("none is sent", "\"redis.password\"");
        /// How many replicas of Redis must have a change before it is acknowledged. With none, what a failover loses is made
        /// good from the nodes' journals.
        pub(crate) durability: Written<Durability> = default("\"replicas:0\"");
        /// The file in which this node remembers what of the denylist it has seen, and pushes it again when Redis comes back
        /// as another; or `off`: in memory, so that a node that restarts while Redis fails over has nothing to push.
        pub(crate) journal: Option<Written<Journal>> = unset("`journal` in `keys.dir`", "\"journal\"").path_or_off();
        /// By how much the clocks of this node and of Redis may differ; beyond it the node answers 503. What is cut off is
        /// cut off as much later where Redis is a cluster.
        pub(crate) skew: Written<Duration> = default("\"1s\"");
    }
}

settings! {
    /// Signing keys, and the secrets that refresh tokens are made with.
    pub(crate) struct KeysTable {
        /// Where they lie: back this directory up, and let nobody read it.
        pub(crate) dir: PathBuf = required("\"keys\"").path();
        /// Keys are encrypted if there is a passphrase.
        pub(crate) passphrase: Option<Source> = secret("keys are not encrypted", "\"passphrase\"");
        /// What nodes that share a Redis hold alike, and nobody else: the keys lie in the store under it, and in each node's
        /// `dir`. `rescind init --store` and `rescind keys share` make one: 32 bytes in base64. While it is replaced, the
        /// one before stands on a second line.
        pub(crate) shared_key: Option<Source> = secret("no keys are shared", "\"shared.key\"");
        /// The `alg` of new keys. EdDSA is what verifiers know; Ed25519 is its successor (RFC 9864).
        pub(crate) algorithm: Written<Algorithm> = default("\"EdDSA\"");
        /// How long a key is published before it may sign: at least twice the longer of `jwks_max_age` and `client_cache`.
        pub(crate) publish_ahead: Written<Duration> = default("\"20m\"");
        /// How long the key set may be cached, as its Cache-Control says.
        pub(crate) jwks_max_age: Written<Duration> = default("\"5m\"");
        /// How long the most patient of your verifiers caches the key set by its own settings: PyJWT 5m, jose 10m.
        pub(crate) client_cache: Written<Duration> = default("\"10m\"");
        /// How long a key signs before the next one does by itself: not shorter than `publish_ahead`, and at least a
        /// sixteenth of the time that a key verifies afterwards, so that no more than 16 retire at once.
        pub(crate) rotate_every: Option<Written<Duration>> = unset("keys rotate by an operator's word alone", "\"90d\"");
        /// How long a key verifies after it has signed last: not shorter than `lifetimes.access`, a minute of leeway and
        /// `jwks_max_age` together.
        pub(crate) retire_after: Option<Written<Duration>> = unset("as short as that", "\"1h\"");
        /// How long the private half of a key is kept after that, of no use to anyone.
        pub(crate) destroy_after: Written<Duration> = default("\"0\"");
    }
}

settings! {
    /// How long things last.
    pub(crate) struct LifetimesTable {
        /// An access token: 10s to 1h. It is what a verifier that hears of no revocation goes on accepting.
        pub(crate) access: Written<Duration> = default("\"5m\"");
        /// A session that is not used.
        pub(crate) idle: Written<Duration> = default("\"14d\"");
        /// Any session.
        pub(crate) absolute: Written<Duration> = default("\"90d\"");
        /// How long the answer to a refresh may be fetched again by a client that lost it: 5m at most.
        pub(crate) retry_window: Written<Duration> = default("\"30s\"");
    }
}

settings! {
    /// Rules for sessions.
    pub(crate) struct SessionsTable {
        /// Limits of an authenticator assurance level (NIST SP 800-63B-4) for `lifetimes.absolute` and `lifetimes.idle`:
        /// aal1 30d, aal2 24h and 1h, aal3 12h and 15m. What is written in [lifetimes] may then only be shorter.
        pub(crate) preset: Option<Written<Preset>> = unset("none", "\"aal2\""),
            unread: "it acts on the layers, before there is such a value";
        /// How many open sessions a subject may have.
        pub(crate) max_per_subject: Option<usize> = unset("as many as it opens", "20");
        /// What becomes of one more: "refuse" does not open it, "end_oldest" ends the oldest for it.
        pub(crate) on_full: Written<OnFull> = default("\"refuse\"");
        /// What becomes of the sessions of a client with `disabled = true`: "keep" leaves them as they are, of no use
        /// until it is enabled again; "end_sessions" ends them, and their access tokens, for good.
        pub(crate) on_client_disabled: Written<OnDisabled> = default("\"keep\"").reloads();
    }
}

settings! {
    /// What requests may cost.
    pub(crate) struct LimitsTable {
        /// Connections held open at once, on each listener.
        pub(crate) connections: usize = default("4096");
        /// For the head of a request; also how long an idle connection is kept.
        pub(crate) header_timeout: Written<Duration> = default("\"30s\"");
        /// For the body of a request.
        pub(crate) body_timeout: Written<Duration> = default("\"10s\"");
        /// For the answer; beyond it 503.
        pub(crate) request_timeout: Written<Duration> = default("\"15s\"");
        /// Size of a request's body.
        pub(crate) body: Written<Size> = default("\"16KiB\"");
        /// What a stop allows for what has begun.
        pub(crate) drain: Written<Duration> = default("\"20s\"");
        /// Verifiers that may wait for news at once, each on a connection. Beyond it they ask every two seconds.
        pub(crate) followers: Option<usize> = unset("half of `connections`", "2048");
    }
}

settings! {
    /// Clients: who they are, and what they may. One table for each, in any number.
    pub(crate) struct ClientTable {
        /// Its name: 1 to 128 visible ASCII characters.
        pub(crate) id: ClientId = required("\"login\"").reloads();
        /// SHA-256 of its secrets in hexadecimal, two at most, so that one can be replaced by the other. A client
        /// with neither secret, key nor certificate is public.
        pub(crate) secret_sha256: Vec<Written<SecretHash>> = default("[]").reloads();
        /// Its public keys, Ed25519, as JWK tables, two at most: it proves itself by `private_key_jwt` (RFC 7523).
        pub(crate) keys: Vec<ClientKey> = default("[]").reloads();
        /// Or a file with a JWK set of them.
        pub(crate) jwks_file: Option<PathBuf> = unset("none", "\"login.jwks.json\"").path().reloads();
        /// SHA-256 of its certificates in hexadecimal, two at most: it proves itself by connecting with one (RFC 8705).
        /// Needs `tls.client_certificates`.
        pub(crate) certificate_sha256: Vec<Written<CertificateHash>> = default("[]").reloads();
        /// What it may do.
        pub(crate) permissions: BTreeSet<Permission> = default("[]").reloads();
        /// What its tokens, and those of sessions that it opens, may allow at most.
        pub(crate) scope: Option<Scope> = unset("anything", "\"read write\"").reloads();
        /// For whom they may be.
        pub(crate) audience: Option<Vec<Audience>> = unset("anyone", "[\"api\"]").reloads();
        /// For whom the tokens are that it may introspect.
        pub(crate) introspect_audience: Option<Vec<Audience>> = unset("anyone", "[\"api\"]").reloads();
        /// Refuses it everywhere, at once; what becomes of its sessions says `sessions.on_client_disabled`.
        pub(crate) disabled: bool = default("false").reloads();
    }
}

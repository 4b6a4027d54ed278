//! A whole node in this process: the real router on a real socket, the embedded store in memory or in a temporary
//! directory, a clock that the test moves.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test helper; each test binary uses a part")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use rescind::{
    clock::{Clock, ManualClock, Random, SystemRandom},
    http::{Limits, Listeners, edge, serve_with},
    keyring::{Keyring, Settings as KeySettings, schedule::Timing},
    model::{Algorithm, Timestamp, audit::Origin, denial::Retention, family::Lifetimes, session::SessionCap},
    service::{
        AlertSettings, Client, Clients, Context, Credentials, Kind, Permission, SecretHash, Service, Settings,
        WebhookSecret, WebhookSettings,
    },
    store::{
        ASSERTIONS,
        embedded::{Acceptance, EmbeddedStore, Options},
    },
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// The same after a restart, whatever the port.
pub const ISSUER: &str = "https://issuer.test";
pub const APP: &str = "app";
pub const OTHER: &str = "other";
pub const PUBLIC: &str = "public";
pub const OTHER_PUBLIC: &str = "other-public";
pub const POWERLESS: &str = "powerless";

/// Sequence numbers hashed: different each time within a run, the same in each run.
#[derive(Debug, Default)]
pub struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) {
        use sha2::Digest;
        for chunk in out.chunks_mut(32) {
            let mut n = self.0.lock().unwrap();
            *n += 1;
            chunk.copy_from_slice(&sha2::Sha256::digest(n.to_be_bytes())[..chunk.len()]);
        }
    }
}

pub struct Harness {
    pub base: String,
    pub operations: String,
    pub clock: Arc<ManualClock>,
    pub service: Arc<Service>,
    pub store: Arc<EmbeddedStore>,
    pub http: reqwest::Client,
    pub secret: String,
    directory: Option<Arc<tempfile::TempDir>>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<std::io::Result<()>>>,
    setup: Setup,
}

#[derive(Clone)]
pub struct Setup {
    pub lives: Lifetimes,
    pub acceptance: Acceptance,
    pub limits: Limits,
    pub on_disk: bool,
    pub audit_cap: u64,
    pub audit_age: Option<Duration>,
    pub assertions: u64,
    pub alerts: AlertSettings,
    /// Where, and what signs.
    pub webhook: Option<(String, String)>,
    /// Clients besides those that are always there.
    pub clients: Vec<Client>,
    pub edge: edge::Settings,
    pub sessions: Option<SessionCap>,
    pub rotate_every: Option<Duration>,
    pub listen: std::net::IpAddr,
    /// Its name; [`ISSUER`] unless it is to be found by it.
    pub issuer: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            lives: Lifetimes {
                access: Duration::from_secs(300),
                idle: Duration::from_secs(14 * 86400),
                absolute: Duration::from_secs(90 * 86400),
                retry_window: Duration::from_secs(30),
            },
            acceptance: Acceptance::Wait,
            limits: Limits::default(),
            on_disk: false,
            audit_cap: 1_000_000,
            audit_age: None,
            assertions: ASSERTIONS,
            alerts: AlertSettings::default(),
            webhook: None,
            clients: Vec::new(),
            edge: edge::Settings::default(),
            sessions: None,
            rotate_every: None,
            listen: std::net::Ipv4Addr::LOCALHOST.into(),
            issuer: None,
        }
    }
}

pub fn random_secret() -> String {
    let mut bytes = [0; 32];
    SystemRandom.fill(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Harness {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn on_disk() -> Self {
        Self::with(Setup { on_disk: true, ..Setup::default() }).await
    }

    pub async fn with(setup: Setup) -> Self {
        let now = Timestamp::from_rfc3339("2026-11-22T12:00:00.123Z").unwrap();
        let directory = setup.on_disk.then(|| Arc::new(tempfile::tempdir().unwrap()));
        Self::launch(setup, Arc::new(ManualClock::new(now)), random_secret(), directory).await
    }

    async fn launch(
        setup: Setup,
        clock: Arc<ManualClock>,
        secret: String,
        directory: Option<Arc<tempfile::TempDir>>,
    ) -> Self {
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let timing = Timing {
            publish_ahead: Duration::from_secs(20 * 60),
            jwks_max_age: Duration::from_secs(300),
            token_life: setup.lives.access,
            leeway: Duration::from_secs(60),
            rotate_every: setup.rotate_every,
            ..Timing::default()
        };
        let key_settings = KeySettings { algorithm: Algorithm::EdDSA, timing };
        let path = directory.as_ref().map(|d| d.path().to_owned());
        let keyring = match &path {
            Some(path) => Keyring::open(&path.join("keys"), None, key_settings, clock.clone(), random.clone()),
            None => Keyring::ephemeral(key_settings, clock.clone(), random.clone()),
        };
        let mut options = Options::new(Retention { access: setup.lives.access, session: setup.lives.absolute });
        options.acceptance = setup.acceptance;
        options.audit_cap = setup.audit_cap;
        options.audit_age = setup.audit_age;
        options.assertions = setup.assertions;
        let store = match &path {
            Some(path) => {
                options.witness = Some(path.join("keys/witness.json"));
                EmbeddedStore::open(&path.join("store.redb"), options, clock.clone(), &*random)
            }
            None => EmbeddedStore::in_memory(options, clock.clone(), &*random),
        };
        let public = TcpListener::bind((setup.listen, 0)).await.unwrap();
        let operations = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", public.local_addr().unwrap());
        let operations_base = format!("http://{}", operations.local_addr().unwrap());
        let store = Arc::new(store.unwrap());
        let settings = Settings {
            issuer: setup.issuer.as_deref().unwrap_or(ISSUER).into(),
            lives: setup.lives,
            sessions: setup.sessions,
            custom_claims: None,
        };
        let service = Service::new(
            settings,
            clients(&secret, &setup.clients),
            Arc::new(keyring.unwrap()),
            store.clone(),
            clock.clone() as Arc<dyn Clock>,
            random,
        );
        let mut service = service.unwrap().with_alerts(setup.alerts);
        if let Some((url, secret)) = setup.webhook.clone() {
            let secret = WebhookSecret::read(&secret).unwrap();
            let kinds = Kind::ALL.iter().copied().collect();
            service = service.with_webhook(WebhookSettings { url, secret, kinds }).unwrap();
        }
        let service = Arc::new(service);
        let (stop, stopped) = oneshot::channel::<()>();
        let listeners = Listeners { public, operations: Some(operations) };
        let (limits, edge) = (setup.limits, setup.edge.clone());
        let served = serve_with(listeners, service.clone(), limits, edge, watch::channel(()).1, async {
            let _ = stopped.await;
        });
        let served = tokio::spawn(served);
        Self {
            base,
            operations: operations_base,
            clock,
            service,
            store,
            http: client(),
            secret,
            directory,
            stop: Some(stop),
            served: Some(served),
            setup,
        }
    }

    /// Stops the node and starts another on the same directory.
    pub async fn restart(mut self, change: impl FnOnce(&mut Setup, Option<&Path>)) -> Self {
        let (mut setup, clock, secret, directory) =
            (self.setup.clone(), self.clock.clone(), self.secret.clone(), self.directory.clone());
        self.stop().await;
        drop(self);
        change(&mut setup, directory.as_ref().map(|d| d.path()));
        Self::launch(setup, clock, secret, directory).await
    }

    pub async fn stop(&mut self) {
        let _ = self.stop.take().map(|s| s.send(()));
        if let Some(served) = self.served.take() {
            served.await.unwrap().unwrap();
        }
    }

    /// A client that has been let in by this, and nothing has been done with it yet.
    pub async fn let_in(&self, credentials: &Credentials) -> Context {
        let origin = Origin::default();
        let caller = self.service.authenticate(credentials, &origin, |_| Ok(())).await.unwrap();
        Context { caller, origin }
    }

    pub async fn let_in_by_secret(&self, client: &str) -> Context {
        self.let_in(&Credentials::Secret(client.into(), self.secret.clone().into())).await
    }

    pub fn path(&self) -> PathBuf {
        self.directory.as_ref().unwrap().path().to_owned()
    }

    pub async fn open_for(&self, subject: &str, client: &str) -> Value {
        let body = json!({"subject": subject, "audience": ["api"], "scope": "read write", "client_id": client});
        let (status, body) = self.post("/v1/sessions", APP, &body).await;
        assert_eq!(status, 201, "{body}");
        body
    }

    pub async fn open(&self, subject: &str) -> Value {
        self.open_for(subject, APP).await
    }

    pub async fn post(&self, path: &str, client: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).basic_auth(client, Some(&self.secret)).json(body);
        answer(request).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}{path}", self.base)).basic_auth(APP, Some(&self.secret))).await
    }

    pub async fn form(&self, path: &str, client: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let public = client.contains("public");
        let mut form = form.to_vec();
        let mut request = self.http.post(format!("{}{path}", self.base));
        if public {
            form.push(("client_id", client));
        } else {
            request = request.basic_auth(client, Some(&self.secret));
        }
        answer(request.form(&form)).await
    }

    pub async fn refresh(&self, token: &str, client: &str) -> (u16, Value) {
        self.form("/oauth2/token", client, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    pub async fn active(&self, token: &str) -> bool {
        let (status, body) = self.form("/oauth2/introspect", APP, &[("token", token)]).await;
        assert_eq!(status, 200, "{body}");
        if body["active"] == false {
            assert_eq!(body, json!({"active": false}), "an inactive token says nothing more");
        }
        body["active"] == true
    }
}

pub fn client() -> reqwest::Client {
    // No TLS is spoken here, but a client cannot be built without a provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}

pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn clients(secret: &str, more: &[Client]) -> Clients {
    let hash = || vec![SecretHash::of(secret)];
    let client = |id: &str, secrets, permissions: &[Permission]| Client {
        secrets,
        permissions: permissions.iter().copied().collect(),
        audience: Some(vec!["api".parse().unwrap(), "billing".parse().unwrap()]),
        ..Client::new(id.parse().unwrap())
    };
    let always = [
        client(APP, hash(), Permission::ALL),
        client(OTHER, hash(), Permission::ALL),
        client(POWERLESS, hash(), &[]),
        client(PUBLIC, Vec::new(), &[]),
        client(OTHER_PUBLIC, Vec::new(), &[]),
    ];
    Clients::new(always.into_iter().chain(more.iter().cloned()))
}

pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}

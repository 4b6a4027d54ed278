//! TLS on our own listeners: what is served, what is refused at the start, and how certificates are exchanged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/harness.rs"]
mod harness;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use harness::{APP, Harness, PUBLIC, Setup};
use rcgen::{CertificateParams, KeyPair};
use rescind::{
    http::{
        Limits,
        edge::{Rates, Settings, Tls, TlsFiles},
    },
    model::Timestamp,
    service::{CertificateHash, Client, Permission},
};
use rstest::rstest;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A certificate for this machine, by its own key.
struct Pair {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Pair {
    fn of_years(from: i32, until: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        let cert = params.self_signed(&key).unwrap();
        Self { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().clone() }
    }
    fn new() -> Self {
        Self::of_years(2020, 2040)
    }
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn with(pair: &Pair) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.put("cert.pem", &pair.cert, 0o644);
        place.put("key.pem", &pair.key, 0o600);
        place
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn put(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fn files(&self) -> TlsFiles {
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| self.path(name));
        TlsFiles { cert, key, client_certificates: false, client_ca: None, client_required: false }
    }
    fn load(&self) -> Result<Tls, String> {
        Tls::load(self.files(), now()).map_err(|e| e.to_string())
    }
}

/// When the harness begins.
fn now() -> Timestamp {
    Timestamp::from_rfc3339("2026-11-22T12:00:00Z").unwrap()
}

async fn served(tls: &Arc<Tls>, change: impl FnOnce(&mut Setup)) -> Harness {
    let edge = Settings { tls: Some(tls.clone()), operations_tls: Some(tls.clone()), ..Settings::default() };
    let mut setup = Setup { edge, ..Setup::default() };
    change(&mut setup);
    Harness::with(setup).await
}

fn trusting(root: &Pair, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.der.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth()
}

fn client(config: ClientConfig) -> reqwest::Client {
    // A connection that is kept would hide which certificate a new one gets.
    reqwest::Client::builder().tls_backend_preconfigured(config).pool_max_idle_per_host(0).build().unwrap()
}

/// One that shows a certificate, whether or not it holds its key.
fn showing(root: &Pair, shown: &Pair, key: &Pair) -> reqwest::Client {
    #[derive(Debug)]
    struct Shows(Arc<rustls::sign::CertifiedKey>);
    impl rustls::client::ResolvesClientCert for Shows {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let key = PrivateKeyDer::from_pem_slice(key.key.as_bytes()).unwrap();
    let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
    let shows = Shows(Arc::new(rustls::sign::CertifiedKey::new(vec![shown.der.clone()], key)));
    let mut config = trusting(root, rustls::ALL_VERSIONS);
    config.client_auth_cert_resolver = Arc::new(shows);
    client(config)
}

async fn ready(client: &reqwest::Client, base: &str, path: &str) -> Result<u16, reqwest::Error> {
    Ok(client.get(format!("{}{path}", base.replace("http:", "https:"))).send().await?.status().as_u16())
}

const JWKS: &str = "/.well-known/jwks.json";

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_speak_tls_1_2_and_1_3_and_nothing_in_the_clear() {
    let pair = Pair::new();
    let place = Place::with(&pair);
    let harness = served(&Arc::new(place.load().unwrap()), |_| {}).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = client(trusting(&pair, &[version]));
        assert_eq!(ready(&client, &harness.base, JWKS).await.unwrap(), 200);
        assert_eq!(ready(&client, &harness.operations, "/readyz").await.unwrap(), 200);
    }
    for base in [&harness.base, &harness.operations] {
        let mut plain = TcpStream::connect(base.strip_prefix("http://").unwrap()).await.unwrap();
        plain.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{:?}", String::from_utf8_lossy(&answer));
    }
    // Only what we speak is agreed on.
    let mut h2 = trusting(&pair, rustls::ALL_VERSIONS);
    h2.alpn_protocols = vec![b"h2".to_vec()];
    assert!(ready(&client(h2), &harness.base, JWKS).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_over_and_a_broken_one_leaves_the_old_in_use() {
    let (first, second) = (Pair::new(), Pair::new());
    let place = Place::with(&first);
    let tls = Arc::new(place.load().unwrap());
    let harness = served(&tls, |_| {}).await;
    let [old, new] = [&first, &second].map(|pair| client(trusting(pair, rustls::ALL_VERSIONS)));
    assert!(!tls.reload(now()).unwrap(), "nothing has changed");
    // Half of a renewal: the certificate is new, the key is not yet.
    place.put("cert.pem", &second.cert, 0o644);
    assert!(tls.reload(now()).unwrap_err().to_string().contains("is not the key of"));
    assert!(!tls.reload(now()).unwrap(), "what is broken is told once");
    assert_eq!(ready(&old, &harness.base, JWKS).await.unwrap(), 200);
    assert!(ready(&new, &harness.base, JWKS).await.is_err());
    place.put("key.pem", &second.key, 0o600);
    assert!(tls.reload(now()).unwrap());
    assert_eq!(ready(&new, &harness.base, JWKS).await.unwrap(), 200);
    assert!(ready(&old, &harness.base, JWKS).await.is_err());
    fs::remove_file(place.path("cert.pem")).unwrap();
    assert!(tls.reload(now()).is_err());
    assert_eq!(ready(&new, &harness.base, JWKS).await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_until_the_certificate_expires_is_measured() {
    let pair = Pair::of_years(2020, 2027);
    let place = Place::with(&pair);
    let tls = Arc::new(place.load().unwrap());
    let edge = Settings { tls: Some(tls), ..Settings::default() };
    let harness = Harness::with(Setup { edge, ..Setup::default() }).await;
    let measured = async || {
        let text =
            harness.http.get(format!("{}/metrics", harness.operations)).send().await.unwrap().text().await.unwrap();
        let name = "rescind_tls_certificate_expires_in_seconds{listener=\"public\"} ";
        text.lines().find_map(|l| l.strip_prefix(name)?.parse::<i64>().ok()).unwrap()
    };
    assert_eq!(measured().await, (9 + 30) * 86_400 + 12 * 3600);
    harness.clock.advance(Duration::from_secs(50 * 86_400));
    assert!(measured().await < 0, "an expired one is below zero");
}

/// Each: what lies where the certificate and the key should be, and what the message says.
#[rstest]
#[case::exchanged("KEY", "CERT", "cert.pem holds a private key and no certificate: are `cert` and `key` exchanged?")]
#[case::certificate_twice("CERT", "CERT", "key.pem holds a certificate and no private key")]
#[case::empty("", "KEY", "cert.pem holds no certificate; it must begin with -----BEGIN CERTIFICATE-----")]
#[case::no_pem("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "KEY", "cert.pem is not PEM")]
#[case::no_certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "KEY", "no X.509 certificate")]
#[case::encrypted(
    "CERT",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    "key.pem is encrypted, and nobody is there at a start to type its passphrase; write it without one"
)]
#[case::encrypted_of_old(
    "CERT",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    "key.pem is encrypted"
)]
#[case::other_key("CERT", "OTHER KEY", "key.pem is not the key of")]
#[case::no_key("CERT", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key.pem cannot be used")]
#[case::nothing("CERT", "", "key.pem holds no private key; it must begin with -----BEGIN PRIVATE KEY-----")]
#[case::expired(
    "EXPIRED",
    "EXPIRED KEY",
    "is valid from 2020-01-01T00:00:00.000Z to 2025-01-01T00:00:00.000Z only; renew it"
)]
#[case::not_yet("FUTURE", "FUTURE KEY", "or set this machine's clock")]
fn files_that_are_no_good_are_named_with_a_remedy(#[case] cert: &str, #[case] key: &str, #[case] message: &str) {
    let [pair, other] = [(); 2].map(|()| Pair::new());
    let (expired, future) = (Pair::of_years(2020, 2025), Pair::of_years(2030, 2040));
    let text = |of: &str| match of {
        "CERT" => pair.cert.clone(),
        "KEY" => pair.key.clone(),
        "OTHER KEY" => other.key.clone(),
        "EXPIRED" => expired.cert.clone(),
        "EXPIRED KEY" => expired.key.clone(),
        "FUTURE" => future.cert.clone(),
        "FUTURE KEY" => future.key.clone(),
        other => other.to_owned(),
    };
    let place = Place::with(&pair);
    place.put("cert.pem", &text(cert), 0o644);
    place.put("key.pem", &text(key), 0o600);
    let error = place.load().unwrap_err();
    assert!(error.contains(message), "{error}");
    assert!(error.contains(place.dir.path().to_str().unwrap()), "where: {error}");
}

#[test]
fn a_key_that_others_can_read_is_refused_and_one_that_is_missing_is_named() {
    let place = Place::with(&Pair::new());
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false), (0o604, false)] {
        fs::set_permissions(place.path("key.pem"), fs::Permissions::from_mode(mode)).unwrap();
        let loaded = place.load();
        assert_eq!(loaded.is_ok(), good, "{mode:o}");
        assert!(good || loaded.unwrap_err().contains("mend it with: chmod 640"));
    }
    fs::remove_file(place.path("key.pem")).unwrap();
    let error = place.load().unwrap_err();
    assert!(error.starts_with("cannot read") && error.contains("key.pem"), "{error}");
}

#[test]
fn an_authority_that_is_none_is_refused() {
    let place = Place::with(&Pair::new());
    let load = |path: &Path| Tls::load(TlsFiles { client_ca: Some(path.into()), ..place.files() }, now());
    assert!(load(&place.path("cert.pem")).is_ok());
    let error = load(&place.path("key.pem")).unwrap_err().to_string();
    assert!(error.contains("key.pem holds a private key"), "{error}");
    assert!(load(&place.path("none.pem")).unwrap_err().to_string().contains("none.pem"));
}

const ROBOT: &str = "robot";

/// A client that is known by this certificate.
fn robot(pair: &Pair) -> Client {
    use sha2::Digest;
    Client {
        certificates: vec![CertificateHash(sha2::Sha256::digest(&pair.der).into())],
        permissions: Permission::ALL.iter().copied().collect(),
        audience: Some(vec!["api".parse().unwrap()]),
        ..Client::new(ROBOT.parse().unwrap())
    }
}

async fn token_as(http: &reqwest::Client, base: &str, client: &str) -> Option<u16> {
    let form = [("grant_type", "client_credentials"), ("client_id", client)];
    let request = http.post(format!("{}/oauth2/token", base.replace("http:", "https:"))).form(&form);
    Some(request.send().await.ok()?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_known_by_the_certificate_whose_key_it_holds() {
    let [server, own, other] = [(); 3].map(|()| Pair::new());
    let place = Place::with(&server);
    let files = TlsFiles { client_certificates: true, ..place.files() };
    let tls = Arc::new(Tls::load(files, now()).unwrap());
    let harness = served(&tls, |setup| setup.clients = vec![robot(&own)]).await;
    let (base, proven) = (&harness.base, showing(&server, &own, &own));
    assert_eq!(token_as(&proven, base, ROBOT).await, Some(200));
    assert_eq!(token_as(&proven, base, APP).await, Some(401), "its certificate is nobody else's");
    assert_eq!(token_as(&proven, base, PUBLIC).await, Some(400), "a public client may connect with one");
    assert_eq!(token_as(&showing(&server, &other, &other), base, ROBOT).await, Some(401));
    assert_eq!(token_as(&client(trusting(&server, rustls::ALL_VERSIONS)), base, ROBOT).await, Some(401));
    // A certificate is public: without its key there is not even a connection.
    assert_eq!(token_as(&showing(&server, &own, &other), base, ROBOT).await, None);
    // At /v1 the certificate says who it is.
    assert_eq!(ready(&proven, base, "/v1/keys").await.unwrap(), 200);
    assert_eq!(ready(&showing(&server, &other, &other), base, "/v1/keys").await.unwrap(), 401);
    let metadata = format!("{}/.well-known/oauth-authorization-server", base.replace("http:", "https:"));
    let metadata = proven.get(metadata).send().await.unwrap().text().await.unwrap();
    assert!(metadata.contains("self_signed_tls_client_auth"), "{metadata}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_an_authority_other_certificates_do_not_connect() {
    let [server, own, other] = [(); 3].map(|()| Pair::new());
    let place = Place::with(&server);
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&authority).unwrap();
    place.put("ca.pem", &root.pem(), 0o644);
    let key = KeyPair::from_pem(&own.key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    let vouched = CertificateParams::new(["robot".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let own = Pair { cert: vouched.pem(), der: vouched.der().clone(), ..own };
    let files = TlsFiles { client_ca: Some(place.path("ca.pem")), ..place.files() };
    let tls = Arc::new(Tls::load(files, now()).unwrap());
    let harness = served(&tls, |setup| setup.clients = vec![robot(&own)]).await;
    assert_eq!(token_as(&showing(&server, &own, &own), &harness.base, ROBOT).await, Some(200));
    assert_eq!(token_as(&showing(&server, &other, &other), &harness.base, ROBOT).await, None);
    let without = client(trusting(&server, rustls::ALL_VERSIONS));
    assert_eq!(ready(&without, &harness.base, JWKS).await.unwrap(), 200, "who has none may go on without");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_can_be_kept_to_those_with_a_certificate() {
    let [server, own, other] = [(); 3].map(|()| Pair::new());
    let place = Place::with(&server);
    place.put("ca.pem", &own.cert, 0o644);
    let files = TlsFiles { client_ca: Some(place.path("ca.pem")), client_required: true, ..place.files() };
    let tls = Arc::new(Tls::load(files, now()).unwrap());
    let edge = Settings { operations_tls: Some(tls), ..Settings::default() };
    let harness = Harness::with(Setup { edge, ..Setup::default() }).await;
    let without = client(trusting(&server, rustls::ALL_VERSIONS));
    assert_eq!(ready(&showing(&server, &own, &own), &harness.operations, "/readyz").await.unwrap(), 200);
    assert!(ready(&showing(&server, &other, &other), &harness.operations, "/readyz").await.is_err());
    assert!(ready(&without, &harness.operations, "/readyz").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_do_not_end_starve_nobody() {
    let pair = Pair::new();
    let tls = Arc::new(Place::with(&pair).load().unwrap());
    // From another address of this machine: loopback stands for proxies, and has no share.
    let own = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect("192.0.2.1:9").map(|()| s));
    let own = own.ok().and_then(|s| s.local_addr().ok()).map(|at| at.ip()).filter(|ip| !ip.is_loopback());
    let own = own.expect("this machine has an address of its own");
    let harness = served(&tls, |setup| {
        setup.listen = std::net::Ipv4Addr::UNSPECIFIED.into();
        setup.limits = Limits { connections: 64, followers: 8, ..Limits::default() };
        setup.edge.rates = Some(Rates::default());
    })
    .await;
    let port = harness.base.rsplit(':').next().unwrap().parse().unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(SocketAddr::new(own, port)).await.unwrap());
    }
    let client = client(trusting(&pair, rustls::ALL_VERSIONS));
    let base = format!("http://127.0.0.1:{port}");
    let within = Duration::from_secs(3);
    assert_eq!(tokio::time::timeout(within, ready(&client, &base, JWKS)).await.unwrap().unwrap(), 200);
    // And those who are silent are sent away.
    let mut ended = [0; 1];
    assert_eq!(tokio::time::timeout(Duration::from_secs(8), silent[0].read(&mut ended)).await.unwrap().unwrap_or(0), 0);
}

// ---- the real program

/// A directory as `rescind init` writes it, for a server that ends TLS itself.
struct Node {
    place: Place,
    file: PathBuf,
    base: String,
    running: Option<std::process::Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Node {
    fn with(pair: &Pair, table: &str) -> Self {
        let place = Place::with(pair);
        let [listen, operations] = [(); 2]
            .map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .map(|bound| bound.local_addr().unwrap().to_string());
        let init = Self::command()
            .arg("init")
            .arg(place.path("node"))
            .args(["--listen", &listen])
            .args(["--operations-listen", &operations, "--issuer", &format!("https://{listen}")])
            .output()
            .unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let file = place.path("node/rescind.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("\n[tls]\n"), "{text}");
        fs::write(&file, text.replacen("\n[tls]\n", &format!("\n{table}\n"), 1)).unwrap();
        Self { place, file, base: format!("https://{listen}"), running: None }
    }

    fn command() -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rescind"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RESCIND_")) {
            command.env_remove(name);
        }
        command
    }

    fn serve(&self) -> std::process::Command {
        let mut command = Self::command();
        command.arg("serve").arg("--config").arg(&self.file);
        command
    }

    fn start(&mut self) {
        let null = std::process::Stdio::null;
        self.running = Some(self.serve().stdout(null()).stderr(null()).spawn().unwrap());
    }

    fn hang_up(&self) {
        let id = self.running.as_ref().unwrap().id().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }
}

async fn eventually(client: &reqwest::Client, base: &str) {
    for _ in 0..600 {
        if ready(client, base, JWKS).await.is_ok_and(|status| status == 200) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {base}");
}

const TABLE: &str = "[tls]\ncert = \"../cert.pem\"\nkey = \"../key.pem\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_has_the_running_server_take_over_a_new_certificate() {
    let (first, second) = (Pair::new(), Pair::new());
    let mut node = Node::with(&first, TABLE);
    node.start();
    let [old, new] = [&first, &second].map(|pair| client(trusting(pair, rustls::ALL_VERSIONS)));
    eventually(&old, &node.base).await;
    node.place.put("cert.pem", &second.cert, 0o644);
    node.place.put("key.pem", &second.key, 0o600);
    node.hang_up();
    eventually(&new, &node.base).await;
    assert!(ready(&old, &node.base, JWKS).await.is_err());
    // Broken: it goes on, with what it has.
    node.place.put("key.pem", &first.key, 0o600);
    node.hang_up();
    for _ in 0..5 {
        assert_eq!(ready(&new, &node.base, JWKS).await.unwrap(), 200);
    }
}

#[test]
fn a_start_with_a_broken_certificate_ends_with_one_message_and_exit_code_2() {
    let node = Node::with(&Pair::new(), TABLE);
    node.place.put("key.pem", &Pair::new().key, 0o600);
    let ended = node.serve().output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("tls") && said.contains("key.pem is not the key of"), "{said}");
    assert!(!node.place.path("node/store").exists(), "nothing is half begun: {said}");
}

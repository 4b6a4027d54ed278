//! A certificate authority of the test's own, a server's certificate and a client's, made anew for each test.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;

pub struct Files {
    pub ca: PathBuf,
    pub server: (PathBuf, PathBuf),
    pub client: (PathBuf, PathBuf),
    _dir: TempDir,
}

impl Files {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // OpenSSL takes a certificate for its own issuer if both have one name.
        params.distinguished_name.push(DnType::CommonName, "An authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, text: String| {
            fs::write(path(name), text).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
            path(name)
        };
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![format!("{name}.invalid")]).unwrap();
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
            let cert = params.signed_by(&key, &ca).unwrap();
            (write(&format!("{name}.pem"), cert.pem()), write(&format!("{name}.key"), key.serialize_pem()))
        };
        let (server, client) = (issue("server"), issue("client"));
        Self { ca: write("ca.pem", ca.pem()), server, client, _dir: dir }
    }

    /// What stands behind the hosts in the URL of a client with these.
    pub fn query(&self) -> String {
        let (cert, key) = &self.client;
        format!("?ca={}&cert={}&key={}", self.ca.display(), cert.display(), key.display())
    }

    /// Lines for a server that speaks TLS on this port besides, and only with whom this authority knows.
    pub fn lines(&self, port: u16) -> Vec<String> {
        vec![
            format!("tls-port {port}"),
            format!("tls-cert-file {}", self.server.0.display()),
            format!("tls-key-file {}", self.server.1.display()),
            format!("tls-ca-cert-file {}", self.ca.display()),
            "tls-auth-clients yes".into(),
        ]
    }
}

//! The operator's commands over TLS: a certificate is believed if this machine trusts its authority, and not otherwise.

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration};

use super::{
    serve::free,
    support::{Ended, Server, edit, end_of, rescind},
};

/// A node that ends TLS itself, with a certificate for its address.
struct Node {
    temp: tempfile::TempDir,
    url: String,
    secret: String,
    _server: Server,
}

impl Node {
    fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("node");
        let [listen, operations] = free();
        let url = format!("https://{listen}");
        let args = ["--listen", &listen, "--operations-listen", &operations, "--issuer", &url];
        let made = end_of(rescind().arg("init").arg(&dir).args(args), "");
        let secret = made.stdout.lines().find_map(|line| line.strip_prefix("client_secret=")).unwrap().to_owned();
        let ip = listen.split(':').next().unwrap().to_owned();
        let certified = rcgen::generate_simple_self_signed([ip]).unwrap();
        let (cert, key) = (temp.path().join("cert.pem"), temp.path().join("key.pem"));
        fs::write(&cert, certified.cert.pem()).unwrap();
        fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let file = dir.join("rescind.toml");
        let tls = format!("\n[tls]\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
        fs::write(&file, edit(&file, "\n[tls]\n", &tls)).unwrap();
        let server = Server::start(rescind().args(["serve", "--config"]).arg(&file));
        for _ in 0..500 {
            if TcpStream::connect(&operations).is_ok() {
                return Self { temp, url, secret, _server: server };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not serve: {}", server.end().stderr);
    }

    fn authority(&self) -> PathBuf {
        self.temp.path().join("cert.pem")
    }

    fn ask(&self, command: &mut Command, server: &str) -> Ended {
        command.env("RESCIND_SERVER", server).env("RESCIND_CLIENT_ID", "operator");
        end_of(command.env("RESCIND_CLIENT_SECRET", &self.secret), "")
    }
}

#[test]
fn a_certificate_is_believed_by_its_authority_alone() {
    let node = Node::start();
    let trusted = node.ask(rescind().args(["keys", "list"]).env("SSL_CERT_FILE", node.authority()), &node.url);
    assert_eq!(trusted.code, 0, "{}", trusted.stderr);
    assert!(trusted.stdout.contains("active"), "{}", trusted.stdout);

    let unknown = node.ask(rescind().args(["keys", "list"]).env_remove("SSL_CERT_FILE"), &node.url);
    assert_eq!((unknown.code, &*unknown.stdout), (5, ""), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("SSL_CERT_FILE"), "how to mend it: {}", unknown.stderr);

    let plain = node.url.replace("https://", "http://");
    let plain = node.ask(rescind().args(["keys", "list"]), &plain);
    assert_eq!((plain.code, &*plain.stdout), (5, ""), "{}", plain.stderr);
    for said in [unknown.stderr, plain.stderr] {
        assert!(!said.contains(&node.secret) && said.lines().count() == 1, "one message: {said}");
    }
}

#[test]
fn doctor_says_whether_the_certificate_is_trusted() {
    let node = Node::start();
    let good = node.ask(rescind().args(["doctor"]).env("SSL_CERT_FILE", node.authority()), &node.url);
    assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
    assert!(good.stdout.contains("TLS, with a certificate that is trusted here"), "{}", good.stdout);
    assert!(good.stdout.contains("ok    feed"), "{}", good.stdout);
    let bad = node.ask(rescind().args(["doctor"]).env_remove("SSL_CERT_FILE"), &node.url);
    assert_eq!(bad.code, 1, "{}", bad.stderr);
    assert!(bad.stdout.contains("FAIL  reachable"), "{}", bad.stdout);
}

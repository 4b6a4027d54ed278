//! The operator's commands over TLS: a certificate is believed if this machine trusts its authority, and not otherwise.

use std::{fs, os::unix::fs::PermissionsExt};

use super::{
    serve::Place,
    support::{Ended, Server, end_of},
};

/// A node that ends TLS itself on both listeners, with a certificate for its address.
struct Node {
    place: Place,
    _server: Server,
}

impl Node {
    fn start() -> Self {
        let place = Place::over("https");
        let ip = place.issuer["https://".len()..].split(':').next().unwrap().to_owned();
        let certified = rcgen::generate_simple_self_signed([ip]).unwrap();
        let key = place.dir.join("key.pem");
        fs::write(place.dir.join("cert.pem"), certified.cert.pem()).unwrap();
        fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        place.change("\n[tls]\n", "\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n");
        let server = place.start(&[], 200);
        Self { place, _server: server }
    }

    /// As its operator, who trusts its authority or does not.
    fn ask(&self, args: &[&str], trusting: bool) -> Ended {
        let mut command = self.place.ask(args);
        if trusting {
            command.env("SSL_CERT_FILE", self.place.dir.join("cert.pem"));
        } else {
            command.env_remove("SSL_CERT_FILE");
        }
        end_of(&mut command, "")
    }
}

#[test]
fn a_certificate_is_believed_by_its_authority_alone() {
    let node = Node::start();
    let trusted = node.ask(&["keys", "list"], true);
    assert_eq!(trusted.code, 0, "{}", trusted.stderr);
    assert!(trusted.stdout.contains("active"), "{}", trusted.stdout);

    let unknown = node.ask(&["keys", "list"], false);
    assert_eq!((unknown.code, &*unknown.stdout), (5, ""), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("SSL_CERT_FILE"), "how to mend it: {}", unknown.stderr);
    let secret = &node.place.operator.1;
    assert!(!unknown.stderr.contains(secret) && unknown.stderr.lines().count() == 1, "{}", unknown.stderr);
}

/// Commands with an address of the wrong kind: plain where TLS is spoken, and TLS where it is not.
#[test]
fn whoever_speaks_plain_to_tls_or_tls_to_plain_is_told_so() {
    let node = Node::start();
    let (over_tls, plain) = (&node.place.issuer, &node.place.operations);
    let [as_plain, as_tls] = [over_tls.replace("https:", "http:"), plain.replace("http:", "https:")];
    let ready = format!("{as_tls}/readyz");
    for (args, says) in [
        (vec!["keys", "list", "--server", &as_plain], "write https://"),
        (vec!["feed", "tail", "--issuer", &as_plain], "write https://"),
        (vec!["probe", &as_plain], "write https://"),
        (vec!["keys", "list", "--server", &as_tls], "is it http://"),
        (vec!["probe", &ready], "is it http://"),
    ] {
        let ended = node.ask(&args, true);
        assert_eq!((ended.code, &*ended.stdout), (5, ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
        let secret = &node.place.operator.1;
        assert!(!ended.stderr.contains(secret) && ended.stderr.lines().count() == 1, "one message: {}", ended.stderr);
    }
}

#[test]
fn doctor_says_whether_the_certificate_is_trusted() {
    let node = Node::start();
    let good = node.ask(&["doctor"], true);
    assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
    assert!(good.stdout.contains("TLS, with a certificate that is trusted here"), "{}", good.stdout);
    assert!(good.stdout.contains("ok    feed"), "{}", good.stdout);
    let bad = node.ask(&["doctor"], false);
    assert_eq!(bad.code, 1, "{}", bad.stderr);
    assert!(bad.stdout.contains("FAIL  reachable") && bad.stdout.contains("SSL_CERT_FILE"), "{}", bad.stdout);
    let plain = node.place.issuer.replace("https:", "http:");
    let plain = node.ask(&["doctor", "--server", &plain], true);
    assert_eq!(plain.code, 1, "{}", plain.stderr);
    assert!(plain.stdout.contains("-> that port speaks TLS: write https://"), "{}", plain.stdout);
}

//! The service behind nginx, which ends TLS by the file of the documentation.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use rustix::process::{Pid, Signal, kill_process};

use super::support::{PROGRAM, command, free, good, said, text, until};

pub(super) struct Site {
    pub(super) dir: tempfile::TempDir,
    pub(super) base: String,
    /// The service, or its nodes, and what is before and behind them.
    pub(super) children: Vec<Child>,
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // One that a test has stopped ends, too.
            let _ = kill_process(Pid::from_child(child), Signal::CONT);
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let _ = child.wait();
        }
    }
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [listen, operations] = free();
        let [front, _] = free();
        let base = format!("https://{}", front.replace("127.0.0.1", "localhost"));
        let (etc, secret) = (dir.path().join("etc"), dir.path().join("operator"));
        let mut init = command(PROGRAM);
        init.arg("init").arg(&etc).arg("--secret-file").arg(&secret);
        good(init.args(["--issuer", &base, "--listen", &listen, "--operations-listen", &operations]));
        let file = nginx_file("deploy/nginx/rescind.conf", dir.path(), &front, &[("127.0.0.1:8080", listen)]);
        let around = format!("pid {};\nevents {{}}\nhttp {{\n{file}}}\n", dir.path().join("nginx.pid").display());
        fs::write(dir.path().join("nginx.conf"), around).unwrap();
        let serve = command(PROGRAM).args(["serve", "--config"]).arg(etc.join("rescind.toml")).spawn().unwrap();
        let mut site = Self { dir, base, children: vec![serve] };
        site.begin_nginx();
        site
    }

    /// With the file and the certificate that lie there.
    pub(super) fn begin_nginx(&mut self) {
        certificate(self.dir.path());
        let mut nginx = Command::new("sh");
        nginx.args(["-c", "PATH=$PATH:/usr/sbin exec nginx -c \"$0\" -e stderr -g 'daemon off;'"]);
        self.children.push(nginx.arg(self.dir.path().join("nginx.conf")).spawn().unwrap());
        until("all serve", || self.ask("/.well-known/jwks.json", &[]).0 == "200");
    }

    /// Status, head and body of an answer.
    pub(super) fn ask(&self, path: &str, arguments: &[&str]) -> (String, String) {
        let mut curl = command("curl");
        curl.args(["--silent", "--include", "--max-time", "40", "--cacert"]).arg(self.dir.path().join("cert.pem"));
        let answer = said(&curl.args(arguments).arg(format!("{}{path}", self.base)).output().unwrap());
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        (status, answer)
    }

    /// As the operator.
    pub(super) fn operate(&self, path: &str, body: &str) -> (String, String) {
        let file = fs::read_to_string(self.dir.path().join("operator")).unwrap();
        let values: Vec<&str> = file.lines().filter_map(|line| line.split_once('=')).map(|(_, value)| value).collect();
        let user = format!("{}:{}", values[0], values[1]);
        self.ask(path, &["--user", &user, "--header", "Content-Type: application/json", "--data", body])
    }
}

fn certificate(dir: &Path) {
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]);
    good(openssl.arg(dir.join("key.pem")).arg("-out").arg(dir.join("cert.pem")));
}

/// The file as it is, but for addresses and places.
pub(super) fn nginx_file(file: &str, dir: &Path, front: &str, services: &[(&str, String)]) -> String {
    let place = |file: &str| dir.join(file).display().to_string();
    let mut file = text(file);
    let ours = [
        ("listen 443 ssl", format!("listen {front} ssl")),
        ("/etc/ssl/rescind/fullchain.pem", place("cert.pem")),
        ("/etc/ssl/rescind/key.pem", place("key.pem")),
        ("/var/log/nginx/rescind.log", place("access.log")),
        ("auth.example.com", "localhost".to_owned()),
    ];
    for (theirs, ours) in ours.iter().chain(services) {
        assert!(file.contains(theirs), "{theirs}");
        file = file.replace(theirs, ours);
    }
    file
}

#[test]
fn nginx_ends_tls_and_passes_on_what_belongs_to_everyone() {
    let site = Site::start();
    let (status, opened) = site.operate("/v1/sessions", r#"{"subject":"alice","audience":["api"]}"#);
    assert_eq!(status, "201", "{opened}");
    assert!(opened.to_lowercase().contains("strict-transport-security: max-age="), "{opened}");
    let (_, metadata) = site.ask("/.well-known/oauth-authorization-server", &[]);
    assert!(metadata.contains(&format!(r#""issuer":"{}""#, site.base)), "{metadata}");
    for hidden in ["/metrics", "/readyz", "/livez"] {
        assert_eq!(site.ask(hidden, &[]).0, "404", "{hidden} is the operators'");
    }
    let (status, answer) = site.ask("/oauth2/token", &["--data", &format!("grant_type={}", "x".repeat(20_000))]);
    assert_eq!(status, "400", "{answer}");
    assert!(answer.contains("longer than 16384 bytes"), "the service says so, in its own way: {answer}");
}

#[test]
fn a_verifier_waits_for_news_through_nginx_and_has_them_at_once() {
    let site = Site::start();
    let (status, opened) = site.operate("/v1/sessions", r#"{"subject":"alice","audience":["api"]}"#);
    assert_eq!(status, "201", "{opened}");
    let mut tail = command(PROGRAM);
    tail.args(["feed", "tail", "--follow", "--json", "--issuer", &site.base]);
    tail.env("SSL_CERT_FILE", site.dir.path().join("cert.pem")).stdout(std::process::Stdio::piped());
    let mut tail = tail.spawn().unwrap();
    let (status, answer) = site.operate("/v1/revocations", r#"{"kind":"subject","id":"alice"}"#);
    assert_eq!(status, "201", "{answer}");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(tail.stdout.take().unwrap()), &mut line).unwrap();
    let _ = tail.kill();
    let _ = tail.wait();
    assert!(line.contains("\"epoch\""), "{line}");
}

#[test]
fn what_a_client_puts_into_the_url_reaches_no_log() {
    let site = Site::start();
    let secret = "rescind_cs_in_a_url_by_mistake";
    assert_eq!(site.ask(&format!("/oauth2/token?client_secret={secret}"), &["--data", "grant_type=x"]).0, "400");
    let log = site.dir.path().join("access.log");
    until("the request is in the log", || fs::read_to_string(&log).is_ok_and(|log| log.contains("/oauth2/token")));
    assert!(!fs::read_to_string(&log).unwrap().contains(secret));
}

#[test]
fn a_service_that_is_away_is_a_503_with_a_time() {
    let mut site = Site::start();
    let mut service = site.children.remove(0);
    service.kill().unwrap();
    service.wait().unwrap();
    let (status, answer) = site.ask("/oauth2/token", &["--data", "grant_type=refresh_token"]);
    assert_eq!(status, "503", "{answer}");
    assert!(
        answer.to_lowercase().contains("\r\nretry-after: 2\r\n") && answer.contains("temporarily_unavailable"),
        "{answer}"
    );
}

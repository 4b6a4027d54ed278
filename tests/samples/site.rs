//! A sample that runs: an application under its own server, or a proxy in front of one.

use std::{
    env, fs,
    fs::File,
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    stage::{MAX_STALENESS, START},
    wire::{Answer, now, send},
};

const HINT: &str = "the samples' frameworks and proxies are not installed: run tests/run";
/// Of each proxy: the file that names the others' addresses.
const PROXIES: [(&str, &str); 4] =
    [("nginx", "nginx.conf"), ("caddy", "Caddyfile"), ("traefik", "dynamic.yaml"), ("envoy", "envoy.yaml")];
/// Every name under which the sidecar speaks of the token.
const IDENTITY: [&str; 5] = ["Issuer", "Subject", "Client", "Session", "Scope"];

pub struct Site {
    pub base: String,
    /// Whom a 200 speaks of.
    subject: fn(&Answer) -> String,
    child: Child,
    _files: TempDir,
}

impl Site {
    pub fn application(kind: &str, issuer: &str, sidecar: &str, audience: &str) -> Self {
        let environment = [("ISSUER", issuer), ("SIDECAR", sidecar), ("AUDIENCE", audience)];
        Self::start(kind, subject_answered, |port, files| {
            let mut command = serve_application(kind, port, files);
            command.envs(environment).env("PORT", port.to_string());
            command
        })
    }

    /// The program of `examples/axum_orders.rs`, which follows the issuer by itself.
    pub fn axum(issuer: &str, audience: &str) -> Self {
        let staleness = MAX_STALENESS.as_secs().to_string();
        let arguments = ["--issuer", issuer, "--audience", audience, "--max-staleness", &staleness];
        Self::start("axum", subject_told, |port, _| {
            let mut command = Command::new(example("axum_orders"));
            command.args(arguments).args(["--listen", &format!("127.0.0.1:{port}")]);
            command
        })
    }

    pub fn proxy(kind: &str, sidecar: &str, application: &str) -> Self {
        Self::start(kind, subject_passed_on, |port, files| {
            serve_proxy(kind, [port, spare_port()], sidecar, application, files)
        })
    }

    pub fn nginx_with_underscores(sidecar: &str, application: &str) -> Self {
        Self::start("nginx", subject_passed_on, |port, files| {
            let command = serve_proxy("nginx", [port, spare_port()], sidecar, application, files);
            let file = files.join("nginx.conf");
            edit(&file, "underscores_in_headers off;", "underscores_in_headers on;");
            edit(&file, "proxy_pass http://127", "include underscores.conf; proxy_pass http://127");
            command
        })
    }

    /// Again on another port, should someone else have taken the first in between.
    fn start(kind: &str, subject: fn(&Answer) -> String, command: impl Fn(u16, &Path) -> Command) -> Self {
        assert!(foreign(".venv/made-from").exists() && foreign("node_modules/made-from").exists(), "{HINT}");
        for _ in 0..3 {
            let (port, files) = (spare_port(), tempfile::tempdir().unwrap());
            let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sample-{kind}.log"));
            let output = File::create(&log).unwrap();
            let mut command = command(port, files.path());
            command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
            let child = command.spawn().unwrap_or_else(|e| panic!("{kind}: {e}; {HINT}"));
            let mut site = Self { base: format!("http://127.0.0.1:{port}"), subject, child, _files: files };
            if site.serves() {
                return site;
            }
            println!("{kind} ended: {}", fs::read_to_string(log).unwrap());
        }
        panic!("{kind} does not start; {HINT}")
    }

    /// Waits until it asks for a token. False: it has ended.
    fn serves(&mut self) -> bool {
        let began = now();
        while !send(&self.base, "GET /orders", &[], "").is_ok_and(|answer| [200, 401].contains(&answer.status)) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < START, "{} asks nobody for a token", self.base);
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// What a client with this token is answered.
    pub fn orders(&self, token: &str) -> Answer {
        self.get("/orders", &[("Authorization", &format!("Bearer {token}"))])
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(&self.base, &format!("GET {path}"), headers, "").unwrap()
    }

    /// What a client with this token is answered that says itself who it is, in every spelling.
    pub fn forged(&self, token: &str) -> Answer {
        let spellings = IDENTITY.iter().flat_map(|name| {
            [("-", "-"), ("_", "_"), ("_", "-"), ("-", "_")].map(|(a, b)| format!("X{a}Auth{b}{name}"))
        });
        let names: Vec<String> = spellings.flat_map(|name| [name.to_lowercase(), name]).collect();
        let bearer = format!("Bearer {token}");
        let mut headers: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "mallory")).collect();
        headers.push(("Authorization", &bearer));
        self.get("/orders", &headers)
    }

    pub fn subject_of(&self, answer: &Answer) -> String {
        assert_eq!(answer.status, 200, "{answer:?}");
        (self.subject)(answer)
    }
}

impl Drop for Site {
    /// Asks first: what has workers takes them along.
    fn drop(&mut self) {
        let began = now();
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn subject_answered(answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
    body["subject"].as_str().unwrap().to_owned()
}

fn subject_told(answer: &Answer) -> String {
    answer.body.strip_prefix("the orders of ").unwrap().trim_end().to_owned()
}

/// As the sidecar writes it in a header, back to what it is.
fn subject_passed_on(answer: &Answer) -> String {
    let encoded = subject_in_header(answer);
    assert!(encoded.is_ascii() && !encoded.contains('+'), "{encoded}");
    form_urlencoded::parse(encoded.as_bytes()).next().unwrap().0.into_owned()
}

/// As a WSGI application reads it: a name with underscores is the name with hyphens.
fn subject_in_header(answer: &Answer) -> String {
    let lines = answer.body.lines().filter_map(|line| line.split_once(": "));
    let named: Vec<&str> =
        lines.filter(|(n, _)| n.replace('_', "-").eq_ignore_ascii_case("x-auth-subject")).map(|(_, v)| v).collect();
    assert_eq!(named.len(), 1, "one subject, said once: {}", answer.body);
    named[0].to_owned()
}

/// Free a moment ago.
pub fn spare_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn foreign(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(path)
}

fn sample(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(kind)
}

/// Built with the tests.
fn example(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_rescind")).parent().unwrap();
    let path = beside.join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    path
}

/// A program from the environment that `tests/foreign/setup` makes, or else of the machine.
fn program(name: &str, arguments: &[&str]) -> Command {
    let inherited = env::var_os("PATH").unwrap_or_default();
    // Debian has nginx where only root looks.
    let more = env::split_paths(&inherited).chain(["/usr/sbin".into()]);
    let path = env::join_paths([foreign(".venv/bin")].into_iter().chain(more)).unwrap();
    let mut command = Command::new("/usr/bin/env");
    command.arg(name).args(arguments).env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn serve_application(kind: &str, port: u16, files: &Path) -> Command {
    let (sample, at, port) = (sample(kind), format!("127.0.0.1:{port}"), port.to_string());
    let directory = sample.to_str().unwrap();
    let gunicorn = ["--chdir", directory, "--bind", &at, "--threads", "4", "--no-control-socket"];
    match kind {
        "fastapi" => program("uvicorn", &["--app-dir", directory, "--port", &port, "app:app"]),
        "flask" => program("gunicorn", &[&gunicorn[..], &["app:app"]].concat()),
        "django" => {
            let application = ["django.core.wsgi:get_wsgi_application()"];
            let mut command = program("gunicorn", &[&gunicorn[..], &application].concat());
            command.env("DJANGO_SETTINGS_MODULE", "settings");
            command
        }
        "express" => {
            // Node looks for packages beside the file, and nowhere else.
            fs::copy(sample.join("app.mjs"), files.join("app.mjs")).unwrap();
            symlink(foreign("node_modules"), files.join("node_modules")).unwrap();
            program("node", &[files.join("app.mjs").to_str().unwrap()])
        }
        _ => panic!("no sample {kind}"),
    }
}

/// The proxy's files as they are committed, but for the ports.
fn serve_proxy(kind: &str, own: [u16; 2], sidecar: &str, application: &str, files: &Path) -> Command {
    let port_of = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
    let ports = [
        ("8888", own[0].to_string()),
        ("8889", own[1].to_string()),
        ("8081", port_of(sidecar)),
        ("8000", port_of(application)),
    ];
    for entry in fs::read_dir(sample(kind)).unwrap() {
        let from = entry.unwrap().path();
        let text = fs::read_to_string(&from).unwrap();
        fs::write(files.join(from.file_name().unwrap()), with_ports(&text, &ports)).unwrap();
    }
    let (_, main) = PROXIES.iter().find(|(name, _)| *name == kind).unwrap();
    let text = fs::read_to_string(files.join(main)).unwrap();
    assert!([2, 3].iter().all(|i| text.contains(&ports[*i].1)), "{main} names the sidecar and the application: {text}");
    let mut command = match kind {
        "nginx" => {
            // Whoever runs the tests may not write where Debian's nginx wants to, and a killed master leaves its workers.
            let parts = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary = parts.map(|part| format!("{part}_temp_path t;"));
            edit(&files.join(main), "access_log off;", &format!("access_log off; {}", temporary.concat()));
            program("nginx", &["-p", files.to_str().unwrap(), "-c", main, "-g", "master_process off;"])
        }
        "caddy" => program("caddy", &["run"]),
        "traefik" => program("traefik", &["--configFile=traefik.yaml"]),
        _ => program("envoy", &["-c", main, "--disable-hot-restart", "--log-level", "error"]),
    };
    command.current_dir(files).env("HOME", files).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    command
}

/// All at once: a port put in must not be taken for one to replace.
fn with_ports(text: &str, ports: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, (from, to))) =
        ports.iter().filter_map(|port| rest.find(port.0).map(|at| (at, port))).min_by_key(|(at, _)| *at)
    {
        out.push_str(&rest[..at]);
        out.push_str(to);
        rest = &rest[at + from.len()..];
    }
    out + rest
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

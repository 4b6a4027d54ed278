//! What systemd hears of the service.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use super::support::{PROGRAM, command, free, good};

/// A manager that listens.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self::on(UnixDatagram::bind(path).unwrap())
    }
    fn abstract_at(name: &str) -> Self {
        Self::on(UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap())
    }
    fn on(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(socket)
    }
    /// The next message.
    fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message within a minute");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

struct Service {
    child: Child,
    dir: tempfile::TempDir,
}

impl Service {
    fn start(variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [listen, operations] = free();
        let place = dir.path().join("etc");
        let init = ["init", place.to_str().unwrap(), "--listen", &listen, "--operations-listen", &operations];
        good(command(PROGRAM).args(init));
        let mut serve = command(PROGRAM);
        serve.args(["serve", "--config"]).arg(place.join("rescind.toml")).envs(variables.iter().copied());
        Self { child: serve.spawn().unwrap(), dir }
    }
    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_manager_hears_when_it_serves_lives_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::at(&dir.path().join("notify"));
    let socket = dir.path().join("notify");
    let mut service = Service::start(&[("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "200000")]);
    let ready = manager.hears();
    assert!(ready.starts_with("READY=1\nSTATUS=serving http://127.0.0.1:"), "{ready}");
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    service.signal("-TERM");
    while manager.hears() == "WATCHDOG=1" {}
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn a_reload_begins_and_ends_also_where_the_file_is_broken() {
    let manager = Manager::abstract_at(&format!("rescind-reload-{}", std::process::id()));
    let service = Service::start(&[("NOTIFY_SOCKET", &format!("@rescind-reload-{}", std::process::id()))]);
    assert!(manager.hears().starts_with("READY=1\n"));
    service.signal("-HUP");
    assert!(manager.hears().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(manager.hears().ends_with("reload of the configuration: done"));
    std::fs::write(service.dir.path().join("etc/rescind.toml"), "issuer = ").unwrap();
    service.signal("-HUP");
    assert!(manager.hears().starts_with("RELOADING=1\n"));
    let ready = manager.hears();
    assert!(ready.starts_with("READY=1\n") && ready.ends_with("failed"), "{ready}");
}

#[test]
fn it_says_that_it_stops_before_it_has() {
    let manager = Manager::abstract_at(&format!("rescind-test-{}", std::process::id()));
    let mut service = Service::start(&[("NOTIFY_SOCKET", &format!("@rescind-test-{}", std::process::id()))]);
    assert!(manager.hears().starts_with("READY=1\n"));
    service.signal("-TERM");
    // Without a watchdog there is nothing in between.
    assert!(manager.hears().starts_with("STOPPING=1\n"));
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn a_watchdog_of_another_process_hears_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager::at(&path);
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let service = Service::start(&variables);
    assert!(manager.hears().starts_with("READY=1\n"));
    service.signal("-TERM");
    assert!(manager.hears().starts_with("STOPPING=1\n"), "and no WATCHDOG=1 before");
}

#[test]
fn a_manager_that_is_gone_keeps_nobody_from_serving() {
    let [listen, operations] = free();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("etc");
    let init = ["init", place.to_str().unwrap(), "--listen", &listen, "--operations-listen", &operations];
    good(command(PROGRAM).args(init));
    let mut serve = command(PROGRAM);
    serve.args(["serve", "--config"]).arg(place.join("rescind.toml")).env("NOTIFY_SOCKET", "/nowhere/notify");
    let service = Service { child: serve.spawn().unwrap(), dir };
    let probe = || command(PROGRAM).args(["probe", &format!("http://{operations}/readyz")]).status().unwrap();
    super::support::until("it serves", || probe().success());
    drop(service);
    assert_eq!(probe().code(), Some(5), "nobody answers: that is neither yes nor no");
}

//! `rescind dev`: what it promises to programs that start it.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use serde_json::Value;

use super::support::{Dev, FORM, JSON, Server, answer, connect, end_of, get, post, rescind};

#[test]
fn the_first_line_says_everything_and_nothing_else_is_said() {
    let dev = Dev::start(&[]);
    let mut members: Vec<&String> = dev.said.as_object().unwrap().keys().collect();
    members.sort();
    let expected =
        ["client_id", "client_secret", "issuer", "jwks_uri", "operations", "public_client_id", "token_endpoint"];
    assert_eq!(members, expected);
    let issuer = dev.says("issuer");
    assert_eq!(dev.says("token_endpoint"), format!("{issuer}/oauth2/token"));
    assert_eq!(dev.says("jwks_uri"), format!("{issuer}/.well-known/jwks.json"));
    assert_eq!(get(issuer, "/.well-known/jwks.json").0, 200);
    assert_eq!(get(issuer, "/.well-known/oauth-authorization-server").1["issuer"], issuer);
    assert_eq!(get(dev.says("operations"), "/readyz").0, 200);
    let session = dev.open("alice");
    assert_eq!(dev.refresh(session["refresh_token"].as_str().unwrap()).0, 200);
    let own = post(issuer, "/oauth2/token", Some(&dev.basic()), FORM, "grant_type=client_credentials&scope=any");
    assert_eq!(own.0, 200, "the client may do everything: {}", own.1);
    let ended = dev.server.end();
    assert_eq!((ended.code, &*ended.stdout), (0, ""));
}

#[test]
fn keys_client_secret_and_sessions_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = format!("embedded:{}", path.display());
    let first = Dev::start(&["--store", &store]);
    let issuer = first.says("issuer").to_owned();
    let keys = get(&issuer, "/.well-known/jwks.json").1;
    let session = first.open("alice");
    let said = first.said.clone();
    assert_eq!(first.server.end().code, 0);
    for beside in ["store", "store.client.json", "store.keys/secrets.json"] {
        assert_eq!(mode(&dir.path().join(beside)), 0o600, "{beside}");
    }
    assert_eq!(mode(&dir.path().join("store.keys")), 0o700);

    let again = Dev::start(&["--store", &store, "--listen", issuer.strip_prefix("http://").unwrap()]);
    for same in ["issuer", "client_id", "client_secret", "public_client_id"] {
        assert_eq!(again.said[same], said[same], "{same}");
    }
    assert_eq!(get(&issuer, "/.well-known/jwks.json").1, keys);
    assert_eq!(again.refresh(session["refresh_token"].as_str().unwrap()).0, 200);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_client_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("embedded:{}", dir.path().join("store").display());
    assert_eq!(Dev::start(&["--store", &store]).server.end().code, 0);
    let file = dir.path().join("store.client.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = end_of(rescind().args(["dev", "--store", &store]), "");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("chmod 600 '{}'", file.display())), "{}", refused.stderr);
}

#[test]
fn the_lines_to_paste_do_what_they_say() {
    if Command::new("curl").arg("--version").output().is_err() {
        panic!("there is no curl here; tests/run installs it");
    }
    let mut server = Server::start(rescind().arg("dev"));
    let mut banner = String::new();
    while !banner.ends_with("\n\n") || !banner.contains("curl") {
        let line = server.line();
        assert!(!line.is_empty(), "it ended: {banner}");
        banner.push_str(&line);
    }
    let lines = &banner[banner.find("  ISSUER=").unwrap()..];
    let shell = end_of(Command::new("bash").args(["-euo", "pipefail", "-c", lines]), "");
    assert_eq!(shell.code, 0, "{}", shell.stderr);
    let said: Vec<Value> = shell.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(said[0]["session_id"].is_string(), "{}", said[0]);
    assert!(said[1]["access_token"].is_string(), "{}", said[1]);
    assert_eq!(said[2]["active"], true);
    assert_eq!(said[3]["kind"], "subject");
    assert_eq!(said[4], serde_json::json!({"active": false}));
}

#[test]
fn the_lines_on_keys_do_what_they_say() {
    let mut server = Server::start(rescind().args(["dev", "--publish-ahead", "0ms", "--jwks-max-age", "0ms"]));
    let mut banner = String::new();
    while !banner.contains("rescind keys compromise") {
        let line = server.line();
        assert!(!line.is_empty(), "it ended: {banner}");
        banner.push_str(&line);
    }
    let who = banner.lines().find(|line| line.contains("ISSUER='")).unwrap();
    let lines = &banner[banner.find("  export RESCIND_SERVER").unwrap()..];
    let bin = Path::new(env!("CARGO_BIN_EXE_rescind")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    let shell = end_of(bash.args(["-euo", "pipefail", "-c", &format!("{who}\n{lines}")]).env("PATH", path), "");
    assert_eq!(shell.code, 0, "{}", shell.stderr);
    for done in ["signs from now on", "signs again from now on", "is refused for ever", "verifiers know it"] {
        assert!(shell.stdout.contains(done), "{done}: {}", shell.stdout);
    }
}

#[test]
fn its_logs_hold_no_secret_however_much_is_asked_for() {
    let mut command = rescind();
    let mut server = Server::start(command.args(["dev", "--json"]).env("RUST_LOG", "trace"));
    let said: Value = serde_json::from_str(&server.line()).unwrap();
    let dev = Dev { server, said };
    let session = dev.open("alice");
    let refresh = session["refresh_token"].as_str().unwrap();
    let (_, new) = dev.refresh(refresh);
    let form = format!("token={}", session["access_token"].as_str().unwrap());
    assert_eq!(post(dev.says("issuer"), "/oauth2/introspect", Some(&dev.basic()), FORM, &form).1["active"], true);
    let secret = dev.says("client_secret").to_owned();
    let logs = dev.server.end().stderr;
    assert!(logs.lines().count() > 3, "nothing was logged: {logs}");
    let held = [refresh, new["refresh_token"].as_str().unwrap(), new["access_token"].as_str().unwrap(), &secret];
    for secret in held {
        assert!(!logs.contains(secret), "a secret is in the logs");
    }
}

#[test]
fn a_stop_finishes_the_request_that_is_under_way() {
    let dev = Dev::start(&[]);
    let token = dev.open("alice")["refresh_token"].as_str().unwrap().to_owned();
    let body = format!("grant_type=refresh_token&client_id=dev-public&refresh_token={token}");
    let (half, rest) = body.split_at(40);
    let mut stream = connect(dev.says("issuer"));
    // The answer to `Expect` says that the server has begun with the request.
    let length = body.len();
    let head = format!("Content-Type: {FORM}\r\nContent-Length: {length}\r\nExpect: 100-continue");
    write!(stream, "POST /oauth2/token HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n").unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(half.as_bytes()).unwrap();
    let mut server = dev.server;
    server.terminate();
    let (at, deadline) = (dev.said["issuer"].as_str().unwrap(), 200);
    let closed = (0..deadline).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::net::TcpStream::connect(at.strip_prefix("http://").unwrap()).is_err()
    });
    assert!(closed, "it still takes new connections");
    stream.write_all(rest.as_bytes()).unwrap();
    let (status, tokens) = answer(stream);
    assert_eq!(status, 200, "{tokens}");
    assert!(tokens["refresh_token"].is_string());
    assert_eq!(server.ended().code, 0);
}

#[test]
fn a_second_process_is_kept_from_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("embedded:{}", dir.path().join("store").display());
    let first = Dev::start(&["--store", &store]);
    let second = end_of(rescind().args(["dev", "--store", &store]), "");
    assert_eq!(second.code, 5);
    assert!(second.stderr.contains("another process has this store open"), "{}", second.stderr);
    let body = r#"{"subject":"a","audience":["api"],"scope":""}"#;
    let (status, _) = post(first.says("issuer"), "/v1/sessions", Some(&first.basic()), JSON, body);
    assert_eq!(status, 201, "the first one is not disturbed");
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let refused = end_of(rescind().args(["dev", "--listen", &at]), "");
    assert_eq!(refused.code, 5);
    assert!(refused.stderr.contains(&at) && refused.stderr.contains("port 0"), "{}", refused.stderr);
}

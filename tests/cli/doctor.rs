//! `rescind doctor`: what is well is said to be well, and what is not has a remedy.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rstest::rstest;
use serde_json::Value;

use super::{
    serve::Place,
    support::{Dev, Ended, end_of, rescind},
};

/// Status and detail of one check.
fn found(answer: &Value, name: &str) -> (String, String) {
    let checks = answer["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {answer}"));
    let text = |member: &str| check[member].as_str().unwrap_or_default().to_owned();
    assert_eq!(check["remedy"].is_null(), check["status"] == "ok", "a remedy where one is needed: {check}");
    (text("status"), text("detail"))
}

fn examine(args: &[&str]) -> (Ended, Value) {
    let ended = end_of(rescind().args(["doctor", "--json"]).args(args), "");
    let answer = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {}", ended.stderr));
    (ended, answer)
}

#[test]
fn a_healthy_service_has_nothing_that_fails() {
    let dev = Dev::start(&[]);
    dev.open("alice");
    dev.revoke_subject("alice");
    let mut command = rescind();
    command.args(["doctor", "--json", "--server", dev.says("issuer"), "--operations", dev.says("operations")]);
    command.args(["--client-id", dev.says("client_id")]).env("RESCIND_CLIENT_SECRET", dev.says("client_secret"));
    let ended = end_of(&mut command, "");
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["ok"], true);
    for name in ["reachable", "clock", "metadata", "keys", "feed", "client", "audit", "ready", "entropy"] {
        assert_eq!(found(&answer, name).0, "ok", "{name}: {answer}");
    }
    assert!(found(&answer, "feed").1.contains("1 entries up to position 1"), "the feed was read: {answer}");
    let people = end_of(rescind().args(["doctor", "--server", dev.says("issuer")]), "");
    assert!(people.stdout.contains("ok    feed         verified"), "{}", people.stdout);
}

#[test]
fn an_address_where_nobody_serves_fails() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ended, answer) = examine(&["--server", &format!("http://{nobody}")]);
    assert_eq!((ended.code, &answer["ok"]), (1, &Value::Bool(false)));
    assert_eq!(found(&answer, "reachable").0, "fail");
}

#[test]
fn a_service_that_speaks_for_another_issuer_fails() {
    let dev = Dev::start(&[]);
    let (ended, answer) = examine(&["--server", dev.says("issuer"), "--issuer", "https://auth.example"]);
    assert_eq!(ended.code, 1);
    let (status, detail) = found(&answer, "metadata");
    assert!(status == "fail" && detail.contains("https://auth.example"), "{answer}");
}

#[test]
fn a_client_that_is_not_known_fails_and_its_secret_is_not_told() {
    let dev = Dev::start(&[]);
    let mut command = rescind();
    command.args(["doctor", "--json", "--server", dev.says("issuer"), "--client-id", "dev"]);
    let ended = end_of(command.env("RESCIND_CLIENT_SECRET", "rescind_cs_wrong"), "");
    assert_eq!(ended.code, 1);
    assert_eq!(found(&serde_json::from_str(&ended.stdout).unwrap(), "client").0, "fail");
    assert!(!ended.stdout.contains("rescind_cs_wrong") && !ended.stderr.contains("rescind_cs_wrong"));
}

/// What is exposed, and the check that must say so.
#[rstest]
#[case::the_configuration_can_be_changed("rescind.toml", 0o666, "config file")]
#[case::the_keys_can_be_listed("keys", 0o755, "key files")]
#[case::a_key_can_be_read("keys/secrets.json", 0o644, "key files")]
#[case::no_key_can_be_changed("keys", 0o500, "key files")]
fn files_with_the_wrong_permissions_fail(#[case] file: &str, #[case] mode: u32, #[case] name: &str) {
    let dev = Dev::start(&[]);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node");
    assert_eq!(end_of(rescind().arg("init").arg(&dir), "").code, 0);
    let config = dir.join("rescind.toml");
    let examine = || examine(&["--server", dev.says("issuer"), "--config", config.to_str().unwrap()]);
    let (ended, answer) = examine();
    assert_eq!((ended.code, found(&answer, name).0), (0, "ok".into()), "{answer}");
    set_mode(&dir.join(file), mode);
    let (ended, answer) = examine();
    assert_eq!((ended.code, found(&answer, name).0), (1, "fail".into()), "{answer}");
    assert!(answer.to_string().contains("chmod "), "{answer}");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A service that gives this answer for its keys, and the right one for its metadata.
fn with_keys(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let metadata = format!(r#"{{"issuer":"{base}","jwks_uri":"{base}/jwks"}}"#);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), [0; 4096]);
            let length = stream.read(&mut head).unwrap_or(0);
            let asked = String::from_utf8_lossy(&head[..length]).into_owned();
            let (status, body) =
                if asked.starts_with("GET /jwks") { answer.split_once(' ').unwrap() } else { ("200", &*metadata) };
            let length = body.len();
            let _ =
                write!(stream, "HTTP/1.1 {status} .\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    base
}

#[test]
fn each_cause_has_a_remedy_of_its_own() {
    let remedy = |answer: &Value, name: &str| {
        let checks = answer["checks"].as_array().unwrap();
        let check =
            checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {answer}"));
        check["remedy"].as_str().unwrap_or_else(|| panic!("{name} is well: {answer}")).to_owned()
    };
    let of_keys = |answer: &'static str| {
        let (ended, found) = examine(&["--server", &with_keys(answer)]);
        assert_eq!(ended.code, 1, "{answer}: {found}");
        remedy(&found, "keys")
    };
    // At once: each waits a while for a feed that is not there.
    std::thread::scope(|at_once| {
        for (answer, says) in [
            ("404 none", "do the paths of the issuer reach the service"),
            ("429 none", "wait, or raise [rates]"),
            ("503 none", "--operations"),
            ("200 none", "is it a Rescind service"),
        ] {
            at_once.spawn(move || {
                let remedy = of_keys(answer);
                assert!(remedy.contains(says), "{answer}: {remedy}");
            });
        }
    });
    let dev = Dev::start(&[]);
    let nobody = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for (operations, says) in [
        ("9090", "write it as http://127.0.0.1:9090"),
        ("http://operations.example", "use https"),
        (dev.says("issuer"), "the operations listener?"),
        (&nobody, "does the service run"),
    ] {
        let (ended, found) = examine(&["--server", dev.says("issuer"), "--operations", operations]);
        assert_eq!(ended.code, 1, "{operations}: {found}");
        assert!(found.to_string().contains(says), "{operations}: {found}");
    }
}

#[test]
fn what_is_missing_on_the_machine_that_serves_is_told_by_what_it_is() {
    let (dev, place) = (Dev::start(&[]), Place::new());
    let examine = |config: &Path| examine(&["--server", dev.says("issuer"), "--config", config.to_str().unwrap()]).1;
    let remedy = |answer: &Value, name: &str| {
        let check = answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap();
        format!("{} -> {}", check["detail"], check["remedy"])
    };
    let file = place.file();
    let fresh = examine(&file);
    assert!(remedy(&fresh, "store").contains("the first start"), "{fresh}");
    place.change("\n# passphrase_file = \"passphrase\"", "\npassphrase_file = \"none\"");
    let without = examine(&file);
    assert!(remedy(&without, "passphrase").contains("keys.passphrase_file"), "{without}");
    place.change("\npassphrase_file = \"none\"", "");
    fs::write(place.dir.join("store"), "a store").unwrap();
    fs::rename(place.dir.join("keys"), place.dir.join("away")).unwrap();
    let lost = examine(&file);
    let config = remedy(&lost, "config");
    assert!(config.contains("no keys are here") && config.contains("config check"), "{lost}");
    fs::remove_file(&file).unwrap();
    assert!(remedy(&examine(&file), "config").contains("rescind init"));
}

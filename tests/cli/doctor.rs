//! `rescind doctor`: what is well is said to be well, and what is not has a remedy.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use rstest::rstest;
use serde_json::Value;

use super::support::{Dev, Ended, end_of, rescind};

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
fn files_that_others_can_reach_fail(#[case] file: &str, #[case] mode: u32, #[case] name: &str) {
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

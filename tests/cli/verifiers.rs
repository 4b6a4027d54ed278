//! `rescind verifiers list`, and the sidecar that reports under a name.

use std::{io::Write, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    mask::Mask,
    support::{Basic, Dev, Ended, answer, connect, end_of, get, rescind},
    transcripts::check,
    verifier::{Sidecar, soon},
};

fn command(dev: &Dev, args: &str) -> Command {
    let mut command = rescind();
    command.env("RESCIND_SERVER", dev.says("issuer")).env("RESCIND_CLIENT_ID", dev.says("client_id"));
    command.env("RESCIND_CLIENT_SECRET", dev.says("client_secret")).args(args.split(' '));
    command
}

fn run(dev: &Dev, args: &str) -> Ended {
    end_of(&mut command(dev, args), "")
}

fn listed(dev: &Dev) -> Value {
    serde_json::from_str(&run(dev, "verifiers list --json").stdout).unwrap()
}

/// A follower that says who it is and has read nothing yet.
fn asks_once(dev: &Dev, name: &str) {
    let Basic(id, secret) = dev.basic();
    let by = BASE64_STANDARD.encode(format!("{id}:{secret}"));
    let mut stream = connect(dev.says("issuer"));
    let head = format!("Host: test\r\nConnection: close\r\nAuthorization: Basic {by}\r\nVerifier-Name: {name}");
    write!(stream, "GET /v1/feed?nonce=AAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
    assert_eq!(answer(stream).0, 200);
}

/// By the same environment as the operator's commands.
fn reporting(dev: &Dev, name: &str) -> Sidecar {
    let [id, secret] = ["client_id", "client_secret"].map(|name| dev.says(name));
    let environment = [("RESCIND_CLIENT_ID", id), ("RESCIND_CLIENT_SECRET", secret)];
    Sidecar::start_with(dev.says("issuer"), &["--name", name], &environment)
}

#[test]
fn what_people_and_scripts_read_of_verifiers() {
    let dev = Dev::start(&[]);
    let mut mask = Mask::default();
    let mut text = String::new();
    let mut show = |args: &str| {
        let ended = run(&dev, args);
        text += &mask.apply(&format!("$ rescind {args}\n{}{}[{}]\n\n", ended.stdout, ended.stderr, ended.code));
    };
    show("verifiers list");
    show("verifiers list --position 0");
    show("verifiers list --json");
    let _shop = reporting(&dev, "shop-1");
    soon("it reports", || listed(&dev)["states"]["current"] == 1);
    dev.revoke_subject("alice");
    soon("it has applied that", || {
        let one = &listed(&dev)["verifiers"][0];
        one["position"] == 1 && one["keys_current"] == true
    });
    show("verifiers list");
    show("verifiers list --position 1");
    asks_once(&dev, "shop-2");
    show("verifiers list");
    show("verifiers list --position 1");
    show("verifiers list --position 2");
    show("verifiers list --json --position 1");
    check("verifiers", &text);
}

#[test]
fn a_compromise_says_who_refuses_the_key_and_who_does_not_yet() {
    let dev = Dev::start(&[]);
    let give_up = || {
        let keys: Value = serde_json::from_str(&run(&dev, "keys list --json").stdout).unwrap();
        let signs = keys["keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap();
        let ended = run(&dev, &format!("keys compromise {} --yes", signs["kid"].as_str().unwrap()));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let told = |line: &&str| line.starts_with("Verifiers with the feed");
        ended.stdout.lines().rev().find(told).unwrap().to_owned()
    };
    assert_eq!(give_up(), "Verifiers with the feed: none reports how far it is.");
    let _shop = reporting(&dev, "shop-1");
    soon("it reports", || listed(&dev)["states"]["current"] == 1);
    let told = give_up();
    assert!(told.contains(": 1 of 1 refuse it, the last since 20") && told.ends_with("Z."), "{told}");
    asks_once(&dev, "shop-2");
    let told = give_up();
    assert!(told.contains(": 1 of 2 refuse it, the last since 20"), "{told}");
    assert!(told.ends_with("; 1 not after 10s: rescind verifiers list --position 3."), "{told}");
}

#[test]
fn a_sidecar_says_whether_its_reports_are_taken_and_never_by_which_secret() {
    let dev = Dev::start(&[]);
    let sidecar = reporting(&dev, "shop-1");
    soon("it reports", || get(sidecar.at("operations"), "/state").1["issuers"][0]["reported"] == "taken");
    assert_eq!(listed(&dev)["verifiers"][0]["name"], "shop-1");
    let logs = sidecar.server.end().stderr;
    assert!(logs.contains("the issuer takes the reports"), "{logs}");
    assert!(!logs.contains(dev.says("client_secret")), "the secret is in the log");
    let environment = [("RESCIND_CLIENT_SECRET", "wrong"), ("RESCIND_VERIFIER_NAME", "shop-2")];
    let refused = Sidecar::start_with(dev.says("issuer"), &["--client-id", dev.says("client_id")], &environment);
    soon("it judges tokens", || get(refused.at("operations"), "/readyz").0 == 200);
    soon("it knows", || get(refused.at("operations"), "/state").1["issuers"][0]["reported"] == "unauthenticated");
    let logs = refused.server.end().stderr;
    assert!(logs.contains("does not take the reports") && logs.contains("its secret is wrong"), "{logs}");
    assert_eq!(listed(&dev)["verifiers"].as_array().unwrap().len(), 1);
}

/// An operator's shell has the same variables for other commands.
#[test]
fn without_a_name_no_secret_is_sent() {
    let dev = Dev::start(&[]);
    let [id, secret] = ["client_id", "client_secret"].map(|name| dev.says(name));
    let environment = [("RESCIND_CLIENT_ID", id), ("RESCIND_CLIENT_SECRET", secret)];
    let sidecar = Sidecar::start_with(dev.says("issuer"), &[], &environment);
    soon("it judges tokens", || get(sidecar.at("operations"), "/readyz").0 == 200);
    assert_eq!(get(sidecar.at("operations"), "/state").1["issuers"][0]["reported"], Value::Null);
    assert_eq!(listed(&dev)["verifiers"], json!([]));
}

#[test]
fn a_secret_is_for_one_issuer() {
    let two = "verifier --issuer https://a.example --issuer https://b.example --audience api --listen 127.0.0.1:0";
    let mut command = rescind();
    command.args(two.split(' ')).args(["--name", "shop-1", "--client-id", "shop"]);
    let ended = end_of(command.env("RESCIND_CLIENT_SECRET", "secret"), "");
    assert_eq!((ended.code, &*ended.stdout), (2, ""));
    assert!(ended.stderr.contains("for one issuer"), "{}", ended.stderr);
}

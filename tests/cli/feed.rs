//! `rescind feed tail`: what has been revoked, as verifiers hear of it.

use serde_json::{Value, json};

use super::support::{Dev, JSON, Server, end_of, post, rescind};

fn revoke(dev: &Dev, order: &str) -> Value {
    let (status, answer) = post(dev.says("issuer"), "/v1/revocations", Some(&dev.basic()), JSON, order);
    assert_eq!(status, 201, "{answer}");
    answer
}

#[test]
fn it_prints_what_is_denied_in_order_and_ends() {
    let dev = Dev::start(&[]);
    let tail = |args: &[&str]| end_of(rescind().args(["feed", "tail", "--issuer", dev.says("issuer")]).args(args), "");
    let nothing = tail(&[]);
    assert_eq!((nothing.code, &*nothing.stdout, &*nothing.stderr), (0, "", ""));

    let session = dev.open("alice");
    let id = session["session_id"].as_str().unwrap();
    revoke(&dev, &format!(r#"{{"kind":"session","id":"{id}"}}"#));
    let subject = revoke(&dev, r#"{"kind":"subject","id":"alice"}"#);
    revoke(&dev, r#"{"kind":"client","id":"app","ends":"tokens"}"#);
    let people = tail(&[]);
    let kinds: Vec<_> = people.stdout.lines().map(|l| l.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    assert_eq!(kinds, [["1", "session"], ["2", "subject"], ["3", "client"]], "{}", people.stdout);
    assert!(people.stdout.contains(id) && people.stdout.contains("tokens minted before"), "{}", people.stdout);

    let scripts = tail(&["--json"]);
    let lines: Vec<Value> = scripts.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&lines[0]["sid"], &lines[1]["sub_ref"]), (&json!(id), &subject["subject_ref"]));
    assert_eq!((&lines[2]["client_id"], &lines[2]["ends"]), (&json!("app"), &json!("tokens")));
    assert!(lines.iter().all(|line| line["epoch"] == lines[0]["epoch"] && line["epoch"].is_string()));
    assert!(!scripts.stdout.contains("alice"), "it names a subject");
}

#[test]
fn it_follows_until_it_is_told_to_end() {
    let dev = Dev::start(&[]);
    dev.revoke_subject("alice");
    let mut command = rescind();
    let mut tail = Server::start(command.args(["feed", "tail", "--follow", "--json", "--issuer", dev.says("issuer")]));
    let mut next = || serde_json::from_str::<Value>(&tail.line()).unwrap();
    assert_eq!(next()["n"], 1);
    revoke(&dev, r#"{"kind":"client","id":"app"}"#);
    let second = next();
    assert_eq!((&second["n"], &second["client_id"]), (&json!(2), &json!("app")));
    let ended = tail.end();
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (0, "", ""));
}

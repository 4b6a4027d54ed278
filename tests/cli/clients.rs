//! `rescind client`: an operator's work on clients, against a service that runs; and what a crash leaves of it.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use rescind::{
    clock::{Clock, SystemClock},
    service::SecretHash,
};
use serde_json::{Value, json};

use super::{
    serve::Place,
    support::{Basic, Ended, FORM, JSON, end_of, get, post, rescind},
    transcripts::check,
};

#[path = "../common/forge.rs"]
mod forge;

use forge::{Forge, Members};

/// A node with a login application, which has a secret; a worker, which has a key; and a public client.
struct Desk {
    place: Place,
    login: Basic,
    worker: Forge,
}

impl Desk {
    fn new() -> Self {
        let place = Place::new();
        let made = end_of(rescind().args(["client", "generate-secret", "--json"]), "");
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        let [secret, hash] = ["client_secret", "secret_sha256"].map(|name| made[name].as_str().unwrap().to_owned());
        let worker = Forge::new(SystemClock::default().now().seconds());
        let more = format!(
            "[[clients]]\nid = \"login\"\nsecret_sha256 = [\"{hash}\"]\npermissions = [\"sessions:open\"]\n\
             audience = [\"api\"]\n\n[[clients]]\nid = \"worker\"\npermissions = [\"client_credentials\"]\n\
             jwks_file = \"worker.json\"\naudience = [\"api\"]\n\n[[clients]]\nid = \"phone\"\n"
        );
        let text = fs::read_to_string(place.file()).unwrap() + "\n" + &more;
        fs::write(place.file(), text).unwrap();
        fs::write(place.dir.join("worker.json"), json!(worker.jwks()).to_string()).unwrap();
        Self { place, login: Basic("login".into(), secret), worker }
    }

    fn command(&self, args: &str) -> Command {
        let mut command = rescind();
        command.args(args.replace("DIR", self.place.dir.to_str().unwrap()).split(' '));
        command.env("RESCIND_SERVER", &self.place.issuer).env("RESCIND_CLIENT_ID", &self.place.operator.0);
        command.env("RESCIND_CLIENT_SECRET", &self.place.operator.1);
        command
    }

    fn run(&self, args: &str) -> Ended {
        end_of(&mut self.command(args), "")
    }

    fn json(&self, args: &str) -> Value {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{args}: {e}: {}", ended.stdout))
    }

    fn open(&self, by: &Basic) -> (u16, Value) {
        let body = r#"{"subject":"alice","audience":["api"],"scope":"read","client_id":"phone"}"#;
        post(&self.place.issuer, "/v1/sessions", Some(by), JSON, body)
    }

    /// A token for the worker, by an assertion of this name.
    fn work(&self, jti: &str) -> u16 {
        let claims = Members::default().text("iss", "worker").text("sub", "worker").text("aud", &self.place.issuer);
        let claims = claims.text("jti", jti).set("exp", self.worker.now + 200);
        let header = Members::default().text("alg", "EdDSA");
        let kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
        let form = format!(
            "grant_type=client_credentials&client_assertion_type={kind}&client_assertion={}",
            self.worker.mint(&header, &claims)
        );
        post(&self.place.issuer, "/oauth2/token", None, FORM, &form).0
    }
}

/// The same text in every run: instants and names of secrets by others as long.
fn mask(text: &str, known: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in known {
        text = text.replace(from, to);
    }
    let mut masked = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find("20") {
        let (before, from) = rest.split_at(at);
        masked += before;
        let is_instant = from.get(..20).is_some_and(|t| t.ends_with('Z') && t.as_bytes()[10] == b' ');
        let length = if is_instant { 20 } else { 2 };
        masked += if is_instant { "2026-01-31 12:00:00Z" } else { "20" };
        rest = &from[length..];
    }
    masked + rest
}

#[test]
fn transcript_of_an_operators_work_on_clients() {
    let desk = Desk::new();
    let _server = desk.place.start(&[], 200);
    let (status, session) = desk.open(&desk.login);
    assert_eq!(status, 201, "{session}");
    let (old, own) = (SecretHash::of(&desk.login.1).id(), SecretHash::of(&desk.place.operator.1).id());
    let kid = desk.worker.kid();
    let mut known = vec![(old, "(old secret)"), (own, "(own secret)"), (kid, "(the worker's key)")];
    let mut text = String::new();
    for args in [
        "client list",
        "client show worker",
        "client disable login --end-sessions --dry-run",
        "client disable login --reason leaked --yes",
        "client show login",
        "client enable login",
        "client disable phone --end-sessions --yes",
        "client disable phone",
        "client disable operator --yes",
        "client disable nobody --yes",
        "client rotate-secret login --drop-old-after 1d --secret-file DIR/new",
        "client rotate-secret login --secret-file DIR/new",
        "client rotate-secret login --secret-file DIR/other",
        "client show login",
        "client rotate-secret phone",
        "client rotate-secret login --drop-old-after soon",
        "client rotate-secret login --drop-old",
        "client drop-secret login 000000000000 --yes",
        "client enable nobody",
    ] {
        let ended = desk.run(args);
        if let Ok(new) = fs::read_to_string(desk.place.dir.join("new")) {
            known.push((SecretHash::of(new.trim()).id(), "(new secret)"));
        }
        text += &format!("$ rescind {args}\n{}{}[{}]\n\n", ended.stdout, ended.stderr, ended.code);
    }
    let place = desk.place.dir.to_string_lossy();
    let mut names: Vec<(&str, &str)> = known.iter().map(|(from, to)| (&**from, *to)).collect();
    names.push((&place, "DIR"));
    check("clients", &mask(&text, &names));
    assert!(!desk.place.dir.join("other").exists(), "no file is left where no secret was made");
}

#[test]
fn a_client_that_was_disabled_is_refused_until_it_is_enabled_also_after_a_crash() {
    let desk = Desk::new();
    let server = desk.place.start(&[], 200);
    assert_eq!(desk.open(&desk.login).0, 201);
    let done = desk.json("client disable login --end-sessions --yes --json");
    assert_eq!((&done["client"]["state"], &done["revocation"]["kind"]), (&json!("disabled"), &json!("client")));
    assert!(done["revocation"]["effect"]["here_from"].is_string());
    assert_eq!(desk.open(&desk.login).0, 401);
    // `kill -9`: acknowledged means durable.
    drop(server);
    let _server = desk.place.start(&[], 200);
    assert_eq!(desk.open(&desk.login).0, 401);
    assert_eq!(desk.json("client enable login --json")["state"], "enabled");
    assert_eq!(desk.open(&desk.login).0, 201);
}

#[test]
fn a_new_secret_goes_to_a_file_of_its_own_and_works() {
    let desk = Desk::new();
    let _server = desk.place.start(&[], 200);
    let made = desk.json("client rotate-secret login --drop-old --yes --json --secret-file DIR/new");
    assert_eq!(made["client_secret"], Value::Null, "it is in the file, and nowhere else");
    let file = desk.place.dir.join("new");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let new = fs::read_to_string(&file).unwrap();
    assert_eq!((desk.open(&desk.login).0, desk.open(&Basic("login".into(), new.trim().into())).0), (401, 201));
    let printed = desk.run("client rotate-secret login");
    assert_eq!(printed.stdout.lines().count(), 1, "the secret alone, for a pipe");
    assert_eq!(desk.open(&Basic("login".into(), printed.stdout.trim().into())).0, 201);
    let both = desk.json("client list --json");
    let login = both["clients"].as_array().unwrap().iter().find(|c| c["client_id"] == "login").unwrap();
    assert_eq!(login["secrets"].as_array().unwrap().len(), 2);
    let dropped = SecretHash::of(new.trim()).id();
    assert_eq!(desk.run(&format!("client drop-secret login {dropped} --yes")).code, 0);
    assert_eq!(desk.open(&Basic("login".into(), new.trim().into())).0, 401);
    let (_, log) = get(&desk.place.operations, "/metrics");
    assert!(!log.to_string().contains(new.trim()));
}

#[test]
fn an_assertion_that_was_used_is_refused_also_after_a_crash() {
    let desk = Desk::new();
    let server = desk.place.start(&[], 200);
    assert_eq!((desk.work("once"), desk.work("once")), (200, 401));
    drop(server);
    let _server = desk.place.start(&[], 200);
    assert_eq!((desk.work("once"), desk.work("twice")), (401, 200));
}

#[test]
fn a_generated_secret_and_its_hash_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let made = end_of(rescind().args(["client", "generate-secret"]), "");
    let lines: Vec<&str> = made.stdout.lines().collect();
    let [secret, hash] = lines[..] else { panic!("{}", made.stdout) };
    let secret = secret.strip_prefix("client_secret=").unwrap();
    assert_eq!(hash.strip_prefix("secret_sha256="), Some(&*SecretHash::of(secret).to_hex()));
    let file = dir.path().join("secret");
    let run = || end_of(rescind().args(["client", "generate-secret", "--secret-file"]).arg(&file), "");
    let made = run();
    let kept = fs::read_to_string(&file).unwrap();
    assert_eq!(made.stdout.trim(), format!("secret_sha256={}", SecretHash::of(kept.trim()).to_hex()));
    let again = run();
    assert_eq!((again.code, &*again.stdout), (2, ""), "a secret that is there is not overwritten");
    assert_eq!(fs::read_to_string(&file).unwrap(), kept);
}

/// Whatever a client may and however far it reaches, somebody must be able to replace its leaked secret.
#[test]
fn the_operator_that_init_makes_can_replace_any_clients_secret() {
    let place = Place::new();
    let client = |id: &str, more: &str| {
        let hash = SecretHash::of(id).to_hex();
        format!("\n[[clients]]\nid = \"{id}\"\nsecret_sha256 = [\"{hash}\"]\n{more}\n")
    };
    let text = fs::read_to_string(place.file()).unwrap()
        + &client("wide", "permissions = [\"sessions:open\"]")
        + &client("worker", "permissions = [\"client_credentials\"]\naudience = [\"billing\"]")
        + &client("other-operator", "permissions = [\"revoke\", \"clients:write\", \"store:restore\"]");
    fs::write(place.file(), text).unwrap();
    let _server = place.start(&[], 200);
    for id in ["wide", "worker", "other-operator"] {
        let mut command = rescind();
        command.args(["client", "rotate-secret", id, "--drop-old", "--yes"]);
        command.env("RESCIND_SERVER", &place.issuer).env("RESCIND_CLIENT_ID", &place.operator.0);
        let ended = end_of(command.env("RESCIND_CLIENT_SECRET", &place.operator.1), "");
        assert_eq!(ended.code, 0, "{id}: {}", ended.stderr);
    }
}

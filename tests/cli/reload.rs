//! SIGHUP: what a running service takes up, and what it does with a configuration that is no good.

use std::{fs, time::Duration};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    serve::Place,
    support::{Basic, FORM, JSON, PATIENCE, Server, get, post},
};

const SECRET: &str = "rescind_cs_of_the_second_client";

/// Another confidential client, which may introspect, and a public one.
fn clients(second: &str, app: &str) -> String {
    let hash: String = Sha256::digest(SECRET).iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "\n[[clients]]\nid = \"second\"\nsecret_sha256 = [\"{hash}\"]\npermissions = [\"introspect\"]\n{second}\n\
         [[clients]]\nid = \"app\"\n{app}\n"
    )
}

struct Reloading {
    place: Place,
    server: Server,
    /// The file as `init` wrote it.
    base: String,
}

impl Reloading {
    fn start(added: &str) -> Self {
        let place = Place::new();
        let base = fs::read_to_string(place.file()).unwrap();
        fs::write(place.file(), format!("{base}{added}")).unwrap();
        let server = place.start(&[], 200);
        Self { place, server, base }
    }
    /// Puts these lines at the file's end, and returns once the service has read it `outcome`.
    fn reload(&self, added: &str, outcome: &str) {
        fs::write(self.place.file(), format!("{}{added}", self.base)).unwrap();
        let before = self.metric(outcome);
        self.server.sighup();
        self.wait(|| self.metric(outcome) == before + 1);
    }
    fn wait(&self, done: impl Fn() -> bool) {
        let tries = PATIENCE.as_millis() / 20;
        assert!(
            (0..tries).any(|_| done() || {
                std::thread::sleep(Duration::from_millis(20));
                false
            }),
            "it did not come"
        );
    }
    fn metric(&self, outcome: &str) -> u64 {
        self.value(&format!("rescind_config_reloads_total{{outcome=\"{outcome}\"}}"))
    }
    fn value(&self, name: &str) -> u64 {
        let (_, text) = get(&self.place.operations, "/metrics");
        let text = text.as_str().unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
    fn introspect(&self, by: &Basic, token: &str) -> (u16, Value) {
        post(&self.place.issuer, "/oauth2/introspect", Some(by), FORM, &format!("token={token}"))
    }
    /// A session of the public client.
    fn open(&self) -> Value {
        let body = r#"{"subject":"alice","audience":["api"],"scope":"read","client_id":"app"}"#;
        let (status, session) = post(&self.place.issuer, "/v1/sessions", Some(&self.place.operator), JSON, body);
        assert_eq!(status, 201, "{session}");
        session
    }
    fn refresh(&self, token: &Value) -> (u16, Value) {
        let form = format!("grant_type=refresh_token&client_id=app&refresh_token={}", token.as_str().unwrap());
        post(&self.place.issuer, "/oauth2/token", None, FORM, &form)
    }
}

fn second() -> Basic {
    Basic("second".into(), SECRET.into())
}

#[test]
fn a_reload_takes_up_clients_and_a_broken_file_changes_nothing() {
    let running = Reloading::start("");
    assert_eq!(running.introspect(&second(), "x").0, 401, "nobody knows it yet");
    running.reload(&clients("", ""), "done");
    assert_eq!(running.introspect(&second(), "x").0, 200);
    // A mistake far from the clients, who are gone from the file too.
    running.reload("\n[limit]\n", "failed");
    assert_eq!(running.introspect(&second(), "x").0, 200, "the old configuration stays as a whole");
    running.reload("", "done");
    assert_eq!(running.introspect(&second(), "x").0, 401, "it is gone from the file");
    let ended = running.server.end();
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("unknown key `limit`; did you mean `limits`?"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the one before stays in force"), "{}", ended.stderr);
}

#[test]
fn a_disabled_client_is_refused_at_once_and_its_sessions_are_kept() {
    let running = Reloading::start(&clients("", ""));
    let session = running.open();
    running.reload(&clients("disabled = true", "disabled = true"), "done");
    assert_eq!(running.introspect(&second(), "x").0, 401, "whatever it proves");
    let (status, refused) = running.refresh(&session["refresh_token"]);
    assert_eq!((status, &refused["error"]), (401, &"invalid_client".into()));
    let body = r#"{"subject":"bob","audience":["api"],"scope":"read","client_id":"app"}"#;
    let (status, refused) = post(&running.place.issuer, "/v1/sessions", Some(&running.place.operator), JSON, body);
    assert_eq!(status, 400, "no session is opened for it: {refused}");
    running.reload(&clients("", ""), "done");
    assert_eq!(running.refresh(&session["refresh_token"]).0, 200, "what it had, it has again");
}

#[test]
fn the_sessions_of_a_disabled_client_end_if_that_is_chosen() {
    let ends =
        |text: String| text.replacen("\n[sessions]\n", "\n[sessions]\non_client_disabled = \"end_sessions\"\n", 1);
    let mut running = Reloading::start(&clients("", ""));
    running.base = ends(running.base);
    running.reload(&clients("", ""), "done");
    let session = running.open();
    let active = |running: &Reloading| {
        let token = session["access_token"].as_str().unwrap();
        running.introspect(&running.place.operator, token).1["active"] == true
    };
    assert!(active(&running));
    running.reload(&clients("", "disabled = true"), "done");
    running.wait(|| !active(&running));
    running.reload(&clients("", ""), "done");
    let (status, refused) = running.refresh(&session["refresh_token"]);
    assert_eq!((status, &refused["error"]), (400, &"invalid_grant".into()), "it has ended for good");
    assert_eq!(running.refresh(&running.open()["refresh_token"]).0, 200, "what is opened afterwards lives");
}

#[test]
fn sessions_end_at_the_next_start_if_their_client_was_disabled_meanwhile() {
    let mut running = Reloading::start(&clients("", ""));
    let session = running.open();
    running.base = running.base.replacen("\n[sessions]\n", "\n[sessions]\non_client_disabled = \"end_sessions\"\n", 1);
    let Reloading { mut place, server, base } = running;
    assert_eq!(server.end().code, 0);
    fs::write(place.file(), format!("{base}{}", clients("", "disabled = true"))).unwrap();
    let token = session["access_token"].as_str().unwrap().to_owned();
    let mut entries = Vec::new();
    for _ in 0..2 {
        let server = place.start(&[], 200);
        let running = Reloading { place, server, base: base.clone() };
        running.wait(|| running.introspect(&running.place.operator, &token).1["active"] == false);
        let feed = rescind_feed(&running.place.issuer);
        entries.push(feed);
        assert_eq!(running.server.end().code, 0);
        place = running.place;
    }
    assert_eq!(entries[0], 1, "one cut-off");
    assert_eq!(entries[1], 1, "and no other one, for there was nothing more to end");
}

fn rescind_feed(issuer: &str) -> usize {
    let tail =
        super::support::end_of(super::support::rescind().args(["feed", "tail", "--json", "--issuer", issuer]), "");
    assert_eq!(tail.code, 0, "{}", tail.stderr);
    tail.stdout.lines().count()
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let mut running = Reloading::start("");
    running.base = running.base.replacen("\n[limits]\n", "\n[limits]\nbody = \"32KiB\"\n", 1);
    running.reload("", "done");
    assert_eq!(running.value("rescind_config_restart_needed"), 1);
    let ended = running.server.end();
    assert!(ended.stderr.contains("limits.body") && ended.stderr.contains("need a restart"), "{}", ended.stderr);
}

//! The story, step by step.

use std::fs;

use serde_json::Value;

use super::site::{Site, soon};
use crate::support::{Server, connect};

#[test]
fn a_new_operator_cuts_one_session_off_and_restores_a_backup_and_the_log_says_who_did_it() {
    let mut site = Site::set_up();
    assert_eq!(site.run("operator", &["doctor"]).code, 0, "{}", site.run("operator", &["doctor"]).stdout);
    let sessions = ["phone", "laptop"].map(|device| log_in(&site, "alice", device));
    let other = log_in(&site, "bob", "tablet");
    let sidecar = Sidecar::start(&site);
    for session in sessions.iter().chain([&other]) {
        assert!(soon(|| sidecar.ask(session) == 200), "a good token is accepted");
    }
    let lost = one_persons_sessions(&site, &sessions);
    backs_up(&site);
    cuts_off(&site, &lost);
    is_refused(&site, &sidecar, &sessions[0]);
    for session in [&sessions[1], &other] {
        assert_eq!((sidecar.ask(session), introspected(&site, session)), (200, true), "nobody else is touched");
    }
    assert_eq!(refreshed(&site, &sessions[1]), None);
    the_log_says_who(&site, &lost);
    restores(&mut site, &sessions, &other);
}

/// The login application opens a session for the public client `app`.
pub fn log_in(site: &Site, subject: &str, device: &str) -> Value {
    let file = site.path(&format!("{subject}-{device}.json")).display().to_string();
    let opening = ["session", "open", subject, "--audience", "api", "--scope", "orders:read", "--for-client", "app"];
    let ended = site.run("login", &[&opening[..], &["--device", device, "--tokens-file", &file]].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

pub fn member<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// The login application may not look; the operator may, and finds the phone's.
fn one_persons_sessions(site: &Site, sessions: &[Value; 2]) -> String {
    assert_eq!(site.run("login", &["session", "list", "alice"]).code, 4, "not permitted");
    let listed = site.ask("operator", &["session", "list", "alice"]);
    let listed = listed["sessions"].as_array().unwrap();
    let ids: Vec<&str> = listed.iter().map(|s| member(s, "session_id")).collect();
    assert_eq!(ids, sessions.each_ref().map(|s| member(s, "session_id")), "hers and no other's");
    let phone = listed.iter().find(|s| s["device"]["label"] == "phone").unwrap();
    member(phone, "session_id").to_owned()
}

fn cuts_off(site: &Site, session: &str) {
    let order = ["session", "revoke", session, "--reason", "lost phone"];
    let would = site.ask("operator", &[&order[..], &["--dry-run"]].concat());
    assert_eq!((&would["dry_run"], &would["sessions"]), (&true.into(), &1.into()), "{would}");
    assert_eq!(site.run("operator", &order).code, 2, "nobody is there to ask, so nothing is done");
    let ended = site.ask("operator", &[&order[..], &["--yes"]].concat());
    assert_eq!(ended["sessions"], 1, "{ended}");
    assert_eq!(site.ask("operator", &["session", "show", session])["state"], "closed");
}

/// By introspection at once, by a verifier moments later, and there is no refreshing.
fn is_refused(site: &Site, sidecar: &Sidecar, session: &Value) {
    assert!(!introspected(site, session));
    assert!(soon(|| sidecar.ask(session) == 401), "the verifier has not heard of it");
    assert_eq!(refreshed(site, session).as_deref(), Some("invalid_grant"));
}

pub fn introspected(site: &Site, session: &Value) -> bool {
    let by = format!("operator:{}", site.secret("operator"));
    site.form("/oauth2/introspect", &["-u", &by], member(session, "access_token"))["active"].as_bool().unwrap()
}

/// None: it was; else the error.
pub fn refreshed(site: &Site, session: &Value) -> Option<String> {
    let form = ["-d", "grant_type=refresh_token", "-d", "client_id=app"];
    let answer = site.form("/oauth2/token", &form, member(session, "refresh_token"));
    answer["error"].as_str().map(str::to_owned)
}

fn backs_up(site: &Site) {
    let done = site.ask("operator", &["backup", "--to", "monday.backup"]);
    assert!(done["rows"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(site.run("login", &["backup", "--to", "mine"]).code, 4, "not permitted");
}

/// Who revoked which session, why, and from where; nginx is not taken for the operator.
fn the_log_says_who(site: &Site, session: &str) {
    let log = site.ask("operator", &["audit", "list", "--session", session]);
    let records = log["records"].as_array().unwrap();
    let opened = records.iter().find(|r| r["event"] == "session_opened").unwrap();
    assert_eq!((member(opened, "actor"), member(opened, "client_id")), ("login", "app"));
    let revoked = records.iter().find(|r| r["event"] == "revoked").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((member(revoked, "actor"), member(revoked, "subject")), ("operator", "alice"));
    assert!(member(revoked, "cause").contains("lost phone"), "{revoked}");
    assert!(member(revoked, "ip").starts_with("127."), "{revoked}");
    let all = site.run("operator", &["audit", "list"]).stdout;
    for held in ["alice-phone", "login"].map(|name| (name, site.path(&format!("{name}.json")))) {
        let Ok(text) = fs::read_to_string(held.1) else { continue };
        let tokens: Value = serde_json::from_str(&text).unwrap();
        assert!(!all.contains(member(&tokens, "access_token")), "{} has a token in the log", held.0);
    }
}

/// The backup is from before the phone was lost, so everyone logs in again: the thief does not come back with it.
fn restores(site: &mut Site, sessions: &[Value; 2], other: &Value) {
    let config = site.config();
    site.stop();
    let order = ["restore", "monday.backup", "--config", &config];
    let refused = site.run("operator", &order);
    assert_eq!(refused.code, 2, "there is a store, and nobody said that it may go");
    let done = site.run("operator", &[&order[..], &["--yes"]].concat());
    assert_eq!(done.code, 0, "{}", done.stderr);
    site.start();
    for session in sessions.iter().chain([other]) {
        assert_eq!(refreshed(site, session).as_deref(), Some("invalid_grant"), "sessions of the backup have ended");
        assert!(!introspected(site, session));
    }
    assert_eq!(refreshed(site, &log_in(site, "alice", "new")), None, "she logs in again");
    let log = site.ask("operator", &["audit", "list"]);
    let events: Vec<&str> = log["records"].as_array().unwrap().iter().map(|r| member(r, "event")).collect();
    assert!(events.contains(&"store_accepted"), "the restore is in the log: {events:?}");
}

/// `rescind verifier`, which finds its issuer through nginx.
struct Sidecar {
    _server: Server,
    at: String,
}

impl Sidecar {
    fn start(site: &Site) -> Self {
        let arguments =
            ["verifier", "--issuer", &site.issuer, "--audience", "api", "--listen", "127.0.0.1:0", "--json"];
        let mut server = Server::start(&mut site.command("operator", &arguments));
        let line = server.line();
        let said: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}: {}", server.ended().stderr));
        Self { at: member(&said, "listen").to_owned(), _server: server }
    }

    /// What a proxy with this session's access token is told.
    fn ask(&self, session: &Value) -> u16 {
        let mut stream = connect(&self.at);
        let bearer = member(session, "access_token");
        let head =
            format!("GET /orders HTTP/1.1\r\nHost: api\r\nConnection: close\r\nAuthorization: Bearer {bearer}\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        crate::support::answer(stream).0
    }
}

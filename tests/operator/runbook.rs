//! docs/how-to/incident.md, pasted as it is written, with the leak before each of its sections.

use std::{fs, path::Path};

use serde_json::Value;

use super::{
    site::Site,
    story::{introspected, log_in, member, refreshed},
};
use crate::{
    markdown::{Block, Document, documents},
    support::{edit, end_of},
};

struct Runbook {
    document: Document,
    site: Site,
}

#[test]
fn the_incident_runbook_does_what_it_says() {
    let document = documents().into_iter().find(|d| d.name() == "docs/how-to/incident.md").unwrap();
    // So that a spent token is reuse at once, and not after the window.
    let no_window = |file: &Path| {
        let text = edit(file, "# retry_window = \"30s\"", "retry_window = \"0ms\"");
        fs::write(file, text).unwrap();
    };
    let mut book = Runbook { document, site: Site::with(no_window) };
    book.paste("Before you begin", &[]);
    stolen_refresh_token(&mut book);
    stolen_access_token(&mut book);
    leaked_client_secret(&mut book);
    leaked_signing_key(&mut book);
    leaked_symmetric_keys(&mut book);
    book.paste("The store without the keys", &[]);
    leaked_keys_directory(&mut book);
    book.paste("When the service does not answer", &[]);
}

fn stolen_refresh_token(book: &mut Runbook) {
    let [phone, laptop] = ["phone", "laptop"].map(|device| log_in(&book.site, "alice", device));
    assert_eq!(refreshed(&book.site, &phone), None, "the thief is first");
    assert_eq!(refreshed(&book.site, &phone).as_deref(), Some("invalid_grant"), "the owner collides with the thief");
    fs::write(book.site.path("found-token"), member(&phone, "refresh_token")).unwrap();
    let session = member(&phone, "session_id");
    let said = book.paste("A stolen refresh token", &[("SESSION", session), ("SUBJECT", "alice")]);
    assert!(said.contains("\"event\":\"reused\"") && said.contains(session), "{said}");
    assert!(!introspected(&book.site, &laptop), "the person is cut off everywhere");
    assert!(introspected(&book.site, &log_in(&book.site, "alice", "again")), "and can log in again");
}

fn stolen_access_token(book: &mut Runbook) {
    let opened = log_in(&book.site, "bob", "tablet");
    fs::write(book.site.path("found-token"), member(&opened, "access_token")).unwrap();
    let shown =
        end_of(&mut book.site.command("operator", &["token", "inspect", "--json"]), member(&opened, "access_token"));
    let token: Value = serde_json::from_str(&shown.stdout).unwrap();
    let variables = [("TOKEN_ID", member(&token["claims"], "jti")), ("SESSION", member(&opened, "session_id"))];
    let said = book.paste("A stolen access token", &variables);
    assert!(said.contains("still good") && said.trim_end().ends_with("refused"), "{said}");
}

fn leaked_client_secret(book: &mut Runbook) {
    fs::copy(book.site.path("login.secret"), book.site.path("old.secret")).unwrap();
    let said = book.paste("A leaked client secret", &[("CLIENT", "login")]);
    assert!(said.contains("\"event\":\"session_opened\"") && said.contains("no key has left"), "{said}");
    assert!(said.trim_end().ends_with("invalid_client"), "{said}");
    assert_eq!(book.site.run("operator", &["client", "enable", "login"]).code, 0);
    // The check of the page tells a secret that is refused from one that is good and lacks a permission.
    let heard = |book: &Runbook| book.site.run("login", &["session", "list", "nobody"]);
    assert!(heard(book).stderr.contains("invalid_client"), "the old secret is refused, not the client alone");
    fs::rename(book.site.path("new.secret"), book.site.path("login.secret")).unwrap();
    let good = heard(book);
    assert!(good.code == 4 && !good.stderr.contains("invalid_client"), "{}", good.stderr);
    log_in(&book.site, "alice", "after the new secret");
}

fn leaked_signing_key(book: &mut Runbook) {
    let opened = log_in(&book.site, "carol", "desktop");
    let keys = book.site.ask("operator", &["keys", "list"]);
    let active = keys["keys"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap();
    let said = book.paste("A leaked signing key", &[("KID", member(active, "kid"))]);
    assert!(said.contains("not published any more"), "{said}");
    assert!(!introspected(&book.site, &opened), "what it has signed is refused");
    assert_eq!(refreshed(&book.site, &opened), None, "and nobody is logged out");
}

fn leaked_symmetric_keys(book: &mut Runbook) {
    let opened = log_in(&book.site, "carol", "phone");
    let said = book.paste("One of the symmetric keys", &[]);
    assert!(
        said.contains("leave the metadata at once") && said.contains("nothing that it sealed opens any more"),
        "{said}"
    );
    assert_eq!(refreshed(&book.site, &opened).as_deref(), Some("invalid_grant"), "everyone is logged out");
    assert_eq!(refreshed(&book.site, &log_in(&book.site, "carol", "again")), None, "and can log in again");
}

fn leaked_keys_directory(book: &mut Runbook) {
    let opened = log_in(&book.site, "dave", "watch");
    book.paste("The keys directory", &[]);
    assert_eq!(refreshed(&book.site, &opened).as_deref(), Some("invalid_grant"), "its key is gone on purpose");
    assert!(!introspected(&book.site, &opened));
    assert!(book.site.path("audit-of-incident-42.jsonl").metadata().unwrap().len() > 1000, "the evidence is kept");
    // The secret that was replaced at run time is gone with the store; the configured one holds again.
    assert_eq!(book.site.run("login", &["session", "list", "dave"]).code, 4);
    fs::copy(book.site.path("old.secret"), book.site.path("login.secret")).unwrap();
    assert!(introspected(&book.site, &log_in(&book.site, "dave", "again")));
}

impl Runbook {
    /// Pastes what stands under a heading, with these variables set, and gives all that was said on stdout.
    fn paste(&mut self, heading: &str, variables: &[(&str, &str)]) -> String {
        let blocks = self.document.blocks().into_iter().filter(|b| b.heading == heading && b.language == "sh");
        let blocks: Vec<Block> = blocks.collect();
        assert!(!blocks.is_empty(), "nothing to paste under {heading}");
        let mut said = String::new();
        for block in blocks {
            // The manager of services is this test.
            let (mut lines, place) = (String::new(), format!("line {}", block.line));
            for line in block.text.lines() {
                match line.strip_prefix("systemctl ") {
                    None => lines += &format!("{line}\n"),
                    Some(order) => {
                        said += &self.bash(&std::mem::take(&mut lines), variables, &place);
                        if order.starts_with("stop") { self.site.stop() } else { self.site.start() }
                    }
                }
            }
            said += &self.bash(&lines, variables, &place);
        }
        said
    }

    fn bash(&self, lines: &str, variables: &[(&str, &str)], place: &str) -> String {
        let mut bash = self.site.shell(lines);
        bash.env("RESCIND_SERVER", &self.site.issuer).env("RESCIND_CLIENT_ID", "operator");
        bash.env("RESCIND_CLIENT_SECRET_FILE", self.site.path("operator.secret")).envs(variables.iter().copied());
        let ended = end_of(&mut bash, "");
        assert_eq!(ended.code, 0, "{place}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }
}

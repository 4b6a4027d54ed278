//! The signing keys, from the command line: what people read of each command, what scripts read, where private halves
//! go and where they never do, and passphrases that are typed.

use std::{
    fs,
    io::{BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{
    operate::Desk,
    support::{Server, end_of, get, rescind},
    transcripts::check,
};

const PASSPHRASE: &str = "correct horse battery staple";

/// A private key as OpenSSL makes it, for its owner alone.
fn openssl(path: &Path, encrypted: bool) {
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(path);
    if encrypted {
        command.args(["-aes-256-cbc", "-pass", &format!("pass:{PASSPHRASE}")]);
    }
    assert_eq!(end_of(&mut command, "").code, 0);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn secret(desk: &Desk, name: &str, text: &str) {
    let path = desk.dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_people_read_of_keys() {
    let mut desk = Desk::rotating();
    let first = desk.key("active");
    openssl(&desk.dir.path().join("new.pem"), false);
    desk.show("keys list");
    desk.show("keys schedule");
    desk.show(&format!("keys show {first}"));
    desk.show("keys rollback --yes");
    desk.show("keys rotate --dry-run");
    desk.show("keys rotate --yes");
    desk.show("keys list");
    desk.show("keys schedule");
    desk.show("keys rollback --dry-run");
    desk.show("keys rollback --yes");
    desk.show("keys generate --dry-run");
    desk.show("keys generate --algorithm Ed25519");
    let standby = desk.key("pending");
    desk.show(&format!("keys retire {standby} --yes"));
    desk.show(&format!("keys activate {first} --yes"));
    desk.show(&format!("keys activate {standby} --dangerous-without-waiting --dry-run"));
    desk.show(&format!("keys activate {standby} --yes"));
    desk.show(&format!("keys destroy {standby} --yes"));
    let spare = desk.key("pending");
    desk.show(&format!("keys destroy {spare} --dry-run"));
    desk.show(&format!("keys destroy {spare} --yes"));
    desk.show("keys import DIR/new.pem --algorithm Ed25519");
    desk.show("keys import DIR/new.pem");
    desk.show(&format!("keys export {first}"));
    desk.show(&format!("keys retire {first} --yes"));
    desk.show(&format!("keys retire {first} --dangerous-without-waiting --dry-run"));
    desk.show(&format!("keys retire {first} --dangerous-without-waiting --yes"));
    check("keys", &desk.text);
}

#[test]
fn what_people_read_of_a_compromise() {
    let mut desk = Desk::rotating();
    let first = desk.key("active");
    desk.show(&format!("keys compromise {first} --dry-run"));
    desk.show(&format!("keys compromise {first} --reason leaked --yes"));
    desk.show(&format!("keys compromise {first} --yes"));
    desk.show(&format!("keys compromise {} --end-sessions --dry-run", desk.key("active")));
    desk.show(&format!("keys compromise {} --end-sessions --yes", desk.key("active")));
    desk.show("keys list");
    // Nobody has seen the standbys of a service that has just begun.
    let mut fresh = Desk::new(&["--publish-ahead", "20m", "--jwks-max-age", "5m"]);
    fresh.show("keys rotate --yes");
    fresh.show(&format!("keys compromise {} --yes", fresh.key("active")));
    check("compromise", &(desk.text + &fresh.text));
}

#[test]
fn what_people_and_scripts_read_of_symmetric_keys() {
    let mut desk = Desk::new(&[]);
    desk.show("keys secrets");
    for kind in ["feed", "derivation", "sealing"] {
        desk.show(&format!("keys rotate --secret {kind} --dry-run"));
        desk.show(&format!("keys rotate --secret {kind} --yes"));
        desk.show(&format!("keys compromise --secret {kind} --dry-run"));
        desk.show(&format!("keys compromise --secret {kind} --reason leaked --yes"));
        desk.show(&format!("keys compromise --secret {kind} --end-sessions --yes"));
    }
    desk.show("keys secrets");
    desk.show("keys forget-unknown --dry-run");
    desk.show("keys forget-unknown --yes");
    desk.show("keys secrets --json");
    desk.show("keys rotate --secret sealing --yes --json");
    desk.show("keys compromise --secret sealing --end-sessions --yes --json");
    desk.show("keys forget-unknown --yes --json");
    // What makes no sense is refused before anything is sent.
    for wrong in
        ["compromise --yes", "rotate --secret token --yes", "rotate --secret feed --dangerous-without-waiting --yes"]
    {
        assert_eq!(desk.run(&format!("keys {wrong}")).code, 2, "{wrong}");
    }
    assert_eq!(desk.run("keys compromise --secret feed").code, 2, "there is no terminal to ask on");
    check("secret_keys", &desk.text);
}

#[test]
fn what_scripts_read_of_keys() {
    let mut desk = Desk::new(&["--publish-ahead", "0ms", "--jwks-max-age", "0ms", "--rotate-every", "1h"]);
    let first = desk.key("active");
    openssl(&desk.dir.path().join("new.pem"), false);
    secret(&desk, "passphrase", PASSPHRASE);
    desk.show("keys list --json");
    desk.show("keys schedule");
    desk.show("keys schedule --json");
    desk.show(&format!("keys show {first} --json"));
    desk.show("keys rotate --dry-run --json");
    desk.show("keys rotate --yes --json");
    desk.show("keys rollback --yes --json");
    desk.show("keys generate --json");
    desk.show("keys import DIR/new.pem --json");
    desk.show(&format!("keys activate {} --dry-run --json", desk.key("pending")));
    desk.show(&format!("keys destroy {} --dry-run --json", desk.key("pending")));
    desk.show(&format!("keys export {first} --json"));
    desk.show(&format!(
        "keys export {first} --dangerous-private --passphrase-file DIR/passphrase --output DIR/out --json"
    ));
    desk.show(&format!("keys compromise {first} --dry-run --json"));
    desk.show(&format!("keys compromise {first} --yes --json"));
    check("keys_json", &desk.text);
}

#[test]
fn the_name_of_a_key_may_begin_with_a_hyphen() {
    let desk = Desk::new(&[]);
    let name = "-hV0yHelpV0yHelpV0yHelpV0yHelpV0yHelpV0yHel";
    for command in ["show KID", "activate KID --yes", "retire --yes KID", "compromise KID --yes", "export KID"] {
        let ended = desk.run(&format!("keys {}", command.replace("KID", name)));
        assert_eq!(ended.code, 3, "{command}: there is no such key: {}", ended.stderr);
    }
    assert_eq!(desk.run(&format!("revoke --key {name} --yes")).code, 3);
}

#[test]
fn a_private_half_leaves_encrypted_and_into_a_file_of_its_owner_alone() {
    let desk = Desk::new(&[]);
    secret(&desk, "passphrase", &format!("{PASSPHRASE}\n"));
    let (kid, file) = (desk.key("active"), desk.dir.path().join("key.pem"));
    let order = format!("keys export {kid} --dangerous-private --passphrase-file DIR/passphrase");
    let nowhere = desk.run(&order);
    assert_eq!((nowhere.code, &*nowhere.stdout), (2, ""), "never to a terminal, nor to whatever reads stdout");
    let taken = desk.run(&format!("{order} --output DIR/key.pem"));
    assert_eq!((taken.code, &*taken.stdout), (0, ""), "{}", taken.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let pem = fs::read_to_string(&file).unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{pem}");
    let public = |arguments: &[&str], input: &str| {
        let ended = end_of(Command::new("openssl").args(["pkey", "-pubout"]).args(arguments), input);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout
    };
    let ours = desk.run(&format!("keys export {kid} --format pem")).stdout;
    assert_eq!(public(&["-passin", &format!("pass:{PASSPHRASE}")], &pem), ours, "the other half of the same key");
    assert_eq!(public(&["-pubin"], &ours), ours);
    assert_eq!(desk.run(&format!("{order} --output DIR/key.pem")).code, 2, "it is never overwritten");
    assert_eq!(fs::read_to_string(&file).unwrap(), pem);
    let unknown = order.replace(&kid, &"A".repeat(43));
    assert_eq!(desk.run(&format!("{unknown} --output DIR/other.pem")).code, 3);
    assert!(!desk.dir.path().join("other.pem").exists(), "nothing is left behind");
    let log = desk.json("audit list --json").to_string();
    assert!(log.contains("key_exported") && log.contains(&kid), "{log}");
}

#[test]
fn a_key_goes_from_one_service_to_another_and_signs_there() {
    let (here, there) = (Desk::new(&[]), Desk::rotating());
    secret(&here, "passphrase", PASSPHRASE);
    let kid = here.key("active");
    let taken = here
        .run(&format!("keys export {kid} --dangerous-private --passphrase-file DIR/passphrase --output DIR/key.pem"));
    assert_eq!(taken.code, 0, "{}", taken.stderr);
    let dir = here.dir.path().display();
    let wrong = there.run(&format!("keys import {dir}/key.pem --passphrase-file {dir}/key.pem"));
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    let brought = there.run(&format!("keys import {dir}/key.pem --passphrase-file {dir}/passphrase"));
    assert_eq!(brought.code, 0, "{}", brought.stderr);
    assert_eq!(there.run(&format!("keys activate {kid} --yes")).code, 0);
    assert_eq!(there.key("active"), kid);
}

/// A command on a terminal of its own (`script` makes one), which is answered when it asks.
struct Terminal {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    text: String,
}

impl Terminal {
    fn start(command: &Command) -> Self {
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
        let mut script = Command::new("script");
        // The program in the shell's place, whichever shell it is: Ctrl-C is for the program alone.
        script.args(["-qec", &format!("exec {}", words.join(" ")), "/dev/null"]);
        script.envs([("TERM", "dumb"), ("SHELL", "/bin/sh")]);
        for (name, value) in command.get_envs().filter_map(|(n, v)| v.map(|v| (n, v))) {
            script.env(name, value);
        }
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said, text: String::new() }
    }
    fn wait_for(&mut self, what: &str) {
        let mut byte = [0];
        while !self.text.contains(what) {
            assert_eq!(self.said.read(&mut byte).unwrap(), 1, "it ended before it said {what}: {}", self.text);
            self.text.push(byte[0].into());
        }
    }
    fn answer(&mut self, question: &str, answer: &str) {
        self.wait_for(question);
        self.text.clear();
        self.child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
    }
    /// All that it says until it ends, and how.
    fn end(mut self) -> (i32, String) {
        self.said.read_to_string(&mut self.text).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        (code, std::mem::take(&mut self.text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_passphrase_is_asked_for_on_a_terminal_and_never_shown() {
    let desk = Desk::new(&[]);
    openssl(&desk.dir.path().join("new.pem"), true);
    let command = |args: &str| {
        let args = args.replace("DIR", &desk.dir.path().to_string_lossy());
        let mut command = desk.command();
        command.args(args.split(' '));
        command
    };
    let mut import = Terminal::start(&command("keys import DIR/new.pem"));
    import.answer("Passphrase of the key: ", &format!("{PASSPHRASE}\n"));
    let (code, said) = import.end();
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("horse"), "it is not shown: {said}");
    let order = format!("keys export {} --dangerous-private --output DIR/key.pem", desk.key("active"));
    for (first, second, code) in [("horse\n", "house\n", 1), ("\u{3}", "", 1), ("horse\n", "horse\n", 0)] {
        let mut export = Terminal::start(&command(&order));
        export.answer("New passphrase", first);
        if !second.is_empty() {
            export.answer("The same again: ", second);
        }
        let (ended, said) = export.end();
        assert_eq!(ended, code, "{said}");
        assert_eq!(desk.dir.path().join("key.pem").exists(), code == 0, "{said}");
        assert!(!said.contains("horse"), "{said}");
    }
    let refused = end_of(&mut command("keys import DIR/new.pem"), "");
    assert_eq!(refused.code, 2, "without a terminal nobody is asked");
    assert!(refused.stderr.contains("--passphrase-file"), "{}", refused.stderr);
}

#[test]
fn a_node_whose_keys_are_encrypted_asks_for_their_passphrase() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node");
    let free = super::serve::free();
    let mut init = rescind();
    init.arg("init").arg(&dir).args(["--listen", &free[0], "--operations-listen", &free[1], "--ask-passphrase"]);
    let refused = end_of(&mut init, "");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(!dir.exists(), "nothing was made");
    let mut asked = Terminal::start(&init);
    asked.answer("New passphrase for the keys: ", "horse\n");
    asked.answer("The same again: ", "horse\n");
    let (code, said) = asked.end();
    assert_eq!(code, 0, "{said}");
    let pem = fs::read_dir(dir.join("keys"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "pem"));
    assert!(fs::read_to_string(pem.unwrap()).unwrap().contains("ENCRYPTED"));
    let mut serve = rescind();
    serve.args(["serve", "--config"]).arg(dir.join("rescind.toml"));
    let nobody = end_of(&mut serve, "");
    assert_eq!(nobody.code, 2, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("encrypted"), "{}", nobody.stderr);
    let mut wrong = Terminal::start(&serve);
    wrong.answer("Passphrase of the keys", "house\n");
    let (code, said) = wrong.end();
    assert!(code == 2 && said.contains("does not open"), "{said}");
    let mut right = Terminal::start(&serve);
    right.answer("Passphrase of the keys", "horse\n");
    right.wait_for("\"serving\"");
    assert_eq!(get(&format!("http://{}", free[1]), "/readyz").0, 200);
    // Ctrl-C, from here on what it always was.
    right.child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(right.end().0, 0);
}

#[test]
fn nothing_is_done_to_keys_unasked() {
    let desk = Desk::rotating();
    let (active, pending) = (desk.key("active"), desk.key("pending"));
    let before = desk.json("keys list --json");
    for args in [
        "rotate".to_owned(),
        "rollback".into(),
        format!("activate {pending}"),
        format!("retire {active}"),
        format!("destroy {pending}"),
        format!("compromise {active}"),
    ] {
        let ended = desk.run(&format!("keys {args}"));
        assert_eq!((ended.code, &*ended.stdout), (2, ""), "{args}");
        assert!(ended.stderr.contains("--yes") && ended.stderr.contains("--dry-run"), "{}", ended.stderr);
    }
    for args in ["rotate".to_owned(), "generate".into(), format!("compromise {active}")] {
        assert_eq!(desk.run(&format!("keys {args} --dry-run")).code, 0, "{args}");
    }
    let after: Value = desk.json("keys list --json");
    assert_eq!(after, before);
}

#[test]
fn what_is_said_of_a_key_that_cannot_be_brought_in() {
    let mut desk = Desk::new(&[]);
    fs::create_dir(desk.dir.path().join("place")).unwrap();
    openssl(&desk.dir.path().join("locked.pem"), true);
    secret(&desk, "passphrase", "another");
    secret(&desk, "note.txt", "no key");
    secret(&desk, "public.jwk", r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#);
    desk.show("keys import DIR/place");
    desk.show("keys import DIR/locked.pem --passphrase-file DIR/place");
    desk.show("keys import DIR/locked.pem --passphrase-file DIR/passphrase");
    desk.show("keys import DIR/note.txt");
    desk.show("keys import DIR/public.jwk");
    check("import", &desk.text);
}

#[test]
fn a_key_that_was_taken_out_early_is_not_said_to_verify() {
    let desk = Desk::rotating();
    let shown = |kid: &str| desk.run(&format!("keys show {kid}")).stdout;
    let first = desk.key("active");
    assert_eq!(desk.run("keys rotate --yes").code, 0);
    assert!(shown(&first).contains("verifies until"), "{}", shown(&first));
    assert_eq!(desk.run(&format!("keys compromise {first} --yes")).code, 0);
    assert!(!shown(&first).contains("verifies until"), "{}", shown(&first));
    let second = desk.key("active");
    assert_eq!(desk.run("keys rotate --yes").code, 0);
    assert_eq!(desk.run(&format!("keys retire {second} --dangerous-without-waiting --yes")).code, 0);
    assert!(!shown(&second).contains("verifies until"), "{}", shown(&second));
}

#[test]
fn the_first_passphrase_is_told_of_once() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node");
    let free = super::serve::free();
    let mut init = rescind();
    init.arg("init").arg(&dir).args(["--listen", &free[0], "--operations-listen", &free[1]]);
    assert_eq!(end_of(&mut init, "").code, 0);
    let serve = |passphrase: Option<&str>| {
        let mut command = rescind();
        command.args(["serve", "--config"]).arg(dir.join("rescind.toml"));
        command.envs(passphrase.map(|text| ("RESCIND_KEYS__PASSPHRASE", text)));
        let server = Server::start(&mut command);
        let up = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            std::net::TcpStream::connect(&free[1]).is_ok()
        });
        assert!(up);
        server.end().stderr
    };
    let told = [None, Some("horse"), Some("horse")].map(|passphrase| serve(passphrase).contains("encrypted under"));
    assert_eq!(told, [false, true, false]);
}

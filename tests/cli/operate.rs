//! The operator's commands against a service that runs: transcripts for people, golden answers for scripts, and what
//! must hold when nobody is there to be asked.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{
    mask::Mask,
    serve::free,
    support::{Dev, Ended, Server, end_of, rescind},
    transcripts::check,
};

/// A service, and an operator who may do everything.
pub struct Desk {
    pub dev: Dev,
    pub dir: tempfile::TempDir,
    mask: Mask,
    pub text: String,
}

impl Desk {
    pub fn new(args: &[&str]) -> Self {
        let dev = Dev::start(args);
        let dir = tempfile::tempdir().unwrap();
        let mut mask = Mask::default();
        mask.hide(dev.says("issuer"), "http://SERVICE");
        mask.hide(dev.says("operations"), "http://OPERATIONS");
        mask.hide(concat!("rescind/", env!("CARGO_PKG_VERSION")), "rescind/VERSION");
        mask.hide(&dir.path().to_string_lossy(), "DIR");
        Self { dev, dir, mask, text: String::new() }
    }

    /// A node whose standby may sign at once.
    pub fn rotating() -> Self {
        Self::new(&["--publish-ahead", "0ms", "--jwks-max-age", "0ms"])
    }

    pub fn command(&self) -> Command {
        let mut command = rescind();
        command.env("RESCIND_SERVER", self.dev.says("issuer")).env("RESCIND_CLIENT_ID", self.dev.says("client_id"));
        command.env("RESCIND_CLIENT_SECRET", self.dev.says("client_secret"));
        command
    }

    pub fn run(&self, args: &str) -> Ended {
        let args = args.replace("DIR", &self.dir.path().to_string_lossy());
        end_of(self.command().args(args.split(' ')), "")
    }

    pub fn json(&self, args: &str) -> Value {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{args}: {e}: {}", ended.stdout))
    }

    /// Runs it and adds it to the transcript.
    pub fn show(&mut self, args: &str) -> Ended {
        let ended = self.run(args);
        let text = format!("$ rescind {args}\n{}{}[{}]\n\n", ended.stdout, ended.stderr, ended.code);
        self.text += &self.mask.apply(&text);
        ended
    }

    fn sessions(&self, subject: &str) -> Vec<String> {
        let listed = self.json(&format!("session list {subject} --json"));
        let id = |session: &Value| session["session_id"].as_str().unwrap().to_owned();
        listed["sessions"].as_array().unwrap().iter().map(id).collect()
    }

    pub fn key(&self, state: &str) -> String {
        let listed = self.json("keys list --json");
        let keys = listed["keys"].as_array().unwrap();
        keys.iter().find(|key| key["state"] == state).unwrap()["kid"].as_str().unwrap().to_owned()
    }
}

#[test]
fn what_people_read() {
    let mut desk = Desk::rotating();
    desk.show("session list alice");
    desk.show("session open alice --audience api --scope read --device laptop --tokens-file DIR/laptop.json");
    desk.show("session open alice --audience api --for-client dev-public --tokens-file DIR/phone.json");
    desk.show("session open bob --audience api --tokens-file DIR/bob.json");
    desk.show("session list alice");
    let [laptop, _] = &desk.sessions("alice")[..] else { panic!("two were opened") };
    let bob = desk.sessions("bob").remove(0);
    desk.show(&format!("session show {laptop}"));
    desk.show(&format!("session revoke {laptop} --others --dry-run"));
    desk.show(&format!("session revoke {laptop} --others --yes --reason stolen"));
    desk.show("session list alice --open");
    desk.show(&format!("session revoke {laptop} --yes"));
    desk.show(&format!("session revoke {laptop} --yes"));
    desk.show("revoke --subject bob --dry-run");
    desk.show("revoke --subject bob --tokens-only --yes --reason roles");
    desk.show(&format!("revoke --session {bob} --yes"));
    desk.show(&format!("revoke --token-id {bob} --yes"));
    desk.show("revoke --client dev-public --before 2026-01-01T00:00:00Z --yes");
    desk.show("revoke --all --dry-run");
    desk.show("revoke --all --yes");
    desk.show("keys rotate --yes");
    let old = desk.key("retiring");
    desk.show(&format!("revoke --key {old} --dry-run"));
    desk.show(&format!("revoke --key {old} --yes"));
    desk.show("audit list --limit 3");
    desk.show("audit list --subject bob");
    desk.show("audit list --oldest --limit 2");
    desk.show("audit tail -n 2");
    desk.show("audit tail --after 9");
    check("operate", &desk.text);
}

#[test]
fn what_scripts_read() {
    let mut desk = Desk::rotating();
    desk.show("session open alice --audience api --scope read --json");
    desk.show("session open alice --audience api --tokens-file DIR/tokens.json --json");
    desk.show("session list alice --json");
    let session = desk.sessions("alice").remove(0);
    desk.show(&format!("session show {session} --json"));
    desk.show(&format!("session revoke {session} --others --dry-run --json"));
    desk.show(&format!("session revoke {session} --others --yes --json"));
    desk.show("revoke --subject alice --dry-run --json");
    desk.show("revoke --subject alice --yes --json");
    desk.show("keys rotate --yes --json");
    desk.show("audit list --limit 2 --json");
    desk.show("audit tail -n 2 --json");
    check("operate_json", &desk.text);
}

#[test]
fn tokens_go_to_a_file_of_their_own_or_to_whoever_asks_for_json() {
    let desk = Desk::new(&[]);
    let file = desk.dir.path().join("tokens.json");
    let opened = desk.run("session open alice --audience api --tokens-file DIR/tokens.json");
    assert_eq!(opened.code, 0, "{}", opened.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let tokens: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    for token in ["access_token", "refresh_token"] {
        let token = tokens[token].as_str().unwrap();
        assert!(!opened.stdout.contains(token) && !opened.stderr.contains(token));
    }
    let again = desk.run("session open alice --audience api --tokens-file DIR/tokens.json");
    assert_eq!(again.code, 2, "it is never overwritten: {}", again.stderr);
    assert_eq!(desk.sessions("alice").len(), 1, "and no session is opened whose tokens could not be kept");
    let refused = desk.run("session open dev --audience api --tokens-file DIR/other.json");
    assert_eq!(refused.code, 2, "the name of a client is no subject: {}", refused.stderr);
    assert!(!desk.dir.path().join("other.json").exists(), "nothing is left behind");
}

/// On a terminal: `script` makes one.
fn on_terminal(desk: &Desk, args: &str, answer: &str) -> Ended {
    let shell = format!("{} {args}", env!("CARGO_BIN_EXE_rescind"));
    let mut command = Command::new("script");
    command.args(["-qec", &shell, "/dev/null"]).env("TERM", "dumb");
    for (name, value) in desk.command().get_envs().filter_map(|(n, v)| v.map(|v| (n, v))) {
        command.env(name, value);
    }
    end_of(&mut command, answer)
}

#[test]
fn a_person_is_asked_and_must_say_yes() {
    let desk = Desk::new(&[]);
    desk.dev.open("alice");
    let session = desk.sessions("alice").remove(0);
    for answer in ["no\n", "y\n", "\n"] {
        let declined = on_terminal(&desk, &format!("session revoke {session}"), answer);
        assert_eq!(declined.code, 1, "{}", declined.stdout);
        assert!(declined.stdout.contains("would end 1 open session"), "it is said what happens: {}", declined.stdout);
        assert!(declined.stdout.contains("Nothing was done"), "{}", declined.stdout);
    }
    assert_eq!(desk.json("session list alice --open --json")["sessions"].as_array().unwrap().len(), 1);
    let agreed = on_terminal(&desk, "revoke --subject alice", "yes\n");
    assert_eq!(agreed.code, 0, "{}", agreed.stdout);
    assert_eq!(desk.json("session list alice --open --json")["sessions"].as_array().unwrap().len(), 0);
}

#[test]
fn without_a_terminal_nothing_is_done_unasked() {
    let desk = Desk::new(&[]);
    desk.dev.open("alice");
    let session = desk.sessions("alice").remove(0);
    let before = desk.json("audit list --json");
    for args in ["revoke --all", "revoke --subject alice", "keys rotate", &format!("session revoke {session} --others")]
    {
        let ended = desk.run(args);
        assert_eq!((ended.code, &*ended.stdout), (2, ""), "{args}");
        assert!(ended.stderr.contains("--yes") && ended.stderr.contains("--dry-run"), "{}", ended.stderr);
    }
    assert_eq!(desk.json("audit list --json"), before);
}

#[test]
fn the_secret_is_read_from_stdin_too_and_then_nobody_is_asked() {
    let desk = Desk::new(&[]);
    desk.dev.open("alice");
    let secret = desk.dev.says("client_secret").to_owned();
    let with = |args: &str| {
        let mut command = desk.command();
        command.env_remove("RESCIND_CLIENT_SECRET").args(args.split(' ')).args(["--client-secret-file", "-"]);
        end_of(&mut command, &format!("{secret}\n"))
    };
    assert_eq!(with("revoke --subject alice").code, 2);
    let done = with("revoke --subject alice --yes");
    assert_eq!(done.code, 0, "{}", done.stderr);
}

/// Reads lines until one fits.
fn line_with(from: &mut impl BufRead, what: &str) -> String {
    let mut line = String::new();
    while from.read_line(&mut line).unwrap() > 0 {
        if line.contains(what) {
            return line;
        }
        line.clear();
    }
    panic!("it ended without saying: {what}");
}

#[test]
fn a_tail_survives_a_restart_and_says_each_record_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("embedded:{}", dir.path().join("store").display());
    let [at, _] = free();
    let start = || Desk::new(&["--store", &store, "--listen", &at]);
    let desk = start();
    desk.dev.open("alice");
    let mut tail = desk.command();
    tail.args(["audit", "tail", "--follow", "--json", "-n", "1"]);
    let mut tail = tail.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(tail.stdout.take().unwrap());
    let mut talk = BufReader::new(tail.stderr.take().unwrap());
    let mut next = || {
        let record: Value = serde_json::from_str(&line_with(&mut out, "{")).unwrap();
        record["sequence"].as_u64().unwrap()
    };
    let first = next();
    desk.dev.open("alice");
    assert_eq!(next(), first + 1);
    assert_eq!(desk.dev.server.end().code, 0);
    line_with(&mut talk, "trying on");
    let desk = start();
    desk.dev.open("alice");
    desk.dev.open("bob");
    assert_eq!([next(), next()], [first + 2, first + 3]);
    line_with(&mut talk, "answers again");
    let pid = rustix::process::Pid::from_child(&tail);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn a_tail_that_meets_a_busy_log_says_each_record_once_and_in_order() {
    let desk = Desk::new(&[]);
    desk.dev.open("alice");
    let mut command = desk.command();
    let mut tail = Server::start(command.args(["audit", "tail", "--follow", "--json", "-n", "1"]));
    let mut next = || serde_json::from_str::<Value>(&tail.line()).unwrap()["sequence"].as_u64().unwrap();
    assert_eq!(next(), 1);
    // Written while it reads, over several of its turns.
    let seen: Vec<u64> = std::thread::scope(|scope| {
        scope.spawn(|| (0..1500).for_each(|_| drop(desk.dev.open("alice"))));
        (0..1500).map(|_| next()).collect()
    });
    assert_eq!(seen, (2..=1501).collect::<Vec<_>>());
}

#[test]
fn a_tail_ends_when_its_reader_has_gone_and_the_log_is_quiet() {
    let desk = Desk::new(&[]);
    desk.dev.open("alice");
    let mut command = desk.command();
    let mut tail = Server::start(command.args(["audit", "tail", "--follow"]));
    assert!(tail.line().contains("session_opened"));
    tail.stop_reading();
    assert_eq!(tail.exit_code(), 0);
}

#[test]
fn a_tail_tells_of_another_log() {
    let [at, _] = free();
    let desk = Desk::new(&["--listen", &at]);
    desk.dev.open("alice");
    desk.dev.open("alice");
    let mut tail = desk.command();
    tail.args(["audit", "tail", "--after", "7"]);
    let ended = end_of(&mut tail, "");
    assert!(ended.stderr.contains("ends at 2, where 7 had been read"), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
}

#[test]
fn completions_and_man_pages_are_good() {
    let bash = end_of(rescind().args(["completions", "bash"]), "");
    assert_eq!(bash.code, 0);
    assert_eq!(end_of(Command::new("bash").arg("-n"), &bash.stdout).code, 0);
    assert!(bash.stdout.contains("--client-secret-file") && bash.stdout.contains("--tokens-only"));
    for shell in ["zsh", "fish"] {
        assert!(end_of(rescind().args(["completions", shell]), "").stdout.len() > 1000);
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(end_of(rescind().arg("man").arg(dir.path()), "").code, 0);
    let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(page("rescind.1").contains(".TH rescind 1"));
    assert!(page("rescind-session-revoke.1").contains("\\-\\-others"));
    assert!(!Path::new(&dir.path().join("rescind-help.1")).exists());
    assert!(end_of(rescind().arg("man"), "").stdout.contains(".SH NAME"));
}

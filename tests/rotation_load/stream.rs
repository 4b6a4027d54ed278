//! A verifier that others wrote, in a process of its own that is shown one token after the other.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use crate::{interpreter::client, process::Dev, rotation_load::load::Verdict};

pub struct Stream {
    child: Child,
    tokens: mpsc::Sender<String>,
    writer: JoinHandle<usize>,
    reader: JoinHandle<Verdict>,
    answers: mpsc::Receiver<()>,
}

impl Stream {
    /// Keeps key sets for that long.
    pub fn start(name: &'static str, interpreter: &str, script: &str, dev: &Dev, cache: Duration) -> Self {
        let mut command = client(interpreter);
        for member in ["issuer", "token_endpoint", "jwks_uri", "client_id", "client_secret"] {
            command.env(format!("RESCIND_{}", member.to_uppercase()), dev.text(member));
        }
        command.env("RESCIND_RETRY_WINDOW_SECONDS", "30").env("RESCIND_CACHE_SECONDS", cache.as_secs_f64().to_string());
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (tokens, shown) = mpsc::channel::<String>();
        let writer = std::thread::spawn(move || {
            shown.into_iter().map(|token| writeln!(stdin, "{token}").expect("it reads until the end")).count()
        });
        let (answer, answers) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut verdict = Verdict::of(name);
            for line in stdout.lines() {
                verdict.note(Some(line.unwrap()).filter(|line| line != "ok"));
                let _ = answer.send(());
            }
            verdict
        });
        Self { child, tokens, writer, reader, answers }
    }
    /// Returns once it has verified this one, and so has a key set.
    pub fn begin(&self, token: &str) {
        self.show(token);
        self.answers.recv().expect("it says something of each token");
    }
    pub fn show(&self, token: &str) {
        self.tokens.send(token.to_owned()).unwrap();
    }
    /// What it has said of all that it was shown.
    pub fn end(mut self) -> Verdict {
        drop(self.tokens);
        let (shown, verdict) = (self.writer.join().unwrap(), self.reader.join().unwrap());
        assert!(self.child.wait().unwrap().success(), "{} broke off", verdict.who);
        assert_eq!(verdict.all(), shown, "{}: a token without a verdict", verdict.who);
        verdict
    }
}

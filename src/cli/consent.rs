//! Before something is done that others will notice: say what it does, and ask.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::Value;

use super::{
    Exit, Failure,
    remote::{Remote, Server},
    say, tell,
};

/// How to go about it.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Before it is done")]
pub(super) struct Consent {
    /// Say what it would do, and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask. Without a terminal there is nobody to ask, and nothing is done unless this is said: exit code 2.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

/// What an order would do.
pub(super) struct Foreseen {
    /// For programs: what `--dry-run --json` prints.
    pub(super) json: Value,
    /// For whoever is asked.
    pub(super) words: String,
    /// How a dry run ends.
    pub(super) exit: Exit,
}

impl Foreseen {
    pub(super) fn new(json: Value, words: impl Into<String>) -> Self {
        Self { json, words: words.into(), exit: Exit::Yes }
    }
}

impl Consent {
    /// Nobody need be asked about what does no harm.
    pub(super) fn given_if(self, harmless: bool) -> Self {
        Self { yes: self.yes || harmless, ..self }
    }

    /// Carries out an order that is asked about. Unless it was agreed to beforehand, `foresee` says what it would do;
    /// that is all of a dry run, and what a person is asked about. Without a yes nothing is sent that changes anything.
    pub(super) async fn carry_out(
        self,
        server: &Server,
        json: bool,
        foresee: impl AsyncFnOnce(&Remote) -> Result<Foreseen, Failure>,
        order: impl AsyncFnOnce(&Remote) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.check(server.takes_stdin())?;
        let remote = server.connect()?;
        if self.dry_run || self.asks() {
            let foreseen = foresee(&remote).await?;
            if self.dry_run {
                if json {
                    say(foreseen.json)
                } else {
                    say(foreseen.words)
                }
                return Ok(foreseen.exit);
            }
            if !ask(&foreseen.words)? {
                return Ok(Exit::No);
            }
        }
        order(&remote).await
    }

    /// Whether somebody must be asked.
    fn asks(self) -> bool {
        !self.yes && !self.dry_run
    }

    /// Refuses what nobody could agree to, before anything is sent.
    fn check(self, stdin_is_taken: bool) -> Result<(), Failure> {
        if !self.asks() || (io::stdin().is_terminal() && !stdin_is_taken) {
            return Ok(());
        }
        Err(Failure::usage(
            "nothing was done: there is no terminal to ask on; say --yes, or look at what it would do with --dry-run",
        ))
    }
}

/// Asks, with what will happen said before.
fn ask(what: &str) -> Result<bool, Failure> {
    tell(what);
    let _ = write!(io::stderr(), "Type yes to go on: ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let agreed = answer.trim() == "yes";
    if !agreed {
        tell("Nothing was done.");
    }
    Ok(agreed)
}

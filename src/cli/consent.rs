//! Before something is done that cannot be undone: say what it does, and ask.

use std::io::{self, BufRead, IsTerminal, Write};

use super::{Exit, Failure, tell};

/// How to go about it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Before it is done")]
pub(super) struct Consent {
    /// Say what it would do, and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask. Without a terminal there is nobody to ask, and nothing is done unless this is said.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

impl Consent {
    /// Whether somebody must be asked.
    pub(super) fn asks(&self) -> bool {
        !self.yes && !self.dry_run
    }

    /// Refuses what nobody could agree to, before anything is sent.
    pub(super) fn check(&self, stdin_is_taken: bool) -> Result<(), Failure> {
        if !self.asks() || (io::stdin().is_terminal() && !stdin_is_taken) {
            return Ok(());
        }
        Err(Failure::usage(
            "nothing was done: this cannot be undone, and there is no terminal to ask on; say --yes, or look at what \
             it would do with --dry-run",
        ))
    }

    /// Asks, with what will happen said before. `No` ends the command.
    pub(super) fn ask(&self, what: &str) -> Result<bool, Failure> {
        if !self.asks() {
            return Ok(true);
        }
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
}

/// How a command ends that nobody agreed to.
pub(super) const DECLINED: Exit = Exit::No;

//! How a command ends: a number for scripts, a sentence for people.

use std::{fmt::Display, process::ExitCode};

/// The exit codes of every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    /// Done, or the answer is yes.
    Yes = 0,
    /// The answer is no.
    No = 1,
    /// The command line or the configuration makes no sense. Clap ends with the same number.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The caller may not.
    NotPermitted = 4,
    /// We could not find out.
    CannotTell = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not say yes.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) error: anyhow::Error,
}

impl Failure {
    pub(super) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
    /// The command line or the configuration must be mended.
    pub(super) fn usage(what: impl Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{what}"))
    }
}

/// What nobody foresaw leaves the question open.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::CannotTell, error)
    }
}

/// Gives an error its exit code and says what was tried.
pub(super) trait OrExit<T> {
    fn or_exit(self, exit: Exit, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit, what: impl Display) -> Result<T, Failure> {
        self.map_err(|e| Failure::new(exit, e.into().context(what.to_string())))
    }
}

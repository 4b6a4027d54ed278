//! How a command ends: a number for scripts, a sentence for people.

use std::{
    error::Error,
    fmt::{self, Display},
    io,
    process::ExitCode,
};

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
    /// What the system does not permit is [`Exit::NotPermitted`], whatever was tried.
    pub(super) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let is_refusal = |cause: &io::Error| {
            matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        };
        let refused = error.chain().filter_map(|cause| cause.downcast_ref()).any(is_refusal);
        Self { exit: if refused { Exit::NotPermitted } else { exit }, error }
    }
    /// The command line or the configuration must be mended.
    pub(super) fn usage(what: impl Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{what}"))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&said(self.error.as_ref()))
    }
}

/// An error and its causes, from the outside in. Many errors name their cause themselves; nothing is said twice.
pub(super) fn said(error: &dyn Error) -> String {
    let (mut said, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
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

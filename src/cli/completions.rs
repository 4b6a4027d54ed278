//! `rescind completions` and `rescind man`: made from the command line itself.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit, Failure, OrExit, tell};

/// Print the completions of a shell.
///
/// As in: rescind completions bash > /usr/share/bash-completion/completions/rescind
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Exit {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rescind", &mut out);
    // A reader that has gone away wants to hear nothing more.
    let _ = io::stdout().write_all(&out);
    Exit::Yes
}

/// Print the man page, or write those of all commands into a directory.
///
/// As in: rescind man | man -l -
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Where to write rescind.1, rescind-serve.1 and the others; files of these names are replaced.
    dir: Option<PathBuf>,
}

pub(super) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let Some(dir) = &args.dir else {
        let mut out = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut out)?;
        let _ = io::stdout().write_all(&out);
        return Ok(Exit::Yes);
    };
    let named = || format!("cannot write man pages into {}", dir.display());
    if dir.is_file() {
        return Err(Failure::usage(format!("{}: it is a file; name a directory", named())));
    }
    fs::create_dir_all(dir).or_exit(Exit::Usage, named())?;
    clap_mangen::generate_to(without_help(Cli::command()), dir).or_exit(Exit::Usage, named())?;
    let written = fs::read_dir(dir).or_exit(Exit::Usage, named())?.count();
    tell(format_args!("{written} files in {}", dir.display()));
    Ok(Exit::Yes)
}

/// `help` has nothing to say that --help does not.
pub(super) fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

//! `rescind config`: what is wrong with a configuration, and what holds.

use clap::Subcommand;

use super::{
    Exit, Failure,
    config::{Chosen, layers::failure},
    tell,
};

mod check;
mod print;

/// Check a configuration, or show what holds.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Check(CheckArgs),
    Print(PrintArgs),
}

/// Tell what is wrong with a configuration, all of it at once.
///
/// Looks at files, variables and options as `serve` would, and then at the disk: whether the keys and secrets are there,
/// can be opened, are nobody else's to read, and belong to the store; whether certificates fit their keys and are valid
/// today. Changes nothing, and may be asked while the service runs.
/// Exits with 0 if `serve` could start with it, else with 2.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Print one JSON object, with `ok`, `problems` and `warnings`.
    #[arg(long)]
    json: bool,
}

/// Show what holds, and who said so.
///
/// Prints TOML, each value with its origin beside it: default, preset, file and line, credential, variable, option.
/// Secrets are not shown, only where they come from.
#[derive(Debug, clap::Args)]
pub(super) struct PrintArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Print one JSON object, with `settings` and `clients`.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Check(args) => check::run(args),
        Command::Print(args) => print::run(args),
    }
}

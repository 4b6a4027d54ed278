//! The command line. Each command is a file with the same parts: its arguments, and `run`.
//!
//! Secrets never come in as arguments, where every process on the machine could read them, and leave on stdout only
//! where the command's help says so. What a command answers goes to stdout; everything else goes to stderr.

use std::{
    future::Future,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod args;
mod audit;
mod client;
mod config;
mod demo;
mod dev;
mod exit;
mod feed;
mod init;
mod logs;
mod node;
mod remote;
mod secret;
mod serve;
mod token;
mod verifier;

use exit::{Exit, Failure, OrExit};

/// Stateless tokens that you can take back.
///
/// Exit codes: 0 yes or done, 1 the answer is no, 2 usage or configuration, 3 not found, 4 not permitted,
/// 5 cannot tell.
#[derive(Debug, Parser)]
#[command(name = "rescind", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Dev(dev::Args),
    Serve(serve::Args),
    Init(init::Args),
    #[command(subcommand)]
    Token(token::Command),
    #[command(subcommand)]
    Feed(feed::Command),
    Verifier(verifier::Args),
    #[command(subcommand)]
    Audit(audit::Command),
}

/// Runs the command line and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => on_runtime(demo::run(args)),
        Command::Dev(args) => on_runtime(dev::run(args)),
        Command::Serve(args) => on_runtime(serve::run(args)),
        Command::Init(args) => init::run(&args),
        Command::Token(command) => token::run(command),
        Command::Feed(feed::Command::Tail(args)) => on_runtime(feed::tail(args)),
        Command::Verifier(args) => on_runtime(verifier::run(args)),
        Command::Audit(command) => on_runtime(audit::run(command)),
    };
    outcome
        .unwrap_or_else(|failure| {
            tell(format_args!("rescind: {:#}", failure.error));
            failure.exit
        })
        .into()
}

fn on_runtime(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.or_exit(Exit::CannotTell, "cannot start the runtime")?.block_on(command)
}

/// A line of a command's answer. A reader that has gone away (`| head`) is told nothing more.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line beside the answer.
fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

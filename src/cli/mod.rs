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
mod audit_log;
mod backup;
mod client;
mod clients;
mod completions;
mod config;
mod configure;
mod consent;
mod demo;
mod dev;
mod doctor;
mod effect;
mod exit;
mod feed;
mod fresh;
mod init;
mod keys;
#[cfg(test)]
mod lists;
mod logs;
mod migrate;
mod node;
mod notify;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod owner;
mod pair;
mod probe;
mod progress;
mod prompt;
#[cfg(test)]
pub(crate) mod reference;
mod reload;
mod remote;
mod restore;
mod revoke;
mod secret;
mod serve;
mod session;
mod store;
mod subject;
mod token;
mod verifier;
mod verifiers;
mod webhook;

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
    Config(configure::Command),
    Backup(backup::Args),
    Restore(restore::Args),
    #[command(subcommand)]
    Store(store::Command),
    #[command(subcommand)]
    Token(token::Command),
    #[command(subcommand)]
    Feed(feed::Command),
    Verifier(verifier::Args),
    #[command(subcommand)]
    Verifiers(verifiers::Command),
    Probe(probe::Args),
    #[command(subcommand)]
    Session(session::Command),
    Revoke(revoke::Args),
    #[command(subcommand)]
    Audit(Audit),
    #[command(subcommand)]
    Keys(keys::Command),
    #[command(subcommand)]
    Subject(subject::Command),
    #[command(subcommand)]
    Webhook(webhook::Command),
    #[command(subcommand)]
    Client(clients::Command),
    Doctor(doctor::Args),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Look at the audit log: who had access and when, and who took it away.
#[derive(Debug, Subcommand)]
enum Audit {
    List(audit_log::ListArgs),
    Tail(audit_log::TailArgs),
    Verify(audit::VerifyArgs),
    Export(audit::ExportArgs),
}

/// Runs the command line and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => on_runtime(demo::run(args)),
        Command::Dev(args) => on_runtime(dev::run(args)),
        Command::Serve(args) => on_runtime(serve::run(args)),
        Command::Init(args) => init::run(&args),
        Command::Config(command) => configure::run(&command),
        Command::Backup(args) => on_runtime(backup::run(args)),
        Command::Restore(args) => restore::run(&args),
        Command::Store(command) => on_runtime(store::run(command)),
        Command::Token(command) => token::run(command),
        Command::Feed(feed::Command::Tail(args)) => on_runtime(feed::tail(args)),
        Command::Verifier(args) => on_runtime(verifier::run(args)),
        Command::Verifiers(verifiers::Command::List(args)) => on_runtime(verifiers::list(args)),
        Command::Probe(args) => on_runtime(probe::run(args)),
        Command::Session(command) => on_runtime(session::run(command)),
        Command::Revoke(args) => on_runtime(revoke::run(args)),
        Command::Audit(Audit::List(args)) => on_runtime(audit_log::list(args)),
        Command::Audit(Audit::Tail(args)) => on_runtime(audit_log::tail(args)),
        Command::Audit(Audit::Verify(args)) => on_runtime(audit::verify(args)),
        Command::Audit(Audit::Export(args)) => on_runtime(audit::export(args)),
        Command::Subject(command) => on_runtime(subject::run(command)),
        Command::Webhook(webhook::Command::Test(args)) => on_runtime(webhook::test(args)),
        Command::Keys(command) => on_runtime(keys::run(command)),
        Command::Client(command) => on_runtime(clients::run(command)),
        Command::Doctor(args) => on_runtime(doctor::run(args)),
        Command::Completions(args) => Ok(completions::completions(&args)),
        Command::Man(args) => completions::man(&args),
    };
    outcome
        .unwrap_or_else(|failure| {
            tell(format_args!("rescind: {failure}"));
            failure.exit
        })
        .into()
}

/// What must hold of any configuration: it is refused with a reason, or it can be used.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match config::Config::parse(text, std::path::Path::new("/etc/rescind")) {
        Ok(config) => {
            let lives = config.lives();
            assert!(lives.access <= lives.absolute && lives.idle <= lives.absolute);
            let _ = (config.limits(), config.key_settings(), config.clients());
        }
        Err(why) => assert!(!why.error.to_string().is_empty()),
    }
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

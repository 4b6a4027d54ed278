//! `rescind keys`: the signing keys, where each is in its life, and what moves it on; and the symmetric keys.

use clap::Subcommand;

use super::{Exit, Failure};

mod compromise;
mod export;
mod followers;
mod foreign;
mod import;
mod kid;
mod list;
mod order;
#[cfg(test)]
mod page;
mod schedule;
mod secret;
mod share;
mod tell;

/// Look at the signing keys, move them on by the schedule's rules, and give up one that has leaked.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(list::ListArgs),
    Show(list::ShowArgs),
    Schedule(schedule::Args),
    Rotate(order::RotateArgs),
    Rollback(order::RollbackArgs),
    Compromise(compromise::Args),
    Generate(order::GenerateArgs),
    Activate(order::ActivateArgs),
    Retire(order::RetireArgs),
    Destroy(order::DestroyArgs),
    Import(import::Args),
    Export(export::Args),
    Share(share::Args),
    Secrets(secret::SecretsArgs),
    ForgetUnknown(secret::ForgetArgs),
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(args) => list::list(args).await,
        Command::Show(args) => list::show(args).await,
        Command::Schedule(args) => schedule::run(args).await,
        Command::Rotate(args) => order::rotate(args).await,
        Command::Rollback(args) => order::roll_back(args).await,
        Command::Compromise(args) => compromise::run(args).await,
        Command::Generate(args) => order::generate(args).await,
        Command::Activate(args) => order::activate(args).await,
        Command::Retire(args) => order::retire(args).await,
        Command::Destroy(args) => order::destroy(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Share(args) => share::run(&args),
        Command::Secrets(args) => secret::list(args).await,
        Command::ForgetUnknown(args) => secret::forget(args).await,
    }
}

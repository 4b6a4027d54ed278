//! `rescind client`: who may speak to the service, changed while it runs.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure,
    args::reason,
    consent::{Consent, Foreseen},
    effect,
    output::{members, plain, table, text, when},
    remote::{Remote, Server},
    say, tell,
};
use crate::model::ClientId;

mod secret_file;
mod secrets;

/// Look at clients, disable and enable them, replace their secrets.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Disable(DisableArgs),
    Enable(EnableArgs),
    RotateSecret(secrets::RotateArgs),
    DropSecret(secrets::DropArgs),
    GenerateSecret(secrets::GenerateArgs),
}

pub(super) async fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Disable(args) => disable(args).await,
        Command::Enable(args) => enable(args).await,
        Command::RotateSecret(args) => secrets::rotate(args).await,
        Command::DropSecret(args) => secrets::drop_one(args).await,
        Command::GenerateSecret(args) => secrets::generate(&args),
    }
}

/// List the clients, by name.
///
/// Needs the permission clients:read.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Print the answer of GET /v1/clients.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let answer = args.server.connect()?.get(&["v1", "clients"], &[]).await?;
    if args.json {
        say(answer);
        return Ok(Exit::Yes);
    }
    let row = |client: &Value| {
        let secrets = client["secrets"].as_array().map_or(0, Vec::len);
        vec![
            text(&client["client_id"]),
            text(&client["state"]),
            methods(client),
            if secrets == 0 { String::new() } else { secrets.to_string() },
            text(&client["permissions"]),
        ]
    };
    let heading = ["CLIENT", "STATE", "PROVES ITSELF BY", "SECRETS", "PERMISSIONS"];
    table(&heading, 2, answer["clients"].as_array().into_iter().flatten().map(row));
    Ok(Exit::Yes)
}

fn methods(client: &Value) -> String {
    let methods = text(&client["methods"]);
    if methods.is_empty() { "nothing (public)".into() } else { methods }
}

/// Show one client.
///
/// Needs the permission clients:read.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The client.
    id: ClientId,
    /// Print the answer of GET /v1/clients/{client_id}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

async fn show(args: ShowArgs) -> Result<Exit, Failure> {
    let client = fetch(&args.server.connect()?, &args.id).await?;
    show_client(&client, args.json);
    Ok(Exit::Yes)
}

async fn fetch(remote: &Remote, id: &ClientId) -> Result<Value, Failure> {
    remote.get(&["v1", "clients", id.as_str()], &[]).await
}

fn show_client(client: &Value, json: bool) {
    if json {
        say(client);
        return;
    }
    let disabled = &client["disabled"];
    let since = match disabled["since"].as_str() {
        Some(_) => format!("{} by {}", when(&disabled["since"]), text(&disabled["by"])),
        None => String::new(),
    };
    members([
        ("client", text(&client["client_id"])),
        ("state", text(&client["state"])),
        ("disabled", since),
        ("reason", text(&disabled["reason"])),
        ("proves itself by", methods(client)),
        ("keys", text(&client["keys"])),
        ("permissions", text(&client["permissions"])),
        ("scope", text(&client["scope"])),
        ("audience", text(&client["audience"])),
        ("introspects for", text(&client["introspect_audience"])),
    ]);
    for secret in client["secrets"].as_array().into_iter().flatten() {
        let until = match secret["valid_until"].as_str() {
            Some(_) => format!(", until {}", when(&secret["valid_until"])),
            None => String::new(),
        };
        say(format_args!("secret {}  {}{until}", text(&secret["secret_id"]), text(&secret["origin"])));
    }
}

/// Refuse a client from now on, everywhere.
///
/// It outlives restarts. Its sessions wait until it is enabled again, and access tokens that are out live to their end,
/// unless --end-sessions ends both in the same step. Needs the permission clients:write; to count what would end, before
/// it asks and with --dry-run, revoke:client too.
///
/// Exit codes: 0 done, 1 nobody agreed or it is the asking client itself, 2 nobody could be asked, 3 no such client,
/// 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(super) struct DisableArgs {
    /// The client.
    id: ClientId,
    /// End its sessions and their tokens, too. That cannot be undone.
    #[arg(long)]
    end_sessions: bool,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// Print the answer of POST /v1/clients/{client_id}/disable; with --dry-run an object with `dry_run`, `client` and
    /// `impact`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

async fn disable(args: DisableArgs) -> Result<Exit, Failure> {
    let consent = args.consent;
    let foresee = async |remote: &Remote| {
        let impact = impact(remote, &args).await?;
        let words = question(&args.id, &impact);
        // Who is asked can do without it.
        let client = if consent.dry_run { fetch(remote, &args.id).await? } else { Value::Null };
        Ok(Foreseen::new(json!({"dry_run": true, "client": client, "impact": impact}), words))
    };
    let order = async |remote: &Remote| {
        let order = json!({"end_sessions": args.end_sessions, "reason": args.reason});
        let done = remote.post(&["v1", "clients", args.id.as_str(), "disable"], &order).await?;
        show_disabled(&done, args.json);
        Ok(Exit::Yes)
    };
    consent.carry_out(&args.server, args.json, foresee, order).await
}

fn show_disabled(done: &Value, json: bool) {
    if json {
        return say(done);
    }
    show_client(&done["client"], false);
    if done["revocation"].is_null() {
        tell("Refused from now on. Access tokens that it has go on to their end; --end-sessions ends them.");
    } else {
        members(effect::effect(&done["revocation"]["effect"]));
    }
}

/// What would end with it. Null: nothing is to end.
async fn impact(remote: &Remote, args: &DisableArgs) -> Result<Value, Failure> {
    if !args.end_sessions {
        return Ok(Value::Null);
    }
    let order = json!({"kind": "client", "id": args.id, "dry_run": true});
    remote.post(&["v1", "revocations"], &order).await
}

fn question(id: &ClientId, impact: &Value) -> String {
    let id = plain(id.as_str());
    if impact.is_null() {
        return format!("This would refuse client {id} everywhere; its sessions and tokens stay.");
    }
    format!("This would refuse client {id} everywhere. {}", effect::sentence(impact))
}

/// Let a disabled client in again. What was ended with it stays ended.
///
/// Needs the permission clients:write.
#[derive(Debug, clap::Args)]
pub(super) struct EnableArgs {
    /// The client.
    id: ClientId,
    /// Why, for the audit log.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// Print the answer of POST /v1/clients/{client_id}/enable.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

async fn enable(args: EnableArgs) -> Result<Exit, Failure> {
    let order = json!({"reason": args.reason});
    let client = args.server.connect()?.post(&["v1", "clients", args.id.as_str(), "enable"], &order).await?;
    show_client(&client, args.json);
    Ok(Exit::Yes)
}

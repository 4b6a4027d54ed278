//! `rescind webhook test`.

use clap::Subcommand;
use serde_json::json;

use super::{
    Exit, Failure,
    output::{plain, text},
    remote::Server,
    say,
};

/// The webhook that security events are sent to.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Test(TestArgs),
}

/// Send one test message to the webhook, and say whether it was taken.
///
/// It is signed as all others are. Needs the permission webhook:test. Exit codes: 0 taken, 1 not taken or no webhook.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn test(args: TestArgs) -> Result<Exit, Failure> {
    let attempt = args.server.connect()?.post(&["v1", "webhook", "test"], &json!({})).await?;
    let delivered = attempt["delivered"] == true;
    if args.json {
        say(&attempt);
    } else if delivered {
        say(format_args!("taken, with status {}", text(&attempt["status"])));
    } else {
        let problem = plain(attempt["problem"].as_str().unwrap_or("no reason given"));
        say(match attempt["status"].as_u64() {
            Some(status) => format!("not taken, with status {status}: {problem}"),
            None => format!("not taken: {problem}"),
        });
    }
    Ok(if delivered { Exit::Yes } else { Exit::No })
}

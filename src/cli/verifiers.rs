//! `rescind verifiers`: who follows the feed and says so, and how far they are.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Failure,
    output::{table, text, when},
    remote::Server,
    say, tell,
};

/// Look at the verifiers that report how far they are.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(ListArgs),
}

/// List the verifiers that report how far they are, by client and name.
///
/// current: it has applied all that was acknowledged more than 5 s ago; behind: it has not; silent: it has asked nothing
/// for 30 s. Silent ones are forgotten after 15 minutes. It is their own word, a help and no evidence: a verifier that does
/// not report is not listed, and follows the feed all the same. Needs the permission verifiers:read.
///
/// Exit codes: 0 listed, and with --position all that are heard of have applied it; 1 with --position, one has not, or
/// nobody has.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Also count those that have applied the feed up to here: the position that a revocation was given.
    #[arg(long, value_name = "NUMBER")]
    position: Option<u64>,
    /// Print one JSON object with `epoch`, `head`, `states`, `applied` and `verifiers`, as GET /v1/verifiers has them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    let remote = args.server.connect()?;
    let (mut verifiers, mut after) = (Vec::new(), None);
    let mut page = loop {
        let mut query = vec![("limit", "200".to_owned())];
        query.extend(args.position.map(|position| ("position", position.to_string())));
        query.extend(after.map(|after| ("after", after)));
        let mut page = remote.get(&["v1", "verifiers"], &query).await?;
        verifiers.extend(page["verifiers"].as_array_mut().map(std::mem::take).unwrap_or_default());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break page;
        }
    };
    let [epoch, head, states, applied] = ["epoch", "head", "states", "applied"].map(|name| page[name].take());
    let exit = if args.position.is_none() || is_applied(&applied) { Exit::Yes } else { Exit::No };
    if args.json {
        say(json!({"epoch": epoch, "head": head, "states": states, "applied": applied, "verifiers": verifiers}));
        return Ok(exit);
    }
    if verifiers.is_empty() {
        tell("no verifier reports; those that do not are not seen here");
    } else {
        rows(&verifiers);
        let [current, behind, silent] = ["current", "behind", "silent"].map(|name| text(&states[name]));
        tell(format_args!("{current} current, {behind} behind, {silent} silent; the feed ends at {}.", text(&head)));
    }
    if args.position.is_some() {
        let [position, applied, missing, silent] =
            ["position", "applied", "missing", "silent"].map(|name| text(&applied[name]));
        say(format_args!(
            "position {position}: {applied} applied it, {missing} not yet, {silent} fell silent before that"
        ));
    }
    Ok(exit)
}

/// By all that are heard of, and by one at least.
fn is_applied(counts: &Value) -> bool {
    counts["applied"].as_u64().is_some_and(|applied| applied > 0) && counts["missing"] == 0
}

fn rows(verifiers: &[Value]) {
    let heading = ["CLIENT", "NAME", "STATE", "POSITION", "BEHIND", "SINCE", "KEYS", "SEEN", "ADDRESS"];
    let row = |verifier: &Value| {
        let [client, name, state, address] =
            ["client_id", "name", "state", "address"].map(|name| text(&verifier[name]));
        let [position, behind] = ["position", "behind"].map(|name| match &verifier[name] {
            Value::Null => "?".to_owned(),
            number => text(number),
        });
        let keys = if verifier["keys_current"] == true { "current" } else { "not current" };
        let [since, seen] = ["behind_since", "seen_at"].map(|name| when(&verifier[name]));
        vec![client, name, state, position, behind, since, keys.to_owned(), seen, address]
    };
    table(&heading, 2, verifiers.iter().map(row));
}

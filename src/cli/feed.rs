//! `rescind feed`: what an issuer has revoked, as its verifiers hear of it.

use std::io::{self, Write};

use clap::Subcommand;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Exit, Failure, OrExit, client, node::stop_signal, tell};
use crate::{
    model::{
        Timestamp,
        denial::{Ends, Target},
        feed::{Epoch, Item},
    },
    verifier::{
        Verifier,
        follow::{Observed, Then},
    },
};

/// Look at an issuer's revocation feed.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Tail(Args),
}

/// Print the live entries of the feed, oldest first.
///
/// Every one is verified as verifiers do. What it denies is named as in the token: jti, sid, sub_ref, client_id, kid.
/// Anyone may read the feed; it tells no subject by name.
///
/// Exit codes: 0 all was printed, 5 the issuer cannot be asked. With --follow, SIGTERM and SIGINT end it with 0.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The issuer, exactly as tokens name it in `iss`.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Go on, and print new entries as they come.
    #[arg(long)]
    follow: bool,
    /// Print one JSON object per entry, as the feed has it, with its `epoch`; times in milliseconds since 1970.
    #[arg(long)]
    json: bool,
}

pub(super) async fn tail(args: Args) -> Result<Exit, Failure> {
    client::issuer(&args.issuer)?;
    let stop = stop_signal()?;
    let (observer, mut observed) = mpsc::channel(1);
    // It judges no tokens.
    let verifier = Verifier::builder(&*args.issuer).dangerous_any_audience().follow_observed(observer);
    let _verifier = verifier.or_exit(Exit::Usage, format!("--issuer `{}`", args.issuer))?;
    tokio::pin!(stop);
    let (mut log, mut last_failure) = (Log::default(), None);
    loop {
        let heard = tokio::select! {
            heard = observed.recv() => heard,
            () = &mut stop => None,
        };
        match heard {
            None => return Ok(Exit::Yes),
            Some(Observed::Failed(why)) if !args.follow => return Err(anyhow::anyhow!("{why}").into()),
            Some(Observed::Failed(why)) => {
                if last_failure.as_ref() != Some(&why) {
                    tell(format_args!("rescind: {why}; trying on"));
                }
                last_failure = Some(why);
            }
            Some(Observed::Entries { epoch, items, is_page, then }) => {
                last_failure = None;
                // A reader that has gone away (`| head`) wants to hear nothing more.
                let printed = print(epoch, &log.arrange(epoch, items, is_page, then), args.json);
                if printed.is_err() || (!args.follow && then == Then::Nothing) {
                    return Ok(Exit::Yes);
                }
            }
        }
    }
}

/// Puts into order what a follower takes in: of a log that it does not know yet, the end comes first.
#[derive(Default)]
struct Log {
    epoch: Option<Epoch>,
    /// Up to where it has been passed on.
    passed: u64,
    /// A tail that waits for the pages before it.
    held: Vec<Item>,
}

impl Log {
    /// What is next, each entry once.
    fn arrange(&mut self, epoch: Epoch, items: Vec<Item>, is_page: bool, then: Then) -> Vec<Item> {
        if self.epoch != Some(epoch) {
            *self = Self { epoch: Some(epoch), ..Self::default() };
        }
        let pages_follow = then == Then::Pages;
        if pages_follow && !is_page {
            self.held = items;
            return Vec::new();
        }
        let mut ready = items;
        if !pages_follow {
            ready.append(&mut self.held);
        }
        ready.retain(|item| {
            let is_new = item.position > self.passed;
            self.passed = self.passed.max(item.position);
            is_new
        });
        ready
    }
}

#[derive(Serialize)]
struct Line<'a> {
    epoch: Epoch,
    #[serde(flatten)]
    item: &'a Item,
}

fn print(epoch: Epoch, items: &[Item], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for item in items {
        if json {
            writeln!(out, "{}", serde_json::to_string(&Line { epoch, item })?)?;
        } else {
            writeln!(out, "{}", in_words(item))?;
        }
    }
    out.flush()
}

/// `12  session  019a…  until 2026-11-22T12:06:05.123Z`
fn in_words(item: &Item) -> String {
    let id = match &item.target {
        Target::Token(id) => id.to_string(),
        Target::Session(id) => id.to_string(),
        Target::Subject(id) => id.to_string(),
        Target::Client(id) => id.to_string(),
        Target::Key(id) => id.to_string(),
        Target::All => "*".into(),
    };
    let what = match item.ends {
        Ends::Sessions => "sessions opened",
        Ends::Tokens => "tokens minted",
    };
    let cut_off = format!("  {what} before {}", item.before.to_rfc3339());
    let cut_off = if item.target.is_cut_off() { cut_off } else { String::new() };
    let until =
        if item.until == Timestamp::MAX { "for ever".into() } else { format!("until {}", item.until.to_rfc3339()) };
    format!("{:>8}  {:<7}  {id}{cut_off}  {until}", item.position, item.target.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch([1; 16]);

    fn items(positions: impl IntoIterator<Item = u64>) -> Vec<Item> {
        let item = |position| Item {
            position,
            target: Target::All,
            ends: Ends::Tokens,
            before: Timestamp::from_millis(1),
            until: Timestamp::from_millis(2),
        };
        positions.into_iter().map(item).collect()
    }
    const NONE: [u64; 0] = [];

    /// The positions of what is next.
    fn arranged(log: &mut Log, epoch: Epoch, items: Vec<Item>, is_page: bool, then: Then) -> Vec<u64> {
        log.arrange(epoch, items, is_page, then).into_iter().map(|item| item.position).collect()
    }

    #[test]
    fn a_log_that_is_read_from_its_end_comes_in_order() {
        let mut log = Log::default();
        assert_eq!(arranged(&mut log, EPOCH, items([2001, 2005]), false, Then::Pages), NONE);
        assert_eq!(arranged(&mut log, EPOCH, items([3, 700]), true, Then::Pages), [3, 700]);
        assert_eq!(arranged(&mut log, EPOCH, items([1001]), true, Then::Nothing), [1001, 2001, 2005]);
        assert_eq!(arranged(&mut log, EPOCH, items([2006]), false, Then::Nothing), [2006]);
    }

    #[test]
    fn what_comes_again_is_not_shown_again() {
        let mut log = Log::default();
        log.arrange(EPOCH, items([1, 2]), false, Then::Nothing);
        // Cut off for long: the end first, then the pages from the first live one.
        assert_eq!(arranged(&mut log, EPOCH, items([1500]), false, Then::Pages), NONE);
        // The page could not be had; the log has grown.
        assert_eq!(arranged(&mut log, EPOCH, items([1500, 1501]), false, Then::Pages), NONE);
        assert_eq!(arranged(&mut log, EPOCH, items([2, 900]), true, Then::Nothing), [900, 1500, 1501]);
        assert_eq!(arranged(&mut log, EPOCH, items([1501, 1502]), false, Then::Nothing), [1502]);
        // The pages reached beyond the tail that waited.
        assert_eq!(arranged(&mut log, EPOCH, items([2400]), false, Then::Pages), NONE);
        assert_eq!(arranged(&mut log, EPOCH, items([2400, 2999]), true, Then::Nothing), [2400, 2999]);
    }

    #[test]
    fn another_life_of_the_log_counts_anew() {
        let mut log = Log::default();
        let other = Epoch([2; 16]);
        assert_eq!(arranged(&mut log, EPOCH, items([1, 2]), false, Then::Nothing), [1, 2]);
        assert_eq!(arranged(&mut log, other, items([1]), false, Then::Nothing), [1]);
    }
}

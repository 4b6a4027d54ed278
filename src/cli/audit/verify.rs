//! `rescind audit verify`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use serde_json::json;

use super::{
    VerifyArgs,
    source::{Pages, Read, Seal, read_line, seal_of},
};
use crate::{
    cli::{
        Exit, Failure, OrExit,
        remote::{self, Remote, Server},
        say, tell,
    },
    model::chain::{Broken, Walk},
};

/// What was found.
struct Found {
    walk: Walk,
    seal: Option<Seal>,
    broken: Option<Broken>,
}

pub(super) async fn run(args: VerifyArgs) -> Result<Exit, Failure> {
    let found = match (&args.file, &args.server, &args.client_id) {
        (Some(file), ..) => of_file(file)?,
        (None, Some(server), Some(client)) => {
            let secret = remote::secret(client, args.client_secret_file.as_deref())?;
            of_service(&Server::known(remote::base(server)?, client, secret)?).await?
        }
        (None, ..) => {
            return Err(Failure::usage("name an export with --file, or a service with --server and --client-id"));
        }
    };
    conclude(&found, args.key.as_deref(), args.json)
}

async fn of_service(remote: &Remote) -> Result<Found, Failure> {
    let mut walk = Walk::default();
    let mut pages = Pages::new(remote, Vec::new(), 0);
    if let Some(broken) = walk_on(&mut walk, &mut pages, u64::MAX).await? {
        return Ok(Found { walk, seal: None, broken: Some(broken) });
    }
    // Asked for after the records, so that it is never behind them; more may have come in between.
    let seal = seal_of(remote).await?;
    let signed = seal.open().map_or(0, |(statement, _)| statement.head.sequence);
    pages.resume(walk.last().unwrap_or(0));
    let broken = walk_on(&mut walk, &mut pages, signed).await?;
    Ok(Found { walk, seal: Some(seal), broken })
}

/// Walks on, as far as to a record that was signed.
async fn walk_on(walk: &mut Walk, pages: &mut Pages<'_>, upto: u64) -> Result<Option<Broken>, Failure> {
    while walk.last().unwrap_or(0) < upto
        && let Some(lines) = pages.next().await?
    {
        if let Err(broken) = lines.iter().filter(|line| line.sequence <= upto).try_for_each(|line| walk.step(line)) {
            return Ok(Some(broken));
        }
    }
    Ok(None)
}

fn of_file(path: &Path) -> Result<Found, Failure> {
    let mut from: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(BufReader::new(io::stdin())),
        _ => Box::new(BufReader::new(File::open(path).or_exit(Exit::Usage, format!("--file {}", path.display()))?)),
    };
    let (mut found, mut number) = (Found { walk: Walk::default(), seal: None, broken: None }, 1);
    // An export of a choice of records has gaps, and no head at its end: each record is looked at by itself.
    let (mut choice, mut bad) = (Walk::of_a_choice(), None);
    while let Some(read) = read_line(&mut from, number)? {
        number += 1;
        match read {
            Read::Cut => tell("the last line is cut off: the export did not end; run it again to complete it"),
            Read::Seal(seal) => found.seal = Some(seal),
            Read::Record(line) => {
                bad = bad.or(choice.step(&line).err());
                if found.broken.is_none() {
                    found.broken = found.walk.step(&line).err();
                }
            }
        }
    }
    match found.seal {
        Some(_) => Ok(found),
        None => Ok(Found { walk: choice, seal: None, broken: bad }),
    }
}

fn conclude(found: &Found, pinned: Option<&str>, as_json: bool) -> Result<Exit, Failure> {
    let (records, erased) = found.walk.seen();
    let signed = found.seal.as_ref().and_then(Seal::open);
    let broken = found.broken.clone().or_else(|| {
        let (statement, _) = signed.as_ref()?;
        let walk = &found.walk;
        walk.began_at(&statement.head).and_then(|()| walk.meets(&statement.head)).and_then(|()| walk.end()).err()
    });
    let (verdict, why) = match (&broken, &signed, pinned) {
        (Some(broken), ..) => (Exit::No, broken.to_string()),
        (None, None, _) if found.seal.is_some() => {
            (Exit::No, "the head of the log is not signed by the key beside it".into())
        }
        (None, None, _) => (
            Exit::CannotTell,
            "no signed head is there: each record fits to the one before it, and nothing \
                                               vouches for the last; export again without a choice"
                .into(),
        ),
        (None, Some((_, kid)), Some(pin)) if kid.as_str() != pin => {
            (Exit::No, format!("signed by {kid}, which is not the --key"))
        }
        (None, Some(_), _) => (Exit::Yes, "whole".into()),
    };
    let kid = signed.as_ref().map(|(_, kid)| kid.to_string());
    if as_json {
        say(json!({
            "whole": verdict == Exit::Yes, "records": records, "erased": erased, "key": kid, "why": why,
            "first_broken": broken.as_ref().map(|b| b.sequence),
            "issuer": signed.as_ref().map(|(s, _)| s.issuer.clone()),
            "first": signed.as_ref().map(|(s, _)| s.head.first), "last": signed.as_ref().map(|(s, _)| s.head.sequence),
        }));
    } else if let (Exit::Yes, Some((statement, kid))) = (verdict, &signed) {
        say(format_args!("whole: {records} records, {} to {}", statement.head.first, statement.head.sequence));
        say(format_args!("log of: {}", statement.issuer));
        say(format_args!("signed by: {kid}{}", if pinned.is_some() { "" } else { " (note it, and give it as --key)" }));
        if erased > 0 {
            say(format_args!("erased: the personal part of {erased} records, as the log tells"));
        }
    } else {
        say(format_args!("{}: {why}", if verdict == Exit::No { "broken" } else { "cannot tell" }));
    }
    Ok(verdict)
}

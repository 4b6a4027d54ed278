//! `rescind audit export`.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde_json::json;

use super::{
    ExportArgs,
    source::{Pages, Read, read_line, seal_of},
};
use crate::{
    cli::{Exit, Failure, OrExit, remote::Remote, say, tell},
    model::{
        Timestamp,
        chain::{Line, Walk},
    },
};

pub(super) async fn run(args: ExportArgs) -> Result<Exit, Failure> {
    let until = args.until.as_deref().and_then(Timestamp::from_rfc3339);
    let remote = args.server.connect()?;
    let mut filter = Vec::new();
    filter.extend(args.since.clone().map(|since| ("since", since)));
    filter.extend(args.subject.as_ref().map(|subject| ("subject", subject.to_string())));
    let written = match &args.output {
        Some(path) => into_file(&remote, path).await?,
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            // A reader that has gone away has had enough.
            match copy(&remote, filter, 0, until, &mut out, None).await {
                Ok(written) if args.subject.is_none() && until.is_none() => seal(&remote, written, &mut out).await?,
                other => other?,
            }
        }
    };
    match (args.json, &args.output) {
        (true, Some(path)) => say(json!({"records": written.records, "last": written.last, "file": path})),
        (true, None) => tell(json!({"records": written.records, "last": written.last, "file": null})),
        (false, Some(path)) => tell(format_args!("{} records added to {}", written.records, path.display())),
        (false, None) => {}
    }
    Ok(Exit::Yes)
}

#[derive(Clone, Copy, Default)]
struct Written {
    records: u64,
    last: u64,
}

/// Copies records that come after a place. A file that is continued is held to its own end.
async fn copy(
    remote: &Remote,
    filter: Vec<(&'static str, String)>,
    after: u64,
    until: Option<Timestamp>,
    out: &mut impl Write,
    mut walk: Option<&mut Walk>,
) -> Result<Written, Failure> {
    let mut pages = Pages::new(remote, filter, after);
    let mut written = Written { records: 0, last: after };
    while let Some(lines) = pages.next().await? {
        for line in lines.iter().filter(|line| until.is_none_or(|until| line.instant().is_some_and(|at| at < until))) {
            if let Some(walk) = walk.as_deref_mut() {
                walk.step(line).map_err(|broken| {
                    let what = "the service's log does not continue this file";
                    Failure::new(Exit::No, anyhow::Error::new(broken).context(what))
                })?;
            }
            put(out, line)?;
            written = Written { records: written.records + 1, last: line.sequence };
        }
        out.flush().or_exit(Exit::CannotTell, "cannot write")?;
    }
    Ok(written)
}

fn put(out: &mut impl Write, line: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(line)?;
    writeln!(out, "{text}").or_exit(Exit::CannotTell, "cannot write")
}

/// Writes the signed head, and the records that came before it was signed.
async fn seal(remote: &Remote, so_far: Written, out: &mut impl Write) -> Result<Written, Failure> {
    let seal = seal_of(remote).await?;
    let signed = seal.open().map_or(0, |(statement, _)| statement.head.sequence);
    let mut written = so_far;
    let mut pages = Pages::new(remote, Vec::new(), so_far.last);
    'reached: while written.last < signed {
        let Some(lines) = pages.next().await? else { break };
        for line in lines {
            if line.sequence > signed {
                break 'reached;
            }
            put(out, &line)?;
            written = Written { records: written.records + 1, last: line.sequence };
        }
    }
    put(out, &seal)?;
    out.flush().or_exit(Exit::CannotTell, "cannot write")?;
    Ok(written)
}

/// Continues a file behind its last whole record; a signed head that stood there makes room for a newer one.
async fn into_file(remote: &Remote, path: &Path) -> Result<Written, Failure> {
    let named = || format!("--output {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = file.or_exit(Exit::Usage, named())?;
    let (mut walk, end) = read_through(&file).map_err(|f| Failure::new(f.exit, f.error.context(named())))?;
    check_same_log(remote, &walk).await.map_err(|f| Failure::new(f.exit, f.error.context(named())))?;
    file.set_len(end).or_exit(Exit::CannotTell, named())?;
    file.seek(SeekFrom::End(0)).or_exit(Exit::CannotTell, named())?;
    let after = walk.last().unwrap_or(0);
    let mut out = BufWriter::new(&file);
    let copied = copy(remote, Vec::new(), after, None, &mut out, Some(&mut walk)).await?;
    let written = seal(remote, copied, &mut out).await?;
    drop(out);
    file.sync_all().or_exit(Exit::CannotTell, named())?;
    Ok(written)
}

/// Before anything is written: what the file ends with is still in the service's log, or right before its beginning. A file
/// that knows more or other than the service is evidence, and stays as it is.
async fn check_same_log(remote: &Remote, walk: &Walk) -> Result<(), Failure> {
    let Some(last) = walk.last() else { return Ok(()) };
    let mut pages = Pages::new(remote, Vec::new(), last - 1);
    while let Some(lines) = pages.next().await? {
        match lines.first() {
            Some(line) if walk.continues_with(line) => return Ok(()),
            Some(_) => break,
            None => {}
        }
    }
    let what = "this file knows more, or other, than the service's log: has the store been restored? Nothing was written; \
                keep the file, and export into a new one";
    Err(Failure::new(Exit::No, anyhow::anyhow!("{what}")))
}

/// What the file holds already, and where its last whole record ends.
fn read_through(file: &File) -> Result<(Walk, u64), Failure> {
    let mut from = BufReader::new(file);
    let (mut walk, mut end, mut number) = (Walk::default(), 0, 1);
    loop {
        match read_line(&mut from, number)? {
            Some(Read::Record(line)) => step(&mut walk, &line)?,
            Some(Read::Seal(_) | Read::Cut) | None => return Ok((walk, end)),
        }
        end = from.stream_position().or_exit(Exit::CannotTell, "cannot read")?;
        number += 1;
    }
}

fn step(walk: &mut Walk, line: &Line) -> Result<(), Failure> {
    walk.step(line).map_err(|broken| Failure::new(Exit::No, anyhow::Error::new(broken).context("the file is broken")))
}

//! Where records come from: a running service, page by page, or an export, line by line.

use std::io::BufRead;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cli::{Exit, Failure, OrExit, progress::Progress, remote::Remote},
    model::{
        JwkSet, Kid,
        chain::{Line, Statement},
    },
    service::read_statement,
};

/// Records asked for at once.
const PAGE: usize = 1000;
/// No line of an export is longer.
const LONGEST: u64 = 64 << 10;

/// The service's word on its log, as the last line of an export has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) statement: Option<String>,
    pub(super) key: Value,
}

/// Pages of a service.
pub(super) struct Pages<'r> {
    remote: &'r Remote,
    filter: Vec<(&'static str, String)>,
    after: Option<u64>,
    ended: bool,
    read: usize,
    progress: Progress,
}

impl<'r> Pages<'r> {
    pub(super) fn new(remote: &'r Remote, filter: Vec<(&'static str, String)>, after: u64) -> Self {
        Self { remote, filter, after: Some(after), ended: false, read: 0, progress: Progress::new() }
    }

    /// The next page; none at the end. A page may be empty and not be the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Line>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let mut query = self.filter.clone();
        query.push(("after", self.after.unwrap_or(0).to_string()));
        query.push(("limit", PAGE.to_string()));
        let mut page = self.remote.get(&["v1", "audit"], &query).await?;
        let lines: Vec<Line> = serde_json::from_value(page["records"].take())
            .or_exit(Exit::CannotTell, "the answer holds no audit records; is --server a Rescind service?")?;
        match page["next"].as_u64() {
            Some(next) => self.after = Some(next),
            None => self.ended = true,
        }
        self.read += lines.len();
        self.progress.tell(format_args!("{} records", self.read));
        Ok(Some(lines))
    }

    /// Goes on after an end that has moved since.
    pub(super) fn resume(&mut self, after: u64) {
        (self.after, self.ended) = (Some(after), false);
    }
}

pub(super) async fn seal_of(remote: &Remote) -> Result<Seal, Failure> {
    let answer = remote.get(&["v1", "audit", "head"], &[]).await?;
    serde_json::from_value(answer).or_exit(Exit::CannotTell, "the answer holds no head of an audit log")
}

impl Seal {
    /// What it says, and which key signed it. The key's name is computed, not believed.
    pub(super) fn open(&self) -> Option<(Statement, Kid)> {
        let set = serde_json::json!({"keys": [self.key]}).to_string();
        let keys = JwkSet::parse(set.as_bytes()).ok()?;
        let statement = read_statement(self.statement.as_deref()?, &keys)?;
        Some((statement, keys.keys.first()?.key.thumbprint()))
    }
}

/// A line of an export.
pub(super) enum Read {
    Record(Box<Line>),
    Seal(Seal),
    /// Cut off in the middle: an export that broke off.
    Cut,
}

/// The next line of an export; none at its end.
pub(super) fn read_line(from: &mut impl BufRead, number: usize) -> Result<Option<Read>, Failure> {
    let mut text = String::new();
    let long = std::io::Read::take(&mut *from, LONGEST).read_line(&mut text);
    if long.or_exit(Exit::CannotTell, format!("line {number}"))? == 0 {
        return Ok(None);
    }
    if !text.ends_with('\n') {
        return Ok(Some(Read::Cut));
    }
    if let Ok(line) = serde_json::from_str::<Line>(&text) {
        return Ok(Some(Read::Record(Box::new(line))));
    }
    let what = format!("line {number} is neither an audit record nor the head of the log; is it an export?");
    serde_json::from_str(&text).map(|seal| Some(Read::Seal(seal))).or_exit(Exit::CannotTell, what)
}

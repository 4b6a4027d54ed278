//! `rescind audit tail`: the end of the log, and what is added to it.

use std::{
    io::{self, Write},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::{
    super::{Exit, Failure, node::stop_signal, remote::Remote, remote::Server, tell},
    Filter, first, last, row,
};

/// How often the log is asked for news.
const EVERY: Duration = Duration::from_secs(1);
/// How often while the service does not answer.
const WHEN_DOWN: Duration = Duration::from_secs(3);
/// Records in one go.
const BATCH: usize = 1000;

/// Print the end of the audit log, one record a line.
///
/// With --follow it goes on: also over a restart of the service, each record once, by their sequence. SIGINT and
/// SIGTERM end it with 0, as does a reader that goes away. Needs the permission audit:read.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Begin with so many of the last records.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    lines: u64,
    /// Begin after this sequence instead: where an earlier run has ended.
    #[arg(long, value_name = "SEQUENCE", conflicts_with = "lines")]
    after: Option<u64>,
    /// Go on, and print new records as they come.
    #[arg(long, short)]
    follow: bool,
    /// Print one JSON object per record, as GET /v1/audit has them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    server: Server,
}

pub(in crate::cli) async fn run(args: Args) -> Result<Exit, Failure> {
    args.filter.check()?;
    let remote = args.server.connect()?;
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let mut tail = Tail { remote, args, place: 0, down: false };
    tokio::select! {
        ended = tail.print() => ended,
        () = &mut stop => Ok(Exit::Yes),
    }
}

struct Tail {
    remote: Remote,
    args: Args,
    /// The sequence up to which everything that matches has been printed.
    place: u64,
    down: bool,
}

/// Whether to go on.
type GoOn = bool;

impl Tail {
    async fn print(&mut self) -> Result<Exit, Failure> {
        if !self.begin().await? {
            return Ok(Exit::Yes);
        }
        while self.args.follow {
            let pause = match self.news().await {
                Ok(true) => {
                    self.answers();
                    EVERY
                }
                Ok(false) => break,
                Err(failure) => self.trouble(failure)?,
            };
            tokio::time::sleep(pause).await;
            if has_no_reader() {
                break;
            }
        }
        Ok(Exit::Yes)
    }

    /// What is there already.
    async fn begin(&mut self) -> Result<GoOn, Failure> {
        if let Some(after) = self.args.after {
            self.place = after;
            return self.news().await;
        }
        let head = self.head().await?;
        let lines = usize::try_from(self.args.lines).unwrap_or(usize::MAX);
        self.place = head;
        if lines == 0 || head == 0 {
            return Ok(true);
        }
        let (records, _) = last(&self.remote, &self.args.filter, head + 1, lines).await?;
        Ok(self.show(&records))
    }

    /// The last sequence of the log.
    async fn head(&self) -> Result<u64, Failure> {
        let query = [("order", "newest".to_owned()), ("limit", "1".to_owned())];
        let page = self.remote.get(&["v1", "audit"], &query).await?;
        Ok(page["records"][0]["sequence"].as_u64().unwrap_or(0))
    }

    /// What came since.
    async fn news(&mut self) -> Result<GoOn, Failure> {
        let head = self.head().await?;
        if head < self.place {
            tell(format_args!(
                "rescind: the log ends at {head}, where {} had been read: it is another or an older one, read from its \
                 start",
                self.place
            ));
            self.place = 0;
        }
        while self.place < head {
            let (records, more) = first(&self.remote, &self.args.filter, self.place, BATCH).await?;
            self.tell_of_gap(&records);
            if !self.show(&records) {
                return Ok(false);
            }
            let read = records.last().and_then(sequence).unwrap_or(self.place);
            self.place = if more { read } else { read.max(head) };
        }
        Ok(true)
    }

    /// A log that is full drops its oldest records, perhaps before they were read.
    fn tell_of_gap(&self, records: &[Value]) {
        let next = self.place + 1;
        if let Some(found) = records.first().and_then(sequence)
            && self.place > 0
            && self.args.filter.is_everything()
            && found > next
        {
            tell(format_args!("rescind: records {next} to {} had left the log before they were read", found - 1));
        }
    }

    /// Whether there still is a reader.
    fn show(&self, records: &[Value]) -> GoOn {
        let mut out = io::stdout().lock();
        let line = |record: &Value| if self.args.json { record.to_string() } else { in_words(record) };
        let mut lines = records.iter().map(line);
        lines.try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()).is_ok()
    }

    fn answers(&mut self) {
        if std::mem::take(&mut self.down) {
            tell("rescind: the service answers again");
        }
    }

    /// What passes is said once and waited for; the rest ends it.
    fn trouble(&mut self, failure: Failure) -> Result<Duration, Failure> {
        if failure.exit != Exit::CannotTell {
            return Err(failure);
        }
        if !std::mem::replace(&mut self.down, true) {
            tell(format_args!("rescind: {failure}; trying on"));
        }
        Ok(WHEN_DOWN)
    }
}

fn sequence(record: &Value) -> Option<u64> {
    record["sequence"].as_u64()
}

/// `12  2026-11-22 12:00:00Z  revoked  done  by operator  subject alice  session 019a…  10.0.0.1, subject: stolen`
fn in_words(record: &Value) -> String {
    let [place, time, event, outcome, by, client, subject, session, why] = row(record);
    let named = [("by", by), ("client", client), ("subject", subject), ("session", session)];
    let named = named.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name} {value}"));
    let why = Some(why).filter(|why| !why.is_empty());
    let words = [place, time, event, outcome].into_iter().chain(named).chain(why).collect::<Vec<_>>();
    words.join("  ")
}

/// Whether stdout leads nowhere any more. Found out without writing: a quiet log may have nothing to write for days.
fn has_no_reader() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL)
}

//! `rescind audit list` and `tail`: who had access and when, and who took it away.

use serde_json::{Value, json};

use super::{
    Exit, Failure,
    args::{id, instant},
    output::{table, text, when},
    remote::{Remote, Server},
    say, tell,
};
use crate::model::{SessionId, Subject};

mod tail;

pub(super) use tail::{Args as TailArgs, run as tail};

/// Which records.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which records")]
pub(super) struct Filter {
    /// Of this subject.
    #[arg(long, value_name = "SUB")]
    subject: Option<Subject>,
    /// Of this session.
    #[arg(long, value_name = "SID")]
    session: Option<String>,
    /// Not before this instant (RFC 3339).
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<String>,
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let subject = self.subject.as_ref().map(ToString::to_string);
        let all = [("subject", subject), ("session", self.session.clone()), ("since", self.since.clone())];
        all.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
    }

    /// Before anything is asked.
    fn check(&self) -> Result<(), Failure> {
        self.session.as_ref().map_or(Ok(()), |sid| id::<SessionId>("--session", sid).map(drop))
    }

    fn is_everything(&self) -> bool {
        self.query().is_empty()
    }
}

/// List records of the audit log, the oldest first.
///
/// The last ones, unless --since or --oldest says otherwise. Needs the permission audit:read.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    /// The first ones instead of the last ones.
    #[arg(long)]
    oldest: bool,
    /// Print one JSON object with `records`, each as GET /v1/audit has them, and `more`: whether there are others.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn list(args: ListArgs) -> Result<Exit, Failure> {
    args.filter.check()?;
    let remote = args.server.connect()?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let from_start = args.oldest || args.filter.since.is_some();
    let (records, more) = if from_start {
        first(&remote, &args.filter, 0, limit).await?
    } else {
        last(&remote, &args.filter, 0, limit).await?
    };
    if args.json {
        say(json!({"records": records, "more": more}));
        return Ok(Exit::Yes);
    }
    if records.is_empty() {
        tell("no records");
        return Ok(Exit::Yes);
    }
    rows(&records);
    if more {
        tell(format_args!("rescind: {} of them; there are more, which --limit lets in", records.len()));
    }
    Ok(Exit::Yes)
}

/// Records after a place, the oldest first, and whether there are more.
async fn first(remote: &Remote, filter: &Filter, after: u64, limit: usize) -> Result<(Vec<Value>, bool), Failure> {
    pages(remote, filter, after, limit, "oldest").await
}

/// Records before a place (0: the end), the last `limit` of them in the order of time, and whether there are more.
async fn last(remote: &Remote, filter: &Filter, before: u64, limit: usize) -> Result<(Vec<Value>, bool), Failure> {
    let (mut records, more) = pages(remote, filter, before, limit, "newest").await?;
    records.reverse();
    Ok((records, more))
}

async fn pages(
    remote: &Remote,
    filter: &Filter,
    mut after: u64,
    limit: usize,
    order: &str,
) -> Result<(Vec<Value>, bool), Failure> {
    let mut records = Vec::new();
    loop {
        let wanted = (limit - records.len()).min(200);
        let mut query = filter.query();
        query.extend([("order", order.to_owned()), ("after", after.to_string()), ("limit", wanted.to_string())]);
        let mut page = remote.get(&["v1", "audit"], &query).await?;
        records.append(page["records"].as_array_mut().unwrap_or(&mut Vec::new()));
        match page["next"].as_u64() {
            Some(next) if records.len() < limit => after = next,
            next => return Ok((records, next.is_some())),
        }
    }
}

const HEADING: [&str; 9] = ["SEQ", "TIME", "EVENT", "OUTCOME", "BY", "CLIENT", "SUBJECT", "SESSION", "FROM, WHY"];

fn rows(records: &[Value]) {
    table(&HEADING, 1, records.iter().map(|record| row(record).to_vec()));
}

fn row(record: &Value) -> [String; 9] {
    let member = |name: &str| text(&record[name]);
    let why = [member("ip"), member("cause")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    [
        member("sequence"),
        when(&record["at"]),
        member("event"),
        member("outcome"),
        member("actor"),
        member("client_id"),
        member("subject"),
        member("session_id"),
        why.join(", "),
    ]
}

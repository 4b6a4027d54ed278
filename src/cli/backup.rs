//! `rescind backup`: a copy of the store of a running service.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Method;
use serde::Serialize;

use super::{Exit, Failure, OrExit, progress::Progress, remote::Server, say, tell};
use crate::{
    model::Installation,
    store::embedded::{Head, Summary, check},
};

/// A backup of any size may take its time, as long as it goes on.
const WHOLE_TIME: Duration = Duration::from_secs(24 * 60 * 60);
const NEXT_PIECE: Duration = Duration::from_secs(60);

/// Fetch a copy of the store of a running service: consistent, while it goes on serving.
///
/// The file is written whole or not at all, and only its owner can read it. It holds who has which sessions, the
/// denylist and the audit log; the keys are not in it. Back up the directory of the keys apart from it, and never in the
/// same place: each is of little use to a thief without the other. The client needs the permission `backup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Fetched<'a> {
    file: &'a Path,
    taken_at: String,
    installation: Option<Installation>,
    schema: u32,
    rows: u64,
    bytes: u64,
    sha256: &'a str,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let to = &args.to;
    if !args.force && to.exists() {
        return Err(Failure::usage(format!("--to {} is there already; --force replaces it", to.display())));
    }
    let remote = args.server.connect()?;
    let dir = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Only its owner can read it from the first byte on.
    let mut file = tempfile::NamedTempFile::new_in(dir)
        .or_exit(Exit::Usage, format!("--to {}: cannot write in its directory", to.display()))?;
    let request = remote.request(Method::GET, &["v1", "backup"]).timeout(WHOLE_TIME);
    fetch(remote.send(request).await?, file.as_file_mut()).await?;
    file.as_file().sync_all()?;
    // What is on the disk, not what went by.
    let checked = check(File::open(file.path())?);
    let (head, summary) = checked.map_err(|e| Failure::new(Exit::CannotTell, anyhow::anyhow!("what came {e}")))?;
    let kept = if args.force { file.persist(to) } else { file.persist_noclobber(to) };
    kept.or_exit(Exit::Usage, format!("cannot write {}", to.display()))?;
    File::open(dir)?.sync_all()?;
    tell_done(&args, &head, &summary)?;
    Ok(Exit::Yes)
}

async fn fetch(mut answer: reqwest::Response, file: &mut File) -> Result<(), Failure> {
    let (mut bytes, mut progress) = (0_u64, Progress::new());
    let broke_off = "the backup broke off; nothing was written";
    loop {
        let piece = tokio::time::timeout(NEXT_PIECE, answer.chunk()).await.or_exit(Exit::CannotTell, broke_off)?;
        let Some(piece) = piece.or_exit(Exit::CannotTell, broke_off)? else { break };
        file.write_all(&piece).or_exit(Exit::CannotTell, "the backup cannot be written")?;
        bytes += piece.len() as u64;
        progress.tell(in_words(bytes));
    }
    Ok(())
}

fn tell_done(args: &Args, head: &Head, summary: &Summary) -> Result<(), Failure> {
    let Summary { rows, bytes, sha256, .. } = summary;
    let taken_at = summary.taken_at.to_rfc3339();
    if args.json {
        let Head { installation, schema, .. } = *head;
        let fetched = Fetched { file: &args.to, taken_at, installation, schema, rows: *rows, bytes: *bytes, sha256 };
        say(serde_json::to_string(&fetched)?);
        return Ok(());
    }
    say(format_args!("{}: the store as of {taken_at}, {rows} rows, {}", args.to.display(), in_words(*bytes)));
    say(format_args!("sha256 {sha256}"));
    let whose = head.installation.map(|name| format!(", those of installation {name},")).unwrap_or_default();
    tell(format_args!("The keys{whose} are not in it: back up their directory apart from it."));
    Ok(())
}

/// `17.3 MiB`.
pub(super) fn in_words(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1.0 { format!("{mib:.1} MiB") } else { format!("{:.1} KiB", mib * 1024.0) }
}

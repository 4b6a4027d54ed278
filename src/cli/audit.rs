//! `rescind audit verify|export`: evidence, taken along and checked.

use std::path::PathBuf;

use super::{Exit, Failure, args::instant, remote::Server};
use crate::model::Subject;

mod export;
mod source;
mod verify;

/// Check that the audit log is the one that the service wrote.
///
/// Each record carries the digest of the one before it, and the service signs the newest: a record that was changed,
/// left out or added breaks the chain, and who has no key of the service cannot mend it. The first broken place is
/// named. Without --file a running service is asked, with the permission audit:read; with --file an export is read and
/// nobody is asked. What signs is named by its kid: note it once, and give it as --key from then on.
///
/// Exit codes: 0 whole, 1 broken, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// An export, or `-` for stdin, instead of a service.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The only key whose signature counts, by its kid.
    #[arg(long, value_name = "KID")]
    key: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// The running service, if there is no --file.
    #[arg(long, value_name = "URL", env = "RESCIND_SERVER", hide_env_values = true, help_heading = "Service")]
    server: Option<String>,
    /// The client that asks; it needs the permission audit:read.
    #[arg(long, value_name = "ID", env = "RESCIND_CLIENT_ID", hide_env_values = true, help_heading = "Service")]
    client_id: Option<String>,
    /// A file with its secret, or `-` for stdin. The secret itself may be in the environment variable
    /// RESCIND_CLIENT_SECRET.
    #[arg(
        long,
        value_name = "FILE",
        env = "RESCIND_CLIENT_SECRET_FILE",
        hide_env_values = true,
        help_heading = "Service"
    )]
    client_secret_file: Option<PathBuf>,
}

/// Write the audit log as JSON lines.
///
/// One record on a line, as /v1/audit shows it, and at the end the signed head, by which `rescind audit verify --file`
/// checks the whole. With --output the file is continued where it ends, so that a broken export, or last week's, is
/// made complete by the same command. Needs the permission audit:read. With --subject the export holds records of one
/// person: each of them can be checked, but not that none is missing.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// From this instant on (RFC 3339), and all that was written later, whatever the clock said.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<String>,
    /// Leave out what is stamped from this instant on (RFC 3339).
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    until: Option<String>,
    /// About this subject alone.
    #[arg(long, value_name = "ID")]
    subject: Option<Subject>,
    /// A file to write, or to continue; only its owner can read it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "until", "subject"])]
    output: Option<PathBuf>,
    /// Print one JSON object with what was written, on stderr unless --output is given.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn verify(args: VerifyArgs) -> Result<Exit, Failure> {
    verify::run(args).await
}

pub(super) async fn export(args: ExportArgs) -> Result<Exit, Failure> {
    export::run(args).await
}

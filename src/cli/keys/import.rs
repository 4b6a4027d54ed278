//! `rescind keys import`.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::json;
use zeroize::Zeroizing;

use super::{
    super::{Exit, Failure, OrExit, config::secret::Source, output::members, prompt, remote::Server, say, tell},
    tell as told,
};
use crate::model::Algorithm;

/// No private key is longer; what is longer is another file.
const MAX_KEY: u64 = 8 << 10;

/// Take a private key in, as one more that stands by.
///
/// PKCS#8 as PEM, plain or encrypted, as OpenSSL writes it, or a private JWK (RFC 8037). Others may have the key as well:
/// one that is made here has never been anywhere else. Needs the permission keys:import, with which any key can be made to
/// sign.
///
/// Exit codes: 0 done, 1 the key is or was here, or too many stand by, 2 it is no key, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The key's file, which only its owner can read, or `-` for stdin.
    file: PathBuf,
    /// A file with the passphrase of an encrypted PEM, which only its owner can read. Without it it is asked for on a
    /// terminal.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// EdDSA or Ed25519, for a key that does not say it; the configured one by default.
    #[arg(long, value_name = "ALG")]
    algorithm: Option<Algorithm>,
    /// Print the answer of POST /v1/keys/import.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let from_stdin = args.file == Path::new("-");
    if from_stdin && args.server.takes_stdin() {
        return Err(Failure::usage(
            "stdin cannot be both the key and the client's secret; put one of them into a file",
        ));
    }
    let key = if from_stdin { read_stdin()? } else { read_file("the key", &args.file)? };
    let passphrase = match &args.passphrase_file {
        Some(path) => Some(read_file("--passphrase-file", path)?),
        None if key.contains("BEGIN ENCRYPTED PRIVATE KEY") => Some(asked(from_stdin || args.server.takes_stdin())?),
        None => None,
    };
    let remote = args.server.connect()?;
    let alg = args.algorithm.map(Algorithm::name);
    let order = json!({"key": *key, "passphrase": passphrase.as_deref(), "alg": alg});
    let done = remote.post(&["v1", "keys", "import"], &order).await?;
    if args.json {
        say(done);
        return Ok(Exit::Yes);
    }
    members(told::rows(&remote, &done).await);
    tell("It signs nothing until it is activated, or its turn comes. Destroy the file, if nobody else needs it.");
    Ok(Exit::Yes)
}

fn asked(stdin_is_taken: bool) -> Result<Zeroizing<String>, Failure> {
    if stdin_is_taken || !prompt::is_possible() {
        return Err(Failure::usage("the key is encrypted; name a file with its passphrase by --passphrase-file"));
    }
    prompt::ask("Passphrase of the key")
}

/// A secret of one or more lines, from a file that nobody else can reach.
pub(super) fn read_file(what: &str, path: &Path) -> Result<Zeroizing<String>, Failure> {
    let secret = Source::File(path.into()).read().map_err(|why| Failure::usage(format!("{what}: {why}")))?;
    Ok(Zeroizing::new(secret.expose().to_owned()))
}

fn read_stdin() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    io::stdin().take(MAX_KEY + 1).read_to_string(&mut text).or_exit(Exit::Usage, "the key on stdin")?;
    if text.len() as u64 > MAX_KEY {
        return Err(Failure::usage(format!("the key on stdin is longer than {MAX_KEY} bytes; it is something else")));
    }
    Ok(text)
}

//! `rescind keys export`: the public half for everyone, the private half for nobody but who insists.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::ValueEnum;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    super::{Exit, Failure, OrExit, fresh::Fresh, prompt, remote::Server, say, tell},
    import::read_file,
    kid::kid,
};
use crate::model::{Jwk, PublicKey};

/// Write a key down: its public half, unless --dangerous-private says otherwise.
///
/// The public half goes to stdout, or to --output, as a JWK (RFC 8037) or as PEM (RFC 8410). Needs the permission
/// keys:read; for the private half keys:export, and the audit log says who has taken it.
///
/// Exit codes: 0 done, 1 the private half is not here, 2 usage, 3 no such key, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The key.
    #[arg(value_parser = kid, allow_hyphen_values = true)]
    kid: String,
    /// In which form; the private half is PEM always.
    #[arg(long, value_name = "FORM", default_value = "jwk", conflicts_with = "dangerous_private")]
    format: Form,
    /// The private half, PKCS#8 under a passphrase, as PEM. Whoever has file and passphrase signs tokens of any content,
    /// until the key is said to be compromised.
    #[arg(long, requires = "output")]
    dangerous_private: bool,
    /// A file with the passphrase to encrypt it under, which only its owner can read. Without it it is asked for on a
    /// terminal.
    #[arg(long, value_name = "FILE", requires = "dangerous_private")]
    passphrase_file: Option<PathBuf>,
    /// Write it into this file, which only its owner can read. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the answer of GET /v1/keys/{kid}; with --dangerous-private that of POST /v1/keys/{kid}/dangerous-export
    /// without its `pem`, which goes to --output.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// How a public key is written down.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// A JWK (RFC 8037 §2).
    Jwk,
    /// SubjectPublicKeyInfo (RFC 8410 §4).
    Pem,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    match args.output.clone() {
        Some(path) if args.dangerous_private => private(args, &path).await,
        output => public(args, output.as_deref()).await,
    }
}

async fn public(args: Args, output: Option<&Path>) -> Result<Exit, Failure> {
    let remote = args.server.connect()?;
    let output = output.map(|path| Fresh::create("--output", path)).transpose()?;
    let key = remote.get(&["v1", "keys", &args.kid], &[]).await?;
    let text = match args.format {
        _ if args.json => key.to_string(),
        Form::Jwk => serde_json::to_string(&public_key(&key)?)?,
        Form::Pem => public_key(&key)?.key.to_pem(),
    };
    match output {
        Some(file) => drop(file.keep(text, "the key could not be written")?),
        None => say(text),
    }
    Ok(Exit::Yes)
}

/// As the service says it, unless it contradicts itself.
fn public_key(key: &Value) -> Result<Jwk, Failure> {
    let member = |name: &str| key[name].as_str().unwrap_or_default();
    let public = PublicKey::from_x(member("x")).or_exit(Exit::CannotTell, "the service's answer has no key in it")?;
    if public.thumbprint().as_str() != member("kid") {
        return Err(Failure::new(Exit::CannotTell, anyhow!("the service names a key that is not this one by its kid")));
    }
    let algorithm = member("alg").parse().map_err(|_| anyhow!("the service names no algorithm of ours for the key"))?;
    Ok(Jwk { kid: public.thumbprint(), algorithm, key: public })
}

async fn private(args: Args, output: &Path) -> Result<Exit, Failure> {
    let passphrase = match &args.passphrase_file {
        Some(path) => read_file("--passphrase-file", path)?,
        None if prompt::is_possible() && !args.server.takes_stdin() => {
            prompt::ask_for_new("New passphrase for the file")?
        }
        None => return Err(Failure::usage("no passphrase; name a file with one by --passphrase-file")),
    };
    let remote = args.server.connect()?;
    let file = Fresh::create("--output", output)?;
    let order = json!({"passphrase": *passphrase});
    let mut done = remote.post(&["v1", "keys", &args.kid, "dangerous-export"], &order).await?;
    let pem = match done.as_object_mut().and_then(|answer| answer.remove("pem")) {
        Some(Value::String(pem)) => Zeroizing::new(pem),
        _ => return Err(Failure::new(Exit::CannotTell, anyhow!("the service's answer has no key in it"))),
    };
    let path = file.keep(pem.trim_end(), "the key was taken, as the audit log says, but could not be written")?;
    if args.json {
        say(done);
        return Ok(Exit::Yes);
    }
    tell(format_args!(
        "The private key is in {}, encrypted. Whoever has it and the passphrase signs tokens of any content.",
        path.display()
    ));
    Ok(Exit::Yes)
}

//! `rescind init`: a configuration to begin with, keys, and one operator.

use std::{
    env,
    fs::{self, OpenOptions, Permissions},
    io::Write,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Exit, Failure, OrExit,
    config::{Config, layers::failure, secret::Source, template},
    owner, prompt, say, secret, tell,
};
use crate::{
    clock::{SystemClock, SystemRandom},
    keyring::{Keyring, Passphrase, SharedKey},
    service::{Permission, SecretHash},
};

const OPERATOR: &str = "operator";
const PASSPHRASE: &str = "RESCIND_KEYS__PASSPHRASE";

/// Write a configuration to begin with, generate keys, and make a client for the operator.
///
/// Prints the operator's client id and secret on stdout, once; only a hash of the secret is kept. Overwrites nothing.
/// With a passphrase in the environment variable RESCIND_KEYS__PASSPHRASE, in a file, or from the terminal, the keys are
/// encrypted.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write; made if it is not there.
    dir: PathBuf,
    /// Where keys and store shall lie, if not beside the configuration: /var/lib/rescind for the packaged unit. The
    /// configuration is then readable for its group, too: the service runs as another user than the one who writes it.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A Redis or Valkey that several nodes will share, in the forms of `store.url`, without its password. The keys are
    /// then sealed under a new key, `shared.key`: later nodes get a copy of it and of the configuration.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The name of the service, which is in every token; `http://` and the address by default.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Where it will serve.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where it will serve /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    operations_listen: SocketAddr,
    /// Write the operator's id and secret into this file, which only its owner can read, instead of stdout.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A file with a passphrase for the keys, which only its owner can read; the configuration will name it.
    #[arg(long, value_name = "FILE", env = "RESCIND_KEYS__PASSPHRASE_FILE")]
    keys_passphrase_file: Option<PathBuf>,
    /// Ask on the terminal for a passphrase for the keys. `rescind serve` asks for it again, at each start.
    #[arg(long, conflicts_with = "keys_passphrase_file")]
    ask_passphrase: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let state = args.state_dir.as_ref().unwrap_or(&args.dir);
    let (file, keys) = (args.dir.join("rescind.toml"), state.join("keys"));
    let paths = [&file, &keys, &state.join("store")];
    for path in paths.into_iter().chain(&args.secret_file) {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::usage(format!("{} is there already; nothing was changed", path.display())));
        }
    }
    let shared_key = args.store.as_ref().map(|_| state.join("shared.key"));
    if let Some(path) = shared_key.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(Failure::usage(format!("{} is there already; nothing was changed", path.display())));
    }
    let secret = secret::generate(&SystemRandom);
    let text = render(args, &secret)?;
    // Read as `serve` will read it, before anything is written.
    let config = Config::parse(&text, &file)?;
    let passphrase = passphrase(args, &config)?;
    for dir in [&args.dir, state] {
        fs::create_dir_all(dir).or_exit(Exit::Usage, format!("cannot make {}", dir.display()))?;
    }
    let credentials = format!("client_id={OPERATOR}\nclient_secret={}", &*secret);
    // First what nobody could tell again; the configuration last, because with it all is there.
    if let Some(path) = &args.secret_file {
        write_new(path, &format!("{credentials}\n"), 0o600)?;
    }
    let (clock, random) = (Arc::<SystemClock>::default(), Arc::new(SystemRandom));
    let settings = config.key_settings();
    match &shared_key {
        Some(path) => {
            let told = |problem| failure(&[problem]);
            SharedKey::make(path, &*random).or_exit(Exit::Usage, format!("cannot write {}", path.display()))?;
            let key = config.shared_key().map_err(told)?.ok_or_else(|| Failure::usage("there is no shared key"))?;
            Keyring::share(&keys, None, key, settings, &*clock, &*random).map(drop)
        }
        None => Keyring::open(&keys, passphrase, settings, clock, random).map(drop),
    }
    .or_exit(Exit::Usage, "cannot make keys")?;
    if args.state_dir.is_some() {
        owner::hand_over(&keys, state)?;
        shared_key.iter().try_for_each(|path| owner::hand_over(path, state))?;
    }
    write_new(&file, &text, if args.state_dir.is_some() { 0o640 } else { 0o600 })?;
    if args.secret_file.is_none() {
        say(credentials);
    }
    tell(format_args!("Wrote {0} and keys. Next: rescind serve --config {0}", file.display()));
    Ok(Exit::Yes)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        // Whatever the umask is: who is to read it has been said.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.or_exit(Exit::Usage, format!("cannot write {}", path.display()))
}

/// From the terminal if that is asked for; from the file that the configuration names, else from the environment, as
/// `serve` will have it.
fn passphrase(args: &Args, config: &Config) -> Result<Option<Passphrase>, Failure> {
    if args.ask_passphrase {
        if !prompt::is_possible() {
            return Err(Failure::usage("--ask-passphrase: there is no terminal to ask on; name a file instead"));
        }
        let typed = prompt::ask_for_new("New passphrase for the keys")?;
        return Passphrase::new((*typed).clone()).map(Some).or_exit(Exit::Usage, "the passphrase");
    }
    if args.keys_passphrase_file.is_some() || env::var_os(PASSPHRASE).is_none() {
        return config.passphrase().map_err(|problem| failure(&[problem]));
    }
    let secret = Source::Environment(PASSPHRASE.into()).read().map_err(|problem| failure(&[problem]))?;
    Passphrase::new(secret.expose().to_owned()).map(Some).or_exit(Exit::Usage, PASSPHRASE)
}

fn render(args: &Args, secret: &str) -> Result<String, Failure> {
    let issuer = args.issuer.clone().unwrap_or_else(|| format!("http://{}", args.listen));
    // What another one includes needs no mention.
    let permissions = Permission::ALL.iter().filter(|p| p.included_in().is_empty());
    let permissions: String = permissions.map(|p| format!("\n    \"{}\",", p.name())).collect();
    let mut values = vec![
        ("issuer", quoted(&issuer)),
        ("listen", quoted(&args.listen.to_string())),
        ("operations_listen", quoted(&args.operations_listen.to_string())),
        ("store.url", store(args)?),
        ("keys.dir", quoted(&place(args, "keys")?)),
    ];
    if args.store.is_some() {
        values.push(("keys.shared_key", quoted(&place(args, "shared.key")?)));
    }
    if let Some(path) = &args.keys_passphrase_file {
        // The configuration lies elsewhere: what is relative to here is not relative to it.
        values.push(("keys.passphrase", quoted(&absolute(path)?)));
    }
    let client = [
        ("id", quoted(OPERATOR)),
        ("secret_sha256", format!("[\"{}\"]", SecretHash::of(secret).to_hex())),
        // Not bounded by `scope` or an audience: it could not give a new secret to a client that is not.
        ("permissions", format!("[{permissions}\n]")),
    ];
    Ok(template::render(&values, &client))
}

fn store(args: &Args) -> Result<String, Failure> {
    match &args.store {
        Some(url) => Ok(quoted(url)),
        None => Ok(quoted(&format!("embedded:{}", place(args, "store")?))),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// As the configuration names it: beside it, or wherever it lies.
fn place(args: &Args, name: &str) -> Result<String, Failure> {
    args.state_dir.as_ref().map_or_else(|| Ok(name.to_owned()), |dir| absolute(&dir.join(name)))
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).or_exit(Exit::Usage, format!("{}", path.display()))?;
    let text = path.to_str().ok_or_else(|| Failure::usage(format!("{} is not UTF-8", path.display())))?;
    Ok(text.to_owned())
}

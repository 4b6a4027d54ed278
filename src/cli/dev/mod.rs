//! `rescind dev`: a node without any set-up.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Exit, Failure, OrExit,
    args::{StoreUrl, access_life, retry_window},
    config::Evidence,
    logs,
    node::{Blueprint, Bound, Node, Place, stop_signal, store_options},
    notify::Notify,
    say, secret,
};
use crate::{
    clock::SystemRandom,
    http::Limits,
    keyring::{self, Timing},
    model::{
        ClientId,
        family::Lifetimes,
        time::{format_duration, parse_duration},
    },
    service::{Client, Permission, SecretHash},
};

mod state;

/// The audience of everything that `dev` mints.
pub(super) const AUDIENCE: &str = "api";
const CLIENT: &str = "dev";
const PUBLIC_CLIENT: &str = "dev-public";

/// Serve without any set-up, for development.
///
/// Listens on loopback only, allows every scope, and prints a client id and its secret that may do everything.
/// Without --store everything is gone when it stops; with --store embedded:PATH the keys lie in PATH.keys/, the client
/// and its secret in PATH.client.json, and both are the same after a restart. The issuer is the address, so name one
/// with --listen if access tokens are to be good after a restart as well. With --store redis://HOST:PORT any number of
/// these nodes share what they know, each begun alike in another terminal; keys, client and secret lie in --state. Give
/// all of them one --issuer, so that each takes the others' tokens. Signing keys move on in seconds: --rotate-every 30s
/// for a schedule, and `rescind keys` for all else.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to serve; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    operations_listen: SocketAddr,
    /// `memory:`, `embedded:` and the path of a file, or a Redis: `redis://127.0.0.1:6379/0` and the other forms of
    /// `store.url`. A password is in a file: `redis://HOST:PORT?password_file=PATH`.
    #[arg(long, value_name = "STORE", default_value = "memory:")]
    store: String,
    /// The name of the service, where that is not the address.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Where nodes on this machine that share a Redis find their keys and their client; by default a directory for each
    /// Redis in $XDG_STATE_HOME/rescind or ~/.local/state/rescind.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How long the answer to a refresh may be fetched again.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = retry_window)]
    retry_window: Duration,
    /// Life of an access token, 1h at most.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = access_life)]
    access_life: Duration,
    /// Life of a session that is not used.
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = parse_duration)]
    idle_life: Duration,
    /// Life of a session.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = parse_duration)]
    absolute_life: Duration,
    /// How long a key is published before it may sign.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    publish_ahead: Duration,
    /// How long the key set may be cached; half of --publish-ahead at most.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    jwks_max_age: Duration,
    /// How long a key signs before the next one does by itself.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    rotate_every: Option<Duration>,
    /// Print one JSON object once it serves, with `issuer`, `token_endpoint`, `jwks_uri`, `operations`, `client_id`,
    /// `client_secret` and `public_client_id`; nothing else goes to stdout. Logs go to stderr as JSON.
    #[arg(long)]
    json: bool,
}

/// What a program that starts `dev` wants to know.
#[derive(Serialize)]
struct Announcement<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    operations: &'a str,
    client_id: &'a str,
    client_secret: &'a str,
    public_client_id: &'a str,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let _logs = logs::start("warn", args.json)?;
    for at in [args.listen, args.operations_listen] {
        check_loopback(at)?;
    }
    check_timing(&args)?;
    let store: StoreUrl = args.store.parse().map_err(|e| Failure::usage(format!("--store {e}")))?;
    let stop = stop_signal()?;
    let bound = Bound::at(args.listen, Some(args.operations_listen)).await?;
    let (url, operations) = (bound.public_url()?, bound.operations_url()?.unwrap_or_default());
    let Beside { secret, place, _slot } = match store {
        StoreUrl::Memory => Beside::nothing(&args),
        StoreUrl::Embedded(path) => Beside::file(&args, path)?,
        StoreUrl::Redis(url) => state::of_redis(&args, *url)?,
    };
    let node = open(&args, place, &secret, bound).await?;
    let announcement = Announcement {
        token_endpoint: format!("{url}/oauth2/token"),
        jwks_uri: format!("{url}/.well-known/jwks.json"),
        issuer: args.issuer.as_deref().unwrap_or(&url),
        operations: &operations,
        client_id: CLIENT,
        client_secret: &secret,
        public_client_id: PUBLIC_CLIENT,
    };
    if args.json {
        say(serde_json::to_string(&announcement)?);
    } else {
        say(banner(&announcement, args.publish_ahead));
    }
    node.run(stop, Notify::default()).await?;
    Ok(Exit::Yes)
}

/// A key that signs before verifiers fetch it again would have its tokens refused.
fn check_timing(args: &Args) -> Result<(), Failure> {
    if args.publish_ahead >= args.jwks_max_age {
        return Ok(());
    }
    let [ahead, age] = [args.publish_ahead, args.jwks_max_age].map(format_duration);
    Err(Failure::usage(format!(
        "--publish-ahead is {ahead}, shorter than --jwks-max-age ({age}): verifiers would meet signatures of a key that \
         their cached key set does not have; lengthen the one or shorten the other"
    )))
}

/// What is kept for `dev`, and where.
struct Beside {
    secret: Zeroizing<String>,
    place: Place,
    /// Held for as long as the node runs: no other takes its place.
    _slot: Option<fs::File>,
}

impl Beside {
    fn nothing(args: &Args) -> Self {
        let place = Place::Memory(store_options(&args.lives()));
        Self { secret: secret::generate(&SystemRandom), place, _slot: None }
    }

    fn file(args: &Args, store: PathBuf) -> Result<Self, Failure> {
        let (mut options, keys) = (Box::new(store_options(&args.lives())), suffixed(&store, ".keys"));
        options.witness = Some(keys.join("witness.json"));
        let secret = kept_secret(&store)?;
        Ok(Self { secret, place: Place::Disk { store, keys, passphrase: None, options }, _slot: None })
    }
}

impl Args {
    fn lives(&self) -> Lifetimes {
        Lifetimes {
            access: self.access_life,
            idle: self.idle_life,
            absolute: self.absolute_life,
            retry_window: self.retry_window,
        }
    }

    fn key_settings(&self, spread: Duration) -> keyring::Settings {
        let timing = Timing {
            publish_ahead: self.publish_ahead,
            jwks_max_age: self.jwks_max_age,
            client_cache: self.jwks_max_age,
            rotate_every: self.rotate_every,
            token_life: self.access_life,
            spread,
            ..Timing::default()
        };
        keyring::Settings { timing, ..keyring::Settings::default() }
    }
}

async fn open(args: &Args, place: Place, secret: &str, bound: Bound) -> Result<Node, Failure> {
    let spread = if matches!(place, Place::Redis(_)) { keyring::FRESH } else { Duration::ZERO };
    let blueprint = Blueprint {
        issuer: args.issuer.clone(),
        key_settings: args.key_settings(spread),
        place,
        lives: args.lives(),
        custom_claims: None,
        clients: vec![everything(CLIENT, Some(secret)), everything(PUBLIC_CLIENT, None)],
        limits: Limits::default(),
        edge: crate::http::edge::Settings::default(),
        sessions: None,
        evidence: Evidence::default(),
    };
    Node::open(blueprint, bound).await
}

/// A client for audience `api`. With a secret it may do everything; without one it can only refresh.
pub(super) fn everything(id: &str, secret: Option<&str>) -> Client {
    let permissions = if secret.is_some() { Permission::ALL.iter().copied().collect() } else { BTreeSet::new() };
    Client {
        secrets: secret.map(SecretHash::of).into_iter().collect(),
        permissions,
        audience: Some(vec![AUDIENCE.parse().expect("the built-in audience has no control characters")]),
        ..Client::new(id.parse::<ClientId>().expect("the built-in names are visible ASCII"))
    }
}

fn check_loopback(at: SocketAddr) -> Result<(), Failure> {
    if at.ip().is_loopback() {
        return Ok(());
    }
    let what = "`dev` speaks plain HTTP and its client may do everything, so it stays on loopback";
    Err(Failure::usage(format!("{at}: {what}; for other machines set up `rescind init` and `rescind serve`")))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The file beside a store that remembers the client of `dev`.
#[derive(Serialize, Deserialize)]
struct Kept {
    client_id: String,
    client_secret: String,
    public_client_id: String,
}

/// The secret that lies beside the store; on the first start it is made.
fn kept_secret(store: &Path) -> Result<Zeroizing<String>, Failure> {
    let path = suffixed(store, ".client.json");
    let failed = |doing: &str| format!("cannot {doing} {}", path.display());
    match fs::File::open(&path) {
        Ok(file) => {
            let mode = file.metadata()?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let path = path.display();
                return Err(Failure::usage(format!(
                    "{path} holds a secret and can be reached by others than its owner (mode {mode:04o}); mend it \
                     with: chmod 600 '{path}'"
                )));
            }
            let kept: Kept = serde_json::from_reader(file).or_exit(Exit::Usage, failed("read"))?;
            Ok(Zeroizing::new(kept.client_secret))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let secret = secret::generate(&SystemRandom);
            keep(&path, &secret).or_exit(Exit::Usage, failed("write"))?;
            Ok(secret)
        }
        Err(e) => Err(e).or_exit(Exit::Usage, failed("read")),
    }
}

/// Writes the file whole or not at all; only its owner can read it.
fn keep(path: &Path, secret: &str) -> anyhow::Result<()> {
    let kept =
        Kept { client_id: CLIENT.into(), client_secret: secret.to_owned(), public_client_id: PUBLIC_CLIENT.into() };
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer_pretty(&mut file, &kept)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

/// What a person sees: where things are, and lines to paste into a shell.
fn banner(a: &Announcement<'_>, ahead: Duration) -> String {
    let ahead = format_duration(ahead);
    let Announcement { issuer, token_endpoint, jwks_uri, operations, client_id, client_secret, public_client_id } = a;
    format!(
        r#"rescind dev: for development only; any scope, audience `{AUDIENCE}`, no rate limits

  issuer         {issuer}
  token          {token_endpoint}
  introspection  {issuer}/oauth2/introspect
  revocation     {issuer}/oauth2/revoke
  sessions       {issuer}/v1/sessions
  keys           {jwks_uri}
  discovery      {issuer}/.well-known/oauth-authorization-server
  description    {issuer}/openapi.json
  operations     {operations}/readyz  {operations}/metrics
  client         {client_id}, which may do everything; its secret: {client_secret}
  public client  {public_client_id}

Paste these one after the other. They open a session, refresh it, ask about its access token, cut its subject off, and
ask again:

  ISSUER='{issuer}' ID='{client_id}' SECRET='{client_secret}'
  field() {{ sed -n 's/.*"'$1'":"\([^"]*\)".*/\1/p'; }}
  SESSION=$(curl -s -u "$ID:$SECRET" $ISSUER/v1/sessions -H 'Content-Type: application/json' -d '{{"subject":"alice","audience":["{AUDIENCE}"],"scope":"read write","client_id":"{public_client_id}"}}'); echo "$SESSION"
  REFRESH_TOKEN=$(echo "$SESSION" | field refresh_token)
  TOKENS=$(curl -s {token_endpoint} -d client_id={public_client_id} -d grant_type=refresh_token -d refresh_token=$REFRESH_TOKEN); echo "$TOKENS"
  ACCESS_TOKEN=$(echo "$TOKENS" | field access_token)
  curl -s -u "$ID:$SECRET" $ISSUER/oauth2/introspect -d token=$ACCESS_TOKEN; echo
  curl -s -u "$ID:$SECRET" $ISSUER/v1/revocations -H 'Content-Type: application/json' -d '{{"kind":"subject","id":"alice"}}'; echo
  curl -s -u "$ID:$SECRET" $ISSUER/oauth2/introspect -d token=$ACCESS_TOKEN; echo

As a service would, offline and with the revocation feed; and a sidecar for a proxy:

  echo $ACCESS_TOKEN | rescind token verify --issuer $ISSUER --audience {AUDIENCE}
  rescind verifier --issuer $ISSUER --audience {AUDIENCE} --listen 127.0.0.1:8081

As an operator: rotate the signing keys, go back, and give up a key that has leaked. Nobody is logged out by it. Between
two rotations lie {ahead}; with --rotate-every they come by themselves (docs/keys.md):

  export RESCIND_SERVER=$ISSUER RESCIND_CLIENT_ID=$ID RESCIND_CLIENT_SECRET=$SECRET
  rescind keys list; rescind keys schedule
  rescind keys rotate --yes
  rescind keys rollback --yes
  rescind keys compromise $(rescind keys list | awk '$2 == "active" {{ print $1 }}') --yes
"#
    )
}

//! `rescind keys rotate`, `rollback`, `generate`, `activate`, `retire`, `destroy`: one order each, by the same way.

use serde_json::{Value, json};

use super::{
    super::{
        Exit, Failure,
        consent::{Consent, Foreseen},
        output::members,
        remote::{Remote, Server},
        say, tell,
    },
    kid::kid,
    secret, tell as told,
};
use crate::{
    keyring::{SecretKind, rule::Wait},
    model::Algorithm,
};

/// How to go about it.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Print the answer of the service.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) consent: Consent,
    #[command(flatten)]
    pub(super) server: Server,
}

/// An order as it goes to the service.
struct Order<'a> {
    /// Below `/v1/keys`.
    path: &'a [&'a str],
    body: Value,
    /// What it means for those who hold tokens.
    effect: &'a str,
    /// What goes wrong where it is not waited for.
    breaks: Option<&'static str>,
    /// Whether somebody must agree.
    asks: bool,
}

impl Order<'_> {
    fn question(&self, would: &Value) -> String {
        let breaks = self.breaks.map(|breaks| format!(" Nothing is waited for: if it is too early, {breaks}."));
        format!("This would be done: {}. {}{}", told::sentence(would), self.effect, breaks.unwrap_or_default())
    }
}

async fn carry_out(how: How, order: Order<'_>) -> Result<Exit, Failure> {
    let How { json, consent, server } = how;
    let path = [&["v1", "keys"], order.path].concat();
    let foresee = async |remote: &Remote| {
        let mut asked = order.body.clone();
        asked["dry_run"] = true.into();
        let would = remote.post(&path, &asked).await?;
        let words = order.question(&would);
        Ok(Foreseen::new(would, words))
    };
    let carried_out = async |remote: &Remote| {
        let done = remote.post(&path, &order.body).await?;
        if json {
            say(done);
            return Ok(Exit::Yes);
        }
        members(told::rows(remote, &done).await);
        tell(order.effect);
        Ok(Exit::Yes)
    };
    consent.given_if(!order.asks).carry_out(&server, json, foresee, carried_out).await
}

/// The help of a flag that does not wait, from the table of rules.
fn unwaited(wait: Wait) -> String {
    let breaks = wait.breaks().unwrap_or_default();
    format!("Do not wait until {}. Before that, {breaks}.", wait.words().replace('`', ""))
}

pub(super) const NOBODY: &str = "Nobody is logged out, and no good token is refused.";

/// What is said of those who hold tokens, if the rule waits or if it does not.
fn effect(force: bool, safe: &'static str) -> &'static str {
    if force { "Nobody is logged out." } else { safe }
}

/// Make the standby sign, or replace a symmetric key.
///
/// The key that signed goes on verifying until its last token has expired, and a new standby is published. Refused until
/// the standby and another one have been published long enough; `rescind keys list` says from when on. With --secret, a new
/// key for the feed, for refresh tokens or for what is sealed is in use instead; what the old one made stays good. Needs the
/// permission keys:rotate; with --dry-run keys:read.
///
/// Exit codes: 0 done, 1 nobody agreed or it is too early, 2 nobody could be asked, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct RotateArgs {
    #[arg(long, help = unwaited(Wait::Published), conflicts_with = "secret")]
    dangerous_without_waiting: bool,
    /// Replace this symmetric key instead: feed, derivation or sealing.
    #[arg(long, value_name = "KIND")]
    secret: Option<SecretKind>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn rotate(args: RotateArgs) -> Result<Exit, Failure> {
    let RotateArgs { dangerous_without_waiting: force, secret: kind, how } = args;
    if let Some(kind) = kind {
        return secret::rotate(kind, how).await;
    }
    carry_out(how, forced(&["rotate"], force, Wait::Published, effect(force, NOBODY))).await
}

/// Make the key sign again that signed before.
///
/// For a rotation that turned out badly. Verifiers still have that key, so nothing is waited for; the key that signs now
/// retires, and what it has signed stays good. Refused once no key is retiring any more. Needs the permission
/// keys:rotate; with --dry-run keys:read.
///
/// Exit codes: 0 done, 1 nobody agreed or there is nothing to go back to, 2 nobody could be asked, 4 not permitted, 5
/// cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct RollbackArgs {
    #[command(flatten)]
    how: How,
}

pub(super) async fn roll_back(args: RollbackArgs) -> Result<Exit, Failure> {
    let order = Order { path: &["rollback"], body: json!({}), effect: NOBODY, breaks: None, asks: true };
    carry_out(args.how, order).await
}

/// Make one more key, which stands by.
///
/// Standbys are made by themselves; one more is of use where the next key shall have another algorithm, or for keys that
/// are made before an exercise. It does no harm, so nobody is asked. Needs the permission keys:rotate; with --dry-run
/// keys:read.
///
/// Exit codes: 0 done, 1 too many stand by, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct GenerateArgs {
    /// EdDSA or Ed25519; the configured one by default.
    #[arg(long, value_name = "ALG")]
    algorithm: Option<Algorithm>,
    #[command(flatten)]
    how: How,
}

pub(super) async fn generate(args: GenerateArgs) -> Result<Exit, Failure> {
    let body = json!({"alg": args.algorithm.map(Algorithm::name)});
    let effect = "It signs nothing until it is activated, or its turn comes.";
    carry_out(args.how, Order { path: &[], body, effect, breaks: None, asks: false }).await
}

/// Make one of the standbys sign; the key that signs retires.
///
/// As rotate, but this key and no other. Needs the permission keys:rotate; with --dry-run keys:read.
///
/// Exit codes: 0 done, 1 nobody agreed, it is too early or no standby, 2 nobody could be asked, 3 no such key, 4 not
/// permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ActivateArgs {
    /// The key: a pending one.
    #[arg(value_parser = kid, allow_hyphen_values = true)]
    kid: String,
    #[arg(long, help = unwaited(Wait::Published))]
    dangerous_without_waiting: bool,
    #[command(flatten)]
    how: How,
}

pub(super) async fn activate(args: ActivateArgs) -> Result<Exit, Failure> {
    let ActivateArgs { kid, dangerous_without_waiting: force, how } = args;
    carry_out(how, forced(&[&kid, "activate"], force, Wait::Published, effect(force, NOBODY))).await
}

/// Take a key out of the key set that signs no more.
///
/// The service does so by itself, once the last token that the key signed has expired. Needs the permission keys:rotate;
/// with --dry-run keys:read.
///
/// Exit codes: 0 done, 1 nobody agreed, it is too early or the key is not retiring, 2 nobody could be asked, 3 no
/// such key, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct RetireArgs {
    /// The key: a retiring one.
    #[arg(value_parser = kid, allow_hyphen_values = true)]
    kid: String,
    #[arg(long, help = unwaited(Wait::Expired))]
    dangerous_without_waiting: bool,
    #[command(flatten)]
    how: How,
}

pub(super) async fn retire(args: RetireArgs) -> Result<Exit, Failure> {
    let RetireArgs { kid, dangerous_without_waiting: force, how } = args;
    let effect = effect(force, "No token that it signed is good any more, so nobody notices.");
    carry_out(how, forced(&[&kid, "retire"], force, Wait::Expired, effect)).await
}

/// Destroy the private half of a key that is retired, or has never signed.
///
/// The service does so by itself with retired keys, after `keys.destroy_after`. Copies of it, in backups, stay as they
/// are. Needs the permission keys:rotate; with --dry-run keys:read.
///
/// Exit codes: 0 done, 1 nobody agreed, or the key signs, verifies or is needed as a standby, 2 nobody could be
/// asked, 3 no such key, 4 not permitted, 5 cannot tell.
#[derive(Debug, clap::Args)]
pub(in super::super) struct DestroyArgs {
    /// The key: a retired or a pending one.
    #[arg(value_parser = kid, allow_hyphen_values = true)]
    kid: String,
    #[arg(long, help = unwaited(Wait::Spare))]
    dangerous_without_waiting: bool,
    #[command(flatten)]
    how: How,
}

pub(super) async fn destroy(args: DestroyArgs) -> Result<Exit, Failure> {
    let DestroyArgs { kid, dangerous_without_waiting: force, how } = args;
    carry_out(how, forced(&[&kid, "destroy"], force, Wait::Spare, NOBODY)).await
}

fn forced<'a>(path: &'a [&'a str], force: bool, wait: Wait, effect: &'a str) -> Order<'a> {
    let body = json!({"dangerous_without_waiting": force});
    Order { path, body, effect, breaks: wait.breaks().filter(|_| force), asks: true }
}

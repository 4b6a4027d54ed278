//! `rescind revoke`: a token, a session, a subject, a client, a key, everything.

use serde_json::{Value, json};

use super::{
    Exit, Failure,
    args::{id, instant, reason},
    consent::{Consent, Foreseen},
    effect,
    remote::{Remote, Server},
    say,
};
use crate::{
    families::PREFIX,
    model::{ClientId, Kid, SessionId, Subject, TokenId},
};

/// Revoke a token, a session, or by one record everything of a subject, a client, a key, or everyone.
///
/// Done means durable: refresh and introspection refuse from the answer on, connected verifiers moments later; the
/// answer says from when on others do. Needs the permission revoke, or that for the kind, as revoke:subject.
///
/// Exit codes: 0 done, 1 nobody agreed or it cannot be done in this state (a key that signs), 2 usage, 3 no such key,
/// 4 not permitted, 5 cannot tell whether it was done: do it again, which is harmless.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct Args {
    /// One access token, by its `jti`. Never the token itself: arguments are public.
    #[arg(long, value_name = "JTI", group = "what")]
    token_id: Option<String>,
    /// One session, by its `sid`.
    #[arg(long, value_name = "SID", group = "what")]
    session: Option<String>,
    /// Everything of a subject.
    #[arg(long, value_name = "SUB", group = "what")]
    subject: Option<Subject>,
    /// Everything of a client.
    #[arg(long, value_name = "CLIENT_ID", group = "what")]
    client: Option<ClientId>,
    /// Everything that a key has signed, by its `kid`; for ever. For one that signs or stands by: rescind keys compromise.
    #[arg(long, value_name = "KID", group = "what", allow_hyphen_values = true)]
    key: Option<Kid>,
    /// Everything of everyone.
    #[arg(long, group = "what")]
    all: bool,
    /// Cut off what was before this instant (RFC 3339); now by default, never later. For a subject, a client, all.
    #[arg(long, value_name = "INSTANT", value_parser = instant, conflicts_with_all = ["token_id", "session", "key"])]
    before: Option<String>,
    /// Refuse tokens minted before it and let sessions go on, as after a change of roles.
    #[arg(long, conflicts_with_all = ["token_id", "session", "key"])]
    tokens_only: bool,
    /// Why, for the audit log; up to 256 bytes.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// Print the answer of POST /v1/revocations.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// What is to be revoked: its kind, and its name unless it is everything.
    fn target(&self) -> Result<(&'static str, Option<String>), Failure> {
        let Self { token_id, session, subject, client, key, .. } = self;
        Ok(match (token_id, session, subject, client, key) {
            (Some(jti), ..) => ("token", Some(token(jti)?.to_string())),
            (_, Some(sid), ..) => ("session", Some(id::<SessionId>("--session", sid)?.to_string())),
            (_, _, Some(subject), ..) => ("subject", Some(subject.to_string())),
            (_, _, _, Some(client), _) => ("client", Some(client.to_string())),
            (_, _, _, _, Some(kid)) => ("key", Some(kid.to_string())),
            _ => ("all", None),
        })
    }

    fn order(&self) -> Result<Value, Failure> {
        let (kind, id) = self.target()?;
        let ends = self.tokens_only.then_some("tokens");
        Ok(json!({"kind": kind, "id": id, "ends": ends, "before": self.before, "reason": self.reason}))
    }

    /// What will happen, for whoever is asked.
    fn question(&self, impact: &Value) -> String {
        match (&self.token_id, &self.key) {
            (Some(jti), _) => format!("This would refuse the access token {jti}.", jti = super::output::plain(jti)),
            (_, Some(_)) => format!("{} The key will never verify again.", effect::sentence(impact)),
            _ => effect::sentence(impact),
        }
    }
}

/// A token pasted where its id belongs is revoked as little as it is repeated.
fn token(jti: &str) -> Result<TokenId, Failure> {
    if jti.starts_with("eyJ") || jti.starts_with(PREFIX) {
        return Err(Failure::usage(
            "--token-id: this is a token, not its id, and by now others may have read it; `rescind token inspect` \
             reads it from stdin and shows its `jti`, and its session by which it can be revoked as well",
        ));
    }
    id("--token-id", jti)
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let order = args.order()?;
    let path = ["v1", "revocations"];
    let foresee = async |remote: &Remote| {
        let mut order = order.clone();
        order["dry_run"] = true.into();
        let impact = remote.post(&path, &order).await?;
        let words = args.question(&impact);
        Ok(Foreseen::new(impact, words))
    };
    let carry_out = async |remote: &Remote| {
        let done = remote.post(&path, &order).await?;
        if args.json {
            say(done);
        } else {
            effect::show_entry(&done, args.subject.as_ref().map(Subject::as_str));
        }
        Ok(Exit::Yes)
    };
    args.consent.carry_out(&args.server, args.json, foresee, carry_out).await
}

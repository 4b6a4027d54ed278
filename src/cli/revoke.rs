//! `rescind revoke`: a token, a session, a subject, a client, a key, everything.

use serde_json::{Value, json};

use super::{
    Exit, Failure,
    consent::{Consent, DECLINED},
    effect,
    remote::Server,
    say,
};
use crate::{families::PREFIX, model::Timestamp};

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
    subject: Option<String>,
    /// Everything of a client.
    #[arg(long, value_name = "CLIENT_ID", group = "what")]
    client: Option<String>,
    /// Everything that a key has signed, by its `kid`; for ever. For one that signs or stands by: rescind keys compromise.
    #[arg(long, value_name = "KID", group = "what", allow_hyphen_values = true)]
    key: Option<String>,
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
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the answer of POST /v1/revocations.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    server: Server,
}

fn instant(text: &str) -> Result<String, String> {
    match Timestamp::from_rfc3339(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected an RFC 3339 instant, such as 2026-01-31T12:00:00Z".into()),
    }
}

impl Args {
    fn order(&self) -> Value {
        let named = [
            ("token", &self.token_id),
            ("session", &self.session),
            ("subject", &self.subject),
            ("client", &self.client),
            ("key", &self.key),
        ];
        let target = named.into_iter().find_map(|(kind, id)| id.as_ref().map(|id| (kind, Some(id))));
        let (kind, id) = target.unwrap_or(("all", None));
        let ends = self.tokens_only.then_some("tokens");
        json!({"kind": kind, "id": id, "ends": ends, "before": self.before, "reason": self.reason})
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

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    args.consent.check(args.server.takes_stdin())?;
    if args.token_id.as_ref().is_some_and(|id| id.starts_with("eyJ") || id.starts_with(PREFIX)) {
        return Err(Failure::usage(
            "--token-id: this is a token, not its id, and by now others may have read it; `rescind token inspect` \
             reads it from stdin and shows its `jti`, and its session by which it can be revoked as well",
        ));
    }
    let remote = args.server.connect()?;
    let path = ["v1", "revocations"];
    let mut order = args.order();
    if args.consent.dry_run || args.consent.asks() {
        order["dry_run"] = true.into();
        let impact = remote.post(&path, &order).await?;
        if args.consent.dry_run {
            if args.json {
                say(impact)
            } else {
                say(args.question(&impact))
            }
            return Ok(Exit::Yes);
        }
        if !args.consent.ask(&args.question(&impact))? {
            return Ok(DECLINED);
        }
        order["dry_run"] = false.into();
    }
    let done = remote.post(&path, &order).await?;
    if args.json {
        say(done);
        return Ok(Exit::Yes);
    }
    effect::show_entry(&done, args.subject.as_deref());
    Ok(Exit::Yes)
}

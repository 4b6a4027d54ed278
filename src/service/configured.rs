//! What follows for sessions from a client that the configuration disables.

use super::{Error, Service};
use crate::{
    model::{
        ClientId, SessionId,
        audit::Draft,
        denial::{Ends, Entry, Target},
    },
    store::Denial,
};

/// Sessions that are looked at, at most: beyond it there may well be one.
const EXAMINED: usize = 50_000;
/// How many at a time: others are served in between.
const PAGE: usize = 256;

impl Service {
    /// Ends all sessions and all tokens of a client, because the configuration disables it. The audit log names no
    /// actor: nobody asked.
    ///
    /// # Errors
    /// 503.
    pub async fn end_disabled(&self, client: &ClientId) -> Result<Entry, Error> {
        let audit = Draft { client: Some(client.clone()), ..Draft::default() };
        let reason = Some("the configuration disables this client".into());
        let target = Target::Client(client.clone());
        let denial = Denial { target, ends: Ends::Sessions, before: None, expires: None, reason, audit };
        let entry = self.denylist.deny(denial).await?;
        self.metrics.revocation("client");
        Ok(entry)
    }

    /// Whether a client may have open sessions: it has some, or there are too many of all clients to look at.
    ///
    /// # Errors
    /// 503.
    pub async fn may_have_sessions(&self, client: &ClientId) -> Result<bool, Error> {
        let (mut after, mut examined): (Option<SessionId>, _) = (None, 0);
        loop {
            let (page, next) = self.families.all(after, PAGE).await?;
            if page.iter().any(|s| s.identity.client == *client && s.ended.is_none()) {
                return Ok(true);
            }
            (after, examined) = (next, examined + PAGE);
            if next.is_none() || examined >= EXAMINED {
                return Ok(next.is_some());
            }
            tokio::task::yield_now().await;
        }
    }
}

//! What a revocation would do, counted before it is made; and from when on it holds, for whom.

use std::{collections::HashSet, time::Duration};

use super::{Context, Error, Permission, Revocation, Service};
use crate::{
    denylist::DenyError,
    families::Session,
    model::{
        Kid, SessionId, Subject, Timestamp,
        denial::{Ends, Entry, LEEWAY_AND_MARGIN, Target},
    },
    store::FamilyStore,
};

/// How many sessions are looked at to count, at most; beyond it the counts are lower bounds.
pub const EXAMINED: usize = 50_000;
/// How many at a time: others are served in between.
const PAGE: usize = 256;
/// The greatest `max_staleness` that a verifier may have: one that hears nothing for longer refuses everything.
const GREATEST_STALENESS: Duration = Duration::from_secs(300);

/// What a revocation would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impact {
    /// Open sessions that would end.
    pub sessions: usize,
    /// Sessions that may hold live access tokens which it would deny.
    pub with_live_tokens: usize,
    /// How many subjects these belong to.
    pub subjects: usize,
    /// When the last of these tokens expires.
    pub tokens_until: Option<Timestamp>,
    /// Not everything was looked at: there are at least so many.
    pub capped: bool,
}

/// From when on a revocation holds, for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Here: refresh and introspection. Connected verifiers follow within moments.
    pub here: Timestamp,
    /// The last instant at which a verifier that hears nothing could still accept, whatever its `max_staleness`.
    pub disconnected: Timestamp,
    /// Whoever verifies without the feed accepts until this `exp`. None: no access token of it is alive; or it is a key,
    /// which they accept until they fetch the key set again.
    pub without_feed: Option<Timestamp>,
}

impl Effect {
    /// Of what was recorded at this instant, with the last `exp` of a token that it concerns.
    #[must_use]
    pub fn of(at: Timestamp, last_expiry: Option<Timestamp>) -> Self {
        let without_feed = last_expiry.filter(|expiry| *expiry > at);
        Self { here: at, disconnected: at.plus(GREATEST_STALENESS), without_feed }
    }
}

/// The `exp` up to which the feed has to deny.
pub(super) fn last_expiry(feed_until: Timestamp) -> Timestamp {
    feed_until.minus(LEEWAY_AND_MARGIN)
}

/// Counts, as sessions come by.
struct Count<'a> {
    revocation: &'a Revocation,
    ends: Ends,
    before: Timestamp,
    now: Timestamp,
    at_most: usize,
    subjects: HashSet<Subject>,
    impact: Impact,
}

impl<'a> Count<'a> {
    fn new(revocation: &'a Revocation, ends: Ends, before: Timestamp, now: Timestamp, at_most: usize) -> Self {
        Self { revocation, ends, before, now, at_most, subjects: HashSet::new(), impact: Impact::default() }
    }

    fn add(&mut self, session: Session) {
        if !self.covers(&session) || session.ended.is_some() {
            return;
        }
        let until = session.lineage.access_until;
        let live = until > self.now;
        let ends = self.ends == Ends::Sessions;
        self.impact.sessions += usize::from(ends);
        self.impact.with_live_tokens += usize::from(live);
        if live {
            self.impact.tokens_until = self.impact.tokens_until.max(Some(until));
        }
        if live || ends {
            self.subjects.insert(session.identity.subject);
        }
    }

    fn covers(&self, session: &Session) -> bool {
        let named = match &self.revocation.target {
            Target::Session(id) => *id == session.id,
            Target::Client(id) => *id == session.identity.client,
            Target::Token(_) => false,
            Target::Subject(_) | Target::Key(_) | Target::All => true,
        };
        named && (!self.revocation.target.is_cut_off() || session.id.stamp() < self.before)
    }

    fn done(mut self) -> Impact {
        self.impact.subjects = self.subjects.len();
        self.impact
    }
}

impl Service {
    /// What a revocation would do. Refused as the revocation would be; nothing is written. About `at_most` sessions
    /// are looked at: [`EXAMINED`], if no other number is wanted.
    ///
    /// # Errors
    /// As [`Service::revoke`].
    pub async fn weigh(&self, ctx: &Context, revocation: &Revocation, at_most: usize) -> Result<Impact, Error> {
        let ends = self.permit(ctx, revocation)?;
        let now = self.store.moment().now;
        // What carries this very millisecond is there already.
        let before = revocation.before.unwrap_or(now.plus(Duration::from_millis(1)));
        if before > now.plus(Duration::from_millis(1)) {
            return Err(DenyError::Future.into());
        }
        let count = Count::new(revocation, ends, before, now, at_most);
        match &revocation.target {
            Target::Token(_) => Ok(Impact::default()),
            Target::Session(id) => self.weigh_session(count, *id).await,
            Target::Subject(_) => self.weigh_subject(count, None).await,
            Target::Key(kid) => self.weigh_key(count, kid).await,
            Target::Client(_) | Target::All => self.weigh_all(count).await,
        }
    }

    /// What ending all of a subject's sessions but one would do.
    pub(super) async fn weigh_others(&self, subject: Subject, keep: SessionId) -> Result<Impact, Error> {
        let target = Target::Subject(self.families.refer(&subject));
        let revocation = Revocation { target, subject: Some(subject), ends: None, before: None, reason: None };
        let now = self.store.moment().now;
        let (ends, before) = (Ends::Sessions, Timestamp::MAX);
        let count = Count::new(&revocation, ends, before, now, EXAMINED);
        self.weigh_subject(count, Some(keep)).await
    }

    async fn weigh_session(&self, mut count: Count<'_>, id: SessionId) -> Result<Impact, Error> {
        if let Some(session) = self.families.find(id).await? {
            count.add(session);
        }
        Ok(count.done())
    }

    async fn weigh_subject(&self, mut count: Count<'_>, but: Option<SessionId>) -> Result<Impact, Error> {
        let Some(subject) = count.revocation.subject.clone() else { return Ok(Impact::default()) };
        let (mut after, mut examined) = (None, 0);
        loop {
            let page = self.families.of_subject(&subject, after, PAGE).await?;
            after = page.last().map(|session| session.id).filter(|_| page.len() == PAGE);
            examined += page.len();
            page.into_iter().filter(|session| Some(session.id) != but).for_each(|session| count.add(session));
            if self.is_enough(&mut count, after.is_some(), examined).await {
                return Ok(count.done());
            }
        }
    }

    async fn weigh_all(&self, mut count: Count<'_>) -> Result<Impact, Error> {
        let (mut after, mut examined) = (None, 0);
        loop {
            let (page, next) = self.families.all(after, PAGE).await?;
            (after, examined) = (next, examined + PAGE);
            page.into_iter().for_each(|session| count.add(session));
            if self.is_enough(&mut count, next.is_some(), examined).await {
                return Ok(count.done());
            }
        }
    }

    /// Nobody keeps which key signed what: at most all tokens that are alive, and none that expires after the key.
    async fn weigh_key(&self, count: Count<'_>, kid: &Kid) -> Result<Impact, Error> {
        let last = self.last_expiry_of_key(kid);
        if last.is_none_or(|last| last <= count.now) {
            return Ok(Impact::default());
        }
        let impact = self.weigh_all(count).await?;
        Ok(Impact { tokens_until: impact.tokens_until.min(last), ..impact })
    }

    /// Ends the counting, or lets others be served before it goes on.
    async fn is_enough(&self, count: &mut Count<'_>, is_more: bool, examined: usize) -> bool {
        count.impact.capped = is_more && examined >= count.at_most;
        tokio::task::yield_now().await;
        !is_more || count.impact.capped
    }

    /// Until when the last token of a key that signs no more can be alive.
    fn last_expiry_of_key(&self, kid: &Kid) -> Option<Timestamp> {
        let key = self.keyring.list().into_iter().find(|key| key.kid == *kid)?;
        key.retiring_since.map(|since| since.plus(key.longest_token_life))
    }

    /// From when on an entry holds.
    #[must_use]
    pub fn effect(&self, entry: &Entry) -> Effect {
        let last = match &entry.target {
            // Whoever has a key writes any `exp`.
            Target::Key(_) => None,
            _ => Some(last_expiry(entry.feed_until)),
        };
        Effect::of(entry.at, last)
    }

    /// Whether the caller may, and whether it makes sense; then what it ends.
    pub(super) fn permit(&self, ctx: &Context, revocation: &Revocation) -> Result<Ends, Error> {
        let Revocation { target, ends, before, .. } = revocation;
        ctx.require(Permission::to_revoke(target))?;
        if !target.is_cut_off() && before.is_some() {
            return Err(Error::request("before", "only a cut-off (subject, client, all) has an instant"));
        }
        // A key signs tokens, not sessions: those who hold refresh tokens fetch new ones from the new key.
        let fixed = match target {
            Target::Token(_) | Target::Key(_) => Some(Ends::Tokens),
            Target::Session(_) => Some(Ends::Sessions),
            _ => None,
        };
        if let (Some(fixed), Some(asked)) = (fixed, *ends)
            && fixed != asked
        {
            let hint = format!("cannot be chosen for kind {}; leave it out", target.kind());
            return Err(Error::request("ends", hint));
        }
        if let Target::Key(kid) = target {
            self.denylist.permits_key(kid)?;
        }
        Ok(ends.or(fixed).unwrap_or_default())
    }
}

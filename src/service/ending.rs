//! Ending sessions by name: one, or all of its subject's others.

use super::{Context, Effect, Error, Impact, Permission, Service, impact::last_expiry};
use crate::{
    model::{SessionId, Subject},
    store::FamilyStore,
};

/// Which sessions are to end.
#[derive(Debug, Clone)]
pub struct Ending {
    /// This one.
    pub session: SessionId,
    /// Not this one, but all others of its subject.
    pub others: bool,
    /// Why, in the operator's words.
    pub reason: Option<Box<str>>,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Whose they were.
    pub subject: Subject,
    /// How many were open until now.
    pub sessions: usize,
    /// From when on it holds.
    pub effect: Effect,
}

impl Service {
    /// Ends a session, or its subject's others: those that were opened before this. Ending again is fine.
    ///
    /// # Errors
    /// 404 for one that never was, 503.
    pub async fn end_sessions(&self, ctx: &Context, ending: Ending) -> Result<Ended, Error> {
        ctx.require(Permission::SessionsRevoke)?;
        let Ending { session: id, others, reason } = ending;
        let session = self.families.find(id).await?.ok_or(Error::NotFound("no session of this id"))?;
        let subject = session.identity.subject;
        let mut draft = ctx.draft();
        draft.subject = Some(subject.clone());
        let (sessions, feed_until) = if others {
            let done = self.families.close_others(&subject, id, reason, draft).await?;
            (done.closed, done.feed_until)
        } else {
            draft.client = Some(session.identity.client);
            let closed = self.families.close(id, reason, draft).await?;
            (usize::from(closed.was_open), closed.entry.map(|entry| entry.feed_until))
        };
        (0..sessions).for_each(|_| self.metrics.revocation("session"));
        let effect = Effect::of(self.store.moment().now, feed_until.map(last_expiry));
        Ok(Ended { subject, sessions, effect })
    }

    /// What that would do. Nothing is written.
    ///
    /// # Errors
    /// As [`Service::end_sessions`].
    pub async fn weigh_ending(&self, ctx: &Context, ending: &Ending) -> Result<(Subject, Impact), Error> {
        ctx.require(Permission::SessionsRevoke)?;
        let session = self.families.find(ending.session).await?.ok_or(Error::NotFound("no session of this id"))?;
        let subject = session.identity.subject.clone();
        if ending.others {
            return Ok((subject.clone(), self.weigh_others(subject, session.id).await?));
        }
        let open = session.ended.is_none();
        let until = Some(session.lineage.access_until).filter(|until| open && *until > self.store.moment().now);
        let impact = Impact {
            sessions: usize::from(open),
            with_live_tokens: usize::from(until.is_some()),
            subjects: usize::from(open),
            tokens_until: until,
            capped: false,
        };
        Ok((subject, impact))
    }
}

//! How many sessions a subject has. Those that nobody has ended are kept apart, so that counting them takes no longer for
//! a subject that has opened and ended thousands.

use redb::ReadableTable;

use super::{
    denials::Index,
    families::done,
    tables::{Step, decode_id, failed, family_of, subject_key},
    verbs::keys_of,
};
use crate::{
    model::{
        ClientId, SessionId,
        audit::{Draft, Event},
        denial::{Ends, Retention},
        family::Closure,
        session::{OnFull, SessionCap},
    },
    store::{Family, Opening, StoreError},
};

/// How many one opening ends at most: the cap may have been lowered since the last start.
pub(in crate::store) const ENDED_PER_OPENING: usize = 8;

/// A session that counts.
struct Sitting {
    family: Family,
    /// None for one from before clients were kept here.
    client: Option<ClientId>,
}

impl Step<'_> {
    /// Whether one more fits in, perhaps because the oldest have been ended for it.
    pub(super) fn make_room(
        &mut self,
        opening: &Opening,
        cap: SessionCap,
        retention: Retention,
    ) -> Result<bool, StoreError> {
        let most = cap.most.max(1);
        let sitting = self.sitting(opening, most + ENDED_PER_OPENING)?;
        let too_many = (sitting.len() + 1).saturating_sub(most);
        if too_many > 0 && cap.on_full == OnFull::Refuse {
            return Ok(false);
        }
        for oldest in sitting.into_iter().take(too_many) {
            self.displace(oldest, opening, most, retention)?;
        }
        Ok(true)
    }

    /// The oldest of the subject's sessions that go on, so many at most.
    fn sitting(&mut self, opening: &Opening, most: usize) -> Result<Vec<Sitting>, StoreError> {
        let (mut sitting, mut over) = (Vec::new(), Vec::new());
        for row in self.open.range(keys_of(opening.subject, None)).map_err(failed)? {
            let (key, client) = row.map_err(failed)?;
            let id = decode_id(&key.value())?;
            let client: Option<ClientId> = std::str::from_utf8(client.value()).ok().and_then(|id| id.parse().ok());
            let Some(family) = self.family(id)? else {
                over.push(id);
                continue;
            };
            // Cut off is for ever, so nobody need look at it again. Expired may be a clock that is ahead: it only does
            // not count.
            if self.is_cut_off(opening, id, client.as_ref())? {
                over.push(id);
            } else if family.lineage.ended(self.moment.now, false).is_none() {
                sitting.push(Sitting { family, client });
                if sitting.len() == most {
                    break;
                }
            }
        }
        for id in over {
            self.open.remove(subject_key(opening.subject, id)).map_err(failed)?;
            self.dirty = true;
        }
        Ok(sitting)
    }

    fn is_cut_off(&self, opening: &Opening, id: SessionId, client: Option<&ClientId>) -> Result<bool, StoreError> {
        // Whose client is not known here is measured by the opening's: by its subject and by everyone's cut-offs too.
        let client = client.unwrap_or(&opening.client);
        Ok(id.stamp() < self.cut_before(opening.subject, client, Ends::Sessions)?)
    }

    fn displace(
        &mut self,
        oldest: Sitting,
        opening: &Opening,
        most: usize,
        retention: Retention,
    ) -> Result<(), StoreError> {
        let Sitting { mut family, client } = oldest;
        family.lineage.close(Closure::Displaced, self.moment);
        self.put_family(&family)?;
        let access_until = Some(family.lineage.access_until);
        self.deny_session(family.id, Some(family.subject), access_until, retention, None)?;
        let cause = format!("displaced: the subject has {most} sessions");
        let draft = Draft { client, ..opening.audit.clone() };
        self.note(draft, done(Event::Revoked, family.id, None, Some(cause.into())))
    }

    /// For a store from before they were kept apart.
    pub(super) fn lay_open(&mut self) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        for row in self.families.iter().map_err(failed)? {
            let (id, bytes) = row.map_err(failed)?;
            let Some(id) = SessionId::from_bytes(id.value()) else { return Err(StoreError::Damaged("family")) };
            match family_of(id, bytes.value()) {
                Ok(family) if family.lineage.closed.is_none() => keys.push(subject_key(family.subject, id)),
                Ok(_) => {}
                // One record that cannot be read must not keep a store from being upgraded: it cannot be used either.
                Err(error) => tracing::error!(%error, session = %id, "a family cannot be read"),
            }
        }
        for key in keys {
            self.open.insert(key, &[][..]).map_err(failed)?;
        }
        Ok(())
    }
}

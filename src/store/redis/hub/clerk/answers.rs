//! What whoever asked is told.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::{Answer, Ask, Debt, Order, Owed},
    taking::Taken,
};
use crate::{
    model::denial::Entry,
    store::{
        StoreError,
        redis::{Core, layout::Bucket},
    },
};

/// An answer, and where it goes.
pub(super) type Done = (tokio::sync::oneshot::Sender<Result<Answer, StoreError>>, Result<Answer, StoreError>);

/// What those are to be answered whose order is done; the others are left.
pub(super) fn done(
    core: &Core,
    asks: &mut Vec<Ask>,
    answers: Vec<Option<Answer>>,
    taken: &BTreeMap<Bucket, Taken>,
    entries: &HashMap<(Bucket, u64), Entry>,
) -> Vec<Done> {
    let mut all = Vec::new();
    for (ask, done) in std::mem::take(asks).into_iter().zip(answers) {
        let done = match (&ask.order, done) {
            (_, Some(done)) => Ok(done),
            (Order::Settle { bucket, debts }, None) => {
                let last = debts.last().map(|(number, _)| *number);
                let waits = taken.get(bucket).is_some_and(|taken| last.map_or(taken.rest, |last| taken.upto < last));
                if waits {
                    asks.push(ask);
                    continue;
                }
                settled(core, *bucket, debts, entries)
            }
            (_, None) => Ok(Answer::Done),
        };
        all.extend(ask.answer.map(|answer| (answer, done)));
    }
    all
}

/// The entries that deny what was to be denied.
pub(super) fn settled(
    core: &Core,
    bucket: Bucket,
    debts: &[Debt],
    entries: &HashMap<(Bucket, u64), Entry>,
) -> Result<Answer, StoreError> {
    let mut settled = Vec::new();
    for (number, owed) in debts {
        let Owed::Deny(new) = owed else { continue };
        let entry = match entries.get(&(bucket, *number)) {
            Some(entry) => Some(entry.clone()),
            // Somebody else has taken it over.
            None => core.mirror.newest(&new.target, new.ends)?,
        };
        settled.push(entry.ok_or_else(|| StoreError::Failed("what was denied is not in the log".into()))?);
    }
    Ok(Answer::Entries(settled))
}

/// Nothing was done, or nobody can tell. What stands in buckets is looked for there later.
pub(super) fn refuse(core: &Core, asks: Vec<Ask>, error: &StoreError) {
    for ask in asks {
        if let Order::Settle { bucket, .. } = &ask.order {
            core.hub.left.add(*bucket);
        }
        match ask.answer {
            Some(answer) => drop(answer.send(Err(error.clone()))),
            None => tracing::warn!(%error, "what a change owes to the hub is left for later"),
        }
    }
}

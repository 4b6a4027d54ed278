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

/// Entries that deny what buckets owe, by bucket and number.
pub(super) type Entries = HashMap<(Bucket, u64), Entry>;

/// Tells those who wait. What stood in the log before has its reason elsewhere.
pub(super) async fn reply(core: &Core, mut done: Vec<Done>, head: u64) {
    let mut standing = Vec::new();
    for (_, answer) in &mut done {
        if let Ok(Answer::Entries(entries)) = answer {
            standing.extend(entries.iter_mut().filter(|entry| entry.position <= head));
        }
    }
    if let Err(error) = core.recall_reasons(standing).await {
        tracing::warn!(%error, "entries are told without their reasons");
    }
    for (answer, done) in done {
        // Whoever asked may be gone; the change stands all the same.
        let _ = answer.send(done);
    }
}

/// What those are to be answered whose order is done; the others are left.
pub(super) fn done(
    core: &Core,
    asks: &mut Vec<Ask>,
    answers: Vec<Option<Answer>>,
    taken: &BTreeMap<Bucket, Taken>,
    entries: &Entries,
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
pub(super) fn settled(core: &Core, bucket: Bucket, debts: &[Debt], entries: &Entries) -> Result<Answer, StoreError> {
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

/// The same for those of one bucket.
pub(super) fn set_aside(core: &Core, asks: &mut Vec<Ask>, of: Bucket, error: &StoreError) {
    tracing::error!(bucket = of.0, %error, "what a bucket owes cannot be read");
    let concerned = |ask: &Ask| matches!(ask.order, Order::Settle { bucket, .. } if bucket == of);
    let (aside, others) = std::mem::take(asks).into_iter().partition(concerned);
    *asks = others;
    refuse(core, aside, error);
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

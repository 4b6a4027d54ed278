//! What buckets owe and nobody has taken over: a node was killed between its two steps, or had too much to do. Every node
//! looks for it, at its start and then in turns.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::task::JoinSet;

use super::Order;
use crate::store::{
    StoreError,
    redis::{
        Core,
        commit::{Look, UNREADABLE},
        layout::Bucket,
    },
};

/// Buckets that are looked at at once.
const TOGETHER: usize = 64;
/// For how long nothing is looked at between two such lots: a round takes a minute.
const PAUSE: Duration = Duration::from_millis(900);

/// Looks for what is owed until the store is closed. The first round is quick: nobody knows how long it has been owed.
pub(in crate::store::redis) async fn look_for_debts(core: Weak<Core>) {
    let mut pause = Duration::ZERO;
    loop {
        let buckets: Vec<_> = Bucket::all().collect();
        for lot in buckets.chunks(TOGETHER) {
            tokio::time::sleep(pause).await;
            let Some(core) = core.upgrade() else { return };
            // What cannot be asked now is asked in the next round.
            if let Err(error) = take_over(&core, lot).await {
                tracing::debug!(%error, "what buckets owe cannot be looked for");
                pause = PAUSE;
            }
        }
        pause = PAUSE;
    }
}

/// Takes over what these owe, and whatever this node has left for later.
async fn take_over(core: &Arc<Core>, buckets: &[Bucket]) -> Result<(), StoreError> {
    let mut looks = JoinSet::new();
    for bucket in buckets.iter().copied() {
        let core = core.clone();
        looks.spawn(async move { Ok::<_, StoreError>((bucket, core.owes(bucket).await?)) });
    }
    let mut owing = core.hub.left.take(TOGETHER);
    for found in looks.join_all().await {
        let (bucket, owes) = found?;
        owing.extend(owes.then_some(bucket));
    }
    for bucket in owing {
        core.hub.order(Order::Settle { bucket, debts: Vec::new() }).await?;
    }
    Ok(())
}

impl Core {
    async fn owes(&self, bucket: Bucket) -> Result<bool, StoreError> {
        let seen = Look::default().range(self.layout.owed(bucket), 0, 0).ask(&self.link).await?;
        match seen.parts.first() {
            Some(redis::Value::Array(items)) => Ok(!items.is_empty()),
            _ => Err(UNREADABLE),
        }
    }
}

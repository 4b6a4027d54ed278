//! What nobody asks for and must be done all the same: what has been done is said to the buckets, what has expired is let
//! go of, what this node knows and the log does not say is denied again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    super::{
        Ask, Head, Order,
        log::{Laid, be, entries, is_kept_for_long, pairs, trimmed_to},
        pen::Pen,
    },
    BATCH, Clerk, before,
    taking::pay,
};
use crate::{
    model::{Timestamp, denial::Entry},
    store::{
        StoreError,
        embedded::{self, Hold, decode},
        redis::{
            Core,
            commit::{Look, Outcome, UNREADABLE},
            mirror::Abreast,
        },
    },
};

/// Of how many times buckets are told once: the more debts at a time, the less a debt costs.
const PAYS_RARELY: u64 = 10;
/// Buckets that are told at once.
const PAYS: usize = 64;
/// How often the mirror is rid of what has expired.
const TIDIES_EVERY: Duration = Duration::from_millis(100);
/// How much is looked at each time: more than lies between two places that the log can be trimmed to.
const SWEEPS: usize = 256;
/// How often letting go is tried each time.
const SWEEPS_TRY: u32 = 8;
/// How often one goes on at once while there is more: what comes by the thousand a second leaves as fast.
const SWEEPS_ON: u32 = 8;
/// Of how many times one looks at everything.
const RARELY: u64 = 60;

impl Clerk {
    /// What nobody asks for and must be done all the same. What fails is done the next time.
    pub(super) async fn keep_house(&mut self, core: &Arc<Core>) {
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(PAYS_RARELY) {
            self.pay(core);
        }
        for done in
            [self.vouch(core).await, self.push_again(core).await, self.make_up(core).await, self.sweep(core).await]
        {
            if let Err(error) = done {
                tracing::debug!(%error, "the hub is looked after later");
            }
        }
    }

    /// Whoever has just been employed is asked about the log as it is.
    pub(super) async fn vouch(&mut self, core: &Core) -> Result<(), StoreError> {
        if !self.has_vouched(core) {
            self.attempt(core, &mut Vec::new(), false).await?;
        }
        Ok(())
    }

    pub(super) async fn push_again(&mut self, core: &Core) -> Result<(), StoreError> {
        let entries = core.mirror.unplaced(BATCH)?;
        if !entries.is_empty() {
            self.work(core, vec![Ask { order: Order::Again(entries), answer: None }]).await;
        }
        Ok(())
    }

    /// A clock that ran ahead has let entries expire, and was set back: what they denied may live again. All tokens of that
    /// time are ended; their clients fetch new ones.
    pub(super) async fn make_up(&mut self, core: &Core) -> Result<(), StoreError> {
        let (now, forgotten) = (core.clock.now(), core.mirror.forgotten_by()?);
        let Some(denial) = embedded::set_back(now, forgotten) else { return Ok(()) };
        let (answer, mut answered) = tokio::sync::oneshot::channel();
        self.work(core, vec![Ask { order: Order::Deny(denial), answer: Some(answer) }]).await;
        match answered.try_recv() {
            Ok(Ok(_)) => core.mirror.made_up_for(now).await,
            _ => Ok(()),
        }
    }

    /// Rids the mirror of what has expired, now and then.
    pub(super) async fn tidy(&mut self, core: &Core) {
        // Not by the store's clock: while that stands still, more may have expired by it than was looked at.
        let now = tokio::time::Instant::now();
        if self.tidied.is_some_and(|then| now.saturating_duration_since(then) < TIDIES_EVERY) {
            return;
        }
        self.tidied = Some(now);
        if let Err(error) = core.mirror.tidy().await {
            tracing::warn!(%error, "what has expired stays in the journal for a while");
        }
    }

    /// Lets go of what is of no more use, a bit at a time.
    pub(super) async fn sweep(&mut self, core: &Core) -> Result<(), StoreError> {
        for _ in 0..SWEEPS_ON {
            if !self.sweep_on(core).await? {
                break;
            }
        }
        Ok(())
    }

    /// Says whether there is more at once.
    async fn sweep_on(&mut self, core: &Core) -> Result<bool, StoreError> {
        self.sweeps += 1;
        for tried in 0..SWEEPS_TRY {
            let began = core.begin_repair()?;
            if tried > 0 {
                self.ask_for_a_turn(core).await?;
            }
            let Some(due) = self.due(core).await? else { return Ok(false) };
            let commit = self.guards(core, &began, &due.seen, &BTreeMap::new());
            let mut pen = Pen::new(core, &mut self.salts, due.head, None, commit);
            if let Some((end, why)) = &due.records {
                pen.drop_to(*end, before(core, *end).await?, why);
            }
            pen.sweep(&due.sweep);
            let (commit, written) = pen.finish();
            let commit = if tried > 0 { commit.del(core.layout.hub("turn")) } else { commit };
            match commit.make(&core.link).await? {
                Outcome::Done(_) => {
                    self.superseded.retain(|(position, _)| !due.sweep.superseded.contains(position));
                    self.written(core, written).await?;
                    return Ok(due.more);
                }
                Outcome::Moved => self.known = None,
                Outcome::NotTheSame => return Err(StoreError::NotWhole),
            }
        }
        Ok(false)
    }

    /// What is of no more use. Rarely looked at: what there is little of.
    pub(super) async fn due(&mut self, core: &Core) -> Result<Option<SweepDue>, StoreError> {
        let (layout, rarely) = (&core.layout, self.sweeps % RARELY == 1);
        let kept_from = self.kept_from;
        let more = |look: Look| {
            let look = look.since(layout.hub("log"), 0, SWEEPS).since(layout.hub("kept"), kept_from, SWEEPS);
            if rarely { look.hall(layout.hub("denied")).hall(layout.hub("seals")) } else { look }
        };
        let Abreast { seen, head, rest, .. } = core.come_abreast_with(more).await?;
        let [log, kept, rest @ ..] = &rest[..] else { return Err(UNREADABLE) };
        let (log, kept) = (entries(log)?, entries(kept)?);
        self.kept_from = kept.last().filter(|_| kept.len() == SWEEPS).map_or(0, |row| row.entry.position);
        let (now, expired_by) = (core.clock.now(), core.node.expired_by(&*core.clock));
        let mut sweep = Sweep::of(expired_by, head.position, &log, &kept);
        sweep.superseded =
            self.superseded.iter().filter(|(_, due)| *due <= now).map(|(position, _)| *position).collect();
        if let [denied, seals] = rest {
            sweep.denied_of(expired_by, pairs(denied)?)?;
            for (page, _) in pairs(seals)? {
                let page = be(&page)?;
                sweep.seals.extend((!core.mirror.has_seal(page)?).then_some(page));
            }
        }
        let records = if rarely { core.too_old(&head.chain).await? } else { None };
        let nothing = sweep == Sweep::default() && records.is_none();
        let more = log.len() == SWEEPS && sweep.first.is_some();
        Ok((!nothing).then_some(SweepDue { seen, head, sweep, records, more }))
    }

    /// Tells the buckets what has been taken over, so that they need not keep it.
    pub(super) fn pay(&mut self, core: &Arc<Core>) {
        if self.paid.is_empty() || self.paying.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (paid, core) = (std::mem::take(&mut self.paid), core.clone());
        self.paying = Some(tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for (bucket, upto) in paid {
                if tasks.len() >= PAYS {
                    tasks.join_next().await;
                }
                let core = core.clone();
                // What is not said now is said by whoever finds it owed and done.
                tasks.spawn(async move { pay(&core, &core.begin_repair()?, bucket, upto).await.map(drop) });
            }
            tasks.join_all().await;
        }));
    }
}

/// What is to be let go of, by a head.
pub(super) struct SweepDue {
    seen: Vec<u8>,
    head: Head,
    sweep: Sweep,
    /// The first audit record that is not too old, and why.
    records: Option<(u64, String)>,
    /// Whether there may be more of the log.
    more: bool,
}

/// What is of no more use.
#[derive(Clone, Default, PartialEq, Debug)]
pub(in crate::store::redis::hub) struct Sweep {
    /// The first position that the log must keep.
    pub(in crate::store::redis::hub) first: Option<u64>,
    /// Positions that have left before their time.
    pub(in crate::store::redis::hub) superseded: Vec<u64>,
    /// Positions that are kept beside the log no longer.
    pub(in crate::store::redis::hub) kept: Vec<u64>,
    /// Positions whose reasons nobody will ask for.
    pub(in crate::store::redis::hub) reasons: Vec<u64>,
    /// Pages whose beginnings serve nobody.
    pub(in crate::store::redis::hub) seals: Vec<u64>,
    /// Cut-offs that nobody asks for any more.
    pub(in crate::store::redis::hub) denied: Vec<Vec<u8>>,
}

impl Sweep {
    /// Of the beginning of the log that has come to this head, and a part of what is kept beside it.
    pub(super) fn of(now: Timestamp, head: u64, log: &[Laid], kept: &[Laid]) -> Self {
        let left = |row: &&Laid| row.entry.feed_until <= now || is_kept_for_long(&row.entry);
        let last = log.iter().take_while(left).last();
        let first = last.map_or(0, |row| trimmed_to(row.entry.position + 1, head));
        let gone: Vec<&Entry> = log.iter().map(|row| &row.entry).take_while(|entry| entry.position < first).collect();
        let over = kept.iter().filter(|row| row.entry.kept_until <= now).map(|row| row.entry.position);
        let kept: Vec<u64> = over.collect();
        let short = gone.iter().filter(|entry| !is_kept_for_long(entry)).map(|entry| entry.position);
        let reasons = short.chain(kept.iter().copied()).collect();
        Self { first: (!gone.is_empty()).then_some(first), kept, reasons, ..Self::default() }
    }

    /// Of the cut-offs that the hub is asked for.
    pub(super) fn denied_of(&mut self, now: Timestamp, all: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        for (field, row) in all {
            let over = decode::<Hold>(&row, "denial")?.kept_until <= now;
            self.denied.extend(over.then_some(field));
        }
        Ok(())
    }
}

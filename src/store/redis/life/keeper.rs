//! Renews the lease, and does whatever must be done before that may be: one duty after the other, as the rule names them.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::{
    super::{Core, commit::Outcome, hub::Order, link::Vouched},
    Now, Why, parts, push,
    record::{Told, seal},
};
use crate::{
    clock::{Clock, random_bytes},
    model::{
        Timestamp,
        audit::Draft,
        denial::{Ends, Target},
        edition::Edition,
        family::Served,
        reign::{self, Change, Duty, Lease, Me, Memory, NodeId, Reign, Row, Seal, Wait, duty},
    },
    store::{Denial, StoreError},
};

/// Duties of one round at most.
const DUTIES: usize = 32;
/// Renewals within the time of a lease.
const RENEWALS: u32 = 4;
/// How far the time served that is remembered may stay behind.
const REMEMBERS_EVERY: Duration = Duration::from_secs(5);

/// Renews the lease until the store is closed.
pub(crate) async fn keep(core: Weak<Core>) {
    let mut keeper = Keeper::default();
    loop {
        let Some(core) = core.upgrade().filter(|core| !core.life.is_stopped()) else { return };
        let next = core.life.machine.boottime() + core.options.lease / RENEWALS;
        match keeper.round(&core).await {
            Ok(None) => keeper.whole(),
            Ok(Some(wait)) => keeper.stands_against(&core, Why::Waits(wait)),
            Err(error) => {
                if matches!(error, StoreError::Layout(_)) {
                    core.life.forgo();
                }
                keeper.stands_against(&core, Why::Failed(error));
            }
        }
        let pause = next.saturating_sub(core.life.machine.boottime());
        let wakes = core.life.wake.notified();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wakes => {}
        }
    }
}

/// What lasts from one round to the next.
#[derive(Default)]
struct Keeper {
    /// The life that is in the store, and when it was first seen.
    first_saw: Option<(Seal, Duration)>,
    /// What was said last of why there is no lease.
    said: Option<String>,
}

/// One round: what it was told when it began.
struct Round<'c> {
    core: &'c Arc<Core>,
    /// Before anyone was asked.
    asked: Duration,
    /// As long as this is the way, it is they that answer who were vouched for.
    way: u64,
    reign: Reign,
}

impl Keeper {
    /// `None`: the lease is renewed.
    async fn round(&mut self, core: &Arc<Core>) -> Result<Option<Wait>, StoreError> {
        let asked = core.life.machine.boottime();
        let vouched = core.link.urgent().vouched().await?;
        let round = Round { core, asked, way: vouched.way, reign: reign_of(&vouched) };
        for _ in 0..DUTIES {
            let (told, at) = round.look().await?;
            if let Some(life) = &told.life
                && self.first_saw.is_none_or(|(seal, _)| seal != life.seal)
            {
                self.first_saw = Some((life.seal, at));
            }
            // What was told of the servers is too old for a lease: it is asked anew.
            if at.saturating_sub(asked) > core.options.lease {
                return Err(StoreError::Failed("the store answers too slowly for a lease".into()));
            }
            let memory = core.life.memories().memory().cloned();
            let node = core.life.memories().node();
            let me = Me {
                node,
                name: &core.options.name,
                version: env!("CARGO_PKG_VERSION"),
                memory: memory.as_ref(),
                first_saw: self.first_saw,
                heads: core.life.heads.reach(memory.as_ref().map_or(Served::default(), |memory| memory.served)),
                random: (u128::from_be_bytes(random_bytes(&*core.random)), seal(&*core.random)),
                lease: core.options.lease,
            };
            let next = duty(&me, Some(round.reign), &told.seen(), at);
            if !matches!(next, Duty::Change(_) | Duty::Adopt(_)) {
                round.know(&told);
            }
            match next {
                Duty::Change(change) => round.change(&told, &change).await?,
                Duty::Adopt(memory) => round.adopt(&told, memory).await?,
                Duty::CutOff(ends, change) => {
                    round.cut_off(ends).await?;
                    round.change(&told, &change).await?;
                }
                Duty::Push if core.life.pushed() != told.life.as_ref().map(|life| life.seal) => {
                    let life = told.life.as_ref().ok_or(StoreError::NotWhole)?;
                    let parts = parts::look(core, life).await?;
                    if let Some(change) = reign::lost_a_part(&me, parts, &told.seen()) {
                        round.change(&told, &change).await?;
                        continue;
                    }
                    push::push(core, life).await?;
                    core.life.has_pushed(life.seal);
                    // What was vouched for is old by now.
                    return Ok(Some(Wait::Vouched)).inspect(|_| core.life.wake.notify_one());
                }
                Duty::Push | Duty::Tell => {
                    let row = round.row(&told, node)?;
                    told.say(&core.layout, node, &row, core.clock.now()).make(&core.link.urgent()).await?;
                }
                Duty::Serve(_) => {
                    if let Some(next) = told.edition.raised(&told.rows) {
                        round.raise(&told, &next).await?;
                        continue;
                    }
                    if round.serve(&told, node).await? {
                        return Ok(None);
                    }
                }
                Duty::Wait(wait) => {
                    if told.row(node).is_some() {
                        let row = round.row(&told, node)?;
                        told.say(&core.layout, node, &row, core.clock.now()).make(&core.link.urgent()).await?;
                    }
                    return Ok(Some(wait));
                }
            }
        }
        Err(StoreError::Busy)
    }

    fn whole(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("this node speaks for the store again");
        }
    }

    fn stands_against(&mut self, core: &Core, why: Why) {
        let state = core.life.now.load_full();
        let now = Now { why: Some(why), ..(*state).clone() };
        let sentence = now.sentence();
        core.life.tell(now);
        // One that is held is good until it runs out.
        if core.life.standing() == crate::model::family::Standing::NotWhole && self.said != sentence {
            if let Some(sentence) = &sentence {
                tracing::warn!(why = sentence, "this node may not speak for the store");
            }
            self.said = sentence;
        }
    }
}

impl Round<'_> {
    async fn look(&self) -> Result<(Told, Duration), StoreError> {
        let core = self.core;
        let at = core.life.machine.boottime();
        let seen = Told::look(&core.layout).ask(&core.link.urgent()).await?;
        // Another server's word, or another run's, is not written over as if it were theirs.
        if core.link.way() != self.way {
            return Err(StoreError::Failed("other servers answer than those that were vouched for".into()));
        }
        Ok((Told::read(&seen)?, at))
    }

    /// This life is remembered: repairs go by it.
    fn know(&self, told: &Told) {
        let life = &self.core.life;
        let state = life.now.load_full();
        if state.life.as_deref() == told.life.as_ref() && state.rows.as_slice() == told.rows.as_slice() {
            return;
        }
        let seal = told.life.as_ref().map(|life| life.seal);
        // Of a life that is whole nobody goes but who leaves, or is not waited for.
        let same = told.life.as_ref().is_some_and(|now| now.whole && life.is(now.seal));
        if same && state.rows.iter().any(|(id, _)| told.row(*id).is_none()) {
            life.heads.has_left(life.moment_of(&state, Timestamp::default()).served);
        }
        let lease = state.lease.filter(|lease| Some(lease.term.seal) == seal);
        let served =
            if state.served.0 == Served::default() { (told.served, life.clock.monotonic()) } else { state.served };
        let known = told.life.clone().map(Arc::new);
        life.tell(Now { life: known, lease, served, rows: Arc::new(told.rows.clone()), ..(*state).clone() });
    }

    async fn change(&self, told: &Told, change: &Change) -> Result<(), StoreError> {
        let core = self.core;
        let outcome = told.change(&core.layout, change, core.clock.now()).make(&core.link.urgent()).await?;
        // Moved: somebody else was quicker, and the next look says how.
        if matches!(outcome, Outcome::Done(_)) {
            let (why, life) = (change.why, &change.life);
            tracing::info!(?why, incarnation = life.incarnation, whole = life.whole, doubt = ?life.doubt, "the store's life");
        }
        Ok(())
    }

    /// The second phase of an upgrade.
    async fn raise(&self, told: &Told, next: &Edition) -> Result<(), StoreError> {
        let core = self.core;
        let outcome = told.raise(&core.layout, next, core.clock.now()).make(&core.link.urgent()).await?;
        if matches!(outcome, Outcome::Done(_)) {
            tracing::info!(
                from = told.edition.written,
                to = next.written,
                "every node reads a newer layout: it is written from here on"
            );
        }
        Ok(())
    }

    /// Durable once it returns. A lease of another life has ended before.
    async fn adopt(&self, told: &Told, memory: Memory) -> Result<(), StoreError> {
        let life = &self.core.life;
        let state = life.now.load_full();
        if state.life.as_ref().is_none_or(|known| known.seal != memory.seal) {
            // What has been served is not taken back.
            let served = (life.moment_of(&state, Timestamp::default()).served, life.clock.monotonic());
            life.tell(Now { life: None, lease: None, served, ..(*state).clone() });
        }
        self.remember(memory).await?;
        self.know(told);
        Ok(())
    }

    async fn remember(&self, memory: Memory) -> Result<(), StoreError> {
        let core = self.core.clone();
        let done = tokio::task::spawn_blocking(move || core.life.memories().remember(memory)).await;
        done.unwrap_or_else(|_| Err(StoreError::Failed("the node's memory could not be written".into())))
    }

    /// What an accepted loss ends.
    async fn cut_off(&self, ends: Ends) -> Result<(), StoreError> {
        let core = self.core;
        push::mark_all(core, &core.life.begin_repair(core.clock.now())?).await?;
        core.forget_assertions().await?;
        core.reconcile().await?;
        let reason = Some("the store came back without acknowledged writes".into());
        let denial = Denial { target: Target::All, ends, before: None, expires: None, reason, audit: Draft::default() };
        core.hub.order(Order::Deny(denial)).await.map(drop)
    }

    /// What this node says of itself now.
    fn row(&self, told: &Told, node: NodeId) -> Result<Row, StoreError> {
        let core = self.core;
        let knows = core.life.memories().memory().map_or(0, |memory| memory.members);
        let row = told.row(node).ok_or(StoreError::NotWhole)?;
        let seal = told.life.as_ref().map(|life| life.seal).unwrap_or_default();
        let pushed = if core.life.pushed() == Some(seal) { seal } else { row.pushed };
        Ok(Row {
            pushed,
            knows,
            name: core.options.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            seen: told.now,
            followed: core.mirror_position(),
            added: row.added,
        })
    }

    /// Whether the lease is renewed; otherwise something has changed meanwhile.
    async fn serve(&self, told: &Told, node: NodeId) -> Result<bool, StoreError> {
        let core = self.core;
        let Some(life) = &told.life else { return Ok(false) };
        let meta = core.layout.hub("meta");
        let (state, counted) = (core.life.now.load_full(), core.life.clock.monotonic());
        // Never set back, also if another node's clock runs a little faster.
        let so_far = core.life.moment_of(&state, Timestamp::default()).served;
        let served = told.served_by_now(life.lease).max(so_far);
        let commit = told.say(&core.layout, node, &self.row(told, node)?, core.clock.now());
        let raised = told.now.millis().to_string();
        let commit = commit.raise(meta.clone(), b"served", served.0).hset(meta, b"raised", raised.as_bytes());
        if !matches!(commit.make(&core.link.urgent()).await?, Outcome::Done(_)) {
            return Ok(false);
        }
        let lease = Some(Lease::granted(life, self.way, self.asked));
        core.life.tell(Now { lease, served: (served, counted), why: None, ..(*state).clone() });
        self.remember_served(served).await;
        Ok(true)
    }

    async fn remember_served(&self, served: Served) {
        let memory = self.core.life.memories().memory().cloned();
        if let Some(memory) = memory.filter(|memory| served.since(memory.served) >= REMEMBERS_EVERY)
            && let Err(error) = self.remember(Memory { served, ..memory }).await
        {
            tracing::warn!(%error, "how far the store had come is not remembered");
        }
    }
}

/// Stands for these servers, and for no others.
pub(super) fn reign_of(vouched: &Vouched) -> Reign {
    let mut names: Vec<_> = vouched.masters.iter().map(|master| (&master.run_id, &master.replication_id)).collect();
    names.sort();
    let mut digest = Sha256::new();
    for (run, replication) in names {
        digest.update(format!("{run} {replication}\n"));
    }
    let digest: [u8; 32] = digest.finalize().into();
    let (first, _) = digest.split_first_chunk::<16>().expect("it is longer");
    Reign(u128::from_be_bytes(*first))
}

//! What this node knows, pushed into a store that came back as another. All of it may be done twice, and never makes weaker
//! what is there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{
    super::{
        Core,
        commit::{Commit, Outcome},
        hub::NewEntry,
        layout::Bucket,
        record::Record,
        step::{Step, TRIES},
        subjects::Cuts,
    },
    Began,
};
use crate::{
    model::{
        denial::{Ends, Entry, Target},
        family::Closure,
        reign,
    },
    store::{DenyStore, StoreError},
};

/// Buckets that are asked, or written to, at once.
pub(super) const AT_ONCE: usize = 64;
/// Entries that are looked at in one go: enough of them that many lie in the same bucket.
const ENTRIES: usize = 1 << 16;
/// Entries of one bucket that are one step.
const TOGETHER: usize = 128;
/// By how much the clocks of two servers may differ.
const CLOCKS: Duration = Duration::from_secs(3600);

/// Marks every bucket, and pushes what is denied, what is closed, and what moved of late.
pub(super) async fn push(core: &Arc<Core>, life: &reign::Life) -> Result<(), StoreError> {
    let (began, mut pushed) = (core.clock.monotonic(), 0_usize);
    mark_all(core, &core.repairs()?).await?;
    core.reconcile().await?;
    core.push_keys().await?;
    core.push_clients().await?;
    // First what moved, as this node has it: what the log says of it counts after that.
    let heads = core.life.heads.all();
    let moved = heads.len();
    let mut heads_of = BTreeMap::<Bucket, Vec<Record>>::new();
    heads.into_iter().for_each(|head| heads_of.entry(Bucket::of_session(head.family.id)).or_default().push(head));
    each(waited(core), core, heads_of.into_iter(), |core, (bucket, heads)| async move {
        core.move_all_again(bucket, heads).await
    })
    .await?;
    core.come_abreast().await?;
    let younger = life.dated.minus(CLOCKS);
    let mut after = 0;
    loop {
        let page = core.mirror.entries(after, ENTRIES).await?;
        let Some(last) = page.entries.last() else { break };
        after = last.position;
        let (mut singles, mut cuts) = (BTreeMap::<Bucket, Vec<Entry>>::new(), Vec::new());
        for entry in page.entries.into_iter().filter(|entry| entry.at >= younger) {
            pushed += 1;
            match bucket_of(&entry) {
                Some(bucket) => singles.entry(bucket).or_default().push(entry),
                None => cuts.push(entry),
            }
        }
        each(waited(core), core, cuts.into_iter(), |core, entry| async move { core.cut_again(&entry).await }).await?;
        each(waited(core), core, singles.into_iter(), |core, (bucket, entries)| async move {
            core.deny_again(bucket, &entries).await
        })
        .await?;
    }
    let millis = u64::try_from((core.clock.monotonic() - began).as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        incarnation = life.incarnation,
        entries = pushed,
        moved,
        millis,
        "what this node knows is in the store again"
    );
    Ok(())
}

/// Where it stands, if it is about one token or one session.
fn bucket_of(entry: &Entry) -> Option<Bucket> {
    match entry.target {
        Target::Token(id) => Some(Bucket::of_token(id)),
        Target::Session(id) => Some(Bucket::of_session(id)),
        Target::Subject(_) | Target::Client(_) | Target::Key(_) | Target::All => None,
    }
}

/// Of what replicas are waited for, no more at once than there are connections to wait on: what queues for one has less
/// time left for its own answer, and late, all of it would be done again.
fn waited(core: &Core) -> usize {
    if core.options.replicas > 0 { usize::from(core.options.waiting.max(1)) } else { AT_ONCE }
}

/// So many at once.
pub(super) async fn each<T, F>(
    at_once: usize,
    core: &Arc<Core>,
    all: impl Iterator<Item = T>,
    one: impl Fn(Arc<Core>, T) -> F,
) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let failed = |done: Result<_, tokio::task::JoinError>| {
        done.unwrap_or_else(|_| Err(StoreError::Failed("a repair was cut short".into())))
    };
    for item in all {
        if running.len() >= at_once
            && let Some(done) = running.join_next().await
        {
            failed(done)?;
        }
        running.spawn(one(core.clone(), item));
    }
    while let Some(done) = running.join_next().await {
        failed(done)?;
    }
    Ok(())
}

/// Writes the marker of every bucket, and of the hub.
pub(super) async fn mark_all(core: &Arc<Core>, began: &Began) -> Result<(), StoreError> {
    let (began, hub) = (*began, core.layout.hub("meta"));
    let metas = Bucket::all().map(|bucket| core.layout.meta(bucket)).chain([hub]).collect::<Vec<_>>();
    each(AT_ONCE, core, metas.into_iter(), |core, meta| async move { core.mark(meta, &began).await }).await
}

impl Core {
    /// A step of a repair begins. Each has an instant of its own: all of them together take longer than clocks may differ.
    fn repairs(&self) -> Result<Began, StoreError> {
        self.life.begin_repair(self.clock.now())
    }

    /// Not waited for: every change in the bucket follows it to the replicas, and no such change is made without it.
    async fn mark(&self, meta: Vec<u8>, began: &Began) -> Result<(), StoreError> {
        let commit = Commit::new(self.clock.now()).no_later_life(meta.clone(), began.mark());
        match commit.hset(meta, b"life", began.mark()).make(&self.link.urgent().unwaited()).await? {
            Outcome::Done(_) => Ok(()),
            // Somebody has begun another life meanwhile.
            Outcome::Moved | Outcome::NotTheSame => Err(StoreError::Busy),
        }
    }

    /// What the hub's log cuts a subject off of is cut off in its bucket, too.
    async fn cut_again(&self, entry: &Entry) -> Result<(), StoreError> {
        let Target::Subject(subject) = entry.target else { return Ok(()) };
        let bucket = Bucket::of_subject(subject);
        for _ in 0..TRIES {
            let mut found = self.seen(self.repairs()?, self.look_at_cuts(self.look(bucket), subject)).await?;
            let cuts = found.cuts(subject)?;
            let mut step = Step::new(self, bucket, &found);
            let (key, field) = (self.layout.cuts(bucket), Cuts::field(subject, entry.ends));
            let row = cuts.merged(entry.ends, &again(entry));
            step.unchanged(&cuts);
            step.also(|commit| commit.hset(key, &field, &row));
            if step.make().await?.is_some() {
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }

    /// What the hub's log denies of single tokens and sessions of this bucket is denied there, too.
    async fn deny_again(&self, bucket: Bucket, entries: &[Entry]) -> Result<(), StoreError> {
        let families = self.layout.families(bucket);
        for entries in entries.chunks(TOGETHER) {
            let sessions = entries.iter().filter_map(|entry| match entry.target {
                Target::Session(id) => Some(id),
                _ => None,
            });
            let look = sessions.fold(self.look(bucket), |look, id| look.hget(families.clone(), id.as_bytes()));
            let mut found = self.seen(self.repairs()?, look).await?;
            let mut step = Step::new(self, bucket, &found);
            let mut open = Vec::new();
            for entry in entries {
                match entry.target {
                    Target::Session(id) => {
                        if found.record(id)?.is_some_and(|record| record.family.lineage.closed.is_none()) {
                            open.push((id, entry));
                        } else {
                            self.say_again(&mut step, self.layout.denied_session(id), entry);
                        }
                    }
                    Target::Token(id) => self.say_again(&mut step, self.layout.denied_token(id), entry),
                    _ => {}
                }
            }
            step.make().await?.ok_or(StoreError::Busy)?;
            for (id, entry) in open {
                self.close_again(id, entry).await?;
            }
        }
        Ok(())
    }

    async fn close_again(&self, id: crate::model::SessionId, entry: &Entry) -> Result<(), StoreError> {
        let bucket = Bucket::of_session(id);
        for _ in 0..TRIES {
            let (found, family) = self.family_and_cuts(self.repairs()?, id).await?;
            let mut step = Step::new(self, bucket, &found);
            if let Some((mut record, _)) = family
                && record.family.lineage.close(Closure::Revoked, step.moment)
            {
                self.list_as_ended(&mut step, &record).await?;
                step.put(&record);
            }
            self.say_again(&mut step, self.layout.denied_session(id), entry);
            if step.make().await?.is_some() {
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }

    /// For those who ask Redis itself.
    fn say_again(&self, step: &mut Step<'_>, key: Vec<u8>, entry: &Entry) {
        if entry.feed_until > step.moment.now {
            step.also(|commit| commit.set_until(key, b"1", entry.feed_until));
        }
    }

    /// Sessions of this bucket that moved are where they were, or further. Most are: they are looked at together.
    async fn move_all_again(&self, bucket: Bucket, moved: Vec<Record>) -> Result<(), StoreError> {
        for moved in moved.chunks(TOGETHER) {
            let ids: Vec<_> = moved.iter().map(|record| record.family.id).collect();
            let found = self.records(self.repairs()?, bucket, &ids).await?;
            for (moved, (_, found)) in moved.iter().zip(found) {
                if found.is_none_or(|mut found| further(&mut found, moved)) {
                    self.move_again(moved.clone()).await?;
                }
            }
        }
        Ok(())
    }

    /// A session that moved is where it was, or further.
    async fn move_again(&self, moved: Record) -> Result<(), StoreError> {
        let (id, subject) = (moved.family.id, moved.family.subject);
        let bucket = Bucket::of_session(id);
        for _ in 0..TRIES {
            let began = self.repairs()?;
            let (found, family) = self.family_and_cuts(began, id).await?;
            let mut step = Step::new(self, bucket, &found);
            match family {
                Some((mut record, _)) => {
                    let seen = record.begins();
                    if !further(&mut record, &moved) {
                        return Ok(());
                    }
                    if record.family.lineage.closed.is_some() {
                        self.list_as_ended(&mut step, &record).await?;
                    }
                    step.put_over(seen, &record);
                }
                None if moved.family.lineage.absolute_until <= step.moment.now => return Ok(()),
                None => {
                    let look = self.look_at_sessions(self.look_at_cuts(self.look(bucket), subject), subject);
                    let mut found = self.seen(began, look).await?;
                    let (cuts, mut sessions) = (found.cuts(subject)?, found.sessions(subject)?);
                    // The bucket has not lost it: its subject was cut off since, and then it was erased.
                    if id.stamp() < cuts.before(Ends::Sessions) {
                        return Ok(());
                    }
                    sessions.enter(id);
                    if moved.family.lineage.closed.is_some() {
                        sessions.end(id);
                    }
                    sessions.put(&mut step);
                    let families = self.layout.families(bucket);
                    step.also(|commit| {
                        let commit = commit.field_is(families.clone(), id.as_bytes(), None);
                        commit.hset(families, id.as_bytes(), &moved.encode())
                    });
                }
            }
            if step.make().await?.is_some() {
                return Ok(());
            }
        }
        Err(StoreError::Busy)
    }
}

/// The denial, as it was made.
fn again(entry: &Entry) -> NewEntry {
    let Entry { target, ends, before, at, feed_until, kept_until, .. } = entry.clone();
    NewEntry { target, ends, before, at, feed_until, kept_until, reason: None }
}

/// Merges forward, never back. Whether anything has changed. What is not in an order of its own (whose session it is, the
/// stamps of a head) is that of the one that was written later.
fn further(record: &mut Record, moved: &Record) -> bool {
    let was = record.family.clone();
    let is_later = moved.version >= record.version;
    let (lineage, other) = (&mut record.family.lineage, &moved.family.lineage);
    if other.head > lineage.head || (is_later && other.head == lineage.head) {
        (lineage.head, lineage.stamps) = (other.head, other.stamps);
    }
    lineage.closed = lineage.closed.or(other.closed);
    lineage.last_used = lineage.last_used.max(other.last_used);
    lineage.idle_until = lineage.idle_until.max(other.idle_until);
    lineage.access_until = lineage.access_until.max(other.access_until);
    if is_later {
        record.family.sealed.clone_from(&moved.family.sealed);
        // As often as it was written then: those who come after it with what is older see that.
        record.version = record.version.max(moved.version);
    }
    record.family != was
}

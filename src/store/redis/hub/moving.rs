//! An installation moves here from an embedded store. Until all of it is here the store says so in its layout, which every
//! node asks first, so nobody serves a half of it; what was begun and not ended is not gone on with.
//!
//! What is denied, cut off, used, or on record is all here, and so are the sessions. Each lies in the bucket of its subject
//! by its very id, which those of an embedded store do not: so it has another here, alike but for the digits of the bucket,
//! and the one that it had leads to it. Verifiers know nothing of that, and the access tokens that name the old ids would
//! outlive the sessions that are ended here: one more cut-off ends them all, and their clients refresh.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{
    Head,
    log::{is_kept_for_long, sealed, stands_for_many, written},
    pen::{LIST, place_of},
};
use crate::{
    clock::{Clock, Random, random_bytes},
    model::{
        ClientId, SessionId, SubjectRef, Timestamp,
        audit::{Draft, Event, Link as Tie, Outcome as AuditOutcome, Record},
        chain::tie,
        denial::{Ends, Entry, Retention, Target},
        edition::{Edition, Unfit},
        feed::Epoch,
        reign::{self, Reign},
    },
    store::{
        Family, StoreError,
        embedded::{
            Amount, Hold, Kept, Leaving, NewEntry, Older, Row, Salts, encode, family_due, index_key, told, until,
        },
        redis::{
            READY_WITHIN,
            commit::{Commit, Look, Outcome, maybe, number},
            index::{Listed, arrive},
            layout::{Bucket, Layout},
            life::seal,
            link::{Link, OpenError},
            lives::carried,
            moved::Lead,
            options::Options,
            record,
            subjects::{Cut, Cuts},
            url::StoreUrl,
        },
    },
};

/// Rows that are read and written together.
const PAGE: usize = 500;
/// Sessions that are: so many that a bucket gets several of them in one change.
const SESSIONS: usize = 8192;
/// Buckets that are asked or written at once.
const AT_ONCE: usize = 64;
/// What the cut-off says.
const REASON: &str = "the store was moved, and sessions have other ids there";

/// Gives a family another id, and its client with it; what is sealed is bound to the id, and the keys are elsewhere. `None`:
/// it ended with its key.
pub type Rename<'a> = dyn Fn(Family, SessionId) -> Result<Option<(Family, ClientId)>, StoreError> + Send + Sync + 'a;

/// Why an installation does not move. What the target holds then says [`MoveError::Begun`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The target cannot be reached, or would not be safe.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is something already. Nothing was written.
    #[error("the target is not empty: {what} is there under the prefix `{prefix}`; name another prefix or database")]
    NotEmpty {
        /// What was found first.
        what: String,
        /// What names begin with.
        prefix: Box<str>,
    },
    /// A move was begun and did not end. Nothing was written by this one.
    #[error(
        "a move into this store was begun ({word}) and did not end; it is not gone on with: delete every key that begins \
         with `{prefix}`, as by `redis-cli --scan --pattern '{prefix}*' | xargs redis-cli unlink`, and run this again"
    )]
    Begun {
        /// What the store says of it.
        word: Box<str>,
        /// What names begin with.
        prefix: Box<str>,
    },
    /// Somebody else has written there meanwhile.
    #[error("somebody else writes to the target; it must be for this alone until all is there")]
    Disturbed,
    /// One of both stores could not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What has been moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Moved {
    /// Sessions, ended ones among them whose tokens may still come.
    pub sessions: u64,
    /// Sessions that are over, and of no more use.
    pub sessions_over: u64,
    /// Sessions that cannot be read: nobody could refresh them.
    pub sessions_unreadable: u64,
    /// Entries of the denylist that live, and the one that ends all access tokens.
    pub entries: u64,
    /// Audit records, and the two that tell of this.
    pub records: u64,
    /// Assertions that have been used.
    pub assertions: u64,
}

/// Where an installation is to move.
pub struct Destination {
    link: Link,
    layout: Layout,
    options: Options,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Destination")
    }
}

impl Destination {
    /// The store that this address names, in which there is nothing yet. Writes nothing.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn at(
        url: &StoreUrl,
        mut options: Options,
        machine: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, MoveError> {
        if let Some(prefix) = url.prefix() {
            options.prefix = prefix.into();
        }
        let link = Link::open(url, &options, machine.clone())?;
        link.ready(READY_WITHIN).await?;
        let clock: Arc<dyn Clock> = if options.skew.is_zero() { machine } else { link.clock() };
        let target = Self { layout: Layout::new(&options.prefix), link, options, clock, random };
        target.is_empty().await?;
        Ok(target)
    }

    async fn is_empty(&self) -> Result<(), MoveError> {
        let (hub, prefix) = (|name| self.layout.hub(name), self.options.prefix.clone());
        let seen = Look::default().get(hub("layout")).ask(&self.link).await?;
        match Edition::read(seen.parts.first().map_or(Ok(None), maybe)?) {
            Err(Unfit::Held { word }) => return Err(MoveError::Begun { word, prefix }),
            other => other.map_err(StoreError::from)?,
        };
        let names = ["layout", "life", "head", "keys", "nodes", "meta", "book", "log"];
        self.has_none(names.map(hub).to_vec()).await?;
        let mut buckets = JoinSet::new();
        for bucket in Bucket::all() {
            let layout = &self.layout;
            let keys = [Layout::meta, Layout::families, Layout::moved, Layout::cuts, Layout::owed];
            let keys = keys.map(|key| key(layout, bucket)).to_vec();
            if buckets.len() >= AT_ONCE {
                join(buckets.join_next().await)?;
            }
            let target = self.asker();
            buckets.spawn(async move { target.has_none(keys).await });
        }
        while let Some(done) = buckets.join_next().await {
            join(Some(done))?;
        }
        Ok(())
    }

    fn asker(&self) -> Asker {
        Asker { link: self.link.clone(), prefix: self.options.prefix.clone() }
    }

    async fn has_none(&self, keys: Vec<Vec<u8>>) -> Result<(), MoveError> {
        self.asker().has_none(keys).await
    }

    /// What would be moved. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError`]: the source does not read.
    pub fn foresee(&self, source: &Leaving, rename: &Rename<'_>) -> Result<Moved, StoreError> {
        let Amount { sessions: kept, entries, records, assertions } = source.amount()?;
        let mut moved = Moved { entries, records, assertions, ..Moved::default() };
        let mut arrivals = Arrivals::of(source, rename, self.clock.now());
        while let Some(page) = arrivals.page()? {
            moved.sessions += page.len() as u64;
        }
        moved.count_the_rest(kept, arrivals.over);
        Ok(moved)
    }

    /// Moves everything, and the sealed keys of the nodes with it. `by`: on whose word. `tell`: hears how many sessions have
    /// been moved so far.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn take_in(
        &self,
        source: &Leaving,
        rename: &Rename<'_>,
        keys: &[u8],
        by: &str,
        tell: impl FnMut(u64) + Send,
    ) -> Result<Moved, MoveError> {
        let random: [u8; 8] = random_bytes(&*self.random);
        let word = format!("being filled since {}, {:016x}", self.clock.now().to_rfc3339(), u64::from_be_bytes(random));
        let edition = Edition { held: Some(word.into()), ..Edition::FIRST };
        let claim = self.hub_commit(None).set(self.layout.hub("layout"), edition.text().as_bytes());
        let free =
            ["life", "head"].into_iter().fold(claim, |commit, name| commit.value_is(self.layout.hub(name), None));
        done(free.make(&self.link).await?)?;
        // From here on no node touches it, and nobody else who moves.
        let mut mover = Mover {
            to: self,
            from: source,
            held: edition.text(),
            head: Head::new(Epoch(random_bytes(&*self.random))),
            moved: Moved::default(),
        };
        mover.denials().await?;
        mover.sessions(rename, tell).await?;
        mover.records(by).await?;
        mover.assertions().await?;
        mover.buckets().await?;
        mover.rest(keys).await?;
        // All is there; the life is what a node looks for.
        mover.open_the_door().await?;
        Ok(mover.moved)
    }

    /// A change of the hub while the layout is this one.
    fn hub_commit(&self, held: Option<&str>) -> Commit {
        Commit::new(self.clock.now()).value_is(self.layout.hub("layout"), held.map(str::as_bytes))
    }
}

/// For what is asked at once.
struct Asker {
    link: Link,
    prefix: Box<str>,
}

impl Asker {
    async fn has_none(&self, keys: Vec<Vec<u8>>) -> Result<(), MoveError> {
        let look = keys.iter().fold(Look::default(), |look, key| look.exists(key.clone()));
        let seen = look.ask(&self.link).await?;
        for (key, there) in keys.iter().zip(&seen.parts) {
            if number(there)? > 0 {
                let what = String::from_utf8_lossy(key).into_owned();
                return Err(MoveError::NotEmpty { what, prefix: self.prefix.clone() });
            }
        }
        Ok(())
    }
}

fn join<T: Default>(done: Option<Result<Result<T, MoveError>, tokio::task::JoinError>>) -> Result<T, MoveError> {
    match done {
        None => Ok(T::default()),
        Some(Ok(outcome)) => outcome,
        Some(Err(e)) => Err(StoreError::Failed(e.to_string()).into()),
    }
}

fn done(outcome: Outcome) -> Result<(), MoveError> {
    if matches!(outcome, Outcome::Done(_)) { Ok(()) } else { Err(MoveError::Disturbed) }
}

/// A session as it will be here.
struct Arrival {
    was: SessionId,
    record: record::Record,
    open: bool,
}

/// The sessions that go on, and those that have ended whose tokens may still come: page by page, subject by subject.
struct Arrivals<'a> {
    from: &'a Leaving,
    rename: &'a Rename<'a>,
    now: Timestamp,
    after: Option<[u8; 32]>,
    /// How many were of no more use.
    over: u64,
}

impl<'a> Arrivals<'a> {
    fn of(from: &'a Leaving, rename: &'a Rename<'a>, now: Timestamp) -> Self {
        Self { from, rename, now, after: None, over: 0 }
    }

    /// The next ones; `None` at the end.
    fn page(&mut self) -> Result<Option<Vec<Arrival>>, StoreError> {
        let page = self.from.sessions(self.after, SESSIONS)?;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = Some(last.key);
        let mut arrivals = Vec::with_capacity(page.len());
        for Kept { family, open, .. } in page {
            let Some(family) = family else { continue };
            let was = family.id;
            let renamed = match family_due(&family) <= self.now {
                true => Ok(None),
                false => {
                    let id = Bucket::of_subject(family.subject).adopt(was);
                    (self.rename)(family, id)
                }
            };
            match renamed {
                Ok(Some((family, client))) => {
                    arrivals.push(Arrival { was, record: record::Record { version: 0, client, family }, open });
                }
                Ok(None) => self.over += 1,
                // One that cannot be read must not hold up all others: nobody could refresh it there either.
                Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(arrivals))
    }
}

struct Mover<'a> {
    to: &'a Destination,
    from: &'a Leaving,
    /// What the layout says meanwhile.
    held: String,
    head: Head,
    moved: Moved,
}

impl Mover<'_> {
    fn hub(&self, name: &str) -> Vec<u8> {
        self.to.layout.hub(name)
    }

    fn commit(&self) -> Commit {
        self.to.hub_commit(Some(&self.held))
    }

    async fn make(&self, commit: Commit) -> Result<(), MoveError> {
        done(commit.make(&self.to.link).await?)
    }

    /// Changes of many buckets, each in one step.
    async fn make_in(&self, link: &Link, changes: Changes) -> Result<(), MoveError> {
        let mut running = JoinSet::new();
        for (bucket, changes) in changes {
            if running.len() >= AT_ONCE {
                join(running.join_next().await)?;
            }
            let meta = self.to.layout.meta(bucket);
            let commit = Commit::new(self.to.clock.now()).field_is(meta, b"life", None);
            let commit = changes.into_iter().fold(commit, |commit, change| change(commit));
            let link = link.clone();
            running.spawn(async move { done(commit.make(&link).await?) });
        }
        while let Some(done) = running.join_next().await {
            join(Some(done))?;
        }
        Ok(())
    }

    /// What is denied and lives, in its order; then the end of all access tokens.
    async fn denials(&mut self) -> Result<(), MoveError> {
        let (now, mut after) = (self.to.clock.now(), 0);
        loop {
            let page = self.from.entries(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = last.position;
            self.deny(page.into_iter().filter(|(_, hold)| hold.kept_until > now).collect()).await?;
        }
        let (new, hold) = self.end_of_tokens()?;
        self.deny(vec![(new.at(0), hold)]).await
    }

    fn end_of_tokens(&self) -> Result<(NewEntry, Hold), MoveError> {
        let (now, about) = (self.to.clock.now(), self.from.about());
        let latest = now.max(about.stamped());
        let before = latest.plus(Duration::from_millis(1));
        // For as long as anything can live that was made under whichever configuration.
        let [access, session] = about.lives();
        let longest = |configured: Duration, (millis, _)| configured.max(Duration::from_millis(millis));
        let configured = self.to.options.retention;
        let retention =
            Retention { access: longest(configured.access, access), session: longest(configured.session, session) };
        let older = Older { tokens_until: access.1, sessions_until: session.1 };
        let (target, ends) = (Target::All, Ends::Tokens);
        let (feed_until, kept_until) = until(&target, ends, before, None, latest, retention, older);
        let new = NewEntry { target, ends, before, at: now, feed_until, kept_until, reason: Some(REASON.into()) };
        let entry = new.clone().at(0);
        let hold = Hold::of(&entry).merged(self.from.hold(&entry.target, ends)?);
        Ok((new, hold))
    }

    async fn deny(&mut self, page: Vec<(Entry, Hold)>) -> Result<(), MoveError> {
        let now = self.to.clock.now();
        let mut commit = self.commit();
        let mut changes = Changes::new();
        for (old, hold) in page {
            let entry = Entry { position: self.head.position + 1, ..old };
            let (before, says) = self.head.append(&entry);
            self.moved.entries += 1;
            commit = commit.xadd(self.hub("log"), entry.position, &written(&entry, says.then_some(before)));
            if is_kept_for_long(&entry) {
                commit = commit.xadd(self.hub("kept"), entry.position, &written(&entry, Some(before)));
            }
            if let Some(word) = entry.reason.as_deref().filter(|_| !stands_for_many(&entry)) {
                commit = commit.hset(self.hub("reasons"), &entry.position.to_be_bytes(), word.as_bytes());
            }
            if let Some(page) = sealed(&self.head.place()) {
                commit = commit.hset(self.hub("seals"), &page.to_be_bytes(), &self.head.digest.0);
            }
            let layout = &self.to.layout;
            // For those who ask Redis itself.
            let said = |key: Vec<u8>| change(move |commit| commit.set_until(key, b"1", hold.feed_until));
            let (bucket, change) = match &entry.target {
                Target::Client(_) | Target::Key(_) | Target::All => {
                    let hold = Hold { position: entry.position, ..hold };
                    let field = index_key(&entry.target, entry.ends);
                    commit = commit.hset(self.hub("denied"), &field, &encode(&hold));
                    continue;
                }
                Target::Subject(subject) => {
                    let Hold { before, feed_until, kept_until, .. } = hold;
                    let bucket = Bucket::of_subject(*subject);
                    let (key, field) = (layout.cuts(bucket), Cuts::field(*subject, entry.ends));
                    let row = Cut { before, feed_until, kept_until }.encode();
                    (bucket, change(move |commit| commit.hset(key, &field, &row)))
                }
                Target::Token(_) | Target::Session(_) if entry.feed_until <= now => continue,
                Target::Token(id) => (Bucket::of_token(*id), said(layout.denied_token(*id))),
                Target::Session(id) => (Bucket::of_session(*id), said(layout.denied_session(*id))),
            };
            changes.entry(bucket).or_default().push(change);
        }
        self.make(commit).await?;
        self.make_in(&self.to.link, changes).await
    }

    /// Sessions under their new ids, where each of the old ones leads, and the lists of their subjects.
    async fn sessions(&mut self, rename: &Rename<'_>, mut tell: impl FnMut(u64) + Send) -> Result<(), MoveError> {
        let mut arrivals = Arrivals::of(self.from, rename, self.to.clock.now());
        // What is stamped in every bucket comes after this, and replicas that have that have this, too.
        let link = self.to.link.unwaited();
        // Those of the subject that was the last one so far: the next page may go on with it.
        let (mut subject, mut listed) = (SubjectRef([0; 16]), Vec::new());
        while let Some(page) = arrivals.page()? {
            let mut changes = Changes::new();
            for group in page.chunk_by(|a, b| a.record.family.subject == b.record.family.subject) {
                let whose = group.first().map_or(subject, |arrival| arrival.record.family.subject);
                if mem::replace(&mut subject, whose) != whose {
                    listed.clear();
                }
                let (before, layout) = (listed.len(), self.to.layout.clone());
                listed.extend(
                    group.iter().map(|Arrival { record, open, .. }| Listed { id: record.family.id, open: *open }),
                );
                let all = listed.clone();
                let of_subject = changes.entry(Bucket::of_subject(whose)).or_default();
                of_subject.extend(group.iter().map(|arrival| arrival.record_in(&layout)));
                of_subject.push(change(move |commit| arrive(&layout, whose, &all, before, commit)));
            }
            for arrival in page.iter().filter(|arrival| arrival.was != arrival.record.family.id) {
                let bucket = Bucket::of_session(arrival.was);
                changes.entry(bucket).or_default().push(arrival.leads_there(&self.to.layout));
            }
            self.make_in(&link, changes).await?;
            self.moved.sessions += page.len() as u64;
            tell(self.moved.sessions);
        }
        self.moved.count_the_rest(self.from.amount()?.sessions, arrivals.over);
        Ok(())
    }

    /// The audit log, record by record as it is, so that its chain goes on; and what is to be told of this.
    async fn records(&mut self, by: &str) -> Result<(), MoveError> {
        let about = self.from.about();
        self.head.chain = about.chain;
        (self.head.latest, self.head.stamped) = (about.latest, about.stamped());
        (self.head.broken, self.head.alarm) = (about.broken, about.alarm);
        let (mut at, end) = (about.chain.first, about.chain.sequence + 1);
        while at < end {
            let (number, place) = place_of(at);
            let to = end.min((number + 1) * LIST + 1);
            let list = self.hub(&format!("audit:{number}"));
            // What was dropped before the first that is kept has its places there.
            let fills = if at == about.chain.first { place } else { 0 };
            let commit = (0..fills).fold(self.commit(), |commit, _| commit.push(list.clone(), b""));
            let rows = self.from.records(at, to)?;
            self.moved.records += rows.len() as u64;
            self.make(rows.iter().fold(commit, |commit, row| commit.push(list.clone(), row))).await?;
            at = to;
        }
        let sessions = self.moved.sessions;
        let revoked = told(&Target::All, Some(REASON));
        let accepted = format!("moved from an embedded store with {sessions} sessions, by {by}");
        let mut salts = Salts::new(&*self.to.random);
        for (event, cause) in [(Event::Revoked, revoked), (Event::StoreAccepted, accepted.into())] {
            self.tell(event, cause, &mut salts).await?;
        }
        Ok(())
    }

    /// As a start of the store tells what it has done before there is anyone to sign it.
    async fn tell(&mut self, event: Event, cause: Box<str>, salts: &mut Salts) -> Result<(), MoveError> {
        let Draft { actor, client, subject, origin } = Draft::default();
        let mut record = Record {
            sequence: self.head.chain.sequence + 1,
            at: self.to.clock.now(),
            event,
            outcome: AuditOutcome::Done,
            actor,
            client,
            subject,
            session: None,
            generation: None,
            origin,
            cause: Some(cause),
            subject_ref: None,
            link: Tie::default(),
        };
        let digest = tie(&mut record, self.head.chain.digest, salts.next());
        self.head.latest = self.head.latest.max(record.at);
        let (number, place) = place_of(record.sequence);
        let list = self.hub(&format!("audit:{number}"));
        // Where all that were before it have been dropped.
        let fills = if self.head.chain.kept() == 0 { place } else { 0 };
        (self.head.chain.sequence, self.head.chain.digest) = (record.sequence, digest);
        self.moved.records += 1;
        let commit = (0..fills).fold(self.commit(), |commit, _| commit.push(list.clone(), b""));
        let row = Row { latest: self.head.latest, record };
        self.make(commit.push(list, &encode(&row))).await
    }

    async fn assertions(&mut self) -> Result<(), MoveError> {
        let mut after = None;
        loop {
            let page = self.from.assertions(after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            self.moved.assertions += page.len() as u64;
            let commit = page.iter().fold(self.commit(), |commit, (id, until)| {
                let commit = commit.enter_with(self.hub("assertions"), id, until.millis());
                commit.count(self.hub("assertions_by"), &id[..8], 1)
            });
            self.make(commit).await?;
        }
    }

    /// In every bucket, the latest instant that was stamped: a cut-off that is made there must cover it.
    async fn buckets(&self) -> Result<(), MoveError> {
        let stamped = self.from.about().stamped();
        let all = Bucket::all().map(|bucket| {
            let meta = self.to.layout.meta(bucket);
            (bucket, vec![change(move |commit| commit.raise(meta, b"stamped", stamped.millis()))])
        });
        self.make_in(&self.to.link, all.collect()).await
    }

    /// What there is one of.
    async fn rest(&self, keys: &[u8]) -> Result<(), MoveError> {
        let (about, now) = (self.from.about(), self.to.clock.now());
        let meta = self.hub("meta");
        let mut commit = self.commit();
        if let Some(book) = &about.book {
            commit = commit.set(self.hub("book"), book);
        }
        if let Some(statement) = &about.statement {
            commit = commit.set(self.hub("statement"), statement);
        }
        for (name, at) in &about.cursors {
            commit = commit.hset(self.hub("cursors"), name.as_bytes(), &at.to_be_bytes());
        }
        let forgotten = about.assertions_forgotten_by;
        if forgotten > Timestamp::default() {
            commit = commit.raise(meta.clone(), b"assertions_forgotten_by", forgotten.millis());
        }
        let head = Head { commits: 1, ..self.head.clone() };
        commit = commit.set(self.hub("lives"), &carried(now, about.lives())).set(self.hub("keys"), keys);
        // Time served goes on where it was: retry windows are neither cut short nor opened again.
        let commit = commit.raise(meta.clone(), b"served", about.served().0);
        self.make(commit.raise(meta, b"stamped", about.stamped().millis()).set(self.hub("head"), &head.bytes())).await
    }

    /// The last step. Whichever node comes first takes over from servers that there never were.
    async fn open_the_door(&self) -> Result<(), MoveError> {
        let (about, now) = (self.from.about(), self.to.clock.now());
        let (incarnation, restored) = about.incarnation();
        let life = reign::Life {
            store: about.id(),
            also: Vec::new(),
            incarnation,
            seal: seal(&*self.to.random),
            restored,
            reign: Reign(0),
            whole: false,
            doubt: None,
            found: about.served(),
            dated: now,
            members: 0,
            waived: Vec::new(),
            lease: self.to.options.lease,
            since: now,
        };
        let commit = self.commit().value_is(self.hub("life"), None).set(self.hub("life"), &encode(&life));
        self.make(commit.set(self.hub("layout"), Edition::FIRST.text().as_bytes())).await
    }
}

impl Arrival {
    fn record_in(&self, layout: &Layout) -> Change {
        let Family { id, subject, .. } = self.record.family;
        let (key, row) = (layout.families(Bucket::of_subject(subject)), self.record.encode());
        change(move |commit| commit.field_is(key.clone(), id.as_bytes(), None).hset(key, id.as_bytes(), &row))
    }

    /// The id that it had leads there.
    fn leads_there(&self, layout: &Layout) -> Change {
        let (key, was) = (layout.moved(Bucket::of_session(self.was)), self.was);
        let row = Lead::row(&self.record.family);
        change(move |commit| commit.hset(key, was.as_bytes(), &row))
    }
}

impl Moved {
    /// Of all that were kept there.
    fn count_the_rest(&mut self, kept: u64, over: u64) {
        self.sessions_over = over;
        self.sessions_unreadable = kept.saturating_sub(self.sessions + over);
    }
}

/// What is written in a bucket.
type Change = Box<dyn FnOnce(Commit) -> Commit + Send>;
type Changes = BTreeMap<Bucket, Vec<Change>>;

fn change(say: impl FnOnce(Commit) -> Commit + Send + 'static) -> Change {
    Box::new(say)
}

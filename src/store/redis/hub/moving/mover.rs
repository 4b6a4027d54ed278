//! The move itself, step by step, while nobody else is there.

use std::{collections::BTreeMap, mem, time::Duration};

use tokio::task::JoinSet;

use super::{
    super::{
        log::{is_kept_for_long, sealed, stands_for_many, written},
        pen::{LIST, place_of},
    },
    AT_ONCE, Destination, MoveError, Moved, Rename,
    arrivals::{Arrival, Arrivals},
    done, join,
};
use crate::{
    model::{
        SubjectRef, Timestamp,
        audit::{Draft, Event, Link as Tie, Outcome as AuditOutcome, Record},
        chain::tie,
        denial::{Ends, Entry, Retention, Target},
        edition::Edition,
        reign::{self, Reign},
    },
    store::{
        embedded::{Hold, Leaving, NewEntry, Older, Row, Salts, encode, index_key, told, until},
        redis::{
            commit::Commit,
            hub::Head,
            index::{Listed, arrive},
            layout::Bucket,
            life::seal,
            link::Link,
            lives::carried,
            subjects::{Cut, Cuts},
        },
    },
};

/// Rows that are read and written together.
const PAGE: usize = 500;
/// What the cut-off says.
const REASON: &str = "the store was moved, and sessions have other ids there";

/// What is written in a bucket.
pub(super) type Change = Box<dyn FnOnce(Commit) -> Commit + Send>;
type Changes = BTreeMap<Bucket, Vec<Change>>;

pub(super) struct Mover<'a> {
    pub(super) to: &'a Destination,
    pub(super) from: &'a Leaving,
    /// What the layout says meanwhile.
    pub(super) held: String,
    pub(super) head: Head,
    pub(super) moved: Moved,
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
    pub(super) async fn denials(&mut self) -> Result<(), MoveError> {
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
    pub(super) async fn sessions(
        &mut self,
        rename: &Rename<'_>,
        mut tell: impl FnMut(u64) + Send,
    ) -> Result<(), MoveError> {
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
    pub(super) async fn records(&mut self, by: &str) -> Result<(), MoveError> {
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

    pub(super) async fn assertions(&mut self) -> Result<(), MoveError> {
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
    pub(super) async fn buckets(&self) -> Result<(), MoveError> {
        let stamped = self.from.about().stamped();
        let all = Bucket::all().map(|bucket| {
            let meta = self.to.layout.meta(bucket);
            (bucket, vec![change(move |commit| commit.raise(meta, b"stamped", stamped.millis()))])
        });
        self.make_in(&self.to.link, all.collect()).await
    }

    /// What there is one of.
    pub(super) async fn rest(&self, keys: &[u8]) -> Result<(), MoveError> {
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
    pub(super) async fn open_the_door(&self) -> Result<(), MoveError> {
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

pub(super) fn change(say: impl FnOnce(Commit) -> Commit + Send + 'static) -> Change {
    Box::new(say)
}

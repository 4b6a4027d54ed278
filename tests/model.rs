//! The family rule explored exhaustively: clients that lose answers and race themselves, thieves, crashes, failovers,
//! restored backups and revocations, in every order that a bounded world allows, with the product's own `judge` and
//! `Lineage::apply` inside. Beside what happened to the store, each state remembers what really happened; the
//! invariants compare the two.
//!
//! That the exploration can fail is shown by breaking the rule, one row at a time: it finds a counterexample each time.
//!
//! Time is counted in thirds of the retry window, and a message is under way for one third at most: the promise to a
//! client that races itself presumes that its requests and their answers arrive within the window. A state holds ages,
//! not instants, and what is older than the window is equally old: so time has no end here.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and says what it saw")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rescind::model::{
    Timestamp,
    family::{
        Closure, Doubt, Facts, Generation, Holder, Lifetimes, Lineage, Moment, Refusal, Secret, Served, Standing,
        Verdict, judge,
    },
};
use stateright::{Checker, Model, Property};

/// In thirds of itself.
const WINDOW: u8 = 3;
/// How long a message may be under way.
const TRANSIT: u8 = 1;
/// How many changes a failover loses at most.
const LOST: usize = 3;
/// Slots for what is remembered of each generation.
const SLOTS: usize = 6;
/// Time served, at every moment; stamps move away from it.
const SERVED: u64 = 1000;

const LIVES: Lifetimes = Lifetimes {
    access: Duration::from_secs(300),
    idle: Duration::from_secs(86_400),
    absolute: Duration::from_secs(864_000),
    retry_window: Duration::from_millis(WINDOW as u64),
};

/// The time of day stands still: expiry is in the table of cases.
const NOW: Timestamp = Timestamp::from_seconds(1_795_374_805);

type Judge = fn(&Facts<'_>) -> Verdict;
type Apply = fn(&mut Lineage, Verdict, Generation, Moment);
type Unanswered = fn(&mut Lineage);

/// The rule under test and the world that it is put into.
#[derive(Clone)]
struct World {
    /// Kept beside the states, not in them: they would be many more.
    seen: Option<Arc<AtomicU32>>,
    judge: Judge,
    apply: Apply,
    unanswered: Unanswered,
    /// The client authenticates; otherwise it is public.
    confidential: bool,
    thief: bool,
    revocation: bool,
    /// A rotation may be durable and yet be answered 503.
    half_failures: bool,
    failover: Option<Failover>,
    restore: bool,
    /// Clients stop refreshing at this generation.
    last: u8,
    /// How many requests, and how many answers, are under way at once.
    tabs: usize,
}

/// What is left when a master is lost with its last changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failover {
    /// Every node pushes again what it has seen before anything is answered.
    Journalled,
    /// A node is gone for good, and an operator has waived it.
    Waived,
}

fn apply(lineage: &mut Lineage, verdict: Verdict, presented: Generation, moment: Moment) {
    lineage.apply(verdict, presented, moment, &LIVES);
}

/// A third of a window passes for a family. A backup does not age: the time served comes back with it.
fn age(lineage: &mut Lineage) {
    for at in lineage.stamps.iter_mut().flat_map(|s| [&mut s.rotated, &mut s.given]) {
        if *at != Served::NOT_YET {
            at.0 = (at.0 - 1).max(SERVED - u64::from(WINDOW));
        }
    }
}

const CALM: World = World {
    seen: None,
    judge,
    apply,
    unanswered: Lineage::unanswered,
    confidential: false,
    thief: false,
    revocation: false,
    half_failures: false,
    failover: None,
    restore: false,
    last: 4,
    tabs: 2,
};

/// Something under way: a generation and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
struct Message {
    generation: u8,
    age: u8,
}

/// What really happened to the successor of a generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Truth {
    /// The generation was exchanged.
    spent: bool,
    /// How long ago the successor first left with a 2xx, by the rotation or later.
    first: Option<u8>,
    /// How long ago it last did.
    last: Option<u8>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    store: Lineage,
    /// What the store said before its last changes, the latest first.
    before: Vec<Lineage>,
    standing: Standing,
    incarnation: u32,
    restored: u32,
    cut_off: bool,
    /// What the nodes' journals hold.
    journal: Option<Lineage>,
    backup: Option<Lineage>,
    /// The newest generation in the client's token store, which all its tabs read.
    client: u8,
    requests: Vec<Message>,
    answers: Vec<Message>,
    thief: Option<u8>,
    truth: [Truth; SLOTS],
    /// A revocation that covers the family was acknowledged, and nobody has declared its loss.
    revoked: bool,
    /// Acknowledged changes have been lost, other than to the journals.
    lossy: bool,
    wrong: Wrong,
}

/// What a world must let come to pass, or it shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sight {
    Retry,
    LateDuplicate,
    ClosedReused,
    ClosedAheadOfBackup,
    Healed,
    RefusedRevoked,
    NotWhole,
    ThiefFirst,
    ThroughToTheEnd,
}

/// What must never come to pass.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Wrong {
    second_successor: bool,
    logged_out: bool,
    stuck: bool,
    reuse_missed: bool,
    after_revocation: bool,
    spent_alive: bool,
    reopened: bool,
    lost_future_alive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Tick,
    Send,
    Serve(usize),
    /// The change is durable, the answer is 503.
    ServeHalf(usize),
    Hear(usize),
    Steal,
    ThiefComes,
    Close,
    CutOff,
    Failover(usize),
    Push,
    Backup,
    RestoreKeeping,
    RestoreEnding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Thief,
}

impl World {
    fn moment(&self, s: &State) -> Moment {
        Moment { now: NOW, served: Served(SERVED), incarnation: s.incarnation, restored: s.restored }
    }

    /// One presentation. Gives the generation that is handed out.
    fn present(&self, s: &mut State, who: Who, generation: u8, answered: bool) -> Option<u8> {
        let moment = self.moment(s);
        let holder = if who == Who::Client && self.confidential { Holder::Proven } else { Holder::Named };
        let presented = Generation(generation.into());
        let verdict = (self.judge)(&Facts {
            tag: true,
            key: true,
            standing: s.standing,
            lineage: Some(&s.store),
            secret: Secret::Right,
            cut_off: s.cut_off,
            holder,
            generation: presented,
            moment,
            window: LIVES.retry_window,
        });
        let closed = s.store.closed.is_some();
        let head = s.store.head;
        let first_answer = s.store.stamps[0].rotated == Served::NOT_YET;
        self.note(s, who, generation, verdict);
        let before = s.store.clone();
        (self.apply)(&mut s.store, verdict, presented, moment);
        self.remember(s, before);
        s.wrong.reopened |= closed && s.store.closed.is_none() || s.store.head < head;
        let given = matches!(verdict, Verdict::Rotate | Verdict::Retry | Verdict::Heal);
        let successor = u8::try_from(s.store.head.0).unwrap();
        if given {
            s.wrong.second_successor |= successor != generation + 1;
            let truth = &mut s.truth[usize::from(generation).min(SLOTS - 1)];
            truth.spent = true;
            // A retry answered 503 has left its stamp all the same: it errs towards a late duplicate, which changes nothing.
            if answered || truth.first.is_some() {
                truth.first = truth.first.or(Some(0));
                truth.last = Some(0);
            }
            if !answered && (verdict != Verdict::Retry || first_answer) {
                (self.unanswered)(&mut s.store);
            }
        }
        if self.failover == Some(Failover::Journalled) && s.standing == Standing::Whole {
            s.journal = Some(s.store.clone());
        }
        (given && answered).then_some(successor)
    }

    /// Keeps what a failover may come back as. What it loses are rotations and closings: where no journal is left, and
    /// nothing but the stamp of a retry was lost, a late duplicate of a retry after the window may pass for reuse.
    fn remember(&self, s: &mut State, before: Lineage) {
        let lost = (before.head, before.closed) != (s.store.head, s.store.closed);
        if self.failover.is_some() && lost {
            s.before.insert(0, before);
            s.before.truncate(LOST);
        }
    }

    /// Compares a verdict with what really happened.
    fn note(&self, s: &mut State, who: Who, generation: u8, verdict: Verdict) {
        let truth = s.truth[usize::from(generation).min(SLOTS - 1)];
        let recent = |at: Option<u8>| at.is_none_or(|age| age < WINDOW);
        let proven = who == Who::Client && self.confidential;
        let given = matches!(verdict, Verdict::Rotate | Verdict::Retry | Verdict::Heal);
        s.wrong.after_revocation |= given && s.revoked;
        s.wrong.spent_alive |= truth.spent && !s.lossy && matches!(verdict, Verdict::Rotate | Verdict::Heal);
        // A spent token outside every window, by name alone: the family must be closed by it.
        let reuse = truth.spent && !proven && !recent(truth.first) && !recent(truth.last);
        s.wrong.reuse_missed |= reuse && !s.lossy && !self.ends(s, verdict);
        s.wrong.reuse_missed |= verdict == Verdict::Retry && !proven && !recent(truth.first) && !s.lossy;
        s.wrong.lost_future_alive |=
            given && s.restored == s.incarnation && s.restored > 0 && u32::from(generation) > s.store.head.0;
        if who == Who::Client && s.thief.is_none() && !s.revoked && s.restored == 0 {
            let promised = proven || !truth.spent || recent(truth.first);
            let refused = matches!(verdict, Verdict::Close(_) | Verdict::Refused(_));
            // Refused because of an earlier presentation that was not promised anything: that one was the logout.
            let first = s.store.closed.is_none();
            s.wrong.logged_out |= refused && promised && first;
        }
        s.wrong.stuck |= who == Who::Client && verdict == Verdict::Unavailable(Doubt::AheadOfStore);
        let sight = match verdict {
            Verdict::Retry => Some(Sight::Retry),
            Verdict::Unavailable(Doubt::LateDuplicate) => Some(Sight::LateDuplicate),
            Verdict::Unavailable(Doubt::StoreNotWhole) => Some(Sight::NotWhole),
            Verdict::Close(Closure::Reused) => Some(Sight::ClosedReused),
            Verdict::Close(Closure::AheadOfBackup) => Some(Sight::ClosedAheadOfBackup),
            Verdict::Heal => Some(Sight::Healed),
            Verdict::Refused(Refusal::Closed | Refusal::CutOff) if s.revoked => Some(Sight::RefusedRevoked),
            Verdict::Rotate if who == Who::Thief => Some(Sight::ThiefFirst),
            _ => None,
        };
        self.see(sight);
    }

    fn see(&self, sight: impl Into<Option<Sight>>) {
        if let (Some(seen), Some(sight)) = (&self.seen, sight.into()) {
            seen.fetch_or(1 << sight as u32, Ordering::Relaxed);
        }
    }

    /// Whether the verdict ends the family or is given by one that has ended; a store in doubt may wait.
    fn ends(&self, s: &State, verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Close(_) | Verdict::Refused(_)) || s.standing != Standing::Whole
    }

    fn tick(s: &mut State) {
        s.before.iter_mut().chain(&mut s.journal).chain([&mut s.store]).for_each(age);
        for truth in &mut s.truth {
            for at in truth.first.iter_mut().chain(&mut truth.last) {
                *at = WINDOW.min(*at + 1);
            }
        }
        for messages in [&mut s.requests, &mut s.answers] {
            messages.iter_mut().for_each(|m| m.age += 1);
            // Under way for too long: lost.
            messages.retain(|m| m.age <= TRANSIT);
        }
    }

    fn come_back(s: &mut State, store: Lineage) {
        s.store = store;
        s.before.clear();
        s.incarnation += 1;
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let moment = Moment { now: NOW, served: Served(SERVED), incarnation: 0, restored: 0 };
        let store = Lineage::open(moment, &LIVES);
        let journal = (self.failover == Some(Failover::Journalled)).then(|| store.clone());
        vec![State {
            store,
            before: Vec::new(),
            standing: Standing::Whole,
            incarnation: 0,
            restored: 0,
            cut_off: false,
            journal,
            backup: None,
            client: 0,
            requests: Vec::new(),
            answers: Vec::new(),
            thief: None,
            truth: [Truth::default(); SLOTS],
            revoked: false,
            lossy: false,
            wrong: Wrong::default(),
        }]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.wrong != Wrong::default() {
            // One counterexample is enough.
            return;
        }
        actions.push(Action::Tick);
        if s.client < self.last && s.requests.len() < self.tabs {
            actions.push(Action::Send);
        }
        for (n, request) in s.requests.iter().enumerate() {
            // Equal messages are interchangeable.
            if s.requests[..n].contains(request) {
                continue;
            }
            actions.push(Action::Serve(n));
            if self.half_failures {
                actions.push(Action::ServeHalf(n));
            }
        }
        for (n, answer) in s.answers.iter().enumerate() {
            if !s.answers[..n].contains(answer) {
                actions.push(Action::Hear(n));
            }
        }
        if self.thief && s.thief.is_none() {
            actions.push(Action::Steal);
        }
        if s.thief.is_some_and(|g| g < self.last) {
            actions.push(Action::ThiefComes);
        }
        if self.revocation && !s.revoked && s.standing == Standing::Whole {
            actions.extend([Action::Close, Action::CutOff]);
        }
        if self.failover.is_some() && s.incarnation == 0 {
            actions.extend((0..s.before.len()).map(Action::Failover));
        }
        if s.standing == Standing::NotWhole {
            actions.push(Action::Push);
        }
        if self.restore && s.backup.is_none() {
            actions.push(Action::Backup);
        }
        if s.backup.is_some() && s.restored == 0 {
            actions.extend([Action::RestoreKeeping, Action::RestoreEnding]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Tick => Self::tick(s),
            Action::Send => s.requests.push(Message { generation: s.client, age: 0 }),
            Action::Serve(n) => {
                let request = s.requests.remove(n);
                if let Some(generation) = self.present(s, Who::Client, request.generation, true)
                    && s.answers.len() < self.tabs
                {
                    s.answers.push(Message { generation, age: 0 });
                }
            }
            Action::ServeHalf(n) => {
                let request = s.requests.remove(n);
                self.present(s, Who::Client, request.generation, false);
            }
            Action::Hear(n) => {
                s.client = s.client.max(s.answers.remove(n).generation);
                self.see((s.client == self.last).then_some(Sight::ThroughToTheEnd));
            }
            Action::Steal => s.thief = Some(s.client),
            Action::ThiefComes => {
                let stolen = s.thief?;
                if let Some(generation) = self.present(s, Who::Thief, stolen, true) {
                    s.thief = Some(generation);
                }
            }
            Action::Close => {
                let before = s.store.clone();
                s.store.close(Closure::Revoked, self.moment(s));
                self.remember(s, before);
                s.revoked = true;
                if let Some(journal) = &mut s.journal {
                    *journal = s.store.clone();
                }
            }
            Action::CutOff => (s.cut_off, s.revoked) = (true, true),
            Action::Failover(n) => {
                let older = s.before[n].clone();
                Self::come_back(s, older);
                match self.failover? {
                    Failover::Journalled => s.standing = Standing::NotWhole,
                    Failover::Waived => s.lossy = true,
                }
            }
            Action::Push => {
                s.store = s.journal.clone()?;
                s.standing = Standing::Whole;
            }
            Action::Backup => s.backup = Some(s.store.clone()),
            Action::RestoreKeeping | Action::RestoreEnding => {
                let backup = s.backup.clone()?;
                Self::come_back(s, backup);
                (s.restored, s.lossy) = (s.incarnation, true);
                let ending = action == Action::RestoreEnding;
                // What an operator was told is lost with it, unless all sessions end.
                (s.cut_off, s.revoked) = (ending, ending);
            }
        }
        s.requests.sort_unstable();
        s.answers.sort_unstable();
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("a token has one successor", |_, s| !s.wrong.second_successor),
            Property::<Self>::always("no honest client is logged out", |_, s| !s.wrong.logged_out),
            Property::<Self>::always("no honest client is stuck", |_, s| !s.wrong.stuck),
            Property::<Self>::always("reuse closes the family", |_, s| !s.wrong.reuse_missed),
            Property::<Self>::always("no refresh after a revocation", |_, s| !s.wrong.after_revocation),
            Property::<Self>::always("nothing spent comes alive", |_, s| !s.wrong.spent_alive),
            Property::<Self>::always("nothing closed opens, no head moves back", |_, s| !s.wrong.reopened),
            Property::<Self>::always("no token of a lost future is honoured", |_, s| !s.wrong.lost_future_alive),
        ]
    }
}

/// Explores a world to its end: all invariants hold, all that makes it interesting happens.
fn explore(name: &str, world: World, at_least: usize, sights: &[Sight]) {
    let seen = Arc::new(AtomicU32::new(0));
    let world = World { seen: Some(seen.clone()), ..world };
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!("{name}: {} unique states, {} deep", checker.unique_state_count(), checker.max_depth());
    assert!(checker.is_done());
    checker.assert_properties();
    assert!(checker.unique_state_count() > at_least, "{name} is a small world");
    for sight in [Sight::Retry, Sight::LateDuplicate, Sight::ThroughToTheEnd].iter().chain(sights) {
        assert!(seen.load(Ordering::Relaxed) & 1 << *sight as u32 != 0, "{name}: {sight:?} never happens");
    }
}

/// Explores a world until the invariant is found broken.
fn refute(world: World, invariant: &'static str) {
    let broken = std::collections::BTreeSet::from([invariant]);
    let checker = world.checker().threads(2).finish_when(stateright::HasDiscoveries::AnyOf(broken)).spawn_bfs().join();
    let path = checker.discovery(invariant).unwrap_or_else(|| panic!("`{invariant}` holds even without that row"));
    println!("{invariant}: refuted by {:?}", path.into_actions());
}

// ---- the worlds

#[test]
fn a_public_client_within_the_window_is_never_logged_out() {
    explore("public", World { half_failures: true, ..CALM }, 10_000, &[Sight::ClosedReused]);
}

#[test]
fn a_confidential_client_is_never_logged_out() {
    explore("confidential", World { confidential: true, half_failures: true, ..CALM }, 10_000, &[]);
}

#[test]
fn a_thief_of_a_public_client_closes_the_family_or_stays_inside_every_window() {
    let world = World { thief: true, last: 3, ..CALM };
    explore("thief, public", world, 10_000, &[Sight::ThiefFirst, Sight::ClosedReused]);
}

#[test]
fn a_thief_of_a_confidential_client_closes_the_family() {
    let world = World { thief: true, confidential: true, last: 3, ..CALM };
    explore("thief, confidential", world, 10_000, &[Sight::ThiefFirst, Sight::ClosedReused]);
}

#[test]
fn nothing_is_refreshed_after_an_acknowledged_revocation() {
    let world = World { revocation: true, thief: true, last: 3, ..CALM };
    explore("revocation", world, 10_000, &[Sight::RefusedRevoked, Sight::ThiefFirst]);
}

#[test]
fn a_failover_with_journals_loses_nothing() {
    let world = World { failover: Some(Failover::Journalled), last: 3, ..CALM };
    explore("failover, journalled", world.clone(), 10_000, &[Sight::NotWhole]);
    let world = World { revocation: true, thief: true, tabs: 1, ..world };
    explore("failover, journalled, revocation", world, 10_000, &[Sight::NotWhole, Sight::RefusedRevoked]);
}

#[test]
fn a_failover_that_lost_rotations_logs_nobody_out() {
    let world = World { failover: Some(Failover::Waived), last: 3, ..CALM };
    explore("failover, waived", world.clone(), 10_000, &[Sight::Healed]);
    let world = World { confidential: true, ..world };
    explore("failover, waived, confidential", world, 10_000, &[Sight::Healed]);
}

#[test]
fn a_restored_backup_honours_nothing_that_it_does_not_know() {
    let world = World { restore: true, last: 2, ..CALM };
    explore("restore", world.clone(), 10_000, &[Sight::ClosedAheadOfBackup]);
    let world = World { revocation: true, tabs: 1, ..world };
    explore("restore, revocation", world, 10_000, &[Sight::ClosedAheadOfBackup, Sight::RefusedRevoked]);
}

// ---- the rule without one of its rows

/// The rule, but this verdict replaced by another.
fn but(facts: &Facts<'_>, change: fn(&Facts<'_>, Verdict) -> Verdict) -> Verdict {
    change(facts, judge(facts))
}

#[test]
fn model_refutes_a_rule_without_the_retry() {
    let judge: Judge = |f| but(f, |_, v| if v == Verdict::Retry { Verdict::Close(Closure::Reused) } else { v });
    refute(World { judge, ..CALM }, "no honest client is logged out");
    refute(World { judge, confidential: true, ..CALM }, "no honest client is logged out");
}

#[test]
fn model_refutes_a_rule_without_the_window() {
    let judge: Judge = |f| rescind::model::family::judge(&Facts { window: Duration::from_secs(1), ..*f });
    refute(World { judge, thief: true, ..CALM }, "reuse closes the family");
}

#[test]
fn model_refutes_a_rule_whose_retries_extend_the_window() {
    let apply: Apply = |lineage, verdict, presented, moment| {
        lineage.apply(verdict, presented, moment, &LIVES);
        if verdict == Verdict::Retry {
            lineage.stamps[0].rotated = moment.served;
        }
    };
    refute(World { apply, thief: true, ..CALM }, "reuse closes the family");
}

#[test]
fn model_refutes_a_rule_whose_retries_leave_no_stamp() {
    // A confidential client whose retry was answered races itself: the other tab's request is late, not reuse.
    let apply: Apply = |lineage, verdict, presented, moment| {
        let given = lineage.stamps[0].given;
        lineage.apply(verdict, presented, moment, &LIVES);
        if verdict == Verdict::Retry {
            lineage.stamps[0].given = given;
        }
    };
    refute(World { apply, confidential: true, ..CALM }, "no honest client is logged out");
}

#[test]
fn model_refutes_a_rule_without_late_duplicates() {
    let judge: Judge = |f| {
        but(f, |_, v| match v {
            Verdict::Unavailable(Doubt::LateDuplicate) => Verdict::Close(Closure::Reused),
            other => other,
        })
    };
    refute(World { judge, ..CALM }, "no honest client is logged out");
    refute(World { judge, confidential: true, ..CALM }, "no honest client is logged out");
}

#[test]
fn model_refutes_a_rule_that_answers_late_duplicates() {
    let judge: Judge =
        |f| but(f, |_, v| if v == Verdict::Unavailable(Doubt::LateDuplicate) { Verdict::Retry } else { v });
    refute(World { judge, ..CALM }, "a token has one successor");
}

#[test]
fn model_refutes_a_rule_without_reuse() {
    let judge: Judge = |f| {
        but(f, |_, v| match v {
            Verdict::Close(Closure::Reused) => Verdict::Unavailable(Doubt::LateDuplicate),
            other => other,
        })
    };
    refute(World { judge, thief: true, ..CALM }, "reuse closes the family");
}

#[test]
fn model_refutes_a_rule_that_rotates_what_is_spent() {
    let judge: Judge = |f| but(f, |_, v| if v == Verdict::Retry { Verdict::Rotate } else { v });
    refute(World { judge, ..CALM }, "nothing spent comes alive");
    refute(World { judge, ..CALM }, "a token has one successor");
}

#[test]
fn model_refutes_a_rule_for_which_public_clients_are_proven() {
    let judge: Judge = |f| rescind::model::family::judge(&Facts { holder: Holder::Proven, ..*f });
    refute(World { judge, thief: true, ..CALM }, "reuse closes the family");
}

#[test]
fn model_refutes_a_rule_for_which_nobody_is_proven() {
    let judge: Judge = |f| rescind::model::family::judge(&Facts { holder: Holder::Named, ..*f });
    refute(World { judge, confidential: true, ..CALM }, "no honest client is logged out");
}

#[test]
fn model_refutes_a_window_that_begins_with_a_rotation_answered_503() {
    let world = World { unanswered: |_| {}, half_failures: true, ..CALM };
    refute(world, "no honest client is logged out");
}

#[test]
fn model_refutes_a_rule_that_forgets_closings() {
    let judge: Judge = |f| {
        let open = f.lineage.map(|l| Lineage { closed: None, ..l.clone() });
        rescind::model::family::judge(&Facts { lineage: open.as_ref(), ..*f })
    };
    refute(World { judge, revocation: true, ..CALM }, "no refresh after a revocation");
}

#[test]
fn model_refutes_a_rule_that_ignores_cut_offs() {
    let judge: Judge = |f| rescind::model::family::judge(&Facts { cut_off: false, ..*f });
    refute(World { judge, revocation: true, ..CALM }, "no refresh after a revocation");
}

#[test]
fn model_refutes_a_rule_that_answers_before_the_store_is_whole() {
    let judge: Judge = |f| rescind::model::family::judge(&Facts { standing: Standing::Whole, ..*f });
    let world = World { judge, failover: Some(Failover::Journalled), ..CALM };
    refute(world, "nothing spent comes alive");
    let world = World { judge, failover: Some(Failover::Journalled), revocation: true, thief: true, ..CALM };
    refute(world, "no refresh after a revocation");
}

#[test]
fn model_refutes_a_rule_that_heals_nothing() {
    let judge: Judge =
        |f| but(f, |_, v| if v == Verdict::Heal { Verdict::Unavailable(Doubt::AheadOfStore) } else { v });
    refute(World { judge, failover: Some(Failover::Waived), ..CALM }, "no honest client is stuck");
}

#[test]
fn model_refutes_a_rule_that_heals_without_excusing_late_duplicates() {
    let apply: Apply = |lineage, verdict, presented, moment| {
        let stamps = lineage.stamps;
        lineage.apply(verdict, presented, moment, &LIVES);
        if verdict == Verdict::Heal {
            lineage.stamps[1..].copy_from_slice(&stamps[..3]);
        }
    };
    let world = World { apply, failover: Some(Failover::Waived), ..CALM };
    refute(world, "no honest client is logged out");
}

#[test]
fn model_refutes_a_rule_that_heals_a_restored_backup() {
    let judge: Judge = |f| rescind::model::family::judge(&Facts { moment: Moment { restored: 0, ..f.moment }, ..*f });
    refute(World { judge, restore: true, ..CALM }, "no token of a lost future is honoured");
}

/// Carries out a verdict, and takes its use for proof that the record is up to date.
fn apply_and_trust(lineage: &mut Lineage, verdict: Verdict, presented: Generation, moment: Moment) {
    lineage.apply(verdict, presented, moment, &LIVES);
    if matches!(verdict, Verdict::Rotate | Verdict::Retry | Verdict::Heal) {
        lineage.incarnation = moment.incarnation;
    }
}

#[test]
fn model_refutes_a_rule_that_heals_only_what_was_not_used_since() {
    // An older token comes first, from a tab that was late: the client's newest would wait for ever.
    let world = World { apply: apply_and_trust, failover: Some(Failover::Waived), ..CALM };
    refute(world, "no honest client is stuck");
}

#[test]
fn model_refutes_a_rule_that_forgets_a_restore_once_the_family_is_used() {
    refute(World { apply: apply_and_trust, restore: true, ..CALM }, "no honest client is stuck");
}

//! The family rule, held to its table of cases (`tests/rule/cases.json`): the pure function by the facts of each case,
//! the embedded store by the steps that bring a family there. A case without steps tells of what no store here can be
//! brought into.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/store/mod.rs"]
mod common;
#[path = "rule/mod.rs"]
mod rule;
#[path = "common/redis/mod.rs"]
mod servers;

use std::sync::Arc;

use proptest::prelude::*;
use rescind::{
    clock::{Clock, ManualClock},
    model::{
        denial::{Ends, Target},
        family::{Generation, Holder, Lifetimes, Lineage, Moment, Refusal, STAMPS, Secret, Served, Standing, Verdict},
    },
    store::{
        Family, Presentation, Store,
        embedded::Acceptance,
        redis::{Options, RedisStore},
    },
};

use self::{
    common::{
        Bed, LEASE, LIVES, RETENTION, START, Seeded, app, client, denial, millis, open, secs, session, showing, subject,
    },
    rule::{Case, Step, cases, closure_of, holder_of, verdict_of},
    servers::Server,
};

fn lives(case: &Case) -> Lifetimes {
    Lifetimes { retry_window: millis(case.window), ..LIVES }
}

#[test]
fn every_row_of_the_table_has_cases() {
    let rows = [
        "forged",
        "not_ready",
        "unknown",
        "ended",
        "leaked",
        "rotated",
        "retried",
        "late_duplicate",
        "reused",
        "healed",
        "ahead_of_backup",
        "ahead_of_store",
    ];
    for row in rows {
        assert!(cases().iter().filter(|c| c.row == row).count() >= 3, "{row}");
    }
    assert!(cases().iter().all(|c| rows.contains(&&*c.row)));
}

#[test]
fn the_rule_agrees_with_the_table() {
    for case in cases() {
        let expected = verdict_of(&case.verdict);
        assert_eq!(case.judge(), expected, "{}: {}", case.row, case.name);
        if let Some(before) = case.lineage() {
            let mut after = before.clone();
            after.apply(expected, case.generation(), case.moment(), &lives(&case));
            check_change(&case.name, expected, &before, &after, case.generation(), case.moment());
        }
    }
}

/// What a verdict does to a family, and what it leaves alone.
fn check_change(name: &str, v: Verdict, before: &Lineage, after: &Lineage, presented: Generation, moment: Moment) {
    match v {
        Verdict::Refused(_) | Verdict::Unavailable(_) => assert_eq!(before, after, "{name}"),
        Verdict::Close(cause) => {
            assert_eq!(after.closed.map(|c| c.cause), Some(cause), "{name}");
            assert_eq!(after.head, before.head, "{name}");
        }
        Verdict::Rotate | Verdict::Heal => {
            let spent = if v == Verdict::Heal { presented } else { before.head };
            assert_eq!(after.head, spent.next().unwrap(), "{name}");
            assert_eq!(after.stamps[0].rotated, moment.served, "{name}");
            assert_eq!(after.stamps[0].given, moment.served, "{name}");
        }
        Verdict::Retry => {
            assert_eq!(after.head, before.head, "{name}");
            assert_eq!(after.stamps[0].given, moment.served, "{name}");
            // A retry does not extend the window.
            let kept = before.stamps[0].rotated;
            let begins = if kept == Served::NOT_YET { moment.served } else { kept };
            assert_eq!(after.stamps[0].rotated, begins, "{name}");
        }
    }
    assert!(v == Verdict::Heal || after.head.0 - before.head.0 <= 1, "{name}");
}

#[tokio::test]
async fn the_embedded_store_agrees_with_the_table() {
    let mut driven = 0;
    for case in cases().into_iter().filter(|c| c.steps.is_some()) {
        drive(&case).await;
        driven += 1;
    }
    println!("{driven} of {} cases driven through the embedded store", cases().len());
    assert!(driven >= 70);
}

async fn drive(case: &Case) {
    let mut bed = Bed::new();
    let mut family = Family { id: session(START, 9), ..open(bed.store(), subject(2)).await };
    if case.open == "first" {
        family = open(bed.store(), subject(1)).await;
    }
    let mut backup = None;
    for step in case.steps.as_deref().unwrap() {
        take(&mut bed, case, &family, step, &mut backup).await;
    }
    if case.open == "after" {
        family = open(bed.store(), subject(1)).await;
    }
    check_arrival(bed.store(), case, &family).await;
    check_verdict(bed.store(), case, &family).await;
}

async fn check_verdict<S: Store>(store: &S, case: &Case, family: &Family) {
    // None as well where the store is in doubt and tells nothing.
    let before = store.find(family.id).await.ok().flatten();
    let moment = store.moment();
    // As an exchange does, which looks before it can tell whether the secret is right.
    let sight = store.sight(family.id, case.generation(), app()).await.ok().flatten().and_then(|(_, sight)| sight);
    let asked = Presentation {
        sight,
        secret: case.secret(),
        holder: holder_of(&case.holder),
        lives: lives(case),
        ..showing(family, case.generation().0)
    };
    let presented = store.present(asked).await.unwrap();
    let expected = verdict_of(&case.verdict);
    // An ended family may have been swept by now, and is then unknown.
    let swept = presented.verdict == Verdict::Refused(Refusal::Unknown);
    if swept && matches!(expected, Verdict::Refused(Refusal::Idle | Refusal::Expired)) {
        return;
    }
    assert_eq!(presented.verdict, expected, "{}: {}", case.row, case.name);
    let after = store.find(family.id).await.ok().flatten();
    if let (Some(before), Some(after)) = (before, after) {
        check_change(&case.name, expected, &before.lineage, &after.lineage, case.generation(), moment);
    }
}

/// Cases that need no backup, wipe or word of an operator: what those do to it is tested with real servers that lose what
/// they had.
#[tokio::test(flavor = "multi_thread")]
async fn the_redis_store_agrees_with_the_table() {
    let (server, clock) = (Server::start(&[]), Arc::new(ManualClock::new(START)));
    let options = Options { skew: millis(0), margin: millis(0), lease: LEASE, ..Options::new(RETENTION) };
    let store = RedisStore::open(&server.url().parse().unwrap(), options, clock.clone(), Arc::new(Seeded::new(7)))
        .await
        .unwrap();
    let is_common = |step: &Step| !matches!(step, Step::Backup | Step::Wipe | Step::Restore(_));
    let mut driven = 0;
    for case in cases().into_iter().filter(|c| c.steps.as_ref().is_some_and(|steps| steps.iter().all(is_common))) {
        drive_on_redis(&store, &clock, &case).await;
        // What is opened later is not cut off by what was before.
        clock.advance(secs(60));
        driven += 1;
    }
    println!("{driven} of {} cases driven through Redis", cases().len());
    assert!(driven >= 55);
}

async fn drive_on_redis(store: &RedisStore, clock: &ManualClock, case: &Case) {
    let mut family = Family { id: session(clock.now(), 9), ..open(store, subject(2)).await };
    if case.open == "first" {
        family = open(store, subject(1)).await;
    }
    for step in case.steps.as_deref().unwrap() {
        take_common(store, clock, case, &family, step).await;
    }
    if case.open == "after" {
        family = open(store, subject(1)).await;
    }
    check_arrival(store, case, &family).await;
    check_verdict(store, case, &family).await;
}

async fn take(bed: &mut Bed, case: &Case, family: &Family, step: &Step, backup: &mut Option<Vec<u8>>) {
    match step {
        Step::Backup => *backup = Some(bed.backup()),
        Step::Wipe => bed.put_back(Vec::new(), Acceptance::Wait),
        Step::Restore(word) => {
            let acceptance = match &**word {
                "wait" => Acceptance::Wait,
                "end_sessions" => Acceptance::EndSessions,
                "dangerously_keep" => Acceptance::DangerouslyKeepSessions,
                other => panic!("{other}"),
            };
            match backup.take() {
                Some(copy) => bed.put_back(copy, acceptance),
                None => bed.reopen_accepting(acceptance),
            }
        }
        other => take_common(bed.store(), &bed.clock, case, family, other).await,
    }
}

/// What may be done to any store.
async fn take_common<S: Store>(store: &S, clock: &ManualClock, case: &Case, family: &Family, step: &Step) {
    match step {
        Step::Wait(ms) => clock.advance(millis(*ms)),
        Step::Present(generation, holder) => {
            let asked = Presentation { holder: holder_of(holder), lives: lives(case), ..showing(family, *generation) };
            let verdict = store.present(asked).await.unwrap().verdict;
            assert!(matches!(verdict, Verdict::Rotate | Verdict::Retry), "{}: {verdict:?}", case.name);
        }
        Step::Close(cause) => {
            let closed = store.close(family.id, closure_of(cause), None, Default::default()).await.unwrap();
            assert!(closed.was_open);
        }
        Step::CutOff(whom) => {
            let (target, ends) = match &**whom {
                "subject" => (Target::Subject(family.subject), Ends::Sessions),
                "client" => (Target::Client(app()), Ends::Sessions),
                "all" => (Target::All, Ends::Sessions),
                "other_subject" => (Target::Subject(subject(2)), Ends::Sessions),
                "other_client" => (Target::Client(client("other")), Ends::Sessions),
                "tokens_of_subject" => (Target::Subject(family.subject), Ends::Tokens),
                other => panic!("{other}"),
            };
            store.deny(denial(target, ends)).await.unwrap().unwrap();
        }
        Step::Open(of) => drop(open(store, subject(*of)).await),
        Step::Backup | Step::Wipe | Step::Restore(_) => panic!("{}: not every store is brought there so", case.name),
    }
}

/// The steps lead to where the facts say that the family is.
async fn check_arrival<S: Store>(store: &S, case: &Case, family: &Family) {
    let moment = store.moment();
    assert_eq!(store.standing(), case.moment_and_standing().1, "{}", case.name);
    if store.standing() != Standing::Whole {
        return assert!(store.find(family.id).await.is_err(), "a store in doubt tells nothing: {}", case.name);
    }
    let found = store.find(family.id).await.unwrap();
    assert_eq!((moment.incarnation, moment.restored), (case.incarnation, case.restored), "{}", case.name);
    let Some(expected) = case.lineage() else { return assert_eq!(found, None, "{}", case.name) };
    // Swept: it had ended, as the case says.
    let Some(found) = found.map(|f| f.lineage) else {
        return assert!(expected.ended(case.moment().now, false).is_some(), "{}", case.name);
    };
    assert_eq!(found.head, expected.head, "{}", case.name);
    assert_eq!(found.closed.map(|c| c.cause), expected.closed.map(|c| c.cause), "{}", case.name);
    let ages = |l: &Lineage, m: Moment| l.stamps.map(|s| (m.served.since(s.rotated), m.served.since(s.given)));
    let (found, expected) = (ages(&found, moment), ages(&expected, case.moment()));
    let told = case.rotated.as_ref().map_or(0, Vec::len).min(STAMPS);
    assert_eq!(found[..told], expected[..told], "{}", case.name);
}

// ---- properties

#[derive(Clone, Debug)]
struct Event {
    wait: u64,
    back: u32,
    ahead: u32,
    secret: Secret,
    holder: Holder,
    standing: Standing,
    cut_off: bool,
    failover: bool,
    restore: bool,
    unanswered: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let holder = prop_oneof![
        6 => Just(Holder::Named), 6 => Just(Holder::Proven), 1 => Just(Holder::OtherClient), 1 => Just(Holder::OtherKey)
    ];
    let secret = prop_oneof![12 => Just(Secret::Right), 1 => Just(Secret::Wrong), 1 => Just(Secret::Unchecked)];
    let standing = prop_oneof![12 => Just(Standing::Whole), 1 => Just(Standing::NotWhole), 1 => Just(Standing::Wiped)];
    let wait = prop_oneof![Just(0), Just(1), Just(29_999), Just(30_000), 0..100_000_u64];
    let rare = || prop::bool::weighted(0.04);
    let place = prop_oneof![4 => Just((0, 0)), 4 => Just((1, 0)), 2 => (2..9_u32).prop_map(|b| (b, 0)), 1 => (1..5_u32).prop_map(|a| (0, a))];
    let event = (wait, place, secret, holder, standing, (rare(), rare(), rare(), rare())).prop_map(
        |(wait, (back, ahead), secret, holder, standing, (cut_off, failover, restore, unanswered))| Event {
            wait,
            back,
            ahead,
            secret,
            holder,
            standing,
            cut_off,
            failover,
            restore,
            unanswered,
        },
    );
    prop::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_moves_a_head_back_or_opens_what_is_closed(events in events()) {
        let mut moment = Moment { now: START, served: Served(1000), incarnation: 0, restored: 0 };
        let mut lineage = Lineage::open(moment, &LIVES);
        for e in events {
            moment.now = moment.now.plus(millis(e.wait));
            moment.served.0 += e.wait;
            moment.incarnation += u32::from(e.failover || e.restore);
            if e.restore {
                moment.restored = moment.incarnation;
            }
            let presented = Generation((lineage.head.0 + e.ahead).saturating_sub(e.back));
            let verdict = rescind::model::family::judge(&rescind::model::family::Facts {
                tag: true, key: true, standing: e.standing, lineage: Some(&lineage), secret: e.secret,
                cut_off: e.cut_off, holder: e.holder, generation: presented, moment, window: LIVES.retry_window,
            });
            let before = lineage.clone();
            lineage.apply(verdict, presented, moment, &LIVES);
            check_change("history", verdict, &before, &lineage, presented, moment);
            prop_assert!(lineage.head >= before.head);
            prop_assert!(before.closed.is_none() || lineage.closed == before.closed);
            prop_assert!(e.secret == Secret::Right || lineage == before, "only a right secret changes anything");
            prop_assert!(before.closed.is_none() || matches!(verdict, Verdict::Refused(_) | Verdict::Unavailable(_)));
            prop_assert!(lineage.idle_until <= lineage.absolute_until && lineage.access_until <= lineage.absolute_until);
            prop_assert_eq!(lineage.absolute_until, before.absolute_until);
            prop_assert!(lineage.access_until >= before.access_until);
            prop_assert!(!matches!(verdict, Verdict::Heal) || moment.incarnation > before.incarnation);
            let stamps = lineage.stamps;
            prop_assert!(stamps.windows(2).all(|s| s[0].given >= s[1].given), "newest first: {stamps:?}");
            if e.unanswered && verdict == Verdict::Rotate {
                lineage.unanswered();
            }
            prop_assert!(postcard::to_stdvec(&lineage).unwrap().len() <= LARGEST);
        }
    }

    #[test]
    fn a_closing_is_final_and_keeps_its_first_cause(first in 0..6_usize, second in 0..6_usize) {
        let causes = ["logged_out", "revoked", "reused", "other_client", "other_key", "ahead_of_backup"];
        let moment = Moment { now: START, served: Served(0), incarnation: 0, restored: 0 };
        let mut lineage = Lineage::open(moment, &LIVES);
        prop_assert!(lineage.close(closure_of(causes[first]), moment));
        let closed = lineage.clone();
        let later = Moment { now: START.plus(millis(5)), ..moment };
        prop_assert!(!lineage.close(closure_of(causes[second]), later));
        prop_assert_eq!(lineage, closed);
    }
}

/// Bytes of the largest lineage that can be written: all numbers at their greatest.
const LARGEST: usize = 5 + STAMPS * 2 * 10 + (1 + 1 + 10) + 4 * 10 + 5;

/// G8: storage per family is constant, whatever the number of rotations.
#[test]
fn a_million_rotations_take_no_more_room_than_one() {
    let mut moment = Moment { now: START, served: Served(1 << 60), incarnation: 0, restored: 0 };
    let mut lineage = Lineage::open(moment, &Lifetimes { absolute: common::secs(u64::MAX / 2000), ..LIVES });
    lineage.head = Generation(1 << 28);
    let size = |l: &Lineage| postcard::to_stdvec(l).unwrap().len();
    for _ in 0..STAMPS {
        lineage.apply(Verdict::Rotate, lineage.head, moment, &LIVES);
    }
    let one = size(&lineage);
    for _ in 0..1_000_000 {
        moment.served.0 += 17;
        moment.now = moment.now.plus(millis(17));
        lineage.apply(Verdict::Rotate, lineage.head, moment, &LIVES);
    }
    assert_eq!(size(&lineage), one);
    assert!(one <= LARGEST);
}

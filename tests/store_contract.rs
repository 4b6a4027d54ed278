//! What every store promises, as one suite that is run on each of them. What is peculiar to the embedded store (files,
//! witness, time served) is in `embedded_store.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/store/mod.rs"]
mod common;
#[path = "common/redis/mod.rs"]
mod servers;

use std::{sync::Arc, time::Duration};

use rescind::{
    clock::{Clock, ManualClock},
    model::{
        SessionId, Timestamp, TokenId,
        audit::{Draft, Event, Origin, Outcome, Record},
        denial::{Bearer, Ends, LEEWAY_AND_MARGIN, SINGLES_PER_SUBJECT, Target},
        family::{Closure, Holder, Refusal, Verdict},
        feed::{Digest, Epoch, Item, Mark, PAGE},
        session::{OnFull, SessionCap},
    },
    store::{
        Amended, AuditQuery, AuditStore, Denial, DenyStore, EvidenceStore, FamilyStore, Opened, Opening, Presentation,
        Store,
        embedded::{EmbeddedStore, Options},
        redis::{self, RedisStore},
    },
};

use self::{
    common::{
        LEASE, LIVES, RETENTION, START, Seeded, app, bearer, client, denial, head, kid, millis, open, opening, secs,
        session, show, showing, subject, verdict,
    },
    servers::Server,
};

/// Where a store of this kind is put up for a test.
trait Place {
    type Kind: Store;
    async fn set_up(audit_cap: u64) -> Self;
    fn store(&self) -> Arc<Self::Kind>;
    fn clock(&self) -> &ManualClock;
    /// What has expired goes by itself; here it need not be waited for.
    async fn sweep(&self) {}
}

struct InMemory(Arc<EmbeddedStore>, Arc<ManualClock>);

impl Place for InMemory {
    type Kind = EmbeddedStore;
    async fn set_up(audit_cap: u64) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let options = Options { audit_cap, ..Options::new(RETENTION) };
        let store = EmbeddedStore::in_memory(options, clock.clone(), &Seeded::new(1)).unwrap();
        Self(Arc::new(store), clock)
    }
    fn store(&self) -> Arc<EmbeddedStore> {
        self.0.clone()
    }
    fn clock(&self) -> &ManualClock {
        &self.1
    }
}

struct OnFile(Arc<EmbeddedStore>, Arc<ManualClock>, #[expect(dead_code, reason = "lives as long")] tempfile::TempDir);

impl Place for OnFile {
    type Kind = EmbeddedStore;
    async fn set_up(audit_cap: u64) -> Self {
        let (clock, place) = (Arc::new(ManualClock::new(START)), tempfile::tempdir().unwrap());
        let witness = Some(place.path().join("witness"));
        let options = Options { audit_cap, witness, ..Options::new(RETENTION) };
        let path = place.path().join("store.redb");
        let store = EmbeddedStore::open(&path, options, clock.clone(), &Seeded::new(2)).unwrap();
        Self(Arc::new(store), clock, place)
    }
    fn store(&self) -> Arc<EmbeddedStore> {
        self.0.clone()
    }
    fn clock(&self) -> &ManualClock {
        &self.1
    }
}

/// A node on a server of its own.
struct OnRedis(Arc<RedisStore>, Arc<ManualClock>, #[expect(dead_code, reason = "lives as long")] Server);

impl Place for OnRedis {
    type Kind = RedisStore;
    async fn set_up(audit_cap: u64) -> Self {
        let (server, clock) = (Server::start(&[]), Arc::new(ManualClock::new(START)));
        // The clock of these tests is not the server's, and no other node stamps anything.
        let options = redis::Options {
            audit_cap,
            skew: Duration::ZERO,
            margin: Duration::ZERO,
            // Thousands at once, as the embedded store queues them.
            in_flight: 8192,
            lease: LEASE * 2,
            deadline: secs(30),
            ..redis::Options::new(RETENTION)
        };
        let store = RedisStore::open(&server.url().parse().unwrap(), options, clock.clone(), Arc::new(Seeded::new(3)))
            .await
            .unwrap();
        Self(Arc::new(store), clock, server)
    }
    fn store(&self) -> Arc<RedisStore> {
        self.0.clone()
    }
    fn clock(&self) -> &ManualClock {
        &self.1
    }
    async fn sweep(&self) {
        for n in 0..10 {
            self.0.sweep_of(subject(n)).await.unwrap();
        }
    }
}

macro_rules! contract {
    ($($place:ident as $module:ident),* ; $tests:tt) => { $(contract!(@ $place $module $tests);)* };
    (@ $place:ident $module:ident { $($test:ident),* $(,)? }) => {
        mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $test() {
                super::$test($place::set_up(1_000_000).await).await;
            })*
            #[tokio::test]
            async fn a_full_audit_log_drops_its_oldest_and_goes_on() {
                super::a_full_audit_log_drops_its_oldest_and_goes_on($place::set_up(10).await).await;
            }
        }
    };
}

contract! { InMemory as in_memory, OnFile as on_file, OnRedis as on_redis; {
    a_family_opens_and_is_found,
    a_taken_name_is_never_overwritten,
    reuse_closes_the_family_and_denies_its_tokens_in_one_step,
    the_entry_of_a_closed_session_outlives_its_last_token,
    closing_twice_is_fine_and_keeps_the_first_cause,
    closing_an_unknown_session_denies_it_all_the_same,
    closing_an_ended_session_says_so,
    amending_replaces_what_was_seen_and_nothing_else,
    every_kind_of_target_is_denied,
    a_denied_token_is_one_token,
    a_cut_off_hits_all_before_its_acknowledgement_and_nothing_after,
    a_cut_off_holds_when_the_clock_is_put_back,
    a_cut_off_of_tokens_lets_sessions_go_on,
    a_cut_off_of_one_spares_the_others,
    a_cut_off_in_the_past_hits_what_was_stamped_before_it,
    a_cut_off_in_the_past_reaches_the_tokens_minted_since_for_old_sessions,
    a_cut_off_in_the_future_is_refused,
    a_weaker_cut_off_never_weakens,
    denying_again_gives_the_entry_that_is_there,
    positions_rise_and_pages_join,
    an_unknown_expiry_after_the_clock_was_put_back_covers_tokens_from_before,
    entries_leave_when_no_verifier_can_need_them,
    cut_offs_of_sessions_are_kept_for_the_longest_session,
    a_denied_key_stays_denied,
    a_tail_goes_on_where_it_is_asked_to,
    a_mark_of_another_log_is_answered_from_the_last_page,
    a_short_tail_says_so_and_joins_the_next,
    pages_and_tail_join_and_hold_all_that_is_alive,
    what_has_expired_leaves_the_feed_and_its_pages,
    an_entry_for_ever_pins_no_page_but_its_own,
    the_feed_forgets_a_cut_off_of_sessions_before_the_issuer_does,
    a_follower_at_the_head_keeps_its_place_when_all_expires,
    a_clock_that_leaps_takes_nothing_out_of_the_feed,
    the_end_of_a_page_is_known_while_something_on_it_lives,
    whoever_waits_is_told_of_the_next_entry,
    an_expired_family_is_swept_with_its_index,
    use_postpones_the_sweeping,
    a_closed_family_is_kept_to_its_absolute_end,
    a_subjects_families_come_in_the_order_of_their_opening,
    a_clients_own_token_is_stamped_later_than_any_cut_off,
    every_change_leaves_one_audit_record,
    refusals_are_noted_once_a_minute,
    the_audit_log_is_read_by_page_subject_session_and_time,
    records_written_after_the_clock_was_put_back_are_found,
    rotations_leave_one_record_behind,
    a_race_has_one_rotation_and_one_successor,
    a_race_with_a_closing_is_won_by_the_closing,
    a_race_with_a_cut_off_is_won_by_the_cut_off,
    openings_racing_a_cut_off_are_before_it_or_after_it,
    a_full_subject_opens_no_more_until_one_ends,
    the_oldest_session_makes_way_and_its_tokens_are_denied,
    a_race_of_openings_never_exceeds_the_cap,
    many_revocations_of_a_subject_become_one_cut_off_of_its_tokens,
    tokens_that_are_handed_back_by_the_hundred_become_one_cut_off,
    a_follower_hears_of_every_cut_off_that_stands_for_many,
} }

async fn deny<S: Store>(store: &S, target: Target, ends: Ends) -> rescind::model::denial::Entry {
    store.deny(denial(target, ends)).await.unwrap().unwrap()
}

/// Lets the store look at what is due: any step does.
async fn nudge(p: &impl Place) {
    for _ in 0..2 {
        p.store().record(Event::KeyRotated, Outcome::Done, None, Draft::default()).await.unwrap();
    }
    p.sweep().await;
}

async fn live<S: Store>(store: &S) -> Vec<rescind::model::denial::Entry> {
    store.entries(0, 1000).await.unwrap().entries
}

// ---- families

async fn a_family_opens_and_is_found(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    assert_eq!(family.id.stamp(), START);
    assert_eq!(family.lineage.absolute_until, START.plus(LIVES.absolute));
    assert_eq!(family.lineage.access_until, START.plus(LIVES.access));
    assert_eq!(store.find(family.id).await.unwrap().as_ref(), Some(&family));
    assert_eq!(store.find(session(START, 9)).await.unwrap(), None);
}

async fn a_taken_name_is_never_overwritten(p: impl Place) {
    let store = p.store();
    let first = store.open(Opening { random: [7; 10], ..opening(subject(1)) }).await.unwrap();
    let first = first.family().unwrap();
    show(&*store, &first, 0).await;
    // Where the name says where it lies, another subject that lies there.
    let mut neighbour = subject(2);
    neighbour.0[14..].copy_from_slice(&subject(1).0[14..]);
    assert!(store.open(Opening { random: [7; 10], ..opening(neighbour) }).await.is_err());
    let kept = store.find(first.id).await.unwrap().unwrap();
    assert_eq!((kept.subject, kept.lineage.head.0), (subject(1), 1));
    assert_eq!(store.of_subject(neighbour, None, 10).await.unwrap(), []);
}

async fn reuse_closes_the_family_and_denies_its_tokens_in_one_step(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let minted = show(&*store, &family, 0).await.at;
    p.clock().advance(secs(30));
    assert!(!store.denied(bearer(&family, minted)).await.unwrap());
    let reused = show(&*store, &family, 0).await;
    assert_eq!(reused.verdict, Verdict::Close(Closure::Reused));
    assert_eq!(reused.family.unwrap().lineage.closed.unwrap().cause, Closure::Reused);
    assert!(store.denied(bearer(&family, minted)).await.unwrap());
    assert_eq!(live(&*store).await.last().unwrap().target, Target::Session(family.id));
    assert_eq!(verdict(&*store, &family, 1).await, Verdict::Refused(Refusal::Closed));
}

async fn the_entry_of_a_closed_session_outlives_its_last_token(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    p.clock().advance(secs(100));
    let last = show(&*store, &family, 0).await;
    let closed = store.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    let entry = closed.entry.unwrap();
    assert!(closed.was_open);
    // `exp` of the last token, the leeway that a verifier may allow, a margin; and not longer (G8).
    assert_eq!(entry.feed_until, last.at.plus(LIVES.access).plus(LEEWAY_AND_MARGIN));
    assert_eq!(entry.kept_until, entry.feed_until);
}

async fn closing_twice_is_fine_and_keeps_the_first_cause(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let first = store.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    p.clock().advance(secs(1));
    let second = store.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    assert!(first.was_open && !second.was_open);
    assert_eq!(first.entry, second.entry);
    let kept = store.find(family.id).await.unwrap().unwrap();
    assert_eq!(kept.lineage.closed.unwrap().cause, Closure::LoggedOut);
    assert_eq!(live(&*store).await.len(), 1);
    let revoked = records(&*store, AuditQuery::default()).await;
    assert_eq!(revoked.iter().filter(|r| r.event == Event::Revoked).count(), 1);
}

async fn closing_an_unknown_session_denies_it_all_the_same(p: impl Place) {
    let store = p.store();
    let unknown = session(START, 3);
    let closed = store.close(unknown, Closure::Revoked, None, Draft::default()).await.unwrap();
    assert!(!closed.was_open);
    let until = START.plus(RETENTION.access).plus(LEEWAY_AND_MARGIN);
    assert_eq!(closed.entry.unwrap().feed_until, until);
    let stranger = Bearer { session: Some(unknown), ..bearer(&open(&*store, subject(1)).await, START) };
    assert!(store.denied(stranger).await.unwrap());
}

async fn closing_an_ended_session_says_so(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    store.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    p.clock().advance(secs(366));
    let again = store.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    // No token of it can be alive.
    assert_eq!((again.was_open, again.entry), (false, None));
}

async fn amending_replaces_what_was_seen_and_nothing_else(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let amend = async |id: SessionId, seen: &[u8], new: &[u8]| {
        store.amend(id, seen.to_vec(), new.to_vec(), Draft::default()).await.unwrap()
    };
    assert_eq!(amend(family.id, b"other", b"x").await, Amended::Stale);
    assert_eq!(amend(family.id, b"sealed", b"a longer seal").await, Amended::Done);
    assert_eq!(amend(family.id, b"sealed", b"x").await, Amended::Stale);
    let found = store.find(family.id).await.unwrap().unwrap();
    assert_eq!(found.sealed, b"a longer seal");
    assert_eq!(found.lineage, family.lineage);
    assert_eq!(amend(session(START, 9), b"sealed", b"x").await, Amended::Ended);
    store.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    assert_eq!(amend(family.id, b"a longer seal", b"x").await, Amended::Ended);
}

async fn a_subjects_families_come_in_the_order_of_their_opening(p: impl Place) {
    let store = p.store();
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(open(&*store, subject(1)).await.id);
        open(&*store, subject(if n % 2 == 0 { 0 } else { 2 })).await;
        p.clock().advance(millis(1));
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.of_subject(subject(1), after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(|f| f.id));
    }
    assert_eq!(seen, ids);
    assert_eq!(store.of_subject(subject(3), None, 3).await.unwrap(), []);
}

async fn an_expired_family_is_swept_with_its_index(p: impl Place) {
    let store = p.store();
    let families = [open(&*store, subject(1)).await, open(&*store, subject(1)).await];
    p.clock().advance(LIVES.idle - millis(1));
    nudge(&p).await;
    assert_eq!(store.of_subject(subject(1), None, 10).await.unwrap().len(), 2);
    p.clock().advance(millis(1));
    nudge(&p).await;
    assert_eq!(store.find(families[0].id).await.unwrap(), None);
    assert_eq!(store.of_subject(subject(1), None, 10).await.unwrap(), []);
    assert_eq!(verdict(&*store, &families[1], 0).await, Verdict::Refused(Refusal::Unknown));
}

async fn use_postpones_the_sweeping(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    p.clock().advance(LIVES.idle - secs(1));
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Rotate);
    p.clock().advance(LIVES.idle - secs(1));
    nudge(&p).await;
    assert_eq!(verdict(&*store, &family, 1).await, Verdict::Rotate);
    // The absolute end is never postponed, but for the minute in which a token of it could still be handed back.
    p.clock().advance(secs(2) + rescind::model::denial::LEEWAY_AND_MARGIN);
    nudge(&p).await;
    assert_eq!(store.find(family.id).await.unwrap(), None);
    assert_eq!(store.of_subject(subject(1), None, 10).await.unwrap(), []);
}

async fn a_closed_family_is_kept_to_its_absolute_end(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    store.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    p.clock().advance(LIVES.absolute - millis(1));
    nudge(&p).await;
    assert!(store.find(family.id).await.unwrap().is_some());
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Refused(Refusal::Closed));
    p.clock().advance(millis(1));
    nudge(&p).await;
    assert_eq!(store.find(family.id).await.unwrap(), None);
}

async fn rotations_leave_one_record_behind(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    for generation in 0..300 {
        assert_eq!(verdict(&*store, &family, generation).await, Verdict::Rotate);
    }
    assert_eq!(store.of_subject(subject(1), None, 10).await.unwrap().len(), 1);
    assert_eq!(live(&*store).await, []);
}

// ---- the denylist

async fn every_kind_of_target_is_denied(p: impl Place) {
    let store = p.store();
    let mut others = Vec::new();
    for n in 0..6 {
        let family = open(&*store, subject(n)).await;
        let (client, key) = (client(&format!("c{n}")), kid(&format!("k{n}")));
        let bearer = Bearer { token: TokenId::new(START, &[n; 10]), client, key, ..bearer(&family, START) };
        let target = match n {
            0 => Target::Token(bearer.token),
            1 => Target::Session(family.id),
            2 => Target::Subject(bearer.subject),
            3 => Target::Client(bearer.client.clone()),
            4 => Target::Key(bearer.key.clone()),
            _ => Target::All,
        };
        assert!(!store.denied(bearer.clone()).await.unwrap(), "{target:?}");
        assert!(!store.denied_key(&bearer.key).await.unwrap(), "{target:?}");
        others.push((target, bearer));
    }
    for (n, (target, bearer)) in others.iter().enumerate() {
        let entry = deny(&*store, target.clone(), Ends::Sessions).await;
        assert_eq!(&entry.target, target);
        for (m, (_, other)) in others.iter().enumerate() {
            let hit = m <= n || *target == Target::All;
            assert_eq!(store.denied(other.clone()).await.unwrap(), hit, "{target:?} and the token of {m}");
            assert_eq!(entry.denies(other), m == n || *target == Target::All);
        }
        assert!(store.denied(bearer.clone()).await.unwrap());
    }
    for (target, bearer) in &others {
        let is_key = matches!(target, Target::Key(_));
        assert_eq!(store.denied_key(&bearer.key).await.unwrap(), is_key, "{target:?}");
    }
    assert_eq!(live(&*store).await.len(), 6);
}

async fn a_denied_token_is_one_token(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let (one, other) = (bearer(&family, START), bearer(&family, START.plus(millis(1))));
    let expires = START.plus(secs(40));
    let asked = Denial { expires: Some(expires), ..denial(Target::Token(one.token), Ends::Sessions) };
    let entry = store.deny(asked).await.unwrap().unwrap();
    assert_eq!(entry.feed_until, expires.plus(LEEWAY_AND_MARGIN));
    assert!(store.denied(one.clone()).await.unwrap());
    assert!(!store.denied(other).await.unwrap());
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Rotate, "the session goes on");
    p.clock().advance(secs(40) + LEEWAY_AND_MARGIN);
    assert!(!store.denied(one).await.unwrap());
}

/// To the millisecond, with a clock that does not move at all between the steps.
async fn a_cut_off_hits_all_before_its_acknowledgement_and_nothing_after(p: impl Place) {
    let store = p.store();
    for ends in [Ends::Sessions, Ends::Tokens] {
        for target in [Target::Subject(subject(1)), Target::Client(app()), Target::All] {
            let before = open(&*store, subject(1)).await;
            let minted = show(&*store, &before, 0).await.at;
            deny(&*store, target.clone(), ends).await;
            let after = open(&*store, subject(1)).await;
            assert!(store.denied(bearer(&before, minted)).await.unwrap(), "{target:?}");
            assert!(!store.denied(bearer(&after, after.id.stamp())).await.unwrap(), "{target:?}");
            let refreshed = show(&*store, &before, 1).await;
            match ends {
                Ends::Sessions => assert_eq!(refreshed.verdict, Verdict::Refused(Refusal::CutOff)),
                Ends::Tokens => {
                    assert_eq!(refreshed.verdict, Verdict::Rotate);
                    assert!(!store.denied(bearer(&before, refreshed.at)).await.unwrap());
                }
            }
            let later = show(&*store, &after, 0).await;
            assert_eq!(later.verdict, Verdict::Rotate);
            assert!(!store.denied(bearer(&after, later.at)).await.unwrap());
            let covers = async |opened| store.cut_off(subject(1), app(), opened).await.unwrap();
            assert!(!covers(after.id.stamp()).await);
            assert_eq!(covers(before.id.stamp()).await, ends == Ends::Sessions, "{target:?}");
        }
        // Cut-offs of the first round must not hide the second's effect.
        p.clock().advance(secs(10));
    }
}

async fn a_cut_off_holds_when_the_clock_is_put_back(p: impl Place) {
    let store = p.store();
    for ends in [Ends::Sessions, Ends::Tokens] {
        let before = open(&*store, subject(1)).await;
        let minted = show(&*store, &before, 0).await.at;
        p.clock().jump_back(secs(3600));
        let earlier = open(&*store, subject(1)).await;
        deny(&*store, Target::Subject(subject(1)), ends).await;
        p.clock().jump_back(secs(3600));
        let after = open(&*store, subject(1)).await;
        let later = show(&*store, &after, 0).await;
        assert!(store.denied(bearer(&before, minted)).await.unwrap());
        assert!(store.denied(bearer(&earlier, earlier.id.stamp())).await.unwrap());
        assert!(!store.denied(bearer(&after, after.id.stamp())).await.unwrap());
        assert!(!store.denied(bearer(&after, later.at)).await.unwrap());
        assert_eq!(later.verdict, Verdict::Rotate);
    }
}

async fn a_cut_off_of_tokens_lets_sessions_go_on(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let old = show(&*store, &family, 0).await.at;
    deny(&*store, Target::Subject(subject(1)), Ends::Tokens).await;
    assert!(store.denied(bearer(&family, old)).await.unwrap());
    let retried = show(&*store, &family, 0).await;
    assert_eq!(retried.verdict, Verdict::Retry);
    assert!(!store.denied(bearer(&family, retried.at)).await.unwrap(), "a retry after it mints after it");
}

async fn a_cut_off_of_one_spares_the_others(p: impl Place) {
    let store = p.store();
    let other = open(&*store, subject(2)).await;
    p.clock().advance(secs(1));
    deny(&*store, Target::Subject(subject(1)), Ends::Sessions).await;
    deny(&*store, Target::Client(client("else")), Ends::Sessions).await;
    assert!(!store.denied(bearer(&other, START)).await.unwrap());
    assert_eq!(verdict(&*store, &other, 0).await, Verdict::Rotate);
}

async fn a_cut_off_in_the_past_hits_what_was_stamped_before_it(p: impl Place) {
    let store = p.store();
    let old = open(&*store, subject(1)).await;
    p.clock().advance(millis(1));
    let young = open(&*store, subject(1)).await;
    p.clock().advance(secs(60));
    let asked = Denial { before: Some(START.plus(millis(1))), ..denial(Target::All, Ends::Sessions) };
    let entry = store.deny(asked).await.unwrap().unwrap();
    assert_eq!(entry.before, START.plus(millis(1)));
    assert_eq!(verdict(&*store, &old, 0).await, Verdict::Refused(Refusal::CutOff));
    assert_eq!(verdict(&*store, &young, 0).await, Verdict::Rotate);
}

async fn a_cut_off_in_the_past_reaches_the_tokens_minted_since_for_old_sessions(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    p.clock().advance(secs(3000));
    let minted = show(&*store, &family, 0).await.at;
    p.clock().advance(secs(1));
    // "Whoever logged in before the breach was mended, an hour ago"; the last token is seconds old.
    let asked = Denial { before: Some(START.plus(millis(1))), ..denial(Target::All, Ends::Sessions) };
    let entry = store.deny(asked).await.unwrap().unwrap();
    assert!(entry.feed_until >= minted.plus(LIVES.access).plus(LEEWAY_AND_MARGIN), "verifiers must still hear of it");
    assert!(store.denied(bearer(&family, minted)).await.unwrap());
}

async fn a_cut_off_in_the_future_is_refused(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let at = |before| Denial { before: Some(before), ..denial(Target::All, Ends::Sessions) };
    assert_eq!(store.deny(at(START.plus(secs(1)))).await.unwrap(), None);
    assert_eq!(store.deny(at(Timestamp::MAX)).await.unwrap(), None);
    assert_eq!(live(&*store).await, []);
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Rotate);
    assert!(store.deny(at(START)).await.unwrap().is_some());
}

async fn a_weaker_cut_off_never_weakens(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    p.clock().advance(secs(10));
    let strong = deny(&*store, Target::Subject(subject(1)), Ends::Sessions).await;
    let weaker = Denial { before: Some(START), ..denial(Target::Subject(subject(1)), Ends::Sessions) };
    store.deny(weaker).await.unwrap().unwrap();
    p.clock().advance(secs(10));
    let shorter = Denial { expires: Some(START), ..denial(Target::Subject(subject(1)), Ends::Sessions) };
    store.deny(shorter).await.unwrap().unwrap();
    assert!(store.denied(bearer(&family, START)).await.unwrap());
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Refused(Refusal::CutOff));
    assert!(live(&*store).await.contains(&strong));
}

async fn denying_again_gives_the_entry_that_is_there(p: impl Place) {
    let store = p.store();
    let token = Target::Token(TokenId::new(START, &[1; 10]));
    let asked = |expires| Denial { expires: Some(expires), ..denial(token.clone(), Ends::Sessions) };
    let first = store.deny(asked(START.plus(secs(100)))).await.unwrap();
    p.clock().advance(secs(1));
    assert_eq!(store.deny(asked(START.plus(secs(100)))).await.unwrap(), first);
    assert_eq!(store.deny(asked(START.plus(secs(50)))).await.unwrap(), first);
    assert_eq!(live(&*store).await.len(), 1);
    // Longer is more.
    let longer = store.deny(asked(START.plus(secs(200)))).await.unwrap().unwrap();
    assert!(longer.position > first.unwrap().position);
}

async fn positions_rise_and_pages_join(p: impl Place) {
    let store = p.store();
    for n in 0..25 {
        deny(&*store, Target::Token(TokenId::new(START, &[n; 10])), Ends::Sessions).await;
    }
    let mut after = 0;
    let mut seen = Vec::new();
    loop {
        let page = store.entries(after, 7).await.unwrap();
        assert_eq!(page.head, 25);
        assert!(page.entries.len() <= 7);
        let Some(last) = page.entries.last() else { break };
        after = last.position;
        seen.extend(page.entries.iter().map(|e| e.position));
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    assert_eq!(store.entries(0, 0).await.unwrap().entries, []);
    assert_eq!(store.entries(u64::MAX, 5).await.unwrap().entries, []);
}

async fn an_unknown_expiry_after_the_clock_was_put_back_covers_tokens_from_before(p: impl Place) {
    let store = p.store();
    let at = store.stamp(subject(1), app(), Draft::default()).await.unwrap();
    p.clock().jump_back(secs(3600));
    let token = TokenId::new(at, &[1; 10]);
    let entry = deny(&*store, Target::Token(token), Ends::Sessions).await;
    let last = at.plus(RETENTION.access).plus(LEEWAY_AND_MARGIN);
    assert!(entry.feed_until >= last);
    let closed = store.close(session(at, 5), Closure::Revoked, None, Draft::default()).await.unwrap();
    assert!(closed.entry.unwrap().feed_until >= last);
}

async fn entries_leave_when_no_verifier_can_need_them(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let token = Target::Token(TokenId::new(START, &[1; 10]));
    deny(&*store, token.clone(), Ends::Sessions).await;
    deny(&*store, Target::Subject(subject(1)), Ends::Tokens).await;
    store.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap();
    let until = live(&*store).await.iter().map(|e| e.kept_until).max().unwrap();
    p.clock().advance(until.since(START) - millis(2));
    nudge(&p).await;
    assert!(store.denied(bearer(&family, START)).await.unwrap());
    p.clock().advance(millis(2));
    nudge(&p).await;
    assert_eq!(live(&*store).await, []);
    assert!(!store.denied(bearer(&family, START)).await.unwrap());
    // A position is never given twice.
    assert_eq!(deny(&*store, token, Ends::Sessions).await.position, 4);
}

async fn cut_offs_of_sessions_are_kept_for_the_longest_session(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    p.clock().advance(millis(1));
    let entry = deny(&*store, Target::Subject(subject(1)), Ends::Sessions).await;
    assert_eq!(entry.kept_until, entry.before.plus(RETENTION.session));
    // Verifiers may forget it long before: no token minted before it is alive.
    assert!(entry.feed_until < entry.kept_until);
    p.clock().advance(secs(3000));
    nudge(&p).await;
    assert_eq!(verdict(&*store, &family, 0).await, Verdict::Refused(Refusal::CutOff));
    p.clock().advance(RETENTION.session);
    nudge(&p).await;
    assert_eq!(live(&*store).await, []);
}

async fn a_denied_key_stays_denied(p: impl Place) {
    let store = p.store();
    let entry = deny(&*store, Target::Key(kid("k1")), Ends::Sessions).await;
    assert_eq!(entry.feed_until, Timestamp::MAX);
    p.clock().advance(Duration::from_secs(100 * 365 * 86_400));
    nudge(&p).await;
    let family = open(&*store, subject(1)).await;
    assert!(store.denied(bearer(&family, p.clock().now())).await.unwrap());
    assert!(!store.denied(Bearer { key: kid("k2"), ..bearer(&family, p.clock().now()) }).await.unwrap());
}

// ---- feed

/// So many tokens denied that expire then, as one commit after the other but not one by one.
async fn deny_many<S: Store>(store: &Arc<S>, many: u64, expires: Timestamp, seed: u8) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..many {
        let mut random = [seed; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        // The last digits say where it lies: not all in one place, as random ones would not.
        random[8] ^= (n >> 8) as u8;
        random[9] ^= n as u8;
        let target = Target::Token(TokenId::new(START, &random));
        let (store, denial) = (store.clone(), Denial { expires: Some(expires), ..denial(target, Ends::Tokens) });
        tasks.spawn(async move { store.deny(denial).await.unwrap().unwrap() });
    }
    tasks.join_all().await;
}

/// Reads the feed as a newcomer does: page by page, then the tail, every part continuing the one before.
async fn follow<S: Store>(store: &S) -> (usize, Vec<Item>) {
    let tail = store.tail(None, PAGE).await.unwrap();
    assert_eq!(tail.to.position, tail.head, "at most a page lies after the last page");
    assert_eq!(tail.from.position, tail.head / PAGE * PAGE);
    let (mut pages, mut entries, mut number) = (0, Vec::new(), tail.first_page);
    let mut at = None;
    while number < tail.head / PAGE {
        let page = store.page(number).await.unwrap().expect("it is between the first and the tail");
        assert_eq!(page.epoch, tail.epoch);
        assert_eq!(page.from.position, number * PAGE);
        assert!(at.is_none_or(|at| at == page.from), "{at:?} joins {:?}", page.from);
        assert!(page.entries.iter().all(|e| (page.from.position + 1..=page.to.position).contains(&e.position)));
        entries.extend(page.entries);
        (pages, number, at) = (pages + 1, page.to.position / PAGE, Some(page.to));
    }
    assert!(at.is_none_or(|at| at == tail.from), "{at:?} joins {:?}", tail.from);
    entries.extend(tail.entries);
    assert!(entries.is_sorted_by(|a, b| a.position < b.position), "in order, none twice");
    (pages, entries)
}

fn positions(entries: &[Item]) -> Vec<u64> {
    entries.iter().map(|e| e.position).collect()
}

async fn a_tail_goes_on_where_it_is_asked_to(p: impl Place) {
    let store = p.store();
    let empty = store.tail(None, PAGE).await.unwrap();
    assert_eq!((empty.head, empty.from, empty.first_page), (0, empty.to, 0));
    let mut marks = vec![empty.to];
    for n in 1..=5 {
        let entry = deny(&*store, Target::Token(TokenId::new(START, &[n; 10])), Ends::Tokens).await;
        let tail = store.tail(Some((empty.epoch, marks[marks.len() - 1])), PAGE).await.unwrap();
        assert_eq!(tail.entries, [Item::from(&entry)]);
        assert!(!marks.contains(&tail.to));
        marks.push(tail.to);
    }
    for (at, mark) in marks.iter().enumerate() {
        let tail = store.tail(Some((empty.epoch, *mark)), PAGE).await.unwrap();
        assert_eq!((tail.from, tail.to, tail.head), (*mark, marks[5], 5));
        assert_eq!(positions(&tail.entries), (at as u64 + 1..=5).collect::<Vec<_>>());
    }
}

async fn a_mark_of_another_log_is_answered_from_the_last_page(p: impl Place) {
    let store = p.store();
    deny_many(&store, 7, START.plus(secs(300)), 1).await;
    let whole = store.tail(None, PAGE).await.unwrap();
    let other = Epoch([7; 16]);
    let wrong = |position| Mark { position, digest: Digest([7; 32]) };
    let strange = [(other, whole.to), (whole.epoch, wrong(7)), (whole.epoch, wrong(3)), (whole.epoch, wrong(8))];
    for asked in strange.into_iter().chain([(whole.epoch, wrong(u64::MAX))]) {
        assert_eq!(store.tail(Some(asked), PAGE).await.unwrap(), whole, "{asked:?}");
    }
}

async fn a_short_tail_says_so_and_joins_the_next(p: impl Place) {
    let store = p.store();
    deny_many(&store, 25, START.plus(secs(300)), 1).await;
    let (mut at, mut seen) = (None, Vec::new());
    loop {
        let tail = store.tail(at, 7).await.unwrap();
        assert!(tail.entries.len() <= 7);
        assert!(at.is_none_or(|(_, mark)| mark == tail.from));
        seen.extend(positions(&tail.entries));
        at = Some((tail.epoch, tail.to));
        if tail.to.position == tail.head {
            break;
        }
        assert_eq!(Some(&tail.to.position), seen.last());
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    let nothing = store.tail(None, 0).await.unwrap();
    assert_eq!((nothing.to, nothing.entries), (nothing.from, Vec::new()), "none asked for, none covered");
}

async fn pages_and_tail_join_and_hold_all_that_is_alive(p: impl Place) {
    let store = p.store();
    deny_many(&store, 2 * PAGE + 500, START.plus(secs(300)), 1).await;
    let (pages, entries) = follow(&*store).await;
    assert_eq!((pages, positions(&entries)), (2, (1..=2500).collect()));
    for unknown in [2, 3, u64::MAX] {
        assert_eq!(store.page(unknown).await.unwrap(), None, "{unknown} is not whole");
    }
}

async fn what_has_expired_leaves_the_feed_and_its_pages(p: impl Place) {
    let store = p.store();
    deny_many(&store, PAGE + 10, START.plus(secs(100)), 1).await;
    deny_many(&store, PAGE, START.plus(secs(200)), 2).await;
    p.clock().advance(secs(100) + LEEWAY_AND_MARGIN - millis(1));
    assert_eq!(follow(&*store).await.1.len() as u64, 2 * PAGE + 10);
    // Not a sweep between them: what has expired by `now` is gone by `now`.
    p.clock().advance(millis(1));
    let (_, entries) = follow(&*store).await;
    assert_eq!(positions(&entries), (PAGE + 11..=2 * PAGE + 10).collect::<Vec<_>>());
    for _ in 0..20 {
        nudge(&p).await;
    }
    let tail = store.tail(None, PAGE).await.unwrap();
    assert_eq!((tail.first_page, store.page(0).await.unwrap()), (1, None));
    assert_eq!(follow(&*store).await, (1, entries));
}

async fn an_entry_for_ever_pins_no_page_but_its_own(p: impl Place) {
    let store = p.store();
    let key = deny(&*store, Target::Key(kid("k1")), Ends::Tokens).await;
    for round in 0..4 {
        deny_many(&store, PAGE, p.clock().now(), round).await;
        p.clock().advance(secs(600));
    }
    for _ in 0..50 {
        nudge(&p).await;
    }
    let (pages, entries) = follow(&*store).await;
    assert_eq!((pages, entries), (1, vec![Item::from(&key)]));
    for gone in [2, 3] {
        assert_eq!(store.page(gone).await.unwrap(), None, "nothing is kept of page {gone}");
    }
}

async fn the_feed_forgets_a_cut_off_of_sessions_before_the_issuer_does(p: impl Place) {
    let store = p.store();
    let entry = deny(&*store, Target::Subject(subject(1)), Ends::Sessions).await;
    assert!(entry.feed_until < entry.kept_until);
    p.clock().advance(entry.feed_until.since(START) - millis(1));
    nudge(&p).await;
    assert_eq!(follow(&*store).await.1, [Item::from(&entry)]);
    p.clock().advance(millis(1));
    nudge(&p).await;
    assert_eq!(follow(&*store).await.1, []);
    assert_eq!(live(&*store).await, [entry]);
    // Nor does it hold its place: once its page is whole and all on it expired, the page is gone.
    deny_many(&store, PAGE, START, 1).await;
    for _ in 0..20 {
        nudge(&p).await;
    }
    assert_eq!((store.tail(None, PAGE).await.unwrap().first_page, store.page(0).await.unwrap()), (1, None));
}

async fn a_follower_at_the_head_keeps_its_place_when_all_expires(p: impl Place) {
    let store = p.store();
    deny_many(&store, 30, START.plus(secs(10)), 1).await;
    let tail = store.tail(None, PAGE).await.unwrap();
    let at = (tail.epoch, tail.to);
    p.clock().advance(secs(600));
    nudge(&p).await;
    let later = store.tail(Some(at), PAGE).await.unwrap();
    assert_eq!((later.from, later.to, later.entries), (tail.to, tail.to, Vec::new()));
    deny(&*store, Target::All, Ends::Tokens).await;
    let later = store.tail(Some(at), PAGE).await.unwrap();
    assert_eq!((later.from, positions(&later.entries)), (tail.to, vec![31]));
}

async fn a_clock_that_leaps_takes_nothing_out_of_the_feed(p: impl Place) {
    let store = p.store();
    let entry = deny(&*store, Target::Token(TokenId::new(START, &[1; 10])), Ends::Tokens).await;
    nudge(&p).await;
    p.clock().jump(secs(86_400));
    nudge(&p).await;
    let tail = store.tail(None, PAGE).await.unwrap();
    assert_eq!((tail.now, tail.entries), (START, vec![Item::from(&entry)]));
}

async fn the_end_of_a_page_is_known_while_something_on_it_lives(p: impl Place) {
    let store = p.store();
    deny(&*store, Target::Key(kid("k1")), Ends::Tokens).await;
    deny_many(&store, PAGE - 1, START, 1).await;
    let end = store.tail(None, PAGE).await.unwrap();
    assert_eq!(end.to.position, PAGE);
    deny_many(&store, PAGE + 5, START, 2).await;
    p.clock().advance(secs(600));
    for _ in 0..50 {
        nudge(&p).await;
    }
    let tail = store.tail(Some((end.epoch, end.to)), PAGE).await.unwrap();
    assert_eq!((tail.from, tail.entries), (end.to, Vec::new()), "whoever stands there need not read page 0 again");
}

async fn whoever_waits_is_told_of_the_next_entry(p: impl Place) {
    let store = p.store();
    assert_eq!(tokio::time::timeout(millis(20), store.appended(0)).await.ok(), None, "nothing is there yet");
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let head = store.appended(0).await;
                (head, store.tail(None, PAGE).await.unwrap().head)
            })
        })
        .collect();
    nudge(&p).await;
    deny(&*store, Target::All, Ends::Tokens).await;
    for told in waiting {
        assert_eq!(tokio::time::timeout(secs(5), told).await.unwrap().unwrap(), (1, 1));
    }
    assert_eq!(store.appended(7).await, 1, "a head that lies elsewhere is news, too");
}

async fn a_clients_own_token_is_stamped_later_than_any_cut_off(p: impl Place) {
    let store = p.store();
    let own = |at| Bearer {
        token: TokenId::new(at, &[1; 10]),
        session: None,
        subject: subject(9),
        client: app(),
        key: kid("k1"),
    };
    let stamp = async || store.stamp(subject(9), app(), Draft::default()).await.unwrap();
    for ends in [Ends::Sessions, Ends::Tokens] {
        for target in [Target::Subject(subject(9)), Target::Client(app()), Target::All] {
            let before = stamp().await;
            deny(&*store, target, ends).await;
            p.clock().jump_back(secs(60));
            let after = stamp().await;
            assert!(store.denied(own(before)).await.unwrap());
            assert!(!store.denied(own(after)).await.unwrap());
        }
    }
}

// ---- audit

async fn records<S: Store>(store: &S, query: AuditQuery) -> Vec<Record> {
    let limit = if query.limit == 0 { 1000 } else { query.limit };
    store.audit(AuditQuery { limit, ..query }).await.unwrap().records
}

fn draft(name: &str) -> Draft {
    let origin = Origin { ip: Some("192.0.2.1".into()), user_agent: Some("test".into()) };
    Draft { actor: Some(client("admin")), client: Some(app()), subject: Some(name.parse().unwrap()), origin }
}

async fn every_change_leaves_one_audit_record(p: impl Place) {
    let store = p.store();
    let audit = || draft("alice");
    let family = store.open(Opening { audit: audit(), ..opening(subject(1)) }).await.unwrap();
    let family = family.family().unwrap();
    let ask = |generation| Presentation { audit: audit(), ..showing(&family, generation) };
    store.present(ask(0)).await.unwrap();
    store.present(ask(0)).await.unwrap();
    store.amend(family.id, b"sealed".to_vec(), b"new".to_vec(), audit()).await.unwrap();
    store
        .deny(Denial { reason: Some("lost phone".into()), audit: audit(), ..denial(Target::All, Ends::Tokens) })
        .await
        .unwrap();
    store.stamp(subject(1), app(), audit()).await.unwrap();
    p.clock().advance(secs(30));
    store.present(ask(0)).await.unwrap();
    store.present(ask(1)).await.unwrap();
    store.close(session(START, 8), Closure::Revoked, None, audit()).await.unwrap();
    store.record(Event::KeyRotated, Outcome::Done, Some("scheduled".into()), audit()).await.unwrap();
    let log = records(&*store, AuditQuery::default()).await;
    let events: Vec<_> = log.iter().map(|r| (r.event, r.outcome)).collect();
    let expected = [
        (Event::SessionOpened, Outcome::Done),
        (Event::Refreshed, Outcome::Done),
        (Event::Retried, Outcome::Done),
        (Event::SessionAmended, Outcome::Done),
        (Event::Revoked, Outcome::Done),
        (Event::ClientToken, Outcome::Done),
        (Event::Reused, Outcome::Closed),
        (Event::Refused, Outcome::Refused),
        (Event::Revoked, Outcome::Done),
        (Event::KeyRotated, Outcome::Done),
    ];
    assert_eq!(events, expected);
    assert!(log.iter().all(|r| r.subject == draft("alice").subject && r.origin == draft("alice").origin));
    assert!(log.iter().zip(1..).all(|(r, n)| r.sequence == n));
    assert_eq!(log[4].cause.as_deref(), Some("all: lost phone"));
    let reuse = log[6].cause.as_deref().unwrap();
    assert!(reuse.contains("generation 0 of 1") && reuse.contains("30 s"), "{reuse}");
    assert_eq!(log[7].cause.as_deref(), Some("closed"));
}

async fn refusals_are_noted_once_a_minute(p: impl Place) {
    let store = p.store();
    let families = [open(&*store, subject(1)).await, open(&*store, subject(2)).await];
    for family in &families {
        store.close(family.id, Closure::Revoked, None, Draft::default()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(verdict(&*store, family, 0).await, Verdict::Refused(Refusal::Closed));
        }
    }
    let refusals = async || {
        let log = records(&*store, AuditQuery::default()).await;
        log.iter().filter(|r| r.event == Event::Refused).count()
    };
    assert_eq!(refusals().await, 2);
    p.clock().advance(secs(60));
    verdict(&*store, &families[0], 0).await;
    assert_eq!(refusals().await, 3);
}

async fn the_audit_log_is_read_by_page_subject_session_and_time(p: impl Place) {
    let store = p.store();
    let mut families = Vec::new();
    for n in 0..30_u8 {
        let audit = draft(if n % 3 == 0 { "alice" } else { "bob" });
        let asked = Opening { audit, ..opening(subject(n % 3)) };
        families.push(store.open(asked).await.unwrap().family().unwrap());
        p.clock().advance(millis(1));
    }
    let alice = AuditQuery { subject: draft("alice").subject, limit: 4, ..AuditQuery::default() };
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = store.audit(AuditQuery { after, ..alice.clone() }).await.unwrap();
        assert!(page.records.len() <= 4);
        seen.extend(page.records.iter().map(|r| r.session.unwrap()));
        let Some(next) = page.next else { break };
        after = next;
    }
    let expected: Vec<_> = families.iter().step_by(3).map(|f| f.id).collect();
    assert_eq!(seen, expected);
    let one = records(&*store, AuditQuery { session: Some(families[5].id), ..AuditQuery::default() }).await;
    assert_eq!(one.len(), 1);
    for since in [0, 1, 17, 29, 30] {
        let query = AuditQuery { since: Some(START.plus(millis(since))), ..AuditQuery::default() };
        let found = records(&*store, query).await;
        assert_eq!(found.len() as u64, 30 - since);
    }
}

async fn a_full_audit_log_drops_its_oldest_and_goes_on(p: impl Place) {
    let store = p.store();
    for _ in 0..25 {
        store.record(Event::KeyRotated, Outcome::Done, None, Draft::default()).await.unwrap();
        p.clock().advance(millis(1));
    }
    let log = records(&*store, AuditQuery::default()).await;
    let first = log[0].sequence;
    assert!(log.len() <= 10 && log.len() > 5 && first > 15, "{} from {first}", log.len());
    assert!(log.iter().zip(first..).all(|(record, n)| record.sequence == n), "without gaps");
    assert_eq!(log.iter().rev().find(|r| r.event == Event::KeyRotated).unwrap().at, START.plus(millis(24)));
    let told = log.iter().rfind(|r| r.event == Event::AuditDropped).unwrap();
    let expected = format!("to {}: more than the 10 that are kept", first - 1);
    assert!(told.cause.as_deref().unwrap().ends_with(&expected), "{told:?}");
    let head = store.audit_head().await.unwrap().head;
    assert_eq!((head.first, head.sequence), (first, log.last().unwrap().sequence));
}

async fn records_written_after_the_clock_was_put_back_are_found(p: impl Place) {
    let store = p.store();
    let note = async || store.record(Event::KeyRotated, Outcome::Done, None, Draft::default()).await.unwrap();
    for _ in 0..5 {
        note().await;
        p.clock().advance(secs(60));
    }
    p.clock().jump_back(secs(240));
    for _ in 0..5 {
        note().await;
        p.clock().advance(secs(1));
    }
    // Asked for everything from the fourth on: the five that came later bear earlier instants.
    for (since, expected) in [(180, 7), (181, 6), (240, 6), (0, 10)] {
        let query = AuditQuery { since: Some(START.plus(secs(since))), ..AuditQuery::default() };
        assert_eq!(records(&*store, query).await.len(), expected, "since {since}");
    }
}

// ---- races

/// Runs `tasks` at once and gives what each returned.
async fn all<T: Send + 'static>(tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let handles: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut results = Vec::new();
    for handle in handles {
        results.push(handle.await.unwrap());
    }
    results
}

async fn a_race_has_one_rotation_and_one_successor(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    for generation in 0..10 {
        let racers = (0..32).map(|n| {
            let (store, holder) = (p.store(), if n % 2 == 0 { Holder::Named } else { Holder::Proven });
            let asked = Presentation { holder, ..showing(&family, generation) };
            async move { store.present(asked).await.unwrap() }
        });
        let results = all(racers).await;
        let count = |v| results.iter().filter(|r| r.verdict == v).count();
        assert_eq!((count(Verdict::Rotate), count(Verdict::Retry)), (1, 31));
        assert!(results.iter().all(|r| r.family.as_ref().unwrap().lineage.head.0 == generation + 1));
        assert_eq!(head(&*store, &family).await, generation + 1);
    }
}

async fn a_race_with_a_closing_is_won_by_the_closing(p: impl Place) {
    let store = p.store();
    for round in 0..20 {
        let family = open(&*store, subject(1)).await;
        let racers = (0..8).map(|n| {
            let (store, asked) = (p.store(), showing(&family, 0));
            async move {
                if n == round % 8 {
                    store.close(asked.id, Closure::Revoked, None, Draft::default()).await.unwrap();
                    return None;
                }
                let got = store.present(asked).await.unwrap();
                matches!(got.verdict, Verdict::Rotate | Verdict::Retry).then_some(got.at)
            }
        });
        for minted in all(racers).await.into_iter().flatten() {
            assert!(store.denied(bearer(&family, minted)).await.unwrap(), "it was before the closing, and is denied");
        }
        assert_eq!(verdict(&*store, &family, 1).await, Verdict::Refused(Refusal::Closed));
    }
}

async fn a_race_with_a_cut_off_is_won_by_the_cut_off(p: impl Place) {
    let store = p.store();
    for round in 0..20 {
        let ends = if round % 2 == 0 { Ends::Sessions } else { Ends::Tokens };
        let family = open(&*store, subject(1)).await;
        let racers = (0..8).map(|n| {
            let (store, asked, subject) = (p.store(), showing(&family, 0), subject(1));
            async move {
                if n == round % 8 {
                    return Err(store.deny(denial(Target::Subject(subject), ends)).await.unwrap().unwrap());
                }
                Ok(store.present(asked).await.unwrap())
            }
        });
        let results = all(racers).await;
        let cut = results.iter().find_map(|r| r.as_ref().err()).unwrap();
        for got in results.iter().flatten() {
            if !matches!(got.verdict, Verdict::Rotate | Verdict::Retry) {
                continue;
            }
            let denied = store.denied(bearer(&family, got.at)).await.unwrap();
            // Before it: denied. After it, which only a cut-off of tokens allows: stamped so.
            assert_eq!(denied, ends == Ends::Sessions || got.at < cut.before);
            assert!(ends == Ends::Tokens || denied);
        }
        let fresh = show(&*store, &family, 1).await;
        match ends {
            Ends::Sessions => assert_eq!(fresh.verdict, Verdict::Refused(Refusal::CutOff)),
            Ends::Tokens => assert!(!store.denied(bearer(&family, fresh.at)).await.unwrap()),
        }
    }
}

async fn openings_racing_a_cut_off_are_before_it_or_after_it(p: impl Place) {
    let store = p.store();
    for _ in 0..10 {
        let racers = (0..9).map(|n| {
            let store = p.store();
            async move {
                if n == 4 {
                    return Err(store.deny(denial(Target::All, Ends::Sessions)).await.unwrap().unwrap());
                }
                Ok(store.open(opening(subject(1))).await.unwrap().family().unwrap())
            }
        });
        let results = all(racers).await;
        let cut = results.iter().find_map(|r| r.as_ref().err()).unwrap();
        for family in results.iter().flatten() {
            let denied = store.denied(bearer(family, family.id.stamp())).await.unwrap();
            assert_eq!(denied, family.id.stamp() < cut.before);
            let v = verdict(&*store, family, 0).await;
            assert_eq!(v == Verdict::Refused(Refusal::CutOff), denied, "{v:?}");
        }
    }
}

// ---- how many sessions a subject has

fn capped(most: usize, on_full: OnFull) -> Opening {
    Opening { cap: Some(SessionCap { most, on_full }), ..opening(subject(1)) }
}

async fn open_of<S: Store>(store: &S, n: u8) -> Vec<SessionId> {
    let families = store.of_subject(subject(n), None, 1000).await.unwrap();
    families.into_iter().filter(|f| f.lineage.closed.is_none()).map(|f| f.id).collect()
}

async fn a_full_subject_opens_no_more_until_one_ends(p: impl Place) {
    let store = p.store();
    let first = store.open(capped(2, OnFull::Refuse)).await.unwrap().family().unwrap();
    p.clock().advance(millis(1));
    store.open(capped(2, OnFull::Refuse)).await.unwrap().family().unwrap();
    assert_eq!(store.open(capped(2, OnFull::Refuse)).await.unwrap(), Opened::Full);
    assert!(store.open(Opening { subject: subject(2), ..capped(2, OnFull::Refuse) }).await.unwrap().family().is_some());
    store.close(first.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
    assert!(store.open(capped(2, OnFull::Refuse)).await.unwrap().family().is_some());
    assert_eq!(store.open(capped(2, OnFull::Refuse)).await.unwrap(), Opened::Full);
    // What has expired, or was cut off, does not count.
    p.clock().advance(LIVES.idle);
    assert!(store.open(capped(1, OnFull::Refuse)).await.unwrap().family().is_some());
    assert_eq!(store.open(capped(1, OnFull::Refuse)).await.unwrap(), Opened::Full);
    deny(&*store, Target::Client(app()), Ends::Sessions).await;
    assert!(store.open(capped(1, OnFull::Refuse)).await.unwrap().family().is_some());
}

async fn the_oldest_session_makes_way_and_its_tokens_are_denied(p: impl Place) {
    let store = p.store();
    let mut families = Vec::new();
    for _ in 0..5 {
        families.push(store.open(capped(3, OnFull::EndOldest)).await.unwrap().family().unwrap());
        p.clock().advance(millis(1));
    }
    assert_eq!(open_of(&*store, 1).await, [families[2].id, families[3].id, families[4].id]);
    for (n, family) in families.iter().enumerate() {
        let found = store.find(family.id).await.unwrap().unwrap();
        assert_eq!(found.lineage.closed.map(|c| c.cause), (n < 2).then_some(Closure::Displaced));
        assert_eq!(store.denied(bearer(family, family.id.stamp())).await.unwrap(), n < 2, "{n}");
        assert_eq!(verdict(&*store, family, 0).await == Verdict::Rotate, n >= 2);
    }
    // The cap was lowered: the oldest go, as many as it takes.
    store.open(capped(1, OnFull::EndOldest)).await.unwrap().family().unwrap();
    assert_eq!(open_of(&*store, 1).await.len(), 1);
}

async fn a_race_of_openings_never_exceeds_the_cap(p: impl Place) {
    let store = p.store();
    for (n, on_full) in [(1, OnFull::Refuse), (2, OnFull::EndOldest)] {
        let racers = (0..20).map(|_| {
            let store = p.store();
            async move { store.open(Opening { subject: subject(n), ..capped(3, on_full) }).await.unwrap() }
        });
        let opened = all(racers).await.into_iter().filter_map(Opened::family).count();
        assert_eq!(opened, if on_full == OnFull::Refuse { 3 } else { 20 });
        assert_eq!(open_of(&*store, n).await.len(), 3);
    }
}

// ---- many entries of one subject

async fn many_revocations_of_a_subject_become_one_cut_off_of_its_tokens(p: impl Place) {
    let store = p.store();
    // Opened before all that, and used all the while.
    let bystander = open(&*store, subject(1)).await;
    let other = open(&*store, subject(2)).await;
    let rounds = u64::from(SINGLES_PER_SUBJECT) + 200;
    for _ in 0..rounds {
        let family = open(&*store, subject(1)).await;
        p.clock().advance(millis(1));
        let closed = store.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
        assert!(closed.entry.is_some());
        assert!(store.denied(bearer(&family, family.id.stamp())).await.unwrap(), "what was logged out is denied");
        assert!(matches!(verdict(&*store, &family, 0).await, Verdict::Refused(Refusal::Closed)));
    }
    p.clock().advance(secs(6));
    for _ in 0..4 {
        nudge(&p).await;
    }
    let live = store.entries(0, 10_000).await.unwrap().entries;
    assert_eq!(live.len() as u64, u64::from(SINGLES_PER_SUBJECT) + 1, "one cut-off stands for the rest");
    // No session has ended that was not to: it goes on, and its new tokens are good.
    assert_eq!(verdict(&*store, &bystander, 0).await, Verdict::Rotate);
    let minted = show(&*store, &bystander, 0).await.at;
    assert!(!store.denied(bearer(&bystander, minted)).await.unwrap());
    assert!(!store.denied(bearer(&other, other.id.stamp())).await.unwrap(), "nobody else is hit");
    assert_eq!(
        store.close(other.id, Closure::LoggedOut, None, Draft::default()).await.unwrap().entry.unwrap().target,
        Target::Session(other.id)
    );
}

async fn tokens_that_are_handed_back_by_the_hundred_become_one_cut_off(p: impl Place) {
    let store = p.store();
    let family = open(&*store, subject(1)).await;
    let mut last = family.id.stamp();
    for n in 0..SINGLES_PER_SUBJECT + 50 {
        p.clock().advance(millis(1));
        last = show(&*store, &family, n).await.at;
        let token = TokenId::new(last, &[1; 10]);
        let denial = Denial { expires: Some(last.plus(LIVES.access)), ..denial(Target::Token(token), Ends::Tokens) };
        store.deny_of(subject(1), SINGLES_PER_SUBJECT, denial).await.unwrap().unwrap();
        assert!(store.denied(bearer(&family, last)).await.unwrap());
    }
    p.clock().advance(secs(6));
    nudge(&p).await;
    assert_eq!(store.entries(0, 10_000).await.unwrap().entries.len() as u32, SINGLES_PER_SUBJECT + 1);
    // The cut-off holds for as long as the last of those tokens could be accepted.
    p.clock().advance(LIVES.access + LEEWAY_AND_MARGIN - secs(10));
    nudge(&p).await;
    assert!(store.denied(bearer(&family, last)).await.unwrap());
}

async fn a_follower_hears_of_every_cut_off_that_stands_for_many(p: impl Place) {
    let store = p.store();
    let mut at = store.tail(None, PAGE).await.unwrap();
    let mut known: Vec<Item> = Vec::new();
    for n in 0..SINGLES_PER_SUBJECT + 60 {
        let family = open(&*store, subject(1)).await;
        p.clock().advance(millis(200));
        store.close(family.id, Closure::LoggedOut, None, Draft::default()).await.unwrap();
        // It comes every few rounds, so that some of what it has not seen has made way already.
        if n % 40 == 0 || n == SINGLES_PER_SUBJECT + 59 {
            let place = Some((at.epoch, at.to));
            at = store.tail(place, PAGE).await.unwrap();
            known.extend(at.entries.iter().cloned());
            let item = |i: &Item| {
                matches!(&i.target, Target::Session(id) if *id == family.id)
                    || matches!(&i.target, Target::Subject(_) if i.before > family.id.stamp())
            };
            assert!(known.iter().any(item), "round {n}");
        }
    }
}

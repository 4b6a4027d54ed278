use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::keyring::rule::RULES;

fn public(n: u32) -> PublicKey {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    PublicKey::from_bytes(&key.to_bytes()).unwrap()
}

/// Key `from`, the one after it, and so on, as they are asked for.
fn fresh(from: u32) -> impl FnMut() -> Fresh {
    let mut next = from;
    move || {
        next += 1;
        (public(next - 1), Algorithm::EdDSA)
    }
}

/// Key 1 signs, 2 and 3 stand by.
fn start(timing: &Timing) -> Ring {
    Ring::first(fresh(1), at(0), timing)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + seconds)
}

fn too_early(outcome: Result<Ring, StepError>) -> Timestamp {
    let Err(StepError::TooEarly(early)) = outcome else { panic!("{outcome:?}") };
    early.earliest
}

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn the_standby_waits_until_it_has_been_published_long_enough() {
    let timing = Timing::default();
    let ring = start(&timing);
    assert_eq!(too_early(ring.rotate(at(1200).minus(MILLI), &timing, false, fresh(4))), at(1200));
    let next = ring.rotate(at(1200), &timing, false, fresh(4)).unwrap();
    assert_eq!(next.active().kid, ring.standby().kid);
    assert_eq!(next.keys().last().unwrap().kid, public(4).thumbprint());
    assert_eq!(next.earliest_rotation(&timing), at(2400), "else no known key would stand by");
    let forced = ring.rotate(at(0), &timing, true, fresh(4)).unwrap();
    assert_eq!(forced.active().kid, ring.standby().kid, "forced");
}

#[test]
fn right_after_a_rotation_a_key_stands_by_that_verifiers_know() {
    let timing = Timing::default();
    let ring = start(&timing).rotate(at(1200), &timing, false, fresh(4)).unwrap();
    let signed = ring.active().kid.clone();
    let ring = ring.step(Step::Compromise, &signed, at(1201), &timing, false, fresh(5)).unwrap();
    let active = ring.active();
    assert!(at(1201).since(active.published) >= timing.publish_ahead, "{active:?}");
    assert_eq!(ring.find(&signed).unwrap().state, KeyState::Compromised);
    assert_eq!(ring.pending(), STANDBYS);
}

#[test]
fn a_clock_put_back_makes_nothing_earlier() {
    let timing = Timing::default();
    let (before, ring) = (Timestamp::from_seconds(5), start(&timing));
    assert!(ring.rotate(before, &timing, false, fresh(4)).is_err());
    assert_eq!(ring.sweep(before, &timing), ring);
}

#[test]
fn a_retiring_key_stays_until_its_last_token_has_expired_everywhere() {
    let timing = Timing { destroy_after: Duration::from_secs(100), ..Timing::default() };
    let ring = start(&timing).rotate(at(1200), &timing, false, fresh(4)).unwrap();
    let (old, gone) = (ring.keys()[0].kid.clone(), 1200 + 300 + 60 + 300);
    assert_eq!(ring.sweep(at(gone).minus(MILLI), &timing), ring);
    assert_eq!(too_early(ring.step(Step::Retire, &old, at(gone - 1), &timing, false, fresh(5))), at(gone));
    let swept = ring.sweep(at(gone), &timing);
    assert_eq!((swept.keys()[0].state, swept.keys()[0].retired), (KeyState::Retired, Some(at(gone))));
    assert_eq!(swept.sweep(at(gone + 99), &timing), swept);
    let destroyed = swept.sweep(at(gone + 100), &timing);
    assert_eq!((destroyed.keys()[0].state, destroyed.keys()[0].destroyed), (KeyState::Destroyed, Some(at(gone + 100))));
}

#[test]
fn a_rollback_makes_the_last_signer_sign_again_and_keeps_what_the_other_signed() {
    let timing = Timing::default();
    let ring = start(&timing).rotate(at(1200), &timing, false, fresh(4)).unwrap();
    let (new, old) = (ring.active().kid.clone(), ring.predecessor().unwrap().kid.clone());
    let back = ring.step(Step::RollBack, &old, at(1300), &timing, false, fresh(5)).unwrap();
    assert_eq!(back.active().kid, old);
    assert_eq!((back.active().activated, back.active().signs_since()), (Some(at(0)), Some(at(1300))));
    assert_eq!(back.find(&new).unwrap().verifies_until, Some(at(1300 + 660)));
    assert_eq!(back.keys().len(), ring.keys().len(), "nothing is generated: as many stand by as before");
    let gone = ring.sweep(at(5000), &timing);
    let refused = gone.step(Step::RollBack, &old, at(5000), &timing, true, fresh(5)).unwrap_err();
    assert!(refused.to_string().contains("verifiers do not have it any more"), "{refused}");
}

#[test]
fn what_no_row_of_the_table_allows_is_refused_whatever_is_forced() {
    let timing = Timing { destroy_after: Duration::from_secs(86_400), ..Timing::default() };
    // A key in each state: 1 destroyed, 2 retired, 3 retiring, 4 active, 5 and 6 pending, and a compromised one.
    let mut ring = start(&timing);
    for (n, seconds) in [(4, 10_000), (5, 200_000), (6, 200_100)] {
        ring = ring.sweep(at(seconds), &timing).rotate(at(seconds), &timing, true, fresh(n)).unwrap();
    }
    ring = ring.sweep(at(200_100), &timing);
    ring = ring.step(Step::Destroy, &public(1).thumbprint(), at(200_200), &timing, false, fresh(90)).unwrap();
    let two = public(2).thumbprint();
    ring = ring.step(Step::Retire, &two, at(200_200), &timing, true, fresh(90)).unwrap();
    ring = ring.step(Step::Compromise, &public(6).thumbprint(), at(200_200), &timing, true, fresh(7)).unwrap();
    for state in KeyState::ALL {
        let kid = ring.keys().iter().find(|k| k.state == state).unwrap_or_else(|| panic!("{state}")).kid.clone();
        for step in Step::ALL {
            let done = ring.step(step, &kid, at(200_300), &timing, true, fresh(100));
            match RULES.iter().find(|r| (r.step, r.from) == (step, state)) {
                Some(rule) => assert_eq!(done.unwrap().find(&kid).unwrap().state, rule.to, "{step} of {state}"),
                None => {
                    let refused = done.unwrap_err();
                    assert_eq!(refused, StepError::Illegal { step, state });
                    assert!(refused.to_string().len() > 40, "says why: {refused}");
                }
            }
        }
    }
}

#[test]
fn as_many_keys_are_added_as_may_stand_by_and_none_twice() {
    let timing = Timing::default();
    let mut ring = start(&timing);
    assert!(matches!(ring.add((public(1), Algorithm::EdDSA), at(1)), Err(StepError::Known { .. })));
    for n in 10..10 + u32::try_from(MAX_PENDING - STANDBYS).unwrap() {
        ring = ring.add((public(n), Algorithm::EdDSA), at(1)).unwrap();
    }
    assert_eq!(ring.add((public(99), Algorithm::EdDSA), at(1)), Err(StepError::TooManyPending(MAX_PENDING)));
}

#[test]
fn a_shorter_token_life_does_not_shorten_the_life_of_a_key_that_signed_longer_ones() {
    let long = Timing { token_life: Duration::from_secs(3600), ..Timing::default() };
    let short = Timing { token_life: Duration::from_secs(60), ..Timing::default() };
    let ring = start(&long).signing_for(short.token_life);
    let ring = ring.rotate(at(1200), &short, false, fresh(4)).unwrap();
    assert_eq!(ring.keys()[0].verifies_until, Some(at(1200 + 3600 + 60 + 300)));
}

#[test]
fn lists_that_are_no_ring_are_refused() {
    let timing = Timing::default();
    let good = start(&timing).keys().to_vec();
    let broken = |change: fn(&mut Vec<KeyInfo>)| {
        let mut keys = good.clone();
        change(&mut keys);
        Ring::restore(keys).unwrap_err()
    };
    assert!(Ring::restore(good.clone()).is_ok());
    assert!(Ring::restore(good[..2].to_vec()).is_ok(), "as directories of before two stood by");
    assert_eq!(broken(|k| k.truncate(1)), RingError::NoStandby);
    assert_eq!(broken(|k| drop(k.remove(0))), RingError::Active(0));
    assert_eq!(broken(Vec::clear), RingError::Active(0));
    assert_eq!(broken(|k| k.push(k[1].clone())), RingError::Twice);
    assert_eq!(broken(|k| k[1].kid = "other".parse().unwrap()), RingError::NotTheThumbprint);
    assert_eq!(broken(|k| k[0].activated = None), RingError::Times);
    assert_eq!(broken(|k| k[1].retired = Some(Timestamp::from_millis(1))), RingError::Times);
    assert_eq!(broken(|k| k[1].state = KeyState::Compromised), RingError::Times);
    let two_active = |k: &mut Vec<KeyInfo>| (k[1].state, k[1].activated) = (KeyState::Active, k[0].activated);
    assert_eq!(broken(two_active), RingError::Active(2));
}

#[test]
fn what_is_over_is_remembered_up_to_a_cap() {
    let timing = Timing::default();
    let (mut ring, most) = (start(&timing), u32::try_from(MAX_RETIRED).unwrap());
    for n in 0..most + 10 {
        let now = at(100_000 * u64::from(n + 1));
        ring = ring.sweep(now, &timing).rotate(now, &timing, false, fresh(n + 4)).unwrap();
    }
    let over = ring.keys().iter().filter(|k| k.state == KeyState::Destroyed).count();
    assert_eq!(over, MAX_RETIRED);
    assert!(ring.find(&public(1).thumbprint()).is_none() && ring.find(&public(260).thumbprint()).is_some());
}

#[test]
fn a_key_set_is_cached_for_a_shorter_time_as_a_rotation_comes_near() {
    let timing = Timing { rotate_every: Some(Duration::from_secs(86_400)), ..Timing::default() };
    let ring = start(&timing);
    let age = |seconds| ring.cacheable_for(&timing, at(seconds)).as_secs();
    assert_eq!((age(0), age(86_100), age(86_200), age(86_395), age(86_400), age(99_999)), (300, 300, 200, 10, 10, 10));
    assert_eq!(ring.cacheable_for(&Timing::default(), at(99_999)).as_secs(), 300, "without a schedule");
}

#[test]
fn schedules_that_cannot_be_kept_are_refused() {
    let minutes = |m: u64| Duration::from_secs(60 * m);
    let good = Timing { rotate_every: Some(minutes(20)), retire_after: Some(minutes(11)), ..Timing::default() };
    assert_eq!(good.check(), Ok(()));
    let said = |timing: Timing| timing.check().unwrap_err().to_string();
    assert!(said(Timing { publish_ahead: minutes(19), ..good }).contains("publish_ahead (19m)"));
    assert!(said(Timing { jwks_max_age: minutes(11), ..good }).contains("(11m"));
    assert!(said(Timing { retire_after: Some(minutes(10)), ..good }).contains("retire_after (10m)"));
    assert!(said(Timing { rotate_every: Some(minutes(19)), ..good }).contains("rotate_every (19m)"));
    assert!(said(Timing { token_life: minutes(600), retire_after: None, ..good }).contains("more than 16 keys"));
}

/// A service that looks at the time when it likes, over a year.
#[test]
fn over_a_year_every_signer_was_published_long_enough_and_every_key_stays_while_it_is_needed() {
    let day = 86_400;
    let timing = Timing { rotate_every: Some(Duration::from_secs(7 * day)), ..Timing::default() };
    let (mut ring, mut now, mut rotations, mut n) = (start(&timing), 0, 0, 4);
    let mut watch = Watch::default();
    // Mostly every minute; now and then it sleeps for hours, once for a month.
    for tick in 0_u64.. {
        now += match tick {
            200_000 => 31 * day,
            t if t % 5000 == 17 => 9 * 3600,
            _ => 60,
        };
        if now > 365 * day {
            break;
        }
        ring = ring.sweep(at(now), &timing);
        if ring.next_rotation(&timing).is_some_and(|due| due <= at(now)) {
            ring = ring.rotate(at(now), &timing, false, fresh(n)).unwrap();
            (rotations, n) = (rotations + 1, n + 1);
        }
        watch.look(&ring, at(now), &timing, false);
        assert!(ring.keys().iter().filter(|k| k.is_published()).count() <= 4);
    }
    assert_eq!(rotations, 47, "52 weeks less the month of sleep, which is made up for once");
}

#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Rotate { force: bool },
    Step { step: usize, key: usize, force: bool },
    Sweep,
    Restart { token_life: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..4000u64).prop_map(Act::Wait),
        any::<bool>().prop_map(|force| Act::Rotate { force }),
        (0..Step::ALL.len(), 0..12usize, any::<bool>()).prop_map(|(step, key, force)| Act::Step { step, key, force }),
        Just(Act::Sweep),
        (1..7200u64).prop_map(|token_life| Act::Restart { token_life }),
    ]
}

/// What a verifier could complain of, remembered apart from the ring.
#[derive(Default)]
struct Watch {
    /// When the last token that each key signed is refused by all.
    needed_until: HashMap<Kid, Timestamp>,
    /// Since when each has been in the key set without a pause.
    published: HashMap<Kid, Timestamp>,
    active: Option<Kid>,
    signed: HashSet<Kid>,
}

impl Watch {
    fn look(&mut self, ring: &Ring, now: Timestamp, timing: &Timing, forced: bool) {
        let count = |s| ring.keys().iter().filter(|k| k.state == s).count();
        assert_eq!(count(KeyState::Active), 1);
        assert!(count(KeyState::Pending) >= STANDBYS);
        let active = &ring.active().kid;
        // A key that has signed before is known to whoever met its tokens.
        let new = self.active.as_ref().is_some_and(|before| before != active) && !self.signed.contains(active);
        self.signed.insert(active.clone());
        if new && !forced {
            let since = self.published[active];
            assert!(now.since(since) >= timing.publish_ahead, "{active} signs before it is known");
        }
        self.active = Some(active.clone());
        let listed: Vec<&Kid> = ring.keys().iter().filter(|k| k.is_published()).map(|k| &k.kid).collect();
        self.published.retain(|kid, _| listed.contains(&kid));
        for kid in listed {
            self.published.entry(kid.clone()).or_insert(now);
        }
        let expires = now.plus(timing.token_life).plus(timing.leeway);
        let latest = self.needed_until.entry(active.clone()).or_insert(expires);
        *latest = expires.max(*latest);
        // What was given up by force is not missed, and comes back never.
        self.needed_until.retain(|kid, until| {
            let missing = !self.published.contains_key(kid) && *until > now;
            assert!(!missing || forced, "{kid} is still needed");
            !missing
        });
    }
}

proptest! {
    #[test]
    fn every_history_keeps_one_signer_two_standbys_and_every_key_that_is_needed(acts in prop::collection::vec(act(), 1..60)) {
        let mut timing = Timing::default();
        let (mut ring, mut now, mut n) = (start(&timing), at(0), 4);
        let mut watch = Watch::default();
        watch.look(&ring, now, &timing, false);
        for act in acts {
            let (before, mut forced) = (ring.clone(), false);
            n += 3;
            match act {
                Act::Wait(seconds) => now = now.plus(Duration::from_secs(seconds)),
                Act::Sweep => ring = ring.sweep(now, &timing),
                Act::Restart { token_life } => {
                    timing.token_life = Duration::from_secs(token_life);
                    ring = Ring::restore(ring.keys().to_vec()).unwrap().signing_for(timing.token_life);
                }
                Act::Rotate { force } => {
                    forced = force;
                    ring = ring.rotate(now, &timing, force, fresh(n)).unwrap_or(ring);
                }
                Act::Step { step, key, force } => {
                    let step = Step::ALL[step];
                    // Whoever compromises a key wants it gone, whatever it has signed and whoever follows it.
                    forced = force || step == Step::Compromise;
                    let kid = ring.keys()[key % ring.keys().len()].kid.clone();
                    ring = ring.step(step, &kid, now, &timing, force, fresh(n)).unwrap_or(ring);
                }
            }
            for old in before.keys() {
                if let Some(new) = ring.find(&old.kid) {
                    let back = (old.state, new.state) == (KeyState::Retiring, KeyState::Active);
                    prop_assert!(new.state >= old.state || back, "{} became {}", old.state, new.state);
                    prop_assert_eq!((new.created, new.published, new.algorithm), (old.created, old.published, old.algorithm));
                }
            }
            watch.look(&ring, now, &timing, forced);
            prop_assert_eq!(&Ring::restore(ring.keys().to_vec()).unwrap(), &ring);
        }
    }
}

#[test]
fn the_key_set_is_never_longer_than_verifiers_read_whatever_is_forced() {
    let timing = Timing::default();
    let mut ring = start(&timing);
    let mut refused = None;
    for n in 10..200 {
        match ring.rotate(at(1), &timing, true, fresh(n)) {
            Ok(next) => ring = next,
            Err(error) => refused = Some(error),
        }
        ring = ring.add((public(1000 + n), Algorithm::EdDSA), at(1)).unwrap_or(ring);
    }
    assert_eq!(refused, Some(StepError::TooManyRetiring(MAX_FORCED)));
    assert_eq!(ring.keys().iter().filter(|k| k.is_published()).count(), crate::verifier::MAX_KEYS);
    let kid = ring.active().kid.clone();
    let ring = ring.step(Step::Compromise, &kid, at(1), &timing, true, fresh(300)).unwrap();
    let ring = ring.sweep(at(3600), &timing);
    assert!(ring.rotate(at(3600), &timing, true, fresh(301)).is_ok(), "and it goes on");
}

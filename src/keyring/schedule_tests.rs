use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn public(n: u32) -> PublicKey {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    PublicKey::from_bytes(&key.to_bytes()).unwrap()
}

fn start(timing: &Timing) -> Ring {
    Ring::first(public(1), public(2), Algorithm::EdDSA, Timestamp::from_seconds(1_000_000), timing)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + seconds)
}

#[test]
fn the_standby_waits_until_it_has_been_published_long_enough() {
    let timing = Timing::default();
    let ring = start(&timing);
    let fresh = (public(3), Algorithm::Ed25519);
    let just_before = at(1200).minus(Duration::from_millis(1));
    assert_eq!(ring.rotate(fresh, just_before, &timing, false), Err(TooEarly { earliest: at(1200) }));
    let next = ring.rotate(fresh, at(1200), &timing, false).unwrap();
    assert_eq!(next.active().kid, ring.standby().kid);
    assert_eq!(next.standby().algorithm, Algorithm::Ed25519);
    assert_eq!(next.earliest_rotation(&timing), at(2400));
    assert_eq!(ring.rotate(fresh, at(0), &timing, true).unwrap().active().kid, ring.standby().kid, "forced");
}

#[test]
fn a_clock_put_back_makes_nothing_earlier() {
    let timing = Timing::default();
    let before = Timestamp::from_seconds(5);
    let ring = start(&timing);
    assert!(ring.rotate((public(3), Algorithm::EdDSA), before, &timing, false).is_err());
    assert_eq!(ring.sweep(before), ring);
}

#[test]
fn a_retiring_key_stays_until_its_last_token_has_expired_everywhere() {
    let timing = Timing::default();
    let ring = start(&timing).rotate((public(3), Algorithm::EdDSA), at(1200), &timing, false).unwrap();
    let gone = 1200 + 300 + 60 + 300;
    assert_eq!(ring.sweep(at(gone).minus(Duration::from_millis(1))), ring);
    let swept = ring.sweep(at(gone));
    assert_eq!(swept.keys()[0].state, KeyState::Retired);
    assert_eq!(swept.keys()[0].retired, Some(at(gone)));
}

#[test]
fn a_shorter_token_life_does_not_shorten_the_life_of_a_key_that_signed_longer_ones() {
    let long = Timing { token_life: Duration::from_secs(3600), ..Timing::default() };
    let short = Timing { token_life: Duration::from_secs(60), ..Timing::default() };
    let ring = start(&long).signing_for(short.token_life);
    let ring = ring.rotate((public(3), Algorithm::EdDSA), at(1200), &short, false).unwrap();
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
    assert_eq!(broken(|k| k.truncate(1)), RingError::NoStandby);
    assert_eq!(broken(|k| drop(k.remove(0))), RingError::Active(0));
    assert_eq!(broken(Vec::clear), RingError::Active(0));
    assert_eq!(broken(|k| k.push(k[1].clone())), RingError::Twice);
    assert_eq!(broken(|k| k[1].kid = "other".parse().unwrap()), RingError::NotTheThumbprint);
    assert_eq!(broken(|k| k[0].activated = None), RingError::Times);
    assert_eq!(broken(|k| k[1].retired = Some(Timestamp::from_millis(1))), RingError::Times);
    let two_active = |k: &mut Vec<KeyInfo>| (k[1].state, k[1].activated) = (KeyState::Active, k[0].activated);
    assert_eq!(broken(two_active), RingError::Active(2));
}

#[test]
fn retired_keys_are_remembered_up_to_a_cap() {
    let timing = Timing::default();
    let mut ring = start(&timing);
    for n in 0..MAX_RETIRED as u32 + 10 {
        let now = at(100_000 * u64::from(n + 1));
        ring = ring.sweep(now).rotate((public(n + 3), Algorithm::EdDSA), now, &timing, false).unwrap();
    }
    let retired = ring.keys().iter().filter(|k| k.state == KeyState::Retired).count();
    assert_eq!(retired, MAX_RETIRED);
    assert!(ring.find(&public(1).thumbprint()).is_none() && ring.find(&public(260).thumbprint()).is_some());
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Rotate { force: bool },
    Sweep,
    Restart { token_life: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4000u64).prop_map(Step::Wait),
        any::<bool>().prop_map(|force| Step::Rotate { force }),
        Just(Step::Sweep),
        (1..7200u64).prop_map(|token_life| Step::Restart { token_life }),
    ]
}

/// What a verifier could complain of, remembered apart from the ring.
struct Watch {
    /// When each key was last used, and when the last token it signed is refused by all.
    needed_until: std::collections::HashMap<Kid, Timestamp>,
}

impl Watch {
    fn look(&mut self, ring: &Ring, now: Timestamp, timing: &Timing) {
        let count = |s| ring.keys().iter().filter(|k| k.state == s).count();
        assert_eq!(count(KeyState::Active), 1);
        assert!(count(KeyState::Pending) >= 1);
        let expires = now.plus(timing.token_life).plus(timing.leeway);
        let latest = self.needed_until.entry(ring.active().kid.clone()).or_insert(expires);
        *latest = expires.max(*latest);
        for (kid, until) in &self.needed_until {
            let published = ring.find(kid).is_some_and(KeyInfo::is_published);
            assert!(published || *until <= now, "{kid} is still needed");
        }
    }
}

fn moved_on(before: &Ring, after: &Ring) {
    for old in before.keys() {
        if let Some(new) = after.find(&old.kid) {
            assert!(new.state >= old.state, "a key went back");
            assert_eq!((new.created, new.published, new.algorithm), (old.created, old.published, old.algorithm));
        }
    }
}

proptest! {
    #[test]
    fn every_history_keeps_one_signer_a_standby_and_every_key_that_is_needed(steps in prop::collection::vec(step(), 1..60)) {
        let mut timing = Timing::default();
        let (mut ring, mut now, mut n) = (start(&timing), at(0), 2);
        let mut watch = Watch { needed_until: Default::default() };
        watch.look(&ring, now, &timing);
        for step in steps {
            let before = ring.clone();
            match step {
                Step::Wait(seconds) => now = now.plus(Duration::from_secs(seconds)),
                Step::Sweep => ring = ring.sweep(now),
                Step::Restart { token_life } => {
                    timing.token_life = Duration::from_secs(token_life);
                    ring = Ring::restore(ring.keys().to_vec()).unwrap().signing_for(timing.token_life);
                }
                Step::Rotate { force } => {
                    n += 1;
                    if let Ok(next) = ring.rotate((public(n), Algorithm::EdDSA), now, &timing, force) {
                        let published = ring.find(&next.active().kid).unwrap().published;
                        prop_assert!(force || now.since(published) >= timing.publish_ahead);
                        ring = next;
                    }
                }
            }
            moved_on(&before, &ring);
            watch.look(&ring, now, &timing);
            prop_assert_eq!(&Ring::restore(ring.keys().to_vec()).unwrap(), &ring);
        }
    }
}

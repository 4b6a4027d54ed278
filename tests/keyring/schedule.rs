//! What happens to keys by itself, and which clocks it believes.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn weekly() -> Settings {
    Settings { timing: Timing { rotate_every: Some(7 * DAY), ..Timing::default() }, ..Settings::default() }
}

fn open(home: &Home) -> Keyring {
    home.open_as(None, weekly()).unwrap()
}

fn due(ring: &Keyring) -> bool {
    ring.rotate_if_due().unwrap().is_some()
}

#[test]
fn a_key_signs_for_a_period_and_then_the_next_one_does() {
    let home = Home::new();
    let ring = open(&home);
    let first = ring.signer().kid().clone();
    home.clock.advance(7 * DAY - Duration::from_millis(1));
    assert!(!due(&ring));
    assert_eq!(ring.plan()[0].at, home.clock.now().plus(Duration::from_millis(1)));
    home.clock.advance(Duration::from_millis(1));
    assert!(due(&ring) && !due(&ring), "once");
    assert_ne!(ring.signer().kid(), &first);
    assert_eq!(ring.plan()[0].at, home.clock.now().plus(11 * MINUTE), "the old one leaves next");
    assert_eq!(home.open_as(None, weekly()).unwrap().list(), ring.list());
}

#[test]
fn what_was_slept_through_is_made_up_for_once() {
    let home = Home::new();
    let ring = open(&home);
    home.clock.advance(60 * DAY);
    assert!(due(&ring) && !due(&ring));
    home.clock.advance(6 * DAY);
    assert!(!due(&ring), "a period begins with the change, not with the one that was missed");
    drop(ring);
    home.clock.advance(60 * DAY);
    let ring = open(&home);
    assert!(!due(&ring), "a program that has only just started has not published anything for long");
    let next = ring.plan().into_iter().find(|planned| planned.step.name() == "activate").unwrap();
    assert_eq!(next.at, home.clock.now().plus(20 * MINUTE), "and says so");
    home.clock.advance(20 * MINUTE);
    assert!(due(&ring) && !due(&ring));
}

#[test]
fn a_clock_that_leaps_ahead_makes_no_key_sign_before_it_is_known() {
    let home = Home::new();
    let ring = open(&home);
    home.clock.advance(20 * MINUTE);
    let rotated = ring.rotate(false).unwrap();
    // The wall clock leaps by a year: all is due by it, and the standby that is new looks old.
    home.clock.jump(365 * DAY);
    assert!(!due(&ring), "it would leave no standby that is known");
    let known = ring.rotate(false).expect("an operator may: the other standby has been known for long").active;
    assert_ne!(known, rotated.pending);
    home.clock.jump(365 * DAY);
    let Err(ChangeError::Refused(StepError::TooEarly(early))) = ring.rotate(false) else { panic!("it is new") };
    assert_eq!(early.earliest, home.clock.now().plus(20 * MINUTE), "and this one not, unless by force");
    assert!(!due(&ring));
    home.clock.advance(20 * MINUTE);
    assert!(due(&ring));
    assert_eq!(ring.signer().kid(), &rotated.pending);
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_a_key_signing() {
    let home = Home::new();
    let ring = open(&home);
    home.clock.jump_back(365 * DAY);
    home.clock.advance(7 * DAY - Duration::from_secs(1));
    assert!(!due(&ring));
    home.clock.advance(Duration::from_secs(1));
    assert!(due(&ring), "a week is a week");
    assert_serves(&ring);
}

#[test]
fn a_rollback_is_not_undone_by_the_schedule_at_once() {
    let home = Home::new();
    let ring = open(&home);
    home.clock.advance(7 * DAY);
    assert!(due(&ring));
    ring.change(&Order::RollBack, false).unwrap();
    home.clock.advance(6 * DAY);
    assert!(!due(&ring));
    home.clock.advance(DAY);
    assert!(due(&ring));
}

#[test]
fn a_disk_that_refuses_is_tried_again_and_the_old_key_signs_meanwhile() {
    let home = Home::new();
    let ring = open(&home);
    let old = ring.signer().kid().clone();
    home.clock.advance(7 * DAY);
    let obstacle = home.file(".keyring.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    let files = home.files_but(".keyring.json.tmp");
    assert!(matches!(ring.rotate_if_due(), Err(ChangeError::Failed(_))));
    for _ in 0..100 {
        assert!(!due(&ring), "not at every look");
    }
    assert_eq!((ring.signer().kid(), home.files_but(".keyring.json.tmp")), (&old, files), "and nothing is left lying");
    fs::remove_dir(&obstacle).unwrap();
    home.clock.advance(Duration::from_secs(30));
    assert!(due(&ring));
    assert_ne!(ring.signer().kid(), &old);
}

#[test]
fn without_a_schedule_nothing_happens_by_itself() {
    let home = Home::new();
    let ring = home.open().unwrap();
    home.clock.advance(3650 * DAY);
    assert!(!due(&ring) && ring.plan().is_empty());
}

#[test]
fn a_schedule_that_cannot_be_kept_is_refused_at_the_start() {
    let home = Home::new();
    let timing = Timing { rotate_every: Some(MINUTE), ..Timing::default() };
    let refused = home.open_as(None, Settings { timing, ..Settings::default() }).unwrap_err();
    assert!(matches!(refused, KeyringError::Unsound(TimingError::RotateEvery { .. })), "{refused}");
    assert!(!home.keys().exists(), "before anything is made");
}

#[test]
fn after_a_clock_that_was_set_back_an_emergency_still_finds_the_standby_that_is_known() {
    let home = Home::new();
    let ring = home.open().unwrap();
    home.clock.advance(20 * MINUTE);
    let known: Vec<Kid> = ring.list().into_iter().map(|key| key.kid).collect();
    home.clock.jump_back(60 * MINUTE);
    let rotated = ring.rotate(true).unwrap();
    let change = ring.change(&Order::Step(rescind::keyring::Step::Compromise, rotated.active), true).unwrap();
    assert!(known.contains(&change.active), "not the one of this moment, which looks older");
}

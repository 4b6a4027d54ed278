//! Keys that nodes share, where the store that they are shared through fails in every way that it can: here it is a
//! register, so that each failure comes when it is to come.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rescind::{
    clock::{ManualClock, SystemRandom},
    keyring::{FRESH, Kept, KeyState, Keyring, KeyringError, Order, Settings, SharedKey, SharedKeys, Timing, Unshared},
};

use crate::common::START;

/// What a store does to whoever asks it next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mood {
    #[default]
    Well,
    /// It does not answer.
    Away,
    /// It writes, and its answer is lost.
    Mute,
    /// It answers, and nobody can be certain that it is the store.
    Deposed,
}

#[derive(Clone, Debug, Default)]
struct Register(Arc<Mutex<(Option<Vec<u8>>, Mood)>>);

impl Register {
    fn is(&self, mood: Mood) {
        self.0.lock().unwrap().1 = mood;
    }
    fn holds(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap().0.clone()
    }
    fn put(&self, sealed: Option<Vec<u8>>) {
        self.0.lock().unwrap().0 = sealed;
    }
}

impl SharedKeys for Register {
    fn read(&self) -> Result<Kept, Unshared> {
        let (sealed, mood) = self.0.lock().unwrap().clone();
        match mood {
            Mood::Away => Err(Unshared("away".into())),
            mood => Ok(Kept { sealed, current: mood != Mood::Deposed }),
        }
    }
    fn replace(&self, seen: Option<&[u8]>, sealed: &[u8], again: bool) -> Result<bool, Unshared> {
        let mut register = self.0.lock().unwrap();
        if register.1 == Mood::Away || (register.1 == Mood::Deposed && !again) {
            return Err(Unshared("away".into()));
        }
        if register.0.as_deref() != seen {
            return Ok(false);
        }
        register.0 = Some(sealed.to_vec());
        if register.1 == Mood::Mute { Err(Unshared("no answer".into())) } else { Ok(true) }
    }
}

/// What a bundle begins with: its kind, version and tag.
const HEAD: usize = 15 + 8 + 16;

struct Site {
    store: Register,
    clock: Arc<ManualClock>,
    key: String,
    dir: tempfile::TempDir,
}

fn settings() -> Settings {
    let timing = Timing { spread: FRESH, rotate_every: Some(Duration::from_secs(86_400)), ..Timing::default() };
    Settings { timing, ..Settings::default() }
}

impl Site {
    fn new() -> Self {
        let (store, clock) = (Register::default(), Arc::new(ManualClock::new(START)));
        let key = SharedKey::generate(&SystemRandom).to_string();
        let site = Self { store, clock, key, dir: tempfile::tempdir().unwrap() };
        let made = Keyring::share(&site.place("a"), None, site.key(), settings(), &*site.clock, &SystemRandom);
        assert!(made.unwrap());
        site
    }
    fn place(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
    fn key(&self) -> SharedKey {
        SharedKey::read(&self.key).unwrap()
    }
    fn open(&self, name: &str) -> Result<Keyring, KeyringError> {
        let (clock, random) = (self.clock.clone(), Arc::new(SystemRandom));
        Keyring::open_shared(&self.place(name), self.key(), Box::new(self.store.clone()), settings(), clock, random)
    }
    fn node(&self, name: &str) -> Keyring {
        self.open(name).unwrap()
    }
}

fn same(a: &Keyring, b: &Keyring) {
    assert_eq!(a.list(), b.list());
    assert_eq!(a.secrets().len(), b.secrets().len());
    assert_eq!(a.signer().kid(), b.signer().kid());
    assert_eq!(a.following().unwrap().version, b.following().unwrap().version);
}

#[test]
fn the_first_node_gives_and_the_others_take() {
    let site = Site::new();
    let said = site.open("b").err().unwrap().to_string();
    assert!(said.contains("keys share"), "nobody makes new keys by itself: {said}");
    let a = site.node("a");
    assert!(site.store.holds().is_some() && a.confirmed().is_ok());
    let b = site.node("b");
    same(&a, &b);
    assert_eq!(a.installation(), b.installation());
    let sealed = std::fs::read(site.place("b").join("keyring.sealed")).unwrap();
    assert_eq!(Some(sealed), site.store.holds());
}

#[test]
fn nothing_is_signed_by_keys_that_nobody_has_confirmed_lately() {
    let site = Site::new();
    let a = site.node("a");
    site.clock.advance(FRESH - Duration::from_millis(1));
    assert!(a.confirmed().is_ok());
    site.clock.advance(Duration::from_millis(1));
    assert!(a.confirmed().is_err());
    for mood in [Mood::Away, Mood::Deposed] {
        site.store.is(mood);
        assert!(a.take_up().is_err() && a.confirmed().is_err(), "{mood:?}");
        // It starts all the same, from its copy, and signs nothing.
        assert!(site.node("a").confirmed().is_err());
    }
    assert!(a.change(&Order::Rotate, true).is_err(), "nothing is changed there either");
    site.store.is(Mood::Well);
    a.take_up().unwrap();
    assert!(a.confirmed().is_ok());
    site.clock.suspend(FRESH);
    assert!(a.confirmed().is_err(), "a machine that slept does not know either");
}

#[test]
fn of_two_changes_to_the_same_version_one_is_made_after_the_other() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    let first = a.rotate(true).unwrap();
    // It has not heard of it, and finds out.
    let second = b.rotate(true).unwrap();
    assert_eq!(second.retiring, first.active);
    a.take_up().unwrap();
    same(&a, &b);
    assert_eq!(a.list().iter().filter(|k| k.state == KeyState::Active).count(), 1);
}

#[test]
fn a_rotation_that_is_due_is_made_by_one_node() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    site.clock.advance(Duration::from_secs(2 * 86_400));
    let rotated = [&a, &b].map(|node| node.rotate_if_due().unwrap());
    assert!(rotated[0].is_some() && rotated[1].is_none());
    same(&a, &b);
    assert_eq!(site.node("c").list().iter().filter(|k| k.state == KeyState::Retiring).count(), 1);
}

#[test]
fn an_answer_that_was_lost_is_made_up_for_and_told_of() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    let before = a.signer().kid().clone();
    site.store.is(Mood::Mute);
    assert!(a.rotate(true).is_err());
    assert_eq!(*a.signer().kid(), before, "nobody knows yet");
    site.store.is(Mood::Well);
    let told = a.take_up().unwrap();
    assert_eq!(told.len(), 1, "it was made, and by this node");
    assert_ne!(*a.signer().kid(), before);
    assert!(b.take_up().unwrap().is_empty());
    same(&a, &b);
}

#[test]
fn a_store_is_given_again_what_it_has_lost_and_never_what_is_older() {
    let site = Site::new();
    let a = site.node("a");
    let old = site.store.holds();
    a.rotate(true).unwrap();
    let newest = site.store.holds();
    for lost in [None, old.clone()] {
        site.store.put(lost);
        a.take_up().unwrap();
        assert_eq!(site.store.holds(), newest);
    }
    assert_eq!(a.following().unwrap().given_again, 2);
    // A copy that is put back is older than the store.
    std::fs::write(site.place("a").join("keyring.sealed"), old.unwrap()).unwrap();
    let back = site.node("a");
    same(&a, &back);
    assert_eq!(site.store.holds(), newest);
}

#[test]
fn a_change_that_perhaps_only_a_deposed_server_has_is_not_taken_up() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    let (before, signer) = (site.store.holds(), a.signer().kid().clone());
    b.rotate(true).unwrap();
    site.store.is(Mood::Deposed);
    assert!(a.take_up().is_err());
    assert_eq!((a.following().unwrap().version, a.signer().kid()), (1, &signer));
    // Nobody else ever had it.
    site.store.is(Mood::Well);
    site.store.put(before);
    a.rotate(true).unwrap();
    assert!(a.confirmed().is_ok());
    // A node that has none yet takes what there is, and signs nothing.
    site.store.is(Mood::Deposed);
    assert!(site.node("c").confirmed().is_err());
}

#[test]
fn changes_that_parted_are_never_taken_for_each_other() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    let before = site.store.holds();
    a.rotate(true).unwrap();
    // The store loses it, and another node makes one from the same version.
    site.store.put(before);
    b.rotate(true).unwrap();
    let theirs = site.store.holds();
    assert!(matches!(a.take_up(), Err(KeyringError::Parted { .. })));
    site.clock.advance(FRESH);
    assert!(a.confirmed().is_err());
    assert_eq!(site.store.holds(), theirs);
}

#[test]
fn a_bundle_that_was_altered_or_is_anothers_is_not_taken() {
    let site = Site::new();
    let a = site.node("a");
    let sealed = site.store.holds().unwrap();
    for at in (0..sealed.len()).step_by(7) {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        site.store.put(Some(altered.clone()));
        assert!(site.open("b").is_err(), "byte {at}");
        // What says that it is the same, and is not, is given again; of all else nobody knows what it was.
        let says_the_same = at >= HEAD;
        assert_eq!(a.take_up().is_ok(), says_the_same, "byte {at}");
        assert_eq!(site.store.holds(), Some(if says_the_same { sealed.clone() } else { altered }), "byte {at}");
    }
    site.store.put(Some(sealed));
    let other = Site::new();
    let theirs = Keyring::share(&site.place("x"), None, site.key(), settings(), &*site.clock, &SystemRandom);
    assert!(theirs.unwrap() && other.store.holds().is_none());
    site.store.put(Some(std::fs::read(site.place("x").join("keyring.sealed")).unwrap()));
    assert!(matches!(a.take_up(), Err(KeyringError::InStoreOthers { .. } | KeyringError::Parted { .. })));
}

#[test]
fn the_shared_key_is_replaced_while_all_serve() {
    let mut site = Site::new();
    let old = site.key.clone();
    let a = site.node("a");
    let new = SharedKey::generate(&SystemRandom).to_string();
    // First everyone gets both; the next change is sealed under the new one.
    site.key = format!("{new}\n{old}\n");
    let b = site.node("b");
    b.rotate(true).unwrap();
    site.key = new;
    same(&b, &site.node("c"));
    assert!(a.take_up().is_err(), "who has the old one alone is left behind");
    for bad in ["", "x", "AAAA", &format!("{old}\n{old}\n{old}")] {
        assert!(SharedKey::read(bad).is_err());
    }
}

#[test]
fn keys_of_one_node_become_those_of_all() {
    let site = Site::new();
    let place = site.place("alone");
    let (clock, random) = (site.clock.clone(), Arc::new(SystemRandom));
    let alone = Keyring::open(&place, None, settings(), clock.clone(), random.clone()).unwrap();
    let share = || Keyring::share(&place, None, site.key(), settings(), &*site.clock, &SystemRandom).unwrap();
    assert!(share() && !share(), "once");
    let names = |dir: &Path| -> Vec<_> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(&place), ["keyring.sealed"], "no key lies open beside it");
    let shared = Keyring::open_shared(
        &place,
        site.key(),
        Box::new(Register::default()),
        settings(),
        clock.clone(),
        random.clone(),
    );
    let shared = shared.unwrap();
    assert_eq!(alone.list(), shared.list());
    assert_eq!(alone.installation(), shared.installation());
    // And nobody opens them as if they were one node's.
    let said = Keyring::open(&place, None, settings(), clock, random).err().unwrap().to_string();
    assert!(said.contains("shared through a Redis"), "{said}");
}

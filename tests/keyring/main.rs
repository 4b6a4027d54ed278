//! Keys on disk, as an operator, a crash and an attacker meet them.
#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, reason = "helpers fail as the tests that call them do")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, mpsc},
    thread,
    time::Duration,
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rescind::{
    clock::{Clock, ManualClock, Random, SystemRandom},
    keyring::{
        Change, ChangeError, KeyState, Keyring, KeyringError, Order, Passphrase, Settings, StepError, Timing,
        TimingError,
    },
    model::{Algorithm, Kid, PublicKey, SessionId, Timestamp},
};
use tempfile::TempDir;

mod orders;
mod schedule;
mod secrets;

const MINUTE: Duration = Duration::from_secs(60);

type Files = BTreeMap<String, Vec<u8>>;

struct Home {
    dir: TempDir,
    clock: Arc<ManualClock>,
}

impl Home {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
        Self { dir: tempfile::tempdir().unwrap(), clock }
    }
    fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }
    fn open(&self) -> Result<Keyring, KeyringError> {
        self.open_as(None, Settings::default())
    }
    fn open_with(&self, passphrase: &str) -> Result<Keyring, KeyringError> {
        self.open_as(Some(passphrase), Settings::default())
    }
    fn open_as(&self, passphrase: Option<&str>, settings: Settings) -> Result<Keyring, KeyringError> {
        let passphrase = passphrase.map(|p| Passphrase::new(p.to_owned()).unwrap());
        Keyring::open(&self.keys(), passphrase, settings, self.clock.clone(), Arc::new(SystemRandom))
    }
    fn file(&self, name: &str) -> PathBuf {
        self.keys().join(name)
    }
    fn pem_of(&self, kid: impl std::fmt::Display) -> PathBuf {
        self.file(&format!("{kid}.pem"))
    }
    fn files_but(&self, name: &str) -> Vec<String> {
        let names = fs::read_dir(self.keys()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|n| n != name).collect();
        names.sort();
        names
    }
    fn files(&self) -> Files {
        let read = |e: fs::DirEntry| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap());
        fs::read_dir(self.keys()).unwrap().map(|e| read(e.unwrap())).collect()
    }
    /// Makes the directory hold exactly these files.
    fn lay_out(&self, files: &Files) {
        let _ = fs::remove_dir_all(self.keys());
        fs::create_dir_all(self.keys()).unwrap();
        set_mode(&self.keys(), 0o700);
        for (name, bytes) in files {
            fs::write(self.file(name), bytes).unwrap();
            set_mode(&self.file(name), 0o600);
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn published(ring: &Keyring) -> Vec<String> {
    ring.jwks().set.keys.iter().map(|k| k.kid.to_string()).collect()
}

fn states(ring: &Keyring) -> Vec<KeyState> {
    ring.list().iter().map(|k| k.state).collect()
}

/// The keys whose life is over since.
fn ended(change: Change) -> Vec<Kid> {
    change.now(KeyState::Destroyed).cloned().collect()
}

/// Exactly one key signs, its signature verifies under the published set, and a standby is there.
fn assert_serves(ring: &Keyring) {
    let count = |s| states(ring).iter().filter(|x| **x == s).count();
    assert_eq!(count(KeyState::Active), 1);
    assert!(count(KeyState::Pending) >= 2, "one that is known also right after a rotation");
    let (signer, jwks) = (ring.signer(), ring.jwks());
    let jwk = jwks.set.keys.iter().find(|k| k.kid == *signer.kid()).expect("the signing key is published");
    assert_eq!(jwk.algorithm, signer.algorithm());
    assert!(jwk.key.verifies(b"message", &signer.sign(b"message").unwrap()));
}

// --- the life of keys

#[test]
fn first_start_makes_everything_for_the_owner_alone() {
    let home = Home::new();
    let ring = home.open().unwrap();
    assert_serves(&ring);
    assert_eq!(states(&ring), [KeyState::Active, KeyState::Pending, KeyState::Pending]);
    assert_eq!(mode(&home.keys()), 0o700);
    let files = home.files();
    assert_eq!(files.len(), 5, "{:?}", files.keys());
    for name in files.keys() {
        assert_eq!(mode(&home.file(name)), 0o600, "{name}");
    }
}

#[test]
fn a_directory_from_a_checkout_is_closed_to_others_and_its_files_stay() {
    let home = Home::new();
    fs::create_dir(home.keys()).unwrap();
    set_mode(&home.keys(), 0o755);
    let foreign = ["README.md", "tls.pem", ".gitignore", ".other.tmp"];
    for name in foreign {
        fs::write(home.file(name), name).unwrap();
    }
    drop(home.open().unwrap());
    drop(home.open().unwrap());
    assert_eq!(mode(&home.keys()), 0o700);
    for name in foreign {
        assert_eq!(fs::read(home.file(name)).unwrap(), name.as_bytes());
    }
}

#[test]
fn everything_is_the_same_after_a_restart() {
    for passphrase in [None, Some("correct horse")] {
        let home = Home::new();
        let open = || home.open_as(passphrase, Settings::default()).unwrap();
        let first = open();
        let sid = SessionId::new(Timestamp::from_millis(7), &[1; 10]);
        let secret = first.current_derivation().secret(sid, 4, &[5; 16]);
        let sealed = first.sealer().seal(b"family", b"alice", &SystemRandom);
        let subject = "alice".parse().unwrap();

        let again = open();
        assert_eq!(again.signer().kid(), first.signer().kid());
        assert_eq!((again.jwks(), again.list()), (first.jwks(), first.list()));
        let id = first.current_derivation().id();
        assert!(id != 0 && again.derivation(id ^ 1).is_none());
        assert!(again.derivation(id).unwrap().is_secret(sid, 4, &[5; 16], &secret));
        assert_eq!(again.sealer().open(b"family", &sealed).unwrap(), b"alice");
        assert_eq!(again.subject_refs().refer(&subject), first.subject_refs().refer(&subject));
    }
}

#[test]
fn two_installations_share_nothing() {
    let (a, b) = (Home::new().open().unwrap(), Home::new().open().unwrap());
    let sid = SessionId::new(Timestamp::from_millis(7), &[1; 10]);
    let subject = "alice".parse().unwrap();
    assert_ne!(a.current_derivation().secret(sid, 1, &[0; 16]), b.current_derivation().secret(sid, 1, &[0; 16]));
    assert_ne!(a.subject_refs().refer(&subject), b.subject_refs().refer(&subject));
    assert!(b.sealer().open(b"", &a.sealer().seal(b"", b"x", &SystemRandom)).is_err());
    assert_ne!(a.installation(), b.installation());
}

#[test]
fn the_name_of_an_installation_needs_no_passphrase_and_outlives_rotations() {
    let home = Home::new();
    assert_eq!(Keyring::installation_of(&home.keys()).unwrap(), None);
    assert!(!home.keys().exists(), "asked, not made");
    let ring = home.open_with("correct horse").unwrap();
    let name = ring.installation();
    assert_eq!(Keyring::installation_of(&home.keys()).unwrap(), Some(name));
    ring.rotate(true).unwrap();
    drop(ring);
    assert_eq!(Keyring::installation_of(&home.keys()).unwrap(), Some(name));
    assert_eq!(home.open_with("correct horse").unwrap().installation(), name);
}

#[test]
fn a_key_goes_through_its_life_and_is_gone_at_the_end() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let first = ring.signer().kid().clone();
    let before = ring.jwks();
    let Err(ChangeError::Refused(StepError::TooEarly(early))) = ring.rotate(false) else {
        panic!("the standby is new")
    };
    assert_eq!(early.earliest, home.clock.now().plus(20 * MINUTE));
    assert_eq!(ring.jwks(), before);

    home.clock.advance(20 * MINUTE);
    let rotated = ring.rotate(false).unwrap();
    assert_eq!((&rotated.retiring, &rotated.active), (&first, ring.signer().kid()));
    assert_eq!(states(&ring), [KeyState::Retiring, KeyState::Active, KeyState::Pending, KeyState::Pending]);
    assert_eq!(published(&ring).len(), 4);
    assert_eq!(
        (published(&ring)[0].clone(), published(&ring)[3].clone()),
        (first.to_string(), rotated.pending.to_string())
    );
    assert_ne!(ring.jwks().etag, before.etag);
    assert_serves(&ring);

    home.clock.advance(11 * MINUTE - Duration::from_millis(1));
    assert!(ring.sweep().unwrap().is_empty());
    assert!(home.pem_of(&first).exists());
    home.clock.advance(Duration::from_millis(1));
    assert_eq!(ended(ring.sweep().unwrap()), std::slice::from_ref(&first));
    assert_eq!(ring.state_of(&first), Some(KeyState::Destroyed), "the record stays");
    assert!(!home.pem_of(&first).exists(), "the private key does not");
    assert!(!published(&ring).contains(&first.to_string()) && published(&ring).len() == 3);
    let again = home.open().unwrap();
    assert_eq!((again.list(), again.jwks()), (ring.list(), ring.jwks()));
    assert_eq!(again.signer().kid(), &rotated.active);
}

#[test]
fn a_rotation_is_on_disk_when_it_returns() {
    let home = Home::new();
    let ring = home.open().unwrap();
    for _ in 0..3 {
        let rotated = ring.rotate(true).unwrap();
        let again = home.open().unwrap();
        assert_eq!(again.signer().kid(), &rotated.active);
        assert_eq!(again.list(), ring.list());
        assert_serves(&again);
    }
}

#[test]
fn the_published_set_says_what_it_is() {
    let ring = Home::new().open().unwrap();
    let jwks = ring.jwks();
    assert_eq!(ring.jwks_max_age(), 5 * MINUTE);
    assert!(jwks.etag.starts_with('"') && jwks.etag.ends_with('"') && jwks.etag.len() == 45);
    let json: serde_json::Value = serde_json::from_slice(&jwks.json).unwrap();
    let signer = ring.signer();
    let expected = serde_json::json!({
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
        "kid": signer.kid(), "x": signer.public_key().x(),
    });
    assert_eq!(json["keys"][0], expected, "and no private half");
}

#[test]
fn an_algorithm_name_belongs_to_its_key_for_life() {
    let home = Home::new();
    let kid = home.open().unwrap().signer().kid().clone();
    let ring = home.open_as(None, Settings { algorithm: Algorithm::Ed25519, ..Settings::default() }).unwrap();
    assert_eq!(ring.signer().algorithm(), Algorithm::EdDSA);
    let rotated = ring.rotate(true).unwrap();
    let named = |kid| ring.list().into_iter().find(|k| k.kid == kid).unwrap().algorithm;
    assert_eq!([named(kid), named(rotated.active)], [Algorithm::EdDSA; 2]);
    assert_eq!(named(rotated.pending), Algorithm::Ed25519);
}

#[test]
fn tokens_of_a_longer_life_are_remembered_across_a_restart() {
    let home = Home::new();
    let living = |minutes| {
        let timing = Timing { token_life: minutes * MINUTE, ..Timing::default() };
        home.open_as(None, Settings { timing, ..Settings::default() }).unwrap()
    };
    drop(living(5));
    drop(living(60));
    let ring = living(1);
    let old = ring.rotate(true).unwrap().retiring;
    home.clock.advance(65 * MINUTE);
    assert!(ring.sweep().unwrap().is_empty(), "a token of the hour could still be good");
    home.clock.advance(MINUTE);
    assert_eq!(ended(ring.sweep().unwrap()), [old]);
}

#[test]
fn a_schedule_that_signs_before_caches_end_is_refused() {
    let timing = Timing { publish_ahead: 4 * MINUTE, ..Timing::default() };
    let refused = Home::new().open_as(None, Settings { timing, ..Settings::default() }).unwrap_err();
    assert!(refused.to_string().contains("publish_ahead (4m)"), "{refused}");
}

#[test]
fn ephemeral_keys_do_all_but_last() {
    let clock = Home::new().clock;
    let ring = Keyring::ephemeral(Settings::default(), clock.clone(), Arc::new(SystemRandom)).unwrap();
    assert_serves(&ring);
    clock.advance(20 * MINUTE);
    ring.rotate(false).unwrap();
    clock.advance(11 * MINUTE);
    assert_eq!(ended(ring.sweep().unwrap()).len(), 1);
    assert_serves(&ring);
}

// --- what others may reach

#[test]
fn whatever_others_can_reach_is_refused_and_the_message_mends_it() {
    let home = Home::new();
    let kid = home.open().unwrap().signer().kid().clone();
    for path in [home.pem_of(kid), home.file("keyring.json"), home.file("secrets.json"), home.keys()] {
        for extra in [0o040, 0o004, 0o020, 0o002] {
            let good = mode(&path);
            set_mode(&path, good | extra);
            let refused = home.open().unwrap_err().to_string();
            let (_, remedy) = refused.split_once("mend it with: ").expect(&refused);
            assert!(remedy.starts_with("chmod "), "{refused}");
            assert!(Command::new("sh").args(["-c", remedy]).status().unwrap().success());
            assert_eq!(mode(&path), good);
            assert_serves(&home.open().unwrap());
        }
    }
}

// --- passphrase

#[test]
fn keys_under_a_passphrase_need_it() {
    let home = Home::new();
    drop(home.open_with("correct horse").unwrap());
    assert!(matches!(home.open(), Err(KeyringError::PassphraseNeeded { .. })));
    assert!(matches!(home.open_with("wrong horse"), Err(KeyringError::PassphraseWrong { .. })));
    assert_serves(&home.open_with("correct horse\n").unwrap());
    assert!(home.files().values().all(|b| !String::from_utf8_lossy(b).contains("BEGIN PRIVATE KEY")));
}

#[test]
fn a_passphrase_given_later_encrypts_what_is_there() {
    let home = Home::new();
    let plain = home.open().unwrap();
    let (sealed, secrets) = (plain.sealer().seal(b"", b"alice", &SystemRandom), secrets_of(&home));
    assert_eq!(home.open_with("correct horse").unwrap().list(), plain.list());
    assert!(matches!(home.open(), Err(KeyringError::PassphraseNeeded { .. })));
    let files: String = home.files().values().map(|b| String::from_utf8_lossy(b).into_owned()).collect();
    assert!(!files.contains("BEGIN PRIVATE KEY"));
    assert!(secrets.iter().flat_map(|s| spellings(s)).all(|s| !files.contains(&s)));
    assert_eq!(home.open_with("correct horse").unwrap().sealer().open(b"", &sealed).unwrap(), b"alice");
}

// --- the feed's key

#[test]
fn the_feed_has_a_key_of_its_own_for_life() {
    let home = Home::new();
    let first = home.open().unwrap();
    let key = first.feed_key();
    let set = first.feed_jwks();
    assert_eq!((set.keys.len(), &set.keys[0].kid), (1, key.kid()));
    assert_eq!(*key.kid(), set.keys[0].key.thumbprint());
    assert!(set.keys[0].key.verifies(b"news", &key.sign(b"news")));
    assert!(!first.jwks().set.keys.iter().any(|k| k.kid == *key.kid()), "it is among no keys of tokens");
    assert_eq!(first.state_of(key.kid()), None);
    home.clock.advance(20 * MINUTE);
    first.rotate(false).unwrap();
    assert_eq!(first.feed_jwks(), set, "nor do they move it");
    assert_eq!(home.open().unwrap().feed_jwks(), set);
    assert_ne!(Home::new().open().unwrap().feed_jwks(), set);
}

#[test]
fn a_directory_from_before_the_feed_gets_a_key_for_it_at_its_next_start() {
    for passphrase in [None, Some("correct horse")] {
        let home = Home::new();
        let first = home.open_as(passphrase, Settings::default()).unwrap();
        let mut secrets: serde_json::Value = serde_json::from_slice(&home.files()["secrets.json"]).unwrap();
        secrets.as_object_mut().unwrap().remove("feed").unwrap();
        fs::write(home.file("secrets.json"), secrets.to_string()).unwrap();
        let second = home.open_as(passphrase, Settings::default()).unwrap();
        assert_eq!(second.current_derivation().id(), first.current_derivation().id(), "what was there is kept");
        assert_ne!(second.feed_jwks(), first.feed_jwks());
        assert_eq!(mode(&home.file("secrets.json")), 0o600);
        assert_eq!(home.open_as(passphrase, Settings::default()).unwrap().feed_jwks(), second.feed_jwks());
        assert!(passphrase.is_none() || home.open().is_err(), "sealed like the others");
    }
}

#[test]
fn an_empty_passphrase_is_none() {
    for empty in ["", "\n", "\r\n"] {
        assert!(Passphrase::new(empty.into()).is_err());
    }
}

// --- damage

#[test]
fn a_damaged_file_is_named_and_nothing_is_made_anew() {
    let home = Home::new();
    drop(home.open().unwrap());
    let whole = home.files();
    for (name, bytes) in &whole {
        let (half, short) = (&bytes[..bytes.len() / 2], &bytes[..bytes.len() - 3]);
        for content in [&b""[..], b"{}", b"\0\0\0\0", b"null", b"\xff\xfe", half, short] {
            fs::write(home.file(name), content).unwrap();
            let refused = home.open().unwrap_err();
            assert!(matches!(refused, KeyringError::Garbled { .. }), "{name}: {refused:?}");
            assert!(refused.to_string().contains(name) && refused.to_string().contains("backup"), "{refused}");
        }
        fs::remove_file(home.file(name)).unwrap();
        let refused = home.open().unwrap_err();
        assert!(matches!(refused, KeyringError::Missing { .. }), "{name}: {refused:?}");
        assert!(refused.to_string().contains(name), "{refused}");
        home.lay_out(&whole);
    }
    assert_serves(&home.open().unwrap());
    assert_eq!(home.files(), whole);
}

#[test]
fn any_cut_of_the_manifest_is_an_error() {
    let home = Home::new();
    drop(home.open().unwrap());
    let whole = fs::read(home.file("keyring.json")).unwrap();
    // Without its last line end it is still whole.
    for len in 0..whole.len() - 1 {
        fs::write(home.file("keyring.json"), &whole[..len]).unwrap();
        assert!(home.open().is_err(), "{len} of {}", whole.len());
    }
}

#[test]
fn a_key_under_another_ones_name_is_refused() {
    let home = Home::new();
    let keys = home.open().unwrap().list();
    fs::copy(home.pem_of(&keys[1].kid), home.pem_of(&keys[0].kid)).unwrap();
    let refused = home.open().unwrap_err().to_string();
    assert!(refused.contains("holds another key"), "{refused}");
}

#[test]
fn a_manifest_that_breaks_the_rule_is_refused() {
    let home = Home::new();
    drop(home.open().unwrap());
    let good = fs::read_to_string(home.file("keyring.json")).unwrap();
    let version = ("\"version\": 2", "\"version\": 3");
    for (from, to) in [("\"active\"", "\"pending\""), ("\"pending\"", "\"active\""), version] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        fs::write(home.file("keyring.json"), bad).unwrap();
        assert!(matches!(home.open(), Err(KeyringError::Garbled { .. })), "{from} -> {to}");
    }
}

#[test]
fn a_directory_of_before_two_keys_stood_by_gets_the_second_at_its_next_start() {
    let home = Home::new();
    drop(home.open().unwrap());
    // As the version before wrote it: other members were not there yet, nor was a second standby.
    let mut manifest: serde_json::Value = serde_json::from_slice(&home.files()["keyring.json"]).unwrap();
    manifest["version"] = 1.into();
    let gone = manifest["keys"].as_array_mut().unwrap().pop().unwrap();
    for key in manifest["keys"].as_array_mut().unwrap() {
        for name in ["rolled_back", "destroyed", "compromised"] {
            key.as_object_mut().unwrap().remove(name).unwrap();
        }
    }
    fs::write(home.file("keyring.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    fs::remove_file(home.pem_of(gone["kid"].as_str().unwrap())).unwrap();
    home.clock.advance(20 * MINUTE);
    let ring = home.open().unwrap();
    assert_serves(&ring);
    assert_eq!(ring.signer().kid().as_str(), manifest["keys"][0]["kid"].as_str().unwrap());
    assert_eq!(home.open().unwrap().list(), ring.list());
}

// --- crashes: every prefix of the steps that a change takes, laid out on disk

fn with(files: &Files, more: &[(&str, &[u8])]) -> Files {
    let mut files = files.clone();
    files.extend(more.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())));
    files
}

#[test]
fn a_rotation_cut_off_at_any_step_leaves_one_signer() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let before = home.files();
    let (old, new) = (ring.signer().kid().clone(), ring.rotate(true).unwrap());
    let after = home.files();
    let name = format!("{}.pem", new.pending);
    let temp = format!(".{name}.tmp");
    let (pem, manifest) = (&after[&name][..], &after["keyring.json"][..]);
    let kept = with(&before, &[(&name, pem)]);
    let crashes = [
        (with(&before, &[(&temp, b"")]), &old),
        (with(&before, &[(&temp, &pem[..50])]), &old),
        (with(&before, &[(&temp, pem)]), &old),
        (with(&before, &[(&name, &pem[..50])]), &old),
        (kept.clone(), &old),
        (with(&kept, &[(".keyring.json.tmp", &manifest[..500])]), &old),
        (with(&kept, &[(".keyring.json.tmp", manifest)]), &old),
        (with(&kept, &[("keyring.json", manifest)]), &new.active),
    ];
    for (at, (files, signs)) in crashes.iter().enumerate() {
        home.lay_out(files);
        let ring = home.open().unwrap_or_else(|e| panic!("step {at}: {e}"));
        assert_eq!(ring.signer().kid(), *signs, "step {at}");
        assert_serves(&ring);
        assert_eq!(&home.files(), if *signs == &old { &before } else { &after }, "step {at}: leftovers");
        // Whoever may have signed before the crash is still known to verifiers.
        let known = published(&ring);
        assert!(known.contains(&old.to_string()) && known.contains(&new.active.to_string()), "step {at}");
        ring.rotate(true).unwrap();
        assert_serves(&home.open().unwrap());
    }
}

#[test]
fn a_sweep_cut_off_before_the_key_is_gone_is_finished_by_the_next_start() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let old = ring.rotate(true).unwrap().retiring;
    let before = home.files();
    home.clock.advance(11 * MINUTE);
    ring.sweep().unwrap();
    let after = home.files();
    let pem = format!("{old}.pem");
    home.lay_out(&with(&after, &[(&pem, &before[&pem])]));
    let ring = home.open().unwrap();
    assert_eq!(ring.state_of(&old), Some(KeyState::Destroyed));
    assert_eq!(home.files(), after);
}

#[test]
fn a_first_start_cut_off_at_any_step_is_repeated() {
    let home = Home::new();
    drop(home.open().unwrap());
    let whole = home.files();
    let mut files = with(&Files::new(), &[(".first-start", b"")]);
    let keys = whole.keys().filter(|n| n.ends_with(".pem")).map(String::as_str);
    for name in keys.chain(["secrets.json"]) {
        home.lay_out(&with(&files, &[(&format!(".{name}.tmp"), b"half")]));
        assert_eq!(Keyring::installation_of(&home.keys()).unwrap(), None, "not committed: another will be made");
        assert_serves(&home.open().unwrap());
        files.insert(name.to_owned(), whole[name].clone());
        home.lay_out(&files);
        let ring = home.open().unwrap();
        assert_serves(&ring);
        assert_eq!(home.files().len(), 5, "{:?}", home.files().keys());
        assert_eq!(home.open().unwrap().list(), ring.list());
    }
    home.lay_out(&with(&files, &[("keyring.json", &whole["keyring.json"])]));
    assert_serves(&home.open().unwrap());
    assert_eq!(home.files(), whole, "committed: nothing is made anew");
}

// --- a disk that refuses

#[test]
fn when_the_disk_refuses_the_old_key_still_signs() {
    let home = Home::new();
    let ring = home.open().unwrap();
    home.clock.advance(20 * MINUTE);
    let (files, list, jwks, kid) = (home.files(), ring.list(), ring.jwks(), ring.signer().kid().clone());
    // Root may write anywhere, so not a permission but a directory stands in the way of the manifest.
    let obstacle = home.file(".keyring.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    let refused = ring.rotate(false).unwrap_err();
    assert!(matches!(refused, ChangeError::Failed(KeyringError::Io { .. })), "{refused:?}");
    assert_eq!((ring.list(), ring.jwks(), ring.signer().kid()), (list.clone(), jwks, &kid));
    assert_serves(&ring);

    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(home.files(), files, "and the key that never was is gone");
    assert_eq!(home.open().unwrap().list(), list, "nor has anything changed on disk");
    assert_ne!(ring.rotate(false).unwrap().active, kid, "it goes on when the disk does");
    assert_eq!(home.open().unwrap().list(), ring.list());
}

/// Puts an obstacle in the way of the manifest once keys are being made: the checks before that are over then.
struct Obstruct(PathBuf);

impl Random for Obstruct {
    fn fill(&self, out: &mut [u8]) {
        fs::create_dir_all(&self.0).unwrap();
        SystemRandom.fill(out);
    }
}

#[test]
fn a_first_start_that_the_disk_refuses_is_repeated() {
    let home = Home::new();
    let obstacle = home.file(".keyring.json.tmp");
    let random = Arc::new(Obstruct(obstacle.clone()));
    let refused = Keyring::open(&home.keys(), None, Settings::default(), home.clock.clone(), random).unwrap_err();
    assert!(matches!(refused, KeyringError::Io { .. }), "{refused}");
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(home.files().len(), 5, "keys and secrets come before the manifest, and the mark of a start before them");
    assert_serves(&home.open().unwrap());
    assert!(home.files().contains_key("keyring.json") && home.files().len() == 5);
}

#[test]
fn a_sweep_that_the_disk_refuses_is_made_up_for() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let old = ring.rotate(true).unwrap().retiring;
    home.clock.advance(11 * MINUTE);
    let obstacle = home.file(".keyring.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    assert!(ring.sweep().is_err());
    assert_eq!(ring.state_of(&old), Some(KeyState::Retiring));
    assert!(home.pem_of(&old).exists() && published(&ring).contains(&old.to_string()));
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(ended(ring.sweep().unwrap()), [old]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let home = Home::new();
    fs::write(home.keys(), "a file").unwrap();
    let refused = home.open().unwrap_err();
    assert!(matches!(refused, KeyringError::Io { .. }) && refused.to_string().contains("keys"), "{refused}");
}

// --- threads

/// Random numbers that can be held back: whoever asks for them then waits, as on a slow disk.
#[derive(Default)]
struct Gate {
    tell: Mutex<Option<mpsc::Sender<()>>>,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

impl Random for Gate {
    fn fill(&self, out: &mut [u8]) {
        let closed = self.closed.lock().unwrap();
        if *closed && let Some(tell) = self.tell.lock().unwrap().take() {
            tell.send(()).unwrap();
        }
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
        SystemRandom.fill(out);
    }
}

#[test]
fn readers_wait_for_no_writer() {
    let home = Home::new();
    let gate = Arc::new(Gate::default());
    let ring = Keyring::open(&home.keys(), None, Settings::default(), home.clock.clone(), gate.clone()).unwrap();
    let (tell, in_the_middle) = mpsc::channel();
    *gate.tell.lock().unwrap() = Some(tell);
    gate.set(true);
    thread::scope(|scope| {
        let writer = scope.spawn(|| ring.rotate(true).unwrap());
        in_the_middle.recv_timeout(Duration::from_secs(30)).unwrap();
        // The rotation holds its lock and cannot go on; all of this returns all the same.
        let (done, read) = mpsc::channel();
        let reader = &ring;
        scope.spawn(move || {
            let kid = reader.signer().kid().clone();
            let _ = (reader.jwks(), reader.list(), reader.state_of(&kid), reader.current_derivation(), reader.sealer());
            done.send(kid).unwrap();
        });
        let kid = read.recv_timeout(Duration::from_secs(30));
        gate.set(false);
        assert_eq!(kid.expect("a reader waited for the writer"), writer.join().unwrap().retiring);
    });
}

#[test]
fn rotations_at_once_rotate_once() {
    let home = Home::new();
    let ring = home.open().unwrap();
    home.clock.advance(20 * MINUTE);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| ring.rotate(false))).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(ChangeError::Refused(StepError::TooEarly(_))))));
    assert_eq!(states(&ring), [KeyState::Retiring, KeyState::Active, KeyState::Pending, KeyState::Pending]);
}

#[test]
fn no_reader_ever_sees_a_signer_that_is_not_published() {
    let home = Home::new();
    let ring = home.open().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..20 {
                ring.rotate(true).unwrap();
            }
        });
        while !writer.is_finished() {
            let signer = ring.signer();
            assert!(published(&ring).contains(&signer.kid().to_string()), "a token that nobody could verify");
        }
    });
}

// --- secrecy

#[test]
fn nothing_prints_a_secret() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let passphrase = Passphrase::new("correct horse".into()).unwrap();
    let (signer, derivation, sealer) = (ring.signer(), ring.current_derivation(), ring.sealer());
    let (refs, jwks, feed) = (ring.subject_refs(), ring.jwks(), ring.feed_key());
    let mut printed =
        format!("{ring:?} {signer:#?} {derivation:?} {sealer:?} {refs:?} {jwks:?} {feed:#?} {passphrase:?}");
    let secrets = secrets_of(&home);
    for (name, bytes) in home.files() {
        fs::write(home.file(&name), &bytes[..bytes.len() / 2]).unwrap();
        let error = home.open().unwrap_err();
        printed += &format!("{error} {error:?} ");
        fs::write(home.file(&name), &bytes).unwrap();
    }
    for spelling in secrets.iter().flat_map(|s| spellings(s)) {
        assert!(!printed.contains(&spelling));
    }
    assert!(!printed.contains("correct horse"));
    assert!(printed.contains(signer.kid().as_str()), "a kid is no secret");
}

/// Every secret of a plain directory.
fn secrets_of(home: &Home) -> Vec<Vec<u8>> {
    let mut secrets = Vec::new();
    for (name, bytes) in home.files() {
        let text = String::from_utf8(bytes).unwrap();
        if name.ends_with(".pem") {
            let body: String = text.lines().filter(|l| !l.starts_with("---")).collect();
            secrets.push(BASE64_STANDARD.decode(body).unwrap()[16..].to_vec());
        } else if name == "secrets.json" {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let all = [&json["derivation"][0], &json["sealing"][0], &json["subject_ref"], &json["feed"][0]];
            secrets.extend(all.map(|k| BASE64_URL_SAFE_NO_PAD.decode(k["key"].as_str().unwrap()).unwrap()));
        }
    }
    assert!(secrets.len() == 7 && secrets.iter().all(|s| s.len() == 32));
    secrets
}

/// As a careless `Debug` would show it: enough of it to be sure.
fn spellings(secret: &[u8]) -> [String; 4] {
    let part = &secret[..12];
    let list = format!("{part:?}");
    let hex = part.iter().map(|b| format!("{b:02x}")).collect();
    let list = list.trim_matches(['[', ']']).to_owned();
    [list, hex, BASE64_URL_SAFE_NO_PAD.encode(part), BASE64_STANDARD.encode(part)]
}

// --- OpenSSL

fn openssl(args: &[&str]) -> Vec<u8> {
    let out = Command::new("openssl").args(args).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn openssl_reads_our_keys_and_verifies_our_signatures() {
    for passphrase in [None, Some("correct horse")] {
        let home = Home::new();
        let ring = home.open_as(passphrase, Settings::default()).unwrap();
        let pem = home.pem_of(ring.signer().kid());
        let pass: &[&str] = if passphrase.is_some() { &["-passin", "pass:correct horse"] } else { &[] };
        let der = openssl(&[&["pkey", "-in", text(&pem), "-pubout", "-outform", "DER"], pass].concat());
        assert!(der.ends_with(&ring.signer().public_key().to_bytes()));

        let (message, signature) = (home.dir.path().join("m"), home.dir.path().join("s"));
        fs::write(&message, b"header.payload").unwrap();
        fs::write(&signature, ring.signer().sign(b"header.payload").unwrap()).unwrap();
        let files = ["-inkey", text(&pem), "-in", text(&message), "-sigfile", text(&signature)];
        openssl(&[&["pkeyutl", "-verify", "-rawin"], &files[..], pass].concat());
    }
}

#[test]
fn we_read_keys_that_openssl_encrypted() {
    let scrypt: &[&str] = &["-v2", "aes-256-cbc", "-scrypt"];
    for how in [scrypt, &[], &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"]] {
        let home = Home::new();
        let ring = home.open().unwrap();
        for key in ring.list() {
            let (pem, out) = (home.pem_of(&key.kid), home.dir.path().join("out.pem"));
            let convert = ["pkcs8", "-topk8", "-in", text(&pem), "-out", text(&out), "-passout", "pass:correct horse"];
            openssl(&[&convert[..], how].concat());
            set_mode(&out, 0o600);
            fs::rename(&out, &pem).unwrap();
        }
        assert!(matches!(home.open(), Err(KeyringError::PassphraseNeeded { .. })));
        assert!(matches!(home.open_with("wrong"), Err(KeyringError::PassphraseWrong { .. })), "{how:?}");
        assert_eq!(home.open_with("correct horse").unwrap().list(), ring.list(), "{how:?}");
    }
}

#[test]
fn we_sign_with_a_key_that_openssl_made() {
    let home = Home::new();
    let ours = home.open().unwrap().list()[0].clone();
    let made = home.dir.path().join("made.pem");
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", text(&made)]);
    let der = openssl(&["pkey", "-in", text(&made), "-pubout", "-outform", "DER"]);
    let theirs = PublicKey::from_bytes(der.last_chunk().unwrap()).unwrap();
    let manifest = fs::read_to_string(home.file("keyring.json")).unwrap();
    let manifest = manifest.replace(ours.kid.as_str(), theirs.thumbprint().as_str());
    fs::write(home.file("keyring.json"), manifest.replace(&ours.key.x(), &theirs.x())).unwrap();
    let pem = home.pem_of(theirs.thumbprint());
    fs::copy(made, &pem).unwrap();
    set_mode(&pem, 0o600);
    let ring = home.open().unwrap();
    assert_eq!(ring.signer().public_key(), theirs);
    assert_serves(&ring);
}

#[test]
fn keys_of_other_kinds_are_refused_by_name() {
    let home = Home::new();
    let pem = home.pem_of(&home.open().unwrap().list()[0].kid);
    for algorithm in ["x25519", "ed448"] {
        openssl(&["genpkey", "-algorithm", algorithm, "-out", text(&pem)]);
        set_mode(&pem, 0o600);
        let refused = home.open().unwrap_err().to_string();
        assert!(refused.contains("not an Ed25519 key"), "{refused}");
    }
}

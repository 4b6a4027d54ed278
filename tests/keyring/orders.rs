//! What operators order: generate, activate, roll back, retire, destroy, compromise, import and export.

use rescind::keyring::Step;

use super::*;

fn kid_in(ring: &Keyring, state: KeyState) -> Kid {
    ring.list().into_iter().find(|k| k.state == state).unwrap_or_else(|| panic!("no key is {state}")).kid
}

fn step(ring: &Keyring, step: Step, kid: &Kid, force: bool) -> Result<Change, ChangeError> {
    ring.change(&Order::Step(step, kid.clone()), force)
}

/// As a directory: what is said of each key, and which private halves are there.
fn same_after_a_restart(home: &Home, ring: &Keyring) {
    let again = home.open().unwrap();
    assert_eq!((again.list(), again.jwks()), (ring.list(), ring.jwks()));
    assert_serves(&again);
    for key in ring.list() {
        assert_eq!(home.pem_of(&key.kid).exists(), key.state.is_kept(), "{} {}", key.kid, key.state);
    }
}

#[test]
fn a_rollback_makes_the_old_key_sign_again_also_after_a_restart() {
    let home = Home::new();
    let ring = home.open().unwrap();
    assert!(matches!(ring.change(&Order::RollBack, false), Err(ChangeError::Refused(StepError::NothingRetiring))));
    home.clock.advance(20 * MINUTE);
    let rotated = ring.rotate(false).unwrap();
    let ring = home.open().unwrap();
    let change = ring.change(&Order::RollBack, false).unwrap();
    assert_eq!((&change.active, ring.signer().kid()), (&rotated.retiring, &rotated.retiring));
    assert_eq!(ring.state_of(&rotated.active), Some(KeyState::Retiring), "what it has signed is still good");
    same_after_a_restart(&home, &ring);
    home.clock.advance(11 * MINUTE);
    assert_eq!(ended(ring.sweep().unwrap()), [rotated.active]);
    assert_eq!(ring.signer().kid(), &rotated.retiring);
}

#[test]
fn a_compromised_signer_is_followed_by_a_key_that_verifiers_know() {
    let home = Home::new();
    let ring = home.open().unwrap();
    home.clock.advance(20 * MINUTE);
    ring.rotate(false).unwrap();
    let stolen = ring.signer().kid().clone();
    let known = ring.list();
    let change = step(&ring, Step::Compromise, &stolen, true).unwrap();
    let heir = known.iter().find(|k| k.kid == change.active).expect("it stood by before");
    assert!(home.clock.now().since(heir.published) >= 20 * MINUTE);
    assert_eq!(ring.state_of(&stolen), Some(KeyState::Compromised));
    assert!(!published(&ring).contains(&stolen.to_string()), "gone from the key set");
    assert!(!home.pem_of(&stolen).exists(), "and its private half from the disk");
    same_after_a_restart(&home, &ring);
    let again = step(&ring, Step::Compromise, &stolen, true).unwrap_err();
    assert!(matches!(again, ChangeError::Refused(StepError::Illegal { .. })), "{again}");
    assert!(step(&ring, Step::RollBack, &stolen, true).is_err() && step(&ring, Step::Activate, &stolen, true).is_err());
}

#[test]
fn a_key_can_be_compromised_in_every_state_and_two_stand_by_afterwards() {
    let home = Home::new();
    let ring = home.open().unwrap();
    for _ in 0..2 {
        home.clock.advance(20 * MINUTE);
        ring.rotate(false).unwrap();
        ring.sweep().unwrap();
    }
    for state in [KeyState::Pending, KeyState::Retiring, KeyState::Destroyed, KeyState::Active] {
        let kid = kid_in(&ring, state);
        step(&ring, Step::Compromise, &kid, false).unwrap();
        assert_eq!(ring.state_of(&kid), Some(KeyState::Compromised), "{state}");
        same_after_a_restart(&home, &ring);
    }
}

#[test]
fn what_is_forced_is_done_and_what_is_illegal_is_not() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let old = ring.rotate(true).unwrap().retiring;
    let early = step(&ring, Step::Retire, &old, false).unwrap_err();
    assert!(early.to_string().contains("tokens that it signed and that have not expired are refused"), "{early}");
    step(&ring, Step::Retire, &old, true).unwrap();
    step(&ring, Step::Destroy, &old, false).unwrap();
    let signer = ring.signer().kid().clone();
    for wrong in [Step::Retire, Step::Destroy, Step::Activate, Step::RollBack] {
        let before = ring.list();
        let refused = step(&ring, wrong, &signer, true).unwrap_err();
        assert!(matches!(refused, ChangeError::Refused(StepError::Illegal { .. })), "{wrong}: {refused}");
        assert_eq!(ring.list(), before);
    }
    let pending = kid_in(&ring, KeyState::Pending);
    assert!(step(&ring, Step::Destroy, &pending, false).is_err(), "the other one that stands by is new");
    step(&ring, Step::Destroy, &pending, true).unwrap();
    same_after_a_restart(&home, &ring);
}

#[test]
fn a_preview_says_what_will_be_done_and_does_nothing() {
    let home = Home::new();
    let ring = home.open().unwrap();
    home.clock.advance(20 * MINUTE);
    let (files, list) = (home.files(), ring.list());
    let preview = ring.preview(&Order::Rotate, false).unwrap();
    assert_eq!((home.files(), ring.list()), (files, list));
    let done = ring.change(&Order::Rotate, false).unwrap();
    assert_eq!(preview.active, done.active);
    let states = |change: &Change| change.moved.iter().map(|m| (m.from, m.to)).collect::<Vec<_>>();
    assert_eq!(states(&preview), states(&done));
    assert!(matches!(ring.preview(&Order::Rotate, false), Err(ChangeError::Refused(StepError::TooEarly(_)))));
}

#[test]
fn a_rotation_makes_no_key_where_more_stand_by_than_need_to() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let made = ring.change(&Order::Generate(None), false).unwrap();
    let (count, newest) = (ring.list().len(), made.now(KeyState::Pending).next().unwrap().clone());
    let rotated = ring.rotate(true).unwrap();
    assert_eq!((ring.list().len(), rotated.pending), (count, newest));
    same_after_a_restart(&home, &ring);
}

#[test]
fn a_generated_key_is_of_the_algorithm_asked_for() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let made = ring.change(&Order::Generate(Some(Algorithm::Ed25519)), false).unwrap();
    let kid = made.now(KeyState::Pending).next().unwrap().clone();
    home.clock.advance(20 * MINUTE);
    step(&ring, Step::Activate, &kid, false).unwrap();
    assert_eq!((ring.signer().kid(), ring.signer().algorithm()), (&kid, Algorithm::Ed25519));
    for n in 3..=8 {
        assert!(ring.change(&Order::Generate(None), false).is_ok(), "{n}");
    }
    let refused = ring.change(&Order::Generate(None), false).unwrap_err();
    assert!(refused.to_string().contains("stand by already"), "{refused}");
}

#[test]
fn a_key_goes_from_one_installation_to_another_by_pem_and_nobody_reads_it_on_the_way() {
    let (from, to) = (Home::new(), Home::new());
    let (a, b) = (from.open().unwrap(), to.open().unwrap());
    let passphrase = Passphrase::new("on the way".into()).unwrap();
    let pem = a.dangerous_export(a.signer().kid(), &passphrase).unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "never in the clear");
    let wrong = Passphrase::new("another".into()).unwrap();
    for (given, says) in [(None, "is encrypted; give the passphrase"), (Some(&wrong), "does not open")] {
        let refused = b.import(pem.as_bytes(), given, None).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
    let change = b.import(pem.as_bytes(), Some(&passphrase), Some(Algorithm::Ed25519)).unwrap();
    let kid = a.signer().kid().clone();
    assert_eq!(change.moved.len(), 1);
    assert_eq!(b.state_of(&kid), Some(KeyState::Pending));
    let twice = b.import(pem.as_bytes(), Some(&passphrase), None).unwrap_err();
    assert!(matches!(twice, ChangeError::Refused(StepError::Known { .. })), "{twice}");
    to.clock.advance(20 * MINUTE);
    step(&b, Step::Activate, &kid, false).unwrap();
    assert_eq!((b.signer().kid(), b.signer().algorithm()), (&kid, Algorithm::Ed25519));
    assert!(a.signer().public_key().verifies(b"m", &b.signer().sign(b"m").unwrap()));
    same_after_a_restart(&to, &b);
}

#[test]
fn an_exported_key_is_not_had_once_it_is_given_up() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let old = ring.rotate(true).unwrap().retiring;
    let passphrase = Passphrase::new("p".into()).unwrap();
    ring.dangerous_export(&old, &passphrase).unwrap();
    step(&ring, Step::Compromise, &old, false).unwrap();
    assert!(matches!(ring.dangerous_export(&old, &passphrase), Err(ChangeError::NotHere)));
    let unknown = "nobody".parse().unwrap();
    assert!(matches!(ring.dangerous_export(&unknown, &passphrase), Err(ChangeError::Refused(StepError::Unknown))));
}

/// A private JWK of 32 bytes, with its own public half unless another is given.
fn jwk(seed: [u8; 32], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let mut jwk = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "d": b64(&seed), "x": b64(&public), "use": "sig"});
    change(&mut jwk);
    serde_json::to_vec(&jwk).unwrap()
}

#[test]
fn a_private_jwk_is_taken_in_and_one_whose_halves_do_not_fit_is_not() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let mut seed = [0; 32];
    SystemRandom.fill(&mut seed);
    let other = jwk([9; 32], |_| {});
    let other: serde_json::Value = serde_json::from_slice(&other).unwrap();
    type Edit<'a> = Box<dyn FnOnce(&mut serde_json::Value) + 'a>;
    let wrong: [(&str, Edit<'_>); 9] = [
        ("not the public half", Box::new(|j| j["x"] = other["x"].clone())),
        ("not the public half", Box::new(|j| drop(j.as_object_mut().unwrap().remove("x")))),
        ("a public JWK", Box::new(|j| drop(j.as_object_mut().unwrap().remove("d")))),
        ("not 32 bytes", Box::new(|j| j["d"] = "AAAA".into())),
        ("not base64url", Box::new(|j| j["d"] = "a+b/".into())),
        ("not an Ed25519 key", Box::new(|j| j["crv"] = "X25519".into())),
        ("not an Ed25519 key", Box::new(|j| j["kty"] = "EC".into())),
        ("neither EdDSA nor Ed25519", Box::new(|j| j["alg"] = "ES256".into())),
        ("thumbprint", Box::new(|j| j["kid"] = "mine".into())),
    ];
    let list = ring.list();
    for (says, edit) in wrong {
        let refused = ring.import(&jwk(seed, edit), None, None).unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}: {says}");
        assert!(!format!("{refused:?}").contains(&BASE64_URL_SAFE_NO_PAD.encode(seed)), "nothing of the key is quoted");
    }
    for garbage in [&b"{"[..], b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff\xfe", b"{\"kty\":1}"] {
        assert!(matches!(ring.import(garbage, None, None), Err(ChangeError::NotAKey { .. })));
    }
    assert_eq!(ring.list(), list);
    let change = ring.import(&jwk(seed, |j| j["alg"] = "Ed25519".into()), None, Some(Algorithm::EdDSA)).unwrap();
    let kid = change.now(KeyState::Pending).next().unwrap();
    let info = ring.list().into_iter().find(|k| k.kid == *kid).unwrap();
    assert_eq!(info.algorithm, Algorithm::Ed25519, "the JWK says so");
    same_after_a_restart(&home, &ring);
}

#[test]
fn every_order_cut_off_at_any_write_leaves_one_signer_and_is_all_or_nothing() {
    // What is on disk after each of its steps, as the directory shows it: a new key's file, the manifest, files that go.
    let orders: [fn(&Keyring) -> Order; 5] = [
        |_| Order::Generate(None),
        |ring| Order::Step(Step::Activate, kid_in(ring, KeyState::Pending)),
        |_| Order::RollBack,
        |ring| Order::Step(Step::Compromise, kid_in(ring, KeyState::Active)),
        |ring| Order::Step(Step::Retire, kid_in(ring, KeyState::Retiring)),
    ];
    let mut crashes = 0;
    for (at, order) in orders.iter().enumerate() {
        let home = Home::new();
        let ring = home.open().unwrap();
        ring.rotate(true).unwrap();
        let (before, signed) = (home.files(), ring.signer().kid().clone());
        ring.change(&order(&ring), true).unwrap();
        let (after, signs) = (home.files(), ring.signer().kid().clone());
        let manifest = &after["keyring.json"];
        let new: Vec<&String> = after.keys().filter(|n| !before.contains_key(*n)).collect();
        let mut states = vec![before.clone()];
        // The new keys' files come one by one, each by way of a temporary name; then the manifest; then files go.
        for name in new {
            let (last, pem) = (states.last().unwrap().clone(), &after[name]);
            states.push(with(&last, &[(&format!(".{name}.tmp"), &pem[..20])]));
            states.push(with(&last, &[(name, pem)]));
        }
        let last = states.last().unwrap().clone();
        states.push(with(&last, &[(".keyring.json.tmp", &manifest[..manifest.len() / 2])]));
        let committed = with(&last, &[("keyring.json", manifest)]);
        let uncommitted = states.len();
        states.push(committed.clone());
        states.push(after.clone());
        for (n, files) in states.iter().enumerate() {
            home.lay_out(files);
            let found = home.open().unwrap_or_else(|e| panic!("order {at}, state {n}: {e}"));
            assert_serves(&found);
            let done = n >= uncommitted;
            assert_eq!(found.signer().kid(), if done { &signs } else { &signed }, "order {at}, state {n}");
            assert_eq!(&home.files(), if done { &after } else { &before }, "order {at}, state {n}: leftovers");
            crashes += 1;
        }
    }
    println!("{crashes} crashes in {} orders: each order was done or not begun", orders.len());
}

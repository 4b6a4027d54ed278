//! The symmetric secrets are replaced and given up: what opens and verifies what, on disk and after a crash.

use rescind::keyring::{Renewal, SealError, SecretInfo, SecretKind};

use super::*;

const TEMP: &str = ".secrets.json.tmp";

fn of(ring: &Keyring, kind: SecretKind) -> Vec<SecretInfo> {
    ring.secrets().into_iter().filter(|info| info.kind == kind).collect()
}

fn renew_for(
    ring: &Keyring,
    kind: SecretKind,
    oldest: Option<Timestamp>,
    what_for: Renewal,
) -> Result<SecretInfo, ChangeError> {
    let made = ring.renew_secret(kind, Timestamp::default(), oldest, what_for)?;
    ring.drop_unneeded_secrets(kind, oldest)?;
    Ok(made)
}

fn renew(ring: &Keyring, kind: SecretKind) -> SecretInfo {
    renew_for(ring, kind, None, Renewal::Rotation).unwrap()
}

/// What each kind of secret has made, and whether it is still good.
struct Made {
    derivation: (u32, [u8; 32]),
    sealed: Vec<u8>,
    feed: (Kid, [u8; 64]),
}

fn sid() -> SessionId {
    SessionId::new(Timestamp::from_millis(7), &[1; 10])
}

impl Made {
    fn with(ring: &Keyring) -> Self {
        let (derivation, feed) = (ring.current_derivation(), ring.feed_key());
        Self {
            derivation: (derivation.id(), derivation.secret(sid(), 4, &[5; 16])),
            sealed: ring.sealer().seal(b"family", b"alice", &SystemRandom),
            feed: (feed.kid().clone(), feed.sign(b"tail")),
        }
    }
    fn is_good(&self, ring: &Keyring, kind: SecretKind) -> bool {
        match kind {
            SecretKind::Derivation => {
                let (id, secret) = &self.derivation;
                ring.derivation(*id).is_some_and(|key| key.is_secret(sid(), 4, &[5; 16], secret))
            }
            SecretKind::Sealing => ring.sealer().open(b"family", &self.sealed) == Ok(b"alice".to_vec()),
            SecretKind::Feed => {
                let (kid, signature) = &self.feed;
                ring.feed_jwks().keys.iter().any(|jwk| jwk.kid == *kid && jwk.key.verifies(b"tail", signature))
            }
        }
    }
}

#[test]
fn a_new_secret_is_in_use_and_the_old_one_still_opens_what_it_made() {
    for passphrase in [None, Some("correct horse")] {
        let home = Home::new();
        let open = || home.open_as(passphrase, Settings::default()).unwrap();
        let ring = open();
        for kind in SecretKind::ALL {
            let (old, others) = (Made::with(&ring), home.files_but("secrets.json"));
            home.clock.advance(MINUTE);
            let made = renew(&ring, kind);
            let new = Made::with(&ring);
            for ring in [&ring, &open()] {
                assert!(old.is_good(ring, kind) && new.is_good(ring, kind), "{kind}");
                let listed = of(ring, kind);
                assert_eq!((listed.len(), &listed[1]), (2, &made));
                assert_eq!((listed[0].superseded, made.superseded), (Some(home.clock.now()), None));
                assert_eq!(made.created, Some(home.clock.now()));
            }
            assert_eq!(home.files_but("secrets.json"), others, "nothing is left over");
        }
        assert_eq!(ring.secrets(), open().secrets());
        assert!(passphrase.is_none() || matches!(home.open(), Err(KeyringError::PassphraseNeeded { .. })));
        assert!(passphrase.is_none() || matches!(home.open_with("wrong"), Err(KeyringError::PassphraseWrong { .. })));
    }
}

#[test]
fn a_feed_key_has_an_audit_key_of_its_own_and_one_before_it_stays() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let (feed, audit) = (ring.feed_key().kid().clone(), ring.audit_key().kid().clone());
    let second = renew(&ring, SecretKind::Feed);
    assert!(
        second.feed.as_ref() == Some(ring.feed_key().kid()) && second.audit.as_ref() == Some(ring.audit_key().kid())
    );
    assert_ne!((&feed, &audit), (ring.feed_key().kid(), ring.audit_key().kid()));
    assert!(ring.audit_jwks().keys.iter().any(|jwk| jwk.kid == audit), "a start finds the head that it signed");
    renew(&ring, SecretKind::Feed);
    assert_eq!((ring.feed_jwks().keys.len(), ring.audit_jwks().keys.len()), (2, 2));
    assert!(ring.feed_jwks().keys.iter().all(|jwk| jwk.kid != feed), "of two rotations ago nobody has anything");
}

/// Each sequence of three orders, for each kind; after each step what is true in memory is true of the disk.
#[test]
fn what_is_given_up_is_trusted_with_no_more_than_it_says() {
    const ORDERS: [&str; 3] = ["renew", "give up", "give up, sessions ended"];
    for kind in SecretKind::ALL {
        for sequence in 0..27 {
            let home = Home::new();
            let ring = home.open().unwrap();
            // Every key that there was, and whether it is here and trusted.
            let mut made = vec![(Made::with(&ring), true)];
            for order in [sequence / 9, sequence / 3 % 3, sequence % 3] {
                home.clock.advance(2 * MINUTE);
                let now = home.clock.now();
                renew(&ring, kind);
                let gives_up = order > 0;
                if gives_up {
                    let gone = ring.give_up_secrets(kind, (order == 2).then_some(now)).unwrap();
                    let kept = of(&ring, kind);
                    assert!(gone.iter().all(|gone| kept.iter().all(|kept| kept.id != gone.id)));
                }
                for (_, good) in &mut made {
                    *good &= order == 0 || (kind, order) == (SecretKind::Derivation, 1);
                }
                if kind == SecretKind::Feed && order == 0 {
                    let last = made.len() - 1;
                    made[..last].iter_mut().for_each(|(_, good)| *good = false);
                }
                made.push((Made::with(&ring), true));
                for ring in [&ring, &home.open().unwrap()] {
                    for (at, (made, good)) in made.iter().enumerate() {
                        assert_eq!(made.is_good(ring, kind), *good, "{kind}, {}, key {at}", ORDERS[order]);
                    }
                    assert_eq!(ring.has_forgotten(now), ring.forgotten_until().is_some_and(|until| until >= now));
                    assert!(order != 2 || ring.has_forgotten(now));
                    assert!(!ring.has_forgotten(now.plus(2 * MINUTE)), "what comes later is doubted");
                    assert_eq!(of(ring, kind), of(&home.open().unwrap(), kind));
                }
            }
        }
    }
}

#[test]
fn a_sealing_key_that_was_given_up_opens_old_sessions_and_nothing_else() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let (sealed, before) = (ring.sealer().seal(b"family", b"alice", &SystemRandom), home.clock.now());
    home.clock.advance(5 * MINUTE);
    let old = renew(&ring, SecretKind::Sealing).id;
    let old = of(&ring, SecretKind::Sealing).iter().find(|info| info.id != old).unwrap().id;
    ring.give_up_secrets(SecretKind::Sealing, None).unwrap();
    for ring in [&ring, &home.open().unwrap()] {
        let sealer = ring.sealer();
        assert_eq!(sealer.open_of(before, b"family", &sealed), Ok(b"alice".to_vec()), "it was opened before");
        let later = home.clock.now().plus(2 * MINUTE);
        assert_eq!(
            sealer.open_of(later, b"family", &sealed),
            Err(SealError::GivenUp(old)),
            "a thief may have sealed it"
        );
        assert_eq!(sealer.open(b"family", &sealed), Err(SealError::GivenUp(old)), "as a book of clients");
    }
}

#[test]
fn secrets_that_no_session_needs_go_with_a_rotation() {
    for kind in [SecretKind::Derivation, SecretKind::Sealing] {
        let home = Home::new();
        let ring = home.open().unwrap();
        let old = Made::with(&ring);
        let replaced = home.clock.now();
        renew(&ring, kind);
        home.clock.advance(100 * 24 * 60 * MINUTE);
        renew_for(&ring, kind, Some(replaced), Renewal::Rotation).unwrap();
        assert!(old.is_good(&ring, kind), "{kind}: a session may have been opened under it");
        renew_for(&ring, kind, Some(replaced.plus(23 * 60 * MINUTE)), Renewal::Rotation).unwrap();
        assert!(old.is_good(&ring, kind), "{kind}: so it may by a clock that goes wrong");
        renew_for(&ring, kind, Some(replaced.plus(24 * 60 * MINUTE + MINUTE)), Renewal::Rotation).unwrap();
        assert!(!old.is_good(&ring, kind) && of(&ring, kind).len() == 4);
        assert!(ring.has_forgotten(replaced) && !ring.has_forgotten(replaced.plus(2 * MINUTE)));
        assert_eq!(home.open().unwrap().secrets(), ring.secrets());
    }
}

#[test]
fn the_list_is_capped_but_not_in_an_emergency() {
    let ring = Keyring::ephemeral(Settings::default(), Home::new().clock, Arc::new(SystemRandom)).unwrap();
    for _ in 1..64 {
        renew(&ring, SecretKind::Derivation);
    }
    let refused = renew_for(&ring, SecretKind::Derivation, None, Renewal::Rotation).unwrap_err();
    assert!(matches!(refused, ChangeError::TooManyKept { kept: 64, .. }), "{refused}");
    renew_for(&ring, SecretKind::Derivation, None, Renewal::Compromise).unwrap();
    ring.give_up_secrets(SecretKind::Derivation, Some(Timestamp::from_millis(1))).unwrap();
    renew(&ring, SecretKind::Derivation);
}

#[test]
fn so_many_emergencies_that_the_file_could_not_be_read_any_more_are_refused() {
    let (home, kind) = (Home::new(), SecretKind::Sealing);
    let ring = home.open().unwrap();
    let refused = (0..1000).find_map(|_| renew_for(&ring, kind, None, Renewal::Compromise).err()).unwrap();
    assert!(matches!(refused, ChangeError::TooManyKept { kept: 256, .. }), "{refused}");
    // A start reads 1 MiB; encrypted, it is half as long again.
    assert!(home.files()["secrets.json"].len() < 256 * 1024);
    let made = renew_for(&ring, kind, None, Renewal::LastResort).unwrap();
    ring.give_up_secrets(kind, Some(home.clock.now())).unwrap();
    assert_eq!(of(&home.open().unwrap(), kind), [made], "who ends all sessions is never refused");
    assert!(home.files()["secrets.json"].len() < 16 * 1024, "of those that are gone a name is left");
}

#[test]
fn the_same_order_given_again_finds_what_it_has_made() {
    let home = Home::new();
    let ring = home.open().unwrap();
    for kind in SecretKind::ALL {
        let ask = |what_for| ring.renew_secret(kind, Timestamp::default(), None, what_for).unwrap().id;
        let first = ask(Renewal::Compromise);
        assert_eq!(ask(Renewal::Compromise), first);
        assert_ne!(ask(Renewal::Rotation), first, "another order");
        let last = ask(Renewal::Compromise);
        ring.give_up_secrets(kind, None).unwrap();
        assert_ne!(ask(Renewal::Compromise), last, "that one was finished");
        let old = ask(Renewal::Compromise);
        home.clock.advance(11 * MINUTE);
        assert_ne!(ask(Renewal::Compromise), old, "too long ago to be the same");
    }
}

#[test]
fn an_order_cut_off_at_any_step_leaves_the_old_secrets_or_the_new() {
    for kind in SecretKind::ALL {
        for (name, order) in [
            ("renew", (|ring: &Keyring, kind| drop(renew(ring, kind))) as fn(&Keyring, SecretKind)),
            ("give up", |ring, kind| drop(ring.give_up_secrets(kind, None).unwrap())),
            ("end", |ring, kind| drop(ring.give_up_secrets(kind, Some(Timestamp::from_millis(9))).unwrap())),
            ("forget", |ring, _| assert!(ring.forget_unknown(Timestamp::from_millis(9)).is_ok())),
        ] {
            let home = Home::new();
            let ring = home.open().unwrap();
            renew(&ring, kind);
            let (made, before, old) = (Made::with(&ring), home.files(), ring.secrets());
            order(&ring, kind);
            let (after, new) = (home.files(), ring.secrets());
            let file = &after["secrets.json"][..];
            assert_ne!(before["secrets.json"], after["secrets.json"]);
            let crashes = [
                (with(&before, &[(TEMP, b"")]), &old),
                (with(&before, &[(TEMP, &file[..file.len() / 2])]), &old),
                (with(&before, &[(TEMP, file)]), &old),
                (with(&before, &[("secrets.json", file)]), &new),
            ];
            for (at, (files, secrets)) in crashes.iter().enumerate() {
                home.lay_out(files);
                let ring = home.open().unwrap_or_else(|e| panic!("{kind}, {name}, step {at}: {e}"));
                assert_eq!(&ring.secrets(), *secrets, "{kind}, {name}, step {at}");
                assert!(made.is_good(&ring, kind), "{kind}, {name}, step {at}: what was in use is here");
                assert!(!home.files().contains_key(TEMP), "{kind}, {name}, step {at}: leftovers");
                renew(&ring, kind);
                assert_serves(&home.open().unwrap());
            }
        }
    }
}

#[test]
fn when_the_disk_refuses_the_old_secrets_are_in_use() {
    let home = Home::new();
    let ring = home.open().unwrap();
    let (made, files, secrets) = (Made::with(&ring), home.files(), ring.secrets());
    fs::create_dir(home.file(TEMP)).unwrap();
    for kind in SecretKind::ALL {
        assert!(matches!(
            renew_for(&ring, kind, None, Renewal::Compromise),
            Err(ChangeError::Failed(KeyringError::Io { .. }))
        ));
        assert!(ring.give_up_secrets(kind, Some(home.clock.now())).is_err());
        assert!(made.is_good(&ring, kind));
    }
    assert!(ring.forget_unknown(home.clock.now()).is_err());
    assert_eq!((ring.secrets(), ring.forgotten_until()), (secrets, None));
    assert_eq!(ring.current_derivation().id(), made.derivation.0);
    fs::remove_dir(home.file(TEMP)).unwrap();
    assert_eq!(home.files(), files);
    renew(&ring, SecretKind::Derivation);
    assert_eq!(home.open().unwrap().secrets(), ring.secrets(), "it goes on when the disk does");
}

#[test]
fn a_file_of_before_secrets_could_be_replaced_is_read() {
    for passphrase in [None, Some("correct horse")] {
        let home = Home::new();
        let open = || home.open_as(passphrase, Settings::default()).unwrap();
        let made = Made::with(&open());
        let mut file: serde_json::Value = serde_json::from_slice(&home.files()["secrets.json"]).unwrap();
        file["version"] = 1.into();
        file.as_object_mut().unwrap().remove("forgotten_until").unwrap();
        let strip = |row: &mut serde_json::Value| {
            for name in ["created", "superseded", "given_up"] {
                row.as_object_mut().unwrap().remove(name).unwrap();
            }
        };
        for list in ["derivation", "sealing", "feed"] {
            file[list].as_array_mut().unwrap().iter_mut().for_each(strip);
        }
        strip(&mut file["subject_ref"]);
        fs::write(home.file("secrets.json"), file.to_string()).unwrap();
        let ring = open();
        for kind in SecretKind::ALL {
            assert!(made.is_good(&ring, kind) && of(&ring, kind)[0].created.is_none());
            renew(&ring, kind);
            assert!(made.is_good(&open(), kind));
        }
    }
}

#[test]
fn readers_see_a_secret_that_is_on_disk() {
    let home = Home::new();
    let ring = home.open().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| (0..8).for_each(|_| drop(renew(&ring, SecretKind::Derivation))));
        while !writer.is_finished() {
            let id = ring.current_derivation().id();
            assert!(fs::read_to_string(home.file("secrets.json")).unwrap().contains(&format!("\"id\": {id}")));
        }
    });
}

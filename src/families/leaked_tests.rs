//! What a thief makes of a derivation key that was given up, with the store and the sealing key; and what was being opened as
//! keys went.

use std::{sync::Mutex, time::Duration};

use super::*;
use crate::{
    clock::{Clock as _, ManualClock, SystemRandom},
    keyring::{Renewal, SecretKind, Settings},
    model::{denial::Retention, family::Generation, session::Device},
    store::embedded::{EmbeddedStore, Options},
};

/// Something happens when a session gets its name: its keys have been chosen, the store has not been asked.
#[derive(Default)]
struct Interrupted(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Random for Interrupted {
    fn fill(&self, out: &mut [u8]) {
        if out.len() == 10
            && let Some(event) = self.0.lock().unwrap().take()
        {
            event();
        }
        SystemRandom.fill(out);
    }
}

struct World {
    clock: Arc<ManualClock>,
    keyring: Arc<Keyring>,
    store: Arc<EmbeddedStore>,
    interrupted: Arc<Interrupted>,
    families: Families<EmbeddedStore>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
        let keyring = Keyring::ephemeral(Settings::default(), clock.clone(), Arc::new(SystemRandom)).unwrap();
        let (keyring, day) = (Arc::new(keyring), Duration::from_secs(86_400));
        let options = Options::new(Retention { access: Duration::from_secs(300), session: 90 * day });
        let store = Arc::new(EmbeddedStore::in_memory(options, clock.clone(), &SystemRandom).unwrap());
        let (access, retry_window) = (Duration::from_secs(300), Duration::from_secs(30));
        let lives = Lifetimes { access, idle: 14 * day, absolute: 90 * day, retry_window };
        let interrupted = Arc::new(Interrupted::default());
        let families = Families::new(store.clone(), keyring.clone(), interrupted.clone(), lives);
        Self { clock, keyring, store, interrupted, families }
    }

    async fn open(&self) -> Result<Grant, OpenError> {
        self.families.open(identity(), Draft::default()).await
    }

    async fn refresh(&self, token: &RefreshToken) -> Result<Grant, RefreshError> {
        let presenter = Presenter { client: identity().client, proven: true };
        self.families.refresh(token.expose(), presenter, None, Draft::default()).await
    }
}

fn identity() -> Identity {
    Identity {
        subject: "alice".parse().unwrap(),
        client: "app".parse().unwrap(),
        audience: vec!["api".parse().unwrap()],
        scope: "read".parse().unwrap(),
        claims: "{}".into(),
        device: Device::default(),
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        absolute_until: Timestamp::default(),
        nonce: [0; 16],
    }
}

/// As the service does it.
fn give_up(keyring: &Keyring, kind: SecretKind, ended: Option<Timestamp>) {
    keyring.renew_secret(kind, Timestamp::default(), None, Renewal::Compromise).unwrap();
    keyring.give_up_secrets(kind, ended).unwrap();
}

#[tokio::test]
async fn a_derivation_key_that_was_given_up_makes_no_token_of_a_later_session() {
    let w = World::new();
    let (old, leaked) = (w.open().await.unwrap(), w.keyring.current_derivation());
    give_up(&w.keyring, SecretKind::Derivation, None);
    w.clock.advance(Duration::from_secs(120));
    let new = w.open().await.unwrap();
    let forged = RefreshToken::compose(&leaked, new.session, Generation(0), &new.identity.nonce);
    assert!(matches!(w.refresh(&forged).await, Err(RefreshError::Refused(Refusal::Forged))));
    // Nor if its record is made to name that key.
    let (nonce, sealer) = (new.identity.nonce, w.keyring.sealer());
    let seal = move |id: SessionId, absolute_until| {
        let plain = Identity { absolute_until, nonce, ..identity() };
        sealer.seal(&associated(id), &encode(&plain), &SystemRandom)
    };
    let (subject, client) = (w.families.refer(&identity().subject), identity().client);
    let (lives, audit, seal) = (w.families.lives, Draft::default(), Box::new(seal));
    let opening = Opening { random: [7; 10], key: leaked.id(), subject, client, lives, cap: None, seal, audit };
    let Opened::Family(written) = w.store.open(opening).await.unwrap() else { panic!("there is room") };
    let forged = RefreshToken::compose(&leaked, written.id, Generation(0), &nonce);
    assert!(matches!(w.refresh(&forged).await, Err(RefreshError::Refused(Refusal::Forged))));
    // Whoever was there before is not touched.
    let old = w.refresh(&old.refresh).await.unwrap();
    assert!(w.refresh(&old.refresh).await.is_ok() && w.refresh(&new.refresh).await.is_ok());
}

#[tokio::test]
async fn another_key_of_ours_makes_no_token_of_a_session() {
    let w = World::new();
    let old = w.keyring.current_derivation();
    w.keyring.renew_secret(SecretKind::Derivation, Timestamp::default(), None, Renewal::Rotation).unwrap();
    let new = w.open().await.unwrap();
    let forged = RefreshToken::compose(&old, new.session, Generation(0), &new.identity.nonce);
    assert!(matches!(w.refresh(&forged).await, Err(RefreshError::Refused(Refusal::Forged))));
    assert!(w.refresh(&new.refresh).await.is_ok());
}

/// Nobody is given a session that is dead when it begins.
#[tokio::test]
async fn what_was_being_opened_as_its_keys_went_is_not_handed_out() {
    for kind in [SecretKind::Derivation, SecretKind::Sealing] {
        let w = World::new();
        let (keyring, clock) = (w.keyring.clone(), w.clock.clone());
        let ends = move || give_up(&keyring, kind, Some(clock.now()));
        *w.interrupted.0.lock().unwrap() = Some(Box::new(ends));
        assert!(matches!(w.open().await, Err(OpenError::Store(StoreError::Busy))), "{kind}: destroyed");

        let (keyring, clock) = (w.keyring.clone(), w.clock.clone());
        let stays = move || give_up(&keyring, kind, None);
        *w.interrupted.0.lock().unwrap() = Some(Box::new(stays));
        let opened = w.open().await.unwrap();
        assert!(w.refresh(&opened.refresh).await.is_ok(), "{kind}: given up, and the session goes on");

        let keyring = w.keyring.clone();
        let leaps = move || {
            give_up(&keyring, kind, None);
            clock.jump(Duration::from_secs(3600));
        };
        *w.interrupted.0.lock().unwrap() = Some(Box::new(leaps));
        assert!(matches!(w.open().await, Err(OpenError::Store(StoreError::Busy))), "{kind}: it looks too young");
    }
}

//! What is done to the keys: by an operator's word, or by the schedule. Each change is durable before anyone hears of it.

use std::{sync::Arc, time::Duration};

use super::{
    ActiveKey, ChangeError, Keyring, KeyringError, Passphrase, Snapshot, Writer, exchange,
    ring::{Fresh, KeyState, Ring, STANDBYS},
    rule::{Step, StepError, TooEarly, Wait},
    shared::Whole,
};
use crate::model::{Algorithm, Kid, Timestamp};

/// How long the schedule waits after the disk has refused.
const PAUSE: Duration = Duration::from_secs(30);

/// What can be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// One more key stands by; with the configured algorithm unless another is named.
    Generate(Option<Algorithm>),
    /// The standby that has been published longest signs.
    Rotate,
    /// The key that signed before the one that signs now signs again.
    RollBack,
    /// A step with a key.
    Step(Step, Kid),
}

/// What was done, or would be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Signs from now on.
    pub active: Kid,
    /// The keys that are in another state than before, in the order of their generation.
    pub moved: Vec<Moved>,
}

/// A key that has moved on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Which.
    pub kid: Kid,
    /// From which state; `None`: it is new.
    pub from: Option<KeyState>,
    /// To which.
    pub to: KeyState,
}

impl Change {
    pub(super) fn between(before: &Ring, after: &Ring) -> Self {
        let state = |ring: &Ring, kid| ring.find(kid).map(|k| k.state);
        let moved = after.keys().iter().filter(|k| state(before, &k.kid) != Some(k.state));
        let moved = moved.map(|k| Moved { kid: k.kid.clone(), from: state(before, &k.kid), to: k.state });
        Self { active: after.active().kid.clone(), moved: moved.collect() }
    }
    /// Whether nothing was done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }
    /// The keys that are in this state and were not.
    pub fn now(&self, state: KeyState) -> impl Iterator<Item = &Kid> {
        self.moved.iter().filter(move |m| m.to == state).map(|m| &m.kid)
    }
}

/// The outcome of a rotation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotated {
    /// Signed until now; still verifies.
    pub retiring: Kid,
    /// Signs from now on.
    pub active: Kid,
    /// The newest of those that stand by.
    pub pending: Kid,
}

impl Keyring {
    /// Does it, durably before this returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] by the rule; with `force` never because it is too early: what breaks then says
    /// [`Wait::breaks`]. [`ChangeError::Failed`] if the disk refuses. Nothing has changed then.
    pub fn change(&self, order: &Order, force: bool) -> Result<Change, ChangeError> {
        self.changing(|writer| self.carry_out(writer, order, force))
    }
    /// What [`Keyring::change`] would do now. Keys that it would make have names that no key will have.
    ///
    /// # Errors
    /// As [`Keyring::change`], of the rule alone.
    pub fn preview(&self, order: &Order, force: bool) -> Result<Change, ChangeError> {
        let (before, writer) = (self.current.load_full(), self.writer());
        let (after, _) = self.judge(&writer, &before.ring, order, force)?;
        Ok(Change::between(&before.ring, &after))
    }
    /// [`Order::Rotate`].
    ///
    /// # Errors
    /// As [`Keyring::change`].
    pub fn rotate(&self, force: bool) -> Result<Rotated, ChangeError> {
        let change = self.change(&Order::Rotate, force)?;
        let retiring = change.now(KeyState::Retiring).next().expect("a rotation retires the key that signed").clone();
        // None is made where enough stand by.
        let newest = |ring: &Ring| ring.keys().iter().rfind(|k| k.state == KeyState::Pending).map(|k| k.kid.clone());
        let pending = newest(&self.current.load().ring).expect("in every ring some stand by");
        Ok(Rotated { retiring, active: change.active, pending })
    }
    /// Takes a key in, PKCS#8 as PEM or a private JWK, as one more that stands by.
    ///
    /// # Errors
    /// [`ChangeError::NotAKey`], and as [`Keyring::change`].
    pub fn import(
        &self,
        text: &[u8],
        passphrase: Option<&Passphrase>,
        algorithm: Option<Algorithm>,
    ) -> Result<Change, ChangeError> {
        let read = exchange::read(text, passphrase)?;
        let algorithm = read.algorithm.or(algorithm).unwrap_or(self.settings.algorithm);
        self.changing(|writer| {
            let (key, before) = (ActiveKey::new(&read.seed, algorithm), self.current.load_full());
            let ring = before.ring.add((key.public_key(), key.algorithm()), self.clock.now())?;
            Ok(self.commit(writer, &before.ring, ring, vec![key])?)
        })
    }
    /// The private half of a published key, PKCS#8 under this passphrase, as PEM.
    ///
    /// # Errors
    /// [`StepError::Unknown`], [`ChangeError::NotHere`].
    pub fn dangerous_export(
        &self,
        kid: &Kid,
        passphrase: &Passphrase,
    ) -> Result<zeroize::Zeroizing<String>, ChangeError> {
        self.state_of(kid).ok_or(StepError::Unknown)?;
        let key = self.writer().private.iter().find(|key| key.kid() == kid).cloned().ok_or(ChangeError::NotHere)?;
        let seed = key.seed().ok_or(ChangeError::NotHere)?;
        Ok(super::pem::encode(&seed, Some(passphrase), &*self.random))
    }

    /// Retires the keys whose last token has expired, and destroys private halves that nobody needs. Cheap when there are
    /// none. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyringError`]: the keys stay published and are retired the next time.
    pub fn sweep(&self) -> Result<Change, KeyringError> {
        self.sweep_until(self.clock.now())
    }
    /// As [`Keyring::sweep`], for a caller who knows better what has expired than our clock, which may have leapt.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn sweep_until(&self, expired_by: Timestamp) -> Result<Change, KeyringError> {
        let swept = |ring: &Ring| ring.sweep(expired_by, &self.settings.timing);
        let now = self.current.load_full();
        if swept(&now.ring) == now.ring && self.writer().owed.is_empty() {
            return Ok(Change::between(&now.ring, &now.ring));
        }
        self.changing(|writer| {
            let before = self.current.load_full();
            let change = self.commit(writer, &before.ring, swept(&before.ring), Vec::new())?;
            self.pay(writer)?;
            Ok(change)
        })
    }
    /// Rotates if that is due by the schedule, once however long it was missed. The key that then signs has been published
    /// by this very process for `publish_ahead`, whatever the wall clock says. Blocks on the disk if it is due.
    ///
    /// # Errors
    /// [`ChangeError::Failed`]: the old key signs on; it is tried again half a minute later.
    pub fn rotate_if_due(&self) -> Result<Option<Change>, ChangeError> {
        let now = self.clock.boottime();
        let is_due = |writer: &Writer| self.is_due(writer, &self.current.load_full().ring);
        {
            let writer = self.writer();
            if !is_due(&writer) || now < writer.try_again {
                return Ok(None);
            }
        }
        // Forced, because the wall clock has no say in it: what the rule waits for has been waited for by the other one.
        // Asked again, because another node may have done it.
        let rotated = self.changing(|writer| match is_due(writer) {
            true => self.carry_out(writer, &Order::Rotate, true).map(Some),
            false => Ok(None),
        });
        match rotated {
            Err(ChangeError::Refused(_)) => Ok(None),
            Err(failed) => {
                self.writer().try_again = now + PAUSE;
                Err(failed)
            }
            done => done,
        }
    }
    fn is_due(&self, writer: &Writer, ring: &Ring) -> bool {
        let timing = &self.settings.timing;
        let (Some(at), Some(every)) = (ring.next_rotation(timing), timing.rotate_every) else { return false };
        let boottime = self.clock.boottime();
        // A clock that was set back must not keep a key signing for longer than it is to.
        let due = self.clock.now() >= at || writer.elapsed.watched(&ring.active().kid, boottime) >= every;
        let pending = ring.keys().iter().filter(|k| k.state == KeyState::Pending);
        let known = |kid| writer.elapsed.watched(kid, boottime) >= timing.publish_ahead;
        due && known(&ring.standby().kid) && pending.filter(|k| known(&k.kid)).count() >= STANDBYS
    }

    /// The keys after it, and those that it has made.
    fn judge(
        &self,
        writer: &Writer,
        ring: &Ring,
        order: &Order,
        force: bool,
    ) -> Result<(Ring, Vec<ActiveKey>), StepError> {
        let (now, timing) = (self.clock.now(), &self.settings.timing);
        let mut made = Vec::new();
        let mut fresh = |algorithm| {
            let key = ActiveKey::generate(algorithm, &*self.random);
            let public = (key.public_key(), key.algorithm());
            made.push(key);
            public
        };
        let (step, kid) = match order {
            Order::Generate(algorithm) => {
                let ring = ring.add(fresh(algorithm.unwrap_or(self.settings.algorithm)), now)?;
                return Ok((ring, made));
            }
            Order::Rotate => (Step::Activate, ring.standby().kid.clone()),
            Order::RollBack => {
                let kid = ring.predecessor().ok_or(StepError::NothingRetiring)?.kid.clone();
                (Step::RollBack, kid)
            }
            Order::Step(step, kid) => (*step, kid.clone()),
        };
        if step == Step::Activate && !force {
            self.published_for_long_enough(writer, ring, &kid, now)?;
        }
        let fresh = || -> Fresh { fresh(self.settings.algorithm) };
        let ring = ring.step(step, &kid, now, timing, force, fresh)?;
        Ok((ring, made))
    }
    /// A key that was made by this process has been published only for as long as it has run since.
    fn published_for_long_enough(
        &self,
        writer: &Writer,
        ring: &Ring,
        kid: &Kid,
        now: Timestamp,
    ) -> Result<(), StepError> {
        let ahead = self.settings.timing.publish_ahead;
        let pending = ring.find(kid).is_some_and(|k| k.state == KeyState::Pending);
        match (writer.elapsed.begun(kid, self.clock.boottime()), Wait::Published.breaks()) {
            (Some(elapsed), Some(breaks)) if pending && elapsed < ahead => {
                Err(TooEarly { earliest: now.plus(ahead - elapsed), breaks }.into())
            }
            _ => Ok(()),
        }
    }
    fn carry_out(&self, writer: &mut Writer, order: &Order, force: bool) -> Result<Change, ChangeError> {
        let before = self.current.load_full();
        let (ring, made) = self.judge(writer, &before.ring, order, force)?;
        Ok(self.commit(writer, &before.ring, ring, made)?)
    }
    fn commit(
        &self,
        writer: &mut Writer,
        before: &Ring,
        ring: Ring,
        made: Vec<ActiveKey>,
    ) -> Result<Change, KeyringError> {
        let change = Change::between(before, &ring);
        if !change.is_empty() {
            self.commit_ring(writer, before, ring, made)?;
        }
        Ok(change)
    }
    pub(super) fn commit_ring(
        &self,
        writer: &mut Writer,
        before: &Ring,
        ring: Ring,
        made: Vec<ActiveKey>,
    ) -> Result<(), KeyringError> {
        let committed = self.write(writer, &ring, &made);
        if committed.is_err() {
            // No manifest names them; what stays all the same is removed by the next start.
            made.iter().for_each(|key| drop(writer.home.forget(key.kid())));
        }
        committed?;
        let synced = writer.home.sync();
        // Taken up even if that sync failed. A crash then leaves the old manifest or the new one, and in both the key
        // that signs from here on is published; going back would let the old key sign on past its `verifies_until`.
        writer.private.extend(made.into_iter().map(Arc::new));
        writer.private.retain(|key| ring.find(key.kid()).is_some_and(|info| info.is_published()));
        writer.elapsed.changed(&ring, self.clock.boottime());
        let kept = |ring: &Ring, kid: &Kid| ring.find(kid).is_some_and(|k| k.state.is_kept());
        let given_up = before.keys().iter().map(|k| &k.kid).filter(|kid| kept(before, kid) && !kept(&ring, kid));
        writer.owed.extend(given_up.cloned());
        self.current.store(Arc::new(Snapshot::new(ring, &writer.private)));
        synced?;
        // Only after the manifest that does without them is durable: a crash must not leave it asking for them. What has
        // been done stands if one cannot be removed; the next sweep tries again, and the next start.
        if let Err(error) = self.pay(writer) {
            tracing::error!(%error, "a private key that is not needed any more could not be removed yet");
        }
        Ok(())
    }
    fn write(&self, writer: &mut Writer, ring: &Ring, made: &[ActiveKey]) -> Result<(), KeyringError> {
        for key in made {
            writer.home.keep(key, &*self.random)?;
        }
        let private = halves(ring, writer.private.iter().map(|key| &**key).chain(made));
        let whole = Whole { ring, private: &private, secrets: &writer.stored };
        writer.home.commit(&whole, &*self.random)
    }
    /// Removes the private halves that are not needed.
    fn pay(&self, writer: &mut Writer) -> Result<(), KeyringError> {
        if writer.owed.is_empty() {
            return Ok(());
        }
        while let Some(kid) = writer.owed.last() {
            writer.home.forget(kid)?;
            writer.owed.pop();
        }
        writer.home.sync()
    }
}

/// The private halves of a ring's published keys, in its order.
pub(super) fn halves<'a>(ring: &Ring, among: impl Iterator<Item = &'a ActiveKey> + Clone) -> Vec<&'a ActiveKey> {
    let published = ring.keys().iter().filter(|info| info.is_published());
    published.filter_map(|info| among.clone().find(|key| *key.kid() == info.kid)).collect()
}

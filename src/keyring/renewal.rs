//! The symmetric secrets are replaced: the new ones count for what is new, the old ones open and verify what they made
//! until they are given up. One file holds them all, and replacing it is what commits a change.

use std::{sync::Arc, time::Duration};

use super::{
    ChangeError, Keyring, KeyringError, SecretKind, Writer,
    change::halves,
    secrets::{IN_FLIGHT, Named, Stored},
    shared::Whole,
};
use crate::model::{Kid, Timestamp};

/// How many secrets of a kind a rotation keeps. A session needs the one that it was opened under.
const MAX_KEPT: usize = 64;
/// How many an emergency keeps: so many that the file can still be read at the next start.
const MAX_IN_NEED: usize = 256;
/// For how long an order that was cut off counts as the same when it is given again.
const AGAIN: Duration = Duration::from_secs(600);
/// How much older than the oldest session a secret is that no session needs, whatever clocks have done.
const SURELY: Duration = Duration::from_secs(86_400);

/// What a new secret is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// The one in use has served long enough.
    Rotation,
    /// It is in other hands. Those before it stay for the sessions that need them.
    Compromise,
    /// The same, and none will stay.
    LastResort,
}

impl Renewal {
    const fn most_kept(self) -> usize {
        match self {
            Self::Rotation => MAX_KEPT,
            Self::Compromise => MAX_IN_NEED,
            Self::LastResort => usize::MAX,
        }
    }
}

/// What may be told of a symmetric secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretInfo {
    /// What it is for.
    pub kind: SecretKind,
    /// Its name in the records that it made; never zero.
    pub id: u32,
    /// None: before this was written down.
    pub created: Option<Timestamp>,
    /// When a newer one took its place; `None`: it is in use.
    pub superseded: Option<Timestamp>,
    /// Whether it was said to be compromised, and is kept for the sessions that are older than that.
    pub given_up: bool,
    /// The `kid` in the feed, of one of the feed's.
    pub feed: Option<Kid>,
    /// The `kid` in the heads of the audit log, of one of the feed's.
    pub audit: Option<Kid>,
}

impl SecretInfo {
    /// Its id as people read it: eight hexadecimal digits.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{:08x}", self.id)
    }
    fn of(kind: SecretKind, named: &Named) -> Self {
        let feed = (kind == SecretKind::Feed).then(|| (named.feed_key(), named.audit_key()));
        let (feed, audit) = feed.map(|(feed, audit)| (feed.kid().clone(), audit.kid().clone())).unzip();
        let Named { id, created, superseded, given_up, .. } = *named;
        Self { kind, id, created, superseded, given_up, feed, audit }
    }
}

impl Keyring {
    /// What may be told of the symmetric secrets: kind by kind, the one in use last.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretInfo> {
        let writer = self.writer();
        let of = |kind| writer.stored.of(kind).iter().map(move |named| SecretInfo::of(kind, named));
        SecretKind::ALL.into_iter().flat_map(of).collect()
    }

    /// A new secret of this kind is in use from here on; those before it stay. `latest`: no session was opened later, by
    /// whatever clock; `oldest`: none is older. The same order given again, before anything was done after it, finds the
    /// secret that it has made. Blocks on the disk.
    ///
    /// # Errors
    /// [`ChangeError::TooManyKept`]; [`ChangeError::Failed`]: the old one is in use.
    pub fn renew_secret(
        &self,
        kind: SecretKind,
        latest: Timestamp,
        oldest: Option<Timestamp>,
        what_for: Renewal,
    ) -> Result<SecretInfo, ChangeError> {
        let now = self.clock.now();
        let again = |named: &&Named| {
            named.made_for == Some(what_for) && named.created.is_some_and(|made| now.since(made) < AGAIN)
        };
        self.changing(|writer| {
            let mut next = writer.stored.clone();
            let list = next.of(kind);
            if let Some(made) = list.last().filter(again) {
                return Ok(SecretInfo::of(kind, made));
            }
            let kept = list.len() - unneeded(kind, list, oldest);
            if kept >= what_for.most_kept() {
                return Err(ChangeError::TooManyKept { kind, kept });
            }
            next.renew(kind, now, latest, what_for, &*self.random);
            let made = next.of(kind).last().map(|named| SecretInfo::of(kind, named));
            self.commit_secrets(writer, next)?;
            Ok(made.expect("one has just been made"))
        })
    }

    /// Drops those that are older than `oldest`, the oldest session that there is. The feed keeps the one before, since
    /// verifiers ask for its keys as soon as they see a new one. Says which went. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyringError`]: they are as they were.
    pub fn drop_unneeded_secrets(
        &self,
        kind: SecretKind,
        oldest: Option<Timestamp>,
    ) -> Result<Vec<SecretInfo>, KeyringError> {
        self.changing(|writer| {
            writer.stored.settle(kind);
            let mut next = writer.stored.clone();
            let unneeded = unneeded(kind, next.of(kind), oldest);
            if unneeded == 0 {
                return Ok(Vec::new());
            }
            let gone = next.drop_oldest(kind, unneeded);
            let last = gone.last().and_then(|named| named.superseded).filter(|_| kind != SecretKind::Feed);
            next.forgotten_until = next.forgotten_until.max(last.map(|at| at.plus(IN_FLIGHT)));
            self.commit_secrets(writer, next)?;
            Ok(gone.iter().map(|named| SecretInfo::of(kind, named)).collect())
        })
    }

    /// All secrets of this kind but the one in use are in other hands. The feed's are dropped. With `ended`, the instant of
    /// the cut-off that has ended all sessions, the others are too; without it derivation and sealing keys stay, for nothing
    /// but the sessions that were opened under them. Says which were dropped. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyringError`]: they are as they were.
    pub fn give_up_secrets(&self, kind: SecretKind, ended: Option<Timestamp>) -> Result<Vec<SecretInfo>, KeyringError> {
        self.changing(|writer| {
            let mut next = writer.stored.clone();
            next.settle(kind);
            let list = next.of_mut(kind);
            let old = list.len() - 1;
            list[..old].iter_mut().for_each(|named| named.given_up = true);
            let goes = kind == SecretKind::Feed || ended.is_some();
            let gone = next.drop_oldest(kind, if goes { old } else { 0 });
            // What was being opened as the key went is stamped a moment later.
            next.forgotten_until = next.forgotten_until.max(ended.map(|at| at.plus(IN_FLIGHT)));
            self.commit_secrets(writer, next)?;
            Ok(gone.iter().map(|named| SecretInfo::of(kind, named)).collect())
        })
    }

    /// Whatever was made until then under keys that are not here is over: refused for good. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyringError`]: nothing has changed.
    pub fn forget_unknown(&self, until: Timestamp) -> Result<(), KeyringError> {
        self.changing(|writer| {
            let mut next = writer.stored.clone();
            next.forgotten_until = next.forgotten_until.max(Some(until));
            self.commit_secrets(writer, next)
        })
    }

    fn commit_secrets(&self, writer: &mut Writer, next: Stored) -> Result<(), KeyringError> {
        let now = self.current.load_full();
        let private = halves(&now.ring, writer.private.iter().map(|key| &**key));
        let whole = Whole { ring: &now.ring, private: &private, secrets: &next };
        writer.home.keep_secrets(&whole, &*self.random)?;
        // Only then: nothing may be made under a key that a crash could take back. What lies there if the sync fails is sound
        // too, since it has every key that was ever in use and is needed.
        writer.home.sync()?;
        self.secrets.store(Arc::new(next.secrets()));
        writer.stored = next;
        Ok(())
    }
}

/// How many of them, from the oldest on, nobody needs. No session needs what was replaced before the oldest one was
/// opened; what else was made with it is over.
fn unneeded(kind: SecretKind, list: &[Named], oldest: Option<Timestamp>) -> usize {
    let newest = list.len() - 1;
    match (kind, oldest) {
        (SecretKind::Feed, _) => newest.saturating_sub(1),
        (_, None) => 0,
        (_, Some(oldest)) => {
            let is_over = |named: &&Named| named.superseded.is_some_and(|at| at.plus(SURELY) < oldest);
            list.iter().take_while(is_over).count().min(newest)
        }
    }
}

//! The family rule: what happens when a refresh token is presented.
//!
//! A *family* is all refresh tokens descended from one login; a *generation* is a place in it. [`judge`] decides and
//! [`Lineage::apply`] carries out; both are pure. Every store applies this rule and no other, and
//! `tests/rule/cases.json` holds each store, and the rule itself, to one table of cases.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A place in a family. The token handed out at the opening is generation 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// The one after it; `None` after 2³² − 1 rotations.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// Milliseconds during which the store could answer, since it was created. Windows are measured in these, so that an
/// outage, a suspended machine or a clock set wrong costs no client its retry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Served(pub u64);

impl Served {
    /// Stands in a [`Stamp`] for "no 2xx has carried it yet": any window that counts from it has not begun.
    pub const NOT_YET: Self = Self(u64::MAX);

    /// How much of it lies between `earlier` and now.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// When one generation came about, and when it last left with a 2xx.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// When its predecessor was rotated, or, if that was answered 503, when it first left. The window counts from here.
    pub rotated: Served,
    /// When it was last given, by the rotation or by a retry.
    pub given: Served,
}

/// How many generations keep their stamps, the newest first. For an older one the oldest kept stamp speaks: it errs
/// towards "a late duplicate", which changes nothing, for one window at most.
pub const STAMPS: usize = 4;

/// Why a family was closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Closure {
    /// Its client ended it (RFC 7009).
    LoggedOut,
    /// A trusted client or an operator ended it.
    Revoked,
    /// A spent token came back: somebody else holds a copy.
    Reused,
    /// Another client presented its token.
    OtherClient,
    /// It was presented without the key that it is bound to.
    OtherKey,
    /// A token newer than a restored backup: what the backup knows of the family is out of date.
    AheadOfBackup,
    /// Its subject opened another, had as many as are allowed, and this was the oldest.
    Displaced,
}

/// A closed family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Closed {
    /// Why.
    pub cause: Closure,
    /// When.
    pub at: Timestamp,
}

/// The part of a family that changes as its tokens are used: constant in size, whatever the number of rotations.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Lineage {
    /// The newest generation.
    pub head: Generation,
    /// Stamps of `head`, `head − 1`, …
    pub stamps: [Stamp; STAMPS],
    /// Set once; a closed family never opens again.
    pub closed: Option<Closed>,
    /// When it was last refreshed, or opened.
    pub last_used: Timestamp,
    /// It ends then unless it is used before.
    pub idle_until: Timestamp,
    /// It ends then.
    pub absolute_until: Timestamp,
    /// By then every access token minted for it has expired.
    pub access_until: Timestamp,
    /// Which coming-back of the store saw its opening. Its use does not move this: an older token that comes first
    /// after a loss must not pass for a record that has lost nothing.
    pub incarnation: u32,
}

/// How long things last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    /// An access token.
    pub access: Duration,
    /// A session without use.
    pub idle: Duration,
    /// A session.
    pub absolute: Duration,
    /// How long after a rotation its answer may be fetched again.
    pub retry_window: Duration,
}

/// The instant of a step, as the store tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Time of day.
    pub now: Timestamp,
    /// Time served.
    pub served: Served,
    /// How often the store has come back as another.
    pub incarnation: u32,
    /// The last incarnation that began with an operator's word that a backup was restored; 0 if none did.
    pub restored: u32,
}

/// Whether the store is the one it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Standing {
    /// It is, or what was missing has been pushed again.
    #[default]
    Whole,
    /// It came back empty, and no operator has accepted the loss.
    Wiped,
    /// It came back as another, older or not yet whole.
    NotWhole,
}

/// What was found about the presented secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Secret {
    /// It is this family's for this generation.
    Right,
    /// It is not.
    Wrong,
    /// It could not be compared: no key, or no record.
    Unchecked,
}

/// Who presents it, measured against the family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Holder {
    /// The family's client, having authenticated or shown the bound key.
    Proven,
    /// The family's client by name alone.
    Named,
    /// Another client.
    OtherClient,
    /// The family's client, but without the key that the family is bound to.
    OtherKey,
}

/// Everything that the rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whether the keyed tag is right; when it is not, nothing else was looked at.
    pub tag: bool,
    /// Whether this node holds the family's derivation key.
    pub key: bool,
    /// Whether the store is the one it was.
    pub standing: Standing,
    /// The family, if the store knows it.
    pub lineage: Option<&'a Lineage>,
    /// The presented secret.
    pub secret: Secret,
    /// Whether a cut-off covers the family's opening.
    pub cut_off: bool,
    /// Who presents it.
    pub holder: Holder,
    /// The presented generation.
    pub generation: Generation,
    /// When.
    pub moment: Moment,
    /// The retry window.
    pub window: Duration,
}

/// The outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Verdict {
    /// `invalid_grant`; nothing changes.
    Refused(Refusal),
    /// 503; nothing changes.
    Unavailable(Doubt),
    /// `invalid_grant`, and the family ends.
    Close(Closure),
    /// The head moves on by one.
    Rotate,
    /// The successor that was given is given again.
    Retry,
    /// The store had lost rotations: the head becomes the presented generation, then moves on by one.
    Heal,
}

/// Why a token is refused. The client hears only `invalid_grant`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Not one of ours.
    Forged,
    /// No such family.
    Unknown,
    /// The family has been closed.
    Closed,
    /// Not used for too long.
    Idle,
    /// At the end of its absolute life.
    Expired,
    /// Opened before a cut-off that covers it.
    CutOff,
}

/// Why no answer can be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// This node lacks the family's derivation key, so that the secret could not be compared.
    KeyMissing,
    /// The store came back as another.
    StoreNotWhole,
    /// The store came back empty and waits for an operator.
    WipeUndecided,
    /// A spent token whose successor was given a moment ago: a duplicate that was late on the way.
    LateDuplicate,
    /// A generation that the store has never heard of.
    AheadOfStore,
}

/// The rule. First match decides.
#[must_use]
pub fn judge(facts: &Facts<'_>) -> Verdict {
    use Verdict::{Close, Heal, Refused, Retry, Rotate, Unavailable};
    if !facts.tag || facts.secret == Secret::Wrong {
        return Refused(Refusal::Forged);
    }
    if !facts.key {
        return Unavailable(Doubt::KeyMissing);
    }
    if facts.standing == Standing::NotWhole {
        return Unavailable(Doubt::StoreNotWhole);
    }
    let Some(lineage) = facts.lineage else {
        let wiped = facts.standing == Standing::Wiped;
        return if wiped { Unavailable(Doubt::WipeUndecided) } else { Refused(Refusal::Unknown) };
    };
    if facts.secret != Secret::Right {
        return Unavailable(Doubt::KeyMissing);
    }
    if let Some(refusal) = lineage.ended(facts.moment.now, facts.cut_off) {
        return Refused(refusal);
    }
    match facts.holder {
        Holder::OtherClient => return Close(Closure::OtherClient),
        Holder::OtherKey => return Close(Closure::OtherKey),
        Holder::Proven | Holder::Named => {}
    }
    match facts.generation.cmp(&lineage.head) {
        std::cmp::Ordering::Equal => Rotate,
        std::cmp::Ordering::Less => match lineage.successor_of(facts.generation) {
            (true, stamp) if facts.holder == Holder::Proven || facts.within(stamp.rotated) => Retry,
            (_, stamp) if facts.within(stamp.given) => Unavailable(Doubt::LateDuplicate),
            _ => Close(Closure::Reused),
        },
        std::cmp::Ordering::Greater if facts.generation.next().is_none() => Refused(Refusal::Expired),
        std::cmp::Ordering::Greater if lineage.incarnation < facts.moment.restored => Close(Closure::AheadOfBackup),
        std::cmp::Ordering::Greater if lineage.incarnation < facts.moment.incarnation => Heal,
        std::cmp::Ordering::Greater => Unavailable(Doubt::AheadOfStore),
    }
}

impl Facts<'_> {
    fn within(&self, stamp: Served) -> bool {
        self.moment.served.since(stamp) < self.window
    }
}

impl Lineage {
    /// A family that begins.
    #[must_use]
    pub fn open(moment: Moment, lives: &Lifetimes) -> Self {
        let stamp = Stamp { rotated: moment.served, given: moment.served };
        let absolute_until = moment.now.plus(lives.absolute);
        let mut lineage = Self {
            head: Generation(0),
            stamps: [stamp; STAMPS],
            closed: None,
            last_used: moment.now,
            idle_until: absolute_until,
            absolute_until,
            access_until: moment.now,
            incarnation: moment.incarnation,
        };
        lineage.touch(moment, lives);
        lineage
    }

    /// Why it has ended, if it has.
    #[must_use]
    pub fn ended(&self, now: Timestamp, cut_off: bool) -> Option<Refusal> {
        match () {
            () if self.closed.is_some() => Some(Refusal::Closed),
            // The last generation has no successor to hand out.
            () if now >= self.absolute_until || self.head.next().is_none() => Some(Refusal::Expired),
            () if now >= self.idle_until => Some(Refusal::Idle),
            () if cut_off => Some(Refusal::CutOff),
            () => None,
        }
    }

    /// Carries out a verdict. `Refused` and `Unavailable` change nothing. `presented` matters to `Heal` alone.
    pub fn apply(&mut self, verdict: Verdict, presented: Generation, moment: Moment, lives: &Lifetimes) {
        match verdict {
            Verdict::Refused(_) | Verdict::Unavailable(_) => {}
            Verdict::Close(cause) => {
                self.close(cause, moment);
            }
            Verdict::Retry => {
                self.given(moment.served);
                self.touch(moment, lives);
            }
            Verdict::Rotate => self.rotate(moment, lives),
            Verdict::Heal => {
                // The lost rotations were just now as far as anyone can tell: their duplicates are late, not reuse.
                self.head = presented;
                self.stamps = [Stamp { rotated: moment.served, given: moment.served }; STAMPS];
                self.rotate(moment, lives);
            }
        }
    }

    /// Closes it; `false` if it was closed before, which keeps the first cause.
    pub fn close(&mut self, cause: Closure, moment: Moment) -> bool {
        if self.closed.is_some() {
            return false;
        }
        self.closed = Some(Closed { cause, at: moment.now });
        true
    }

    /// The rotation to `head` is durable, but was answered 503: its window begins with the first 2xx.
    pub fn unanswered(&mut self) {
        self.stamps[0] = Stamp { rotated: Served::NOT_YET, given: Served::NOT_YET };
    }

    fn given(&mut self, at: Served) {
        let newest = &mut self.stamps[0];
        newest.given = at;
        if newest.rotated == Served::NOT_YET {
            newest.rotated = at;
        }
    }

    fn rotate(&mut self, moment: Moment, lives: &Lifetimes) {
        let Some(next) = self.head.next() else { return };
        if self.stamps[0].given == Served::NOT_YET {
            // Its client shows it, so some answer did carry it.
            self.given(moment.served);
        }
        self.head = next;
        self.stamps.rotate_right(1);
        self.stamps[0] = Stamp { rotated: moment.served, given: moment.served };
        self.touch(moment, lives);
    }

    fn touch(&mut self, moment: Moment, lives: &Lifetimes) {
        self.last_used = self.last_used.max(moment.now);
        self.idle_until = moment.now.plus(lives.idle).min(self.absolute_until);
        self.access_until = self.access_until.max(self.access_expiry(moment.now, lives));
    }

    /// When an access token minted now expires: a session's tokens do not outlive it.
    #[must_use]
    pub fn access_expiry(&self, now: Timestamp, lives: &Lifetimes) -> Timestamp {
        now.plus(lives.access).min(self.absolute_until)
    }

    /// For how much served time a generation has been spent; the flag says "at least". `None` if it is not spent.
    #[must_use]
    pub fn spent_for(&self, generation: Generation, now: Served) -> Option<(bool, Duration)> {
        if generation >= self.head {
            return None;
        }
        let (_, stamp) = self.successor_of(generation);
        let forgotten = self.head.0 - generation.0 > STAMPS as u32;
        Some((forgotten, now.since(stamp.rotated)))
    }

    /// Whether the successor of a spent generation is the head, and that successor's stamp.
    fn successor_of(&self, spent: Generation) -> (bool, Stamp) {
        let behind = self.head.0.saturating_sub(spent.0).saturating_sub(1) as usize;
        (behind == 0, self.stamps[behind.min(STAMPS - 1)])
    }
}

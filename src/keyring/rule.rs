//! What may be done to a signing key in which state, as one table: the ring applies it, the documents print it.

use std::fmt;

use super::ring::KeyState;
use crate::model::{Kid, Timestamp};

/// What can be done to a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// It signs from now on; the key that did retires.
    Activate,
    /// As [`Step::Activate`], for a key that has signed before.
    RollBack,
    /// It leaves the JWKS.
    Retire,
    /// Its private half is destroyed.
    Destroy,
    /// It leaves the JWKS at once, its private half is destroyed, and the feed denies it for ever.
    Compromise,
}

impl Step {
    /// All of them, in the order of a key's life.
    pub const ALL: [Self; 5] = [Self::Activate, Self::RollBack, Self::Retire, Self::Destroy, Self::Compromise];

    /// Its name on the wire and in the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::RollBack => "rollback",
            Self::Retire => "retire",
            Self::Destroy => "destroy",
            Self::Compromise => "compromise",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a step waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wait {
    /// Nothing.
    Nothing,
    /// The key, and another one that then stands by, have been published for `publish_ahead`.
    Published,
    /// Another pending key has been published for `publish_ahead`, and goes on standing by.
    Spare,
    /// The last token that the key signed has expired everywhere.
    Expired,
}

impl Wait {
    /// In words, for the table in `docs/keys.md`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Published => "it, and another standby, have been published for `publish_ahead`",
            Self::Spare => "another standby has been published for `publish_ahead`",
            Self::Expired => "its last token has expired, with leeway and caches (`verifies_until`)",
        }
    }
    /// What goes wrong for whoever does not wait. `None`: nothing is waited for.
    #[must_use]
    pub const fn breaks(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Published => Some(
                "verifiers that do not know the key yet refuse valid tokens, and an emergency may find no standby that they \
                 know",
            ),
            Self::Spare => Some("there is no standby that verifiers know, should the signing key be compromised"),
            Self::Expired => Some("tokens that it signed and that have not expired are refused"),
        }
    }
}

/// One row: a step that is legal in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What is done.
    pub step: Step,
    /// To a key in this state.
    pub from: KeyState,
    /// Which is in this one afterwards.
    pub to: KeyState,
    /// What it waits for, unless it is forced.
    pub wait: Wait,
}

const fn rule(step: Step, from: KeyState, to: KeyState, wait: Wait) -> Rule {
    Rule { step, from, to, wait }
}

/// All that is legal. What is not in here is refused.
pub const RULES: &[Rule] = &[
    rule(Step::Activate, KeyState::Pending, KeyState::Active, Wait::Published),
    rule(Step::RollBack, KeyState::Retiring, KeyState::Active, Wait::Nothing),
    rule(Step::Retire, KeyState::Retiring, KeyState::Retired, Wait::Expired),
    rule(Step::Destroy, KeyState::Pending, KeyState::Destroyed, Wait::Spare),
    rule(Step::Destroy, KeyState::Retired, KeyState::Destroyed, Wait::Nothing),
    rule(Step::Compromise, KeyState::Pending, KeyState::Compromised, Wait::Nothing),
    rule(Step::Compromise, KeyState::Active, KeyState::Compromised, Wait::Nothing),
    rule(Step::Compromise, KeyState::Retiring, KeyState::Compromised, Wait::Nothing),
    rule(Step::Compromise, KeyState::Retired, KeyState::Compromised, Wait::Nothing),
    rule(Step::Compromise, KeyState::Destroyed, KeyState::Compromised, Wait::Nothing),
];

/// The row of a step in a state.
#[must_use]
pub fn find(step: Step, from: KeyState) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.step == step && rule.from == from)
}

/// Why a step was not taken. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// No key has that name.
    #[error("no key of this kid is known here")]
    Unknown,
    /// Not in this state, ever.
    #[error("cannot {step} a key that is {state}: {}", why_not(*.step, *.state))]
    Illegal {
        /// What was asked.
        step: Step,
        /// Of a key in this state.
        state: KeyState,
    },
    /// Not yet.
    #[error(transparent)]
    TooEarly(#[from] TooEarly),
    /// There is nothing to go back to.
    #[error("no key is retiring, so there is none to go back to")]
    NothingRetiring,
    /// Enough keys stand by.
    #[error("{0} keys stand by already; activate or destroy some first")]
    TooManyPending(usize),
    /// Another would make the key set longer than verifiers read.
    #[error("{0} keys retire already, and a longer key set is refused by verifiers; wait until some have retired")]
    TooManyRetiring(usize),
    /// A key of this name is or was here.
    #[error("this key is known here already, as {kid}, and is {state}; no key is taken in twice")]
    Known {
        /// Its name.
        kid: Kid,
        /// Where it is in its life.
        state: KeyState,
    },
}

/// Not before some instant, unless it is forced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not before {}: sooner, {breaks}", earliest.to_rfc3339())]
pub struct TooEarly {
    /// From when on nothing breaks.
    pub earliest: Timestamp,
    /// What would.
    pub breaks: &'static str,
}

/// Says why a row is missing.
const fn why_not(step: Step, state: KeyState) -> &'static str {
    match (step, state) {
        (_, KeyState::Compromised) => "whatever it signs is refused for ever",
        (Step::Activate, KeyState::Active) => "it signs already",
        (Step::Activate, KeyState::Retiring) => "it has signed before; roll back to it instead",
        (Step::RollBack, KeyState::Pending) => "it has never signed; activate it instead",
        (Step::RollBack, KeyState::Active) => "it signs already",
        (Step::Activate | Step::RollBack, _) => "verifiers do not have it any more",
        (Step::Retire, KeyState::Pending) => "it has signed nothing; destroy it instead",
        (Step::Retire, KeyState::Active) => "it signs; activate another one first",
        (Step::Retire, _) => "it has left the key set already",
        (Step::Destroy, KeyState::Active) => "it signs; activate another one first",
        (Step::Destroy, KeyState::Retiring) => "it still verifies, and may be rolled back to; retire it first",
        (Step::Destroy, _) => "its private half is gone already",
        (Step::Compromise, _) => "it is already",
    }
}

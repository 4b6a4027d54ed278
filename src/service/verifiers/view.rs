//! What is told of verifiers that report.

use std::net::IpAddr;

use crate::model::{ClientId, Timestamp, VerifierName, feed::Epoch};

/// How a verifier is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifierState {
    /// It has applied all that was acknowledged more than five seconds ago.
    Current,
    /// It has not.
    Behind,
    /// It has asked nothing for half a minute: it is gone, or answers 503 once its `max_staleness` is over.
    Silent,
}

impl VerifierState {
    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Silent => "silent",
        }
    }
}

/// A verifier that reports.
#[derive(Clone, Debug)]
pub struct VerifierView {
    /// The client by which it reports.
    pub client: ClientId,
    /// Which one of it.
    pub name: VerifierName,
    /// From where it asked last.
    pub address: IpAddr,
    /// Whether it follows this life of the log.
    pub epoch_current: bool,
    /// Up to where it has applied the log. None: it has not said so, or the log does not know that place.
    pub position: Option<u64>,
    /// How many entries lie beyond that.
    pub behind: Option<u64>,
    /// When the first of those was acknowledged.
    pub behind_since: Option<Timestamp>,
    /// Whether it verifies with the key set that is published now.
    pub keys_current: bool,
    /// When it first said to be at this position.
    pub confirmed: Option<Timestamp>,
    /// When it asked last.
    pub seen: Timestamp,
    /// How it is.
    pub state: VerifierState,
}

/// How many verifiers are in each state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerifierStates {
    /// See [`VerifierState::Current`].
    pub current: usize,
    /// See [`VerifierState::Behind`].
    pub behind: usize,
    /// See [`VerifierState::Silent`].
    pub silent: usize,
}

/// How many have applied the log up to a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Up to where.
    pub position: u64,
    /// How many have, those that are silent since among them: what is denied once is not accepted again.
    pub applied: usize,
    /// How many have not, and are heard of.
    pub missing: usize,
    /// How many have not, and are silent.
    pub silent: usize,
    /// When the last of those that have had said so, or that it was further.
    pub confirmed: Option<Timestamp>,
}

/// Which verifiers.
#[derive(Clone, Debug, Default)]
pub struct VerifierQuery {
    /// Those after this one.
    pub after: Option<(ClientId, VerifierName)>,
    /// How many at most.
    pub limit: usize,
    /// Up to where the log is to be applied, in this life of it.
    pub position: Option<u64>,
}

/// A part of the verifiers, by client and name, and numbers about all.
#[derive(Clone, Debug)]
pub struct VerifierPage {
    /// Which life of the log.
    pub epoch: Epoch,
    /// The last position given out.
    pub head: u64,
    /// All, by state.
    pub states: VerifierStates,
    /// All, by whether they have applied what was asked for.
    pub applied: Option<Applied>,
    /// The part.
    pub verifiers: Vec<VerifierView>,
    /// For `after` of the next part, if there is one.
    pub next: Option<(ClientId, VerifierName)>,
}

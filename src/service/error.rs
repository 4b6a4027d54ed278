//! What can go wrong, by who must act. `http/error.rs` makes a status of it.

use std::time::Duration;

use crate::{
    denylist::DenyError,
    families::{OpenError, RefreshError},
    issuer::MintError,
    keyring::{ChangeError, StepError, Unconfirmed},
    model::{Timestamp, family::Doubt},
    service::Permission,
    store::StoreError,
};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody we know, or not proven: `invalid_client`.
    #[error("client authentication failed")]
    Client,
    /// A client that proved itself with its key, by an assertion that is no good: `invalid_client`.
    #[error("client_assertion: {0}")]
    Assertion(&'static str),
    /// The grant is no good: `invalid_grant`. The cause is for the audit log only.
    #[error("the grant is invalid, expired, revoked or another client's")]
    Grant(&'static str),
    /// `invalid_scope`.
    #[error("{0}")]
    Scope(&'static str),
    /// `unauthorized_client`.
    #[error("this client may not use this grant type")]
    GrantType,
    /// `unsupported_grant_type`.
    #[error("grant_type must be refresh_token or client_credentials")]
    UnsupportedGrantType,
    /// The request makes no sense: `invalid_request`. Which member, and what was expected.
    #[error("{field}: {hint}")]
    Request {
        /// Which parameter or member.
        field: &'static str,
        /// What was expected of it.
        hint: String,
    },
    /// The caller lacks a permission.
    #[error("this client lacks the permission {}", .0.name())]
    Forbidden(Permission),
    /// The caller may do this, but not that far.
    #[error("{0}")]
    Beyond(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(&'static str),
    /// It cannot be done in this state. A stable code, and how to go on.
    #[error("{hint}")]
    Conflict {
        /// Stable.
        code: &'static str,
        /// How to go on.
        hint: String,
        /// From when it will be possible, if that is known.
        earliest: Option<Timestamp>,
    },
    /// Too much, too often: 429. Nothing was changed.
    #[error("{whose} asks too often; nothing was changed")]
    TooMany {
        /// Who is measured.
        whose: &'static str,
        /// When to come again.
        retry_after: Duration,
    },
    /// We cannot tell: 503.
    #[error("{why}")]
    Unavailable {
        /// Stable.
        code: &'static str,
        /// For people.
        why: String,
        /// When to come again.
        retry_after: Duration,
    },
}

/// Of a `kid` that nobody has.
pub(crate) const NO_SUCH_KEY: &str =
    "no key of this kid is known here; `rescind keys list` and GET /v1/keys name those that are";

impl Error {
    /// A request error.
    pub fn request(field: &'static str, hint: impl Into<String>) -> Self {
        Self::Request { field, hint: hint.into() }
    }

    /// A task of ours ended without an answer.
    pub(super) fn broke_off(error: &tokio::task::JoinError) -> Self {
        tracing::error!(%error, "a change broke off");
        Self::unavailable("broke_off", "the change broke off; look whether it was made", 5)
    }

    /// The book of clients does not open.
    pub(super) fn clients_unknown() -> Self {
        Self::unavailable("clients_unknown", "it is not known which clients are disabled; an operator must look", 60)
    }

    /// The store has lost what it knew of assertions.
    pub(super) fn assertion_unknown(wait: Duration) -> Self {
        let why = "the store was put back, or the clock: whether this assertion has been used is not known";
        Self::unavailable("assertion_unknown", why, wait.as_secs().clamp(1, 600))
    }

    /// A client has as many that are still good as it may.
    pub(super) const fn too_many_assertions() -> Self {
        let whose = "with assertions that stay good for so long, this client";
        Self::TooMany { whose, retry_after: Duration::from_secs(30) }
    }

    fn unavailable(code: &'static str, why: impl Into<String>, seconds: u64) -> Self {
        Self::Unavailable { code, why: why.into(), retry_after: Duration::from_secs(seconds) }
    }
}

impl From<StoreError> for Error {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Busy => Self::unavailable("busy", "too many requests are waiting; nothing was changed", 1),
            StoreError::NotWhole => Self::unavailable("store_not_whole", e.to_string(), 30),
            StoreError::Failed(_) => {
                tracing::error!(error = %e, "the store did not answer");
                Self::unavailable("store_unavailable", "the store cannot answer; your token still works afterwards", 2)
            }
            // An operator must do something; /readyz says what.
            StoreError::Layout(_) => {
                Self::unavailable("store_unavailable", "the store cannot answer; your token still works afterwards", 30)
            }
            StoreError::KeysUnconfirmed(unconfirmed) => unconfirmed.into(),
            StoreError::Damaged(_) => {
                tracing::error!(error = %e, "a record in the store is damaged");
                Self::unavailable("store_damaged", "a record cannot be read; an operator must look", 60)
            }
        }
    }
}

impl From<Unconfirmed> for Error {
    fn from(e: Unconfirmed) -> Self {
        Self::unavailable("keys_unconfirmed", format!("{e}; your token still works afterwards"), 2)
    }
}

impl From<RefreshError> for Error {
    fn from(e: RefreshError) -> Self {
        match e {
            RefreshError::Refused(_) => Self::Grant("refused"),
            RefreshError::Closed(_) => Self::Grant("closed"),
            RefreshError::Scope => Self::Scope("the scope is wider than the session's"),
            RefreshError::Store(e) => e.into(),
            RefreshError::Doubt(doubt) => {
                let (code, why, seconds) = match doubt {
                    Doubt::KeyMissing => ("key_missing", "this node lacks the key of this token's family", 30),
                    Doubt::StoreNotWhole | Doubt::WipeUndecided => (
                        "store_not_whole",
                        "the store came back without acknowledged writes; an operator must decide",
                        30,
                    ),
                    Doubt::LateDuplicate => {
                        ("late_duplicate", "this token was exchanged a moment ago; use the newest one", 1)
                    }
                    Doubt::AheadOfStore => ("ahead_of_store", "the store does not know this generation yet", 5),
                };
                Self::unavailable(code, why, seconds)
            }
        }
    }
}

impl From<OpenError> for Error {
    fn from(e: OpenError) -> Self {
        match e {
            OpenError::Full => {
                let hint = "the subject has as many sessions as it may; end one first".into();
                Self::Conflict { code: "too_many_sessions", hint, earliest: None }
            }
            OpenError::Store(e) => e.into(),
        }
    }
}

impl From<DenyError> for Error {
    fn from(e: DenyError) -> Self {
        let hint = e.to_string();
        match e {
            DenyError::ActiveKey => Self::Conflict { code: "active_key", hint, earliest: None },
            DenyError::StandbyKey => Self::Conflict { code: "standby_key", hint, earliest: None },
            DenyError::UnknownKey => Self::NotFound(NO_SUCH_KEY),
            DenyError::Future => Self::request("before", hint),
            DenyError::Store(e) => e.into(),
        }
    }
}

impl From<StepError> for Error {
    fn from(e: StepError) -> Self {
        let hint = e.to_string();
        let conflict = |code| Self::Conflict { code, hint, earliest: None };
        match e {
            StepError::Unknown => Self::NotFound(NO_SUCH_KEY),
            StepError::TooEarly(early) => {
                Self::Conflict { code: "too_early", hint: early.to_string(), earliest: Some(early.earliest) }
            }
            StepError::Illegal { .. } => conflict("key_state"),
            StepError::NothingRetiring => conflict("nothing_retiring"),
            StepError::TooManyPending(_) => conflict("too_many_pending"),
            StepError::TooManyRetiring(_) => conflict("too_many_retiring"),
            StepError::Known { .. } => conflict("key_known"),
        }
    }
}

impl From<ChangeError> for Error {
    fn from(e: ChangeError) -> Self {
        match e {
            ChangeError::Refused(e) => e.into(),
            ChangeError::NotAKey { .. } => Self::request("key", e.to_string()),
            ChangeError::Locked(what) => Self::request("passphrase", what),
            ChangeError::NotHere => Self::Conflict {
                code: "key_not_here",
                hint: "the private half of this key is not here".into(),
                earliest: None,
            },
            ChangeError::TooManyKept { .. } => {
                Self::Conflict { code: "too_many_keys", hint: e.to_string(), earliest: None }
            }
            ChangeError::Failed(e) => {
                tracing::error!(error = whole(&e), "the keys could not be changed");
                let why = "the keys could not be changed; those in use still are. The service's log names the file and the \
                           cause: make room, or let the service write there";
                Self::unavailable("keys_unavailable", why, 5)
            }
        }
    }
}

impl From<MintError> for Error {
    fn from(e: MintError) -> Self {
        match e {
            MintError::TooLong => Self::request("claims", "the access token would be longer than 8 KiB"),
            MintError::Unconfirmed(e) => e.into(),
            MintError::Signer(e) => {
                tracing::error!(error = %e, "no signature");
                Self::unavailable(
                    "signer_unavailable",
                    "the signing key does not answer; your token still works afterwards",
                    2,
                )
            }
        }
    }
}

/// An error with its causes: the outermost says where, the innermost what the system said.
pub(super) fn whole(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

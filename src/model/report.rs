//! A verifier that says who it is beside its question to the feed: the headers, and what the service answers.
//!
//! Headers, because a service that does not know them passes them over, where it would refuse a parameter: whatever
//! becomes of a report, the question is answered.

use std::fmt;

/// Says under which name a verifier reports: a [`crate::model::VerifierName`].
pub const NAME: &str = "verifier-name";
/// Says which key set it verifies with: a [`crate::model::feed::KeysVersion`].
pub const KEYS: &str = "verifier-keys";
/// Of the answer: what became of the report, a [`Reported`] by its name.
pub const OUTCOME: &str = "verifier-report";

/// What becomes of a verifier's report.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reported {
    /// It is remembered.
    Taken,
    /// Nobody proved who reports: by HTTP Basic or a certificate.
    Unauthenticated,
    /// The client has not the permission `verifiers:report`.
    Forbidden,
    /// The name or the version of the key set is none.
    Malformed,
    /// As many as may are remembered already.
    Full,
    /// Not now: too many have failed from this address, or it cannot be told who it is.
    Later,
    /// The service says nothing of it: it knows no reports.
    Ignored,
}

impl Reported {
    /// Those that a service says.
    pub const SAID: [Self; 6] =
        [Self::Taken, Self::Unauthenticated, Self::Forbidden, Self::Malformed, Self::Full, Self::Later];

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Malformed => "malformed",
            Self::Full => "full",
            Self::Later => "later",
            Self::Ignored => "ignored",
        }
    }

    /// What a service said. What we do not know is worth as much as silence.
    #[must_use]
    pub fn read(said: Option<&str>) -> Self {
        Self::SAID.into_iter().find(|known| Some(known.name()) == said).unwrap_or(Self::Ignored)
    }
}

/// For people: what to mend.
impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "taken",
            Self::Unauthenticated => "the issuer does not know this client, its secret is wrong, or it is disabled",
            Self::Forbidden => "the client lacks the permission verifiers:report",
            Self::Malformed => "the issuer cannot read the report",
            Self::Full => "the issuer remembers as many verifiers as it may, of this client or of all",
            Self::Later => "the issuer cannot take it now",
            Self::Ignored => "the issuer does not take reports",
        })
    }
}

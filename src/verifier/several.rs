//! Several issuers side by side.

use std::{collections::HashMap, fmt};

use super::{
    Misuse, Refused, Rejection, Requirement, Verified, Verifier,
    json::{Blame, Strict},
    jws::{Jws, MAX_TOKEN},
};
use crate::model::claims::Claims;

/// Verifiers of several issuers. A token is judged by the one of the issuer that it names, with that issuer's keys, feed
/// and policy and by no other.
pub struct Verifiers(HashMap<Box<str>, Verifier>);

impl Verifiers {
    /// Of these.
    ///
    /// # Errors
    /// [`Misuse::IssuerTwice`].
    pub fn new(verifiers: impl IntoIterator<Item = Verifier>) -> Result<Self, Misuse> {
        let mut by_issuer = HashMap::new();
        for verifier in verifiers {
            if by_issuer.insert(verifier.issuer().into(), verifier).is_some() {
                return Err(Misuse::IssuerTwice);
            }
        }
        Ok(Self(by_issuer))
    }
    /// The verifier of an issuer.
    #[must_use]
    pub fn of(&self, issuer: &str) -> Option<&Verifier> {
        self.0.get(issuer)
    }
    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Verifier> {
        self.0.values()
    }
    /// As [`Verifier::verify_for`].
    ///
    /// # Errors
    /// [`Refused`]; [`Rejection::Issuer`] for a token of nobody here.
    pub fn verify_for(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused> {
        // Not believed: it only chooses who judges, and that one asks it again once the signature holds.
        let issuer = named_issuer(token)?;
        self.of(&issuer).ok_or(Rejection::Issuer)?.verify_for(token, requirement)
    }
    /// As [`Verifier::verify`].
    ///
    /// # Errors
    /// As [`Verifiers::verify_for`].
    pub fn verify(&self, token: &str) -> Result<Verified<Claims>, Refused> {
        self.verify_for(token, &Requirement::default())
    }
}

fn named_issuer(token: &str) -> Result<Box<str>, Rejection> {
    let jws = Jws::parse(token, MAX_TOKEN)?;
    let blame = Blame::new();
    let claims = blame.read(&jws.payload, Strict::document(&blame)).map_err(|_| Rejection::ClaimsNotObject)?;
    claims.get("iss").and_then(|iss| iss.as_str()).map(Into::into).ok_or(Rejection::ClaimMissing("iss"))
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

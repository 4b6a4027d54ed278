//! Who judges.

use std::sync::Arc;

use crate::{
    model::claims::Claims,
    verifier::{Refused, Requirement, Verified, Verifier, Verifiers},
};

/// Judges tokens for a layer. Implement it to add a rule of your own around a [`Verifier`]: nobody else can make
/// [`Verified`] claims.
pub trait Judge: Send + Sync + 'static {
    /// Whether the token is good and enough. Must not block: it is called where requests are served.
    ///
    /// # Errors
    /// [`Refused`].
    fn judge(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused>;
}

impl Judge for Verifier {
    fn judge(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused> {
        self.verify_for(token, requirement)
    }
}

impl Judge for Verifiers {
    fn judge(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused> {
        self.verify_for(token, requirement)
    }
}

impl<J: Judge + ?Sized> Judge for Arc<J> {
    fn judge(&self, token: &str, requirement: &Requirement) -> Result<Verified<Claims>, Refused> {
        (**self).judge(token, requirement)
    }
}

//! The password, where it does not come from a file.

use zeroize::Zeroizing;

use super::url::{Password, StoreUrl};

impl StoreUrl {
    /// The same with this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.login.password = Some(Password::Said(Zeroizing::new(password.to_owned())));
        self
    }
}

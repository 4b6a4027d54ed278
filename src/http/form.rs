//! `application/x-www-form-urlencoded`, as RFC 6749 §3.2 wants it read.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::service::Error;

/// Parameters of one request, each at most once.
pub(super) struct Form(BTreeMap<String, Zeroizing<String>>);

/// Parameters that a request may have.
const MAX_PARAMETERS: usize = 64;

impl Form {
    /// Reads a body. Parameters without a value count as absent; a repeated one is refused (RFC 6749 §3.2).
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        let mut parameters = BTreeMap::new();
        for (i, (name, value)) in form_urlencoded::parse(body).enumerate() {
            if i >= MAX_PARAMETERS {
                return Err(Error::request("body", format!("more than {MAX_PARAMETERS} parameters")));
            }
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                return Err(Error::request("body", "is not UTF-8"));
            }
            if parameters.insert(name.into_owned(), Zeroizing::new(value.into_owned())).is_some() {
                return Err(Error::request("body", "a parameter is repeated"));
            }
        }
        parameters.retain(|_, value| !value.is_empty());
        Ok(Self(parameters))
    }

    /// All of it, in the order of names.
    #[cfg(any(test, fuzzing))]
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_str())).collect()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|v| v.as_str())
    }

    pub(super) fn required(&self, name: &'static str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| Error::request(name, "is missing"))
    }

    /// Takes a parameter out, so that a secret is held in one place.
    pub(super) fn take(&mut self, name: &str) -> Option<Zeroizing<String>> {
        self.0.remove(name)
    }
}

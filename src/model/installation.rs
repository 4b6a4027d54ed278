//! Whose keys: the name of an installation.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Names the keys of an installation: what one set of keys made, only that set can read. It is no secret, and tells two
/// installations apart by chance, not against somebody who forges it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Installation(pub u32);

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
impl fmt::Debug for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
/// As text: 8 hexadecimal digits.
impl Serialize for Installation {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Installation {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        u32::from_str_radix(&text, 16)
            .map(Self)
            .map_err(|_| D::Error::custom("an installation is a hexadecimal number"))
    }
}

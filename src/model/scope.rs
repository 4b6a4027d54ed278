//! `scope`: a set of words (RFC 6749 §3.3).

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of scope tokens, kept in order so that equal sets have one spelling.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Scope(BTreeSet<Box<str>>);

/// Why a text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("scope: words of visible ASCII without quote and backslash, one space between them, 2048 bytes at most")]
pub struct ScopeError;

impl Scope {
    /// Whether every word of `other` is in `self`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.is_subset(&self.0)
    }
    /// The words of both.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
    /// Whether it holds this word.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }
    /// Whether it holds no word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The words, in order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|w| &**w)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;
    /// The empty text is the empty set; the grammar is otherwise RFC 6749 appendix A.4.
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > 2048 {
            return Err(ScopeError);
        }
        let word = |w: &str| {
            let ok = !w.is_empty() && w.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
            ok.then(|| w.into()).ok_or(ScopeError)
        };
        text.split(' ').map(word).collect::<Result<_, _>>().map(Self)
    }
}
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_follows_the_grammar() {
        assert_eq!("b a b".parse::<Scope>().unwrap().to_string(), "a b");
        for bad in [" a", "a  b", "a ", "a\tb", "é", "a\"", "a\\", "\u{0}"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
    }
}

//! JSON with one meaning: no member twice, no depth without end.

use std::{borrow::Cow, cell::Cell, fmt, marker::PhantomData, str::FromStr};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Levels of objects and arrays that a header, the claims or a key set may have, the outermost counted.
pub const MAX_DEPTH: u8 = 16;

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not JSON, or not an object.
    NotObject,
    TooDeep,
    Duplicate,
    Mistyped(&'static str),
    NotATime(&'static str),
    NotUuidV7(&'static str),
}

/// What a type error at the place now being read would mean. Serde's own errors carry only text; this carries a value.
pub(super) struct Blame(Cell<Fault>);

impl Blame {
    pub(super) const fn new() -> Self {
        Self(Cell::new(Fault::NotObject))
    }
    /// From here on, a value that does not fit means `fault`.
    pub(super) fn on(&self, fault: Fault) {
        self.0.set(fault);
    }
    /// Fails with `fault`.
    pub(super) fn error<E: Error>(&self, fault: Fault) -> E {
        self.0.set(fault);
        E::custom("refused")
    }
    /// Reads the whole of `json`.
    pub(super) fn read<'de, S: DeserializeSeed<'de>>(&self, json: &'de [u8], seed: S) -> Result<S::Value, Fault> {
        let mut source = serde_json::Deserializer::from_slice(json);
        let read = seed.deserialize(&mut source).and_then(|value| source.end().map(|()| value));
        read.map_err(|e| if e.is_data() { self.0.get() } else { Fault::NotObject })
    }
    /// Reads the value of a typed member into its slot, once.
    pub(super) fn fill<'de, A: MapAccess<'de>, S: DeserializeSeed<'de>>(
        &self,
        map: &mut A,
        slot: &mut Option<S::Value>,
        fault: Fault,
        seed: S,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(self.error(Fault::Duplicate));
        }
        self.on(fault);
        *slot = Some(map.next_value_seed(seed)?);
        Ok(())
    }
}

/// The name of a member, with escapes resolved, borrowed where it has none.
pub(super) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}
impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A string that reads as a `T`.
pub(super) struct Text<T>(PhantomData<T>);

pub(super) const fn text<T>() -> Text<T> {
    Text(PhantomData)
}
impl<'de, T: FromStr> DeserializeSeed<'de> for Text<T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<T, D::Error> {
        d.deserialize_str(self)
    }
}
impl<T: FromStr> Visitor<'_> for Text<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::custom("not of its type"))
    }
}

/// Any value, under the strict rules at every level.
#[derive(Clone, Copy)]
pub(super) struct Strict<'a> {
    pub(super) blame: &'a Blame,
    /// Levels that this value may still open.
    pub(super) depth: u8,
}

impl<'a> Strict<'a> {
    /// For the value of a member of the outermost object.
    pub(super) const fn member(blame: &'a Blame) -> Self {
        Self { blame, depth: MAX_DEPTH - 1 }
    }
    /// For a whole document.
    pub(super) const fn document(blame: &'a Blame) -> Self {
        Self { blame, depth: MAX_DEPTH }
    }
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| self.blame.error(Fault::TooDeep))?;
        Ok(Self { depth, ..self })
    }
    /// Reads one member of the map into `members`.
    pub(super) fn insert<'de, A: MapAccess<'de>>(
        self,
        map: &mut A,
        members: &mut Map<String, Value>,
        name: Cow<'_, str>,
    ) -> Result<(), A::Error> {
        let value = map.next_value_seed(self)?;
        match members.insert(name.into_owned(), value) {
            None => Ok(()),
            Some(_) => Err(self.blame.error(Fault::Duplicate)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key_seed(Name)? {
            inner.insert(&mut map, &mut members, name)?;
        }
        Ok(Value::Object(members))
    }
}

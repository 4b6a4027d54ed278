//! Values as people write them in a configuration.

use std::{fmt, marker::PhantomData, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::super::args::StoreUrl;
use crate::{
    model::{Algorithm, session::OnFull, time::parse_duration},
    service::SecretHash,
};

/// A value that is written as a string and read by `T`, with an error that says what was expected.
#[derive(Clone, Debug)]
pub(crate) struct Written<T>(pub(crate) T);

/// How `T` is written.
pub(crate) trait Reads: Sized {
    /// What to write instead of a number or a list.
    const EXAMPLE: &str;
    fn read(text: &str) -> Result<Self, String>;
}

impl<'de, T: Reads> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text(PhantomData)).map(Self)
    }
}

struct Text<T>(PhantomData<T>);

impl<T: Reads> Visitor<'_> for Text<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "text such as {:?}", T::EXAMPLE)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::read(text).map_err(E::custom)
    }
}

impl Reads for Duration {
    const EXAMPLE: &str = "5m";
    fn read(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }
}
impl Reads for SocketAddr {
    const EXAMPLE: &str = "127.0.0.1:8080";
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not an address; write it as 127.0.0.1:8080 or [::1]:8080"))
    }
}
impl Reads for Algorithm {
    const EXAMPLE: &str = "EdDSA";
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not an algorithm; write EdDSA or Ed25519"))
    }
}
impl Reads for SecretHash {
    const EXAMPLE: &str = "64 hexadecimal digits";
    fn read(text: &str) -> Result<Self, String> {
        Self::from_str(text).map_err(str::to_owned)
    }
}
/// What a server may run on: a store that outlives it.
impl Reads for StoreUrl {
    const EXAMPLE: &str = "embedded:store";
    fn read(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Self::Memory => Err("`memory:` would forget every session with the process; `rescind dev` may".into()),
            store => Ok(store),
        }
    }
}

/// How many replicas have a change before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Durability(pub(crate) u16);

impl Reads for Durability {
    const EXAMPLE: &str = "replicas:1";
    fn read(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("replicas:").and_then(|number| number.parse().ok());
        number.filter(|n| *n <= 16).map(Self).ok_or_else(|| {
            format!("`{text}` is not a durability; write replicas: and how many of them must have each change, 0 to 16")
        })
    }
}

/// Where this node remembers what it has acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Journal {
    /// In memory alone.
    Off,
    /// On the disk, in this file.
    In(PathBuf),
}

impl Reads for Journal {
    const EXAMPLE: &str = "journal";
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty; write the path of a file, or off".into()),
            "off" => Ok(Self::Off),
            path => Ok(Self::In(path.into())),
        }
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) usize);

impl Reads for Size {
    const EXAMPLE: &str = "16KiB";
    fn read(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a size; write a number and a unit: 16KiB, 128MiB or 1GiB");
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let shift = match unit {
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(bad()),
        };
        let number: usize = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

/// What becomes of the sessions of a disabled client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnDisabled {
    /// Nothing.
    Keep,
    /// They end.
    EndSessions,
}

impl Reads for OnFull {
    const EXAMPLE: &str = "refuse";
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "end_oldest" => Ok(Self::EndOldest),
            _ => Err(format!("`{text}` is not a choice; write refuse or end_oldest")),
        }
    }
}

impl Reads for OnDisabled {
    const EXAMPLE: &str = "keep";
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Self::Keep),
            "end_sessions" => Ok(Self::EndSessions),
            _ => Err(format!("`{text}` is not a choice; write keep or end_sessions")),
        }
    }
}

//! `keyring.json`: which key is in which state, and since when. Replacing this file is what commits a change.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    error::KeyringError,
    ring::{KeyInfo, KeyState, Ring},
};
use crate::model::{
    Algorithm, Kid, PublicKey, Timestamp,
    time::{format_duration, parse_duration},
};

pub(super) const NAME: &str = "keyring.json";
const VERSION: u32 = 2;
/// Before a key could be compromised or rolled back to.
const BEFORE: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    keys: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    kid: Kid,
    alg: Algorithm,
    x: String,
    state: KeyState,
    created: Instant,
    published: Instant,
    activated: Option<Instant>,
    #[serde(default)]
    rolled_back: Option<Instant>,
    retiring_since: Option<Instant>,
    verifies_until: Option<Instant>,
    retired: Option<Instant>,
    #[serde(default)]
    destroyed: Option<Instant>,
    #[serde(default)]
    compromised: Option<Instant>,
    longest_token_life: String,
}

/// A timestamp as people read it.
pub(super) struct Instant(pub(super) Timestamp);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Timestamp::from_rfc3339(&text).map(Self).ok_or_else(|| D::Error::custom("a time is not RFC 3339"))
    }
}

pub(super) fn encode(ring: &Ring) -> Vec<u8> {
    let manifest = Manifest { version: VERSION, keys: ring.keys().iter().map(row).collect() };
    let mut json = serde_json::to_vec_pretty(&manifest).expect("strings and numbers serialise");
    json.push(b'\n');
    json
}

pub(super) fn decode(path: &Path, json: &[u8]) -> Result<Ring, KeyringError> {
    let garbled = |what: String| KeyringError::garbled(path.to_owned(), what);
    let manifest: Manifest = serde_json::from_slice(json).map_err(|e| garbled(format!("not a key manifest: {e}")))?;
    if ![BEFORE, VERSION].contains(&manifest.version) {
        return Err(garbled(format!("version {} is not {VERSION}, the one this program knows", manifest.version)));
    }
    let keys = manifest.keys.into_iter().map(key_of).collect::<Result<_, _>>().map_err(garbled)?;
    Ring::restore(keys).map_err(|e| garbled(e.to_string()))
}

fn row(key: &KeyInfo) -> Row {
    Row {
        kid: key.kid.clone(),
        alg: key.algorithm,
        x: key.key.x(),
        state: key.state,
        created: Instant(key.created),
        published: Instant(key.published),
        activated: key.activated.map(Instant),
        rolled_back: key.rolled_back.map(Instant),
        retiring_since: key.retiring_since.map(Instant),
        verifies_until: key.verifies_until.map(Instant),
        retired: key.retired.map(Instant),
        destroyed: key.destroyed.map(Instant),
        compromised: key.compromised.map(Instant),
        longest_token_life: format_duration(key.longest_token_life),
    }
}

fn key_of(row: Row) -> Result<KeyInfo, String> {
    Ok(KeyInfo {
        key: PublicKey::from_x(&row.x).map_err(|e| format!("key {}: {e}", row.kid))?,
        longest_token_life: parse_duration(&row.longest_token_life)?,
        kid: row.kid,
        algorithm: row.alg,
        state: row.state,
        created: row.created.0,
        published: row.published.0,
        activated: row.activated.map(|t| t.0),
        rolled_back: row.rolled_back.map(|t| t.0),
        retiring_since: row.retiring_since.map(|t| t.0),
        verifies_until: row.verifies_until.map(|t| t.0),
        retired: row.retired.map(|t| t.0),
        destroyed: row.destroyed.map(|t| t.0),
        compromised: row.compromised.map(|t| t.0),
    })
}

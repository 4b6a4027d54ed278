//! What servers say, read.

use std::collections::HashMap;

use redis::{ServerError, ServerErrorKind};

use super::wire::{Lost, Value, Wire, told};
use crate::store::redis::url::Place;

/// What an error says about a request that was not carried out.
pub(super) enum Refused {
    /// The script is not known there.
    NoScript,
    /// Another server has the slot now.
    Moved(Place),
    /// Another server has it for this once.
    Ask(Place),
    /// Not now: a slot is on its way, a server is starting, the cluster is choosing a master.
    Later(String),
    /// A replica: it was the master once.
    Demoted(String),
    /// No.
    No(String),
}

impl Refused {
    /// `at`: who said it.
    pub(super) fn of(error: &ServerError, at: &Place) -> Self {
        let place = || error.details().and_then(|detail| place(detail.split(' ').nth(1)?, at));
        let text = told(error);
        match error.kind() {
            Some(ServerErrorKind::NoScript) => Self::NoScript,
            Some(ServerErrorKind::Moved) => place().map_or(Self::Later(text), Self::Moved),
            Some(ServerErrorKind::Ask) => place().map_or(Self::Later(text), Self::Ask),
            Some(
                ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown,
            ) => Self::Later(text),
            Some(ServerErrorKind::ReadOnly) => Self::Demoted(text),
            // A script may say it inside another error.
            _ if text.contains("-READONLY") => Self::Demoted(text),
            _ if error.code() == "BUSY" => Self::Later(text),
            _ => Self::No(text),
        }
    }
}

/// `host:port`, where an absent host is the one that was asked.
fn place(text: &str, asked: &Place) -> Option<Place> {
    let (host, port) = text.rsplit_once(':')?;
    Some(at(host, port.parse().ok()?, asked))
}

/// A place as a server names it.
pub(super) fn at(host: &str, port: u16, asked: &Place) -> Place {
    match (host, asked) {
        ("" | "?", Place::Tcp(host, _)) => Place::Tcp(host.clone(), port),
        _ => Place::Tcp(host.trim_start_matches('[').trim_end_matches(']').into(), port),
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

pub(super) fn list(value: &Value) -> Option<&[Value]> {
    if let Value::Array(list) = value { Some(list) } else { None }
}

pub(super) fn int(value: &Value) -> Option<i64> {
    if let Value::Int(n) = value { Some(*n) } else { None }
}

/// The lines of `INFO`, of several sections.
pub(super) struct Info(HashMap<String, String>);

impl Info {
    pub(super) async fn ask(wire: &Wire, sections: &[&str]) -> Result<Self, Lost> {
        let mut pipe = redis::pipe();
        for section in sections {
            pipe.cmd("INFO").arg(section);
        }
        Self::read(&wire.ask_surely(pipe).await?)
    }

    pub(super) fn read(answers: &[Value]) -> Result<Self, Lost> {
        let mut all = HashMap::new();
        for answer in answers {
            if let Value::ServerError(error) = answer {
                return Err(Lost(told(error)));
            }
            let lines = text(answer).ok_or_else(|| Lost("INFO is not answered with text".into()))?.lines();
            all.extend(lines.filter_map(|line| line.split_once(':')).map(|(k, v)| (k.into(), v.trim().into())));
        }
        Ok(Self(all))
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }
}

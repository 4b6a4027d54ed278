//! What holds, and who said so.

use std::fmt::Write;

use serde_json::{Map, json};
use toml::Value;

use super::{super::say, Chosen, Exit, Failure, PrintArgs, failure};
use crate::cli::config::{
    ClientTable, Config,
    layers::{Declared, Leaf, Tree},
    schema::{Described, Key, Kind, Shown, dotted},
};

/// Where origins stand, unless a value is longer.
const COLUMN: usize = 48;
/// Of a hash as much as tells it from another.
const HASH_SHOWN: usize = 8;

pub(super) fn run(args: &PrintArgs) -> Result<Exit, Failure> {
    let tree = Chosen::load(&args.chosen).map_err(|problems| failure(&problems))?.tree;
    say(if args.json { as_json(&tree).to_string() } else { as_toml(&tree) });
    Ok(Exit::Yes)
}

fn as_toml(tree: &Tree) -> String {
    let mut out = String::new();
    for section in Config::SECTIONS {
        if !section.name.is_empty() {
            let _ = writeln!(out, "\n[{}]", section.name);
        }
        for key in section.keys {
            line(&mut out, key, tree.leaves.get(&dotted(section.name, key.name)));
        }
    }
    for client in &tree.clients {
        let _ = writeln!(out, "\n[[clients]]");
        for key in ClientTable::KEYS {
            line(&mut out, key, client.leaves.get(key.name));
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn line(out: &mut String, key: &Key, leaf: Option<&Leaf>) {
    let (said, origin) = match (leaf, key.traits.shown) {
        (Some(leaf), _) => (written(key, &leaf.value), leaf.origin.to_string()),
        (None, Shown::Unset { means, .. }) => (format!("# {}: {means}", key.name), "default".to_owned()),
        (None, _) => return,
    };
    let _ = writeln!(out, "{said:COLUMN$} # {origin}");
}

/// As it may stand in a file, but for what is redacted.
fn written(key: &Key, value: &Value) -> String {
    match (key.traits.kind, secret_file(value)) {
        (Kind::Secret, Some(path)) => format!("{}_file = {}", key.name, Value::from(path)),
        (Kind::Secret, None) => format!("# {} is set, and not shown", key.name),
        _ => format!("{} = {}", key.name, redacted(key, value)),
    }
}

fn secret_file(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix("file ")
}

/// Hashes of secrets are shortened: enough to tell one from another, too little to compare guesses with.
fn redacted(key: &Key, value: &Value) -> Value {
    let short = |v: &Value| v.as_str().map(|hash| format!("{}…", hash.get(..HASH_SHOWN).unwrap_or_default()).into());
    match value {
        Value::Array(hashes) if key.name == "secret_sha256" => {
            hashes.iter().filter_map(short).collect::<Vec<Value>>().into()
        }
        other => other.clone(),
    }
}

fn as_json(tree: &Tree) -> serde_json::Value {
    let mut settings = Map::new();
    for section in Config::SECTIONS {
        for key in section.keys {
            let name = dotted(section.name, key.name);
            let shown = leaf(key, tree.leaves.get(&name));
            settings.insert(name, shown);
        }
    }
    let clients: Vec<_> = tree.clients.iter().map(client).collect();
    json!({ "settings": settings, "clients": clients })
}

fn client(client: &Declared) -> serde_json::Value {
    let keys = ClientTable::KEYS.iter().map(|key| (key.name.to_owned(), leaf(key, client.leaves.get(key.name))));
    json!({ "origin": client.at, "settings": keys.collect::<Map<_, _>>() })
}

/// `value` is null for what is not set, and for secrets.
fn leaf(key: &Key, leaf: Option<&Leaf>) -> serde_json::Value {
    let mut shown = match leaf {
        Some(leaf) => json!({ "value": redacted(key, &leaf.value), "origin": leaf.origin }),
        None => json!({ "value": null, "origin": { "kind": "default" } }),
    };
    if key.traits.kind == Kind::Secret {
        shown["value"] = serde_json::Value::Null;
        shown["secret"] = true.into();
        shown["file"] = leaf.and_then(|leaf| secret_file(&leaf.value)).into();
    }
    shown["reloads"] = key.traits.reloads.into();
    shown
}

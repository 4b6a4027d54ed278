//! What is done to keys, in words: before it is done, and once it is.

use serde_json::Value;

use super::{
    super::{
        output::{plain, text, when},
        remote::Remote,
    },
    list::from,
};
use crate::keyring::KeyState;

/// A key that moves on.
struct Moved<'a> {
    /// None: it is still to be made.
    kid: Option<&'a str>,
    from: &'a str,
    to: &'a str,
}

fn moved(change: &Value) -> Vec<Moved<'_>> {
    let of = |key| {
        let [kid, from, to] = ["kid", "from", "to"].map(|name| member(key, name));
        Moved { kid, from: from.unwrap_or_default(), to: to.unwrap_or_default() }
    };
    let mut moved: Vec<_> = change["changes"].as_array().into_iter().flatten().map(of).collect();
    // What is asked first: which key signs.
    moved.sort_by_key(|key| key.to != "active");
    moved
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str()
}

impl Moved<'_> {
    /// What becomes of it. `known` is what the service says of the key, or null.
    fn words(&self, known: &Value) -> String {
        let instant = |name: &str| member(known, name).map(|_| when(&known[name]));
        match (self.from, self.to) {
            ("retiring", "active") => "signs again from now on".into(),
            (_, "active") => "signs from now on".into(),
            (_, "retiring") => {
                let until = instant("verifies_until").unwrap_or_else(|| "its last token has expired".into());
                format!("signs no more and verifies until {until}")
            }
            (_, "pending") => {
                let may = member(known, "signs_from").map(|_| from(&known["signs_from"]));
                let from = may.map(|may| format!("; it may sign from {may} on")).unwrap_or_default();
                format!("is published from now on and stands by{from}")
            }
            (_, "retired") => "is out of the key set".into(),
            ("retired", "destroyed") => "is destroyed: its private half is gone".into(),
            (_, "destroyed") => "is out of the key set, and its private half is gone".into(),
            (_, "compromised") => "is refused for ever; it is out of the key set, and its private half is gone".into(),
            (_, other) => format!("is {}", plain(other)),
        }
    }
}

/// `K2 signs from now on; K1 signs no more and verifies until …`, without a full stop.
pub(super) fn sentence(change: &Value) -> String {
    let words = |key: Moved<'_>| {
        let name = key.kid.map_or_else(|| "a new key".into(), plain);
        format!("{name} {}", key.words(&Value::Null))
    };
    let words: Vec<String> = moved(change).into_iter().map(words).collect();
    if words.is_empty() { "nothing: it is so already".into() } else { words.join("; ") }
}

/// What was done, one key a line, with the instants that the service tells of them.
pub(super) async fn rows(remote: &Remote, change: &Value) -> Vec<(&'static str, String)> {
    // What is done is done, whether or not more can be said of it.
    let keys = remote.get(&["v1", "keys"], &[]).await.unwrap_or_default();
    let known = |kid: &str| {
        let mut keys = keys["keys"].as_array().into_iter().flatten();
        keys.find(|key| key["kid"] == kid).unwrap_or(&Value::Null)
    };
    let row = |key: Moved<'_>| {
        let kid = key.kid?;
        let state = KeyState::ALL.into_iter().find(|state| state.name() == key.to);
        Some((state.map_or("key", KeyState::name), format!("{}  {}", plain(kid), key.words(known(kid)))))
    };
    let rows: Vec<_> = moved(change).into_iter().filter_map(row).collect();
    if rows.is_empty() { vec![("active", format!("{}  signs, as before", text(&change["active"])))] } else { rows }
}

//! The layer of a file: TOML, every key of it known, every value with its line.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

use super::{
    ClientTable, Config,
    layers::{Declared, Leaf, Origin, Problem, Tree, anchor, base_of, defaults},
    schema::{Described, Key, Kind, Section, Shown, Wrong, dotted, nearest},
};

/// No configuration is longer.
const MAX_FILE: u64 = 4 << 20;

/// A text and where it came from.
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Text {
    /// `problem` says what it means that it cannot be read.
    pub(crate) fn read(path: &Path, problem: fn(&Path, &std::io::Error) -> Problem) -> Result<Self, Problem> {
        let failed = |e: std::io::Error| problem(path, &e);
        let mut text = String::new();
        File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE {
            return Err(Problem::at(path.display(), "is longer than 4 MiB; is it the right file?"));
        }
        Ok(Self { path: path.to_owned(), text })
    }

    /// Its layer; what cannot be used is told in `problems` and left out.
    pub(crate) fn layer(&self, problems: &mut Vec<Problem>) -> Tree {
        self.read_as(Config::SECTIONS, problems)
    }

    /// Its layer, if it is a file of clients alone.
    pub(crate) fn clients(&self, problems: &mut Vec<Problem>) -> Tree {
        self.read_as(&[], problems)
    }

    fn read_as(&self, sections: &'static [Section], problems: &mut Vec<Problem>) -> Tree {
        let (path, base) = (self.path.as_path().into(), base_of(&self.path));
        let mut reader = Reader { path, base, text: &self.text, sections, problems };
        let mut tree = Tree::default();
        match DeTable::parse(&self.text) {
            Ok(root) => reader.root(root.into_inner(), &mut tree),
            Err(e) => {
                let place = reader.origin(e.span().map_or(0, |span| span.start));
                reader.problems.push(Problem::at(place, mended(e.message())));
            }
        }
        tree
    }
}

/// The parser's complaint, with what to do about the one that an added table meets.
fn mended(said: &str) -> String {
    let said = said.replace('\n', "; ");
    if said == "duplicate key" {
        return "this table or setting stands further up already; write it there, once".into();
    }
    said
}

type Name<'i> = Spanned<std::borrow::Cow<'i, str>>;

struct Reader<'a> {
    path: Arc<Path>,
    base: PathBuf,
    text: &'a str,
    sections: &'static [Section],
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or_default();
        Origin::File { path: self.path.clone(), line: before.matches('\n').count() + 1 }
    }

    fn root(&mut self, root: DeTable<'_>, tree: &mut Tree) {
        let top = self.sections.iter().find(|s| s.name.is_empty());
        for (name, value) in root {
            let section = self.sections.iter().find(|s| !s.name.is_empty() && s.name == *name.get_ref());
            match (section, value.get_ref()) {
                (Some(section), DeValue::Table(_)) => {
                    let DeValue::Table(table) = value.into_inner() else { continue };
                    for (key, value) in table {
                        self.setting(section, &key, value, tree);
                    }
                }
                (Some(section), _) => self.wrong(&name, format!("`{0}` is a table; write [{0}]", section.name)),
                (None, _) if name.get_ref() == "clients" => self.clients(&name, value, tree),
                (None, _) => match top {
                    Some(top) => self.setting(top, &name, value, tree),
                    None => self.wrong(&name, "only [[clients]] may stand in this file".into()),
                },
            }
        }
    }

    fn wrong(&mut self, name: &Name<'_>, what: String) {
        let at = self.origin(name.span().start);
        self.problems.push(Problem::at(at, what));
    }

    fn setting(&mut self, section: &'static Section, name: &Name<'_>, value: Spanned<DeValue<'_>>, tree: &mut Tree) {
        let at = self.origin(name.span().start);
        let named = name.get_ref().as_ref();
        // A secret is written as the file that holds it.
        let in_file = section.keys.iter().find(|k| k.traits.kind == Kind::Secret && is_file_of(k, named));
        if let Some(key) = in_file {
            return match value.get_ref().as_str().filter(|p| !p.is_empty()) {
                Some(path) => {
                    let value = Value::String(format!("file {}", self.base.join(path).display()));
                    tree.leaves.insert(dotted(section.name, key.name), Leaf { value, origin: at });
                }
                None => self.wrong(name, format!("`{named}` is the path of a file, as text")),
            };
        }
        let Some(key) = section.keys.iter().find(|k| k.name == named) else {
            return self.wrong(name, unknown(named, section));
        };
        if key.traits.kind == Kind::Secret {
            let file = dotted(section.name, key.name) + "_file";
            return self.wrong(name, format!(
                "`{named}` is a secret, and configurations are copied and shown around: write it into a file that only \
                 its owner can read, and name that file in `{file}`"
            ));
        }
        if let Some(value) = self.value(key, value, &at) {
            tree.leaves.insert(dotted(section.name, key.name), Leaf { value, origin: at });
        }
    }

    /// A value of this setting, or a problem.
    fn value(&mut self, key: &Key, value: Spanned<DeValue<'_>>, at: &Origin) -> Option<Value> {
        let value = Value::deserialize(toml::de::ValueDeserializer::from(value));
        let value = value.map_err(|e| Wrong::Value(e.message().to_owned()));
        let checked = value.and_then(|mut value| {
            key.accepts(&value)?;
            anchor(key, &mut value, &self.base);
            Ok(value)
        });
        checked.map_err(|wrong| self.problems.push(Problem::at(at, key.told(wrong)))).ok()
    }

    fn clients(&mut self, name: &Name<'_>, value: Spanned<DeValue<'_>>, tree: &mut Tree) {
        let DeValue::Array(tables) = value.into_inner() else {
            return self.wrong(name, "`clients` is a list of tables; write [[clients]] above each of them".into());
        };
        for table in tables {
            let at = self.origin(table.span().start);
            let DeValue::Table(table) = table.into_inner() else {
                self.problems.push(Problem::at(at, "a client is a table; write [[clients]] above it"));
                continue;
            };
            if let Some(client) = self.client(at, table) {
                tree.clients.push(client);
            }
        }
    }

    /// A client without any mistake in it: a part of one would be another one.
    fn client(&mut self, at: Origin, table: DeTable<'_>) -> Option<Declared> {
        let before = self.problems.len();
        let mut leaves: BTreeMap<&'static str, Leaf> = defaults(ClientTable::KEYS).collect();
        let written: Vec<String> = table.keys().map(|name| name.get_ref().to_string()).collect();
        for (name, value) in table {
            let Some(key) = ClientTable::KEYS.iter().find(|k| k.name == name.get_ref().as_ref()) else {
                self.wrong(&name, unknown_in(name.get_ref(), "[[clients]]", ClientTable::KEYS.iter().map(|k| k.name)));
                continue;
            };
            let origin = self.origin(name.span().start);
            if let Some(value) = self.value(key, value, &origin) {
                leaves.insert(key.name, Leaf { value, origin });
            }
        }
        for key in ClientTable::KEYS {
            if matches!(key.traits.shown, Shown::Required { .. }) && !written.iter().any(|w| w == key.name) {
                self.problems.push(Problem::at(&at, format!("missing key `{}` in [[clients]]", key.name)));
            }
        }
        (self.problems.len() == before).then_some(Declared { at, leaves })
    }
}

fn is_file_of(key: &Key, name: &str) -> bool {
    name.strip_suffix("_file") == Some(key.name)
}

fn unknown(name: &str, section: &Section) -> String {
    let keys = section.keys.iter().map(|k| k.name);
    if section.name.is_empty() {
        // Which may also be a table that nobody knows.
        let tables = Config::SECTIONS[1..].iter().map(|s| s.name).chain(["clients"]);
        return unknown_in(name, "", keys.chain(tables));
    }
    unknown_in(name, &format!("[{}]", section.name), keys)
}

/// What to say of a name that nobody knows.
pub(crate) fn unknown_in<'a>(name: &str, place: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let place = if place.is_empty() { String::new() } else { format!(" in {place}") };
    match nearest(name, known.iter().copied()) {
        Some(nearest) => format!("unknown key `{name}`{place}; did you mean `{nearest}`?"),
        None => format!("unknown key `{name}`{place}; known are {}", known.join(", ")),
    }
}

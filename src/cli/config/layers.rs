//! The layers of a configuration, put on top of each other: what a value is, and where it was said.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use toml::Value;

use super::{
    super::{Exit, Failure},
    schema::{Key, Kind, Section, Shown, dotted},
};

/// Where a value was said; the later ones cover the earlier ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Origin {
    /// Nowhere.
    Default,
    /// By a preset.
    Preset { name: &'static str },
    /// In a file.
    File {
        #[serde(serialize_with = "lossy")]
        path: Arc<Path>,
        line: usize,
    },
    /// A file that systemd passes on.
    Credential { name: String },
    /// In a variable of the environment.
    Environment { name: String },
    /// On the command line.
    Flag { name: String },
}

fn lossy<S: serde::Serializer>(path: &Arc<Path>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&path.to_string_lossy())
}

impl Origin {
    /// Whether a person said it.
    pub(crate) fn is_said(&self) -> bool {
        !matches!(self, Self::Default | Self::Preset { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset { name } => write!(f, "preset {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Credential { name } => write!(f, "credential {name}"),
            Self::Environment { name } => f.write_str(name),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// A client as it was declared.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) at: Origin,
    pub(crate) leaves: BTreeMap<&'static str, Leaf>,
}

impl Declared {
    /// All of it, as serde reads it.
    pub(crate) fn table(&self) -> toml::Table {
        self.leaves.iter().map(|(name, leaf)| ((*name).to_owned(), leaf.value.clone())).collect()
    }
}

/// All values by their dotted names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) leaves: BTreeMap<String, Leaf>,
    pub(crate) clients: Vec<Declared>,
}

impl Tree {
    /// The lowest layer: what the settings' declarations say.
    pub(crate) fn defaults(sections: &'static [Section]) -> Self {
        let mut tree = Self::default();
        for section in sections {
            for (key, leaf) in defaults(section.keys) {
                tree.leaves.insert(dotted(section.name, key), leaf);
            }
        }
        tree
    }

    /// Puts a layer on top.
    pub(crate) fn cover(&mut self, layer: Self) {
        self.leaves.extend(layer.leaves);
        self.clients.extend(layer.clients);
    }

    /// The table of one section, as serde reads it.
    pub(crate) fn table(&self, section: &str) -> toml::Table {
        let in_section = |name: &str| {
            let (of, key) = name.split_once('.').unwrap_or(("", name));
            (of == section).then(|| key.to_owned())
        };
        self.leaves.iter().filter_map(|(name, leaf)| Some((in_section(name)?, leaf.value.clone()))).collect()
    }

    /// Where to look for a mistake about these settings: where one of them was said.
    pub(crate) fn blame(&self, names: &[&str]) -> Option<&Origin> {
        names.iter().filter_map(|n| self.leaves.get(*n)).map(|leaf| &leaf.origin).find(|o| o.is_said())
    }
}

/// The defaults of a table.
pub(crate) fn defaults(keys: &'static [Key]) -> impl Iterator<Item = (&'static str, Leaf)> {
    keys.iter().filter_map(|key| {
        let Shown::Default(toml) = key.traits.shown else { return None };
        Some((key.name, Leaf { value: literal(toml), origin: Origin::Default }))
    })
}

/// A value that stands in a declaration.
pub(crate) fn literal(toml: &str) -> Value {
    read_value(toml).expect("a declared default is TOML: a test reads all of them")
}

/// One TOML value.
pub(crate) fn read_value(text: &str) -> Option<Value> {
    let mut table: toml::Table = toml::from_str(&format!("v = {text}\n")).ok()?;
    let value = table.remove("v")?;
    table.is_empty().then_some(value)
}

/// Relative paths mean what they mean where they were said: in a file, beside it.
pub(crate) fn anchor(key: &Key, value: &mut Value, base: &Path) {
    let Value::String(text) = value else { return };
    let beside = |path: &str| base.join(path).to_string_lossy().into_owned();
    match key.traits.kind {
        Kind::Path if !text.is_empty() => *text = beside(text),
        Kind::PathOrOff if !text.is_empty() && text != "off" => *text = beside(text),
        Kind::Store => {
            if let Some(path) = text.strip_prefix("embedded:").filter(|p| !p.is_empty()) {
                *text = format!("embedded:{}", beside(path));
            }
        }
        _ => {}
    }
}

/// One thing that is wrong: where, and what, with how to mend it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(crate) at: Option<String>,
    pub(crate) what: String,
    pub(crate) exit: Exit,
}

impl Problem {
    pub(crate) fn at(at: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { at: Some(at.to_string()), what: what.into(), exit: Exit::Usage }
    }
    /// Of the configuration as a whole.
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self { at: None, what: what.into(), exit: Exit::Usage }
    }
    /// Of a configuration that could not be read.
    pub(crate) fn reading(path: &Path, error: &io::Error) -> Self {
        let mut problem = Self::unreadable(path, error);
        if error.kind() == io::ErrorKind::NotFound {
            problem.what += "; `rescind init` writes one, --config or RESCIND_CONFIG names another";
        }
        problem
    }
    /// Of a file that the configuration names and that could not be read.
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let (exit, mend) = match error.kind() {
            io::ErrorKind::PermissionDenied => (Exit::NotPermitted, "; give it to the user that the service runs as"),
            _ => (Exit::Usage, ""),
        };
        Self { exit, ..Self::of(format!("cannot read {}: {error}{mend}", path.display())) }
    }
    /// The same, with how to mend it said after it.
    pub(crate) fn also(self, mend: &str) -> Self {
        Self { what: format!("{}; {mend}", self.what), ..self }
    }
    /// The same, with what it is about said before it.
    pub(crate) fn about(self, what: impl fmt::Display) -> Self {
        Self { what: format!("{what}: {}", self.what), ..self }
    }
}

/// All that is wrong, in one message.
pub(crate) fn failure(problems: &[Problem]) -> Failure {
    let exit = match problems {
        [first, rest @ ..] if rest.iter().all(|p| p.exit == first.exit) => first.exit,
        _ => Exit::Usage,
    };
    let text = match problems {
        [one] => one.to_string(),
        many => {
            many.iter().fold(format!("{} mistakes in the configuration", many.len()), |all, p| format!("{all}\n  {p}"))
        }
    };
    Failure::new(exit, anyhow::anyhow!(text))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// The directory that paths in a file are relative to.
pub(crate) fn base_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

//! What settings there are: each is declared once, with its type, its default and its documentation. The template that
//! `init` writes, `docs/reference/configuration.md`, every "did you mean" and the values themselves come from here.

use serde::de::DeserializeOwned;

/// One setting.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Its doc comment, line by line.
    pub(crate) doc: &'static [&'static str],
    pub(crate) traits: Traits,
    /// Whether a value is of its type; else what was expected.
    pub(crate) check: fn(&toml::Value) -> Result<(), String>,
}

/// Why a value is none of a setting.
pub(crate) enum Wrong {
    /// It is of another type than this one, for example so. No example: it is a list that is empty by default.
    Type { expected: &'static str, such_as: Option<&'static str> },
    /// What it says makes no sense, and what would.
    Value(String),
}

impl Key {
    /// Whether a value is one of this setting.
    pub(crate) fn accepts(&self, value: &toml::Value) -> Result<(), Wrong> {
        (self.check)(value).map_err(|said| self.wrong(said))?;
        if self.traits.kind == Kind::Path && value.as_str() == Some("") {
            return Err(Wrong::Value("is empty; write a path, or leave it out".into()));
        }
        Ok(())
    }

    /// The parser's words for types are those of the program, and not of people.
    fn wrong(&self, said: String) -> Wrong {
        let is_type = said.starts_with("invalid type") || said.starts_with("invalid value: integer");
        let Some((_, expected)) = said.rsplit_once("expected ").filter(|_| is_type) else { return Wrong::Value(said) };
        let expected = match expected {
            "a boolean" => "true or false",
            "a sequence" => "a list",
            "a map" => "a table",
            "usize" | "u64" | "u32" => "a whole number, 0 or more",
            _ => "text",
        };
        let such_as = match self.traits.shown {
            Shown::Default(example) | Shown::Required { example } | Shown::Unset { example, .. } => example,
        };
        Wrong::Type { expected, such_as: Some(such_as).filter(|example| *example != "[]") }
    }

    /// The same for whoever reads it, with the setting's name.
    pub(crate) fn told(&self, wrong: Wrong) -> String {
        let name = self.name;
        match wrong {
            Wrong::Value(what) => format!("{name}: {what}"),
            Wrong::Type { expected, such_as: None } => format!("{name}: {expected} is expected"),
            Wrong::Type { expected, such_as: Some(example) } => {
                format!("{name}: {expected} is expected, such as {name} = {example}")
            }
        }
    }
}

/// A table of settings; the first one has no name and stands at the top of the file.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) about: &'static [&'static str],
    pub(crate) keys: &'static [Key],
}

/// What is said about a setting beside its type.
#[derive(Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) shown: Shown,
    pub(crate) kind: Kind,
    /// Whether a reload takes it over; else it needs a restart.
    pub(crate) reloads: bool,
}

/// What holds where nothing is written. All values as TOML.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// This value.
    Default(&'static str),
    /// Nothing: it must be written, for example so.
    Required { example: &'static str },
    /// What these words say; it may be written, for example so.
    Unset { means: &'static str, example: &'static str },
}

/// What is done with a value before it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// A path: in a file it is relative to that file.
    Path,
    /// The same, unless it is `off`.
    PathOrOff,
    /// A store with a path in it.
    Store,
    /// Never written, but fetched from a file, the environment or a credential; see [`super::secret`].
    Secret,
}

pub(crate) const fn default(toml: &'static str) -> Traits {
    Traits { shown: Shown::Default(toml), kind: Kind::Plain, reloads: false }
}
pub(crate) const fn required(example: &'static str) -> Traits {
    Traits { shown: Shown::Required { example }, kind: Kind::Plain, reloads: false }
}
pub(crate) const fn unset(means: &'static str, example: &'static str) -> Traits {
    Traits { shown: Shown::Unset { means, example }, kind: Kind::Plain, reloads: false }
}
/// The example is a path, because a secret is written nowhere.
pub(crate) const fn secret(means: &'static str, example: &'static str) -> Traits {
    Traits { shown: Shown::Unset { means, example }, kind: Kind::Secret, reloads: false }
}

impl Traits {
    pub(crate) const fn path(self) -> Self {
        Self { kind: Kind::Path, ..self }
    }
    pub(crate) const fn path_or_off(self) -> Self {
        Self { kind: Kind::PathOrOff, ..self }
    }
    pub(crate) const fn store(self) -> Self {
        Self { kind: Kind::Store, ..self }
    }
    pub(crate) const fn reloads(self) -> Self {
        Self { reloads: true, ..self }
    }
}

/// A table of settings, as `settings!` makes it.
pub(crate) trait Described: DeserializeOwned {
    const ABOUT: &'static [&'static str];
    const KEYS: &'static [Key];
}

pub(crate) fn check<T: DeserializeOwned>(value: &toml::Value) -> Result<(), String> {
    T::deserialize(value.clone()).map(drop).map_err(|e| e.message().replace('\n', "; "))
}

/// Finds a setting by its dotted name.
pub(crate) fn find(sections: &'static [Section], name: &str) -> Option<&'static Key> {
    let (section, key) = name.split_once('.').unwrap_or(("", name));
    let section = sections.iter().find(|s| s.name == section)?;
    section.keys.iter().find(|k| k.name == key)
}

/// `limits.body`, or `issuer` at the top.
pub(crate) fn dotted(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// The known name that was probably meant.
pub(crate) fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |known: &str| strsim::jaro_winkler(unknown, known);
    known.into_iter().max_by(|a, b| near(a).total_cmp(&near(b))).filter(|n| near(n) > 0.7)
}

/// Declares a table of settings: a struct whose fields say how they are documented, typed and preset. A setting that
/// nobody reads is a warning, unless it says `, unread: "why"`.
macro_rules! settings {
    ($(#[doc = $about:literal])* $vis:vis struct $name:ident {
        $($(#[doc = $doc:literal])* $fvis:vis $key:ident: $type:ty = $traits:expr $(, unread: $why:literal)?;)*
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $vis struct $name { $($(#[doc = $doc])* $(#[expect(dead_code, reason = $why)])? $fvis $key: $type,)* }

        impl $crate::cli::config::schema::Described for $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const KEYS: &'static [$crate::cli::config::schema::Key] = &[$($crate::cli::config::schema::Key {
                name: stringify!($key),
                doc: &[$($doc),*],
                traits: $traits,
                check: $crate::cli::config::schema::check::<$type>,
            }),*];
        }
    };
}

/// Declares which tables there are. Keys outside any table are in `top`.
macro_rules! sections {
    ($(#[doc = $about:literal])* $vis:vis struct $name:ident { $($section:ident: $type:ty,)* }) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        $vis struct $name {
            /// What stands outside any table.
            $vis top: Top,
            $(#[doc = concat!("The table `", stringify!($section), "`.")] $vis $section: $type,)*
            /// The clients.
            $vis clients: Vec<ClientTable>,
        }

        impl $name {
            /// All of them, in the order of the file; the clients' table is [`ClientTable`].
            $vis const SECTIONS: &'static [schema::Section] = &[
                schema::Section {
                    name: "",
                    about: <Top as schema::Described>::ABOUT,
                    keys: <Top as schema::Described>::KEYS,
                },
                $(schema::Section {
                    name: stringify!($section),
                    about: <$type as schema::Described>::ABOUT,
                    keys: <$type as schema::Described>::KEYS,
                }),*
            ];

            /// Each table by its name, with every default in it.
            fn assemble(table: impl Fn(&str) -> toml::Table, clients: Vec<toml::Table>)
                -> Result<Self, toml::de::Error> {
                Ok(Self {
                    top: table("").try_into()?,
                    $($section: table(stringify!($section)).try_into()?,)*
                    clients: clients.into_iter().map(toml::Table::try_into).collect::<Result<_, _>>()?,
                })
            }
        }
    };
}

pub(crate) use {sections, settings};

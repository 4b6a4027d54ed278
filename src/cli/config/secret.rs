//! Settings that are secrets: fetched when they are needed, never kept among the other values.
//!
//! A secret `keys.passphrase` comes from the variable `RESCIND_KEYS__PASSPHRASE`, from a file that
//! `RESCIND_KEYS__PASSPHRASE_FILE` or `keys.passphrase_file` names, or from a systemd credential `keys.passphrase`.

use std::{
    env, fmt,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error};
use zeroize::Zeroizing;

use super::layers::Problem;

/// No secret is longer; what is longer is another file.
const MAX_SECRET: u64 = 64 << 10;

/// A secret text. [`Secret::expose`] is the one way to it.
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where a secret is to be fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A variable of the environment.
    Environment(String),
    /// A file that only its owner can read.
    File(PathBuf),
    /// A file in the directory of credentials, whose access systemd has settled.
    Credential(PathBuf),
}

impl Source {
    /// Fetches it. One line end at its end is not part of it.
    pub(crate) fn read(&self) -> Result<Secret, Problem> {
        let text = match self {
            Self::Environment(name) => Zeroizing::new(env::var(name).map_err(|e| Problem::of(format!("{name}: {e}")))?),
            // systemd shares a credential with a dynamic user by an access list, which shows as the group's reading.
            Self::Credential(path) => read_file(path, 0o037)?,
            Self::File(path) => read_file(path, if is_credential(path) { 0o037 } else { 0o077 })?,
        };
        let line = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
        if line.is_empty() {
            return Err(Problem::of(format!("{self} is empty; write the secret there, or do not name it at all")));
        }
        Ok(Secret(Zeroizing::new(line.to_owned())))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Credential(path) => write!(f, "credential {}", path.display()),
        }
    }
}

/// The form in which it lies among the other values.
impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.split_once(' ') {
            Some(("environment", name)) => Ok(Self::Environment(name.to_owned())),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("credential", path)) => Ok(Self::Credential(path.into())),
            _ => Err(D::Error::custom("not a place of a secret")),
        }
    }
}

/// The directory in which systemd puts credentials.
pub(crate) fn credentials() -> Option<PathBuf> {
    env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|d| d.is_absolute())
}

fn is_credential(path: &Path) -> bool {
    credentials().is_some_and(|dir| path.starts_with(dir))
}

/// Reads a file that nobody may reach by the bits in `forbidden`.
fn read_file(path: &Path, forbidden: u32) -> Result<Zeroizing<String>, Problem> {
    let shown = path.display();
    let failed = |e: std::io::Error| Problem::unreadable(path, &e);
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, not of the path: nobody can swap it in between.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Problem::of(format!("{shown} is a directory; name the file in it that holds the secret")));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        let what = format!("{shown} holds a secret and others can reach it (mode {mode:o}); chmod 600 '{shown}'");
        return Err(Problem::of(what));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    file.take(MAX_SECRET + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SECRET {
        return Err(Problem::of(format!("{shown} is longer than 64 KiB; is it the right file?")));
    }
    Ok(text)
}

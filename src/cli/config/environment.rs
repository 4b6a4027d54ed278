//! The layers of the environment and of the command line: single values, written as text.

use std::env;

use toml::Value;

use super::{
    Config,
    layers::{Leaf, Origin, Problem, Tree, read_value},
    schema::{Key, Kind, Wrong, dotted, find, nearest},
    secret::credentials,
};

const PREFIX: &str = "RESCIND_";

/// Variables of the commands, which are no settings.
const OTHERS: [&str; 6] = [
    "RESCIND_CONFIG",
    "RESCIND_SERVER",
    "RESCIND_CLIENT_ID",
    "RESCIND_CLIENT_SECRET",
    "RESCIND_CLIENT_SECRET_FILE",
    "RESCIND_VERIFIER_NAME",
];

/// The variable of a setting: `RESCIND_LIMITS__BODY`.
pub(crate) fn variable(section: &str, key: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!("{section}__") };
    format!("{PREFIX}{section}{key}").to_uppercase()
}

/// The layer of credentials: for each secret a file of its dotted name, if it is there.
pub(crate) fn of_credentials() -> Tree {
    let mut tree = Tree::default();
    let Some(dir) = credentials() else { return tree };
    for section in Config::SECTIONS {
        for key in section.keys.iter().filter(|k| k.traits.kind == Kind::Secret) {
            let name = dotted(section.name, key.name);
            let path = dir.join(&name);
            if path.symlink_metadata().is_ok() {
                let value = Value::String(format!("credential {}", path.display()));
                tree.leaves.insert(name.clone(), Leaf { value, origin: Origin::Credential { name } });
            }
        }
    }
    tree
}

/// The layer of the environment. A variable that looks like a setting and is none is a problem.
pub(crate) fn of_environment(problems: &mut Vec<Problem>) -> Tree {
    let mut tree = Tree::default();
    let mut ours: Vec<_> = env::vars_os()
        .filter_map(|(name, value)| name.into_string().ok().map(|name| (name, value)))
        .filter(|(name, _)| name.starts_with(PREFIX) && !OTHERS.contains(&&**name))
        .collect();
    ours.sort();
    for (name, value) in ours {
        let Some(value) = value.to_str() else {
            problems.push(Problem::at(&name, "is not UTF-8"));
            continue;
        };
        if is_service_link(&name, value) {
            continue;
        }
        match of_variable(&name, value) {
            Ok((setting, leaf)) => {
                let twice = tree.leaves.insert(setting, leaf).map(|before| before.origin);
                if let Some(other) = twice {
                    problems.push(Problem::at(&name, format!("is set beside {other}; unset one of them")));
                }
            }
            Err(what) => problems.push(Problem::at(&name, what)),
        }
    }
    tree
}

fn of_variable(variable: &str, text: &str) -> Result<(String, Leaf), String> {
    let lower = variable[PREFIX.len()..].to_lowercase();
    let setting = lower.replacen("__", ".", 1);
    let origin = Origin::Environment { name: variable.to_owned() };
    let secret = |name: &str| find(Config::SECTIONS, name).filter(|k| k.traits.kind == Kind::Secret);
    if secret(&setting).is_some() {
        return Ok((setting, Leaf { value: Value::String(format!("environment {variable}")), origin }));
    }
    if let Some(of) = setting.strip_suffix("_file").filter(|of| secret(of).is_some()) {
        if text.is_empty() {
            return Err("is empty; write the path of a file, or unset it".into());
        }
        return Ok((of.to_owned(), Leaf { value: Value::String(format!("file {text}")), origin }));
    }
    let Some(key) = find(Config::SECTIONS, &setting).filter(|_| variable == variable.to_uppercase()) else {
        return Err(unknown(variable));
    };
    Ok((setting, Leaf { value: read(key, text)?, origin }))
}

fn unknown(variable: &str) -> String {
    let known: Vec<String> = variables().collect();
    match nearest(&variable.to_uppercase(), known.iter().map(String::as_str)) {
        _ if variable.to_uppercase().starts_with("RESCIND_CLIENTS") => {
            "clients are not set by variables; name a file with them in RESCIND_CLIENTS_FILE".into()
        }
        Some(nearest) => format!("there is no such setting; did you mean {nearest}?"),
        None => "there is no such setting; `rescind config print` shows all of them".into(),
    }
}

/// All variables that set something.
pub(crate) fn variables() -> impl Iterator<Item = String> {
    Config::SECTIONS.iter().flat_map(|section| {
        section.keys.iter().flat_map(|key| {
            let name = variable(section.name, key.name);
            let file = (key.traits.kind == Kind::Secret).then(|| format!("{name}_FILE"));
            file.into_iter().chain([name])
        })
    })
}

/// Kubernetes and old Docker tell every container of a service named `rescind` where it is, in variables that look like
/// ours: `RESCIND_SERVICE_HOST`, `RESCIND_PORT_8080_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let ends = |end: &str| name.ends_with(end);
    let proto = name.contains("_TCP") || name.contains("_UDP") || name.contains("_SCTP");
    ends("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && proto)
        || (ends("_PORT") && value.contains("://"))
}

/// `--set section.key=value`.
pub(crate) fn of_assignment(text: &str) -> Result<(String, Leaf), Problem> {
    let Some((setting, value)) = text.split_once('=') else {
        return Err(Problem::at("--set", format!("`{text}` is not a setting and its value; write limits.body=16KiB")));
    };
    of_flag(&format!("--set {setting}"), setting, value)
}

/// A value from the command line.
pub(crate) fn of_flag(flag: &str, setting: &str, value: &str) -> Result<(String, Leaf), Problem> {
    let wrong = |what: String| Problem::at(flag, what);
    let Some(key) = find(Config::SECTIONS, setting) else {
        let known: Vec<String> = settings().collect();
        return Err(wrong(match nearest(setting, known.iter().map(String::as_str)) {
            Some(nearest) => format!("there is no such setting; did you mean {nearest}?"),
            None => "there is no such setting; `rescind config print` shows all of them".into(),
        }));
    };
    if key.traits.kind == Kind::Secret {
        let variable = setting.replace('.', "__").to_uppercase();
        return Err(wrong(format!(
            "is a secret, and every process on the machine can read arguments; use RESCIND_{variable}_FILE"
        )));
    }
    let value = read(key, value).map_err(wrong)?;
    Ok((setting.to_owned(), Leaf { value, origin: Origin::Flag { name: flag.to_owned() } }))
}

fn settings() -> impl Iterator<Item = String> {
    Config::SECTIONS.iter().flat_map(|s| s.keys.iter().map(|k| dotted(s.name, k.name)))
}

/// Reads a text as this setting wants it: as it stands, as TOML, or as a list with commas.
fn read(key: &Key, text: &str) -> Result<Value, String> {
    let list = || text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(Into::into).collect();
    let ways = [Some(Value::String(text.to_owned())), read_value(text), Some(Value::Array(list()))];
    let mut wrongs = Vec::new();
    for value in ways.into_iter().flatten() {
        match key.accepts(&value) {
            Ok(()) => return Ok(value),
            Err(wrong) => wrongs.push(wrong),
        }
    }
    // Each way says what it wanted; that it was no text, or no list, is not what is wrong.
    wrongs.sort_by_key(|wrong| matches!(wrong, Wrong::Type { .. }));
    Err(match wrongs.into_iter().next() {
        Some(Wrong::Value(what)) => what,
        Some(Wrong::Type { expected, such_as }) => {
            let mend = such_as.map(|example| format!("; write it as {example}")).unwrap_or_default();
            format!("`{text}` is not {expected}{mend}")
        }
        None => format!("`{text}` cannot be read"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_a_service_of_our_name_are_not_settings() {
        for (name, value) in [
            ("RESCIND_SERVICE_HOST", "10.0.0.1"),
            ("RESCIND_SERVICE_PORT", "8080"),
            ("RESCIND_SERVICE_PORT_HTTP", "8080"),
            ("RESCIND_PORT", "tcp://10.0.0.1:8080"),
            ("RESCIND_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("RESCIND_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for variable in variables() {
            assert!(!is_service_link(&variable, "text"), "{variable} would be overlooked");
        }
    }

    #[test]
    fn text_is_read_as_its_setting_wants_it() {
        let read = |setting: &str, text: &str| read(find(Config::SECTIONS, setting).unwrap(), text);
        assert_eq!(read("limits.connections", "12").unwrap(), Value::Integer(12));
        assert_eq!(read("behind_tls_proxy", "true").unwrap(), Value::Boolean(true));
        assert_eq!(read("limits.body", "16KiB").unwrap(), "16KiB".into());
        let roles = Value::Array(vec!["roles".into(), "tenant".into()]);
        assert_eq!(read("custom_claims", "roles, tenant").unwrap(), roles);
        assert_eq!(read("custom_claims", "[\"roles\", \"tenant\"]").unwrap(), roles);
        assert_eq!(read("issuer", "true").unwrap(), "true".into());
        assert!(read("limits.body", "16KB").unwrap_err().contains("write a number and a unit"));
        assert!(read("behind_tls_proxy", "yes").unwrap_err().contains("`yes` is not true or false"));
        assert!(read("limits.connections", "many").unwrap_err().contains("`many` is not"));
        assert!(read("limits.connections", "-1").is_err());
        assert!(read("limits.body", "1\nx = 2").is_err());
    }
}

//! The file that `init` writes: every setting with its documentation, and its default commented out.

use std::fmt::Write;

use super::{
    ClientTable, Config,
    schema::{Described, Key, Kind, Shown},
};

const HEAD: &str = "\
# Configuration of `rescind serve`. Paths are relative to this file; durations are 500ms, 3s, 5m, 12h or 14d, sizes
# 16KiB, 128MiB or 1GiB. Unknown keys are refused. What is commented out shows the default, or an example where there is
# none. Each setting can also be given in the environment: body in [limits] as RESCIND_LIMITS__BODY.
# `rescind config check` tells what is wrong, `rescind config print` what holds; SIGHUP reloads the clients.
";

const EXAMPLE_CLIENTS: &str = "\
# A login application, which opens sessions, and the public client that will refresh them:
# [[clients]]
# id = \"login\"
# secret_sha256 = [\"\"]
# permissions = [\"sessions:open\", \"sessions:revoke\"]
# scope = \"read write\"
# audience = [\"api\"]
#
# [[clients]]
# id = \"app\"
";

/// A configuration in which `values` (dotted name, value as TOML) are set, with one client whose lines are `client`.
pub(crate) fn render(values: &[(&str, String)], client: &[(&str, String)]) -> String {
    let mut out = HEAD.to_owned();
    for section in Config::SECTIONS {
        out.push('\n');
        comment(&mut out, section.about);
        if !section.name.is_empty() {
            let _ = writeln!(out, "[{}]", section.name);
        }
        for key in section.keys {
            let name = super::schema::dotted(section.name, key.name);
            let set = values.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
            out.push('\n');
            setting(&mut out, key, set);
        }
    }
    out.push('\n');
    comment(&mut out, ClientTable::ABOUT);
    out.push_str("#\n");
    for key in ClientTable::KEYS {
        let _ = writeln!(out, "# {}:", key.name);
        for line in key.doc {
            let _ = writeln!(out, "#  {line}");
        }
    }
    out.push_str("[[clients]]\n");
    for (name, value) in client {
        let _ = writeln!(out, "{name} = {value}");
    }
    out.push('\n');
    out + EXAMPLE_CLIENTS
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(out, "#{line}");
    }
}

fn setting(out: &mut String, key: &Key, set: Option<&str>) {
    comment(out, key.doc);
    let file = if key.traits.kind == Kind::Secret { "_file" } else { "" };
    let name = key.name;
    let _ = match (set, key.traits.shown) {
        (Some(value), _) => writeln!(out, "{name}{file} = {value}"),
        (None, Shown::Unset { means, example }) => writeln!(out, "# Without it: {means}.\n# {name}{file} = {example}"),
        (None, Shown::Default(value) | Shown::Required { example: value }) => writeln!(out, "# {name} = {value}"),
    };
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        cli::node::store_options,
        http::{Limits, edge::Rates},
        keyring::Timing,
        service::AlertSettings,
    };

    fn text() -> String {
        let values = [
            ("issuer", "\"https://auth.example\""),
            ("listen", "\"127.0.0.1:8080\""),
            ("store.url", "\"embedded:store\""),
            ("keys.dir", "\"keys\""),
        ];
        render(&values.map(|(n, v)| (n, v.to_owned())), &[("id", "\"operator\"".into())])
    }

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("/etc/rescind/rescind.toml")).unwrap()
    }

    const OF_REDIS: [&str; 5] = ["password", "durability", "journal", "skew", "shared_key"];

    #[test]
    fn every_line_that_is_commented_out_may_stand() {
        let (settings, clients) = text().split_once("\n# Clients").map(|(s, c)| (s.to_owned(), c.to_owned())).unwrap();
        let mut shown = 0;

        let is_setting = |l: &&str| l.split(' ').nth(1) == Some("=") && !l.starts_with('`');
        let spell = |line: &str| match line.strip_prefix("# ").filter(is_setting) {
            // A shorter life than the default would need others to be shorter, too; what is for a Redis has no place beside
            // another store.
            Some(setting) if !setting.starts_with("preset") && !OF_REDIS.iter().any(|of| setting.starts_with(of)) => {
                shown += 1;
                setting.to_owned()
            }

            _ => line.to_owned(),
        };
        let spelt: Vec<String> = settings.lines().map(spell).collect();
        let keys: usize = Config::SECTIONS.iter().map(|s| s.keys.len()).sum();
        assert_eq!(shown, keys - 5 - OF_REDIS.len(), "all but four that are set, the preset, and what is for a Redis");
        // The file that it names is not there.
        let spelt = spelt.join("\n").replace("clients_file =", "# clients_file =");
        config(&format!("{spelt}\n# Clients{clients}"));
    }

    #[test]
    fn what_is_for_a_redis_may_stand_beside_one() {
        let text = text().replace("\"embedded:store\"", "\"redis://127.0.0.1\"");
        let mut shown = 0;
        let spell = |line: &str| match line.strip_prefix("# ").filter(|l| l.split(' ').nth(1) == Some("=")) {
            Some(setting) if OF_REDIS.iter().any(|of| setting.starts_with(of)) => {
                shown += 1;
                setting.to_owned()
            }
            _ => line.to_owned(),
        };
        let spelt: Vec<String> = text.lines().map(spell).collect();
        assert_eq!(shown, OF_REDIS.len());
        config(&spelt.join("\n"));
    }

    #[test]
    fn defaults_are_those_of_the_parts() {
        let config = config(&text());
        assert_eq!(format!("{:?}", config.limits()), format!("{:?}", Limits::default()));
        let (ours, theirs) = (config.key_settings().timing, Timing::default());
        assert_eq!((ours.publish_ahead, ours.jwks_max_age), (theirs.publish_ahead, theirs.jwks_max_age));
        let (ours, theirs) = (config.store_options(store_options(&config.lives())), store_options(&config.lives()));
        assert_eq!(
            (ours.cache, ours.audit_cap, ours.quick_repair),
            (theirs.cache, theirs.audit_cap, theirs.quick_repair)
        );
        assert_eq!(ours.audit_age, theirs.audit_age);
        assert_eq!(config.evidence().unwrap().alerts, AlertSettings::default());
        assert_eq!(format!("{:?}", config.rates.rates()), format!("{:?}", Some(Rates::default())));
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = config(&text());
        assert_eq!(config.embedded().unwrap(), Path::new("/etc/rescind/store"));
        assert_eq!(config.keys.dir, Path::new("/etc/rescind/keys"));
        let witness = config.store_options(store_options(&config.lives())).witness;
        assert_eq!(witness.as_deref(), Some(Path::new("/etc/rescind/keys/witness.json")));
    }
}

//! Every setting with values that are none of its own, by the names that the program gives: each is told with its place,
//! what is wrong, and what to write.

use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf};

use serde_json::Value;

use super::{
    support::{end_of, rescind},
    transcripts::check,
};

/// What no setting takes, and what some do.
const WRONG: [&str; 7] = ["{ x = 1 }", "-1", "0", "\"\"", "\"?!\"", "[\"?!\"]", "\"/nowhere/none\""];
const CLIENTS: &str = "[clients]";

/// A directory as `init` makes it, for configurations that lie beside its own.
struct Desk {
    temp: tempfile::TempDir,
    /// Tables, and what stands in each. What stands outside any is in the first.
    settings: BTreeMap<String, Vec<String>>,
}

impl Desk {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let made = end_of(rescind().arg("init").arg(temp.path().join("node")), "");
        assert_eq!(made.code, 0, "{}", made.stderr);
        let mut print = rescind();
        print.args(["config", "print", "--json", "--config"]).arg(temp.path().join("node/rescind.toml"));
        let shown: Value = serde_json::from_str(&end_of(&mut print, "").stdout).unwrap();
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, about) in shown["settings"].as_object().unwrap() {
            let (table, key) = name.split_once('.').unwrap_or(("", name));
            // Of a secret the file is written that holds it.
            let file = if about["secret"] == true { "_file" } else { "" };
            settings.entry(table.into()).or_default().push(format!("{key}{file}"));
        }
        let clients = shown["clients"][0]["settings"].as_object().unwrap().keys().cloned();
        settings.insert(CLIENTS.into(), clients.collect());
        assert!(settings.values().map(Vec::len).sum::<usize>() > 60, "{settings:?}");
        Self { temp, settings }
    }

    fn file(&self) -> PathBuf {
        self.temp.path().join("node/wrong.toml")
    }

    /// Checks what is needed and these settings, one on a line; gives what is said to each line, and the exit code.
    fn check(&self, settings: &[(&str, &str, &str)]) -> (i32, Vec<String>) {
        let needed = [
            ("", "issuer", "\"https://auth.example\""),
            ("", "listen", "\"127.0.0.1:0\""),
            ("store", "url", "\"embedded:store\""),
            ("keys", "dir", "\"keys\""),
            (CLIENTS, "id", "\"login\""),
        ];
        let is_set = |(table, key, _): &&(&str, &str, &str)| !settings.iter().any(|(t, k, _)| (t, k) == (table, key));
        let mut tables: BTreeMap<&str, String> = BTreeMap::new();
        for (table, key, value) in needed.iter().filter(is_set).chain(settings) {
            let _ = writeln!(tables.entry(table).or_default(), "{key} = {value}");
        }
        let mut text = String::new();
        for (table, lines) in tables {
            let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
            text += &format!("{header}{lines}");
        }
        fs::write(self.file(), &text).unwrap();
        let ended = end_of(rescind().args(["config", "check", "--config"]).arg(self.file()), "");
        assert_eq!(ended.stdout.is_empty(), ended.code != 0, "{text}: {}", ended.stdout);
        let said = ended.stderr.lines().filter(|line| !line.starts_with("warning: "));
        let said = said.map(|line| line.replace(self.temp.path().to_str().unwrap(), "DIR")).collect();
        (ended.code, said)
    }
}

#[test]
fn every_setting_refuses_what_is_none_of_its_values_and_says_what_is() {
    let desk = Desk::new();
    let mut shown = String::new();
    for (table, keys) in &desk.settings {
        for key in keys {
            let mut refused = 0;
            for value in WRONG {
                let (code, said) = desk.check(&[(table, key, value)]);
                if code == 0 {
                    continue;
                }
                let setting = format!("{table}.{key} = {value}");
                assert_eq!(code, 2, "{setting}: {said:?}");
                let [one] = &said[..] else { panic!("{setting}: one message, not {said:?}") };
                let what = one.strip_prefix("rescind: ").unwrap_or_else(|| panic!("{setting}: {one}"));
                assert!(
                    what.contains("DIR/node") || what.contains("/nowhere/none") || what.contains('['),
                    "where: {setting}: {what}"
                );
                let _ = writeln!(shown, "{setting}\n    {what}");
                refused += 1;
            }
            assert!(refused > 1, "{table}.{key} takes whatever is written");
        }
    }
    check("values", &shown);
}

//! `docs/reference/configuration.md`, from the declarations. `BLESS=1` writes it anew.

use std::fmt::Write;

use super::{
    ClientTable, Config, environment,
    schema::{Described, Key, Kind, Shown, dotted},
};
use crate::cli::reference::keep_in_step;

#[test]
fn the_page_on_the_configuration_is_in_step() {
    let mut page = include_str!("reference.md").to_owned();
    for section in Config::SECTIONS {
        let title = if section.name.is_empty() { "Outside any table".into() } else { format!("[{}]", section.name) };
        head(&mut page, &title, section.about);
        for key in section.keys {
            let variable = match key.traits.kind {
                Kind::Secret => format!("{}_FILE", environment::variable(section.name, key.name)),
                _ => environment::variable(section.name, key.name),
            };
            row(&mut page, key, &dotted(section.name, key.name), Some(&variable));
        }
    }
    head(&mut page, "[[clients]]", ClientTable::ABOUT);
    page += "\nClients cannot be given by variables or options; `clients_file` names a further file with them.\n";
    for key in ClientTable::KEYS {
        row(&mut page, key, key.name, None);
    }
    keep_in_step("configuration.md", &page);
}

fn head(page: &mut String, title: &str, about: &[&str]) {
    let _ = writeln!(page, "\n## {title}\n\n{}", text(about));
}

fn text(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

fn row(page: &mut String, key: &Key, name: &str, variable: Option<&str>) {
    let file = if key.traits.kind == Kind::Secret { "_file" } else { "" };
    let default = match key.traits.shown {
        Shown::Default(value) => format!("Default `{value}`"),
        Shown::Required { example } => format!("Required, such as `{example}`"),
        Shown::Unset { means, example } => format!("Without it: {means}. Such as `{example}`"),
    };
    let variable = variable.map(|v| format!(" · `{v}`")).unwrap_or_default();
    let reloads = if key.traits.reloads { " · taken up by a reload" } else { "" };
    let _ = writeln!(page, "\n### `{name}{file}`\n\n{}\n\n{default}{variable}{reloads}", text(key.doc));
}

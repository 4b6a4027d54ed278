//! `docs/reference/command-line.md`, from the command line itself. `BLESS=1` writes it anew.

use std::{env, fs, path::Path};

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::{Cli, completions::without_help};

const ABOUT: &str = "\
# Command line

Generated from the program; `rescind COMMAND --help` says the same, `rescind man` writes man pages, and `rescind
completions` those of a shell. What a command answers goes to stdout, everything else to stderr. With `--json` the answer
is JSON whose members stay; new ones may be added.

Exit codes of every command: 0 yes or done, 1 the answer is no, 2 usage or configuration, 3 not found, 4 not permitted,
5 cannot tell.

Commands that speak to a running service take `--server`, `--client-id` and `--client-secret-file`, or the environment
variables `RESCIND_SERVER`, `RESCIND_CLIENT_ID`, `RESCIND_CLIENT_SECRET_FILE` or `RESCIND_CLIENT_SECRET`. No secret is
ever an argument: arguments are public. What changes something for others asks on a terminal: 1 if nobody
agrees. Elsewhere it needs `--yes`, or ends with 2; `--dry-run` says what it would do.
";

/// Ends a part of a page that is made from the code.
const END: &str = "<!-- end -->";

/// Compares a generated page with the one that is kept, or writes it.
pub(crate) fn keep_in_step(page: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(page);
    if env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a page lies in a directory")).unwrap();
        fs::write(&path, generated).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "{page} is not what the program says; BLESS=1 cargo test --lib writes it anew");
}

/// The same for a page of which only parts are made from the code: those between `<!-- NAME -->` and `<!-- end -->`.
pub(crate) fn keep_parts_in_step(page: &str, parts: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(page);
    let kept = fs::read_to_string(path).unwrap();
    keep_in_step(page, &parts.iter().fold(kept, |text, (name, part)| with(page, &text, name, part)));
}

fn with(page: &str, text: &str, name: &str, part: &str) -> String {
    let begin = format!("<!-- {name} -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{begin} is not in {page}"));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{begin} has no end in {page}"));
    format!("{before}{begin}\n\n{part}\n{END}{after}")
}

#[test]
fn the_page_on_the_command_line_is_in_step() {
    let mut cli = without_help(Cli::command());
    cli.build();
    let mut page = ABOUT.to_owned();
    describe(&cli, &mut page);
    keep_in_step("command-line.md", &page);
}

fn describe(command: &Command, page: &mut String) {
    for sub in command.get_subcommands() {
        if sub.has_subcommands() {
            describe(sub, page);
            continue;
        }
        let name = sub.get_bin_name().unwrap_or(sub.get_name());
        let about = sub.get_long_about().or(sub.get_about()).map(ToString::to_string).unwrap_or_default();
        let usage = sub.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        *page += &format!("\n## `{name}`\n\n{}\n\n```text\n{usage}\n```\n", wrapped(&about));
        arguments(sub, page);
    }
}

fn arguments(command: &Command, page: &mut String) {
    let shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let mut arguments = command.get_arguments().filter(shown).peekable();
    if arguments.peek().is_some() {
        *page += "\n| argument | meaning |\n|---|---|\n";
    }
    for arg in arguments {
        *page += &format!("| `{}` | {} |\n", spelt(arg), meaning(arg));
    }
}

fn spelt(arg: &Arg) -> String {
    let value = || arg.get_value_names().map(|names| names.iter().map(|n| format!(" {n}")).collect::<String>());
    match (arg.get_short(), arg.get_long()) {
        (short, Some(long)) => {
            let short = short.map(|c| format!("-{c}, ")).unwrap_or_default();
            let value = if arg.get_action().takes_values() { value().unwrap_or_default() } else { String::new() };
            format!("{short}--{long}{value}")
        }
        _ => arg.get_id().as_str().to_uppercase(),
    }
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    if !text.is_empty() && !text.ends_with('.') {
        text.push('.');
    }
    let values: Vec<_> = arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        text += &format!(" One of {}.", values.join(", "));
    }
    if let [default] = arg.get_default_values()
        && arg.get_action().takes_values()
    {
        text += &format!(" Default: `{}`.", default.to_string_lossy());
    }
    if let Some(name) = arg.get_env() {
        text += &format!(" Environment: `{}`.", name.to_string_lossy());
    }
    if matches!(arg.get_action(), ArgAction::Append) {
        text += " May be repeated.";
    }
    text.replace('\n', " ").replace('|', "\\|")
}

/// Paragraphs as they are; clap has joined their lines.
fn wrapped(text: &str) -> String {
    text.split('\n').map(|line| fold(line.trim_end(), 120)).collect::<Vec<_>>().join("\n")
}

fn fold(line: &str, width: usize) -> String {
    let mut folded = String::new();
    let mut used = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            folded.push('\n');
            used = 0;
        } else if used > 0 {
            folded.push(' ');
            used += 1;
        }
        folded.push_str(word);
        used += length;
    }
    folded
}

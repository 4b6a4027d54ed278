//! Every `rescind …` in a document is read by the real program's own parser.

use std::process::Command;

use super::{
    markdown::documents,
    shell::{commands, ours},
};

#[test]
fn every_command_in_a_document_is_one_of_ours() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in documents().iter().filter(|d| !d.name().starts_with("CHANGELOG")) {
        let scripts = document.blocks().into_iter().filter(|b| ["sh", "bash"].contains(&&*b.language));
        let scripts = scripts.map(|b| (b.line, b.text));
        // In prose a command may stand for a family of them: what follows `…` or COMMAND is left to the reader.
        let spans = document.spans().into_iter().filter(|s| s.starts_with("rescind ") && !s.starts_with("rescind = "));
        // `[--option | --other]`: of what may be left out the first is tried.
        let spans = spans.map(|s| (0, s.replace(['[', ']'], " ").replace("\\|", "|")));
        for (line, script) in scripts.chain(spans) {
            for command in commands(&script) {
                let Some(arguments) = ours(&command) else { continue };
                count += 1;
                let Err(why) = parses(arguments) else { continue };
                // Prose may name an option without a value; that it wants one says that it is there.
                if line > 0 || !why.contains("a value is required") {
                    wrong.push(format!("{}:{line}: rescind {}: {why}", document.name(), arguments.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the program does not know these:\n{}", wrong.join("\n"));
    assert!(count > 20, "{count} commands were found; were the documents read?");
}

/// clap reads arguments in their order and answers `--help` when it comes to it, so all before it was understood.
/// What it asks for only at the end (an argument that is missing, two that exclude each other) is not seen here.
fn parses(arguments: &[String]) -> Result<(), String> {
    let mut said: Vec<&String> = arguments.iter().take_while(|a| !a.contains('…') && *a != "COMMAND").collect();
    if said.len() < arguments.len() {
        // `--store …`: the option whose value it is goes with it.
        said.pop_if(|last| last.starts_with("--"));
    }
    let arguments = said;
    if arguments.first().is_some_and(|a| ["help", "--help", "--version"].contains(&a.as_str())) {
        return Ok(());
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
    let ended = command.args(arguments).arg("--help").env_clear().output().unwrap();
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    Err(said.lines().next().unwrap_or("it says nothing").to_owned())
}

#[test]
fn a_command_that_is_not_ours_is_noticed() {
    let refused = |line: &str| parses(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).is_err();
    assert!(!refused("token verify --issuer https://issuer.example --audience api"));
    assert!(refused("token check --issuer https://issuer.example"));
    assert!(refused("token verify --isuer https://issuer.example"));
    assert!(refused("dev --access-life soon"));
}

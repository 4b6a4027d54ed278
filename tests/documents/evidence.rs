//! Documents name tests as evidence. What they name must be a test, and one that runs.

use std::fs;

use super::markdown::{documents, root};

/// `tests/http.rs::opening_a_session`, and also of `src/`.
fn named(span: &str) -> Option<(&str, &str)> {
    let (file, test) = span.split_once("::")?;
    let ours = ["tests/", "src/"].iter().any(|dir| file.starts_with(dir)) && file.ends_with(".rs");
    let name = !test.is_empty() && test.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    (ours && name).then_some((file, test))
}

#[test]
fn every_test_that_a_document_names_exists_and_runs() {
    let mut missing = Vec::new();
    let mut count = 0;
    for document in documents() {
        for span in document.spans() {
            let Some((file, test)) = named(&span) else { continue };
            count += 1;
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !runs(&source, test) {
                missing.push(format!("{}: {span}", document.name()));
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
    assert!(count > 50, "{count} tests are named; were the documents read?");
}

/// Whether the source has a test of this name that is not left out.
fn runs(source: &str, test: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let begins = [format!("fn {test}("), format!("async fn {test}(")];
    let at = |line: &&str| begins.iter().any(|b| line.starts_with(b.as_str()));
    let mut places = (0..lines.len()).filter(|&n| at(&lines[n]));
    // A suite that a macro makes for each store lists its tests by name.
    let listed = || source.contains("contract! {") && lines.contains(&&*format!("{test},"));
    places.clone().any(|n| is_test(&lines[..n])) || (places.next().is_some() && listed())
}

/// Whether the attributes just above make a test of what follows.
fn is_test(above: &[&str]) -> bool {
    // Attributes may span lines; a function or the end of one ends them.
    let attributes: Vec<&str> =
        above.iter().rev().take_while(|line| !line.is_empty() && **line != "}").copied().collect();
    let has = |what: &str| attributes.iter().any(|line| line.starts_with(what));
    (has("#[test]") || has("#[tokio::test") || has("#[rstest") || has("#[apply")) && !has("#[ignore")
}

#[test]
fn a_test_that_is_missing_or_ignored_is_noticed() {
    let source = "#[test]\nfn is_here() {\n}\n\n#[test]\n#[ignore]\nfn is_left_out() {\n}\n\nfn helps() {\n}\n";
    let found = ["is_here", "is_left_out", "helps", "is", "is_missing"].map(|name| runs(source, name));
    assert_eq!(found, [true, false, false, false, false]);
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut missing = Vec::new();
    for document in documents().iter().filter(|d| !d.name().starts_with("CHANGELOG")) {
        for span in document.spans() {
            let path =
                ["src/", "tests/", "benches/", "docs/", "deploy/", "examples/"].iter().any(|d| span.starts_with(d));
            let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if path && plain && !root().join(&span).exists() {
                missing.push(format!("{}: {span}", document.name()));
            }
        }
    }
    assert!(missing.is_empty(), "no such files:\n{}", missing.join("\n"));
}

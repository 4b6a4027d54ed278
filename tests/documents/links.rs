//! Links lead somewhere.

use super::markdown::{Document, documents};

#[test]
fn every_link_into_the_repository_leads_somewhere() {
    let all = documents();
    let broken: Vec<String> = all.iter().flat_map(|document| broken(document, &all)).collect();
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
}

fn broken(document: &Document, all: &[Document]) -> Vec<String> {
    let inside = document.links().into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
    inside.filter(|link| !leads(document, link, all)).map(|link| format!("{}: {link}", document.name())).collect()
}

fn leads(from: &Document, link: &str, all: &[Document]) -> bool {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { from.path.clone() } else { from.path.parent().unwrap().join(path) };
    let Ok(target) = target.canonicalize() else { return false };
    let document = || all.iter().find(|d| d.path.canonicalize().unwrap() == target);
    anchor.is_empty() || document().is_some_and(|d| d.anchors().iter().any(|a| a == anchor))
}

#[test]
fn every_document_is_in_the_table_of_documents() {
    let all = documents();
    let table = all.iter().find(|d| d.name() == "docs/README.md").expect("docs/README.md is the table of documents");
    let dir = table.path.parent().unwrap();
    let linked: Vec<_> = table.links().iter().filter_map(|link| dir.join(link).canonicalize().ok()).collect();
    let ours = all.iter().filter(|d| d.path.starts_with(dir) && d.name() != table.name());
    let missing: Vec<String> = ours.filter(|d| !linked.contains(&d.path)).map(Document::name).collect();
    assert!(missing.is_empty(), "docs/README.md does not lead to {}", missing.join(", "));
}

//! docs/keys.md, pasted as it is written: a scheduled rotation, a rollback and a compromise by who has read nothing else,
//! and what its runbook and its recipes say.

use super::{
    markdown::{Document, documents},
    tutorial::paste,
};

fn page() -> Document {
    documents().into_iter().find(|d| d.name() == "docs/keys.md").expect("there is a page on keys")
}

/// The blocks to paste under a heading.
fn blocks(page: &Document, heading: &str) -> Vec<String> {
    let blocks = page.blocks().into_iter().filter(|b| b.heading == heading && b.language == "sh");
    let blocks: Vec<_> = blocks.map(|b| b.text).collect();
    assert!(!blocks.is_empty(), "nothing to paste under {heading}");
    blocks
}

fn said_by(lines: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    paste(&format!("set -euo pipefail\n{lines}"), place.path())
}

#[test]
fn a_rotation_a_rollback_and_a_compromise_do_what_the_page_says() {
    let said = said_by(&blocks(&page(), "Try it").concat());
    for done in ["begins to sign", "retiring", "signs again from now on", "verifiers know it", "is refused for ever"] {
        assert!(said.contains(done), "{done}: {said}");
    }
    let tail = said.split("is refused for ever").last().unwrap();
    assert!(tail.contains("PyJWT") && tail.contains("its token is refused"), "{said}");
    assert!(tail.trim_end().ends_with("\"token_type\":\"Bearer\""), "her session goes on: {said}");
}

#[test]
fn the_runbook_and_the_recipes_of_the_page_do_what_they_say() {
    let page = page();
    let begin = blocks(&page, "Try it").remove(0);
    let of_state = |state| format!("KID=$(rescind keys list | awk '$2 == \"{state}\" {{ print $1 }}' | tail -n 1)\n");
    let [algorithm, destroy] = &blocks(&page, "Another algorithm")[..] else { panic!("two blocks") };
    let [generate, list, activate] = &algorithm.lines().collect::<Vec<_>>()[..] else { panic!("three lines") };
    let [public, private, import] = &blocks(&page, "In and out")[..] else { panic!("three blocks") };
    let parts = [
        begin,
        format!("{generate}\n{list}\n{}until {activate}; do sleep 0.5; done\n", of_state("pending")),
        format!(
            "OLD_KID=$(rescind keys list | awk '$2 == \"pending\" && $3 == \"EdDSA\" {{ print $1 }}' | head -n 1)\n{destroy}"
        ),
        format!("{}{public}{private}ls -l key.pem\n", of_state("active")),
        format!("{import}|| echo 'it is here already'\n").replace("\n||", " ||"),
        blocks(&page, "A key has leaked").concat(),
        "kill $SERVICE\n".into(),
    ];
    let said = said_by(&parts.concat());
    for done in ["\"crv\":\"Ed25519\"", "BEGIN PUBLIC KEY", "-rw-------", "it is here already", "is refused for ever"] {
        assert!(said.contains(done), "{done}: {said}");
    }
    assert!(said.trim_end().ends_with("not published any more"), "{said}");
}

//! The source package, and the list of what is in the program.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{command, good, here, text};

/// What is published holds what it takes to build and nothing that only its developers need.
#[test]
fn the_source_package_holds_sources() {
    let list = good(command("cargo").args(["package", "--list", "--allow-dirty", "--quiet"]));
    let files: BTreeSet<&str> = list.lines().collect();
    for needed in ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "SECURITY.md", "CHANGELOG.md", "src/main.rs"] {
        assert!(files.contains(needed), "{needed} is not in {list}");
    }
    for folder in ["tests/", "benches/", "deploy/", "keys/", ".ci/", "fuzz/", "docs/"] {
        let stray: Vec<_> = files.iter().filter(|file| file.starts_with(folder)).collect();
        assert!(stray.is_empty(), "{stray:?}");
    }
    let tests: Vec<_> = files.iter().filter(|file| file.ends_with("tests.rs")).collect();
    assert!(tests.is_empty(), "{tests:?}");
    let sizes: Vec<u64> = files.iter().filter_map(|file| here(file).metadata().ok()).map(|about| about.len()).collect();
    let (size, longest) = (sizes.iter().sum::<u64>(), sizes.iter().max());
    assert!(size < 5 << 19, "{size} bytes");
    assert!(longest.is_some_and(|longest| *longest < 100_000), "{longest:?}: a file that is no source");
}

/// Every crate that the program is made of, with its version; compared with what cargo says itself.
#[test]
fn the_bill_of_materials_names_every_crate_in_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rescind.cdx.json");
    good(command("deploy/sbom").arg(&file));
    let bill: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["component"]["name"], "rescind");
    let listed: BTreeSet<String> = bill["components"].as_array().unwrap().iter().map(named).collect();
    let tree = ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = good(command("cargo").args(tree));
    let built = tree.lines().filter_map(|line| line.split_once(" v"));
    let built: BTreeSet<String> = built
        .map(|(name, rest)| format!("{name} {}", rest.split_whitespace().next().unwrap()))
        .filter(|crate_| !crate_.starts_with("rescind "))
        .collect();
    assert!(built.len() > 50, "{built:?}");
    let missing: Vec<_> = built.difference(&listed).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for component in bill["components"].as_array().unwrap() {
        assert!(component["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:cargo/")), "{component}");
        assert!(component["licenses"].is_array(), "{component}");
        assert!(component["hashes"].is_array(), "as Cargo.lock has them: {component}");
    }
    let place = env!("CARGO_MANIFEST_DIR");
    assert!(!bill.to_string().contains(place), "where it was made is nobody's business");
}

fn named(component: &Value) -> String {
    format!("{} {}", component["name"].as_str().unwrap(), component["version"].as_str().unwrap())
}

/// One version of Rust is stated, everywhere the same.
#[test]
fn the_stated_version_of_rust_is_one() {
    let stated = env!("CARGO_PKG_RUST_VERSION");
    for page in ["README.md", "docs/how-to/install.md", "docs/releasing.md"] {
        assert!(text(page).contains(&format!("Rust {stated}")), "{page}");
    }
}

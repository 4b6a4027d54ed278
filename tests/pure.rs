//! What a service takes in when it verifies tokens and does nothing else.

use std::process::Command;

/// Runtimes, network and stores: none of them has any business in a verifier.
const FOREIGN: [&str; 16] = [
    "tokio",
    "mio",
    "hyper",
    "hyper-util",
    "reqwest",
    "rustls",
    "ring",
    "redis",
    "redb",
    "axum",
    "tower",
    "socket2",
    "clap",
    "tracing-subscriber",
    "getrandom",
    "libsqlite3-sys",
];

#[test]
fn verifier_alone_has_no_runtime_no_network_no_store() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--no-default-features", "--features", "verifier"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"ed25519-dalek"), "the tree was not read:\n{tree}");
    let found: Vec<_> = FOREIGN.iter().filter(|name| names.contains(name)).collect();
    assert!(found.is_empty(), "{found:?} in\n{tree}");
}

//! What people read: help, and what is said when something is wrong. Each transcript is reviewed as a text.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use super::support::{edit, end_of, rescind};

/// `$ rescind …`, both outputs, and the exit code, without what differs between machines.
fn transcript(shown: &str, command: &mut Command, dir: &Path) -> String {
    let ended = end_of(command, "");
    let text = format!("$ rescind {shown}\n{}{}[{}]\n", ended.stdout, ended.stderr, ended.code);
    text.replace(&*dir.to_string_lossy(), "DIR")
}

pub fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("transcripts");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn help() {
    let mut text = String::new();
    for shown in ["--help", "demo --help", "dev --help", "serve --help", "init --help", "token --help", "config --help"]
    {
        text += &transcript(shown, rescind().args(shown.split(' ')), Path::new("/nowhere"));
        text.push('\n');
    }
    for shown in ["config check --help", "config print --help", "token verify --help", "token inspect --help"] {
        text += &transcript(shown, rescind().args(shown.split(' ')), Path::new("/nowhere"));
        text.push('\n');
    }
    for shown in ["verifier --help", "feed tail --help"] {
        text += &transcript(shown, rescind().args(shown.split(' ')), Path::new("/nowhere"));
        text.push('\n');
    }
    for shown in ["session open", "session list", "session revoke", "revoke", "audit list", "audit tail"] {
        text += &transcript(
            &format!("{shown} --help"),
            rescind().args(shown.split(' ')).arg("--help"),
            Path::new("/nowhere"),
        );
        text.push('\n');
    }
    for shown in ["keys", "keys list", "keys rotate", "keys compromise", "keys destroy", "keys import", "keys export"] {
        text += &transcript(
            &format!("{shown} --help"),
            rescind().args(shown.split(' ')).arg("--help"),
            Path::new("/nowhere"),
        );
        text.push('\n');
    }
    for shown in ["verifiers list", "doctor", "completions", "man"] {
        let shown = format!("{shown} --help");
        text += &transcript(&shown, rescind().args(shown.split(' ')), Path::new("/nowhere"));
        text.push('\n');
    }
    check("help", &text);
}

#[test]
fn usage() {
    let mut text = String::new();
    for shown in [
        "serv",
        "dev --retry-window 30",
        "dev --retry-window 6m",
        "dev --access-life 2h",
        "dev --store redis",
        "dev --listen 0.0.0.0:0",
        "dev --publish-ahead 1s --jwks-max-age 2s",
        "serve --config DIR/none.toml",
        "token verify --issuer http://issuer.example --audience api",
        "token verify --issuer https://issuer.example --audience api --client-id me",
        "token verify --issuer https://issuer.example --audience api --leeway 2m",
        "token inspect",
        "verifier --listen 127.0.0.1:0",
        "verifier --issuer http://issuer.example --audience api --listen 127.0.0.1:0",
        "verifier --issuer issuer.example --audience api --listen 127.0.0.1:0",
        "verifier --issuer https://a.example --issuer https://a.example --audience api --listen 127.0.0.1:0",
        "verifier --issuer https://a.example --audience api --listen 127.0.0.1:0 --max-staleness 6m",
        "verifier --issuer https://a.example --audience api --listen 127.0.0.1:0 --name shop-1",
        "verifier --issuer https://a.example --audience api --listen 127.0.0.1:0 --name shop-1 --client-id shop",
        "verifier --issuer https://a.example --audience api --listen 127.0.0.1:0 --leeway 61s",
        "verifier --issuer https://a.example --audience api --listen 127.0.0.1:0 --scope a,\"b\"",
        "verifier --issuer https://a.example --audience api --listen 127.0.0.1:0 --acr \"",
        "feed tail --issuer http://issuer.example",
        "feed tail --issuer http://127.0.0.1:1",
    ] {
        text += &transcript(shown, rescind().args(shown.split(' ')), Path::new("/nowhere"));
        text.push('\n');
    }
    check("usage", &text);
}

#[test]
fn configuration() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node");
    assert_eq!(end_of(rescind().arg("init").arg(&dir), "").code, 0);
    let (good, bad) = (dir.join("rescind.toml"), dir.join("bad.toml"));
    let mut text = String::new();
    for (from, to) in [
        ("\nlisten = ", "\nlisen = "),
        ("\n# retry_window = \"30s\"", "\nretry_windw = \"30s\""),
        ("\npermissions = ", "\npermission = "),
        ("\n[limits]", "\n[limit]"),
        ("\n[limits]", "\n[limits]\nzebra = 1"),
        ("\nissuer = ", "\n# issuer = "),
        ("issuer = \"http://127.0.0.1:8080\"", "issuer = \"http://auth.example\""),
        ("issuer = \"http://127.0.0.1:8080\"", "issuer = \"https://auth.example/?tenant=1\""),
        ("listen = \"127.0.0.1:8080\"", "listen = \"0.0.0.0:8080\""),
        ("listen = \"127.0.0.1:8080\"", "listen = \"localhost\""),
        ("url = \"embedded:store\"", "url = \"memory:\""),
        ("# access = \"5m\"", "access = \"2h\""),
        ("# access = \"5m\"", "access = \"5 minutes\""),
        ("# access = \"5m\"", "access = 300"),
        ("# idle = \"14d\"", "idle = \"91d\""),
        ("# retry_window = \"30s\"", "retry_window = \"6m\""),
        ("# jwks_max_age = \"5m\"", "jwks_max_age = \"21m\""),
        ("# algorithm = \"EdDSA\"", "algorithm = \"RS256\""),
        ("# cache = \"128MiB\"", "cache = \"128MB\""),
        ("# connections = 4096", "connections = 0"),
        ("\"revoke\"", "\"revok\""),
        ("secret_sha256 = [\"", "secret_sha256 = [\"xyz"),
        ("\nsecret_sha256 = ", "\n# secret_sha256 = "),
        ("\n    \"clients:write\",", "\n"),
        ("# id = \"login\"", "\n[[clients]]\nid = \"operator\""),
        ("# id = \"login\"", "\n[[clients]]\nid = \"a b\""),
    ] {
        fs::write(&bad, edit(&good, from, to)).unwrap();
        let from_to = |s: &str| s.trim().replace('\n', "\\n");
        text += &format!("# {}  becomes  {}\n", from_to(from), from_to(to));
        text += &transcript("serve --config DIR/bad.toml", rescind().args(["serve", "--config"]).arg(&bad), &dir);
        text.push('\n');
    }
    check("configuration", &text);
}

#[test]
fn exposed_keys() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node");
    let init = ["--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0", "--issuer", "https://auth.example"];
    assert_eq!(end_of(rescind().arg("init").arg(&dir).args(init), "").code, 0);
    let serve = || {
        let mut command = rescind();
        command.args(["serve", "--config"]).arg(dir.join("rescind.toml"));
        command
    };
    let secrets = dir.join("keys/secrets.json");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    let mut text = transcript("serve --config DIR/rescind.toml", &mut serve(), &dir);
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(dir.join("keys"), fs::Permissions::from_mode(0o755)).unwrap();
    text += &transcript("serve --config DIR/rescind.toml", &mut serve(), &dir);
    check("exposed_keys", &text);
}

//! `[audit]`, `[webhook]` and `[alerts]` of a configuration, and a whole node with them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use super::receiver::SECRET;

fn rescind(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
    let output = command.args(args).env_remove("RESCIND_BLESS").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What `config check` says of a configuration with these tables.
fn check(dir: &Path, tables: &str) -> (i32, String) {
    let node = dir.join("node");
    if !node.exists() {
        assert_eq!(rescind(&["init", node.to_str().unwrap()]).0, 0);
    }
    let file = node.join("rescind.toml");
    let text = fs::read_to_string(&file).unwrap();
    // The template's own headers make room: a table may be there once.
    let kept: String =
        text.lines().filter(|l| !["[audit]", "[webhook]", "[alerts]"].contains(l)).map(|l| format!("{l}\n")).collect();
    let changed = node.join("changed.toml");
    fs::write(&changed, format!("{kept}\n{tables}\n")).unwrap();
    let (code, out, err) = rescind(&["config", "check", "--config", changed.to_str().unwrap()]);
    (code, out + &err)
}

#[test]
fn each_mistake_is_told_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let (good, bad) = (secret("good", SECRET), secret("bad", "hunter2hunter2"));
    let url = "url = \"https://hooks.example/x\"";
    for (tables, code, says) in [
        (format!("[webhook]\n{url}\nsecret_file = \"{good}\""), 0, ""),
        ("[audit]\nkeep = \"400d\"\nmax_records = 2000000".into(), 0, ""),
        ("[audit]\nkeep = \"1h\"".into(), 2, "audit.keep is 1h"),
        ("[audit]\nmax_records = 10".into(), 2, "audit.max_records is less than 1000"),
        ("[alerts]\nwindow = \"1s\"".into(), 2, "alerts.window"),
        (format!("[webhook]\n{url}"), 2, "without a secret"),
        (format!("[webhook]\nsecret_file = \"{good}\""), 2, "say where to send"),
        (format!("[webhook]\n{url}\nsecret_file = \"{bad}\""), 2, "whsec_"),
        (format!("[webhook]\nurl = \"http://hooks.example/x\"\nsecret_file = \"{good}\""), 2, "must be https"),
        (format!("[webhook]\n{url}\nsecret_file = \"{good}\"\nevents = [\"session.resued\"]"), 2, "session.reused"),
    ] {
        let (found, said) = check(dir.path(), &tables);
        assert!(found == code && said.contains(says), "{tables}\n{found}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

//! A walk through what can be wrong with a node that is to be started: each gets one message that says what, where and
//! how to mend it, an exit code that says who must act, and changes nothing.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    serve::Place,
    support::{end_of, rescind},
};

/// What is done to a good node before it is started, and what is then said.
struct Mistake {
    name: &'static str,
    /// Spoils the directory, and may add options and variables.
    spoil: fn(&Path, &mut Command),
    code: i32,
    /// What, where, and how to mend it.
    says: &'static [&'static str],
}

const fn mistake(
    name: &'static str,
    spoil: fn(&Path, &mut Command),
    code: i32,
    says: &'static [&'static str],
) -> Mistake {
    Mistake { name, spoil, code, says }
}

fn edit(dir: &Path, change: impl FnOnce(String) -> String) {
    let file = dir.join("rescind.toml");
    let text = change(fs::read_to_string(&file).unwrap());
    fs::write(file, text).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn key(dir: &Path) -> PathBuf {
    let mut keys = fs::read_dir(dir.join("keys")).unwrap().map(|entry| entry.unwrap().path());
    keys.find(|path| path.extension().is_some_and(|e| e == "pem")).unwrap()
}

/// Half of it is left.
fn cut(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn secret(dir: &Path, text: &str, bits: u32) -> PathBuf {
    let path = dir.join("passphrase");
    fs::write(&path, text).unwrap();
    mode(&path, bits);
    path
}

const FILE: [Mistake; 12] = [
    mistake("no file", |d, _| fs::remove_file(d.join("rescind.toml")).unwrap(), 2, &["rescind.toml", "rescind init"]),
    mistake(
        "a directory",
        |d, _| {
            fs::remove_file(d.join("rescind.toml")).unwrap();
            fs::create_dir(d.join("rescind.toml")).unwrap();
        },
        2,
        &["cannot read", "rescind.toml", "directory"],
    ),
    mistake("not text", |d, _| fs::write(d.join("rescind.toml"), [0xff, 0xfe]).unwrap(), 2, &["cannot read", "UTF-8"]),
    mistake("too long", |d, _| edit(d, |t| t + &"#\n".repeat(3 << 20)), 2, &["longer than 4 MiB", "right file?"]),
    mistake("no TOML", |d, _| edit(d, |t| t + "\nlisten: here\n"), 2, &["rescind.toml:"]),
    mistake(
        "a table twice",
        |d, _| edit(d, |t| t + "\n[limits]\n"),
        2,
        &["rescind.toml:", "stands further up already"],
    ),
    mistake(
        "an unknown key",
        |d, _| edit(d, |t| format!("limts = 1\n{t}")),
        2,
        &["rescind.toml:", "`limts`", "did you mean"],
    ),
    mistake(
        "a table as a value",
        |d, _| edit(d, |t| format!("rates = 5\n{}", t.replace("\n[rates]\n", "\n"))),
        2,
        &["rescind.toml:1", "write [rates]"],
    ),
    mistake(
        "clients as a table",
        |d, _| edit(d, |t| t.replacen("\n[[clients]]", "\n[clients]", 1)),
        2,
        &["rescind.toml:", "[[clients]]"],
    ),
    mistake(
        "a file of clients that is not there",
        |d, c| {
            c.env("RESCIND_CLIENTS_FILE", d.join("none"));
        },
        2,
        &["cannot read", "none"],
    ),
    mistake(
        "other settings in the file of clients",
        |d, c| {
            fs::write(d.join("clients.toml"), "issuer = \"https://other.example\"\n").unwrap();
            c.env("RESCIND_CLIENTS_FILE", d.join("clients.toml"));
        },
        2,
        &["clients.toml:1", "only [[clients]]"],
    ),
    mistake(
        "a key set without keys",
        |d, _| {
            fs::write(d.join("none.json"), "{\"keys\":[]}").unwrap();
            edit(d, |t| t + "\n[[clients]]\nid = \"job\"\njwks_file = \"none.json\"\npermissions = [\"revoke\"]\n");
        },
        2,
        &["client `job`", "none.json", "no Ed25519 key"],
    ),
];

const LAYERS: [Mistake; 7] = [
    mistake(
        "an unknown variable",
        |_, c| {
            c.env("RESCIND_LIMITS__BODDY", "1KiB");
        },
        2,
        &["RESCIND_LIMITS__BODDY", "did you mean RESCIND_LIMITS__BODY?"],
    ),
    mistake(
        "a variable of one underscore",
        |_, c| {
            c.env("RESCIND_KEYS_PASSPHRASE", "horse");
        },
        2,
        &["RESCIND_KEYS_PASSPHRASE", "did you mean RESCIND_KEYS__PASSPHRASE?"],
    ),
    mistake(
        "an empty variable",
        |_, c| {
            c.env("RESCIND_LIMITS__BODY", "");
        },
        2,
        &["RESCIND_LIMITS__BODY", "write"],
    ),
    mistake(
        "clients in variables",
        |_, c| {
            c.env("RESCIND_CLIENTS__ID", "job");
        },
        2,
        &["RESCIND_CLIENTS_FILE"],
    ),
    mistake(
        "an unknown setting",
        |_, c| {
            c.args(["--set", "limits.boddy=1KiB"]);
        },
        2,
        &["--set limits.boddy", "did you mean limits.body?"],
    ),
    mistake(
        "no setting",
        |_, c| {
            c.args(["--set", "limits.body"]);
        },
        2,
        &["--set", "write limits.body=16KiB"],
    ),
    mistake(
        "a wrong option",
        |_, c| {
            c.args(["--listen", "here"]);
        },
        2,
        &["--listen", "write it as 127.0.0.1:8080"],
    ),
];

const DISK: [Mistake; 15] = [
    mistake("a store that is none", |d, _| fs::write(d.join("store"), "not a store").unwrap(), 5, &["store"]),
    mistake(
        "a store in no directory",
        |_, c| {
            c.args(["--set", "store.url=embedded:/nowhere/store"]);
        },
        2,
        &["/nowhere/store"],
    ),
    mistake(
        "a store in memory",
        |_, c| {
            c.args(["--set", "store.url=memory:"]);
        },
        2,
        &["--set store.url", "dev"],
    ),
    mistake("keys that others reach", |d, _| mode(&d.join("keys"), 0o755), 2, &["keys", "chmod 700"]),
    mistake("a key that others read", |d, _| mode(&key(d), 0o644), 2, &[".pem", "chmod 600"]),
    mistake("a key that is none", |d, _| fs::write(key(d), "no key").unwrap(), 2, &[".pem"]),
    mistake("a key that is gone", |d, _| fs::remove_file(key(d)).unwrap(), 2, &[".pem", "backup"]),
    mistake("a key that is cut off", |d, _| cut(&key(d)), 2, &[".pem", "backup"]),
    mistake("a list of keys that is cut off", |d, _| cut(&d.join("keys/keyring.json")), 2, &["keyring.json", "backup"]),
    mistake("secrets that are cut off", |d, _| cut(&d.join("keys/secrets.json")), 2, &["secrets.json", "backup"]),
    mistake(
        "secrets that are gone",
        |d, _| fs::remove_file(d.join("keys/secrets.json")).unwrap(),
        2,
        &["secrets.json", "backup"],
    ),
    mistake(
        "no passphrase file",
        |d, c| {
            c.arg("--keys-passphrase-file").arg(d.join("none"));
        },
        2,
        &["keys.passphrase", "none"],
    ),
    mistake(
        "an empty passphrase",
        |d, c| {
            c.arg("--keys-passphrase-file").arg(secret(d, "\n", 0o600));
        },
        2,
        &["keys.passphrase", "is empty", "write the secret there"],
    ),
    mistake(
        "a passphrase that others read",
        |d, c| {
            c.arg("--keys-passphrase-file").arg(secret(d, "horse", 0o644));
        },
        2,
        &["keys.passphrase", "chmod 600"],
    ),
    mistake(
        "a certificate without its key",
        |d, c| {
            c.env("RESCIND_TLS__CERT", d.join("cert.pem"));
        },
        2,
        &["RESCIND_TLS__CERT", "tls.key"],
    ),
];

#[rstest::rstest]
#[case::file(&FILE)]
#[case::layers(&LAYERS)]
#[case::disk(&DISK)]
fn each_mistake_gets_one_message_and_changes_nothing(#[case] mistakes: &[Mistake]) {
    for Mistake { name, spoil, code, says } in mistakes {
        let place = Place::new();
        let mut serve = place.serve();
        spoil(&place.dir, &mut serve);
        let before = files(&place.dir);
        let ended = end_of(&mut serve, "");
        assert_eq!((ended.code, &*ended.stdout), (*code, ""), "{name}: {}", ended.stderr);
        let said: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(matches!(said[..], [one] if one.starts_with("rescind: ")), "{name}: {}", ended.stderr);
        for part in *says {
            assert!(said[0].contains(part), "{name}: {part} is not in {}", said[0]);
        }
        assert!(!ended.stderr.contains("horse"), "{name}: it tells a secret");
        assert_eq!(files(&place.dir), before, "{name}: something was changed");
    }
}

/// All but what a start opens before it looks at the keys: a store without any session.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().unwrap().to_str().unwrap() {
            "store" | "witness.json" => {}
            _ if path.is_dir() => all.extend(files(&path)),
            _ => all.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

#[test]
fn a_port_that_is_taken_may_be_free_the_next_time() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--operations-listen"] {
        let refused = end_of(place.serve().args([flag, &at]), "");
        assert_eq!(refused.code, 5, "{}", refused.stderr);
        assert!(
            refused.stderr.contains(&at) && refused.stderr.contains("Choose another address"),
            "{}",
            refused.stderr
        );
        assert!(!place.dir.join("store").exists(), "nothing has been opened yet");
    }
}

#[test]
fn init_makes_nothing_if_anything_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let exposed = secret(temp.path(), "horse", 0o644);
    let dir = temp.path().join("node");
    for (args, says) in [
        (vec!["--listen", "0.0.0.0:80"], "would send tokens and secrets in the clear"),
        (vec!["--issuer", "http://auth.example"], "use https"),
        (vec!["--keys-passphrase-file", exposed.to_str().unwrap()], "chmod 600"),
        (vec!["--keys-passphrase-file", "/nowhere"], "/nowhere"),
    ] {
        let refused = end_of(rescind().arg("init").arg(&dir).args(&args), "");
        assert_eq!((refused.code, &*refused.stdout), (2, ""), "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says) && !refused.stderr.contains("horse"), "{args:?}: {}", refused.stderr);
        assert!(!dir.exists(), "{args:?}");
    }
}

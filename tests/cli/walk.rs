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
    support::{end_of, rescind, without_privileges},
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

/// Names a file with these lines as the secret of a webhook.
fn webhook(dir: &Path, command: &mut Command, text: &str) {
    let path = secret(dir, text, 0o600);
    command.env("RESCIND_WEBHOOK__URL", "https://hooks.example").env("RESCIND_WEBHOOK__SECRET_FILE", path);
}

/// A certificate for these years and its key, named in the configuration of the public listener.
fn certificate(dir: &Path, command: &mut Command, years: std::ops::Range<i32>) {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(dir.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    mode(&dir.join("key.pem"), 0o600);
    command.env("RESCIND_TLS__CERT", dir.join("cert.pem")).env("RESCIND_TLS__KEY", dir.join("key.pem"));
}

fn good_certificate(dir: &Path, command: &mut Command) {
    certificate(dir, command, 2020..2090);
}

/// A store of another layout than any that is known.
fn foreign_schema(dir: &Path) {
    let database = redb::Database::create(dir.join("store")).unwrap();
    let written = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    written.open_table(meta).unwrap().insert("schema", &[99][..]).unwrap();
    written.commit().unwrap();
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

const DISK: [Mistake; 23] = [
    mistake("a store that is none", |d, _| fs::write(d.join("store"), "not a store").unwrap(), 5, &["store"]),
    mistake(
        "a store in no directory",
        |_, c| {
            c.args(["--set", "store.url=embedded:/nowhere/store"]);
        },
        2,
        &["/nowhere/store", "its directory is not there", "store.url"],
    ),
    mistake("a store of a later program", |d, _| foreign_schema(d), 2, &["schema 99", "use the version that wrote it"]),
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
        "a directory of keys that is another",
        |d, c| {
            fs::write(d.join("store"), "a store").unwrap();
            c.arg("--set").arg(format!("keys.dir={}", d.join("kyes").display()));
        },
        2,
        &["kyes: no keys are here", "store was made with some", "keys.dir", "--dangerous-other-keys"],
    ),
    mistake(
        "a file where keys should be",
        |d, c| {
            fs::write(d.join("none"), "").unwrap();
            c.arg("--set").arg(format!("keys.dir={}", d.join("none").display()));
        },
        2,
        &["none", "Not a directory"],
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
        "a passphrase that is another file",
        |d, c| {
            c.arg("--keys-passphrase-file").arg(secret(d, &"x".repeat(70_000), 0o600));
        },
        2,
        &["keys.passphrase", "longer than 64 KiB", "right file?"],
    ),
    mistake(
        "an empty secret of a webhook",
        |d, c| webhook(d, c, ""),
        2,
        &["webhook.secret", "is empty", "write the secret there"],
    ),
    mistake(
        "a secret of a webhook that is none",
        |d, c| webhook(d, c, "horse"),
        2,
        &["webhook.secret", "passphrase", "whsec_"],
    ),
    mistake(
        "a secret of a webhook that is another file",
        |d, c| webhook(d, c, &"x".repeat(70_000)),
        2,
        &["webhook.secret", "longer than 64 KiB"],
    ),
    mistake(
        "a key set that is none",
        |d, _| {
            fs::write(d.join("none.json"), "horse").unwrap();
            edit(d, |t| t + "\n[[clients]]\nid = \"job\"\njwks_file = \"none.json\"\npermissions = [\"revoke\"]\n");
        },
        2,
        &["client `job`", "none.json"],
    ),
    mistake(
        "a key set that is not there",
        |d, _| {
            edit(d, |t| t + "\n[[clients]]\nid = \"job\"\njwks_file = \"none.json\"\npermissions = [\"revoke\"]\n");
        },
        2,
        &["rescind.toml:", "client `job`", "cannot read", "none.json"],
    ),
];

const CERTIFICATES: [Mistake; 16] = [
    mistake(
        "one that has expired",
        |d, c| certificate(d, c, 2019..2020),
        2,
        &["[tls]", "cert.pem", "2020-01-01", "renew it"],
    ),
    mistake(
        "one of the future",
        |d, c| certificate(d, c, 2080..2090),
        2,
        &["[tls]", "cert.pem", "2080-01-01", "clock"],
    ),
    mistake(
        "another one's key",
        |d, c| {
            good_certificate(d, c);
            fs::write(d.join("key.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        },
        2,
        &["[tls]", "key.pem is not the key of", "cert.pem", "name its key"],
    ),
    mistake(
        "no certificate",
        |d, c| {
            good_certificate(d, c);
            fs::remove_file(d.join("cert.pem")).unwrap();
        },
        2,
        &["[tls]", "cannot read", "cert.pem", "No such file"],
    ),
    mistake(
        "no key",
        |d, c| {
            good_certificate(d, c);
            fs::remove_file(d.join("key.pem")).unwrap();
        },
        2,
        &["[tls]", "cannot read", "key.pem", "No such file"],
    ),
    mistake(
        "an empty certificate",
        |d, c| {
            good_certificate(d, c);
            fs::write(d.join("cert.pem"), "").unwrap();
        },
        2,
        &["[tls]", "cert.pem", "-----BEGIN CERTIFICATE-----"],
    ),
    mistake(
        "a certificate that is no PEM",
        |d, c| {
            good_certificate(d, c);
            fs::write(d.join("cert.pem"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        },
        2,
        &["[tls]", "cert.pem", "is not PEM"],
    ),
    mistake(
        "PEM that is no certificate",
        |d, c| {
            good_certificate(d, c);
            fs::write(d.join("cert.pem"), "-----BEGIN CERTIFICATE-----\naG9yc2U=\n-----END CERTIFICATE-----\n")
                .unwrap();
        },
        2,
        &["[tls]", "cert.pem", "no X.509 certificate"],
    ),
    mistake(
        "an empty key",
        |d, c| {
            good_certificate(d, c);
            fs::write(d.join("key.pem"), "").unwrap();
        },
        2,
        &["[tls]", "key.pem", "-----BEGIN PRIVATE KEY-----"],
    ),
    mistake(
        "a key that is none",
        |d, c| {
            good_certificate(d, c);
            fs::write(d.join("key.pem"), "-----BEGIN PRIVATE KEY-----\naG9yc2U=\n-----END PRIVATE KEY-----\n").unwrap();
        },
        2,
        &["[tls]", "key.pem", "cannot be used"],
    ),
    mistake(
        "an encrypted key",
        |d, c| {
            good_certificate(d, c);
            let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\naG9yc2U=\n-----END ENCRYPTED PRIVATE KEY-----\n";
            fs::write(d.join("key.pem"), text).unwrap();
        },
        2,
        &["[tls]", "key.pem", "is encrypted", "openssl pkey"],
    ),
    mistake(
        "both exchanged",
        |d, c| {
            good_certificate(d, c);
            c.env("RESCIND_TLS__CERT", d.join("key.pem")).env("RESCIND_TLS__KEY", d.join("cert.pem"));
            mode(&d.join("cert.pem"), 0o600);
        },
        2,
        &["[tls]", "key.pem", "exchanged?"],
    ),
    mistake(
        "a key that others read",
        |d, c| {
            good_certificate(d, c);
            mode(&d.join("key.pem"), 0o644);
        },
        2,
        &["[tls]", "key.pem", "chmod 640"],
    ),
    mistake(
        "authorities that are none",
        |d, c| {
            good_certificate(d, c);
            fs::write(d.join("ca.pem"), "horse").unwrap();
            c.env("RESCIND_TLS__CLIENT_CA", d.join("ca.pem"));
        },
        2,
        &["[tls]", "ca.pem", "no certificate"],
    ),
    mistake(
        "a certificate without its key",
        |d, c| {
            c.env("RESCIND_TLS__CERT", d.join("cert.pem"));
        },
        2,
        &["RESCIND_TLS__CERT", "tls.key"],
    ),
    mistake(
        "an expired one of the operations listener",
        |d, c| {
            certificate(d, c, 2019..2020);
            let names =
                ["CERT", "KEY"].map(|name| (format!("RESCIND_TLS__{name}"), format!("RESCIND_OPERATIONS_TLS__{name}")));
            for ((tls, operations), file) in names.iter().zip(["cert.pem", "key.pem"]) {
                c.env_remove(tls).env(operations, d.join(file));
            }
        },
        2,
        &["[operations_tls]", "cert.pem", "2020-01-01", "renew it"],
    ),
];

/// What the system does not permit. As root would be permitted all of it, privileges are given away first.
const FORBIDDEN: [Mistake; 9] = [
    mistake(
        "the configuration",
        |d, _| mode(&d.join("rescind.toml"), 0),
        4,
        &["cannot read", "rescind.toml", "give it to the user"],
    ),
    mistake(
        "the manifest of the keys",
        |d, _| mode(&d.join("keys/keyring.json"), 0),
        4,
        &["cannot use the keys", "keyring.json"],
    ),
    mistake("a key", |d, _| mode(&key(d), 0), 4, &["cannot use the keys", ".pem"]),
    mistake("the directory of the keys", |d, _| mode(&d.join("keys"), 0), 4, &["cannot use the keys", "keys"]),
    mistake(
        "to write beside the keys",
        |d, _| mode(&d.join("keys"), 0o500),
        4,
        &["keys/witness.json", "give its directory to the user"],
    ),
    mistake("to make a store", |d, _| mode(d, 0o500), 4, &["store", "give its directory to the user"]),
    mistake(
        "a passphrase",
        |d, c| {
            c.arg("--keys-passphrase-file").arg(secret(d, "horse", 0));
        },
        4,
        &["keys.passphrase", "cannot read", "passphrase", "give it to the user"],
    ),
    mistake(
        "the key of a certificate",
        |d, c| {
            good_certificate(d, c);
            mode(&d.join("key.pem"), 0);
        },
        4,
        &["[tls]", "cannot read", "key.pem", "give it to the user"],
    ),
    mistake(
        "the keys of a client",
        |d, _| {
            fs::write(d.join("job.json"), "{}").unwrap();
            mode(&d.join("job.json"), 0);
            edit(d, |t| t + "\n[[clients]]\nid = \"job\"\njwks_file = \"job.json\"\npermissions = [\"revoke\"]\n");
        },
        4,
        &["client `job`", "cannot read", "job.json", "give it to the user"],
    ),
];

#[rstest::rstest]
#[case::file(&FILE)]
#[case::layers(&LAYERS)]
#[case::disk(&DISK)]
#[case::certificates(&CERTIFICATES)]
#[case::forbidden(&FORBIDDEN)]
fn each_mistake_gets_one_message_and_changes_nothing(#[case] mistakes: &[Mistake]) {
    for Mistake { name, spoil, code, says } in mistakes {
        let place = Place::new();
        let mut serve = place.serve();
        spoil(&place.dir, &mut serve);
        let before = files(&place.dir);
        let mut serve = if *code == 4 { without_privileges(&serve) } else { serve };
        let ended = end_of(&mut serve, "");
        assert_eq!((ended.code, &*ended.stdout), (*code, ""), "{name}: {}", ended.stderr);
        let said: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(matches!(said[..], [one] if one.starts_with("rescind: ")), "{name}: {}", ended.stderr);
        for part in *says {
            assert!(said[0].contains(part), "{name}: {part} is not in {}", said[0]);
        }
        assert!(!ended.stderr.contains("horse"), "{name}: it tells a secret");
        assert_eq!(files(&place.dir), before, "{name}: something was changed");
        // So that it can be cleared away.
        [place.dir.clone(), place.dir.join("keys")].iter().filter(|dir| dir.is_dir()).for_each(|dir| mode(dir, 0o700));
    }
}

/// What a start would refuse, a check refuses in the same words. What only a start finds out: whether a store reads.
#[rstest::rstest]
#[case::file(&FILE)]
#[case::layers(&LAYERS)]
#[case::disk(&DISK)]
#[case::certificates(&CERTIFICATES)]
fn a_check_says_what_a_start_would_say(#[case] mistakes: &[Mistake]) {
    for Mistake { name, spoil, says, .. } in mistakes {
        if ["a store that is none", "a store of a later program"].contains(name) {
            continue;
        }
        let place = Place::new();
        let mut check = place.command(&["config", "check"]);
        spoil(&place.dir, &mut check);
        let ended = end_of(&mut check, "");
        assert_eq!((ended.code, &*ended.stdout), (2, ""), "{name}: {}", ended.stderr);
        let said: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
        assert!(matches!(said[..], [one] if one.starts_with("rescind: ")), "{name}: {}", ended.stderr);
        for part in *says {
            assert!(said[0].contains(part), "{name}: {part} is not in {}", said[0]);
        }
    }
}

/// All but what a start opens before it looks at the keys: a store without any session. None of what may not be read.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.file_name().unwrap().to_str().unwrap() {
            "store" | "witness.json" => {}
            _ if path.is_dir() => all.extend(files(&path)),
            _ => all.push((path.clone(), fs::read(&path).unwrap_or_default())),
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
fn an_address_that_cannot_be_had_is_told_apart_from_one_that_is_taken() {
    let place = Place::new();
    // 192.0.2.0/24 is nobody's (RFC 5737).
    let elsewhere = end_of(place.serve().args(["--operations-listen", "192.0.2.1:9090"]), "");
    assert_eq!(elsewhere.code, 2, "{}", elsewhere.stderr);
    for part in ["operations_listen", "192.0.2.1:9090", "this machine has no such address"] {
        assert!(elsewhere.stderr.contains(part), "{part}: {}", elsewhere.stderr);
    }
    // Containers may give all ports away; then there is none to be refused.
    let first_free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first_free.trim().parse::<u16>().unwrap() > 1 {
        let refused = end_of(&mut without_privileges(place.serve().args(["--listen", "127.0.0.1:1"])), "");
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        for part in ["listen", "127.0.0.1:1", "CAP_NET_BIND_SERVICE"] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
    }
    assert!(!place.dir.join("store").exists(), "nothing has been opened yet");
}

#[test]
fn no_command_overlooks_an_option_that_it_does_not_know() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/command-line.md")).unwrap();
    let commands = page.lines().filter_map(|line| line.strip_prefix("## `rescind ")?.strip_suffix('`'));
    let commands: Vec<&str> = commands.collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let refused = end_of(rescind().args(command.split(' ')).arg("--no-such-option"), "");
        assert_eq!((refused.code, &*refused.stdout), (2, ""), "{command}: {}", refused.stderr);
        // The name of a key may begin with a hyphen: there it is no name.
        let told = ["unexpected argument '--no-such-option'", "invalid value '--no-such-option'"];
        assert!(told.iter().any(|told| refused.stderr.contains(told)), "{command}: {}", refused.stderr);
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

//! The configuration's layers: which value holds, who said it, and that no layer swallows a mistake.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::support::{Ended, end_of, rescind};

struct Place {
    _temp: tempfile::TempDir,
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("node");
        assert_eq!(end_of(rescind().arg("init").arg(&dir), "").code, 0);
        Self { _temp: temp, dir }
    }
    fn file(&self) -> PathBuf {
        self.dir.join("rescind.toml")
    }
    /// Puts lines below the header of a table.
    fn write(&self, section: &str, lines: &str) {
        let text = fs::read_to_string(self.file()).unwrap();
        let header = format!("\n[{section}]\n");
        assert!(text.contains(&header), "no {header}");
        fs::write(self.file(), text.replacen(&header, &format!("{header}{lines}\n"), 1)).unwrap();
    }
    fn config(&self, command: &str) -> Command {
        let mut it = rescind();
        it.args(["config", command, "--config"]).arg(self.file());
        it
    }
    fn secret(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn printed(command: &mut Command) -> Value {
    let ended = end_of(command.arg("--json"), "");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// One message, exit code 2, nothing on stdout.
fn refused(command: &mut Command) -> String {
    let Ended { code, stdout, stderr } = end_of(command, "");
    assert_eq!((code, &*stdout), (2, ""), "{stderr}");
    let said: Vec<&str> = stderr.lines().filter(|l| !l.starts_with("warning: ")).collect();
    assert!(said[0].starts_with("rescind: "), "{stderr}");
    stderr
}

#[test]
fn each_layer_covers_the_one_before_and_says_so() {
    let place = Place::new();
    let body = |print: &mut Command| {
        let said = printed(print)["settings"]["limits.body"].clone();
        (said["value"].as_str().unwrap().to_owned(), said["origin"]["kind"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(body(&mut place.config("print")), pair("16KiB", "default"));
    place.write("limits", "body = \"32KiB\"");
    assert_eq!(body(&mut place.config("print")), pair("32KiB", "file"));
    let mut print = place.config("print");
    print.env("RESCIND_LIMITS__BODY", "64KiB");
    assert_eq!(body(&mut print), pair("64KiB", "environment"));
    let mut print = place.config("print");
    print.env("RESCIND_LIMITS__BODY", "64KiB").args(["--set", "limits.body=128KiB"]);
    assert_eq!(body(&mut print), pair("128KiB", "flag"));
}

#[test]
fn the_origin_in_a_file_is_its_line() {
    let place = Place::new();
    place.write("lifetimes", "idle = \"7d\"");
    let origin = printed(&mut place.config("print"))["settings"]["lifetimes.idle"]["origin"].clone();
    let line = origin["line"].as_u64().unwrap() as usize;
    let text = fs::read_to_string(place.file()).unwrap();
    assert_eq!(text.lines().nth(line - 1), Some("idle = \"7d\""));
    assert_eq!(origin["path"].as_str().map(Path::new), Some(&*place.file()));
}

#[test]
fn flags_reach_what_serve_uses() {
    let place = Place::new();
    let mut print = place.config("print");
    print.args(["--issuer", "https://other.example", "--listen", "127.0.0.1:1", "--operations-listen", "127.0.0.1:2"]);
    let settings = printed(&mut print)["settings"].clone();
    for (name, value, flag) in [
        ("issuer", "https://other.example", "--issuer"),
        ("listen", "127.0.0.1:1", "--listen"),
        ("operations_listen", "127.0.0.1:2", "--operations-listen"),
    ] {
        assert_eq!((&settings[name]["value"], &settings[name]["origin"]["name"]), (&value.into(), &flag.into()));
    }
}

#[test]
fn a_whole_configuration_may_come_from_the_environment() {
    let place = Place::new();
    let text = fs::read_to_string(place.file()).unwrap();
    let clients = place.dir.join("clients.toml");
    fs::write(&clients, &text[text.find("\n[[clients]]").unwrap()..]).unwrap();
    let mut print = rescind();
    print.args(["config", "print", "--config", "/dev/null"]).envs([
        ("RESCIND_ISSUER", "https://auth.example"),
        ("RESCIND_LISTEN", "127.0.0.1:8080"),
        ("RESCIND_STORE__URL", "embedded:/var/lib/rescind/store"),
        ("RESCIND_KEYS__DIR", "/var/lib/rescind/keys"),
        ("RESCIND_CUSTOM_CLAIMS", "roles, tenant"),
        ("RESCIND_CLIENTS_FILE", clients.to_str().unwrap()),
        // Of the commands that speak to a service, and of a cluster with a service of our name.
        ("RESCIND_SERVER", "https://auth.example"),
        ("RESCIND_SERVICE_HOST", "10.0.0.1"),
        ("RESCIND_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
    ]);
    let said = printed(&mut print);
    assert_eq!(said["settings"]["custom_claims"]["value"], serde_json::json!(["roles", "tenant"]));
    assert_eq!(said["clients"][0]["settings"]["id"]["value"], "operator");
    assert_eq!(said["clients"][0]["origin"]["path"].as_str().map(Path::new), Some(&*clients));
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let place = Place::new();
    place.write("limits", "zebra = 1\nbody = \"16KB\"");
    place.write("lifetimes", "acess = \"5m\"");
    let mut check = place.config("check");
    check.env("RESCIND_LIMITS__DRAN", "1s").args(["--set", "limits.drain=soon"]);
    let said = refused(&mut check);
    for part in [
        "5 mistakes in the configuration",
        "unknown key `zebra` in [limits]; known are",
        "body: `16KB` is not a size",
        "unknown key `acess` in [lifetimes]; did you mean `access`?",
        "RESCIND_LIMITS__DRAN: there is no such setting; did you mean RESCIND_LIMITS__DRAIN?",
        "--set limits.drain: `soon` is not a duration",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert_eq!(said.matches("rescind.toml:").count(), 3, "{said}");
}

#[test]
fn a_secret_comes_from_a_file_a_variable_or_a_credential_and_is_never_shown() {
    let place = Place::new();
    let secret = "correct horse battery staple";
    let file = place.secret("passphrase", &format!("{secret}\n"), 0o600);
    let credentials = place.dir.join("credentials");
    fs::create_dir(&credentials).unwrap();
    // systemd gives a dynamic user access by a list, which shows as the group's.
    place.secret("credentials/keys.passphrase", secret, 0o440);
    let shown = |command: &mut Command| {
        let ended = end_of(command, "");
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("correct horse"));
        ended.stdout
    };
    let line = |text: String| text.lines().find(|l| l.contains("passphrase")).unwrap().to_owned();
    assert!(line(shown(&mut place.config("print"))).ends_with("# default"));
    let said = line(shown(place.config("print").env("RESCIND_KEYS__PASSPHRASE", secret)));
    assert!(said.ends_with("# RESCIND_KEYS__PASSPHRASE"), "{said}");
    let said = line(shown(place.config("print").env("RESCIND_KEYS__PASSPHRASE_FILE", &file)));
    assert!(said.contains(&*file.to_string_lossy()) && said.ends_with("# RESCIND_KEYS__PASSPHRASE_FILE"), "{said}");
    let said = line(shown(place.config("print").env("CREDENTIALS_DIRECTORY", &credentials)));
    assert!(said.ends_with("# credential keys.passphrase"), "{said}");
    place.write("keys", "passphrase_file = \"passphrase\"");
    let said = line(shown(&mut place.config("print")));
    assert!(said.contains(&*file.to_string_lossy()) && said.contains("rescind.toml:"), "{said}");
    assert!(!shown(place.config("print").arg("--json")).contains("horse"));
    // Each of them is read: the keys here are not encrypted, and would be under it from the next start on.
    shown(place.config("check").env("CREDENTIALS_DIRECTORY", &credentials));
}

#[test]
fn a_secret_that_others_can_reach_is_refused() {
    let place = Place::new();
    place.secret("passphrase", "correct horse", 0o640);
    place.write("keys", "passphrase_file = \"passphrase\"");
    for command in [&mut place.config("check"), rescind().args(["serve", "--config"]).arg(place.file())] {
        let said = refused(command);
        assert!(said.contains("others can reach it (mode 640); chmod 600 '"), "{said}");
    }
}

#[test]
fn a_secret_where_all_can_read_it_is_refused_and_not_repeated() {
    let place = Place::new();
    let said = refused(place.config("check").args(["--set", "keys.passphrase=horse"]));
    assert!(said.contains("use RESCIND_KEYS__PASSPHRASE_FILE") && !said.contains("horse"), "{said}");
    let twice = [("RESCIND_KEYS__PASSPHRASE", "horse"), ("RESCIND_KEYS__PASSPHRASE_FILE", "/nowhere")];
    let said = refused(place.config("check").envs(twice));
    assert!(said.contains("is set beside") && !said.contains("horse"), "{said}");
    place.write("keys", "passphrase = \"horse\"");
    let said = refused(&mut place.config("check"));
    assert!(said.contains("name that file in `keys.passphrase_file`") && !said.contains("horse"), "{said}");
}

#[rstest::rstest]
#[case("aal1", "14d", "30d")]
#[case("aal2", "1h", "1d")]
#[case("aal3", "15m", "12h")]
fn a_preset_bounds_sessions_as_its_level_demands(#[case] preset: &str, #[case] idle: &str, #[case] absolute: &str) {
    let place = Place::new();
    place.write("sessions", &format!("preset = \"{preset}\""));
    let settings = printed(&mut place.config("print"))["settings"].clone();
    assert_eq!(settings["lifetimes.idle"]["value"], idle);
    assert_eq!(settings["lifetimes.absolute"]["value"], absolute);
    assert_eq!(settings["lifetimes.absolute"]["origin"], serde_json::json!({ "kind": "preset", "name": preset }));
    // Stricter is fine, laxer is not.
    assert_eq!(end_of(place.config("check").args(["--set", "lifetimes.idle=6m"]), "").code, 0);
    let said = refused(place.config("check").args(["--set", "lifetimes.absolute=31d"]));
    assert!(said.contains(&format!("preset {preset} allows")), "{said}");
}

#[test]
fn check_looks_at_the_disk_and_changes_nothing() {
    let place = Place::new();
    let good = end_of(&mut place.config("check"), "");
    assert_eq!(good.code, 0, "{}", good.stderr);
    assert!(good.stderr.contains("warning: the keys in") && good.stderr.contains("no store"), "{}", good.stderr);
    let json = printed(&mut place.config("check"));
    assert_eq!((&json["ok"], json["warnings"].as_array().map(Vec::len)), (&true.into(), Some(2)));
    assert!(!place.dir.join("store").exists(), "it made a store");

    let secrets = place.dir.join("keys/secrets.json");
    let kept = fs::read(&secrets).unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&mut place.config("check")).contains("chmod 600"));
    fs::remove_file(&secrets).unwrap();
    assert!(refused(&mut place.config("check")).contains("secrets.json"));
    fs::write(&secrets, kept).unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();

    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(refused(&mut place.config("check")).contains("others than its owner can change it"));
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o644)).unwrap();
    let elsewhere = refused(place.config("check").args(["--set", "store.url=embedded:/dev/null/store"]));
    assert!(elsewhere.contains("/dev/null"), "{elsewhere}");
}

#[test]
fn check_says_that_the_passphrase_is_not_the_one_of_the_keys() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node");
    let made = end_of(rescind().arg("init").arg(&dir).env("RESCIND_KEYS__PASSPHRASE", "correct horse"), "");
    assert_eq!(made.code, 0, "{}", made.stderr);
    let place = Place { dir, _temp: temp };
    let mut check = place.config("check");
    assert_eq!(end_of(check.env("RESCIND_KEYS__PASSPHRASE", "correct horse"), "").code, 0);
    assert!(refused(&mut place.config("check")).contains("is encrypted"));
    let wrong = refused(place.config("check").env("RESCIND_KEYS__PASSPHRASE", "wrong horse"));
    assert!(wrong.contains("does not open with this passphrase"), "{wrong}");
}

#[test]
fn hashes_of_secrets_are_shortened() {
    let place = Place::new();
    let text = fs::read_to_string(place.file()).unwrap();
    let hash = &text[text.find("secret_sha256 = [\"").unwrap() + 18..][..64];
    let print = end_of(&mut place.config("print"), "").stdout;
    assert!(print.contains(&hash[..8]) && !print.contains(&hash[..16]));
    let read: toml::Table = print.parse().unwrap();
    assert_eq!(read["limits"]["connections"].as_integer(), Some(4096), "what it prints is TOML");
}

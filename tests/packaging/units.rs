//! The units: what systemd says of them without running them.

use super::support::{PROGRAM, command, good, here, text};

const UNITS: [&str; 2] = ["rescind.service", "rescind-verifier@.service"];

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for unit in UNITS {
        // The program as it is built here; pages of the manual are not installed.
        let told: Vec<String> = text(&format!("deploy/systemd/{unit}"))
            .replace("/usr/bin/rescind", PROGRAM)
            .lines()
            .filter(|line| !line.starts_with("Documentation="))
            .map(str::to_owned)
            .collect();
        let path = dir.path().join(unit);
        std::fs::write(&path, told.join("\n")).unwrap();
        let said = good(command("systemd-analyze").arg("verify").arg(path));
        assert!(!said.contains(unit.split('.').next().unwrap()), "{said}");
    }
}

#[test]
fn what_the_units_expose_stays_below_a_bound() {
    for unit in UNITS {
        let unit = here(&format!("deploy/systemd/{unit}"));
        // In tenths: 1.5 of 10. What is left is the network, and nothing else that a service can do without.
        let ask = ["security", "--no-pager", "--offline=true", "--threshold=15"];
        good(command("systemd-analyze").args(ask).arg(unit));
    }
}

#[test]
fn both_units_are_confined_alike() {
    let confined = |unit| {
        let text = text(&format!("deploy/systemd/{unit}"));
        let from = text.find("CapabilityBoundingSet=\n").expect("it begins with the capabilities");
        text[from..].to_owned()
    };
    assert_eq!(confined(UNITS[0]), confined(UNITS[1]));
}

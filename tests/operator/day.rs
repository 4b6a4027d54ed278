//! docs/how-to/first-day.md, pasted as it is written into one shell.

use std::{fs, process::Command, thread, time::Duration};

use super::site::Site;
use crate::{
    markdown::documents,
    support::{Ended, end_of, get},
};

/// What stands for the manager of services, which is this test: it carries out what it finds in a file.
const SYSTEMCTL: &str = r#"systemctl() {
    echo "$1" > order.new; mv order.new order
    until [ -e done ]; do sleep 0.02; done; rm done
}
"#;

#[test]
fn the_first_day_goes_as_the_document_says() {
    let document = documents().into_iter().find(|d| d.name() == "docs/how-to/first-day.md").unwrap();
    let blocks = document.blocks().into_iter().filter(|block| block.language == "sh");
    let script: String = blocks.map(|block| block.text + "\n").collect();
    let mut site = Site::without_clients();
    let ended = pasted(&mut site, &format!("{SYSTEMCTL}{script}"));
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let said = |part: &str| assert!(ended.stdout.contains(part), "{part} is not in {}", ended.stdout);
    said("the phone is refused: 1");
    said("invalid_grant");
    said("the laptop is good");
    said("everyone logs in again: 1");
    said("whole: ");
    let log = ended.stdout.split("SEQ ").nth(1).unwrap();
    let line =
        |event: &str| log.lines().find(|line| line.contains(event)).unwrap_or_else(|| panic!("no {event} in {log}"));
    assert!(line("revoked").contains("operator") && line("revoked").contains("lost phone"), "{log}");
    let whoami = end_of(&mut Command::new("whoami"), "").stdout;
    assert!(line("store_accepted").contains(whoami.trim()), "{log}");
    for name in ["operator", "login"] {
        assert!(!ended.stdout.contains(&site.secret(name)), "a secret was told");
    }
}

/// Runs a script, and meanwhile does what it asks of the manager of services.
fn pasted(site: &mut Site, script: &str) -> Ended {
    let mut shell = site.shell(script);
    let running = thread::spawn(move || end_of(&mut shell, ""));
    while !running.is_finished() {
        let Ok(order) = fs::read_to_string(site.path("order")) else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        fs::remove_file(site.path("order")).unwrap();
        match order.trim() {
            "start" => site.start(),
            "stop" => site.stop(),
            "reload" => site.reload(),
            other => panic!("systemctl {other}"),
        }
        fs::write(site.path("done"), "").unwrap();
    }
    running.join().unwrap()
}

impl Site {
    /// Returns once the configuration has been read again.
    fn reload(&self) {
        let reloads = || {
            let (_, metrics) = get(&self.operations, "/metrics");
            let name = "rescind_config_reloads_total{outcome=\"done\"} ";
            let metrics = metrics.as_str().unwrap().to_owned();
            metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u64>().unwrap()
        };
        let before = reloads();
        self.sighup();
        assert!(super::site::soon(|| reloads() > before), "it was not reloaded");
    }
}

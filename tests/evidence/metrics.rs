//! What is said of the metrics, the alert rules and the dashboard is true of a live `/metrics`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::harness::{APP, Harness, text};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A metric as `/metrics` describes it.
#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    /// Names of its samples.
    samples: BTreeSet<String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn metrics(exposition: &str) -> BTreeMap<String, Metric> {
    let mut all: BTreeMap<String, Metric> = BTreeMap::new();
    let mut current = String::new();
    for line in exposition.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let (word, rest) = described.split_once(' ').unwrap_or((described, ""));
            let (name, said) = rest.split_once(' ').unwrap_or_default();
            match word {
                "HELP" => said.trim_end_matches('.').clone_into(&mut all.entry(name.into()).or_default().help),
                "TYPE" => said.clone_into(&mut all.entry(name.into()).or_default().kind),
                _ => continue,
            }
            name.clone_into(&mut current);
        } else {
            let metric = all.get_mut(&current).unwrap();
            let end = line.find(['{', ' ']).unwrap();
            metric.samples.insert(line[..end].to_owned());
            let labels = line[end..].strip_prefix('{').and_then(|l| l.rsplit_once("} ")).map_or("", |(l, _)| l);
            for label in labels.split("\",").filter(|l| !l.is_empty()) {
                let (name, value) = label.split_once("=\"").unwrap();
                let values = metric.labels.entry(name.to_owned()).or_default();
                values.insert(value.trim_end_matches('"').to_owned());
            }
        }
    }
    all
}

/// What a node tells that has answered requests, and what `rescind serve` with TLS adds.
async fn live() -> BTreeMap<String, Metric> {
    let harness = Harness::start().await;
    let opened = harness.open("alice").await;
    harness.refresh(text(&opened, "refresh_token"), APP).await;
    let mut all = metrics(&harness.service.metrics().render());
    all.extend(tokio::task::spawn_blocking(served).await.unwrap());
    all
}

/// What only the program itself tells.
fn served() -> BTreeMap<String, Metric> {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node");
    let rescind = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.env_remove("RESCIND_BLESS");
        command
    };
    assert!(rescind().arg("init").arg(&node).output().unwrap().status.success());
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let mut serve = rescind();
    for (name, pem) in [("cert", pair.cert.pem()), ("key", pair.signing_key.serialize_pem())] {
        let path = dir.path().join(name);
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        serve.env(format!("RESCIND_TLS__{}", name.to_uppercase()), &path);
    }
    serve.arg("serve").arg("--config").arg(node.join("rescind.toml"));
    serve.args(["--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0"]);
    let mut child = serve.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = lines.find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        line["fields"]["operations"].as_str().map(ToOwned::to_owned)
    });
    let at = told.expect("it says where it serves").strip_prefix("http://").unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect(&at).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut all = metrics(answer.split_once("\r\n\r\n").unwrap().1);
    all.retain(|name, _| name.starts_with("rescind_config_") || name.starts_with("rescind_tls_"));
    assert!(all.len() >= 5, "{:?}", all.keys());
    all
}

/// What nobody needs to read in a list: they are as many as there are routes, or are numbers.
fn listed(label: &str) -> bool {
    !["route", "status", "le"].contains(&label)
}

fn page(all: &BTreeMap<String, Metric>) -> String {
    let mut page = "# Metrics\n\nWhat `/metrics` on the operations listener tells (OpenMetrics 1.0). This table is made \
                    from a running service\nby a test. No label ever holds a subject, a session or a token. Alert rules \
                    for Prometheus are in\n`deploy/prometheus/rescind.rules.yml`, a Grafana dashboard is in \
                    `deploy/grafana/rescind.json`.\n\n| metric | type | tells | labels |\n|---|---|---|---|\n"
        .to_owned();
    for (name, metric) in all {
        let total = if metric.kind == "counter" { "_total" } else { "" };
        let mut labels = Vec::new();
        for (label, values) in metric.labels.iter().filter(|(l, _)| *l != "le") {
            let values: Vec<_> = values.iter().map(String::as_str).filter(|_| listed(label)).collect();
            labels.push(if values.is_empty() {
                format!("`{label}`")
            } else {
                format!("`{label}`: {}", values.join(", "))
            });
        }
        writeln!(page, "| `{name}{total}` | {} | {} | {} |", metric.kind, metric.help, labels.join("; ")).unwrap();
    }
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_metrics_is_what_the_service_tells() {
    let file = root("docs/reference/metrics.md");
    let page = page(&live().await);
    if std::env::var_os("RESCIND_BLESS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == page, "docs/reference/metrics.md is out of date: run with RESCIND_BLESS=1\n{page}");
}

/// Names in an expression that must be ours, with the values that labels are compared with.
fn named(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find("rescind_") {
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let selector = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map_or("", |(s, _)| s);
        let compared = selector.split("\",").filter_map(|part| part.split_once("=\""));
        let compared = compared.map(|(l, v)| (l.trim().to_owned(), v.trim_end_matches('"').to_owned()));
        found.push((name, compared.collect()));
    }
    found
}

fn all_are_told(all: &BTreeMap<String, Metric>, expression: &str) {
    for (name, compared) in named(expression) {
        let known = all.iter().any(|(n, m)| m.samples.contains(&name) || (m.samples.is_empty() && name.starts_with(n)));
        assert!(known, "{name} of `{expression}` is not in /metrics");
        let metric = all.values().find(|m| m.samples.contains(&name));
        for (label, value) in compared {
            let told = metric.is_none_or(|m| m.labels.get(&label).is_some_and(|values| values.contains(&value)));
            assert!(told, "{name} has no {label}=\"{value}\"");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_rule_names_what_the_service_tells() {
    let file = root("deploy/prometheus/rescind.rules.yml");
    let (all, rules) = (live().await, fs::read_to_string(&file).unwrap());
    let expressions: Vec<_> = rules.split("expr:").skip(1).map(|r| r.split("labels:").next().unwrap()).collect();
    assert!(expressions.len() > 10);
    expressions.iter().for_each(|expression| all_are_told(&all, expression));
    // Where Prometheus is installed it has the last word.
    if let Ok(checked) = Command::new("promtool").args(["check", "rules"]).arg(&file).output() {
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_the_dashboard_shows_what_the_service_tells() {
    let all = live().await;
    let text = fs::read_to_string(root("deploy/grafana/rescind.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap();
        assert!(expression.contains("rescind_"), "{expression}");
        all_are_told(&all, expression);
    }
}
